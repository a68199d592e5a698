/**
 * Moves the new pages of a transaction away from those of others. Two transactions that start from the same snapshot with N
 * pages both number their new pages N + 1, N + 2 ...; the one that commits second gives its new pages numbers that are free
 * in the head, first those that it is given, then those behind the head's last page, and rewrites every pointer to them:
 *
 *   snapshot   1 ... N
 *   head       1 ... N  N+1 ... H                   the others' new pages
 *   ours       1 ... N  N+1 ... M                   before
 *   result     1 ... N  N+1 ... H  H+1 ... H+M-N    after, with no free page; the page at the lock byte is left out
 *
 *   where a number stands                             in
 *   left children, right-most child                   interior pages
 *   first overflow page                               cells of leaves and of index interior pages
 *   next overflow page                                overflow pages, at 0
 *   first trunk                                       page 1, at 32; the size in pages at 28 is set too
 *   next trunk, free leaves                           trunks of the freelist that page 1 begins, at 0 and from 8
 *   parents                                           pointer maps, which stay where they are: see pointer-map.ts
 *
 * N1. Only pages that the transaction wrote name its new pages (classify-pages.ts C4), so only they change.
 * N2. A page is rewritten as what it was classified as. One unknown page, and nothing is renumbered.
 * N3. Nothing is moved that is named from elsewhere: root pages stand in sqlite_schema, and a transaction that made one
 *     changed the schema, so it is refused.
 * N4. The pages given are not changed: what changes is copied.
 */
import type { AccessedPages } from "./accessed-pages.ts";
import { pointerAt, scanBtreePage, PagePointers } from "./btree-page.ts";
import { classifyPages, type PageChanges, type PageKind } from "./classify-pages.ts";
import {
  fileLayout,
  isAllocatable,
  readUint32,
  writeUint32,
  FREELIST_OFFSET,
  PAGE_COUNT_OFFSET,
  type FileLayout,
} from "./file-layout.ts";
import { mergePointerMaps, type StoredPointerMaps } from "./pointer-map.ts";
import { schemaRoots } from "./schema-roots.ts";

export interface RenumberOptions extends PageChanges {
  /** Pages of the head that the transaction is put on top of. */
  readonly headPageCount: number;
  /** Pages of the head that nothing uses, ascending; none with auto_vacuum. */
  readonly freePages?: readonly number[];
  /** Without them, a database with auto_vacuum is refused. */
  readonly pointerMaps?: StoredPointerMaps;
}

export interface RenumberedPages {
  readonly refused: null;
  /**
   * By their numbers in the result: page 1 and dirty pages whose content changed, in copies, and all new pages, those without a
   * change as the arrays that were given. Pointer maps are merged with the head's. Dirty pages of the snapshot that are not in
   * here stay as they are.
   */
  readonly pages: ReadonlyMap<number, Uint8Array>;
  /** From the transaction's numbers to those of the result, for all new pages but pointer maps. */
  readonly moved: ReadonlyMap<number, number>;
  /** Numbers in the result of new free pages that the transaction never wrote: what they hold is of no meaning. */
  readonly unwritten: readonly number[];
  readonly pageCount: number;
  /** The end of the freelist, as numbered in the result; 0: it is empty, or goes on in pages that were not accessed. */
  readonly lastTrunk: number;
}

/**
 * Why it cannot be done. unknown: pages cannot be classified, or are damaged. schema: the transaction made tables or indexes.
 * pointer-map: entries are in conflict, or the pointer maps were not given. shrunk: the transaction or the head has fewer
 * pages than the snapshot, so that VACUUM or auto_vacuum may have moved any page.
 */
export interface RenumberRefusal {
  readonly refused: "unknown" | "schema" | "pointer-map" | "shrunk";
  /** The pages that are in the way; empty when it is not about single pages. */
  readonly numbers: readonly number[];
}

export function renumberPages(
  pages: AccessedPages,
  options: RenumberOptions,
): RenumberedPages | RenumberRefusal {
  const { snapshotPageCount, pageCount, headPageCount, pointerMaps } = options;
  const pageOne = pages.page(1);
  const layout = pageOne === null ? null : fileLayout(pageOne, pages.pageSize);
  if (pageOne === null || layout === null || readUint32(pageOne, PAGE_COUNT_OFFSET) !== pageCount)
    return { refused: "unknown", numbers: [1] };
  if (pageCount < snapshotPageCount || headPageCount < snapshotPageCount)
    return { refused: "shrunk", numbers: [] };
  const schema = options.schema ?? schemaRoots(pages);
  const newRoots = [...schema.roots.keys()].filter((root) => root > snapshotPageCount);
  if (newRoots.length > 0) return { refused: "schema", numbers: newRoots };
  const dirty = new Set<number>();
  for (const number of options.dirty) if (number <= pageCount) dirty.add(number);
  const { roles, unknown } = classifyPages(pages, { ...options, schema, dirty });
  if (unknown.length > 0) return { refused: "unknown", numbers: unknown };
  const places = new NewPlaces(layout, options);
  const renumbering = new Renumbering(pages, layout, places);
  if (layout.pointerMapInterval > 0) {
    if (pointerMaps === undefined) return { refused: "pointer-map", numbers: [] };
    const placeOf = (number: number): number | null => places.ofAny(number);
    const stored = pointerMaps;
    const merged = mergePointerMaps(pages, { ...options, layout, stored, dirty, placeOf });
    if (merged.refused !== null) return merged;
    for (const [number, page] of merged.pages) renumbering.result.set(number, page);
  }
  for (const number of dirty) renumbering.rewrite(number, roles.get(number)!.kind);
  renumbering.rewriteFileHeader(pageOne);
  const { moved, resultPageCount } = places;
  return {
    refused: null,
    pages: renumbering.result,
    moved,
    unwritten: [...moved.values()].filter((number) => !renumbering.result.has(number)),
    pageCount: resultPageCount,
    lastTrunk: lastTrunk(pages, pageOne, places),
  };
}

class NewPlaces {
  readonly moved = new Map<number, number>();
  readonly snapshotPageCount: number;
  readonly resultPageCount: number;

  constructor(layout: FileLayout, options: RenumberOptions) {
    this.snapshotPageCount = options.snapshotPageCount;
    const { freePages = [] } = options;
    let place = options.headPageCount;
    for (let number = this.snapshotPageCount + 1; number <= options.pageCount; number++) {
      if (!isAllocatable(layout, number)) continue;
      const free = freePages[this.moved.size];
      if (free !== undefined) {
        this.moved.set(number, free);
        continue;
      }
      do place++;
      while (!isAllocatable(layout, place));
      this.moved.set(number, place);
    }
    this.resultPageCount = place;
  }

  /** Of a page that the classification has found, so that it is there. */
  of(number: number): number {
    return this.ofAny(number)!;
  }

  /** null: there is no such page. */
  ofAny(number: number): number | null {
    return number <= this.snapshotPageCount ? number : (this.moved.get(number) ?? null);
  }
}

/** The classification has found the chain in order, as far as it was accessed. */
function lastTrunk(pages: AccessedPages, pageOne: Uint8Array, places: NewPlaces): number {
  let last = 0;
  for (let trunk = readUint32(pageOne, FREELIST_OFFSET); trunk !== 0;) {
    const page = pages.page(trunk);
    if (page === null) return 0;
    last = trunk;
    trunk = readUint32(page, 0);
  }
  return places.of(last);
}

class Renumbering {
  readonly result = new Map<number, Uint8Array>();
  readonly #pages: AccessedPages;
  readonly #layout: FileLayout;
  readonly #places: NewPlaces;
  readonly #pointers: PagePointers;

  constructor(pages: AccessedPages, layout: FileLayout, places: NewPlaces) {
    this.#pages = pages;
    this.#layout = layout;
    this.#places = places;
    this.#pointers = new PagePointers(layout);
  }

  rewrite(number: number, kind: PageKind): void {
    const page = this.#pages.page(number);
    if (page === null || kind === "pointer-map") return;
    const rewritten = this.#rewritten(number, page, kind);
    if (rewritten !== page || number > this.#places.snapshotPageCount)
      this.result.set(this.#places.of(number), rewritten);
  }

  rewriteFileHeader(pageOne: Uint8Array): void {
    const page = this.result.get(1) ?? new Uint8Array(pageOne);
    writeUint32(page, PAGE_COUNT_OFFSET, this.#places.resultPageCount);
    const trunk = readUint32(pageOne, FREELIST_OFFSET);
    writeUint32(page, FREELIST_OFFSET, this.#places.of(trunk));
    this.result.set(1, page);
  }

  #rewritten(number: number, page: Uint8Array, kind: PageKind): Uint8Array {
    switch (kind) {
      case "table-interior":
      case "table-leaf":
      case "index-interior":
      case "index-leaf":
        return this.#btreePage(number, page);
      case "overflow":
        return this.#withMoved(page, page, 0);
      case "free-trunk":
        return this.#trunk(page);
      case "free-leaf":
      case "pointer-map":
      case "lock":
        return page;
    }
  }

  #btreePage(number: number, page: Uint8Array): Uint8Array {
    const pointers = this.#pointers;
    scanBtreePage(this.#layout, { page, number, pointers });
    let copy = page;
    for (let index = 0; index < pointers.count; index++)
      if (pointerAt(page, pointers, index) > this.#places.snapshotPageCount)
        copy = this.#withMoved(copy, page, pointers.offsets[index]!);
    return copy;
  }

  #trunk(page: Uint8Array): Uint8Array {
    const end = 8 + 4 * readUint32(page, 4);
    let copy = this.#withMoved(page, page, 0);
    for (let offset = 8; offset < end; offset += 4) copy = this.#withMoved(copy, page, offset);
    return copy;
  }

  /** `copy` with the number at `offset` moved: a new copy while it still is `original`. */
  #withMoved(copy: Uint8Array, original: Uint8Array, offset: number): Uint8Array {
    const number = readUint32(original, offset);
    if (number <= this.#places.snapshotPageCount) return copy;
    const target = copy === original ? new Uint8Array(original) : copy;
    writeUint32(target, offset, this.#places.of(number));
    return target;
  }
}
