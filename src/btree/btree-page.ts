/**
 * A page of a b-tree of SQLite, and where in it the numbers of other pages stand. Big-endian. The header is at offset 100 on
 * page 1, behind the file's header, else at 0:
 *
 *   0   1  kind: 2 index interior, 5 table interior, 10 index leaf, 13 table leaf
 *   1   2  first freeblock, 0 when there is none
 *   3   2  cells
 *   5   2  start of the cell content area, 0 for 65536
 *   7   1  fragmented free bytes within the cell content area
 *   8   4  right-most child; interior pages only
 *   then   for each cell its offset in the page, 2 bytes; free space; the cell content area, to the usable size
 *
 *   cell              child  payload size  key     payload  first overflow page
 *   table interior    4      -             varint  -        -
 *   table leaf        -      varint        varint  local    4, if the payload is not all local
 *   index interior    4      varint        -       local    4, if the payload is not all local
 *   index leaf        -      varint        -       local    4, if the payload is not all local
 *
 *   freeblock: 2 next one, 0 at the end; 2 size. In ascending order, at least 4 bytes apart.
 *
 * P1. No byte outside of the page is read, whatever the page holds.
 * P2. A page is scanned only if its cells, freeblocks and fragments add up to the whole cell content area: otherwise a
 *     damaged cell offset could make any four bytes a page number.
 */
import { readUint16, readUint32, FILE_HEADER_SIZE, type FileLayout } from "./file-layout.ts";

export type BtreePageKind = "table-interior" | "table-leaf" | "index-interior" | "index-leaf";

const KINDS: readonly (BtreePageKind | null)[] = Array.from({ length: 14 }, (_, kind) => {
  if (kind === 2) return "index-interior";
  if (kind === 5) return "table-interior";
  if (kind === 10) return "index-leaf";
  return kind === 13 ? "table-leaf" : null;
});
const CELL_SIZE_MIN = 4;
const PAYLOAD_SIZE_MAX = 0x7fff_ffff;

/** The page numbers that one page holds, from the last scan: reused from page to page. */
export class PagePointers {
  count = 0;
  /** Where in the page each stands. */
  readonly offsets: Int32Array;
  /** The pages of the overflow chain that it begins; 0 for a child. */
  readonly chainLengths: Int32Array;

  /** A cell of 4 bytes and its offset take 6, one with an overflow page has two numbers and at least 35 bytes. */
  constructor(layout: FileLayout) {
    const capacity = layout.usableSize >> 2;
    this.offsets = new Int32Array(capacity);
    this.chainLengths = new Int32Array(capacity);
  }

  add(offset: number, chainLength: number): void {
    this.offsets[this.count] = offset;
    this.chainLengths[this.count++] = chainLength;
  }
}

export function btreeHeaderOffset(number: number): number {
  return number === 1 ? FILE_HEADER_SIZE : 0;
}

/** What the page says that it is; null when that is nothing. */
export function btreePageKind(page: Uint8Array, number: number): BtreePageKind | null {
  return KINDS[page[btreeHeaderOffset(number)]!] ?? null;
}

/** Puts the page numbers into `pointers`; false when the page is damaged, and then they are of no meaning. */
export function scanBtreePage(
  layout: FileLayout,
  { page, number, pointers }: { page: Uint8Array; number: number; pointers: PagePointers },
): boolean {
  pointers.count = 0;
  const header = btreeHeaderOffset(number);
  const kind = page[header]!;
  if (kind !== 2 && kind !== 5 && kind !== 10 && kind !== 13) return false;
  const isLeaf = kind >= 10;
  const { usableSize } = layout;
  const cellCount = readUint16(page, header + 3);
  const cellOffsets = header + (isLeaf ? 8 : 12);
  const contentStart = readUint16(page, header + 5) || 65536;
  if (contentStart > usableSize || cellOffsets + 2 * cellCount > contentStart) return false;
  let used = page[header + 7]!;
  for (let index = 0; index < cellCount; index++) {
    const cell = readUint16(page, cellOffsets + 2 * index);
    if (cell < contentStart || cell + CELL_SIZE_MIN > usableSize) return false;
    const size =
      kind === 5
        ? tableInteriorCell(layout, page, cell, pointers)
        : payloadCell(layout, page, cell, pointers, kind);
    if (size < 0 || cell + size > usableSize) return false;
    used += size;
  }
  if (!isLeaf) pointers.add(header + 8, 0);
  const freed = freeblockBytes(page, header, contentStart, usableSize);
  return freed >= 0 && used + freed === usableSize - contentStart;
}

/** The size of the cell; -1 when it does not fit. */
function tableInteriorCell(
  layout: FileLayout,
  page: Uint8Array,
  cell: number,
  pointers: PagePointers,
): number {
  const end = varintEnd(page, cell + 4, layout.usableSize);
  if (end < 0) return -1;
  pointers.add(cell, 0);
  return end - cell;
}

function payloadCell(
  layout: FileLayout,
  page: Uint8Array,
  cell: number,
  pointers: PagePointers,
  kind: number,
): number {
  const { usableSize } = layout;
  let at = kind === 2 ? cell + 4 : cell;
  const sizeEnd = varintEnd(page, at, usableSize);
  if (sizeEnd < 0) return -1;
  const payload = readVarint(page, at, sizeEnd);
  if (payload > PAYLOAD_SIZE_MAX) return -1;
  at = sizeEnd;
  if (kind === 13) {
    at = varintEnd(page, at, usableSize);
    if (at < 0) return -1;
  }
  if (kind === 2) pointers.add(cell, 0);
  const local = localPayload(layout, payload, kind === 13);
  at += local;
  if (local < payload) {
    if (at + 4 > usableSize) return -1;
    pointers.add(at, Math.ceil((payload - local) / (usableSize - 4)));
    at += 4;
  }
  return Math.max(at - cell, CELL_SIZE_MIN);
}

/** How many bytes of a payload are on its page; the others are in its overflow chain. */
export function localPayload(layout: FileLayout, payload: number, isTable: boolean): number {
  const max = isTable ? layout.tableLocalMax : layout.indexLocalMax;
  if (payload <= max) return payload;
  const { localMin, usableSize } = layout;
  const local = localMin + ((payload - localMin) % (usableSize - 4));
  return local <= max ? local : localMin;
}

/** -1: they are not a list in ascending order within the cell content area. */
function freeblockBytes(page: Uint8Array, header: number, start: number, end: number): number {
  let bytes = 0;
  let lowest = start;
  for (let at = readUint16(page, header + 1); at !== 0; at = readUint16(page, at)) {
    if (at < lowest || at + 4 > end) return -1;
    const size = readUint16(page, at + 2);
    if (size < 4 || at + size > end) return -1;
    bytes += size;
    lowest = at + size + 4;
  }
  return bytes;
}

/** Where the varint at `at` ends: 9 bytes at most, all eight bits of the ninth count. -1: not before `limit`. */
export function varintEnd(bytes: Uint8Array, at: number, limit: number): number {
  const last = Math.min(at + 8, limit - 1);
  for (let end = at; end <= last; end++) if (bytes[end]! < 0x80 || end === at + 8) return end + 1;
  return -1;
}

/** Exact up to 2^53, which is far beyond what a payload may be. */
export function readVarint(bytes: Uint8Array, start: number, end: number): number {
  let value = bytes[start]! & 0x7f;
  for (let at = start + 1; at < end; at++)
    value = at === start + 8 ? value * 256 + bytes[at]! : value * 128 + (bytes[at]! & 0x7f);
  return value;
}

/** The page number at an offset that a scan gave. */
export function pointerAt(page: Uint8Array, pointers: PagePointers, index: number): number {
  return readUint32(page, pointers.offsets[index]!);
}
