/**
 * Entries of several catalog runs as one ordered sequence, in which the newest run wins.
 *
 * G1. `next` reads blocks before it moves anything: a NotLocalError leaves it where it was, and the same call is repeated.
 * G2. A block is read only when an entry of it is due: not beyond the end of the range, nor after the last entry asked for.
 * G3. Of a key that several runs have, the newest run's entry comes out, once; a tombstone too, as null.
 */
import { compareKeys } from "./key-order.ts";
import type { RunBlock } from "./run-block.ts";
import type { RunReader } from "./run-reader.ts";

export type ReadRunBlock = (reader: RunReader, number: number) => RunBlock;

export interface MergeRange {
  readonly start: Uint8Array;
  /** Null: no end. */
  readonly end: Uint8Array | null;
  readonly reverse: boolean;
}

export const WHOLE_RUN: MergeRange = { start: new Uint8Array(0), end: null, reverse: false };

export interface MergedEntry {
  readonly key: Uint8Array;
  /** Null: deleted. */
  readonly value: Uint8Array | null;
}

export class RunMerge {
  readonly #cursors: readonly RunCursor[];
  readonly #reverse: boolean;

  /** `readers` from old to new. */
  constructor(readers: readonly RunReader[], range: MergeRange, readBlock: ReadRunBlock) {
    this.#cursors = readers.toReversed().map((reader) => new RunCursor(reader, range, readBlock));
    this.#reverse = range.reverse;
  }

  /** Null at the end. */
  next(): MergedEntry | null {
    let newest: RunCursor | null = null;
    for (const cursor of this.#cursors) {
      if (!cursor.load()) continue;
      if (newest === null) newest = cursor;
      else {
        const order = compareKeys(cursor.key, newest.key);
        if (this.#reverse ? order > 0 : order < 0) newest = cursor;
      }
    }
    if (newest === null) return null;
    const { key, value } = newest;
    // None of these can fail: all cursors that have the key have it loaded.
    for (const cursor of this.#cursors)
      if (cursor === newest || (cursor.isLoaded && compareKeys(cursor.key, key) === 0))
        cursor.advance();
    return { key, value };
  }
}

/** A place in one run. */
class RunCursor {
  readonly #reader: RunReader;
  readonly #range: MergeRange;
  readonly #readBlock: ReadRunBlock;
  #number: number;
  #block: RunBlock | null = null;
  #index = 0;
  /** The first block is searched for the bound; the others are taken from their beginning. */
  #isFirst = true;
  #key: Uint8Array = new Uint8Array(0);

  constructor(reader: RunReader, range: MergeRange, readBlock: ReadRunBlock) {
    this.#reader = reader;
    this.#range = range;
    this.#readBlock = readBlock;
    const { start, end, reverse } = range;
    if (!reverse) this.#number = Math.max(0, reader.blockOf(start));
    else if (end === null) this.#number = reader.blockCount - 1;
    else {
      const last = reader.blockOf(end);
      const isBeyond = last >= 0 && reader.compareFirstKey(last, end) === 0;
      this.#number = isBeyond ? last - 1 : last;
    }
  }

  get isLoaded(): boolean {
    return this.#block !== null;
  }

  /** Only while loaded, like `value`. */
  get key(): Uint8Array {
    return this.#key;
  }

  get value(): Uint8Array | null {
    return this.#block!.valueAt(this.#index);
  }

  /** Reads what is needed to stand at an entry; false at the end of the range. */
  load(): boolean {
    while (this.#block === null) {
      if (!this.#isInReach()) return false;
      const block = this.#readBlock(this.#reader, this.#number);
      const index = this.#entryIn(block);
      this.#isFirst = false;
      if (index < 0 || index >= block.count) this.#number += this.#range.reverse ? -1 : 1;
      else this.#stand(block, index);
    }
    return true;
  }

  advance(): void {
    const block = this.#block!;
    const index = this.#index + (this.#range.reverse ? -1 : 1);
    if (index >= 0 && index < block.count) {
      this.#stand(block, index);
      return;
    }
    this.#block = null;
    this.#number += this.#range.reverse ? -1 : 1;
  }

  /** Whether the block may have an entry of the range, as far as the index says. */
  #isInReach(): boolean {
    const { start, end, reverse } = this.#range;
    const number = this.#number;
    if (number < 0 || number >= this.#reader.blockCount) return false;
    if (!reverse) return end === null || this.#reader.compareFirstKey(number, end) < 0;
    // Going down, a block is out of reach when the one above it begins at or before the start.
    const isLast = number + 1 === this.#reader.blockCount;
    return isLast || this.#reader.compareFirstKey(number + 1, start) > 0;
  }

  #entryIn(block: RunBlock): number {
    const { start, end, reverse } = this.#range;
    if (!this.#isFirst) return reverse ? block.count - 1 : 0;
    if (!reverse) return block.lowerBound(start);
    return (end === null ? block.count : block.lowerBound(end)) - 1;
  }

  /** Stands at an entry, or at the end when that is outside of the range. */
  #stand(block: RunBlock, index: number): void {
    const { start, end, reverse } = this.#range;
    const isOutside = reverse
      ? block.compareAt(index, start) < 0
      : end !== null && block.compareAt(index, end) >= 0;
    if (isOutside) {
      this.#block = null;
      this.#number = reverse ? -1 : this.#reader.blockCount;
      return;
    }
    this.#block = block;
    this.#index = index;
    this.#key = block.keyAt(index);
  }
}
