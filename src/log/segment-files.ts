/**
 * The files of the log and their life:
 *
 *   prepare-<random>.tmp --zeros written, synced--> spare-<random>
 *   spare-<random> --header written, renamed, directory synced--> <number>.wal
 *   <number>.wal --trimmed--> deleted, or renamed to spare-<random> (old bytes stay: G1)
 *
 * F1. A file is as long as it will ever be, and synced, before it becomes a segment: writes inside need no metadata.
 * F2. There are at most 4 spares, one after a close: writing 16 MiB of zeros takes 50 ms, a rename none. Temporary files
 *     of an earlier process are deleted when the log opens.
 * F3. Only segments that this process created are recycled: a write of an earlier user of the log, still in flight in
 *     this process, must find a file that nobody uses any more.
 */
import type { Storage, StorageFile } from "../storage/storage.ts";
import { encodeSegmentHeader, SEGMENT_HEADER_SIZE, type SegmentHeader } from "./segment-format.ts";

export const LOG_DIRECTORY = "log";
const SPARE_PREFIX = "spare-";
const SPARES_MAX = 4;
const TEMPORARY_SUFFIX = ".tmp";
const ZEROS_SIZE = 1 << 20;
const SEGMENT_NAME = /^(\d{10})\.wal$/;

export interface SegmentName {
  readonly number: number;
  readonly path: string;
}

export function segmentPath(number: number): string {
  return `${LOG_DIRECTORY}/${String(number).padStart(10, "0")}.wal`;
}

/** The segments in the directory, in order of their numbers. Other names are left out. */
export function listSegments(storage: Storage): SegmentName[] {
  const names: SegmentName[] = [];
  for (const name of storage.listSync(LOG_DIRECTORY)) {
    const match = SEGMENT_NAME.exec(name);
    if (match?.[1] !== undefined) {
      names.push({ number: Number(match[1]), path: `${LOG_DIRECTORY}/${name}` });
    }
  }
  return names.sort((left, right) => left.number - right.number);
}

/** A file that is ready to become a segment. */
export interface Spare {
  readonly path: string;
  readonly size: number;
}

export class SegmentFiles {
  private readonly storage: Storage;
  private readonly random: (size: number) => Uint8Array;
  private spares: Spare[] = [];
  private preparing: { cancelled: boolean } | null = null;
  /** All preparations that still touch the disk, cancelled ones too. */
  private readonly underWay = new Set<Promise<void>>();

  constructor(storage: Storage, random: (size: number) => Uint8Array) {
    this.storage = storage;
    this.random = random;
  }

  /** Deletes what an interrupted preparation left, and takes over the finished spares. */
  openSync(): void {
    for (const name of this.storage.listSync(LOG_DIRECTORY)) {
      const path = `${LOG_DIRECTORY}/${name}`;
      if (name.endsWith(TEMPORARY_SUFFIX)) this.storage.deleteSync(path);
      if (!name.startsWith(SPARE_PREFIX)) continue;
      const file = this.storage.openFileSync(path, { mode: "read" });
      try {
        this.spares.push({ path, size: file.sizeSync() });
      } finally {
        file.closeSync();
      }
    }
    this.discardSpares(SPARES_MAX);
  }

  /** Of all spares. */
  get spareBytes(): number {
    return this.spares.reduce((sum, spare) => sum + spare.size, 0);
  }

  /**
   * A spare of at least `size` bytes, and at most `sizeMax` if it is an old one; it stays one until it is activated.
   * When this throws (a full disk), nothing has changed and the call may be repeated.
   */
  acquireSync(size: number, sizeMax: number): Spare {
    const limit = Math.max(size, sizeMax);
    const ready = this.spares.find((spare) => spare.size >= size && spare.size <= limit);
    if (ready !== undefined) return ready;
    this.cancelPreparation();
    this.discardSpares(0);
    if (!this.storage.existsSync(LOG_DIRECTORY)) {
      this.storage.makeDirectorySync(LOG_DIRECTORY);
      this.storage.syncDirectorySync("");
    }
    const path = this.temporaryPath();
    const file = this.storage.openFileSync(path, { mode: "create" });
    try {
      const zeros = new Uint8Array(Math.min(size, ZEROS_SIZE));
      for (let offset = 0; offset < size; offset += ZEROS_SIZE) {
        file.writeSync(offset, zeros.subarray(0, Math.min(ZEROS_SIZE, size - offset)));
      }
      file.syncSync();
    } catch (error) {
      file.closeSync();
      this.deleteTemporary(path);
      throw error;
    }
    file.closeSync();
    return this.addSpare(path, size);
  }

  /** Turns a spare into the segment of `header`; durable when it returns. A failure here is final for the log. */
  activateSync(spare: Spare, header: SegmentHeader): void {
    const file = this.storage.openFileSync(spare.path, { mode: "write" });
    try {
      file.writeSync(0, encodeSegmentHeader(header));
      file.syncSync();
    } finally {
      file.closeSync();
    }
    this.storage.renameSync(spare.path, segmentPath(header.number));
    this.spares = this.spares.filter((other) => other !== spare);
    this.storage.syncDirectorySync(LOG_DIRECTORY);
  }

  /** Starts making a spare in the background; failures are left to `acquireSync`, which will meet them again. */
  prepare(size: number): void {
    // One at a time, cancelled ones too: in a program that never returns to the event loop none of them goes on.
    if (this.underWay.size > 0 || this.spares.some((spare) => spare.size >= size)) return;
    const preparation = { cancelled: false };
    this.preparing = preparation;
    const done = this.prepareFile(size, preparation)
      .catch(() => undefined)
      .finally(() => this.underWay.delete(done));
    this.underWay.add(done);
  }

  /** For the end of the log: no file appears or changes after this resolves. */
  async settle(): Promise<void> {
    this.cancelPreparation();
    await Promise.all(this.underWay);
  }

  /** The preparation that is under way, if any, will delete its file instead of offering it. */
  cancelPreparation(): void {
    if (this.preparing !== null) this.preparing.cancelled = true;
    this.preparing = null;
  }

  /** Gives up the file of a segment. The caller syncs the directory (`syncDirectory`) after the last one. */
  releaseSync(path: string, recycle: { size: number } | null): void {
    if (recycle !== null && this.spares.length < SPARES_MAX) {
      this.cancelPreparation();
      this.addSpare(path, recycle.size);
    } else {
      this.storage.deleteSync(path);
    }
  }

  syncDirectory(): void {
    this.storage.syncDirectorySync(LOG_DIRECTORY);
  }

  openSegmentSync(number: number, durableWrites: boolean): StorageFile {
    return this.storage.openFileSync(segmentPath(number), { mode: "write", durableWrites });
  }

  private async prepareFile(size: number, state: { cancelled: boolean }): Promise<void> {
    const path = this.temporaryPath();
    const file = this.storage.openFileSync(path, { mode: "create" });
    let complete = false;
    try {
      const zeros = new Uint8Array(Math.min(size, ZEROS_SIZE));
      for (let offset = 0; offset < size && !state.cancelled; offset += ZEROS_SIZE) {
        await file.write(offset, zeros.subarray(0, Math.min(ZEROS_SIZE, size - offset)));
      }
      if (!state.cancelled) await file.sync();
      complete = !state.cancelled;
    } finally {
      file.closeSync();
      if (complete) {
        this.addSpare(path, size);
      } else {
        this.deleteTemporary(path);
      }
      if (!state.cancelled) this.preparing = null;
    }
  }

  /** Deletes spares until `count` are left. */
  discardSpares(count: number): void {
    for (const { path } of this.spares.splice(count)) this.storage.deleteSync(path);
  }

  private addSpare(from: string, size: number): Spare {
    const spare = { path: `${LOG_DIRECTORY}/${SPARE_PREFIX}${this.uniqueName()}`, size };
    this.storage.renameSync(from, spare.path);
    this.spares.push(spare);
    return spare;
  }

  private temporaryPath(): string {
    return `${LOG_DIRECTORY}/prepare-${this.uniqueName()}${TEMPORARY_SUFFIX}`;
  }

  /** A name that no other user of the directory has: a cancelled preparation deletes its file late. */
  private uniqueName(): string {
    return Buffer.from(this.random(8)).toString("hex");
  }

  /** Best effort: what stays is deleted when the log opens next. */
  private deleteTemporary(path: string): void {
    try {
      this.storage.deleteSync(path);
    } catch {
      // The failure that led here is the one to report.
    }
  }
}

/** The smallest file that holds a header and `recordBytes`. */
export function fileSizeFor(recordBytes: number): number {
  return Math.ceil((SEGMENT_HEADER_SIZE + recordBytes) / 4096) * 4096;
}
