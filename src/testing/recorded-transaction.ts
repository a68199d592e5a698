/** One transaction of SQLite on a copy of a database file, with the pages that it read and wrote. */
import type { AccessedPages } from "../btree/accessed-pages.ts";
import { Connection } from "../sqlite/connection.ts";
import { SqliteRuntime } from "../sqlite/runtime.ts";
import type { VfsFile } from "../sqlite/vfs.ts";
import { FilePages } from "./file-pages.ts";
import { MemoryVfs, MemoryVfsFile } from "./memory-vfs.ts";

const CHANGE_COUNTER = 24;
const PAGE_COUNT = 28;
const SCHEMA_COOKIE = 40;
const SQLITE_IOERR_SHORT_READ = 522;

export interface RecordedOptions {
  readonly pageSize: number;
  readonly statements: readonly string[];
  /** SQLite knows the schema from before, and so reads no page of it. */
  readonly isSchemaKnown: boolean;
  /** Pages of SQLite's cache; with few of them it writes pages before the end, and reads them again. */
  readonly cachePages: number;
  /** The file is made this long, with empty pages that nothing uses. */
  readonly pageCount?: number;
}

export class RecordedTransaction implements AccessedPages {
  readonly pageSize: number;
  /** What it started from. */
  readonly snapshot: FilePages;
  readonly snapshotPageCount: number;
  readonly pageCount: number;
  readonly read: ReadonlySet<number>;
  readonly dirty: ReadonlySet<number>;
  readonly #file: RecordingFile;

  /** The bytes stay the caller's. */
  constructor(bytes: Uint8Array, options: RecordedOptions) {
    const vfs = new RecordingVfs(bytes, options);
    const connection = new Connection(new SqliteRuntime({ vfs }), { name: "main" });
    const { file } = vfs;
    connection.exec(`PRAGMA cache_size = ${options.cachePages}`);
    // As commits of another connection would do it: SQLite lets go of all pages, or of the schema too.
    connection.prepare("SELECT count(*) FROM sqlite_schema").get();
    file.increment(CHANGE_COUNTER);
    if (!options.isSchemaKnown) file.increment(SCHEMA_COOKIE);
    this.snapshotPageCount = file.header.getUint32(PAGE_COUNT);
    this.snapshot = new FilePages(file.wholePages(bytes.length), options.pageSize);
    file.accessed.clear();
    for (const statement of ["BEGIN IMMEDIATE", ...options.statements, "COMMIT"])
      connection.exec(statement);
    connection.close();
    this.pageSize = options.pageSize;
    this.pageCount = file.header.getUint32(PAGE_COUNT);
    this.read = file.accessed;
    this.dirty = file.written;
    this.#file = file;
  }

  page(number: number): Uint8Array | null {
    const isHere =
      this.dirty.has(number) || (this.read.has(number) && number <= this.snapshotPageCount);
    return isHere && number <= this.pageCount ? this.#file.page(number) : null;
  }

  /** All pages that it left; those that nobody ever wrote are zeros. */
  get end(): FilePages {
    return new FilePages(this.#file.wholePages(this.pageCount * this.pageSize), this.pageSize);
  }
}

class RecordingVfs extends MemoryVfs {
  readonly file: RecordingFile;

  constructor(bytes: Uint8Array, options: RecordedOptions) {
    super();
    this.file = new RecordingFile(this, bytes, options);
  }

  override open(): VfsFile {
    return this.file;
  }
}

/** A file of which only pages that were given or written take memory. */
class RecordingFile extends MemoryVfsFile {
  /** No more than a page: SQLite writes all pages of a sector if it writes one. */
  override readonly sectorSize: number = 512;
  readonly accessed = new Set<number>();
  readonly written = new Set<number>();
  readonly #pages = new Map<number, Uint8Array>();
  readonly #pageSize: number;
  #size: number;

  constructor(vfs: MemoryVfs, bytes: Uint8Array, options: RecordedOptions) {
    super(vfs, "main", { bytes: new Uint8Array(0), size: 0, files: new Set() });
    const { pageSize, pageCount = bytes.length / pageSize } = options;
    this.#pageSize = pageSize;
    this.#size = pageCount * pageSize;
    for (let start = 0; start < bytes.length; start += pageSize)
      this.#pages.set(start / pageSize + 1, bytes.slice(start, start + pageSize));
    if (bytes.length > 0) this.header.setUint32(PAGE_COUNT, pageCount);
  }

  page(number: number): Uint8Array {
    let page = this.#pages.get(number);
    if (page === undefined) this.#pages.set(number, (page = new Uint8Array(this.#pageSize)));
    return page;
  }

  get header(): DataView {
    return new DataView(this.page(1).buffer);
  }

  increment(offset: number): void {
    this.header.setUint32(offset, this.header.getUint32(offset) + 1);
  }

  wholePages(size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    for (let start = 0; start < size; start += this.#pageSize)
      bytes.set(this.page(start / this.#pageSize + 1), start);
    return bytes;
  }

  override read(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    heap.fill(0, pointer, pointer + length);
    if (offset + length > this.#size) return SQLITE_IOERR_SHORT_READ;
    const number = this.#numberAt(offset);
    this.accessed.add(number);
    const start = offset % this.#pageSize;
    heap.set(this.page(number).subarray(start, start + length), pointer);
    return 0;
  }

  override write(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    const number = this.#numberAt(offset);
    this.written.add(number);
    this.page(number).set(heap.subarray(pointer, pointer + length), offset % this.#pageSize);
    this.#size = Math.max(this.#size, offset + length);
    return 0;
  }

  override truncate(size: number): number {
    this.#size = size;
    return 0;
  }

  override size(): number {
    return this.#size;
  }

  #numberAt(offset: number): number {
    return Math.floor(offset / this.#pageSize) + 1;
  }
}
