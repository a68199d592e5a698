/**
 * A segment of the write-ahead log: the file `log/<10-digit number>.wal`. All integers are little-endian.
 *
 *   Segment = header (4096 bytes), records back to back, end record (when closed), bytes without meaning.
 *
 *   Header
 *   offset size  field
 *        0    4  magic 0x57414C53, "WALS"
 *        4    4  format version: 1; readers refuse any other (STORE_FORMAT)
 *        8   16  store id; a reader of another store refuses the segment
 *       24    8  segment number, the one of the file's name
 *       32    8  first LSN: of the first record here, present or still to come
 *       40    8  size of the file in bytes, preallocated and synced before the header is written
 *       48    8  creation time, milliseconds since 1970
 *       56    4  number of the key that payloads are sealed with; 0 = not sealed
 *       60    4  flags: bit 0 = the segment before was closed, and ends with an end record; others reserved, 0
 *       64   16  salt: random, new for every use of a file
 *       80    8  record chain of the segment before (see G3); 0 in the first one
 *       88 4000  reserved, 0
 *     4088    8  CRC64-NVME of bytes 0 to 4088
 *   Magic, format version and CRC keep these places in every future version.
 *
 *   Record, at a multiple of 8
 *        0    4  length of the stored payload (that of the plain payload + 16 when sealed)
 *        4    1  kind: 0 = end record, others belong to the log's user
 *        5    1  flags: bit 0 = sealed; others reserved, 0, a record with another bit is not valid
 *        6    2  reserved, 0
 *        8    8  LSN; in an end record that of the last record before
 *       16    8  durable LSN: every record up to it was durable when this one was appended
 *       24    8  place: salt bytes 0 to 8 xor the record's offset
 *       32    n  stored payload, zeros up to a multiple of 8
 *     32+n    8  CRC64-NVME of all before
 *   Payload of an end record: record count (8), record chain (8).
 *
 *   Sealed payload: AES-256-GCM, context "log", salt = the segment's, nonce = the record's offset (8 bytes) and 4 zero
 *   bytes, associated data = the 32 bytes of the record header.
 *
 * G1. Bytes left from an earlier use of a recycled file never form a valid record: their place carries another salt.
 * G2. No nonce is used twice with one salt: a segment is only appended to by the process that created it, and every
 *     byte range of it is given to one record for ever.
 * G3. The record chain is CRC64(chain before, record's CRC), from zeros: one value for all records of a segment, which
 *     the end record and the header of the next segment repeat.
 */
import { crc64Into, crc64Matches } from "../storage/crc64.ts";

export const SEGMENT_HEADER_SIZE = 4096;
export const SEGMENT_FORMAT_VERSION = 1;
export const RECORD_HEADER_SIZE = 32;
export const CHECKSUM_SIZE = 8;
export const SALT_SIZE = 16;
export const STORE_ID_SIZE = 16;
export const END_KIND = 0;
const END_PAYLOAD_SIZE = 16;
/** What every segment keeps free for its end record. */
export const END_RECORD_SIZE: number = recordSize(END_PAYLOAD_SIZE);
/** The largest stored payload, in bytes. */
export const STORED_PAYLOAD_SIZE_MAX: number = 1 << 30;

const MAGIC = 0x57414c53;
const HEADER_CRC_OFFSET = SEGMENT_HEADER_SIZE - CHECKSUM_SIZE;
const FLAG_PREVIOUS_CLOSED = 1;
const FLAG_SEALED = 1;
const TWO_TO_32 = 0x1_0000_0000;

export interface SegmentHeader {
  readonly storeId: Uint8Array;
  readonly number: number;
  readonly firstLsn: number;
  readonly fileSize: number;
  readonly createdMs: number;
  readonly keyNumber: number;
  readonly salt: Uint8Array;
  /** G3 of the segment before; zeros in the first segment of a store. */
  readonly previousChain: Uint8Array;
  readonly previousClosed: boolean;
}

/** Why bytes are not a segment header; `version` when they are one of a format that this code does not know. */
export type HeaderProblem =
  | { readonly problem: "magic" | "checksum" | "field"; readonly text: string }
  | { readonly problem: "version"; readonly version: number };

/** Size in the file of a record whose stored payload has `storedSize` bytes. */
export function recordSize(storedSize: number): number {
  return RECORD_HEADER_SIZE + alignUp(storedSize) + CHECKSUM_SIZE;
}

function alignUp(size: number): number {
  return Math.ceil(size / 8) * 8;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function writeInteger(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / TWO_TO_32), true);
}

/** The 64-bit integer at `offset`; NaN when it is past what a number holds exactly, which compares as unequal. */
function readInteger(view: DataView, offset: number): number {
  const value = view.getUint32(offset + 4, true) * TWO_TO_32 + view.getUint32(offset, true);
  return Number.isSafeInteger(value) ? value : Number.NaN;
}

export function encodeSegmentHeader(header: SegmentHeader): Uint8Array {
  const bytes = new Uint8Array(SEGMENT_HEADER_SIZE);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC, false);
  view.setUint32(4, SEGMENT_FORMAT_VERSION, true);
  bytes.set(header.storeId, 8);
  writeInteger(view, 24, header.number);
  writeInteger(view, 32, header.firstLsn);
  writeInteger(view, 40, header.fileSize);
  writeInteger(view, 48, header.createdMs);
  view.setUint32(56, header.keyNumber, true);
  view.setUint32(60, header.previousClosed ? FLAG_PREVIOUS_CLOSED : 0, true);
  bytes.set(header.salt, 64);
  bytes.set(header.previousChain, 80);
  crc64Into(bytes, 0, HEADER_CRC_OFFSET, bytes, HEADER_CRC_OFFSET);
  return bytes;
}

/** `bytes`: the first 4096 of the file, or fewer when the file ends before. The result holds copies. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeader | HeaderProblem {
  if (bytes.byteLength < SEGMENT_HEADER_SIZE) {
    const text = `the file has ${bytes.byteLength} bytes, less than a header`;
    return { problem: "field", text };
  }
  const view = viewOf(bytes);
  if (view.getUint32(0, false) !== MAGIC) {
    return { problem: "magic", text: "it does not start with the magic number of a segment" };
  }
  if (!crc64Matches(bytes, 0, HEADER_CRC_OFFSET, bytes, HEADER_CRC_OFFSET)) {
    return { problem: "checksum", text: "the checksum of the header does not match" };
  }
  const version = view.getUint32(4, true);
  if (version !== SEGMENT_FORMAT_VERSION) return { problem: "version", version };
  const header: SegmentHeader = {
    storeId: bytes.slice(8, 8 + STORE_ID_SIZE),
    number: readInteger(view, 24),
    firstLsn: readInteger(view, 32),
    fileSize: readInteger(view, 40),
    createdMs: readInteger(view, 48),
    keyNumber: view.getUint32(56, true),
    salt: bytes.slice(64, 64 + SALT_SIZE),
    previousChain: bytes.slice(80, 80 + CHECKSUM_SIZE),
    previousClosed: view.getUint32(60, true) === FLAG_PREVIOUS_CLOSED,
  };
  if (view.getUint32(60, true) > FLAG_PREVIOUS_CLOSED) {
    return { problem: "field", text: `unknown flags ${view.getUint32(60, true)}` };
  }
  if (!(header.firstLsn >= 1 && header.number >= 1 && header.fileSize >= SEGMENT_HEADER_SIZE)) {
    return { problem: "field", text: "a number in the header is out of range" };
  }
  return header;
}

export interface RecordFields {
  readonly kind: number;
  readonly sealed: boolean;
  readonly storedSize: number;
  readonly lsn: number;
  readonly durableLsn: number;
}

/** The two words that a salt contributes to the place of each record. */
export interface PlaceSalt {
  readonly low: number;
  readonly high: number;
}

export function placeSalt(salt: Uint8Array): PlaceSalt {
  const view = viewOf(salt);
  return { low: view.getInt32(0, true), high: view.getInt32(4, true) };
}

export function encodeRecordHeader(
  view: DataView,
  at: number,
  offset: number,
  place: PlaceSalt,
  fields: RecordFields,
): void {
  view.setUint32(at, fields.storedSize, true);
  view.setUint32(at + 4, fields.kind | (fields.sealed ? FLAG_SEALED << 8 : 0), true);
  writeInteger(view, at + 8, fields.lsn);
  writeInteger(view, at + 16, fields.durableLsn);
  view.setInt32(at + 24, place.low ^ (offset | 0), true);
  view.setInt32(at + 28, place.high ^ Math.floor(offset / TWO_TO_32), true);
}

/** Zeros after the payload and the CRC, once header and payload are in place. */
export function finishRecord(bytes: Uint8Array, at: number, storedSize: number): void {
  const payloadEnd = at + RECORD_HEADER_SIZE + storedSize;
  const end = at + RECORD_HEADER_SIZE + alignUp(storedSize);
  for (let index = payloadEnd; index < end; index++) bytes[index] = 0;
  crc64Into(bytes, at, end, bytes, end);
}

/** Cheap test, to be made before decoding: does a record of this segment seem to stand at `offset`? */
export function placeMatches(view: DataView, offset: number, place: PlaceSalt): boolean {
  return (
    view.getInt32(offset + 24, true) === (place.low ^ (offset | 0)) &&
    view.getInt32(offset + 28, true) === (place.high ^ Math.floor(offset / TWO_TO_32))
  );
}

/** The header of a record at `offset` of a segment, its CRC not looked at; null when it cannot be one. */
export function decodeRecordHeader(view: DataView, offset: number): RecordFields | null {
  const storedSize = view.getUint32(offset, true);
  const flags = view.getUint8(offset + 5);
  if (flags > FLAG_SEALED || view.getUint16(offset + 6, true) !== 0) return null;
  if (storedSize > STORED_PAYLOAD_SIZE_MAX) return null;
  return {
    kind: view.getUint8(offset + 4),
    sealed: flags === FLAG_SEALED,
    storedSize,
    lsn: readInteger(view, offset + 8),
    durableLsn: readInteger(view, offset + 16),
  };
}

export function recordChecksumMatches(
  bytes: Uint8Array,
  offset: number,
  storedSize: number,
): boolean {
  const end = offset + RECORD_HEADER_SIZE + alignUp(storedSize);
  return crc64Matches(bytes, offset, end, bytes, end);
}

/** The running value of G3. */
export class RecordChain {
  private readonly state = new Uint8Array(2 * CHECKSUM_SIZE);

  /** `checksumOffset`: where the record's CRC stands in `bytes`. */
  add(bytes: Uint8Array, checksumOffset: number): void {
    for (let index = 0; index < CHECKSUM_SIZE; index++) {
      this.state[CHECKSUM_SIZE + index] = bytes[checksumOffset + index]!;
    }
    crc64Into(this.state, 0, 2 * CHECKSUM_SIZE, this.state, 0);
  }

  /** A copy. */
  value(): Uint8Array {
    return this.state.slice(0, CHECKSUM_SIZE);
  }
}

export function encodeEndPayload(recordCount: number, chain: Uint8Array): Uint8Array {
  const payload = new Uint8Array(END_PAYLOAD_SIZE);
  writeInteger(viewOf(payload), 0, recordCount);
  payload.set(chain, 8);
  return payload;
}

export function endPayloadMatches(
  payload: Uint8Array,
  recordCount: number,
  chain: Uint8Array,
): boolean {
  return bytesEqual(payload, encodeEndPayload(recordCount, chain));
}

export function bytesEqual(left: Uint8Array, right: Uint8Array): boolean {
  return left.byteLength === right.byteLength && left.every((byte, index) => byte === right[index]);
}

/** 12 bytes; see "sealed payload" above. */
export function recordNonce(offset: number): Uint8Array {
  const nonce = new Uint8Array(12);
  writeInteger(viewOf(nonce), 0, offset);
  return nonce;
}
