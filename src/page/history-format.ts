/**
 * A history segment: all page versions between two checkpoints, what remains of the log that a checkpoint absorbed. It is
 * written once (history-writer.ts), then only read (history-reader.ts). Little-endian.
 *
 *   header, block, block, ..., index block, footer
 *
 *   Header, 80 bytes
 *   offset size  field
 *        0    4  magic "BHST"
 *        4    1  format version, 1; readers refuse others
 *        5    3  reserved, 0; readers refuse others
 *        8   16  store id
 *       24    4  segment number
 *       28    4  database id
 *       32    4  number of the data key that seals the blocks, 0 = not encrypted
 *       36    4  reserved, 0; readers refuse others
 *       40   32  salt, random; 0 when not encrypted. The blocks' key is derived with it
 *       72    8  CRC-64/NVME of bytes 0 to 71
 *
 *   Block
 *        0    4  plaintext size
 *        4    4  body size n
 *        8    1  codec of the body: 0 raw, 1 lz4, 2 zstd; readers refuse others
 *        9    1  kind: 1 entries, 2 index; readers refuse others
 *       10    6  reserved, 0; readers refuse others
 *       16    n  body: the plaintext compressed by the codec, then sealed with AES-256-GCM (ciphertext and 16-byte
 *                tag) under context "history", the header's salt, the block's offset in the file as nonce (12
 *                bytes), and the file's header and the block's first 16 bytes as associated data
 *     16+n    8  CRC-64/NVME of all bytes of the block before it
 *
 *   Plaintext of an entries block, some 64 KiB; all numbers are varints (varint.ts), `payload` is bytes:
 *     { timeline, page, version, kind, payload size, payload }*    kind: see HistoryKind
 *   Plaintext of the index block:
 *     { timeline, page, version of the block's first entry, offset, length of the block }*
 *
 *   Footer, 40 bytes
 *        0    4  magic "BHSF"
 *        4    4  entries blocks
 *        8    8  entries
 *       16    8  offset of the index block
 *       24    8  length of the index block
 *       32    8  CRC-64/NVME of bytes 0 to 31
 *
 * Invariants
 * T1. Entries ascend strictly by (timeline, page, version), within blocks and across them.
 * T2. Blocks follow each other without gaps from offset 80; the index names each of them, in order; the index block
 *     ends where the footer begins, and the footer ends the file.
 * T3. A store with a key reads no segment that is not encrypted: anyone could have put it there.
 * T4. Nothing of a block is used before its CRC, its tag (if sealed) and its sizes are found good; no size that a block states
 *     makes its reader allocate more than 255 times the bytes that are there.
 */
import { CipherError, SEAL_TAG_SIZE, type StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import { crc64Into, crc64Matches } from "../storage/crc64.ts";
import { CHUNK_ID_SIZE, CHUNK_SLOTS_MAX } from "./chunk-format.ts";
import {
  type CodecChoice,
  CompressionError,
  compressSync,
  decompressSync,
  isCodec,
} from "./compression.ts";

/** Values are stored on disk: append only, never renumber. */
export const HistoryKind = {
  /** The page. */
  image: 0,
  /** A delta (page-delta.ts) to the page's version before, in this segment or an older one. */
  delta: 1,
  /** A page of zeros, no payload. */
  zero: 2,
  /** The page is in a chunk: its id (16 bytes) and slot (1 byte). */
  reference: 3,
} as const;
export type HistoryKind = (typeof HistoryKind)[keyof typeof HistoryKind];

/** The key that entries are ordered by. */
export interface HistoryKey {
  /** Unsigned 32 bits, as is `page`. */
  readonly timeline: number;
  readonly page: number;
  /** Up to 2^53 - 1. */
  readonly version: number;
}

export interface HistoryEntry extends HistoryKey {
  readonly kind: HistoryKind;
  readonly payload: Uint8Array;
}

export interface HistoryHeader {
  /** 16 bytes. */
  readonly storeId: Uint8Array;
  readonly segmentNumber: number;
  readonly databaseId: number;
  readonly keyNumber: number;
  /** 32 bytes. */
  readonly salt: Uint8Array;
}

export interface HistoryFooter {
  readonly blockCount: number;
  readonly entryCount: number;
  readonly indexOffset: number;
  readonly indexLength: number;
}

export const BlockKind = { entries: 1, index: 2 } as const;
export type BlockKind = (typeof BlockKind)[keyof typeof BlockKind];

export const HISTORY_HEADER_SIZE = 80;
export const HISTORY_SALT_SIZE = 32;
export const HISTORY_FOOTER_SIZE = 40;
export const BLOCK_HEADER_SIZE = 16;
const CRC_SIZE = 8;
/** What a block takes beside its body. */
export const BLOCK_OVERHEAD: number = BLOCK_HEADER_SIZE + CRC_SIZE;

const HEADER_MAGIC = 0x5453_4842; // "BHST"
const FOOTER_MAGIC = 0x4653_4842; // "BHSF"
const FORMAT_VERSION = 1;

/** Negative when `left` comes first, 0 when they are equal. */
export function compareHistoryKeys(left: HistoryKey, right: HistoryKey): number {
  if (left.timeline !== right.timeline) return left.timeline - right.timeline;
  if (left.page !== right.page) return left.page - right.page;
  return left.version - right.version;
}

/** The payload of an entry of kind `reference`. */
export function encodeHistoryReference(chunkId: Uint8Array, slot: number): Uint8Array {
  const payload = new Uint8Array(CHUNK_ID_SIZE + 1);
  payload.set(chunkId);
  payload[CHUNK_ID_SIZE] = slot;
  return payload;
}

export function decodeHistoryReference(payload: Uint8Array): { chunkId: Uint8Array; slot: number } {
  return { chunkId: payload.subarray(0, CHUNK_ID_SIZE), slot: payload[CHUNK_ID_SIZE]! };
}

export function isHistoryKind(kind: number): kind is HistoryKind {
  return kind >= HistoryKind.image && kind <= HistoryKind.reference;
}

/** Whether a payload can belong to an entry of this kind. */
export function isPayloadValid(kind: HistoryKind, payload: Uint8Array): boolean {
  if (kind === HistoryKind.zero) return payload.length === 0;
  if (kind === HistoryKind.reference) {
    return payload.length === CHUNK_ID_SIZE + 1 && payload[CHUNK_ID_SIZE]! < CHUNK_SLOTS_MAX;
  }
  return kind === HistoryKind.delta || payload.length > 0;
}

export function encodeHistoryHeader(header: HistoryHeader): Uint8Array {
  const bytes = new Uint8Array(HISTORY_HEADER_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, HEADER_MAGIC, true);
  bytes[4] = FORMAT_VERSION;
  bytes.set(header.storeId, 8);
  view.setUint32(24, header.segmentNumber, true);
  view.setUint32(28, header.databaseId, true);
  view.setUint32(32, header.keyNumber, true);
  bytes.set(header.salt, 40);
  const crcOffset = HISTORY_HEADER_SIZE - CRC_SIZE;
  crc64Into(bytes, 0, crcOffset, bytes, crcOffset);
  return bytes;
}

/** `path` is for messages. */
export function decodeHistoryHeader(bytes: Uint8Array, path: string): HistoryHeader {
  const crcOffset = HISTORY_HEADER_SIZE - CRC_SIZE;
  if (
    bytes.length !== HISTORY_HEADER_SIZE ||
    !crc64Matches(bytes, 0, crcOffset, bytes, crcOffset)
  ) {
    throw corruptHistory(path, 0, "its header is damaged");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== HEADER_MAGIC) {
    throw corruptHistory(path, 0, "it is not a history segment");
  }
  if (bytes[4] !== FORMAT_VERSION) {
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read history "${path}": format version ${bytes[4]} is of a newer bough`,
    );
  }
  if ((bytes[5]! | bytes[6]! | bytes[7]! | view.getUint32(36, true)) !== 0) {
    throw corruptHistory(path, 0, "its header has unknown fields");
  }
  return {
    storeId: new Uint8Array(bytes.subarray(8, 24)),
    segmentNumber: view.getUint32(24, true),
    databaseId: view.getUint32(28, true),
    keyNumber: view.getUint32(32, true),
    salt: new Uint8Array(bytes.subarray(40, 40 + HISTORY_SALT_SIZE)),
  };
}

export function encodeHistoryFooter(footer: HistoryFooter): Uint8Array {
  const bytes = new Uint8Array(HISTORY_FOOTER_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, FOOTER_MAGIC, true);
  view.setUint32(4, footer.blockCount, true);
  view.setBigUint64(8, BigInt(footer.entryCount), true);
  view.setBigUint64(16, BigInt(footer.indexOffset), true);
  view.setBigUint64(24, BigInt(footer.indexLength), true);
  const crcOffset = HISTORY_FOOTER_SIZE - CRC_SIZE;
  crc64Into(bytes, 0, crcOffset, bytes, crcOffset);
  return bytes;
}

/** Verifies that the index block it names fits into a file of `size` bytes. */
export function decodeHistoryFooter(bytes: Uint8Array, path: string, size: number): HistoryFooter {
  const offset = size - HISTORY_FOOTER_SIZE;
  const crcOffset = HISTORY_FOOTER_SIZE - CRC_SIZE;
  if (
    bytes.length !== HISTORY_FOOTER_SIZE ||
    !crc64Matches(bytes, 0, crcOffset, bytes, crcOffset)
  ) {
    throw corruptHistory(path, offset, "its footer is damaged");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const footer = {
    blockCount: view.getUint32(4, true),
    entryCount: Number(view.getBigUint64(8, true)),
    indexOffset: Number(view.getBigUint64(16, true)),
    indexLength: Number(view.getBigUint64(24, true)),
  };
  if (
    view.getUint32(0, true) !== FOOTER_MAGIC ||
    footer.indexOffset < HISTORY_HEADER_SIZE ||
    footer.indexLength < BLOCK_OVERHEAD ||
    footer.indexOffset + footer.indexLength !== offset
  ) {
    throw corruptHistory(path, offset, "its footer contradicts the file's size");
  }
  return footer;
}

/** How the blocks of one file are sealed. */
export interface BlockSealing {
  /** Null when the file is not encrypted. */
  readonly cipher: StoreCipher | null;
  readonly keyNumber: number;
  readonly salt: Uint8Array;
  /** The file's header. */
  readonly header: Uint8Array;
}

export interface BlockPlace {
  readonly kind: BlockKind;
  /** Of the block in the file. */
  readonly offset: number;
}

export function encodeBlock(
  plaintext: Uint8Array,
  { kind, offset }: BlockPlace,
  options: { readonly codec: CodecChoice; readonly sealing: BlockSealing },
): Uint8Array {
  const { cipher, keyNumber, salt, header } = options.sealing;
  const { codec, body } = compressSync(plaintext, options.codec);
  const bodySize = body.length + (cipher === null ? 0 : SEAL_TAG_SIZE);
  const bytes = new Uint8Array(BLOCK_OVERHEAD + bodySize);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, plaintext.length, true);
  view.setUint32(4, bodySize, true);
  bytes[8] = codec;
  bytes[9] = kind;
  if (cipher === null) {
    bytes.set(body, BLOCK_HEADER_SIZE);
  } else {
    const associatedData = associatedDataOf(header, bytes);
    const nonce = nonceOf(offset);
    // The header names one key for all blocks, also when the store's active one changes meanwhile.
    const sealOptions = { context: "history" as const, salt, nonce, associatedData, keyNumber };
    bytes.set(cipher.seal(sealOptions, body), BLOCK_HEADER_SIZE);
  }
  crc64Into(bytes, 0, bytes.length - CRC_SIZE, bytes, bytes.length - CRC_SIZE);
  return bytes;
}

/** The plaintext of a block; a view of `bytes` when it is raw and not encrypted. `path` is for messages. */
export function decodeBlock(
  bytes: Uint8Array,
  place: BlockPlace,
  options: { readonly path: string; readonly sealing: BlockSealing },
): Uint8Array {
  const { path } = options;
  const { kind, offset } = place;
  const crcOffset = bytes.length - CRC_SIZE;
  if (crcOffset < BLOCK_HEADER_SIZE || !crc64Matches(bytes, 0, crcOffset, bytes, crcOffset)) {
    throw corruptHistory(path, offset, "the checksum of the block does not match");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const codec = bytes[8]!;
  const reserved = view.getUint16(10, true) | view.getUint32(12, true);
  if (
    bytes[9] !== kind ||
    reserved !== 0 ||
    !isCodec(codec) ||
    view.getUint32(4, true) !== crcOffset - BLOCK_HEADER_SIZE
  ) {
    throw corruptHistory(
      path,
      offset,
      `block of kind ${bytes[9]} and codec ${codec} contradicts itself`,
    );
  }
  try {
    const body = openBlock(bytes, place, options.sealing);
    return decompressSync(body, codec, view.getUint32(0, true));
  } catch (error) {
    if (!(error instanceof CipherError) && !(error instanceof CompressionError)) throw error;
    throw corruptHistory(path, offset, "the block does not open", error);
  }
}

function openBlock(bytes: Uint8Array, { offset }: BlockPlace, sealing: BlockSealing): Uint8Array {
  const { cipher, keyNumber, salt, header } = sealing;
  const body = bytes.subarray(BLOCK_HEADER_SIZE, bytes.length - CRC_SIZE);
  if (cipher === null) return body;
  const associatedData = associatedDataOf(header, bytes);
  const nonce = nonceOf(offset);
  return cipher.open({ context: "history", salt, nonce, associatedData, keyNumber }, body);
}

function associatedDataOf(header: Uint8Array, block: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(header.length + BLOCK_HEADER_SIZE);
  bytes.set(header);
  bytes.set(block.subarray(0, BLOCK_HEADER_SIZE), header.length);
  return bytes;
}

function nonceOf(offset: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(0, BigInt(offset), true);
  return nonce;
}

export function corruptHistory(
  path: string,
  offset: number,
  what: string,
  cause?: unknown,
): StoreError {
  return new StoreError("CORRUPT_HISTORY", `Cannot read history "${path}" at ${offset}: ${what}`, {
    cause,
    details: { path, offset },
  });
}
