/**
 * The default key-value backend: lmdb, a memory-mapped B+tree with copy-on-write pages and its own files, `path` and
 * `path-lock`. A commit is one synchronous lmdb transaction: its pages, fdatasync, the meta page, fdatasync (K1).
 *
 * L1. `overlappingSync` is off: with it lmdb would return from a commit before the commit is durable.
 * L2. Values returned are copies: lmdb reads into one buffer that all its databases in the process share.
 * L3. An open iterator holds a read transaction, thus its snapshot (K3), until it ends or is closed by leaving the loop.
 * L4. After a failed commit the store refuses further commits until reopened.
 * L5. Compaction builds `path.compact` durably, then renames it: a crash leaves the old file or the new one, and perhaps
 *     a copy that the next compaction deletes.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import type { RootDatabase } from "lmdb";

import { invariant, StoreError } from "../errors.ts";
import type { Storage } from "../storage/storage.ts";
import { directoryOf } from "../storage/whole-file.ts";
import { checkBatch, checkRange, compareKeys } from "./key-order.ts";
import type { KeyValueEntry, KeyValueStore, RangeOptions, WriteBatch } from "./key-value.ts";
import { fromLmdbError } from "./lmdb-error.ts";
import { prepareLmdbFile } from "./lmdb-file.ts";

/** Address space reserved at first; lmdb doubles it when the file outgrows it. */
const MAP_SIZE_INITIAL = 0x1000_0000;

type Lmdb = typeof import("lmdb");
type Database = RootDatabase<Uint8Array, Uint8Array>;

class LmdbKeyValue implements KeyValueStore {
  readonly name = "lmdb";
  private readonly storage: Storage;
  private readonly path: string;
  private database: Database;
  private closed = false;
  private iteratorCount = 0;
  private failure: unknown = null;

  constructor(storage: Storage, path: string) {
    this.storage = storage;
    this.path = path;
    this.database = openDatabase(storage, path);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.checkOpen();
    try {
      return this.database.get(key);
    } catch (error) {
      throw fromLmdbError("Cannot read the catalog", this.path, error);
    }
  }

  range(options: RangeOptions): Iterable<KeyValueEntry> {
    checkRange(options);
    return { [Symbol.iterator]: () => this.iterate(options) };
  }

  commit(batch: WriteBatch): void {
    this.checkOpen();
    checkBatch(batch);
    if (this.failure !== null) {
      throw new StoreError(
        "STORE_FAILED",
        `Cannot write the catalog "${this.path}": an earlier write failed, open the store again`,
        { cause: this.failure },
      );
    }
    const { operations } = batch;
    if (operations.length === 0) return;
    const { database } = this;
    try {
      database.transactionSync(() => {
        for (const { key, value } of operations) {
          if (value === null) database.removeSync(key);
          else database.putSync(key, value);
        }
      });
    } catch (error) {
      this.failure = error;
      throw fromLmdbError("Cannot write the catalog", this.path, error);
    }
  }

  estimatedSize(): number {
    return fileSize(this.storage, this.path);
  }

  /**
   * Copies all entries into a new file, which then replaces this one (L5): lmdb reuses free pages but never gives them
   * back. Does nothing while an iterator is open, nor when less than a tenth would be gained.
   */
  compact(): void {
    this.checkOpen();
    if (this.iteratorCount > 0) return;
    const copy = `${this.path}.compact`;
    deleteLmdbFiles(this.storage, copy);
    const target = openDatabase(this.storage, copy);
    try {
      copyEntries(this.database, target);
    } catch (error) {
      throw fromLmdbError("Cannot compact the catalog", this.path, error);
    } finally {
      void target.close();
    }
    if (fileSize(this.storage, copy) > 0.9 * this.estimatedSize()) {
      deleteLmdbFiles(this.storage, copy);
      return;
    }
    void this.database.close();
    try {
      this.storage.renameSync(copy, this.path);
      this.storage.syncDirectorySync(directoryOf(this.path));
      deleteLmdbFiles(this.storage, copy);
    } finally {
      this.database = openDatabase(this.storage, this.path);
    }
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    // No write is ever queued, so that lmdb closes before the promise is made, and it never rejects.
    void this.database.close();
  }

  private *iterate(options: RangeOptions): Generator<KeyValueEntry, void, undefined> {
    this.checkOpen();
    const { start, end, limit } = options;
    if (limit === 0 || compareKeys(start, end) >= 0) return;
    const bounds =
      options.reverse === true
        ? { start: end, end: start, reverse: true, exclusiveStart: true, inclusiveEnd: true }
        : { start, end };
    this.iteratorCount++;
    try {
      // lmdb's own limit would read one entry more before it stops.
      let count = 0;
      for (const entry of this.database.getRange(bounds)) {
        yield entry;
        this.checkOpen();
        if (++count === limit) break;
      }
    } catch (error) {
      throw fromLmdbError("Cannot read the catalog", this.path, error);
    } finally {
      this.iteratorCount--;
    }
  }

  private checkOpen(): void {
    invariant(!this.closed, `An open catalog: "${this.path}" is closed`);
  }
}

function openDatabase(storage: Storage, path: string): Database {
  invariant(
    storage.directory !== null,
    `A real directory for lmdb: ${storage.description} has none`,
  );
  const isNew = !storage.existsSync(path);
  prepareLmdbFile(storage, path);
  const lmdb: Lmdb = createRequire(import.meta.url)("lmdb");
  const fullPath = join(storage.directory, path);
  try {
    const database = lmdb.open<Uint8Array, Uint8Array>({
      path: fullPath,
      noSubdir: true,
      encoding: "binary",
      keyEncoding: "binary",
      overlappingSync: false,
      cache: false,
      compression: false,
      maxDbs: 1,
      mapSize: MAP_SIZE_INITIAL,
    });
    // lmdb syncs its files, never the directory that names them.
    if (isNew) storage.syncDirectorySync(directoryOf(path));
    return database;
  } catch (error) {
    throw fromLmdbError("Cannot open the catalog", fullPath, error);
  }
}

/** Bounds the memory that a transaction of the copy takes. */
const COPY_BYTES_MAX = 16 * 1024 * 1024;

function copyEntries(source: Database, target: Database): void {
  const entries = source.getRange({})[Symbol.iterator]();
  let next = entries.next();
  while (next.done !== true) {
    target.transactionSync(() => {
      let size = 0;
      for (; next.done !== true && size < COPY_BYTES_MAX; next = entries.next()) {
        const { key, value } = next.value;
        target.putSync(key, value);
        size += key.byteLength + value.byteLength;
      }
    });
  }
}

function deleteLmdbFiles(storage: Storage, path: string): void {
  for (const file of [path, `${path}-lock`]) {
    if (storage.existsSync(file)) storage.deleteSync(file);
  }
}

function fileSize(storage: Storage, path: string): number {
  const file = storage.openFileSync(path, { mode: "read" });
  try {
    return file.sizeSync();
  } finally {
    file.closeSync();
  }
}

/** Opens or creates the catalog in the file `path` of a storage that has a directory. */
export function openLmdb(storage: Storage, path: string): KeyValueStore {
  return new LmdbKeyValue(storage, path);
}
