/**
 * A slice: what one upload adds to the log in object storage. Slices are numbered 1, 2, 3 ... without gaps, and each is
 * created only if its name is free: whoever puts number n has won the right to it. Little-endian.
 *
 *   offset size  field
 *        0    4  magic "BSLC"
 *        4    1  format version, 1; readers refuse others
 *        5    1  type: 1 = records, 2 = a fence: a new writer has taken over
 *        6    2  number of pieces
 *        8    8  number of the slice
 *       16   16  store id
 *       32    8  epoch of the writer
 *       40   16  the writer's random id
 *       56    8  LSN of the first record, 0 without records
 *       64    8  LSN of the last record
 *       72    8  time, milliseconds since 1970
 *       80    4  length of the writer's name, UTF-8
 *       84    4  reserved, 0
 *       88    n  the writer's name: host and process, for messages
 *              pieces: log segment u64, offset in it u64, length u64, that many bytes (of whole records, as in the segment)
 *        -    8  CRC-64/NVME of all bytes before it
 *
 * T1. Bytes of records are those of the writer's segment, at the same place: segments are put together again from slices.
 * T2. A writer that is fenced can put no further slice: the next number is taken. So what it acknowledges after an upload is
 *     in the log that everybody else sees.
 */
import { StoreError } from "../errors.ts";
import type { LogPiece } from "../log/log-tail.ts";
import { sliceKey } from "./remote-keys.ts";
import { crc64Into, crc64Matches, CRC64_SIZE } from "../storage/crc64.ts";

const MAGIC = 0x434c_5342; // "BSLC"
const FORMAT_VERSION = 1;
const FIXED_SIZE = 88;
const PIECE_HEADER_SIZE = 24;
const RECORDS = 1;
const FENCE = 2;

/** Who writes: unique for each opening of a store. */
export interface Writer {
  /** Grows with every take-over. */
  readonly epoch: number;
  /** 16 bytes, random. */
  readonly id: Uint8Array;
  /** Host and process, for messages. */
  readonly name: string;
}

export interface LogSlice {
  readonly sequence: number;
  readonly storeId: Uint8Array;
  readonly writer: Writer;
  readonly isFence: boolean;
  readonly firstLsn: number;
  readonly lastLsn: number;
  readonly atMs: number;
  readonly pieces: readonly LogPiece[];
}

export function encodeSlice(slice: LogSlice): Uint8Array {
  const name = new TextEncoder().encode(slice.writer.name);
  let size = FIXED_SIZE + name.length + CRC64_SIZE;
  for (const { bytes } of slice.pieces) size += PIECE_HEADER_SIZE + bytes.length;
  const body = new Uint8Array(size);
  const view = new DataView(body.buffer);
  view.setUint32(0, MAGIC, true);
  body[4] = FORMAT_VERSION;
  body[5] = slice.isFence ? FENCE : RECORDS;
  view.setUint16(6, slice.pieces.length, true);
  view.setBigUint64(8, BigInt(slice.sequence), true);
  body.set(slice.storeId, 16);
  view.setBigUint64(32, BigInt(slice.writer.epoch), true);
  body.set(slice.writer.id, 40);
  view.setBigUint64(56, BigInt(slice.firstLsn), true);
  view.setBigUint64(64, BigInt(slice.lastLsn), true);
  view.setBigUint64(72, BigInt(slice.atMs), true);
  view.setUint32(80, name.length, true);
  body.set(name, FIXED_SIZE);
  let offset = FIXED_SIZE + name.length;
  for (const piece of slice.pieces) {
    view.setBigUint64(offset, BigInt(piece.segment), true);
    view.setBigUint64(offset + 8, BigInt(piece.offset), true);
    view.setBigUint64(offset + 16, BigInt(piece.bytes.length), true);
    body.set(piece.bytes, offset + PIECE_HEADER_SIZE);
    offset += PIECE_HEADER_SIZE + piece.bytes.length;
  }
  crc64Into(body, 0, offset, body, offset);
  return body;
}

/** Pieces are views of `body`. Throws CORRUPT_REMOTE or STORE_FORMAT. */
export function decodeSlice(body: Uint8Array, key: string): LogSlice {
  const end = body.length - CRC64_SIZE;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  if (end < FIXED_SIZE || view.getUint32(0, true) !== MAGIC)
    throw damaged(key, "it does not begin as a slice of the log");
  if (!crc64Matches(body, 0, end, body, end)) throw damaged(key, "its checksum does not match");
  if (body[4] !== FORMAT_VERSION)
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read object "${key}": its format version is ${body[4]}, this bough reads ${FORMAT_VERSION}; use a newer bough`,
    );
  const nameLength = view.getUint32(80, true);
  const pieces: LogPiece[] = [];
  let offset = FIXED_SIZE + nameLength;
  for (let index = 0; index < view.getUint16(6, true); index++) {
    if (offset + PIECE_HEADER_SIZE > end) throw damaged(key, "a piece is cut off");
    const length = Number(view.getBigUint64(offset + 16, true));
    const start = offset + PIECE_HEADER_SIZE;
    if (start + length > end) throw damaged(key, "a piece is cut off");
    pieces.push({
      segment: Number(view.getBigUint64(offset, true)),
      offset: Number(view.getBigUint64(offset + 8, true)),
      bytes: body.subarray(start, start + length),
    });
    offset = start + length;
  }
  if (offset !== end || (body[5] !== RECORDS && body[5] !== FENCE))
    throw damaged(key, "its header contradicts itself");
  const sequence = Number(view.getBigUint64(8, true));
  if (sliceKey(sequence) !== key) throw damaged(key, `it is slice ${sequence}`);
  return {
    sequence,
    storeId: body.slice(16, 32),
    writer: {
      epoch: Number(view.getBigUint64(32, true)),
      id: body.slice(40, 56),
      name: new TextDecoder().decode(body.subarray(FIXED_SIZE, FIXED_SIZE + nameLength)),
    },
    isFence: body[5] === FENCE,
    firstLsn: Number(view.getBigUint64(56, true)),
    lastLsn: Number(view.getBigUint64(64, true)),
    atMs: Number(view.getBigUint64(72, true)),
    pieces,
  };
}

function damaged(key: string, what: string): StoreError {
  return new StoreError("CORRUPT_REMOTE", `Cannot read object "${key}": ${what}`, {
    details: { key },
  });
}
