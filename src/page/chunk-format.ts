/**
 * A chunk: up to 64 pages of one size, the unit of hashing, compression and encryption. Little-endian.
 *
 *   offset size  field
 *        0    4  magic "BCHK"
 *        4    1  format version, 1; readers refuse others
 *        5    1  codec of the body: 0 raw, 1 lz4, 2 zstd; readers refuse others
 *        6    1  flags, 0; readers refuse others
 *        7    1  page size as a power of two, 9 (512 bytes) to 16 (65536 bytes)
 *        8    1  slot count, 1 to 64: pages that the chunk was made with
 *        9    3  reserved, 0; readers refuse others
 *       12    4  number of the data key that seals the body, 0 = not encrypted
 *       16    8  present slots: bit n = the body holds slot n. A missing one is a hole: nothing refers to it any more and
 *                garbage collection has dropped its bytes
 *       24    4  plaintext size: present slots times page size
 *       28    4  body size
 *       32   16  chunk id
 *       48   12  nonce, random; 0 when not encrypted
 *       60    4  reserved, 0; readers refuse others
 *       64    n  body: the present slots' pages in slot order, compressed by the codec, then sealed with AES-256-GCM
 *                (ciphertext and 16-byte tag) under context "chunk", with bytes 0 to 63 as associated data
 *     64+n    8  CRC-64/NVME of all bytes before it
 *
 * Chunk id = the first 16 bytes of SHA-256 over (byte 7, then the pages of all slots); with a store key of
 * HMAC-SHA-256 under the address key over the same. The page size is in it because equal bytes cut into pages of other
 * sizes have other slots.
 *
 * Invariants
 * H1. One id has one content: the page of a slot never changes, only becomes a hole.
 * H2. A body that decodes has passed the CRC, the tag (if sealed) and every size before it is used; a hole is never
 *     read as a page.
 * H3. A store with a key reads no chunk that is not encrypted: anyone could have put it there.
 * H4. No size that a chunk states makes its reader allocate more than 64 pages of 64 KiB.
 */
import { createHash, randomFillSync } from "node:crypto";
import { CipherError, SEAL_TAG_SIZE, type StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import { crc64Into, crc64Matches } from "../storage/crc64.ts";
import {
  type Codec,
  type CodecChoice,
  compress,
  type Compressed,
  compressSync,
  CompressionError,
  decompressSync,
  isCodec,
} from "./compression.ts";

export const CHUNK_ID_SIZE = 16;
export const CHUNK_SLOTS_MAX = 64;
export const CHUNK_HEADER_SIZE = 64;
const CRC_SIZE = 8;
const NONCE_SIZE = 12;
const FORMAT_VERSION = 1;
const MAGIC = 0x4b48_4342; // "BCHK"
const NO_SALT: Uint8Array = new Uint8Array(0);

/** More than any valid chunk takes on disk. */
export const CHUNK_SIZE_MAX: number =
  CHUNK_HEADER_SIZE + CHUNK_SLOTS_MAX * 65_536 + SEAL_TAG_SIZE + CRC_SIZE;

export interface EncodeChunkOptions {
  /** The pages one after another; with `holes`, those of the present slots only. */
  readonly pages: Uint8Array;
  readonly pageSize: number;
  /** Wanted; raw is used where it does not shrink the pages. */
  readonly codec: CodecChoice;
  readonly cipher: StoreCipher | null;
  /** Rewrites a chunk under its id without some of its pages. */
  readonly holes?: ChunkHoles;
  /** For tests of the format; random otherwise. */
  readonly nonce?: Uint8Array;
}

export interface ChunkHoles {
  readonly id: Uint8Array;
  readonly slotCount: number;
  /** Bit n = slot n is in `pages`; at least one. */
  readonly present: bigint;
}

export interface EncodedChunk {
  readonly id: Uint8Array;
  readonly bytes: Uint8Array;
}

export interface DecodeChunkOptions {
  readonly expectedId: Uint8Array;
  readonly cipher: StoreCipher | null;
  /** Where the bytes come from, for messages: `chunks/00000001.pack at 40`. */
  readonly place: string;
  /** Recomputes the id from the pages. A chunk with holes keeps no proof of its id; see DecodedChunk.isComplete. */
  readonly verifyId?: boolean;
}

/** The pages of a chunk in memory. Views of pages are shared: they must not be written to. */
export class DecodedChunk {
  readonly pageSize: number;
  readonly slotCount: number;
  readonly present: bigint;
  /** The pages of the present slots, in slot order. */
  readonly pages: Uint8Array;
  readonly #views: (Uint8Array | undefined)[] = [];

  constructor(pages: Uint8Array, pageSize: number, slotCount: number, present: bigint) {
    this.pages = pages;
    this.pageSize = pageSize;
    this.slotCount = slotCount;
    this.present = present;
  }

  /** Whether no slot is a hole. */
  get isComplete(): boolean {
    return this.present === allSlots(this.slotCount);
  }

  /** With pages of its own, where they were views of a buffer that will be reused. */
  clone(): DecodedChunk {
    return new DecodedChunk(
      new Uint8Array(this.pages),
      this.pageSize,
      this.slotCount,
      this.present,
    );
  }

  /** A view of the page in a slot; null for a hole or a slot that the chunk does not have. */
  page(slot: number): Uint8Array | null {
    return this.#views[slot] ?? this.#makeView(slot);
  }

  #makeView(slot: number): Uint8Array | null {
    if (slot >= this.slotCount || ((this.present >> BigInt(slot)) & 1n) === 0n) return null;
    const rank = countBits(this.present & allSlots(slot));
    const view = this.pages.subarray(rank * this.pageSize, (rank + 1) * this.pageSize);
    this.#views[slot] = view;
    return view;
  }
}

/** See "Chunk id" above. `pages` holds all slots: an id is never computed from a chunk with holes. */
export function chunkId(
  pages: Uint8Array,
  pageSize: number,
  cipher: StoreCipher | null,
): Uint8Array {
  const code = pageSizeCode(pageSize);
  if (cipher === null) {
    const digest = createHash("sha256").update(Uint8Array.of(code)).update(pages).digest();
    return new Uint8Array(digest.subarray(0, CHUNK_ID_SIZE));
  }
  const prefixed = new Uint8Array(1 + pages.length);
  prefixed[0] = code;
  prefixed.set(pages, 1);
  return cipher.address(prefixed);
}

export function encodeChunk(options: EncodeChunkOptions): EncodedChunk {
  checkOptions(options);
  return assemble(options, compressSync(options.pages, options.codec));
}

/** The same result as encodeChunk (but for the nonce), compressed on the thread pool; leave `pages` alone until then. */
export async function encodeChunkAsync(options: EncodeChunkOptions): Promise<EncodedChunk> {
  checkOptions(options);
  return assemble(options, await compress(options.pages, options.codec));
}

function checkOptions({ pages, pageSize, holes }: EncodeChunkOptions): void {
  pageSizeCode(pageSize);
  const count = pages.length / pageSize;
  if (!Number.isInteger(count) || count < 1 || count > CHUNK_SLOTS_MAX) {
    throw new RangeError(
      `Cannot encode chunk: ${pages.length} bytes are not 1 to 64 pages of ${pageSize}`,
    );
  }
  if (holes === undefined) return;
  const { id, slotCount, present } = holes;
  if (
    id.length !== CHUNK_ID_SIZE ||
    !isPresentValid(present, slotCount) ||
    countBits(present) !== count
  ) {
    throw new RangeError(`Cannot encode chunk with holes: ${count} pages for ${slotCount} slots`);
  }
}

function assemble(options: EncodeChunkOptions, { codec, body }: Compressed): EncodedChunk {
  const { pages, pageSize, cipher, holes } = options;
  const id = holes?.id ?? chunkId(pages, pageSize, cipher);
  const slotCount = holes?.slotCount ?? pages.length / pageSize;
  const bodySize = body.length + (cipher === null ? 0 : SEAL_TAG_SIZE);
  const bytes = new Uint8Array(CHUNK_HEADER_SIZE + bodySize + CRC_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  bytes[4] = FORMAT_VERSION;
  bytes[5] = codec;
  bytes[7] = pageSizeCode(pageSize);
  bytes[8] = slotCount;
  view.setUint32(12, cipher?.activeKeyNumber ?? 0, true);
  view.setBigUint64(16, holes?.present ?? allSlots(slotCount), true);
  view.setUint32(24, pages.length, true);
  view.setUint32(28, bodySize, true);
  bytes.set(id, 32);
  if (cipher === null) {
    bytes.set(body, CHUNK_HEADER_SIZE);
  } else {
    const nonce = bytes.subarray(48, 48 + NONCE_SIZE);
    if (options.nonce === undefined) randomFillSync(nonce);
    else nonce.set(options.nonce);
    const associatedData = bytes.subarray(0, CHUNK_HEADER_SIZE);
    bytes.set(
      cipher.seal({ context: "chunk", salt: NO_SALT, nonce, associatedData }, body),
      CHUNK_HEADER_SIZE,
    );
  }
  const crcOffset = CHUNK_HEADER_SIZE + bodySize;
  crc64Into(bytes, 0, crcOffset, bytes, crcOffset);
  return { id, bytes };
}

/** The pages are views of `bytes` when the chunk is raw and not encrypted. */
export function decodeChunk(bytes: Uint8Array, options: DecodeChunkOptions): DecodedChunk {
  const header = checkHeader(bytes, options);
  const { cipher, expectedId } = options;
  let body = bytes.subarray(CHUNK_HEADER_SIZE, bytes.length - CRC_SIZE);
  if (header.keyNumber === 0 && cipher !== null) {
    throw corrupt(options, "it is not encrypted, in a store that is");
  }
  if (header.keyNumber !== 0) body = openBody(bytes, body, header.keyNumber, options);
  let pages: Uint8Array;
  try {
    pages = decompressSync(body, header.codec, header.plaintextSize);
  } catch (error) {
    if (error instanceof CompressionError) throw corrupt(options, error.message, error);
    throw error;
  }
  const chunk = new DecodedChunk(pages, header.pageSize, header.slotCount, header.present);
  if (options.verifyId === true && chunk.isComplete) {
    if (!equalBytes(chunkId(pages, header.pageSize, cipher), expectedId, 0)) {
      throw corrupt(options, "the pages have another id");
    }
  }
  return chunk;
}

/** Whether the bytes are this chunk, whole, as far as that shows without opening it. Throws CORRUPT_CHUNK. */
export function checkStoredChunk(
  bytes: Uint8Array,
  options: Pick<DecodeChunkOptions, "expectedId" | "place">,
): void {
  checkHeader(bytes, options);
}

export interface ChunkShape {
  readonly pageSize: number;
  /** Slots that are no holes. */
  readonly presentCount: number;
}

/** What the header says, unverified but for the id: for statistics. Throws CORRUPT_CHUNK. */
export function readChunkShape(
  header: Uint8Array,
  options: Pick<DecodeChunkOptions, "expectedId" | "place">,
): ChunkShape {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  if (header.length < CHUNK_HEADER_SIZE || !equalBytes(options.expectedId, header, 32))
    throw corrupt(options, "its header is damaged");
  const presentCount = countBits(view.getBigUint64(16, true));
  const pageSize = 2 ** header[7]!;
  if (presentCount === 0 || view.getUint32(24, true) !== presentCount * pageSize)
    throw corrupt(options, "its header contradicts itself");
  return { pageSize, presentCount };
}

interface ChunkHeader {
  readonly codec: Codec;
  readonly pageSize: number;
  readonly slotCount: number;
  readonly keyNumber: number;
  readonly present: bigint;
  readonly plaintextSize: number;
}

function checkHeader(
  bytes: Uint8Array,
  options: Pick<DecodeChunkOptions, "expectedId" | "place">,
): ChunkHeader {
  const crcOffset = bytes.length - CRC_SIZE;
  if (crcOffset <= CHUNK_HEADER_SIZE) throw corrupt(options, `it has only ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC) throw corrupt(options, "it does not begin as a chunk");
  if (!crc64Matches(bytes, 0, crcOffset, bytes, crcOffset)) {
    throw corrupt(options, "its checksum does not match");
  }
  if (!equalBytes(options.expectedId, bytes, 32)) {
    throw corrupt(options, `chunk ${hex(bytes.subarray(32, 48))} is in its place`);
  }
  const codec = bytes[5]!;
  if (bytes[4] !== FORMAT_VERSION || bytes[6] !== 0 || !isCodec(codec)) {
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read chunk ${hex(options.expectedId)} in "${options.place}": format version ${bytes[4]}, codec ${codec}, ` +
        `flags ${bytes[6]} are of a newer bough`,
    );
  }
  const code = bytes[7]!;
  const slotCount = bytes[8]!;
  const present = view.getBigUint64(16, true);
  const plaintextSize = view.getUint32(24, true);
  const pageSize = 2 ** code;
  const reserved = bytes[9]! | bytes[10]! | bytes[11]! | view.getUint32(60, true);
  if (
    code < 9 ||
    code > 16 ||
    reserved !== 0 ||
    !isPresentValid(present, slotCount) ||
    plaintextSize !== countBits(present) * pageSize ||
    view.getUint32(28, true) !== crcOffset - CHUNK_HEADER_SIZE
  ) {
    throw corrupt(options, "its header contradicts itself");
  }
  return {
    codec,
    pageSize,
    slotCount,
    keyNumber: view.getUint32(12, true),
    present,
    plaintextSize,
  };
}

function openBody(
  bytes: Uint8Array,
  sealed: Uint8Array,
  keyNumber: number,
  options: DecodeChunkOptions,
): Uint8Array {
  const { cipher } = options;
  if (cipher === null) {
    throw new StoreError(
      "KEY_REQUIRED",
      `Cannot read chunk ${hex(options.expectedId)} in "${options.place}": it is encrypted and no key was given`,
    );
  }
  const nonce = bytes.subarray(48, 48 + NONCE_SIZE);
  const associatedData = bytes.subarray(0, CHUNK_HEADER_SIZE);
  try {
    return cipher.open(
      { context: "chunk", salt: NO_SALT, nonce, associatedData, keyNumber },
      sealed,
    );
  } catch (error) {
    if (error instanceof CipherError)
      throw corrupt(options, "its body does not fit its tag", error);
    throw error;
  }
}

function corrupt(
  { expectedId, place }: Pick<DecodeChunkOptions, "expectedId" | "place">,
  what: string,
  cause?: unknown,
): StoreError {
  const chunk = hex(expectedId);
  return new StoreError("CORRUPT_CHUNK", `Cannot read chunk ${chunk} in "${place}": ${what}`, {
    cause,
    details: { chunk, place },
  });
}

function pageSizeCode(pageSize: number): number {
  const code = Math.log2(pageSize);
  if (!Number.isInteger(code) || code < 9 || code > 16) {
    throw new RangeError(`Cannot use page size ${pageSize}: not a power of two from 512 to 65536`);
  }
  return code;
}

function allSlots(count: number): bigint {
  return (1n << BigInt(count)) - 1n;
}

function isPresentValid(present: bigint, slotCount: number): boolean {
  return (
    slotCount >= 1 && slotCount <= CHUNK_SLOTS_MAX && present > 0n && present <= allSlots(slotCount)
  );
}

function countBits(bits: bigint): number {
  let count = 0;
  for (let rest = bits; rest !== 0n; rest &= rest - 1n) count++;
  return count;
}

function equalBytes(expected: Uint8Array, bytes: Uint8Array, offset: number): boolean {
  for (let index = 0; index < CHUNK_ID_SIZE; index++) {
    if (expected[index] !== bytes[offset + index]) return false;
  }
  return true;
}

function hex(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString("hex");
}
