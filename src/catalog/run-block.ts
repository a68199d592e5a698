/**
 * Entries of a catalog run as bytes: the plaintext of its entries blocks and of its index.
 *
 *   { shared varint, rest varint, value varint, rest bytes of the key, bytes of the value }*
 *
 * `shared` is how many bytes the key has in common with the key before it, the most there are; the first has 0. `value` is
 * the value's size plus 1, or 0 for a tombstone. Varints: base 128, least significant group first, top bit set on all bytes but the
 * last, up to 2^32 - 1.
 *
 * D1. A decoded block has its keys in one buffer and its places in typed arrays: no object per entry, and a search touches keys
 *     only.
 */
import { InvariantError } from "../errors.ts";
import { compareKeys, KEY_SIZE_MAX, VALUE_SIZE_MAX } from "./key-order.ts";

/** Bytes that are no block. Callers turn it into CORRUPT_CATALOG with the file's name. */
export class RunBlockError extends Error {
  override readonly name = "RunBlockError";
}

const ENTRY_OVERHEAD_MAX = 15;
const TOMBSTONE = -1;

/** Collects the entries of one block; used again for the next. */
export class RunBlockBuilder {
  #bytes: Uint8Array = new Uint8Array(40 * 1024);
  #size = 0;
  #count = 0;
  #first: Uint8Array = new Uint8Array(0);
  #last: Uint8Array = new Uint8Array(0);

  get count(): number {
    return this.#count;
  }

  get size(): number {
    return this.#size;
  }

  get firstKey(): Uint8Array {
    return this.#first;
  }

  /** Keys ascend, also across blocks. Copies both. */
  add(key: Uint8Array, value: Uint8Array | null): void {
    const last = this.#last;
    if (compareKeys(last, key) >= 0)
      throw new InvariantError(
        `entries of a catalog run ascend: ${hex(key)} is not after ${hex(last)}`,
      );
    if (key.length > KEY_SIZE_MAX || (value?.length ?? 0) > VALUE_SIZE_MAX)
      throw new InvariantError(`an entry within the limits of keys and values: ${hex(key)}`);
    let shared = 0;
    if (this.#count === 0) this.#first = new Uint8Array(key);
    else while (shared < last.length && last[shared] === key[shared]) shared++;
    const rest = key.length - shared;
    this.#require(ENTRY_OVERHEAD_MAX + rest + (value?.length ?? 0));
    this.#varint(shared);
    this.#varint(rest);
    this.#varint(value === null ? 0 : value.length + 1);
    const bytes = this.#bytes;
    for (let at = shared; at < key.length; at++) bytes[this.#size++] = key[at]!;
    if (value !== null) {
      bytes.set(value, this.#size);
      this.#size += value.length;
    }
    this.#last = new Uint8Array(key);
    this.#count++;
  }

  /** The bytes so far, valid until the next entry; then begins a new block. */
  take(): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#size);
    this.#size = 0;
    this.#count = 0;
    return bytes;
  }

  #require(wanted: number): void {
    if (this.#size + wanted <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#size + wanted));
    larger.set(this.#bytes.subarray(0, this.#size));
    this.#bytes = larger;
  }

  #varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[this.#size++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.#size++] = rest;
  }
}

/** A block in memory. What it returns are views, not to be written to. */
export class RunBlock {
  readonly count: number;
  readonly tombstoneCount: number;
  readonly #bytes: Uint8Array;
  readonly #keys: Uint8Array;
  /** Key n is in bytes [keyEnds[n], keyEnds[n + 1]) of `keys`. */
  readonly #keyEnds: Uint32Array;
  readonly #valueStarts: Uint32Array;
  readonly #valueSizes: Int32Array;

  private constructor(bytes: Uint8Array, parser: BlockParser) {
    this.#bytes = bytes;
    this.count = parser.count;
    this.tombstoneCount = parser.tombstoneCount;
    this.#keys = parser.keys;
    this.#keyEnds = parser.keyEnds;
    this.#valueStarts = parser.valueStarts;
    this.#valueSizes = parser.valueSizes;
  }

  /** Throws RunBlockError unless the bytes are exactly `count` entries. */
  static decode(bytes: Uint8Array, count: number): RunBlock {
    return new RunBlock(bytes, new BlockParser(bytes, count));
  }

  /** Bytes of memory, about. */
  get weight(): number {
    return this.#bytes.length + this.#keys.length + 12 * this.count + 400;
  }

  keyAt(index: number): Uint8Array {
    return this.#keys.subarray(this.#keyEnds[index], this.#keyEnds[index + 1]);
  }

  /** Null for a tombstone. */
  valueAt(index: number): Uint8Array | null {
    const size = this.#valueSizes[index]!;
    if (size === TOMBSTONE) return null;
    const start = this.#valueStarts[index]!;
    return this.#bytes.subarray(start, start + size);
  }

  /** The index of the first entry whose key is not less than `key`; `count` when there is none. */
  lowerBound(key: Uint8Array): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.compareAt(middle, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** compareKeys(keyAt(index), key), without a view. */
  compareAt(index: number, key: Uint8Array): number {
    const start = this.#keyEnds[index]!;
    const size = this.#keyEnds[index + 1]! - start;
    const keys = this.#keys;
    const shorter = Math.min(size, key.length);
    for (let at = 0; at < shorter; at++) {
      const difference = keys[start + at]! - key[at]!;
      if (difference !== 0) return difference;
    }
    return size - key.length;
  }
}

class BlockParser {
  readonly count: number;
  tombstoneCount = 0;
  keys: Uint8Array;
  readonly keyEnds: Uint32Array;
  readonly valueStarts: Uint32Array;
  readonly valueSizes: Int32Array;
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array, count: number) {
    // An entry takes 4 bytes: three varints and a byte of its key.
    if (count * 4 > bytes.length)
      throw new RunBlockError(`${bytes.length} bytes cannot hold ${count} entries`);
    this.#bytes = bytes;
    this.count = count;
    this.keys = new Uint8Array(bytes.length);
    this.keyEnds = new Uint32Array(count + 1);
    this.valueStarts = new Uint32Array(count);
    this.valueSizes = new Int32Array(count);
    for (let index = 0; index < count; index++) this.#entry(index);
    if (this.#offset !== bytes.length)
      throw new RunBlockError(`${count} entries end at ${this.#offset} of ${bytes.length}`);
    if (this.keyEnds[count]! < this.keys.length)
      this.keys = this.keys.slice(0, this.keyEnds[count]);
  }

  #entry(index: number): void {
    const bytes = this.#bytes;
    const shared = this.#varint();
    const rest = this.#varint();
    const stated = this.#varint();
    const start = this.keyEnds[index]!;
    const previous = index === 0 ? start : this.keyEnds[index - 1]!;
    const valueStart = this.#offset + rest;
    const size = stated - 1;
    if (
      rest === 0 ||
      shared > start - previous ||
      shared + rest > KEY_SIZE_MAX ||
      valueStart + Math.max(0, size) > bytes.length
    )
      throw new RunBlockError(`entry ${index} has sizes ${shared}, ${rest} and ${stated}`);
    // With the most bytes shared, the next one alone orders the two keys.
    if (index > 0 && shared < start - previous) {
      if (bytes[this.#offset]! <= this.keys[previous + shared]!)
        throw new RunBlockError(`entry ${index} is not after the one before`);
    }
    const end = start + shared + rest;
    if (end > this.keys.length) {
      const larger = new Uint8Array(Math.max(2 * this.keys.length, end));
      larger.set(this.keys);
      this.keys = larger;
    }
    const { keys } = this;
    for (let at = 0; at < shared; at++) keys[start + at] = keys[previous + at]!;
    for (let at = 0; at < rest; at++) keys[start + shared + at] = bytes[this.#offset + at]!;
    this.keyEnds[index + 1] = end;
    this.valueStarts[index] = valueStart;
    this.valueSizes[index] = size;
    if (size === TOMBSTONE) this.tombstoneCount++;
    this.#offset = valueStart + Math.max(0, size);
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 28; scale *= 0x80) {
      const byte = this.#bytes[this.#offset];
      if (byte === undefined) throw new RunBlockError(`no byte at ${this.#offset}`);
      this.#offset++;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > 0xffff_ffff) break;
        return value;
      }
    }
    throw new RunBlockError(`no varint before ${this.#offset}`);
  }
}

function hex(key: Uint8Array): string {
  return `0x${Buffer.from(key).toString("hex")}`;
}
