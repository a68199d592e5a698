/**
 * The write-ahead log of a store: opaque records, numbered by LSN 1, 2, 3 ... over all segments, never reused once
 * acknowledged. `append` puts a record into memory; `flush` and `flushSync` make all of them durable together.
 *
 *   record: pending --write begins--> in flight --durable--> durable --trim--> gone
 *              |                                                 ^
 *              +--------------- flushSync ("full") --------------+
 *   log:    open --failed write or sync--> failed          open, failed --close--> closed
 *
 * L1. Group commit: one asynchronous write is in flight at a time; all that is appended meanwhile goes out in the next
 *     one. Every `flush` waits for the write that carries its records, and for no other.
 * L2. `flushSync` does not wait for the write in flight: it writes the same bytes to the same place itself.
 * L3. Fail-stop: after a failed write or sync the failing call and all waiting ones get that error, every later one
 *     STORE_FAILED. Nothing is retried; what is on the disk is settled by opening the store again.
 * L4. A segment takes its first record only when all records of the one before are durable. So only the last segment can
 *     have a torn tail (R1, R2).
 * L5. No segment is started before it is needed: opening a log, or opening and closing it, writes nothing.
 * L6. Preparing a file is not writing the log: when a new segment cannot be made (a full disk) `append` throws, the
 *     record has no LSN, and the log goes on; the same call may succeed later.
 * L7. Bounded: past `pendingBytesMax` of pending records `append` writes them out itself.
 */
import { randomBytes } from "node:crypto";
import { SEAL_TAG_SIZE, type StoreCipher } from "../encryption/cipher.ts";
import { invariant, StoreError } from "../errors.ts";
import type { Storage } from "../storage/storage.ts";
import { LogPositions } from "./log-positions.ts";
import {
  emptyChain,
  type PastSegment,
  type RecordVisitor,
  recoverLog,
  type SegmentTail,
} from "./log-recovery.ts";
import { type RecordBatch, RecordBuffer } from "./record-buffer.ts";
import { fileSizeFor, SegmentFiles, segmentPath } from "./segment-files.ts";
import {
  END_RECORD_SIZE,
  recordSize,
  SALT_SIZE,
  SEGMENT_HEADER_SIZE,
  type SegmentHeader,
  STORED_PAYLOAD_SIZE_MAX,
} from "./segment-format.ts";
import { SegmentWriter } from "./segment-writer.ts";

export const SEGMENT_SIZE_DEFAULT: number = 16 << 20;
/** The first segment of a log is small, and each full one is followed by one of twice its size, up to `segmentSize`. */
const FIRST_SEGMENT_SIZE = 1 << 20;
const PENDING_BYTES_MAX_DEFAULT = 4 << 20;
/** Some two dozen small commits: executing as many more takes about as long as writing these. */
const EARLY_WRITE_BYTES = 8 * 1024;

/**
 * full: durable when the call returns. normal: handed to the system, survives the end of the process but perhaps not a
 * power loss. off: stays in memory until something else writes it.
 */
export type LogDurability = "full" | "normal" | "off";

export interface LogOptions {
  readonly storage: Storage;
  /** 16 bytes; segments of another store are refused. */
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
  /** Records up to this LSN are not needed any more: the checkpoint's. They must have been durable before it. */
  readonly afterLsn: number;
  readonly onRecord: RecordVisitor;
  /** Bytes, 16 MiB by default. A record that does not fit gets a segment of its own size. */
  readonly segmentSize?: number;
  readonly pendingBytesMax?: number;
  readonly random?: (size: number) => Uint8Array;
  readonly now?: () => number;
}

/** What a group of `flush` calls waits for. */
class Group {
  readonly promise: Promise<void>;
  resolve: () => void = () => undefined;
  reject: (error: unknown) => void = () => undefined;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

interface InFlight {
  readonly segment: SegmentWriter;
  readonly batch: RecordBatch;
  readonly lastLsn: number;
  readonly group: Group;
  /** L2 has written these bytes too. */
  covered: boolean;
}

function rangeSize(bytes: Uint8Array, start: number, end: number): number {
  if (start >= 0 && start <= end && end <= bytes.byteLength) return end - start;
  throw new RangeError(`Log record from ${start} to ${end}: it has ${bytes.byteLength} bytes`);
}

type Phase =
  | { readonly name: "open" }
  | { readonly name: "failed"; readonly cause: unknown }
  | { readonly name: "closed" };

export class Log {
  private readonly options: LogOptions;
  private readonly files: SegmentFiles;
  private readonly segmentSize: number;
  private readonly pendingBytesMax: number;
  private readonly positions = new LogPositions();
  private readonly buffer = new RecordBuffer();
  private past: PastSegment[] = [];
  private tail: SegmentTail | null = null;
  private segment: SegmentWriter | null = null;
  private phase: Phase = { name: "open" };
  private inFlight: InFlight | null = null;
  /** Settles after the write in flight, or the last one, has left the disk alone. */
  private idle: Promise<void> = Promise.resolve();
  private gathering: Group | null = null;
  private scheduled = false;
  private last = 0;
  private durable = 0;
  /** LSN up to which records were written without a sync, or `durable` when that is further. */
  private written = 0;

  private constructor(options: LogOptions) {
    this.options = options;
    this.segmentSize = options.segmentSize ?? SEGMENT_SIZE_DEFAULT;
    this.pendingBytesMax = options.pendingBytesMax ?? PENDING_BYTES_MAX_DEFAULT;
    if (!(this.segmentSize >= 2 * SEGMENT_HEADER_SIZE && this.segmentSize % 4096 === 0)) {
      throw new RangeError(
        `Log segment size: ${this.segmentSize} is not a multiple of 4096 from 8192`,
      );
    }
    this.files = new SegmentFiles(options.storage, options.random ?? randomBytes);
  }

  /** Recovers what is there (see log-recovery.ts) and opens the log for appending. */
  static open(options: LogOptions): Log {
    const log = new Log(options);
    const recovery = recoverLog({
      ...options,
      onSize: (lsn, size) => log.positions.add(lsn, size),
    });
    log.past = [...recovery.segments];
    log.tail = recovery.tail;
    log.last = recovery.lastLsn;
    log.durable = recovery.lastLsn;
    log.written = recovery.lastLsn;
    for (const { path } of recovery.absorbed) log.files.releaseSync(path, null);
    log.files.openSync();
    return log;
  }

  /** LSN of the record appended last, or of the last one recovered; 0 in a new log. */
  get lastLsn(): number {
    return this.last;
  }

  /** Every record up to this LSN survives a power loss. */
  get durableLsn(): number {
    return this.durable;
  }

  /** What made it fail (L3); null while it is open, or closed in good order. */
  get failure(): unknown {
    return this.phase.name === "failed" ? this.phase.cause : null;
  }

  /** Bytes of records after `lsn`: not too low, too high by 64 KiB and a record at most. */
  bytesSince(lsn: number): number {
    return lsn >= this.last ? 0 : this.positions.bytesSince(lsn);
  }

  /** Of all files. */
  get sizeBytes(): number {
    const past = this.past.reduce((sum, segment) => sum + segment.fileSize, 0);
    return past + (this.segment?.header.fileSize ?? 0) + this.files.spareBytes;
  }

  /**
   * Copies a record into memory and returns its LSN; nothing is durable yet. `kind`: 1 to 255. The payload: bytes
   * [start, end) of one array, or all of several. Writes only when the segment or `pendingBytesMax` is full.
   */
  append(kind: number, payload: readonly Uint8Array[]): number;
  append(kind: number, payload: Uint8Array, start?: number, end?: number): number;
  append(
    kind: number,
    payload: Uint8Array | readonly Uint8Array[],
    start: number = 0,
    end?: number,
  ): number {
    if (this.phase.name !== "open") throw this.unusable();
    if (!(kind >= 1 && kind <= 255)) throw new RangeError(`Kind of a log record: ${kind}`);
    const cipher = this.options.cipher;
    const one = payload instanceof Uint8Array ? payload : null;
    const parts = payload instanceof Uint8Array ? [] : payload;
    let size = 0;
    if (one === null) for (const part of parts) size += part.byteLength;
    else size = rangeSize(one, start, end ?? one.byteLength);
    const sealed = cipher !== null;
    const storedSize = sealed ? size + SEAL_TAG_SIZE : size;
    const segment = this.segmentFor(recordSize(storedSize), size);
    const fields = { kind, sealed, storedSize, lsn: this.last + 1, durableLsn: this.durable };
    let bytes: number;
    if (one === null) bytes = segment.addParts(this.buffer, fields, parts, cipher);
    else if (sealed) {
      const part = one.subarray(start, start + size);
      bytes = segment.addParts(this.buffer, fields, [part], cipher);
    } else bytes = segment.add(this.buffer, fields, one, start);
    const lsn = ++this.last;
    this.positions.add(lsn, bytes);
    if (this.buffer.size >= this.pendingBytesMax) this.writeOutSync(false);
    return lsn;
  }

  flushSync(durability: LogDurability): void {
    if (this.phase.name !== "open") throw this.unusable();
    if (durability !== "off") this.writeOutSync(durability === "full");
  }

  /** Resolves when the records up to `lsn`, all by default, are durable. Rejects as L3 says. */
  flush(lsn: number = this.last): Promise<void> {
    if (this.phase.name !== "open") return Promise.reject(this.unusable());
    if (this.durable >= lsn) return Promise.resolve();
    if (this.inFlight !== null && this.inFlight.lastLsn >= lsn) return this.inFlight.group.promise;
    const group = (this.gathering ??= new Group());
    this.beginWrite();
    return group.promise;
  }

  /** Closes the segment; the next record starts a new one. Durable when it returns. */
  rotate(): void {
    if (this.phase.name !== "open") throw this.unusable();
    this.endSegment();
  }

  /**
   * Gives up the segments that hold no record after `lsn`, the last segment never. The caller must not need records up
   * to `lsn` after a crash at any point from now on.
   */
  trim(lsn: number): void {
    if (this.phase.name !== "open") throw this.unusable();
    let count = 0;
    const keep = this.segment === null ? 1 : 0;
    for (const segment of this.past) {
      if (segment.lastLsn > lsn || count === this.past.length - keep) break;
      if (this.inFlight?.segment.header.number === segment.number) break;
      count++;
    }
    if (count === 0) return;
    const given = this.past.slice(0, count);
    this.past = this.past.slice(count);
    this.positions.trim(given.at(-1)?.lastLsn ?? 0);
    this.attempt(() => {
      for (const { path, recyclable, fileSize } of given) {
        const recycle = recyclable && fileSize <= this.segmentSize ? { size: fileSize } : null;
        this.files.releaseSync(path, recycle);
      }
      this.files.syncDirectory();
    });
  }

  /**
   * For a close after a checkpoint at `lsn`: when that is everything, and it fills more than the smallest segment, an
   * empty segment takes the place of all others, so that the next opening has next to nothing to read. Trims.
   */
  restart(lsn: number): void {
    if (this.phase.name !== "open") throw this.unusable();
    const used = this.segment?.usedBytes ?? this.tail?.usedBytes ?? 0;
    if (this.last > lsn || used <= FIRST_SEGMENT_SIZE) return;
    const size = FIRST_SEGMENT_SIZE;
    this.startSegment({ size, sizeMax: size }, this.options.cipher?.activeKeyNumber ?? 0);
    this.trim(lsn);
  }

  /**
   * Makes everything durable, closes the segment and the files. The files of a failed log are only closed; if it holds
   * records that are not durable, the call then throws STORE_FAILED. Idempotent.
   */
  closeSync(): void {
    if (this.phase.name === "closed") return;
    const lost = this.phase.name === "failed" && this.durable < this.last ? this.unusable() : null;
    try {
      if (this.phase.name === "open") {
        this.endSegment();
        this.files.discardSpares(1);
      }
    } finally {
      this.files.cancelPreparation();
      this.segment?.close();
      this.segment = null;
      this.phase = { name: "closed" };
    }
    if (lost !== null) throw lost;
  }

  /** Like `closeSync`, and resolves when no operation on the log's files is under way any more. */
  async close(): Promise<void> {
    const settled = this.files.settle();
    try {
      this.closeSync();
    } finally {
      await settled;
      await this.idle;
    }
  }

  private unusable(): StoreError {
    if (this.phase.name === "failed") {
      return new StoreError(
        "STORE_FAILED",
        "Cannot use the log: an earlier write failed, open the store again",
        { cause: this.phase.cause },
      );
    }
    return new StoreError("STORE_CLOSED", "Cannot use the log: it is closed");
  }

  /** L3. Returns the error, to be thrown by the call that met it. */
  private fail(error: unknown): unknown {
    if (this.phase.name === "open") this.phase = { name: "failed", cause: error };
    this.inFlight?.group.reject(error);
    this.gathering?.reject(error);
    this.gathering = null;
    return error;
  }

  private attempt<Result>(action: () => Result): Result {
    try {
      return action();
    } catch (error) {
      throw this.fail(error);
    }
  }

  private segmentFor(bytes: number, payloadSize: number): SegmentWriter {
    const segment = this.segment;
    const keyNumber = this.options.cipher?.activeKeyNumber ?? 0;
    if (segment !== null && segment.hasRoomFor(bytes) && segment.header.keyNumber === keyNumber) {
      return segment;
    }
    if (payloadSize > STORED_PAYLOAD_SIZE_MAX - SEAL_TAG_SIZE) {
      throw new StoreError(
        "LIMIT",
        `Cannot write a log record: it has ${payloadSize} bytes, at most ${STORED_PAYLOAD_SIZE_MAX - SEAL_TAG_SIZE} are possible`,
      );
    }
    const needed = fileSizeFor(bytes + END_RECORD_SIZE);
    const size = Math.max(needed, this.nextSegmentSize());
    return this.startSegment({ size, sizeMax: this.segmentSize }, keyNumber);
  }

  /** L4, L6. The file has `size` bytes or more, up to `sizeMax` if an old one is used. */
  private startSegment(
    { size, sizeMax }: { size: number; sizeMax: number },
    keyNumber: number,
  ): SegmentWriter {
    const spare = this.files.acquireSync(size, sizeMax);
    this.endSegment();
    const { storeId, random = randomBytes, now = Date.now } = this.options;
    const header: SegmentHeader = {
      storeId,
      number: (this.tail?.number ?? 0) + 1,
      firstLsn: this.last + 1,
      fileSize: spare.size,
      createdMs: now(),
      keyNumber,
      salt: random(SALT_SIZE),
      previousChain: this.tail?.chain ?? emptyChain(),
      previousClosed: this.tail?.closed ?? false,
    };
    return this.attempt(() => {
      this.files.activateSync(spare, header);
      this.segment = new SegmentWriter(this.files, header);
      return this.segment;
    });
  }

  private nextSegmentSize(): number {
    const used = this.segment?.usedBytes ?? this.tail?.usedBytes ?? 0;
    let size = FIRST_SEGMENT_SIZE;
    while (size < 2 * used) size *= 2;
    return Math.min(size, this.segmentSize);
  }

  private endSegment(): void {
    const segment = this.segment;
    if (segment === null) return;
    this.writeOutSync(true);
    this.attempt(() => {
      this.tail = segment.endSync(this.buffer);
      segment.close();
    });
    this.segment = null;
    const { number, fileSize } = segment.header;
    const path = segmentPath(number);
    this.past.push({ number, path, lastLsn: this.last, fileSize, recyclable: true });
  }

  /** Writes all pending records, and those in flight again (L2); `durable`: and makes them so. */
  private writeOutSync(durable: boolean): void {
    const segment = this.segment;
    if (segment === null) return;
    const pending = this.buffer.peek();
    const again = this.inFlight !== null && !this.inFlight.covered ? this.inFlight : null;
    this.attempt(() => {
      if (durable && again === null && this.written === this.durable) {
        if (pending.size > 0) segment.writeSync(pending, true);
        return;
      }
      if (again !== null) {
        invariant(again.segment === segment, "The write in flight belongs to the open segment");
        segment.writeSync(again.batch, false);
        again.covered = true;
      }
      if (pending.size > 0) segment.writeSync(pending, false);
      if (durable) segment.plain.syncSync();
    });
    this.buffer.clear();
    this.written = this.last;
    if (durable) {
      this.durable = this.last;
      this.inFlight?.group.resolve();
      this.gathering?.resolve();
      this.gathering = null;
    }
    this.prepareNext(segment);
  }

  private prepareNext(segment: SegmentWriter): void {
    if (segment.usedBytes > segment.header.fileSize / 2) this.files.prepare(this.nextSegmentSize());
  }

  /**
   * A write begins after the current turn, so that all callers of this turn share one (L1); with enough to write it
   * begins at once, so that the disk works while the turn goes on.
   */
  private beginWrite(): void {
    if (this.inFlight !== null) return;
    if (this.buffer.size >= EARLY_WRITE_BYTES) {
      this.startWrite();
      return;
    }
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.startWrite();
    });
  }

  private startWrite(): void {
    const segment = this.segment;
    const group = this.gathering;
    if (group === null || segment === null || this.phase.name !== "open") return;
    if (this.inFlight !== null) return; // finishWrite goes on with what gathers.
    const batch = this.buffer.take();
    const inFlight = { segment, batch, group, lastLsn: this.last, covered: batch.size === 0 };
    this.gathering = null;
    this.inFlight = inFlight;
    const unsynced = this.written > this.durable;
    this.idle = this.write(inFlight, unsynced).then(
      () => this.finishWrite(inFlight),
      (error: unknown) => {
        this.fail(error);
        this.inFlight = null;
      },
    );
    this.prepareNext(segment);
  }

  private async write(inFlight: InFlight, unsynced: boolean): Promise<void> {
    const { segment, batch, lastLsn } = inFlight;
    if (batch.size > 0) await segment.write(batch);
    // A synchronous flush may have made all of it durable meanwhile, and closed the segment.
    if (unsynced && this.durable < lastLsn) await segment.plain.sync();
  }

  private finishWrite(inFlight: InFlight): void {
    this.inFlight = null;
    if (this.phase.name === "failed") return;
    this.durable = Math.max(this.durable, inFlight.lastLsn);
    this.written = Math.max(this.written, this.durable);
    this.buffer.giveBack(inFlight.batch);
    inFlight.group.resolve();
    if (this.gathering !== null) this.beginWrite();
  }
}
