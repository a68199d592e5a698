/** Databases in plain memory, with SQLite's locks between their connections: for tests of what sits above a Vfs. */
import { Connection, type ConnectionOptions } from "../sqlite/connection.ts";
import { SqliteRuntime } from "../sqlite/runtime.ts";
import type { Vfs, VfsFile, VfsOpenOptions } from "../sqlite/vfs.ts";

const SQLITE_OK = 0;
const SQLITE_BUSY = 5;
const SQLITE_NOTFOUND = 12;
const SQLITE_IOERR_SHORT_READ = 522;
const SHARED = 1;
const RESERVED = 2;
const PENDING = 3;

export interface MemoryDatabase {
  bytes: Uint8Array;
  size: number;
  readonly files: Set<MemoryVfsFile>;
}

export class MemoryVfs implements Vfs {
  readonly databases: Map<string, MemoryDatabase> = new Map();
  /** What was asked for, in order: `open main`, `prepare main`, `commit main`, `write main 0`. */
  readonly events: string[] = [];
  /** Called at each event, which it may fail by throwing. */
  onEvent: (event: string) => void = () => {};
  /** Answers to pragmas, by name. */
  onPragma: (name: string, value: string | null) => string | null = () => null;
  lastOptions: VfsOpenOptions | null = null;

  open(name: string, options: VfsOpenOptions): VfsFile {
    this.emit(`open ${name}`);
    this.lastOptions = options;
    let database = this.databases.get(name);
    if (database === undefined) {
      if (!options.create) throw new Error(`Cannot open "${name}": no such database`);
      database = { bytes: new Uint8Array(65536), size: 0, files: new Set() };
      this.databases.set(name, database);
    }
    return new MemoryVfsFile(this, name, database);
  }

  emit(event: string): void {
    this.events.push(event);
    this.onEvent(event);
  }
}

export interface TestConnection {
  readonly vfs: MemoryVfs;
  readonly runtime: SqliteRuntime;
  readonly connection: Connection;
}

/** A connection to the database "main" of a new MemoryVfs, on a new runtime. */
export function openTestConnection(options: Partial<ConnectionOptions> = {}): TestConnection {
  const vfs = new MemoryVfs();
  const runtime = new SqliteRuntime({ vfs });
  return { vfs, runtime, connection: new Connection(runtime, { name: "main", ...options }) };
}

export class MemoryVfsFile implements VfsFile {
  readonly deviceCharacteristics = 0;
  readonly sectorSize: number = 4096;
  readonly #vfs: MemoryVfs;
  readonly #name: string;
  readonly #database: MemoryDatabase;
  #level = 0;

  constructor(vfs: MemoryVfs, name: string, database: MemoryDatabase) {
    this.#vfs = vfs;
    this.#name = name;
    this.#database = database;
    database.files.add(this);
  }

  read(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    const database = this.#database;
    const available = Math.max(0, Math.min(length, database.size - offset));
    heap.set(database.bytes.subarray(offset, offset + available), pointer);
    if (available === length) return SQLITE_OK;
    heap.fill(0, pointer + available, pointer + length);
    return SQLITE_IOERR_SHORT_READ;
  }

  write(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    this.#vfs.emit(`write ${this.#name}`);
    const database = this.#database;
    const end = offset + length;
    if (end > database.bytes.length) {
      const larger = new Uint8Array(Math.max(end, database.bytes.length * 2));
      larger.set(database.bytes);
      database.bytes = larger;
    }
    database.bytes.set(heap.subarray(pointer, pointer + length), offset);
    database.size = Math.max(database.size, end);
    return SQLITE_OK;
  }

  truncate(size: number): number {
    const database = this.#database;
    database.bytes.fill(0, size);
    database.size = size;
    return SQLITE_OK;
  }

  sync(): number {
    return SQLITE_OK;
  }

  size(): number {
    return this.#database.size;
  }

  lock(level: number): number {
    if (level <= this.#level) return SQLITE_OK;
    const others = [...this.#database.files].filter((file) => file !== this);
    const highest = Math.max(0, ...others.map((file) => file.#level));
    if (level === SHARED && highest >= PENDING) return SQLITE_BUSY;
    if (level >= RESERVED && highest >= RESERVED) return SQLITE_BUSY;
    if (level > PENDING && highest >= SHARED) {
      this.#level = PENDING;
      return SQLITE_BUSY;
    }
    this.#level = level;
    return SQLITE_OK;
  }

  unlock(level: number): number {
    this.#level = Math.min(this.#level, level);
    return SQLITE_OK;
  }

  isReserved(): boolean {
    return [...this.#database.files].some((file) => file.#level >= RESERVED);
  }

  prepareCommit(): number {
    this.#vfs.emit(`prepare ${this.#name}`);
    return SQLITE_OK;
  }

  commitPhaseTwo(): number {
    this.#vfs.emit(`commit ${this.#name}`);
    return SQLITE_NOTFOUND;
  }

  pragma(name: string, value: string | null): string | null {
    return this.#vfs.onPragma(name, value);
  }

  close(): void {
    this.#vfs.emit(`close ${this.#name}`);
    this.#database.files.delete(this);
  }
}
