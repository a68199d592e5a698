/**
 * A key-value backend for catalogs that grow large and are written a lot: leveldb (`classic-level`), a log-structured
 * merge tree with compressed tables, in a directory of its own. A thread owns the database (leveldb-worker.ts): a read
 * costs the way there and back, tens of microseconds, where lmdb's costs one.
 *
 * V1. A commit is one batch of leveldb with `sync`: one record of its log, and an fdatasync (K1).
 * V2. leveldb leaves the names of new files to the next sync of its directory; a commit that met new names makes them
 *     durable before it returns.
 * V3. An open iterator holds a snapshot of leveldb (K3) until it ends or is closed by leaving the loop.
 * V4. After a failed commit the store refuses further commits until reopened.
 * V5. leveldb opens a database whose log or tables are damaged and leaves out what it cannot read: the files are checked
 *     before (leveldb-files.ts).
 */
import { join } from "node:path";

import { invariant, StoreError } from "../errors.ts";
import type { Storage } from "../storage/storage.ts";
import { explainSystemError } from "../storage/system-error.ts";
import { checkBatch, checkRange, compareKeys } from "./key-order.ts";
import type { KeyValueEntry, KeyValueStore, RangeOptions, WriteBatch } from "./key-value.ts";
import { prepareLevelFiles } from "./leveldb-files.ts";
import { LevelError, LevelThread } from "./leveldb-thread.ts";
import { DELETED, LevelOperation } from "./leveldb-worker.ts";

class LevelKeyValue implements KeyValueStore {
  readonly name = "leveldb";
  private readonly storage: Storage;
  private readonly path: string;
  private readonly thread: LevelThread;
  private names: string;
  private closed = false;
  private failure: unknown = null;

  constructor(storage: Storage, path: string) {
    invariant(
      storage.directory !== null,
      `A real directory for leveldb: ${storage.description} has none`,
    );
    this.storage = storage;
    this.path = path;
    storage.makeDirectorySync(path);
    prepareLevelFiles(storage, path);
    try {
      this.thread = new LevelThread(join(storage.directory, path));
    } catch (error) {
      throw this.explain("Cannot open the catalog", error);
    }
    this.names = this.listNames();
    storage.syncDirectorySync(path);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    // leveldb's library refuses empty keys; nothing is ever stored under one.
    if (key.byteLength === 0) {
      this.checkOpen();
      return undefined;
    }
    return this.request("Cannot read the catalog", LevelOperation.get, key) ?? undefined;
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
    if (batch.operations.length === 0) return;
    try {
      this.request("Cannot write the catalog", LevelOperation.commit, encodeBatch(batch));
      const names = this.listNames();
      if (names !== this.names) this.storage.syncDirectorySync(this.path);
      this.names = names;
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }

  estimatedSize(): number {
    let size = 0;
    for (const name of this.storage.listSync(this.path)) {
      const path = `${this.path}/${name}`;
      try {
        const file = this.storage.openFileSync(path, { mode: "read" });
        size += file.sizeSync();
        file.closeSync();
      } catch (error) {
        // leveldb merges tables and deletes the old ones whenever it likes.
        if (!(error instanceof StoreError) || error.code !== "FILE_NOT_FOUND") throw error;
      }
    }
    return size;
  }

  /** Merges all tables into new ones, without what was deleted or replaced. An open iterator keeps the old ones. */
  compact(): void {
    this.request("Cannot compact the catalog", LevelOperation.compact);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    try {
      this.thread.close();
    } catch (error) {
      throw this.explain("Cannot close the catalog", error);
    }
  }

  private *iterate(options: RangeOptions): Generator<KeyValueEntry, void, undefined> {
    this.checkOpen();
    const { start, end, limit } = options;
    if (limit === 0 || compareKeys(start, end) >= 0) return;
    const read = (operation: LevelOperation, bytes: Uint8Array): Uint8Array =>
      this.request("Cannot read the catalog", operation, bytes) ?? new Uint8Array(0);
    let answer = read(LevelOperation.range, encodeRange(options));
    const iterator = answer.slice(0, 4);
    let isEnded = false;
    try {
      for (; ; answer = read(LevelOperation.next, iterator)) {
        isEnded = answer[4] === 1;
        if (isEnded) return;
        for (const entry of entriesIn(answer, 5)) {
          yield entry;
          this.checkOpen();
        }
      }
    } finally {
      if (!isEnded && !this.closed) read(LevelOperation.leave, iterator);
    }
  }

  private request(
    action: string,
    operation: LevelOperation,
    bytes?: Uint8Array,
  ): Uint8Array | null {
    this.checkOpen();
    try {
      return this.thread.request(operation, bytes);
    } catch (error) {
      throw this.explain(action, error);
    }
  }

  private listNames(): string {
    return this.storage.listSync(this.path).join("\n");
  }

  private checkOpen(): void {
    invariant(!this.closed, `An open catalog: "${this.path}" is closed`);
  }

  private explain(action: string, error: unknown): unknown {
    return error instanceof LevelError ? fromLevelError(action, this.path, error) : error;
  }
}

/** leveldb gives errors of the system as text: "IO error: /path/000012.ldb: No space left on device". */
const SYSTEM_ERRORS: readonly (readonly [RegExp, string])[] = [
  [/No space left on device/, "ENOSPC"],
  [/Disk quota exceeded/, "EDQUOT"],
  [/Permission denied/, "EACCES"],
  [/Read-only file system/, "EROFS"],
];

function fromLevelError(action: string, path: string, cause: LevelError): StoreError {
  const text = `${cause.code} ${cause.message}`;
  if (/CORRUPTION|Corruption|NOT_FOUND/.test(text)) {
    return new StoreError("CORRUPT_CATALOG", `${action} "${path}": ${cause.message}`, {
      cause,
      details: { path },
    });
  }
  const name = SYSTEM_ERRORS.find(([pattern]) => pattern.test(text))?.[1] ?? "EIO";
  return explainSystemError({ action, path, name, cause });
}

function encodeBatch({ operations }: WriteBatch): Uint8Array {
  let size = 0;
  for (const { key, value } of operations) size += 8 + key.byteLength + (value?.byteLength ?? 0);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let offset = 0;
  for (const { key, value } of operations) {
    view.setUint32(offset, key.byteLength, true);
    view.setUint32(offset + 4, value?.byteLength ?? DELETED, true);
    bytes.set(key, offset + 8);
    offset += 8 + key.byteLength;
    if (value === null) continue;
    bytes.set(value, offset);
    offset += value.byteLength;
  }
  return bytes;
}

function encodeRange({ start, end, reverse, limit }: RangeOptions): Uint8Array {
  const bytes = new Uint8Array(9 + start.byteLength + end.byteLength);
  const view = new DataView(bytes.buffer);
  bytes[0] = reverse === true ? 1 : 0;
  // No catalog has as many entries as a limit that does not fit.
  view.setUint32(1, limit === undefined || limit >= 0x7fff_ffff ? 0 : limit + 1, true);
  view.setUint32(5, start.byteLength, true);
  bytes.set(start, 9);
  bytes.set(end, 9 + start.byteLength);
  return bytes;
}

function* entriesIn(bytes: Uint8Array, from: number): Generator<KeyValueEntry, void, undefined> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = from; offset < bytes.byteLength;) {
    const keyEnd = offset + 8 + view.getUint32(offset, true);
    const valueEnd = keyEnd + view.getUint32(offset + 4, true);
    yield { key: bytes.subarray(offset + 8, keyEnd), value: bytes.subarray(keyEnd, valueEnd) };
    offset = valueEnd;
  }
}

/** Opens or creates the catalog in the directory `path` of a storage that has a directory itself. */
export function openLevel(storage: Storage, path: string): KeyValueStore {
  return new LevelKeyValue(storage, path);
}
