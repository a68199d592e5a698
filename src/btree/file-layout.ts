/**
 * What the header of a SQLite file, the first 100 bytes of page 1, says about all of its pages. Big-endian.
 *
 *   16  2  page size, 1 for 65536
 *   20  1  bytes at the end of each page that SQLite leaves alone; the rest is the usable size, at least 480
 *   28  4  size in pages
 *   32  4  first trunk page of the freelist, 0 when there is none
 *   36  4  pages of the freelist, trunks and leaves
 *   40  4  schema cookie
 *   52  4  largest root page when auto_vacuum or incremental_vacuum is on, else 0
 *   56  4  text encoding: 1 UTF-8, 2 UTF-16 little-endian, 3 UTF-16 big-endian
 *
 * Two kinds of pages have fixed places. The page at byte 2^30, on which SQLite puts its file locks, is never used. With
 * auto_vacuum, page 2 and every (usable size / 5 + 1)th page after it are pointer maps; one that would fall on the lock
 * page is the page after it.
 */
export const FILE_HEADER_SIZE = 100;
export const PAGE_COUNT_OFFSET = 28;
export const FREELIST_OFFSET = 32;
export const FREELIST_COUNT_OFFSET = 36;
const PAGE_SIZE_OFFSET = 16;
const RESERVED_OFFSET = 20;
const LARGEST_ROOT_OFFSET = 52;
const ENCODING_OFFSET = 56;
const USABLE_SIZE_MIN = 480;
const LOCK_BYTE = 0x4000_0000;
const POINTER_MAP_ENTRY_SIZE = 5;

export type TextEncoding = "utf-8" | "utf-16le" | "utf-16be";

export interface FileLayout {
  readonly pageSize: number;
  readonly usableSize: number;
  /** Bytes of a payload that stay on the page: all, up to a maximum; of a larger one at least the minimum. */
  readonly tableLocalMax: number;
  readonly indexLocalMax: number;
  readonly localMin: number;
  readonly lockPage: number;
  /** How far pointer-map pages are apart; 0 without auto_vacuum. */
  readonly pointerMapInterval: number;
  /** null until SQLite has chosen one, when it writes the first table. */
  readonly encoding: TextEncoding | null;
}

/** null: not the first page of a database with this page size. */
export function fileLayout(pageOne: Uint8Array, pageSize: number): FileLayout | null {
  if (pageOne.length !== pageSize || pageSize < 512) return null;
  const stored = readUint16(pageOne, PAGE_SIZE_OFFSET);
  if ((stored === 1 ? 65536 : stored) !== pageSize) return null;
  const usableSize = pageSize - pageOne[RESERVED_OFFSET]!;
  if (usableSize < USABLE_SIZE_MIN) return null;
  const isVacuumed = readUint32(pageOne, LARGEST_ROOT_OFFSET) !== 0;
  return {
    pageSize,
    usableSize,
    tableLocalMax: usableSize - 35,
    indexLocalMax: Math.floor(((usableSize - 12) * 64) / 255) - 23,
    localMin: Math.floor(((usableSize - 12) * 32) / 255) - 23,
    lockPage: LOCK_BYTE / pageSize + 1,
    pointerMapInterval: isVacuumed ? Math.floor(usableSize / POINTER_MAP_ENTRY_SIZE) + 1 : 0,
    encoding: encodingOf(readUint32(pageOne, ENCODING_OFFSET)),
  };
}

export function isPointerMap(layout: FileLayout, number: number): boolean {
  const { pointerMapInterval: interval, lockPage } = layout;
  if (interval === 0 || number < 2) return false;
  const place = number - ((number - 2) % interval);
  if (place === lockPage) return number === place + 1;
  return number === place;
}

/** Whether b-trees, overflow chains and the freelist may hold this page. */
export function isAllocatable(layout: FileLayout, number: number): boolean {
  return number >= 1 && number !== layout.lockPage && !isPointerMap(layout, number);
}

export function readUint16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

export function readUint32(bytes: Uint8Array, offset: number): number {
  return (
    ((bytes[offset]! << 24) |
      (bytes[offset + 1]! << 16) |
      (bytes[offset + 2]! << 8) |
      bytes[offset + 3]!) >>>
    0
  );
}

export function writeUint32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}

function encodingOf(stored: number): TextEncoding | null {
  if (stored === 1) return "utf-8";
  if (stored === 2) return "utf-16le";
  return stored === 3 ? "utf-16be" : null;
}
