/**
 * A storage whose files are on the local one, or else objects of which parts come as they are read.
 *
 *   open for reading:   on the local storage?  yes -> its own file, as it is
 *                       an object of that path? yes -> LazyFile      no -> FILE_NOT_FOUND
 *
 * Z1. A local file always wins. Its reads go to the local storage directly and cost nothing more.
 * Z2. Nothing is ever written to object storage from here. Writing needs a local file; deleting one that is only an object hides it
 *     here, until a file of that name is made or the objects no longer have it.
 * Z3. A file that is open goes on reading the object that it was opened with, whatever `setObjects` says later.
 * Z4. Reads of objects throw NotLocalError (not-local.ts) where blocks are missing, and only then.
 */
import { StoreError } from "../errors.ts";
import type { OpenFileOptions, Storage, StorageFile } from "../storage/storage.ts";
import { directoryOf } from "../storage/whole-file.ts";
import {
  BLOCK_SIZE,
  type BlockCache,
  type BlockCacheStatistics,
  type CachedObject,
} from "./block-cache.ts";
import { type BlockSource, LazyFetch, type LazyFetchStatistics } from "./lazy-fetch.ts";
import { LazyFile, type ReadCounts } from "./lazy-file.ts";
import { ReadAhead } from "./lazy-read-ahead.ts";

const READ_AHEAD_BYTES_MAX = 1024 * 1024;

/** What object storage holds for a storage; the manifest's. */
export interface LazyObjects {
  /** Null: there is no such object. */
  objectFor(path: string): { readonly key: string; readonly size: number } | null;
  /** Names in a directory, in any order. */
  namesIn(directory: string): Iterable<string>;
}

export interface LazyStorageOptions {
  readonly local: Storage;
  readonly source: BlockSource;
  readonly cache: BlockCache;
  readonly objects: LazyObjects;
  /** How far reads that go on are run ahead of; 0 turns that off. By default 1 MiB. */
  readonly readAheadBytesMax?: number;
  /** In flight ahead of readers, by default 4 MiB. */
  readonly prefetchBytesMax?: number;
}

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export interface LazyStorageStatistics extends LazyFetchStatistics, BlockCacheStatistics {
  /** Reads of objects answered from blocks that were here. */
  readonly hits: number;
  /** Reads of objects that had to wait. */
  readonly misses: number;
}

export class LazyStorage implements Storage {
  readonly description: string;
  readonly directory: string | null;
  private readonly local: Storage;
  private readonly cache: BlockCache;
  private readonly fetch: LazyFetch;
  private readonly readAheadBlocks: number;
  private objects: LazyObjects;
  private readonly hidden = new Set<string>();
  private readonly counts: ReadCounts = { hits: 0, misses: 0 };

  constructor(options: LazyStorageOptions) {
    this.local = options.local;
    this.description = options.local.description;
    this.directory = options.local.directory;
    this.cache = options.cache;
    this.objects = options.objects;
    this.fetch = new LazyFetch(options.source, options.cache, options.prefetchBytesMax);
    this.readAheadBlocks = Math.floor(
      (options.readAheadBytesMax ?? READ_AHEAD_BYTES_MAX) / BLOCK_SIZE,
    );
  }

  /** What object storage holds from now on. */
  setObjects(objects: LazyObjects): void {
    this.objects = objects;
    for (const path of this.hidden) {
      if (objects.objectFor(path) === null) this.hidden.delete(path);
    }
  }

  /** Fetches parts of a file that will be read soon, when there is room. Does nothing for a file that is local or missing. */
  prefetch(path: string, ranges: readonly ByteRange[]): void {
    if (this.local.existsSync(path)) return;
    const object = this.objectFor(path);
    if (object === null) return;
    for (const { offset, length } of ranges) {
      const first = Math.floor(offset / BLOCK_SIZE);
      const end = Math.ceil(Math.min(offset + length, object.size) / BLOCK_SIZE);
      if (end > first) this.fetch.prefetch(object, first, end - first);
    }
  }

  statistics(): LazyStorageStatistics {
    return { ...this.counts, ...this.fetch.statistics(), ...this.cache.statistics() };
  }

  /** Begins nothing more ahead of readers. The cache and the source are their owners' to close. */
  close(): void {
    this.fetch.close();
  }

  openFileSync(path: string, options: OpenFileOptions): StorageFile {
    const object = this.objectFor(path);
    if (object === null || this.local.existsSync(path)) return this.openLocal(path, options);
    if (options.mode === "create") {
      throw new StoreError(
        "FILE_EXISTS",
        `Cannot create "${path}": the name is already taken in object storage`,
        { details: { path } },
      );
    }
    if (options.mode === "write") {
      throw new StoreError(
        "IO",
        `Cannot open "${path}" for writing: it is in object storage only; open it for reading`,
        { details: { path } },
      );
    }
    const { fetch, counts } = this;
    const readAhead = this.readAheadBlocks === 0 ? null : new ReadAhead(this.readAheadBlocks);
    return new LazyFile(path, object, { fetch, readAhead, counts });
  }

  existsSync(path: string): boolean {
    return this.local.existsSync(path) || this.objectFor(path) !== null || this.isDirectory(path);
  }

  listSync(path: string): string[] {
    const names = new Set(this.local.listSync(path));
    for (const name of this.objects.namesIn(path)) {
      if (!this.hidden.has(path === "" ? name : `${path}/${name}`)) names.add(name);
    }
    return [...names].sort();
  }

  makeDirectorySync(path: string): void {
    this.local.makeDirectorySync(path);
  }

  renameSync(from: string, to: string): void {
    this.local.renameSync(from, to);
    this.hide(from);
    this.hidden.delete(to);
  }

  /** See Z2. */
  deleteSync(path: string): void {
    if (this.objectFor(path) === null) {
      this.local.deleteSync(path);
      return;
    }
    if (this.local.existsSync(path)) this.local.deleteSync(path);
    this.hide(path);
  }

  syncDirectorySync(path: string): void {
    // Also when all of its objects are hidden by now.
    const hasObjects = !this.objects.namesIn(path)[Symbol.iterator]().next().done;
    if (hasObjects && !this.local.existsSync(path)) return;
    this.local.syncDirectorySync(path);
  }

  private openLocal(path: string, options: OpenFileOptions): StorageFile {
    if (options.mode === "create") this.makeLocal(directoryOf(path));
    const file = this.local.openFileSync(path, options);
    if (options.mode === "create") this.hidden.delete(path);
    return file;
  }

  /** A directory that so far only objects are in: whoever makes a file in it has seen that it exists. */
  private makeLocal(directory: string): void {
    if (!this.local.existsSync(directory) && this.isDirectory(directory))
      this.local.makeDirectorySync(directory);
  }

  private hide(path: string): void {
    if (this.objects.objectFor(path) !== null) this.hidden.add(path);
  }

  private objectFor(path: string): CachedObject | null {
    if (this.hidden.has(path)) return null;
    const object = this.objects.objectFor(path);
    return object === null ? null : this.cache.object(object.key, object.size);
  }

  /** A directory that only objects are in. */
  private isDirectory(path: string): boolean {
    for (const name of this.objects.namesIn(path)) {
      if (!this.hidden.has(path === "" ? name : `${path}/${name}`)) return true;
    }
    return false;
  }
}
