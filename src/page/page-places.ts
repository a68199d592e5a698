/**
 * Where many pages are in chunks, compactly: a large transaction's pages before they are in a page map, and what a checkpoint
 * puts into one. A page takes 8 bytes instead of a map entry with an object.
 *
 *   leaf index (page - 1) / 64  ->  64 numbers: 0 = no place, else 1 + slot + 64 * index in the table of chunks
 *
 * J1. Leaves are those of the page map, so that an update takes them over one by one, in order, without sorting pages.
 * J2. A leaf without places does not exist.
 * J3. The table names each chunk once; it may name chunks that no page refers to any more.
 */
import { CHUNK_SLOTS_MAX } from "./chunk-format.ts";
import type { ChunkHandle, ChunkReference } from "./chunk-handle.ts";
import { type LeafPages, NODE_FANOUT } from "./page-map-node.ts";
import type { PageMapChanges } from "./page-map-update.ts";

/** About what a leaf takes in memory. */
const LEAF_BYTES = 600;

export class PagePlaces implements PageMapChanges {
  readonly #leaves: Map<number, number[]> = new Map();
  readonly #chunks: ChunkHandle[] = [];
  readonly #chunkIndexes: Map<ChunkHandle, number> = new Map();
  #size = 0;

  /** Pages that have a place. */
  get size(): number {
    return this.#size;
  }

  /** An estimate. */
  get memoryBytes(): number {
    return this.#leaves.size * LEAF_BYTES;
  }

  /** Replaces the place that the page had. */
  set(page: number, { chunk, slot }: ChunkReference): void {
    if (!(page >= 1) || !(slot >= 0 && slot < CHUNK_SLOTS_MAX))
      throw new RangeError(`Cannot place page ${page}: slot ${slot}`);
    const index = leafIndexOf(page);
    let leaf = this.#leaves.get(index);
    if (leaf === undefined) this.#leaves.set(index, (leaf = Array(NODE_FANOUT).fill(0)));
    let chunkIndex = this.#chunkIndexes.get(chunk);
    if (chunkIndex === undefined) {
      chunkIndex = this.#chunks.push(chunk) - 1;
      this.#chunkIndexes.set(chunk, chunkIndex);
    }
    const at = (page - 1) % NODE_FANOUT;
    if (leaf[at] === 0) this.#size++;
    leaf[at] = 1 + slot + chunkIndex * CHUNK_SLOTS_MAX;
  }

  /** A new object each time. */
  get(page: number): ChunkReference | undefined {
    const place = this.#placeOf(page);
    return place === 0 ? undefined : this.#reference(place);
  }

  has(page: number): boolean {
    return this.#placeOf(page) !== 0;
  }

  delete(page: number): void {
    if (this.#placeOf(page) === 0) return;
    const index = leafIndexOf(page);
    const leaf = this.#leaves.get(index)!;
    leaf[(page - 1) % NODE_FANOUT] = 0;
    this.#size--;
    if (leaf.every((place) => place === 0)) this.#leaves.delete(index); // J2
  }

  /** Forgets the pages past the page count. */
  truncate(pageCount: number): void {
    for (const index of this.#leaves.keys()) {
      const first = index * NODE_FANOUT + 1;
      if (first + NODE_FANOUT - 1 <= pageCount) continue;
      for (let page = Math.max(first, pageCount + 1); page < first + NODE_FANOUT; page++)
        this.delete(page);
    }
  }

  clear(): void {
    this.#leaves.clear();
    this.#chunks.length = 0;
    this.#chunkIndexes.clear();
    this.#size = 0;
  }

  /** Ascending by page. Pages may be set, deleted and cleared meanwhile: what stays all the time is not missed. */
  *entries(): Generator<[page: number, reference: ChunkReference], void, undefined> {
    for (const index of this.leafIndexes()) {
      const leaf = this.#leaves.get(index);
      if (leaf === undefined) continue;
      const entries: [number, ChunkReference][] = [];
      for (let at = 0; at < NODE_FANOUT; at++)
        if (leaf[at] !== 0)
          entries.push([index * NODE_FANOUT + at + 1, this.#reference(leaf[at]!)]);
      yield* entries;
    }
  }

  /** Ascending. */
  pages(): Float64Array {
    const pages = new Float64Array(this.#size);
    let count = 0;
    for (const index of this.leafIndexes()) {
      const leaf = this.#leaves.get(index)!;
      for (let at = 0; at < NODE_FANOUT; at++)
        if (leaf[at] !== 0) pages[count++] = index * NODE_FANOUT + at + 1;
    }
    return pages;
  }

  /** Ascending. */
  leafIndexes(): Float64Array {
    const indexes = new Float64Array(this.#leaves.size);
    let count = 0;
    for (const index of this.#leaves.keys()) indexes[count++] = index;
    return indexes.sort();
  }

  applyTo(leafIndex: number, pages: LeafPages): void {
    const leaf = this.#leaves.get(leafIndex);
    if (leaf === undefined) return;
    for (let at = 0; at < NODE_FANOUT; at++)
      if (leaf[at] !== 0) pages[at] = this.#reference(leaf[at]!);
  }

  /** 0 when the page has none. */
  #placeOf(page: number): number {
    return this.#leaves.get(leafIndexOf(page))?.[(page - 1) % NODE_FANOUT] ?? 0;
  }

  #reference(place: number): ChunkReference {
    const slot = (place - 1) % CHUNK_SLOTS_MAX;
    return { chunk: this.#chunks[(place - 1 - slot) / CHUNK_SLOTS_MAX]!, slot };
  }
}

function leafIndexOf(page: number): number {
  return Math.floor((page - 1) / NODE_FANOUT);
}
