/**
 * Reads a catalog run (run-format.ts), block by block. Reads of the file may throw NotLocalError: then nothing has changed,
 * and the same call is repeated once the bytes are here.
 *
 * Q1. Opening is one read of the file's last 64 KiB; another one only when index and filter are larger.
 * Q2. After that a block is read, verified and decoded when an entry of it is asked for, and at no other time. A run of at most
 *     64 KiB was read when it was opened, and is not read again.
 */
import type { StoreCipher } from "../encryption/cipher.ts";
import { StoreError } from "../errors.ts";
import type { StorageFile } from "../storage/storage.ts";
import { readVerified } from "../storage/verified-read.ts";
import { RunBlock, RunBlockError } from "./run-block.ts";
import { type CachedRunBlock, RunBlockCache } from "./run-block-cache.ts";
import { RunFilter } from "./run-filter.ts";
import {
  corruptRun,
  decodeRunBlock,
  decodeRunFooter,
  encodeRunIdentity,
  RUN_BLOCK_OVERHEAD,
  RUN_FOOTER_SIZE,
  RunBlockKind,
  type RunFooter,
  type RunScope,
  type RunSealing,
} from "./run-format.ts";

export interface OpenRunOptions {
  /** 16 bytes: a run of another store is refused. */
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
  /** Of all runs that are read together; of this one alone unless given. */
  readonly cache?: RunBlockCache;
}

const TAIL_SIZE = 64 * 1024;
const CACHE_BYTES_MAX_DEFAULT = 4 * 1024 * 1024;

interface RunParts {
  readonly footer: RunFooter;
  readonly sealing: RunSealing;
  readonly size: number;
  readonly index: RunBlock;
  readonly filter: RunFilter;
  /** All bytes of a small run. */
  readonly bytes: Uint8Array | null;
  readonly cache: RunBlockCache;
}

export class RunReader {
  readonly path: string;
  readonly scope: RunScope;
  readonly entryCount: number;
  readonly tombstoneCount: number;
  /** Bytes of the file. */
  readonly size: number;
  readonly #file: StorageFile;
  readonly #parts: RunParts;
  readonly #cached: (CachedRunBlock | undefined)[];

  private constructor(file: StorageFile, parts: RunParts) {
    this.path = file.path;
    this.scope = parts.footer.scope;
    this.entryCount = parts.footer.entryCount;
    this.tombstoneCount = parts.footer.tombstoneCount;
    this.size = parts.size;
    this.#file = file;
    this.#parts = parts;
    this.#cached = Array.from({ length: parts.index.count });
  }

  /** The file stays the caller's to close. Throws CORRUPT_CATALOG, KEY_REQUIRED, STORE_FORMAT; NotLocalError. */
  static open(file: StorageFile, options: OpenRunOptions): RunReader {
    const size = file.sizeSync();
    return readVerified(file, { offset: 0, length: size }, () =>
      RunReader.#open(file, size, options),
    );
  }

  static #open(file: StorageFile, size: number, options: OpenRunOptions): RunReader {
    const { path } = file;
    if (size < RUN_FOOTER_SIZE) throw corruptRun(path, 0, `the file has only ${size} bytes`);
    const tailOffset = Math.max(0, size - TAIL_SIZE);
    let tail = readBytes(file, tailOffset, size - tailOffset);
    const footer = decodeRunFooter(tail.subarray(tail.length - RUN_FOOTER_SIZE), path, size);
    const sealing = sealingOf(footer, path, options);
    const { indexOffset, indexLength, filterLength } = footer;
    if (indexOffset < tailOffset)
      tail = Buffer.concat([readBytes(file, indexOffset, tailOffset - indexOffset), tail]);
    else tail = tail.subarray(indexOffset - tailOffset);
    const filterOffset = indexOffset + indexLength;
    const block = (kind: RunBlockKind, offset: number, length: number): Uint8Array => {
      const bytes = tail.subarray(offset - indexOffset, offset - indexOffset + length);
      return decodeRunBlock(bytes, { kind, offset }, { path, sealing });
    };
    const index = decodeIndex(block(RunBlockKind.index, indexOffset, indexLength), footer, path);
    const filter = RunFilter.decode(block(RunBlockKind.filter, filterOffset, filterLength));
    if (filter === null) throw corruptRun(path, filterOffset, "the filter does not parse");
    const bytes = tailOffset === 0 ? new Uint8Array(tail.buffer, 0, size) : null;
    const cache = options.cache ?? new RunBlockCache(CACHE_BYTES_MAX_DEFAULT);
    return new RunReader(file, { footer, sealing, size, index, filter, bytes, cache });
  }

  get blockCount(): number {
    return this.#parts.index.count;
  }

  /** False: the run has neither the key nor a tombstone of it. */
  mayHave(key: Uint8Array): boolean {
    return this.#parts.filter.mayHave(key);
  }

  /** The block that has the key if any has: the last one that begins at or before it, or -1. */
  blockOf(key: Uint8Array): number {
    const { index } = this.#parts;
    const bound = index.lowerBound(key);
    return bound < index.count && index.compareAt(bound, key) === 0 ? bound : bound - 1;
  }

  /** Negative, zero or positive as the first key of a block is less than, equal to or greater than `key`. */
  compareFirstKey(number: number, key: Uint8Array): number {
    return this.#parts.index.compareAt(number, key);
  }

  /** A block, through the cache. */
  block(number: number): RunBlock {
    const cached = this.#cached[number];
    if (cached !== undefined) {
      cached.referenced = true;
      return cached.block;
    }
    const block = this.readBlock(number);
    this.#cached[number] = this.#parts.cache.add(block, () => (this.#cached[number] = undefined));
    return block;
  }

  /** A block, past the cache: for those who read all of a run once. */
  readBlock(number: number): RunBlock {
    const place = placeOf(this.#parts.index, number);
    return readVerified(this.#file, place, () => this.#readBlock(number));
  }

  #readBlock(number: number): RunBlock {
    const { index, sealing, bytes } = this.#parts;
    const { offset, length, count } = placeOf(index, number);
    const stored =
      bytes?.subarray(offset, offset + length) ?? readBytes(this.#file, offset, length);
    const place = { kind: RunBlockKind.entries, offset };
    const plaintext = decodeRunBlock(stored, place, { path: this.path, sealing });
    const block = parse(plaintext, count, this.path, offset);
    const isLast = number + 1 === index.count;
    if (
      index.compareAt(number, block.keyAt(0)) !== 0 ||
      (!isLast && index.compareAt(number + 1, block.keyAt(count - 1)) <= 0)
    )
      throw corruptRun(this.path, offset, "the block does not hold what the index says");
    return block;
  }

  /** Gives the memory of its blocks back. It can still be read. */
  release(): void {
    for (const cached of this.#cached) if (cached !== undefined) this.#parts.cache.delete(cached);
  }
}

function sealingOf(footer: RunFooter, path: string, options: OpenRunOptions): RunSealing {
  const { keyNumber, salt, scope } = footer;
  const { cipher } = options;
  if (Buffer.compare(scope.storeId, options.storeId) !== 0)
    throw corruptRun(path, 0, "it belongs to another store");
  if (keyNumber !== 0 && cipher === null)
    throw new StoreError(
      "KEY_REQUIRED",
      `Cannot read catalog run "${path}": it is encrypted and no key was given; give the store's key`,
    );
  if (keyNumber === 0 && cipher !== null)
    throw corruptRun(path, 0, "it is not encrypted, in a store that is");
  return { cipher, keyNumber, salt, identity: encodeRunIdentity(scope, keyNumber, salt) };
}

interface EntriesPlace {
  readonly offset: number;
  readonly length: number;
  readonly count: number;
}

function placeOf(index: RunBlock, number: number): EntriesPlace {
  const value = index.valueAt(number);
  if (value?.length !== 16) throw new RunBlockError(`block ${number} has no place`);
  const view = new DataView(value.buffer, value.byteOffset, 16);
  return {
    offset: Number(view.getBigUint64(0, true)),
    length: view.getUint32(8, true),
    count: view.getUint32(12, true),
  };
}

function decodeIndex(plaintext: Uint8Array, footer: RunFooter, path: string): RunBlock {
  const { blockCount, entryCount, indexOffset } = footer;
  const index = parse(plaintext, blockCount, path, indexOffset);
  let end = 0;
  let entries = 0;
  try {
    for (let number = 0; number < blockCount; number++) {
      const { offset, length, count } = placeOf(index, number);
      if (offset !== end || length <= RUN_BLOCK_OVERHEAD || count === 0)
        throw new RunBlockError(`block ${number} is at ${offset}, with ${length} bytes`);
      end = offset + length;
      entries += count;
    }
  } catch (error) {
    if (!(error instanceof RunBlockError)) throw error;
    throw corruptRun(path, indexOffset, `the index does not parse: ${error.message}`, error);
  }
  if (end !== indexOffset || entries !== entryCount)
    throw corruptRun(path, indexOffset, `the index names ${entries} entries up to ${end}`);
  return index;
}

function parse(plaintext: Uint8Array, count: number, path: string, offset: number): RunBlock {
  try {
    return RunBlock.decode(plaintext, count);
  } catch (error) {
    if (!(error instanceof RunBlockError)) throw error;
    throw corruptRun(path, offset, `the block does not parse: ${error.message}`, error);
  }
}

function readBytes(file: StorageFile, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const count = file.readSync(offset, bytes);
  if (count !== length)
    throw corruptRun(file.path, offset, `the file ends after ${count} of ${length} bytes`);
  return bytes;
}
