/**
 * The b-trees that sqlite_schema names, read from its pages: the table b-tree with root page 1. One record per table, index,
 * view or trigger. A record:
 *
 *   varint     size of the header, this varint included
 *   varint *   serial type of each column: 0 NULL; 1 to 6 integers of 1, 2, 3, 4, 6, 8 bytes; 7 a float; 8 and 9 the integers
 *              0 and 1; n >= 12 a blob (even) or text (odd) of (n - 12) >> 1 bytes
 *   the columns: type, name, table, root page (0 or NULL: none), sql
 *
 * R1. What was not accessed is not guessed: `isComplete` is false then, and what is in `roots` is exact.
 * R2. No two objects share a root, and none has one outside of the file. A record that breaks this or cannot be read is
 *     not in `roots`, and its page is in `damaged`.
 */
import {
  btreeHeaderOffset,
  btreePageKind,
  localPayload,
  pointerAt,
  readVarint,
  scanBtreePage,
  varintEnd,
  PagePointers,
} from "./btree-page.ts";
import type { AccessedPages } from "./accessed-pages.ts";
import {
  fileLayout,
  isAllocatable,
  readUint16,
  readUint32,
  PAGE_COUNT_OFFSET,
  type FileLayout,
} from "./file-layout.ts";

const COLUMNS_NEEDED = 4;
/** Holds the record header of all but the strangest schemas. */
const FIRST_PREFIX = 64;

export interface SchemaObject {
  readonly name: string;
  /** The table that an index belongs to; the table itself. */
  readonly table: string;
  readonly type: "table" | "index";
}

export interface SchemaRoots {
  /** By root page; 1 is sqlite_schema itself. */
  readonly roots: ReadonlyMap<number, SchemaObject>;
  readonly isComplete: boolean;
  readonly damaged: readonly number[];
}

/** Unreadable: not a record. Absent: in a page that was not accessed. */
type Part<T> = T | "unreadable" | "absent";

interface SchemaRow {
  readonly type: string;
  readonly name: string;
  readonly table: string;
  readonly root: number;
}

export function schemaRoots(pages: AccessedPages): SchemaRoots {
  const pageOne = pages.page(1);
  if (pageOne === null) return { roots: new Map(), isComplete: false, damaged: [] };
  const layout = fileLayout(pageOne, pages.pageSize);
  if (layout === null) return { roots: new Map(), isComplete: false, damaged: [1] };
  return new SchemaWalk(pages, layout, readUint32(pageOne, PAGE_COUNT_OFFSET)).run();
}

class SchemaWalk {
  readonly #pages: AccessedPages;
  readonly #layout: FileLayout;
  readonly #pageCount: number;
  readonly #pointers: PagePointers;
  readonly #roots = new Map<number, SchemaObject>();
  readonly #damaged = new Set<number>();
  readonly #visited = new Set<number>();
  #isComplete = true;

  constructor(pages: AccessedPages, layout: FileLayout, pageCount: number) {
    this.#pages = pages;
    this.#layout = layout;
    this.#pageCount = pageCount;
    this.#pointers = new PagePointers(layout);
  }

  run(): SchemaRoots {
    this.#roots.set(1, { name: "sqlite_schema", table: "sqlite_schema", type: "table" });
    const open = [1];
    for (let number = open.pop(); number !== undefined; number = open.pop()) {
      const page = this.#pages.page(number);
      if (page === null) this.#isComplete = false;
      else if (!this.#readPage(number, page, open)) this.#damaged.add(number);
    }
    return {
      roots: this.#roots,
      isComplete: this.#isComplete && this.#damaged.size === 0,
      damaged: [...this.#damaged],
    };
  }

  #readPage(number: number, page: Uint8Array, open: number[]): boolean {
    const pointers = this.#pointers;
    if (this.#visited.has(number)) return false;
    this.#visited.add(number);
    const kind = btreePageKind(page, number);
    if (kind !== "table-interior" && kind !== "table-leaf") return false;
    if (!scanBtreePage(this.#layout, { page, number, pointers })) return false;
    if (kind === "table-leaf") return this.#readLeaf(number, page);
    for (let index = 0; index < pointers.count; index++) {
      const child = pointerAt(page, pointers, index);
      if (!this.#isInFile(child)) return false;
      open.push(child);
    }
    return true;
  }

  #readLeaf(number: number, page: Uint8Array): boolean {
    const header = btreeHeaderOffset(number);
    let isReadable = true;
    for (let index = readUint16(page, header + 3) - 1; index >= 0; index--) {
      const row = this.#readRow(page, readUint16(page, header + 8 + 2 * index));
      if (row === "absent") this.#isComplete = false;
      else if (row === "unreadable" || !this.#addRow(row)) isReadable = false;
    }
    return isReadable;
  }

  #addRow({ type, name, table, root }: SchemaRow): boolean {
    if (type === "view" || type === "trigger") return root === 0;
    if (type !== "table" && type !== "index") return false;
    if (root === 0) return type === "table";
    if (root < 2 || !this.#isInFile(root) || this.#roots.has(root)) return false;
    this.#roots.set(root, { name, table, type });
    return true;
  }

  #isInFile(number: number): boolean {
    return number <= this.#pageCount && isAllocatable(this.#layout, number);
  }

  #readRow(page: Uint8Array, cell: number): Part<SchemaRow> {
    const { usableSize } = this.#layout;
    const sizeEnd = varintEnd(page, cell, usableSize);
    const size = readVarint(page, cell, sizeEnd);
    const start = varintEnd(page, sizeEnd, usableSize);
    const payload = { page, start, size };
    let record = this.#readPayload(payload, FIRST_PREFIX);
    if (typeof record === "string") return record;
    const headerEnd = varintEnd(record, 0, record.length);
    if (headerEnd < 0) return "unreadable";
    const headerSize = readVarint(record, 0, headerEnd);
    if (headerSize > size) return "unreadable";
    if (headerSize > record.length) record = this.#readPayload(payload, headerSize);
    if (typeof record === "string") return record;
    const columns = columnsOf(record, headerEnd, headerSize);
    if (columns === null) return "unreadable";
    const end = columns.at(-1)!.end;
    if (end > size) return "unreadable";
    if (end > record.length) record = this.#readPayload(payload, end);
    return typeof record === "string" ? record : rowOf(record, columns, this.#layout);
  }

  /** The payload, or at least its first `wanted` bytes. */
  #readPayload(
    { page, start, size }: { page: Uint8Array; start: number; size: number },
    wanted: number,
  ): Part<Uint8Array> {
    const { usableSize } = this.#layout;
    const local = localPayload(this.#layout, size, true);
    if (local >= Math.min(size, wanted)) return page.subarray(start, start + local);
    const length = Math.min(size, wanted);
    const joined = [page.subarray(start, start + local)];
    let next = readUint32(page, start + local);
    for (let have = local; have < length; have += usableSize - 4) {
      if (!this.#isInFile(next)) return "unreadable";
      const overflow = this.#pages.page(next);
      if (overflow === null) return "absent";
      joined.push(overflow.subarray(4, usableSize));
      next = readUint32(overflow, 0);
    }
    return Buffer.concat(joined).subarray(0, size);
  }
}

interface Column {
  readonly serialType: number;
  readonly start: number;
  readonly end: number;
}

/** Where the columns are that are needed; null when the header does not say so. */
function columnsOf(record: Uint8Array, headerEnd: number, headerSize: number): Column[] | null {
  const columns: Column[] = [];
  let start = headerSize;
  for (let at = headerEnd; columns.length < COLUMNS_NEEDED;) {
    const next = varintEnd(record, at, headerSize);
    if (next < 0) return null;
    const serialType = readVarint(record, at, next);
    const end = start + columnSize(serialType);
    columns.push({ serialType, start, end });
    start = end;
    at = next;
  }
  return columns;
}

function columnSize(serialType: number): number {
  if (serialType >= 12) return Math.floor((serialType - 12) / 2);
  return [0, 1, 2, 3, 4, 6, 8, 8, 0, 0, Infinity, Infinity][serialType]!;
}

function rowOf(record: Uint8Array, columns: Column[], layout: FileLayout): Part<SchemaRow> {
  const [type, name, table, root] = columns;
  const texts = [type!, name!, table!].map((column) => textOf(record, column, layout));
  const rootPage = integerOf(record, root!);
  if (texts.includes(null) || rootPage === null) return "unreadable";
  return { type: texts[0]!, name: texts[1]!, table: texts[2]!, root: rootPage };
}

function textOf(record: Uint8Array, column: Column, { encoding }: FileLayout): string | null {
  if (column.serialType < 13 || column.serialType % 2 === 0 || encoding === null) return null;
  return new TextDecoder(encoding).decode(record.subarray(column.start, column.end));
}

function integerOf(record: Uint8Array, { serialType, start, end }: Column): number | null {
  if (serialType === 0 || serialType === 8) return 0;
  if (serialType === 9) return 1;
  if (serialType > 6) return null;
  let value = record[start]! >= 0x80 ? -1 : 0;
  for (let at = start; at < end; at++) value = value * 256 + record[at]!;
  return value;
}
