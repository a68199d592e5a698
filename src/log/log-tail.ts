/**
 * Follows a log from a position on, as it grows: for the upload, which takes the stored bytes, and for a reader on another
 * machine, which takes the records. Reads only, at any time, beside the Log that writes.
 *
 * O1. Only whole records up to the given LSN are returned, each with its checksum verified where it stands.
 * O2. A segment is left for the next one after its end record, or when the next one's header says that it goes on from the
 *     records read here.
 * O3. A segment that is gone (trimmed) is "gone", never skipped in silence.
 */
import { CipherError, type StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { readSegmentHeader } from "./log-recovery.ts";
import { listSegments, segmentPath } from "./segment-files.ts";
import {
  decodeRecordHeader,
  END_KIND,
  placeMatches,
  type PlaceSalt,
  placeSalt,
  RECORD_HEADER_SIZE,
  recordChecksumMatches,
  type RecordFields,
  recordNonce,
  recordSize,
  SEGMENT_HEADER_SIZE,
  type SegmentHeader,
  viewOf,
} from "./segment-format.ts";
import { logDamage } from "./segment-scanner.ts";

/** The next byte to be read. Offset 0: the segment's header comes first. */
export interface LogPosition {
  readonly segment: number;
  readonly offset: number;
}

/** Stored bytes of one segment, of whole records; from offset 0 with the header. */
export interface LogPiece {
  readonly segment: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface LogPieces {
  readonly pieces: readonly LogPiece[];
  readonly next: LogPosition;
  /** Of the records in `pieces`; 0 when there are none. */
  readonly firstLsn: number;
  readonly lastLsn: number;
  /** O3: the segment of the position is not there any more. */
  readonly isGone: boolean;
}

export interface TailRecord {
  readonly lsn: number;
  readonly kind: number;
  /** A buffer of its own. */
  readonly payload: Uint8Array;
}

export interface LogTailOptions {
  readonly storage: Storage;
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
}

interface OpenSegment {
  readonly file: StorageFile;
  readonly header: SegmentHeader;
  readonly place: PlaceSalt;
}

interface FoundRecord {
  readonly offset: number;
  readonly fields: RecordFields;
  /** The record as stored. */
  readonly bytes: Uint8Array;
}

const READ_SIZE = 256 * 1024;

export class LogTail {
  readonly #options: LogTailOptions;

  constructor(options: LogTailOptions) {
    this.#options = options;
  }

  /**
   * Stored bytes from `position` on, of records up to `maxLsn`; about `maxBytes` at most, but at least one record. A segment
   * without records gives its header: who puts the log together again needs it.
   */
  pieces(position: LogPosition, maxLsn: number, maxBytes: number): LogPieces {
    const pieces: LogPiece[] = [];
    let next = position;
    let firstLsn = 0;
    let lastLsn = 0;
    let room = maxBytes;
    while (room > 0) {
      const segment = this.#open(next.segment);
      if (segment === null) return { pieces, next, firstLsn, lastLsn, isGone: this.#isGone(next) };
      try {
        let end = Math.max(next.offset, SEGMENT_HEADER_SIZE);
        let isEnded = false;
        for (const { offset, fields, bytes } of records(segment, end)) {
          if (fields.lsn > maxLsn || (room <= 0 && fields.kind !== END_KIND)) break;
          end = offset + bytes.length;
          room -= bytes.length;
          isEnded = fields.kind === END_KIND;
          if (isEnded) break;
          if (firstLsn === 0) firstLsn = fields.lsn;
          lastLsn = fields.lsn;
        }
        const isContinued = isEnded || this.#isContinued(segment, end);
        if (end > next.offset) pieces.push(read(segment.file, next, end));
        else if (!isContinued) break;
        next = isContinued
          ? { segment: next.segment + 1, offset: 0 }
          : { segment: next.segment, offset: end };
        if (!isContinued) break;
      } finally {
        segment.file.closeSync();
      }
    }
    return { pieces, next, firstLsn, lastLsn, isGone: false };
  }

  /** The records from `position` on that are there, and where the next one will be. */
  *records(position: LogPosition): Generator<TailRecord, LogPosition, undefined> {
    let next = position;
    for (;;) {
      const segment = this.#open(next.segment);
      if (segment === null) return next;
      try {
        let end = Math.max(next.offset, SEGMENT_HEADER_SIZE);
        let isEnded = false;
        for (const record of records(segment, end)) {
          end = record.offset + record.bytes.length;
          next = { segment: next.segment, offset: end };
          const { lsn, kind } = record.fields;
          if (kind === END_KIND) {
            isEnded = true;
            break;
          }
          yield { lsn, kind, payload: this.#payload(segment, record) };
        }
        if (!isEnded && !this.#isContinued(segment, end)) return next;
        next = { segment: next.segment + 1, offset: 0 };
      } finally {
        segment.file.closeSync();
      }
    }
  }

  #open(number: number): OpenSegment | null {
    const { storage, storeId } = this.#options;
    const path = segmentPath(number);
    if (!storage.existsSync(path)) return null;
    const header = readSegmentHeader(storage, { number, path }, storeId);
    const file = storage.openFileSync(path, { mode: "read" });
    return { file, header, place: placeSalt(header.salt) };
  }

  /** Whether the segment, which is not there, has been: one not started yet has no later one. */
  #isGone({ segment, offset }: LogPosition): boolean {
    const last = listSegments(this.#options.storage).at(-1)?.number ?? 0;
    return offset > 0 || last > segment;
  }

  /** O2: the next segment follows the records up to `end`, which are all that this one has. */
  #isContinued({ header }: OpenSegment, end: number): boolean {
    const { storage, storeId } = this.#options;
    const number = header.number + 1;
    const path = segmentPath(number);
    if (!storage.existsSync(path)) return false;
    const after = readSegmentHeader(storage, { number, path }, storeId);
    const segment = this.#open(header.number);
    if (segment === null) return false;
    try {
      let lsn = header.firstLsn - 1;
      let at = SEGMENT_HEADER_SIZE;
      let isClosed = false;
      for (const { offset, fields, bytes } of records(segment, SEGMENT_HEADER_SIZE)) {
        lsn = fields.lsn;
        at = offset + bytes.length;
        isClosed = fields.kind === END_KIND;
        if (isClosed) break;
      }
      return lsn === after.firstLsn - 1 && at === end && isClosed === after.previousClosed;
    } finally {
      segment.file.closeSync();
    }
  }

  #payload({ file, header }: OpenSegment, { offset, fields, bytes }: FoundRecord): Uint8Array {
    const stored = bytes.subarray(RECORD_HEADER_SIZE, RECORD_HEADER_SIZE + fields.storedSize);
    if (!fields.sealed) return stored;
    const { cipher } = this.#options;
    if (cipher === null)
      throw new StoreError(
        "KEY_REQUIRED",
        `Cannot read log segment "${file.path}": it is encrypted with key ${header.keyNumber}`,
      );
    try {
      return cipher.open(
        {
          context: "log",
          salt: header.salt,
          keyNumber: header.keyNumber,
          nonce: recordNonce(offset),
          associatedData: bytes.subarray(0, RECORD_HEADER_SIZE),
        },
        stored,
      );
    } catch (error) {
      if (!(error instanceof CipherError)) throw error;
      throw logDamage(file.path, offset, "the payload does not open with its key", error);
    }
  }
}

/** Valid records from `start` on, the end record too. Each with bytes of its own. */
function* records(segment: OpenSegment, start: number): Generator<FoundRecord, void, undefined> {
  const { file, header, place } = segment;
  let offset = start;
  let window = new Uint8Array(0);
  let windowStart = start;
  /** The bytes [offset, offset + size), or null where the file ends before. */
  const take = (size: number): Uint8Array | null => {
    if (offset + size > header.fileSize) return null;
    if (offset + size > windowStart + window.length) {
      const wanted = Math.min(Math.max(size, READ_SIZE), header.fileSize - offset);
      window = new Uint8Array(wanted);
      windowStart = offset;
      if (file.readSync(offset, window) !== wanted) return null;
    }
    return window.subarray(offset - windowStart, offset - windowStart + size);
  };
  for (;;) {
    const head = take(RECORD_HEADER_SIZE);
    if (head === null) return;
    const fields = headerAt(head, offset, place);
    if (fields === null) return;
    const bytes = take(recordSize(fields.storedSize));
    if (bytes === null || !recordChecksumMatches(bytes, 0, fields.storedSize)) return;
    yield { offset, fields, bytes };
    offset += bytes.length;
  }
}

function headerAt(head: Uint8Array, offset: number, place: PlaceSalt): RecordFields | null {
  // placeMatches looks at the place of the record within the bytes, which here is 0.
  const view = viewOf(head);
  const moved: PlaceSalt = {
    low: place.low ^ (offset | 0),
    high: place.high ^ Math.floor(offset / 0x1_0000_0000),
  };
  return placeMatches(view, 0, moved) ? decodeRecordHeader(view, 0) : null;
}

function read(file: StorageFile, { segment, offset }: LogPosition, end: number): LogPiece {
  const bytes = new Uint8Array(end - offset);
  const count = file.readSync(offset, bytes);
  if (count !== bytes.length) throw logDamage(file.path, offset + count, "the file ends");
  return { segment, offset, bytes };
}
