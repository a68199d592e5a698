/**
 * What a scan will read next, asked for before SQLite does: when a page of a b-tree is missing, its parent says which pages
 * follow it. Only misses cost anything; reads of pages that are here only note which of them are interior pages.
 *
 *   interior page, big-endian, from offset 0 (page 1: 100)
 *   offset size  field
 *        0    1  kind: 2 index, 5 table; others are leaves
 *        3    2  number of cells n
 *        8    4  right-most child
 *       12   2n  offsets of the cells, in order of keys, from the start of the page; a cell begins with its left child
 *
 * D1. The first miss below a parent asks for nothing more: most queries read one leaf. A miss that goes on where the last one
 *     ended (forwards or backwards, with nothing skipped that is not here or on its way) asks for 2 chunks more, the next for
 *     4, up to PREFETCH_CHUNKS_MAX. A scan takes its pace along to the next parent.
 * D2. Nothing here waits, and nothing here fails a read: what cannot be found out at once is left.
 */
import type { ChunkReference } from "../page/chunk-handle.ts";
import { NotLocalError } from "../storage/not-local.ts";
import type { Snapshot } from "./snapshot.ts";

const INTERIOR_INDEX = 2;
const INTERIOR_TABLE = 5;
const DATABASE_HEADER_SIZE = 100;
const PREFETCH_CHUNKS_MAX = 16;
/** Interior pages that are remembered, by number. */
const REMEMBERED_MAX = 64;

interface Scan {
  readonly parent: number;
  /** Which child was missing last. */
  readonly index: number;
  /** Chunks asked for at the last miss; 0: there was one miss so far. */
  readonly chunks: number;
  /** Keys of the chunks below this parent that were asked for, or missing. */
  readonly asked: Set<string>;
}

/** A missing page among the children of its parent. */
interface Miss {
  readonly parent: number;
  readonly children: readonly number[];
  readonly index: number;
}

export class ChildPrefetch {
  /** In order of reading; the newest last. */
  readonly #interior: Set<number> = new Set();
  #scan: Scan | null = null;

  /** SQLite has read a page. */
  noteRead(page: number, bytes: Uint8Array): void {
    const kind = bytes[page === 1 ? DATABASE_HEADER_SIZE : 0];
    if (kind !== INTERIOR_INDEX && kind !== INTERIOR_TABLE) return;
    this.#interior.delete(page);
    this.#interior.add(page);
    if (this.#interior.size <= REMEMBERED_MAX) return;
    for (const oldest of this.#interior) {
      this.#interior.delete(oldest);
      return;
    }
  }

  /** A page is missing: asks the store for what will probably follow. */
  noteMiss(page: number, snapshot: Snapshot): void {
    const { prefetch } = snapshot.view.context;
    if (prefetch === undefined) return;
    const miss = this.#find(page, snapshot);
    const own = miss === null ? null : chunkOf(snapshot, page);
    if (miss === null || own === null || own === undefined) return;
    const references = this.#goOn(miss, own, snapshot);
    if (references.length > 0) prefetch(references);
  }

  #find(page: number, snapshot: Snapshot): Miss | null {
    for (const parent of [...this.#interior].reverse()) {
      const bytes = snapshot.view.cachedPage(parent, snapshot.version);
      const children = bytes === null ? [] : childrenOf(bytes, parent);
      const index = children.indexOf(page);
      if (index >= 0) return { parent, children, index };
    }
    return null;
  }

  /** The chunks to ask for (D1). */
  #goOn(miss: Miss, own: ChunkReference, snapshot: Snapshot): ChunkReference[] {
    const { parent, children, index } = miss;
    const last = this.#scan;
    const goesOn = last !== null && isNext(last, miss, snapshot);
    const chunks = goesOn ? Math.min(PREFETCH_CHUNKS_MAX, Math.max(2, last.chunks * 2)) : 0;
    const asked = goesOn && last.parent === parent ? last.asked : new Set<string>();
    asked.add(own.chunk.key);
    this.#scan = { parent, index, chunks, asked };
    const isBackwards = last?.parent === parent ? index < last.index : index > 0;
    const step = isBackwards ? -1 : 1;
    const references: ChunkReference[] = [];
    for (let at = index + step; references.length < chunks; at += step) {
      const child = children[at];
      const reference = child === undefined ? undefined : chunkOf(snapshot, child);
      if (reference === undefined) break;
      if (reference === null || asked.has(reference.chunk.key)) continue;
      asked.add(reference.chunk.key);
      if (reference.chunk.cached === null) references.push(reference);
    }
    return references;
  }
}

/** Whether a scan that missed a page before has come to this one. */
function isNext({ parent, index, chunks, asked }: Scan, miss: Miss, snapshot: Snapshot): boolean {
  const { children } = miss;
  if (parent !== miss.parent)
    return chunks > 0 && (miss.index === 0 || miss.index === children.length - 1);
  const first = Math.min(index, miss.index) + 1;
  const end = Math.max(index, miss.index);
  return children.slice(first, end).every((page) => {
    const reference = chunkOf(snapshot, page);
    if (reference === null || reference === undefined) return reference === null;
    return asked.has(reference.chunk.key) || reference.chunk.cached !== null;
  });
}

/** Where the page is; null: in memory, not in a chunk; undefined: that would have to be fetched, which is begun. */
function chunkOf({ view, version }: Snapshot, page: number): ChunkReference | null | undefined {
  try {
    return view.chunkOf(page, version);
  } catch (error) {
    if (error instanceof NotLocalError) error.pending.fetch().catch(() => undefined);
    return undefined;
  }
}

/** Empty for a page that is no interior page, or is damaged: SQLite says so when it reads it. */
function childrenOf(bytes: Uint8Array, page: number): number[] {
  const header = page === 1 ? DATABASE_HEADER_SIZE : 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = view.getUint8(header);
  const count = view.getUint16(header + 3);
  const isInterior = kind === INTERIOR_INDEX || kind === INTERIOR_TABLE;
  if (!isInterior || header + 12 + 2 * count > bytes.length) return [];
  const children: number[] = [];
  for (let cell = 0; cell < count; cell++) {
    const offset = view.getUint16(header + 12 + 2 * cell);
    if (offset + 4 > bytes.length) return [];
    children.push(view.getUint32(offset));
  }
  children.push(view.getUint32(header + 8));
  return children;
}
