/**
 * Decoded blocks of catalog runs in memory, with CLOCK eviction: a hit is one store, by whoever holds the block.
 *
 * B1. The weight of all blocks is at most `bytesMax`, but for the newest BLOCKS_MIN: a read that consists of several, such as a
 *     path down a page map, is repeated from its start whenever one of them misses, and must find the others again.
 */
import type { RunBlock } from "./run-block.ts";

export interface CachedRunBlock {
  readonly block: RunBlock;
  /** Set at each hit, cleared by the hand. */
  referenced: boolean;
  readonly onEvict: () => void;
}

const BLOCKS_MIN = 16;

export class RunBlockCache {
  readonly #bytesMax: number;
  readonly #blocks = new Set<CachedRunBlock>();
  #hand: SetIterator<CachedRunBlock> = this.#blocks.values();
  #bytes = 0;

  constructor(bytesMax: number) {
    if (!(bytesMax >= 0)) throw new RangeError(`Cannot make cache: limit is ${bytesMax}`);
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Makes room, then adds. `onEvict` is called once, when the block leaves. */
  add(block: RunBlock, onEvict: () => void): CachedRunBlock {
    while (this.#blocks.size >= BLOCKS_MIN && this.#bytes + block.weight > this.#bytesMax) {
      const next = this.#hand.next();
      if (next.done === true) this.#hand = this.#blocks.values();
      else if (next.value.referenced) next.value.referenced = false;
      else this.delete(next.value);
    }
    const cached: CachedRunBlock = { block, referenced: false, onEvict };
    this.#blocks.add(cached);
    this.#bytes += block.weight;
    return cached;
  }

  delete(cached: CachedRunBlock): void {
    if (!this.#blocks.delete(cached)) return;
    this.#bytes -= cached.block.weight;
    cached.onEvict();
  }
}
