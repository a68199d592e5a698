/** One transaction of SQLite on a copy of a database file, with the pages that it read and wrote. */
import type { AccessedPages } from "../btree/accessed-pages.ts";
import { Connection } from "../sqlite/connection.ts";
import { SqliteRuntime } from "../sqlite/runtime.ts";
import type { VfsFile, VfsOpenOptions } from "../sqlite/vfs.ts";
import { FilePages } from "./file-pages.ts";
import { MemoryVfs, MemoryVfsFile, type MemoryDatabase } from "./memory-vfs.ts";

const CHANGE_COUNTER = 24;
const PAGE_COUNT = 28;

export interface RecordedOptions {
  readonly pageSize: number;
  readonly statements: readonly string[];
  /** SQLite knows the schema from before, and so reads no page of it. */
  readonly isSchemaKnown: boolean;
  /** Pages of SQLite's cache; with few of them it writes pages before the end, and reads them again. */
  readonly cachePages: number;
}

export class RecordedTransaction implements AccessedPages {
  readonly pageSize: number;
  /** What it started from. */
  readonly snapshot: FilePages;
  /** What it left; pages that it never wrote are as they were. */
  readonly end: FilePages;
  readonly read: ReadonlySet<number>;
  readonly dirty: ReadonlySet<number>;
  readonly pageCount: number;

  /** The bytes stay the caller's. */
  constructor(bytes: Uint8Array, options: RecordedOptions) {
    const { pageSize } = options;
    const vfs = new RecordingVfs(pageSize);
    const connection = openOn(vfs, bytes, options);
    const { database } = vfs.file!;
    vfs.read.clear();
    const snapshot = database.bytes.slice(0, database.size);
    for (const statement of ["BEGIN IMMEDIATE", ...options.statements, "COMMIT"])
      connection.exec(statement);
    connection.close();
    this.pageSize = pageSize;
    this.snapshot = new FilePages(snapshot, pageSize);
    this.pageCount = new DataView(database.bytes.buffer).getUint32(PAGE_COUNT);
    const end = new Uint8Array(this.pageCount * pageSize);
    end.set(database.bytes.subarray(0, Math.min(database.size, end.length)));
    this.end = new FilePages(end, pageSize);
    this.read = vfs.read;
    this.dirty = vfs.written;
  }

  page(number: number): Uint8Array | null {
    const isHere =
      this.dirty.has(number) || (this.read.has(number) && number <= this.snapshot.pageCount);
    return isHere ? this.end.page(number) : null;
  }
}

function openOn(vfs: RecordingVfs, bytes: Uint8Array, options: RecordedOptions): Connection {
  const connection = new Connection(new SqliteRuntime({ vfs }), { name: "main" });
  const { database } = vfs.file!;
  database.bytes = new Uint8Array(bytes);
  database.size = bytes.length;
  connection.exec(`PRAGMA cache_size = ${options.cachePages}`);
  if (!options.isSchemaKnown) return connection;
  connection.prepare("SELECT count(*) FROM sqlite_schema").get();
  // As another connection's commit would do it: SQLite then lets go of all pages.
  const view = new DataView(database.bytes.buffer);
  view.setUint32(CHANGE_COUNTER, view.getUint32(CHANGE_COUNTER) + 1);
  return connection;
}

class RecordingVfs extends MemoryVfs {
  readonly read = new Set<number>();
  readonly written = new Set<number>();
  readonly pageSize: number;
  file: RecordingFile | null = null;

  constructor(pageSize: number) {
    super();
    this.pageSize = pageSize;
  }

  override open(name: string, _options: VfsOpenOptions): VfsFile {
    const database: MemoryDatabase = { bytes: new Uint8Array(0), size: 0, files: new Set() };
    return (this.file = new RecordingFile(this, name, database));
  }
}

class RecordingFile extends MemoryVfsFile {
  /** No more than a page: SQLite writes all pages of a sector if it writes one. */
  override readonly sectorSize: number = 512;
  readonly database: MemoryDatabase;
  readonly #vfs: RecordingVfs;

  constructor(vfs: RecordingVfs, name: string, database: MemoryDatabase) {
    super(vfs, name, database);
    this.#vfs = vfs;
    this.database = database;
  }

  override read(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    this.#vfs.read.add(Math.floor(offset / this.#vfs.pageSize) + 1);
    return super.read(heap, pointer, length, offset);
  }

  override write(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    this.#vfs.written.add(Math.floor(offset / this.#vfs.pageSize) + 1);
    return super.write(heap, pointer, length, offset);
  }
}
