/**
 * Who refers to which stored page: walks the page maps of many snapshots, each node twice at most, however many snapshots
 * share it.
 *
 *   node, page:   unseen --first owner's walk--> owned --walk of another owner--> shared
 *
 * A1. Below a shared node everything is shared: whoever met the node second walked it again to say so.
 * A2. A page is identified by (chunk, slot): equal pages that deduplication stored once count once.
 */
import type { ChunkHandle } from "../page/chunk-handle.ts";
import { CHUNK_SLOTS_MAX } from "../page/chunk-format.ts";
import type { PageMap, PageMapRoot } from "../page/page-map.ts";

const SHARED = -1;

export class PageCensus {
  readonly #pageMap: PageMap;
  /** Owner number from 1, or SHARED, by node key. */
  readonly #nodes: Map<string, number> = new Map();
  /** The same by slot, 0 for pages that nobody refers to. */
  readonly #chunks: Map<ChunkHandle, Int32Array> = new Map();

  constructor(pageMap: PageMap) {
    this.#pageMap = pageMap;
  }

  /** Counts a snapshot's pages for an owner, a number from 1. Throws CORRUPT_NODE. */
  add(root: PageMapRoot, owner: number): void {
    const enter = (key: string): boolean => this.#enter(key, owner);
    for (const { key, pages } of this.#pageMap.walk(root, enter)) {
      if (pages === null) continue;
      const mark = this.#nodes.get(key) === SHARED ? SHARED : owner;
      for (const reference of pages) {
        if (reference === null) continue;
        const slots = this.#slotsOf(reference.chunk);
        const before = slots[reference.slot]!;
        slots[reference.slot] = before === 0 || before === mark ? mark : SHARED;
      }
    }
  }

  /** Every chunk that was referred to, with the owner of each of its slots: 0 nobody, -1 several. */
  chunks(): Iterable<[ChunkHandle, Int32Array]> {
    return this.#chunks;
  }

  #enter(key: string, owner: number): boolean {
    const before = this.#nodes.get(key);
    if (before === owner || before === SHARED) return false;
    this.#nodes.set(key, before === undefined ? owner : SHARED);
    return true;
  }

  #slotsOf(chunk: ChunkHandle): Int32Array {
    let slots = this.#chunks.get(chunk);
    if (slots === undefined) this.#chunks.set(chunk, (slots = new Int32Array(CHUNK_SLOTS_MAX)));
    return slots;
  }
}
