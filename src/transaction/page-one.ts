/**
 * Page 1 of a database when two transactions that started on the same snapshot have both written it. Every writer changes it, so
 * it is compared field by field, at the offsets of SQLite's database header:
 *
 *   16  size of a page, 1 for 65,536                                never changes
 *   24  change counter, 92 version-valid-for, 96 SQLite's version   of no meaning to others: set anew
 *   28  size of the database in pages                               added up: new pages are moved behind the other's
 *   32  first page of the freelist, 36 pages in it                  as given: see merge-freelists.ts
 *   all else (schema cookie, settings, the root of sqlite_schema)   a change conflicts with every other transaction
 */
import type { Freelist } from "../btree/freelist.ts";

const PAGE_SIZE = 16;
const CHANGE_COUNTER = 24;
const PAGE_COUNT = 28;
const FREELIST = 32;
const FREELIST_COUNT = 36;
const SETTINGS = 40;
const VERSION_VALID_FOR = 92;
const CONTENT = 100;

export interface PageOneStates {
  /** What the transaction started from, as it was stored. */
  readonly base: Uint8Array;
  /** What the transaction wrote, its page numbers moved already. */
  readonly ours: Uint8Array;
  /** The head. */
  readonly theirs: Uint8Array;
  /** The pages of the result. */
  readonly pageCount: number;
  readonly freelist: Freelist;
}

/** In bytes. */
export function pageSizeOf(pageOne: Uint8Array): number {
  const stored = viewOf(pageOne).getUint16(PAGE_SIZE);
  return stored === 1 ? 65_536 : stored;
}

export function freelistOf(pageOne: Uint8Array): Freelist {
  const view = viewOf(pageOne);
  return { trunk: view.getUint32(FREELIST), count: view.getUint32(FREELIST_COUNT) };
}

/** Writes an empty freelist into the bytes of page 1 that begin at `at`. */
export function hideFreelist(bytes: Uint8Array, at: number): void {
  bytes.fill(0, at + FREELIST, at + FREELIST + 8);
}

/** Whether anything changed that no other transaction may have missed: the schema or a setting. */
export function changesSchema(before: Uint8Array, after: Uint8Array): boolean {
  return (
    !equal(before, after, 0, CHANGE_COUNTER) ||
    !equal(before, after, SETTINGS, VERSION_VALID_FOR) ||
    !equal(before, after, CONTENT, before.length)
  );
}

/**
 * The page that is to be stored on top of `theirs`; null: the schema is in conflict. `theirs` may be `base` itself: nobody else
 * has committed.
 */
export function mergePageOne(states: PageOneStates): Uint8Array | null {
  const { base, ours, theirs, pageCount, freelist } = states;
  const isMoved = theirs !== base;
  if (isMoved && (changesSchema(base, theirs) || changesSchema(base, ours))) return null;
  const page = new Uint8Array(ours);
  const view = viewOf(page);
  view.setUint32(FREELIST, freelist.trunk);
  view.setUint32(FREELIST_COUNT, freelist.count);
  const counter = (viewOf(theirs).getUint32(CHANGE_COUNTER) + 1) >>> 0;
  view.setUint32(CHANGE_COUNTER, counter);
  view.setUint32(VERSION_VALID_FOR, counter);
  view.setUint32(PAGE_COUNT, pageCount);
  return page;
}

/** Of two arrays of bytes, with ranges in both. */
const compareBytes: typeof Buffer.prototype.compare = Buffer.prototype.compare;

function equal(left: Uint8Array, right: Uint8Array, start: number, end: number): boolean {
  return compareBytes.call(left, right, start, end, start, end) === 0;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
