/**
 * A catalog run: the changes of one or more batches of the catalog (or all of it: a base) as an immutable sorted file, for
 * object storage. It is written once (run-writer.ts), then read block by block (run-reader.ts). Little-endian.
 *
 *   entries block, entries block, ..., index block, filter block, footer
 *
 * There is no header: who opens a run in object storage reads its end, once.
 *
 *   Block
 *   offset size  field
 *        0    4  plaintext size
 *        4    4  body size n
 *        8    1  codec of the body: 0 raw; readers refuse others
 *        9    1  kind: 1 entries, 2 index, 3 filter; readers refuse others
 *       10    6  reserved, 0; readers refuse others
 *       16    n  body: the plaintext, sealed with AES-256-GCM when the store has a key (ciphertext and 16-byte tag) under
 *                context "catalog", the footer's salt, the block's offset in the file as nonce (12 bytes), and the footer's
 *                first 104 bytes and the block's first 16 as associated data
 *     16+n    8  CRC-64/NVME of all bytes of the block before it
 *
 *   Plaintext of an entries block, some 32 KiB, as in run-block.ts
 *   Plaintext of the index block: the same; the key is the first of an entries block, the value its offset u64, length u32,
 *     entries u32
 *   Plaintext of the filter block: as in run-filter.ts
 *
 *   Footer, 168 bytes
 *        0   16  store id
 *       16    8  number of the batch that the run follows; 0 for a base
 *       24    8  mark (recording-key-value.ts) of that batch; 0 when there is none
 *       32    8  number of the newest batch in the run; 0 for the base of a catalog that never had a marked batch
 *       40    8  mark of that batch
 *       48    4  flags: 1 base, others are refused
 *       52    4  number of the data key that seals the blocks, 0 = not encrypted
 *       56   32  salt, random; 0 when not encrypted. The blocks' key is derived with it
 *       88   16  reserved, 0; readers refuse others
 *      104    8  entries, tombstones among them
 *      112    8  tombstones
 *      120    4  entries blocks
 *      124    4  reserved, 0; readers refuse others
 *      128    8  offset of the index block
 *      136    8  length of the index block
 *      144    8  length of the filter block
 *      152    4  format version, 1; readers refuse others
 *      156    4  magic "BRUN"
 *      160    8  CRC-64/NVME of bytes 0 to 159
 *
 * The footer's size and its last 16 bytes keep their places for ever.
 *
 * Invariants
 * F1. Keys ascend strictly (K2), within blocks and across them. A key is in a run once: with its value, or as a tombstone.
 * F2. Blocks follow each other without gaps from offset 0; the index names each entries block, in order; index, filter and
 *     footer end the file.
 * F3. A base follows no batch and has no tombstones. Any other run follows the batch before its first.
 * F4. A store with a key reads no run that is not encrypted: anyone could have put it there.
 * F5. Nothing of a block is used before its CRC, its tag (if sealed) and its sizes are found good; no size that a block or footer
 *     states makes its reader allocate more than the file has bytes.
 */
import { CipherError, SEAL_TAG_SIZE, type StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import { crc64Into, crc64Matches } from "../storage/crc64.ts";

/** A state of the catalog: the number of the batch that made it, and what tells it from another batch of that number. */
export interface CatalogMark {
  /** From 1; 0 stands for the empty catalog, or one that never had a marked batch. */
  readonly sequence: number;
  /** 8 random bytes; 0 with sequence 0. */
  readonly nonce: Uint8Array;
}

export const MARK_NONCE_SIZE = 8;
export const NO_MARK: CatalogMark = { sequence: 0, nonce: new Uint8Array(MARK_NONCE_SIZE) };

export function isSameMark(left: CatalogMark, right: CatalogMark): boolean {
  return left.sequence === right.sequence && Buffer.compare(left.nonce, right.nonce) === 0;
}

/** What a run contains: all batches after `previous` up to `mark`. */
export interface RunScope {
  /** 16 bytes. */
  readonly storeId: Uint8Array;
  readonly isBase: boolean;
  readonly previous: CatalogMark;
  readonly mark: CatalogMark;
}

export interface RunFooter {
  readonly scope: RunScope;
  readonly keyNumber: number;
  /** 32 bytes. */
  readonly salt: Uint8Array;
  readonly entryCount: number;
  readonly tombstoneCount: number;
  readonly blockCount: number;
  readonly indexOffset: number;
  readonly indexLength: number;
  readonly filterLength: number;
}

export const RunBlockKind = { entries: 1, index: 2, filter: 3 } as const;
export type RunBlockKind = (typeof RunBlockKind)[keyof typeof RunBlockKind];

export const RUN_FOOTER_SIZE = 168;
export const RUN_SALT_SIZE = 32;
/** The part of the footer that is known before the first block is written. */
const IDENTITY_SIZE = 104;
const CRC_SIZE = 8;
const BLOCK_HEADER_SIZE = 16;
/** What a block takes beside its body. */
export const RUN_BLOCK_OVERHEAD: number = BLOCK_HEADER_SIZE + CRC_SIZE;

const MAGIC = 0x4e55_5242; // "BRUN"
const FORMAT_VERSION = 1;
const FLAG_BASE = 1;

/** How the blocks of one run are sealed. */
export interface RunSealing {
  /** Null when the run is not encrypted. */
  readonly cipher: StoreCipher | null;
  readonly keyNumber: number;
  readonly salt: Uint8Array;
  /** The footer's first bytes. */
  readonly identity: Uint8Array;
}

export function encodeRunIdentity(
  scope: RunScope,
  keyNumber: number,
  salt: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(IDENTITY_SIZE);
  const view = new DataView(bytes.buffer);
  bytes.set(scope.storeId);
  view.setBigUint64(16, BigInt(scope.previous.sequence), true);
  bytes.set(scope.previous.nonce, 24);
  view.setBigUint64(32, BigInt(scope.mark.sequence), true);
  bytes.set(scope.mark.nonce, 40);
  view.setUint32(48, scope.isBase ? FLAG_BASE : 0, true);
  view.setUint32(52, keyNumber, true);
  bytes.set(salt, 56);
  return bytes;
}

export function encodeRunFooter(
  identity: Uint8Array,
  counts: Omit<RunFooter, "scope" | "keyNumber" | "salt">,
): Uint8Array {
  const bytes = new Uint8Array(RUN_FOOTER_SIZE);
  const view = new DataView(bytes.buffer);
  bytes.set(identity);
  view.setBigUint64(104, BigInt(counts.entryCount), true);
  view.setBigUint64(112, BigInt(counts.tombstoneCount), true);
  view.setUint32(120, counts.blockCount, true);
  view.setBigUint64(128, BigInt(counts.indexOffset), true);
  view.setBigUint64(136, BigInt(counts.indexLength), true);
  view.setBigUint64(144, BigInt(counts.filterLength), true);
  view.setUint32(152, FORMAT_VERSION, true);
  view.setUint32(156, MAGIC, true);
  crc64Into(bytes, 0, RUN_FOOTER_SIZE - CRC_SIZE, bytes, RUN_FOOTER_SIZE - CRC_SIZE);
  return bytes;
}

/** Verifies that what it names fits into a file of `size` bytes. `path` is for messages. */
export function decodeRunFooter(bytes: Uint8Array, path: string, size: number): RunFooter {
  const offset = size - RUN_FOOTER_SIZE;
  const crcOffset = RUN_FOOTER_SIZE - CRC_SIZE;
  if (bytes.length !== RUN_FOOTER_SIZE || !crc64Matches(bytes, 0, crcOffset, bytes, crcOffset))
    throw corruptRun(path, offset, "its footer is damaged");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(156, true) !== MAGIC) throw corruptRun(path, offset, "it is not a run");
  const version = view.getUint32(152, true);
  if (version !== FORMAT_VERSION)
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read catalog run "${path}": format version ${version} is of a newer bough; use that`,
      { details: { path, version } },
    );
  const flags = view.getUint32(48, true);
  const isReservedUsed = bytes.subarray(88, 104).some((byte) => byte !== 0);
  if (flags > FLAG_BASE || isReservedUsed || view.getUint32(124, true) !== 0)
    throw corruptRun(path, offset, "its footer has unknown fields");
  const number = (at: number): number => Number(view.getBigUint64(at, true));
  const mark = (at: number): CatalogMark => ({
    sequence: number(at),
    nonce: new Uint8Array(bytes.subarray(at + 8, at + 16)),
  });
  const footer: RunFooter = {
    scope: {
      storeId: new Uint8Array(bytes.subarray(0, 16)),
      isBase: flags === FLAG_BASE,
      previous: mark(16),
      mark: mark(32),
    },
    keyNumber: view.getUint32(52, true),
    salt: new Uint8Array(bytes.subarray(56, 56 + RUN_SALT_SIZE)),
    entryCount: number(104),
    tombstoneCount: number(112),
    blockCount: view.getUint32(120, true),
    indexOffset: number(128),
    indexLength: number(136),
    filterLength: number(144),
  };
  const what = contradiction(footer, offset);
  if (what !== null) throw corruptRun(path, offset, what);
  return footer;
}

function contradiction(footer: RunFooter, end: number): string | null {
  const { scope, indexOffset, indexLength, filterLength, entryCount, tombstoneCount } = footer;
  if (
    indexLength < RUN_BLOCK_OVERHEAD ||
    filterLength < RUN_BLOCK_OVERHEAD ||
    indexOffset + indexLength + filterLength !== end ||
    footer.blockCount * RUN_BLOCK_OVERHEAD > indexOffset
  )
    return "its footer contradicts the file's size";
  if (
    tombstoneCount > entryCount ||
    (scope.isBase && (tombstoneCount > 0 || scope.previous.sequence !== 0)) ||
    (!scope.isBase && scope.mark.sequence <= scope.previous.sequence)
  )
    return "its footer contradicts itself";
  return null;
}

export interface RunBlockPlace {
  readonly kind: RunBlockKind;
  /** Of the block in the file. */
  readonly offset: number;
}

export function encodeRunBlock(
  plaintext: Uint8Array,
  place: RunBlockPlace,
  sealing: RunSealing,
): Uint8Array {
  const { cipher, keyNumber, salt } = sealing;
  const bodySize = plaintext.length + (cipher === null ? 0 : SEAL_TAG_SIZE);
  const bytes = new Uint8Array(RUN_BLOCK_OVERHEAD + bodySize);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, plaintext.length, true);
  view.setUint32(4, bodySize, true);
  bytes[9] = place.kind;
  if (cipher === null) bytes.set(plaintext, BLOCK_HEADER_SIZE);
  else {
    const associatedData = associatedDataOf(sealing.identity, bytes);
    const nonce = nonceOf(place.offset);
    // The footer names one key for all blocks, also when the store's active one changes meanwhile.
    const options = { context: "catalog" as const, salt, nonce, associatedData, keyNumber };
    bytes.set(cipher.seal(options, plaintext), BLOCK_HEADER_SIZE);
  }
  crc64Into(bytes, 0, bytes.length - CRC_SIZE, bytes, bytes.length - CRC_SIZE);
  return bytes;
}

/** The plaintext of a block; a view of `bytes` when it is not encrypted. `path` is for messages. */
export function decodeRunBlock(
  bytes: Uint8Array,
  place: RunBlockPlace,
  options: { readonly path: string; readonly sealing: RunSealing },
): Uint8Array {
  const { path, sealing } = options;
  const crcOffset = bytes.length - CRC_SIZE;
  if (crcOffset < BLOCK_HEADER_SIZE || !crc64Matches(bytes, 0, crcOffset, bytes, crcOffset))
    throw corruptRun(path, place.offset, "the checksum of the block does not match");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tagSize = sealing.cipher === null ? 0 : SEAL_TAG_SIZE;
  const bodySize = crcOffset - BLOCK_HEADER_SIZE;
  if (
    bytes[8] !== 0 ||
    bytes[9] !== place.kind ||
    (view.getUint16(10, true) | view.getUint32(12, true)) !== 0 ||
    view.getUint32(4, true) !== bodySize ||
    view.getUint32(0, true) !== bodySize - tagSize
  )
    throw corruptRun(path, place.offset, "the block contradicts itself");
  const body = bytes.subarray(BLOCK_HEADER_SIZE, crcOffset);
  const { cipher, keyNumber, salt } = sealing;
  if (cipher === null) return body;
  const associatedData = associatedDataOf(sealing.identity, bytes);
  const nonce = nonceOf(place.offset);
  try {
    return cipher.open({ context: "catalog", salt, nonce, associatedData, keyNumber }, body);
  } catch (error) {
    if (!(error instanceof CipherError)) throw error;
    throw corruptRun(path, place.offset, "the block does not open", error);
  }
}

function associatedDataOf(identity: Uint8Array, block: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(identity.length + BLOCK_HEADER_SIZE);
  bytes.set(identity);
  bytes.set(block.subarray(0, BLOCK_HEADER_SIZE), identity.length);
  return bytes;
}

function nonceOf(offset: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(0, BigInt(offset), true);
  return nonce;
}

export function corruptRun(
  path: string,
  offset: number,
  what: string,
  cause?: unknown,
): StoreError {
  return new StoreError(
    "CORRUPT_CATALOG",
    `Cannot read catalog run "${path}" at ${offset}: ${what}`,
    { cause, details: { path, offset } },
  );
}
