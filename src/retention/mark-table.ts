/**
 * Ids of 16 bytes with 64 bits each, compact: what a mark of a store of any size fits into. 4 million chunks take some
 * 200 MB, without an object per chunk.
 *
 *   id -> one of 256 parts by its first byte -> open addressing in an array of 32-bit words, 6 per entry:
 *         id in 4 words, bits in 2; no bit set: the entry is free
 *
 * M1. An entry is found by all 16 bytes of its id: two ids never share bits.
 * M2. Bits are only added. A part that grows is copied by itself, so that no addition takes long.
 */

const WORDS = 6;
const PART_ENTRIES_MIN = 16;

interface Part {
  words: Uint32Array;
  /** Entries that fit, a power of two. */
  capacity: number;
  count: number;
}

export class MarkTable {
  readonly #parts: (Part | null)[] = Array.from({ length: 256 }, () => null);
  #count = 0;

  /** Ids with at least one bit. */
  get count(): number {
    return this.#count;
  }

  /** Adds bits, at least one, to the id in the 16 bytes from `offset`. True when it had none before. */
  add(id: Uint8Array, offset: number, low: number, high: number): boolean {
    const index = id[offset]!;
    let part = this.#parts[index]!;
    if (part === null) this.#parts[index] = part = newPart(PART_ENTRIES_MIN);
    let at = find(part, id, offset);
    const { words } = part;
    if ((words[at + 4]! | words[at + 5]!) !== 0) {
      words[at + 4]! |= low;
      words[at + 5]! |= high;
      return false;
    }
    if (part.count * 4 >= part.capacity * 3) {
      this.#parts[index] = part = grown(part);
      at = find(part, id, offset);
    }
    for (let word = 0; word < 4; word++) part.words[at + word] = wordOf(id, offset + word * 4);
    part.words[at + 4] = low;
    part.words[at + 5] = high;
    part.count++;
    this.#count++;
    return true;
  }

  has(id: Uint8Array, offset = 0): boolean {
    const part = this.#parts[id[offset]!]!;
    if (part === null) return false;
    const at = find(part, id, offset);
    return (part.words[at + 4]! | part.words[at + 5]!) !== 0;
  }

  hasBit(id: Uint8Array, bit: number): boolean {
    const part = this.#parts[id[0]!]!;
    if (part === null) return false;
    const at = find(part, id, 0);
    const word = bit < 32 ? part.words[at + 4]! : part.words[at + 5]!;
    return (word & (1 << (bit & 31))) !== 0;
  }

  bits(id: Uint8Array): bigint {
    const part = this.#parts[id[0]!]!;
    if (part === null) return 0n;
    const at = find(part, id, 0);
    return (BigInt(part.words[at + 5]!) << 32n) | BigInt(part.words[at + 4]!);
  }
}

function newPart(capacity: number): Part {
  return { words: new Uint32Array(capacity * WORDS), capacity, count: 0 };
}

/** Where the id's entry is, or the free one that it would take. */
function find({ words, capacity }: Part, id: Uint8Array, offset: number): number {
  const first = wordOf(id, offset);
  const second = wordOf(id, offset + 4);
  const third = wordOf(id, offset + 8);
  const fourth = wordOf(id, offset + 12);
  for (let slot = second & (capacity - 1); ; slot = (slot + 1) & (capacity - 1)) {
    const at = slot * WORDS;
    if ((words[at + 4]! | words[at + 5]!) === 0) return at;
    if (
      words[at] === first &&
      words[at + 1] === second &&
      words[at + 2] === third &&
      words[at + 3] === fourth
    )
      return at;
  }
}

function grown(part: Part): Part {
  const larger = newPart(part.capacity * 2);
  const { words } = part;
  for (let from = 0; from < words.length; from += WORDS) {
    if ((words[from + 4]! | words[from + 5]!) === 0) continue;
    let slot = words[from + 1]! & (larger.capacity - 1);
    while ((larger.words[slot * WORDS + 4]! | larger.words[slot * WORDS + 5]!) !== 0)
      slot = (slot + 1) & (larger.capacity - 1);
    larger.words.set(words.subarray(from, from + WORDS), slot * WORDS);
  }
  larger.count = part.count;
  return larger;
}

function wordOf(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
  );
}
