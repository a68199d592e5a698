import {
  encodeRecordHeader,
  finishRecord,
  type PlaceSalt,
  RECORD_HEADER_SIZE,
  type RecordFields,
  recordSize,
  viewOf,
} from "./segment-format.ts";

const INITIAL_SIZE = 64 * 1024;
/** Buffers that a large record made grow past this are not kept. */
const KEPT_SIZE_MAX = 8 << 20;

/** Finished records that have not been written, back to back as they will stand in the segment. */
export interface RecordBatch {
  readonly bytes: Uint8Array;
  readonly size: number;
  /** Of the first byte, in the segment. */
  readonly offset: number;
}

/** Where records gather between two writes. Two buffers take turns, so that one can be written while one fills. */
export class RecordBuffer {
  private bytes: Uint8Array = new Uint8Array(INITIAL_SIZE);
  private view: DataView = viewOf(this.bytes);
  private idle: Uint8Array | null = null;
  private startOffset = 0;
  size = 0;

  /**
   * Makes room for a record and writes its header; the caller puts `fields.storedSize` bytes at `payloadAt` of
   * `target()` and calls `finish`. `offset` is the record's place in the segment.
   */
  begin(offset: number, place: PlaceSalt, fields: RecordFields): number {
    const at = this.size;
    if (at === 0) this.startOffset = offset;
    const needed = at + recordSize(fields.storedSize);
    if (needed > this.bytes.byteLength) this.grow(needed);
    encodeRecordHeader(this.view, at, offset, place, fields);
    return at + RECORD_HEADER_SIZE;
  }

  target(): Uint8Array {
    return this.bytes;
  }

  /** Completes the record begun last; returns where in `target()` it ends, just after its CRC. */
  finish(payloadAt: number, storedSize: number): number {
    finishRecord(this.bytes, payloadAt - RECORD_HEADER_SIZE, storedSize);
    this.size = payloadAt - RECORD_HEADER_SIZE + recordSize(storedSize);
    return this.size;
  }

  /** Hands over all records. The bytes belong to the caller until `giveBack`. */
  take(): RecordBatch {
    const batch = { bytes: this.bytes, size: this.size, offset: this.startOffset };
    this.bytes = this.idle ?? new Uint8Array(INITIAL_SIZE);
    this.view = viewOf(this.bytes);
    this.idle = null;
    this.size = 0;
    return batch;
  }

  giveBack(batch: RecordBatch): void {
    if (batch.bytes.byteLength <= KEPT_SIZE_MAX) this.idle ??= batch.bytes;
  }

  /** All records, without handing them over. A view. */
  peek(): RecordBatch {
    return { bytes: this.bytes, size: this.size, offset: this.startOffset };
  }

  /** Forgets the records, which have been written. */
  clear(): void {
    this.size = 0;
    if (this.bytes.byteLength <= KEPT_SIZE_MAX) return;
    this.bytes = new Uint8Array(INITIAL_SIZE);
    this.view = viewOf(this.bytes);
  }

  private grow(needed: number): void {
    const grown = new Uint8Array(Math.max(needed, 2 * this.bytes.byteLength));
    grown.set(this.bytes.subarray(0, this.size));
    this.bytes = grown;
    this.view = viewOf(grown);
  }
}
