/**
 * Pointer maps of a database with auto_vacuum: for each page what it is and which page names it, so that SQLite can move
 * it. A pointer-map page describes the pages behind it up to the next one, 5 bytes each, in order (big-endian):
 *
 *   0  1  kind: 1 root, 2 free, 3 first of an overflow chain, 4 another of an overflow chain, 5 any other b-tree page
 *   1  4  the page that names it: 0 for 1 and 2; that of the cell for 3; the one before it for 4; the parent for 5
 *
 * Every transaction that grows the file writes the same pointer-map page, so they are merged entry by entry: the head's
 * pages, changed where the transaction changed its snapshot's, and with the entries of new pages where these have moved to.
 *
 * M1. An entry that both changed, to different values, is a conflict: the same page got two parents. So is an entry that
 *     names a page that is not there.
 * M2. Pointer-map pages do not move. One that the result needs and the head does not have begins empty.
 */
import type { AccessedPages } from "./accessed-pages.ts";
import { isPointerMap, readUint32, writeUint32, type FileLayout } from "./file-layout.ts";

const ENTRY_SIZE = 5;

/** Pointer-map pages, as they are stored: these alone are asked for, and only up to the page count of either. */
export interface StoredPointerMaps {
  snapshot(number: number): Uint8Array;
  head(number: number): Uint8Array;
}

export interface PointerMapMerge {
  readonly layout: FileLayout;
  readonly stored: StoredPointerMaps;
  readonly dirty: ReadonlySet<number>;
  readonly snapshotPageCount: number;
  readonly pageCount: number;
  readonly headPageCount: number;
  /** From the transaction's numbers to those of the result; null: there is no such page. */
  placeOf(number: number): number | null;
}

export type MergedPointerMaps =
  | { readonly refused: null; readonly pages: ReadonlyMap<number, Uint8Array> }
  | { readonly refused: "pointer-map" | "unknown"; readonly numbers: readonly number[] };

/** All pointer-map pages that the transaction wrote or that new pages need, by their numbers in the result. */
export function mergePointerMaps(pages: AccessedPages, merge: PointerMapMerge): MergedPointerMaps {
  const merged = new Map<number, Uint8Array>();
  for (const map of changedMaps(merge)) {
    const ours = pages.page(map);
    if (ours === null) return { refused: "unknown", numbers: [map] };
    if (!mergeEntries(map, ours, merge, merged)) return { refused: "pointer-map", numbers: [map] };
  }
  return { refused: null, pages: merged };
}

/** Those that were written, and those of new pages: SQLite does not write an entry that has its value already. */
function changedMaps({
  layout,
  dirty,
  snapshotPageCount,
  pageCount,
}: PointerMapMerge): Set<number> {
  const maps = new Set<number>();
  for (const number of dirty)
    if (number <= pageCount && isPointerMap(layout, number)) maps.add(number);
  for (let number = snapshotPageCount + 1; number <= pageCount; number++)
    if (number !== layout.lockPage && !isPointerMap(layout, number))
      maps.add(pointerMapOf(layout, number));
  return maps;
}

function mergeEntries(
  map: number,
  ours: Uint8Array,
  merge: PointerMapMerge,
  merged: Map<number, Uint8Array>,
): boolean {
  const { layout, stored, snapshotPageCount, pageCount } = merge;
  const isOld = map <= snapshotPageCount;
  const base = isOld ? stored.snapshot(map) : null;
  const head = isOld ? stored.head(map) : null;
  if (isOld) mergedMap(map, merge, merged);
  for (let number = map + 1; number <= pageCount; number++) {
    if (number === layout.lockPage) continue;
    if (isPointerMap(layout, number)) break;
    const offset = entryOffset(map, number);
    if (base !== null && head !== null && number <= snapshotPageCount) {
      if (isSame(ours, base, offset)) continue;
      if (!isSame(head, base, offset) && !isSame(head, ours, offset)) return false;
    }
    const place = merge.placeOf(number);
    const parent = merge.placeOf(readUint32(ours, offset + 1));
    if (parent === null || place === null) return false;
    const target = pointerMapOf(layout, place);
    const page = mergedMap(target, merge, merged);
    const targetOffset = entryOffset(target, place);
    page[targetOffset] = ours[offset]!;
    writeUint32(page, targetOffset + 1, parent);
  }
  return true;
}

/** The page of the result that is being made. */
function mergedMap(
  map: number,
  { layout, stored, headPageCount }: PointerMapMerge,
  merged: Map<number, Uint8Array>,
): Uint8Array {
  let page = merged.get(map);
  if (page === undefined) {
    page = map > headPageCount ? new Uint8Array(layout.pageSize) : new Uint8Array(stored.head(map));
    merged.set(map, page);
  }
  return page;
}

/** The pointer-map page that describes a page that has an entry. */
function pointerMapOf(layout: FileLayout, number: number): number {
  const map = number - ((number - 2) % layout.pointerMapInterval);
  return map === layout.lockPage ? map + 1 : map;
}

function entryOffset(map: number, number: number): number {
  return (number - map - 1) * ENTRY_SIZE;
}

function isSame(left: Uint8Array, right: Uint8Array, offset: number): boolean {
  for (let at = offset; at < offset + ENTRY_SIZE; at++) if (left[at] !== right[at]) return false;
  return true;
}
