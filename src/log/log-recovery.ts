/**
 * What opening the log does with the segments that it finds.
 *
 * Y1. Segments whose records are all at or before `afterLsn` are not needed: the caller has those records elsewhere.
 *     They are not read, and may be missing in any combination (a crash in the middle of a trim).
 * Y2. From the segment that holds LSN `afterLsn` + 1 on, numbers and LSNs continue without a gap, every segment is of
 *     this store, and everything acknowledged in them is valid (R1-R4).
 * Y3. A last segment without an end record is written again as it was read, and synced, before the log goes on: what
 *     was read may stand in the system's cache only, where a sync that failed in an earlier process has left it.
 */
import type { StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import type { Storage } from "../storage/storage.ts";
import { listSegments, type SegmentName } from "./segment-files.ts";
import {
  bytesEqual,
  CHECKSUM_SIZE,
  decodeSegmentHeader,
  SEGMENT_FORMAT_VERSION,
  SEGMENT_HEADER_SIZE,
  type SegmentHeader,
} from "./segment-format.ts";
import { logDamage, SegmentScanner } from "./segment-scanner.ts";

/** `payload` is valid during the call only; copy what is kept. An error that it throws ends the recovery. */
export type RecordVisitor = (lsn: number, kind: number, payload: Uint8Array) => void;

export interface RecoveryOptions {
  readonly storage: Storage;
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
  readonly afterLsn: number;
  readonly onRecord: RecordVisitor;
  /** Called for every record that stands in the log, also those at or before `afterLsn`. */
  readonly onSize: (lsn: number, size: number) => void;
}

/** A segment that is not appended to any more. */
export interface PastSegment {
  readonly number: number;
  readonly path: string;
  readonly lastLsn: number;
  readonly fileSize: number;
  /** See F3. */
  readonly recyclable: boolean;
}

/** What the next segment says about the one before it. */
export interface SegmentTail {
  readonly number: number;
  readonly lastLsn: number;
  readonly chain: Uint8Array;
  readonly closed: boolean;
  /** Bytes used by records and header. */
  readonly usedBytes: number;
}

export interface Recovery {
  readonly lastLsn: number;
  readonly segments: readonly PastSegment[];
  /** Null in a log without segments. */
  readonly tail: SegmentTail | null;
  /** Y1: files to be deleted. */
  readonly absorbed: readonly SegmentName[];
}

export interface FoundSegment {
  readonly name: SegmentName;
  readonly header: SegmentHeader;
}

export function recoverLog(options: RecoveryOptions): Recovery {
  const { storage, afterLsn } = options;
  const names = listSegments(storage);
  if (names.length === 0) {
    if (afterLsn === 0) return { lastLsn: 0, segments: [], tail: null, absorbed: [] };
    throw new StoreError(
      "CORRUPT_LOG",
      `Cannot open the log in "${storage.description}": no segment is there, and the checkpoint is at LSN ${afterLsn}`,
    );
  }
  const needed = neededSegments(names, options);
  const segments: PastSegment[] = [];
  let lastLsn = 0;
  let tail: SegmentTail | null = null;
  for (const [index, { name, header }] of needed.entries()) {
    const next = needed[index + 1]?.header ?? null;
    tail = recoverSegment({ name, header }, next, options);
    lastLsn = tail.lastLsn;
    segments.push({ ...name, lastLsn, fileSize: header.fileSize, recyclable: false });
  }
  if (lastLsn < afterLsn) {
    const path = needed.at(-1)?.name.path ?? "";
    const text = `the log ends at LSN ${lastLsn}, the checkpoint is at ${afterLsn}`;
    throw logDamage(path, tail?.usedBytes ?? 0, text);
  }
  return { lastLsn, segments, tail, absorbed: names.slice(0, names.length - needed.length) };
}

/** Y1 and the continuity of Y2, from the headers alone. */
function neededSegments(names: readonly SegmentName[], options: RecoveryOptions): FoundSegment[] {
  const needed: FoundSegment[] = [];
  for (const name of names.toReversed()) {
    const header = readSegmentHeader(options.storage, name, options.storeId);
    const after = needed[0];
    if (after !== undefined) checkContinuity({ name, header }, after);
    needed.unshift({ name, header });
    if (header.firstLsn <= options.afterLsn + 1) return needed;
  }
  const first = needed[0];
  const text = `the log starts at LSN ${first?.header.firstLsn}, records from ${options.afterLsn + 1} on are missing`;
  throw logDamage(first?.name.path ?? "", 0, text);
}

export function checkContinuity(before: FoundSegment, after: FoundSegment): void {
  if (after.header.number !== before.header.number + 1) {
    const text = `segment ${after.header.number - 1} before it is missing`;
    throw logDamage(after.name.path, 0, text);
  }
  if (after.header.firstLsn < before.header.firstLsn) {
    const text = `it starts at LSN ${after.header.firstLsn}, the one before at ${before.header.firstLsn}`;
    throw logDamage(after.name.path, 0, text);
  }
}

/** The header, checked against the file's name and the store; throws CORRUPT_LOG or STORE_FORMAT. */
export function readSegmentHeader(
  storage: Storage,
  name: SegmentName,
  storeId: Uint8Array,
): SegmentHeader {
  const file = storage.openFileSync(name.path, { mode: "read" });
  const bytes = new Uint8Array(SEGMENT_HEADER_SIZE);
  let count: number;
  try {
    count = file.readSync(0, bytes);
  } finally {
    file.closeSync();
  }
  const header = decodeSegmentHeader(bytes.subarray(0, count));
  if ("problem" in header) {
    if (header.problem !== "version") throw logDamage(name.path, 0, header.text);
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read log segment "${name.path}": format version ${header.version}, this bough knows ${SEGMENT_FORMAT_VERSION}`,
      { details: { segment: name.path, version: header.version } },
    );
  }
  if (!bytesEqual(header.storeId, storeId)) {
    throw logDamage(name.path, 8, "the segment belongs to another store");
  }
  if (header.number !== name.number) {
    throw logDamage(name.path, 24, `the header says segment ${header.number}`);
  }
  return header;
}

function recoverSegment(
  segment: FoundSegment,
  next: SegmentHeader | null,
  options: RecoveryOptions,
): SegmentTail {
  const { storage, cipher, afterLsn } = options;
  const { header } = segment;
  const file = storage.openFileSync(segment.name.path, { mode: next === null ? "write" : "read" });
  try {
    const scanner = new SegmentScanner({ file, header, cipher, next });
    for (let record = scanner.next(); record !== null; record = scanner.next()) {
      options.onSize(record.lsn, record.size);
      if (record.lsn > afterLsn) {
        options.onRecord(record.lsn, record.kind, scanner.payload(record));
      }
    }
    if (scanner.end === "torn" && scanner.recordBytes().byteLength > 0) {
      file.writeSync(SEGMENT_HEADER_SIZE, scanner.recordBytes());
      file.syncSync();
    }
    return {
      number: header.number,
      lastLsn: scanner.lastLsn,
      chain: scanner.chainValue(),
      closed: scanner.end === "closed",
      usedBytes: scanner.offset,
    };
  } finally {
    file.closeSync();
  }
}

/** G3 before the first segment. */
export function emptyChain(): Uint8Array {
  return new Uint8Array(CHECKSUM_SIZE);
}
