/**
 * The bloom filter of a catalog run: says of most keys that the run does not have them, without reading a block. It covers keys of
 * the tables that are read by id, nodes and chunks; page hashes are far more, and only a writer with a catalog of its own
 * asks for them.
 *
 *   offset size  field, little-endian
 *        0    4  bits per key that are set and asked, 7; readers refuse others
 *        4    4  bits in the filter, a multiple of 64; 0 = the run has no such key
 *        8  ...  the bits, bit n in byte n / 8 at place n % 8
 *
 * Bit i of a key (i from 0): (a + i * b) mod 2^32 mod bits, where a and b are the first two u32 of the id, b made odd. Ids are
 * hashes, so these need no other.
 *
 * P1. It never says that a key is missing which the run has, as an entry or as a tombstone.
 */
import { Table } from "./catalog.ts";

const HEADER_SIZE = 8;
const BITS_PER_KEY = 10;
const PROBES = 7;
const ID_KEY_SIZE = 17;

/** Whether filters cover the key. */
function isFiltered(key: Uint8Array): boolean {
  const table = key[0];
  return (table === Table.node || table === Table.chunk) && key.length === ID_KEY_SIZE;
}

function idWord(key: Uint8Array, offset: number): number {
  return (
    (key[offset]! |
      (key[offset + 1]! << 8) |
      (key[offset + 2]! << 16) |
      (key[offset + 3]! << 24)) >>>
    0
  );
}

/** Collects the keys of a run that is being written: 8 bytes for each. */
export class RunFilterBuilder {
  #words: Uint32Array = new Uint32Array(256);
  #size = 0;

  add(key: Uint8Array): void {
    if (!isFiltered(key)) return;
    if (this.#size === this.#words.length) {
      const larger = new Uint32Array(this.#words.length * 2);
      larger.set(this.#words);
      this.#words = larger;
    }
    this.#words[this.#size++] = idWord(key, 1);
    this.#words[this.#size++] = idWord(key, 5) | 1;
  }

  encode(): Uint8Array {
    const bits = Math.ceil(((this.#size / 2) * BITS_PER_KEY) / 64) * 64;
    const bytes = new Uint8Array(HEADER_SIZE + bits / 8);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, PROBES, true);
    view.setUint32(4, bits, true);
    for (let at = 0; at < this.#size; at += 2) {
      let word = this.#words[at]!;
      for (let probe = 0; probe < PROBES; probe++) {
        const bit = word % bits;
        bytes[HEADER_SIZE + (bit >>> 3)]! |= 1 << (bit & 7);
        word = (word + this.#words[at + 1]!) >>> 0;
      }
    }
    return bytes;
  }
}

export class RunFilter {
  readonly #bytes: Uint8Array;
  readonly #bits: number;

  private constructor(bytes: Uint8Array, bits: number) {
    this.#bytes = bytes;
    this.#bits = bits;
  }

  /** Null when the bytes are no filter. */
  static decode(bytes: Uint8Array): RunFilter | null {
    if (bytes.length < HEADER_SIZE) return null;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const bits = view.getUint32(4, true);
    const isWhole = bits % 64 === 0 && bytes.length === HEADER_SIZE + bits / 8;
    return view.getUint32(0, true) === PROBES && isWhole ? new RunFilter(bytes, bits) : null;
  }

  /** False: the run does not have the key (P1). */
  mayHave(key: Uint8Array): boolean {
    if (!isFiltered(key)) return true;
    const bits = this.#bits;
    if (bits === 0) return false;
    const step = idWord(key, 5) | 1;
    let word = idWord(key, 1);
    for (let probe = 0; probe < PROBES; probe++) {
      const bit = word % bits;
      if ((this.#bytes[HEADER_SIZE + (bit >>> 3)]! & (1 << (bit & 7))) === 0) return false;
      word = (word + step) >>> 0;
    }
    return true;
  }
}
