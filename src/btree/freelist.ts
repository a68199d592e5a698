/**
 * The freelist: pages of the file that nothing uses, as page 1 begins it (file-layout.ts). Big-endian.
 *
 *   page 1 --32--> trunk --0--> trunk --0--> ... 0        trunk:  0  4  next trunk, 0 at the end
 *                    |            |                               4  4  leaves
 *                  leaves       leaves                            8     their numbers, 4 bytes each
 *
 * V1. Pages are taken from its front, as SQLite does: leaves, then their trunk. One trunk at most is left changed.
 * V2. Of a list that is damaged, as far as it is walked, nothing is taken.
 */
import { isAllocatable, readUint32, writeUint32, type FileLayout } from "./file-layout.ts";

const TRUNK_NEXT = 0;
const TRUNK_COUNT = 4;
const TRUNK_LEAVES = 8;

export interface Freelist {
  /** The first trunk page; 0 when there are no free pages. */
  readonly trunk: number;
  /** Trunks and leaves. */
  readonly count: number;
}

export interface StoredFreelist extends Freelist {
  readonly layout: FileLayout;
  /** Pages of the file. */
  readonly pageCount: number;
  /** As stored: trunks alone are asked for. */
  page(number: number): Uint8Array;
}

export interface TakenPages {
  /** Ascending. */
  readonly pages: readonly number[];
  /** What is left. */
  readonly freelist: Freelist;
  /** The first trunk of what is left, a copy, when leaves of it were taken. */
  readonly changed: { readonly number: number; readonly page: Uint8Array } | null;
}

/** Up to `count` pages, from what is in front of the trunk `fence`. `stored` is not changed. */
export function takeFreePages(
  stored: StoredFreelist,
  { count, fence }: { readonly count: number; readonly fence: number },
): TakenPages {
  const nothing: TakenPages = { pages: [], freelist: stored, changed: null };
  const taken = new Set<number>();
  let changed: TakenPages["changed"] = null;
  let trunk = stored.trunk;
  while (trunk !== 0 && trunk !== fence && taken.size < count) {
    const leaves = leavesOf(stored, trunk);
    if (leaves === null || taken.has(trunk)) return nothing;
    const page = stored.page(trunk);
    const left = count - taken.size;
    const isWhole = left > leaves.length;
    const first = isWhole ? 0 : leaves.length - left;
    for (let index = first; index < leaves.length; index++) {
      if (taken.has(leaves[index]!) || leaves[index] === trunk) return nothing;
      taken.add(leaves[index]!);
    }
    if (isWhole) {
      taken.add(trunk);
      trunk = readUint32(page, TRUNK_NEXT);
    } else {
      const rest = new Uint8Array(page);
      writeUint32(rest, TRUNK_COUNT, first);
      changed = { number: trunk, page: rest };
    }
  }
  const freelist = { trunk, count: stored.count - taken.size };
  if (taken.has(trunk) || freelist.count < 0 || (freelist.count === 0) !== (trunk === 0))
    return nothing;
  return { pages: [...taken].sort((left, right) => left - right), freelist, changed };
}

/** The trunk that leads to the trunk `target`; null: none does. */
export function trunkBefore(stored: StoredFreelist, target: number): number | null {
  let trunk = stored.trunk;
  for (let left = stored.count; left > 0 && isFree(stored, trunk); left--) {
    const next = readUint32(stored.page(trunk), TRUNK_NEXT);
    if (next === target) return trunk;
    trunk = next;
  }
  return null;
}

/** The trunks from the first on, as `page` gives them; null: one is not there, or there are more than `max`. */
export function trunksOf(
  first: number,
  page: (number: number) => Uint8Array | null,
  max: number,
): [trunk: number, page: Uint8Array][] | null {
  const trunks: [number, Uint8Array][] = [];
  for (let trunk = first; trunk !== 0;) {
    const bytes = trunks.length === max ? null : page(trunk);
    if (bytes === null) return null;
    trunks.push([trunk, bytes]);
    trunk = readUint32(bytes, TRUNK_NEXT);
  }
  return trunks;
}

/** The page with another trunk behind it, a copy. */
export function linkedTrunk(trunk: Uint8Array, next: number): Uint8Array {
  const linked = new Uint8Array(trunk);
  writeUint32(linked, TRUNK_NEXT, next);
  return linked;
}

/** The numbers that a trunk holds, whatever they are. */
export function leafNumbers(trunk: Uint8Array): number[] {
  const count = Math.min(readUint32(trunk, TRUNK_COUNT), (trunk.length - TRUNK_LEAVES) >> 2);
  const leaves: number[] = [];
  for (let index = 0; index < count; index++)
    leaves.push(readUint32(trunk, TRUNK_LEAVES + 4 * index));
  return leaves;
}

/** Null: damaged. */
function leavesOf(stored: StoredFreelist, trunk: number): number[] | null {
  if (!isFree(stored, trunk)) return null;
  const page = stored.page(trunk);
  const count = readUint32(page, TRUNK_COUNT);
  if (count > stored.layout.usableSize / 4 - 2) return null;
  const leaves = leafNumbers(page);
  return leaves.every((leaf) => isFree(stored, leaf)) ? leaves : null;
}

/** Whether a freelist may hold this page. */
function isFree({ layout, pageCount }: StoredFreelist, number: number): boolean {
  return number >= 2 && number <= pageCount && isAllocatable(layout, number);
}
