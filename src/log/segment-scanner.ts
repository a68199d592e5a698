/**
 * Reads one segment from its first record to where the log ends in it, and judges what stands there. Reads only.
 *
 * A crash may leave a hole in the middle of the last write, since sectors reach the disk in any order; damage to
 * records that were durable must never be taken for such a tail. The rule, for the first place without a valid record,
 * where LSN n should be:
 *
 * R1. A later segment exists: its header says which LSN it starts with and the chain (G3) before it. Everything up to
 *     there must be valid, with that chain; what stands after it in this segment is a torn tail from before.
 * R2. Last segment: if any later valid record of it (the end record too) states a durable LSN of n or more, n was
 *     durable and is damaged. Otherwise nobody was told that n is durable: a torn tail, the log ends before n.
 * R3. So a record that was acknowledged as durable is either read or reported. The one exception is damage to the very
 *     last records written before a power loss, which no later byte vouches for and a torn write looks the same as.
 * R4. A file is exactly as long as its header says: shorter or longer is damage, since the size was synced first.
 */
import { CipherError, type StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import type { StorageFile } from "../storage/storage.ts";
import {
  bytesEqual,
  CHECKSUM_SIZE,
  decodeRecordHeader,
  END_KIND,
  endPayloadMatches,
  placeMatches,
  placeSalt,
  RECORD_HEADER_SIZE,
  RecordChain,
  recordChecksumMatches,
  type RecordFields,
  recordNonce,
  recordSize,
  SEGMENT_HEADER_SIZE,
  type PlaceSalt,
  type SegmentHeader,
  viewOf,
} from "./segment-format.ts";

const READ_SIZE = 1 << 20;

export interface ScannedRecord {
  readonly lsn: number;
  readonly kind: number;
  /** Of the record, in the segment. */
  readonly offset: number;
  readonly size: number;
  readonly fields: RecordFields;
}

/** How a segment ends: with an end record, or where nothing valid follows, or (R1) where the next one takes over. */
export type SegmentEnd = "closed" | "torn" | "continued";

export interface ScannerOptions {
  readonly file: StorageFile;
  readonly header: SegmentHeader;
  readonly cipher: StoreCipher | null;
  /** Header of the segment after this one; null for the last. */
  readonly next: SegmentHeader | null;
}

/** Use: `next()` until null, `payload(record)` for those of interest, then `end`. Damage is thrown as CORRUPT_LOG. */
export class SegmentScanner {
  private readonly options: ScannerOptions;
  private readonly size: number;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly place: PlaceSalt;
  private readonly chain = new RecordChain();
  private filled = 0;
  private recordCount = 0;
  /** LSN of the last valid record; one less than the first LSN of the segment before any. */
  lastLsn: number;
  /** Where the next record would stand. */
  offset: number = SEGMENT_HEADER_SIZE;
  end: SegmentEnd | null = null;

  constructor(options: ScannerOptions) {
    this.options = options;
    this.size = options.header.fileSize;
    const size = options.file.sizeSync();
    if (size !== this.size) {
      const text = `the file has ${size} bytes, its header says ${this.size}`;
      throw logDamage(options.file.path, Math.min(size, this.size), text);
    }
    this.bytes = new Uint8Array(this.size);
    this.view = viewOf(this.bytes);
    this.place = placeSalt(options.header.salt);
    this.lastLsn = options.header.firstLsn - 1;
  }

  next(): ScannedRecord | null {
    if (this.end !== null) return null;
    const { next } = this.options;
    if (next !== null && this.lastLsn === next.firstLsn - 1) return this.checkContinuation(next);
    const offset = this.offset;
    const fields = this.validRecordAt(offset);
    if (fields === null) return this.judgeInvalid(offset);
    if (fields.kind === END_KIND) {
      this.checkEndRecord(offset, fields);
      if (next !== null) {
        throw this.damage(
          offset,
          `it ends at LSN ${this.lastLsn}, the next one starts at ${next.firstLsn}`,
        );
      }
      this.end = "closed";
      return null;
    }
    if (fields.lsn !== this.lastLsn + 1) {
      throw this.damage(offset, `LSN ${fields.lsn} where ${this.lastLsn + 1} belongs`);
    }
    const size = recordSize(fields.storedSize);
    this.chain.add(this.bytes, offset + size - CHECKSUM_SIZE);
    this.recordCount++;
    this.lastLsn = fields.lsn;
    this.offset = offset + size;
    return { lsn: fields.lsn, kind: fields.kind, offset, size, fields };
  }

  /** A view, or the opened plaintext. Valid until the scanner is dropped. */
  payload(record: ScannedRecord): Uint8Array {
    const start = record.offset + RECORD_HEADER_SIZE;
    const stored = this.bytes.subarray(start, start + record.fields.storedSize);
    const { header, cipher } = this.options;
    if (record.fields.sealed !== header.keyNumber > 0) {
      throw this.damage(record.offset, "sealed and plain records are mixed");
    }
    if (!record.fields.sealed) return stored;
    if (cipher === null) {
      const path = this.options.file.path;
      throw new StoreError(
        "KEY_REQUIRED",
        `Cannot read log segment "${path}": it is encrypted with key ${header.keyNumber}`,
        { details: { segment: path, keyNumber: header.keyNumber } },
      );
    }
    try {
      const place = { context: "log", salt: header.salt, keyNumber: header.keyNumber } as const;
      const nonce = recordNonce(record.offset);
      const associatedData = this.bytes.subarray(record.offset, start);
      return cipher.open({ ...place, nonce, associatedData }, stored);
    } catch (error) {
      if (!(error instanceof CipherError)) throw error;
      throw this.damage(record.offset, "the payload does not open with its key", error);
    }
  }

  /** G3 over the records read so far. A copy. */
  chainValue(): Uint8Array {
    return this.chain.value();
  }

  /** The stored records read so far. A view. */
  recordBytes(): Uint8Array {
    return this.bytes.subarray(SEGMENT_HEADER_SIZE, this.offset);
  }

  private fill(end: number): void {
    if (end <= this.filled) return;
    const target = Math.min(this.size, Math.max(end, this.filled + READ_SIZE));
    const count = this.options.file.readSync(this.filled, this.bytes.subarray(this.filled, target));
    if (count !== target - this.filled) throw this.damage(this.filled + count, "the file ends");
    this.filled = target;
  }

  private validRecordAt(offset: number): RecordFields | null {
    if (offset + RECORD_HEADER_SIZE + CHECKSUM_SIZE > this.size) return null;
    this.fill(offset + RECORD_HEADER_SIZE);
    if (!placeMatches(this.view, offset, this.place)) return null;
    const fields = decodeRecordHeader(this.view, offset);
    if (fields === null) return null;
    const end = offset + recordSize(fields.storedSize);
    if (end > this.size) return null;
    this.fill(end);
    return recordChecksumMatches(this.bytes, offset, fields.storedSize) ? fields : null;
  }

  private checkContinuation(next: SegmentHeader): null {
    if (!bytesEqual(this.chain.value(), next.previousChain)) {
      throw this.damage(this.offset, "its records are not those that the next segment follows");
    }
    if (next.previousClosed) {
      const fields = this.validRecordAt(this.offset);
      if (fields === null || fields.kind !== END_KIND) {
        throw this.damage(this.offset, "the end record is damaged");
      }
      this.checkEndRecord(this.offset, fields);
    }
    this.end = next.previousClosed ? "closed" : "continued";
    return null;
  }

  private checkEndRecord(offset: number, fields: RecordFields): void {
    const start = offset + RECORD_HEADER_SIZE;
    const payload = this.bytes.subarray(start, start + fields.storedSize);
    if (
      fields.lsn !== this.lastLsn ||
      !endPayloadMatches(payload, this.recordCount, this.chain.value())
    ) {
      throw this.damage(offset, "the end record does not fit the records before it");
    }
  }

  /** R1 and R2. */
  private judgeInvalid(offset: number): null {
    const expected = this.lastLsn + 1;
    if (this.options.next !== null) {
      throw this.damage(offset, `the record with LSN ${expected} is damaged`);
    }
    this.fill(this.size);
    const words = new Int32Array(this.bytes.buffer);
    for (let at = offset + 8; at + RECORD_HEADER_SIZE < this.size; at += 8) {
      if (words[(at + 24) >>> 2] !== (this.place.low ^ (at | 0))) continue;
      const fields = this.validRecordAt(at);
      if (fields === null || fields.durableLsn < expected) continue;
      throw this.damage(
        offset,
        `the record with LSN ${expected} is damaged, a record at offset ${at} says that it was durable`,
      );
    }
    this.end = "torn";
    return null;
  }

  private damage(offset: number, text: string, cause?: unknown): StoreError {
    return logDamage(this.options.file.path, offset, text, cause);
  }
}

/** CORRUPT_LOG that names the segment and the offset. */
export function logDamage(path: string, offset: number, text: string, cause?: unknown): StoreError {
  return new StoreError(
    "CORRUPT_LOG",
    `Cannot read log segment "${path}" at offset ${offset}: ${text}`,
    {
      cause,
      details: { segment: path, offset },
    },
  );
}
