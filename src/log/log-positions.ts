/** One sample: after the record `lsn` the log had given out `position` bytes. */
interface Sample {
  readonly lsn: number;
  readonly position: number;
}

const SAMPLE_DISTANCE_BYTES = 64 * 1024;

/**
 * How many bytes of records stand after an LSN, for the decision when to checkpoint. One sample per 64 KiB of log;
 * answers are never too low, and too high by at most 64 KiB and one record.
 */
export class LogPositions {
  private samples: Sample[] = [];
  private position = 0;

  /** Records come in order. */
  add(lsn: number, size: number): void {
    const last = this.samples.at(-1);
    if (last === undefined || this.position - last.position >= SAMPLE_DISTANCE_BYTES) {
      this.samples.push({ lsn: lsn - 1, position: this.position });
    }
    this.position += size;
  }

  bytesSince(lsn: number): number {
    let low = 0;
    let high = this.samples.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.samples[middle]!.lsn <= lsn) low = middle + 1;
      else high = middle;
    }
    const sample = this.samples[low - 1] ?? this.samples[0];
    return sample === undefined ? 0 : this.position - sample.position;
  }

  /** Forgets what is only needed for LSNs before `lsn`. */
  trim(lsn: number): void {
    const keep = this.samples.findLastIndex((sample) => sample.lsn <= lsn);
    if (keep > 0) this.samples = this.samples.slice(keep);
  }
}
