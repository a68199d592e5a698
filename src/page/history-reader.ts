/** Reads a history segment (history-format.ts): the versions of one page, or everything. */
import type { StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import type { StorageFile } from "../storage/storage.ts";
import { readVerified } from "../storage/verified-read.ts";
import { ClockCache } from "./clock-cache.ts";
import {
  BLOCK_OVERHEAD,
  BlockKind,
  type BlockSealing,
  compareHistoryKeys,
  corruptHistory,
  decodeBlock,
  decodeHistoryFooter,
  decodeHistoryHeader,
  HISTORY_FOOTER_SIZE,
  HISTORY_HEADER_SIZE,
  type HistoryEntry,
  type HistoryFooter,
  type HistoryHeader,
  type HistoryKey,
  isHistoryKind,
  isPayloadValid,
} from "./history-format.ts";
import { VarintError, VarintReader } from "./varint.ts";

export interface OpenHistoryOptions {
  /** 16 bytes: a segment of another store is refused. */
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
  /** Decoded blocks kept in memory, in bytes. */
  readonly cacheBytesMax?: number;
}

const CACHE_BYTES_MAX_DEFAULT = 2 * 1024 * 1024;
/** What a decoded entry takes beside its payload. */
const ENTRY_OVERHEAD = 160;

/** Where a block is, and its first key. */
interface BlockReference extends HistoryKey {
  readonly offset: number;
  readonly length: number;
}

interface DecodedBlock {
  readonly entries: readonly HistoryEntry[];
  readonly weight: number;
  referenced: boolean;
}

export class HistoryReader {
  readonly header: HistoryHeader;
  readonly entryCount: number;
  readonly #file: StorageFile;
  readonly #sealing: BlockSealing;
  readonly #index: readonly BlockReference[];
  readonly #blocks: ClockCache<DecodedBlock>;

  private constructor(
    file: StorageFile,
    header: HistoryHeader,
    parts: {
      readonly footer: HistoryFooter;
      readonly sealing: BlockSealing;
      readonly index: readonly BlockReference[];
      readonly cacheBytesMax: number;
    },
  ) {
    this.header = header;
    this.entryCount = parts.footer.entryCount;
    this.#file = file;
    this.#sealing = parts.sealing;
    this.#index = parts.index;
    this.#blocks = new ClockCache(parts.cacheBytesMax);
  }

  /** Reads header, footer and index. The file stays the caller's to close. Throws CORRUPT_HISTORY. */
  static open(file: StorageFile, options: OpenHistoryOptions): HistoryReader {
    const size = file.sizeSync();
    return readVerified(file, { offset: 0, length: size }, () =>
      HistoryReader.#open(file, size, options),
    );
  }

  static #open(file: StorageFile, size: number, options: OpenHistoryOptions): HistoryReader {
    const { path } = file;
    if (size < HISTORY_HEADER_SIZE + HISTORY_FOOTER_SIZE) {
      throw corruptHistory(path, 0, `the file has only ${size} bytes`);
    }
    const headerBytes = readBytes(file, 0, HISTORY_HEADER_SIZE);
    const header = decodeHistoryHeader(headerBytes, path);
    if (Buffer.compare(header.storeId, options.storeId) !== 0) {
      throw corruptHistory(path, 0, "it belongs to another store");
    }
    const { keyNumber, salt } = header;
    if (keyNumber !== 0 && options.cipher === null) {
      throw new StoreError(
        "KEY_REQUIRED",
        `Cannot read history "${path}": it is encrypted and no key was given`,
      );
    }
    if (keyNumber === 0 && options.cipher !== null) {
      throw corruptHistory(path, 0, "it is not encrypted, in a store that is");
    }
    const { cipher } = options;
    const sealing: BlockSealing = { cipher, keyNumber, salt, header: headerBytes };
    const footerOffset = size - HISTORY_FOOTER_SIZE;
    const footer = decodeHistoryFooter(
      readBytes(file, footerOffset, HISTORY_FOOTER_SIZE),
      path,
      size,
    );
    const { indexOffset, indexLength } = footer;
    const plaintext = decodeBlock(
      readBytes(file, indexOffset, indexLength),
      { kind: BlockKind.index, offset: indexOffset },
      { path, sealing },
    );
    const index = decodeIndex(plaintext, footer, path);
    const cacheBytesMax = options.cacheBytesMax ?? CACHE_BYTES_MAX_DEFAULT;
    return new HistoryReader(file, header, { footer, sealing, index, cacheBytesMax });
  }

  /** The entries of a page with version <= maxVersion, ascending. Payloads are shared: not to be written to. */
  versions(timeline: number, page: number, maxVersion: number): HistoryEntry[] {
    const found: HistoryEntry[] = [];
    const first: HistoryKey = { timeline, page, version: 0 };
    const last: HistoryKey = { timeline, page, version: maxVersion };
    // The block before the first one that begins past `first` may hold it too.
    for (
      let number = Math.max(0, this.#blocksUpTo(first) - 1);
      number < this.#index.length;
      number++
    ) {
      if (compareHistoryKeys(this.#index[number]!, last) > 0) break;
      const { entries } = this.#block(number);
      for (let at = countBefore(entries, first); at < entries.length; at++) {
        const entry = entries[at]!;
        if (compareHistoryKeys(entry, last) > 0) return found;
        found.push(entry);
      }
    }
    return found;
  }

  /** Everything, in order, past the cache; verifies every byte and the count. */
  *entries(): Generator<HistoryEntry, void, undefined> {
    let count = 0;
    for (let number = 0; number < this.#index.length; number++) {
      const { entries } = this.#readBlock(number);
      count += entries.length;
      yield* entries;
    }
    if (count !== this.entryCount) {
      const what = `it has ${count} entries instead of ${this.entryCount}`;
      throw corruptHistory(this.#file.path, 0, what);
    }
  }

  /** The number of blocks whose first key is at or before `key`. */
  #blocksUpTo(key: HistoryKey): number {
    let low = 0;
    let high = this.#index.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareHistoryKeys(this.#index[middle]!, key) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #block(number: number): DecodedBlock {
    const key = String(number);
    const cached = this.#blocks.get(key);
    if (cached !== undefined) return cached;
    const block = readVerified(this.#file, this.#index[number]!, () => this.#readBlock(number));
    this.#blocks.set(key, block);
    return block;
  }

  #readBlock(number: number): DecodedBlock {
    const { path } = this.#file;
    const reference = this.#index[number]!;
    const { offset, length } = reference;
    const bytes = readBytes(this.#file, offset, length);
    const place = { kind: BlockKind.entries, offset };
    const plaintext = decodeBlock(bytes, place, { path, sealing: this.#sealing });
    const entries = decodeEntries(plaintext, path, offset);
    const first = entries[0];
    const after = this.#index[number + 1];
    if (
      first === undefined ||
      compareHistoryKeys(first, reference) !== 0 ||
      (after !== undefined && compareHistoryKeys(entries.at(-1) ?? first, after) >= 0)
    ) {
      throw corruptHistory(path, offset, "the block does not hold what the index says");
    }
    return {
      entries,
      weight: plaintext.length + entries.length * ENTRY_OVERHEAD,
      referenced: false,
    };
  }
}

function decodeEntries(plaintext: Uint8Array, path: string, offset: number): HistoryEntry[] {
  const reader = new VarintReader(plaintext);
  const entries: HistoryEntry[] = [];
  let last: HistoryKey | null = null;
  try {
    while (!reader.isAtEnd) {
      const timeline = reader.next();
      const page = reader.next();
      const version = reader.next();
      const kind = reader.next();
      const payload = reader.bytes(reader.next());
      const key = { timeline, page, version };
      if (!isHistoryKind(kind) || !isPayloadValid(kind, payload)) {
        throw new VarintError(`entry of kind ${kind} has ${payload.length} bytes`);
      }
      if (last !== null && compareHistoryKeys(last, key) >= 0)
        throw new VarintError("entries do not ascend");
      entries.push({ timeline, page, version, kind, payload });
      last = key;
    }
  } catch (error) {
    if (!(error instanceof VarintError)) throw error;
    throw corruptHistory(path, offset, `the block does not parse: ${error.message}`, error);
  }
  return entries;
}

function decodeIndex(plaintext: Uint8Array, footer: HistoryFooter, path: string): BlockReference[] {
  const reader = new VarintReader(plaintext);
  const index: BlockReference[] = [];
  let last: BlockReference | null = null;
  let end = HISTORY_HEADER_SIZE;
  try {
    while (!reader.isAtEnd) {
      const timeline = reader.next();
      const page = reader.next();
      const version = reader.next();
      const offset = reader.next();
      const length = reader.next();
      const reference: BlockReference = { timeline, page, version, offset, length };
      const ascends = last === null || compareHistoryKeys(last, reference) < 0;
      if (!ascends || offset !== end || length <= BLOCK_OVERHEAD) {
        throw new VarintError(
          `block ${index.length} is at ${offset}, with ${length} bytes, after ${end}`,
        );
      }
      index.push(reference);
      last = reference;
      end = offset + length;
    }
    if (end !== footer.indexOffset || index.length !== footer.blockCount) {
      throw new VarintError(`${index.length} blocks end at ${end}`);
    }
  } catch (error) {
    if (!(error instanceof VarintError)) throw error;
    throw corruptHistory(
      path,
      footer.indexOffset,
      `the index does not parse: ${error.message}`,
      error,
    );
  }
  return index;
}

/** How many entries come before `key`. */
function countBefore(entries: readonly HistoryEntry[], key: HistoryKey): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareHistoryKeys(entries[middle]!, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function readBytes(file: StorageFile, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const count = file.readSync(offset, bytes);
  if (count !== length) {
    throw corruptHistory(file.path, offset, `the file ends after ${count} of ${length} bytes`);
  }
  return bytes;
}
