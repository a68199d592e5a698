/**
 * Chunks in pack files (pack-format.ts), read through the page cache (page-cache.ts). Where a chunk is, the chunk index
 * in the catalog knows; it is asked through `locate`, once per handle.
 *
 *   append --> pack being written --full, or a new process--> closed pack (never written again)
 *                 | sync: fsync of each pack written since the last one, then of the directory when a pack is new
 *
 * Invariants
 * Q1. A pack is written by one process only, and only at its end: a pack left by an earlier one is never appended to.
 * Q2. A chunk can be read as soon as `append` returned, and is durable once a `sync` that began after that returned. The
 *     index entry is committed after that.
 * Q3. After a failed write or sync nothing more is written: the contents of the pack are unknown. Reading goes on.
 * Q4. Returned views are shared with the cache: callers never write to them.
 */
import type { StoreCipher } from "../encryption/cipher.ts";
import { invariant, StoreError } from "../errors.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import {
  CHUNK_SIZE_MAX,
  type DecodedChunk,
  decodeChunk,
  type EncodedChunk,
} from "./chunk-format.ts";
import type { ChunkHandle, ChunkHandles, ChunkLocation, ChunkReference } from "./chunk-handle.ts";
import { ClockCache } from "./clock-cache.ts";
import {
  checkPackHeader,
  encodePackHeader,
  PACK_DIRECTORY,
  PACK_HEADER_SIZE,
  PACK_NUMBER_MAX,
  packNumber,
  packPath,
} from "./pack-format.ts";
import { PageCache, type PageCacheStatistics } from "./page-cache.ts";

export type { ChunkHandle, ChunkLocation, ChunkReference } from "./chunk-handle.ts";

const PACK_SIZE_MAX_DEFAULT = 64 * 1024 * 1024;
const OPEN_PACKS_MAX = 128;

export interface ChunkStoreOptions {
  readonly storage: Storage;
  /** 16 bytes. */
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
  readonly handles: ChunkHandles;
  /** The chunk index: where a chunk is; null or undefined when it does not have it, which reading reports as damage. */
  readonly locate: (id: Uint8Array) => ChunkLocation | null | undefined;
  readonly cacheBytesMax: number;
  /** A pack is closed when the next chunk would make it larger. */
  readonly packSizeMax?: number;
  /** No new pack gets a lower number, even where the files of higher ones are gone. */
  readonly nextPackNumber?: number;
}

export interface ReadChunkOptions {
  /** Recomputes the id from the pages. */
  readonly verifyId?: boolean;
}

interface ReadablePack {
  readonly file: StorageFile;
  readonly weight: 1;
  referenced: boolean;
}

/** The pack being written. */
interface WritablePack {
  readonly number: number;
  readonly file: StorageFile;
  end: number;
  /** Asynchronous writes under way. */
  pendingCount: number;
}

export class ChunkStore {
  readonly #options: ChunkStoreOptions;
  readonly #packSizeMax: number;
  readonly #cache: PageCache;
  readonly #readable: ClockCache<ReadablePack>;
  /** Written, with no sync begun since. */
  readonly #dirty = new Set<WritablePack>();
  /** In an asynchronous sync that has not ended. */
  readonly #syncing = new Set<WritablePack>();
  #lastSync: Promise<void> = Promise.resolve();
  #hasNewName = false;
  #writable: WritablePack | null = null;
  #nextPackNumber: number;
  #failure: unknown = null;
  #closed = false;
  /** Chunks are read into this and decoded out of it. */
  #scratch: Uint8Array = new Uint8Array(0);

  private constructor(options: ChunkStoreOptions, nextPackNumber: number) {
    this.#options = options;
    this.#packSizeMax = options.packSizeMax ?? PACK_SIZE_MAX_DEFAULT;
    this.#cache = new PageCache(options.cacheBytesMax);
    this.#readable = new ClockCache<ReadablePack>(OPEN_PACKS_MAX, ({ file }) => file.closeSync());
    this.#nextPackNumber = nextPackNumber;
  }

  /** Makes the directory where it is missing. Opens no pack. */
  static open(options: ChunkStoreOptions): ChunkStore {
    const { storage } = options;
    if (!storage.existsSync(PACK_DIRECTORY)) {
      storage.makeDirectorySync(PACK_DIRECTORY);
      storage.syncDirectorySync("");
    }
    let next = options.nextPackNumber ?? 1;
    for (const name of storage.listSync(PACK_DIRECTORY)) {
      next = Math.max(next, (packNumber(name) ?? 0) + 1);
    }
    return new ChunkStore(options, next);
  }

  /** The number that the next new pack gets. */
  get nextPackNumber(): number {
    return this.#nextPackNumber;
  }

  /** Writes a chunk without making it durable; see Q2. */
  append({ bytes }: EncodedChunk): ChunkLocation {
    const { pack, location } = this.#reserve(bytes.length);
    try {
      pack.file.writeSync(location.offset, bytes);
    } catch (error) {
      this.#failure ??= error;
      throw error;
    }
    return location;
  }

  /** The same; the bytes must not change until it settles. Several may be on their way at once. */
  async appendAsync({ bytes }: EncodedChunk): Promise<ChunkLocation> {
    const { pack, location } = this.#reserve(bytes.length);
    pack.pendingCount++;
    try {
      await pack.file.write(location.offset, bytes);
    } catch (error) {
      this.#failure ??= error;
      throw error;
    } finally {
      pack.pendingCount--;
      // A sync may have begun before the write ended: it did not cover these bytes.
      if (!this.#closed) this.#dirty.add(pack);
    }
    return location;
  }

  #reserve(length: number): { pack: WritablePack; location: ChunkLocation } {
    this.#checkWritable();
    invariant(
      length > 0 && length <= CHUNK_SIZE_MAX,
      `a chunk takes up to ${CHUNK_SIZE_MAX} bytes, not ${length}`,
    );
    let pack = this.#writable;
    if (pack === null || (pack.end + length > this.#packSizeMax && pack.end > PACK_HEADER_SIZE)) {
      pack = this.#startPack();
    }
    const location = { pack: pack.number, offset: pack.end, length };
    pack.end = alignUp(pack.end + length);
    this.#dirty.add(pack);
    return { pack, location };
  }

  #startPack(): WritablePack {
    const number = this.#nextPackNumber;
    if (number > PACK_NUMBER_MAX) {
      throw new StoreError(
        "LIMIT",
        `Cannot write chunk: pack number ${number} is past ${PACK_NUMBER_MAX}`,
      );
    }
    const { storage, storeId } = this.#options;
    try {
      const file = storage.openFileSync(packPath(number), { mode: "create" });
      this.#nextPackNumber = number + 1;
      this.#hasNewName = true;
      const previous = this.#writable;
      const pack: WritablePack = { number, file, end: PACK_HEADER_SIZE, pendingCount: 0 };
      this.#writable = pack;
      this.#dirty.add(pack);
      if (previous !== null) this.#closeIfDone(previous);
      file.writeSync(0, encodePackHeader({ storeId, number }));
      return pack;
    } catch (error) {
      this.#failure ??= error;
      throw error;
    }
  }

  /** Makes every chunk whose append returned durable, with its pack's name. */
  syncSync(): void {
    this.#checkWritable();
    // Also what an asynchronous sync has begun with: it may not have reached the disk yet.
    const packs = new Set([...this.#dirty, ...this.#syncing]);
    this.#dirty.clear();
    try {
      for (const pack of packs) pack.file.syncSync();
      this.#syncNames();
    } catch (error) {
      this.#failure ??= error;
      throw error;
    }
    for (const pack of packs) this.#closeIfDone(pack);
  }

  /** The same without blocking, but for the directory's own sync. One runs after the other. */
  sync(): Promise<void> {
    const sync = this.#lastSync.then(() => this.#sync());
    this.#lastSync = sync.catch(() => {});
    return sync;
  }

  async #sync(): Promise<void> {
    this.#checkWritable();
    const packs = [...this.#dirty];
    this.#dirty.clear();
    for (const pack of packs) this.#syncing.add(pack);
    try {
      for (const pack of packs) await pack.file.sync();
      if (!this.#closed) this.#syncNames();
    } catch (error) {
      this.#failure ??= error;
      throw error;
    } finally {
      this.#syncing.clear();
    }
    for (const pack of packs) this.#closeIfDone(pack);
  }

  #syncNames(): void {
    if (!this.#hasNewName) return;
    this.#options.storage.syncDirectorySync(PACK_DIRECTORY);
    this.#hasNewName = false;
  }

  /** Closes a pack that will not be written again and has nothing left to sync. */
  #closeIfDone(pack: WritablePack): void {
    if (pack === this.#writable || pack.pendingCount > 0) return;
    if (this.#dirty.has(pack) || this.#syncing.has(pack)) return;
    pack.file.closeSync();
  }

  #checkWritable(): void {
    if (this.#closed)
      throw new StoreError("STORE_CLOSED", "Cannot write chunk: the store is closed");
    if (this.#failure !== null) {
      throw new StoreError(
        "STORE_FAILED",
        "Cannot write chunk: an earlier write failed, open the store again",
        {
          cause: this.#failure,
        },
      );
    }
  }

  /**
   * A view of a page, valid for as long as the caller keeps it. Throws CORRUPT_CHUNK also when the chunk has pages of
   * another size or does not have that slot: a damaged reference never reads as an empty page.
   */
  readPage({ chunk, slot }: ChunkReference, pageSize: number): Uint8Array {
    const decoded = this.#cache.get(chunk) ?? this.#load(chunk);
    const page = decoded.page(slot);
    if (page === null || page.length !== pageSize)
      throw missingPage(chunk, decoded, slot, pageSize);
    return page;
  }

  /** The same when the page is in the cache, else null without any I/O; then not counted as a miss. */
  cachedPage({ chunk, slot }: ChunkReference, pageSize: number): Uint8Array | null {
    if (chunk.cached === null) return null;
    const decoded = this.#cache.get(chunk);
    const page = decoded === null ? null : decoded.page(slot);
    if (decoded !== null && page?.length !== pageSize)
      throw missingPage(chunk, decoded, slot, pageSize);
    return page;
  }

  #load(handle: ChunkHandle): DecodedChunk {
    handle.location ??= this.locate(handle.id);
    if (handle.location === null) throw notIndexed(handle);
    const decoded = this.readChunk(handle.id, handle.location);
    this.#cache.admit(handle, decoded);
    return decoded;
  }

  /** What the chunk index says: null when it does not have the chunk. */
  locate(id: Uint8Array): ChunkLocation | null {
    return this.#options.locate(id) ?? null;
  }

  /** Reads and verifies a chunk past the cache; the result is the caller's own. */
  readChunk(id: Uint8Array, location: ChunkLocation, options: ReadChunkOptions = {}): DecodedChunk {
    const { pack, offset, length } = location;
    const place = `${packPath(pack)} at ${offset}`;
    const chunk = Buffer.from(id).toString("hex");
    if (!(offset >= PACK_HEADER_SIZE) || !(length > 0 && length <= CHUNK_SIZE_MAX)) {
      throw new StoreError(
        "CORRUPT_CHUNK",
        `Cannot read chunk ${chunk} in "${place}": its length is ${length}`,
        {
          details: { chunk, place },
        },
      );
    }
    const { file } = this.#openPack(pack, chunk);
    if (this.#scratch.length < length) this.#scratch = new Uint8Array(length * 2);
    const bytes = this.#scratch.subarray(0, length);
    const count = file.readSync(offset, bytes);
    if (count !== length) {
      throw new StoreError(
        "CORRUPT_CHUNK",
        `Cannot read chunk ${chunk} in "${place}": the file ends after ${count} of ${length} bytes`,
        { details: { chunk, place } },
      );
    }
    const { cipher } = this.#options;
    const decoded = decodeChunk(bytes, { expectedId: id, cipher, place, ...options });
    return decoded.pages.buffer === this.#scratch.buffer ? decoded.clone() : decoded;
  }

  #openPack(number: number, chunk: string): ReadablePack {
    const key = String(number);
    const open = this.#readable.get(key);
    if (open !== undefined) return open;
    const { storage, storeId } = this.#options;
    const path = packPath(number);
    let file: StorageFile;
    try {
      file = storage.openFileSync(path, { mode: "read" });
    } catch (cause) {
      if (!(cause instanceof StoreError) || cause.code !== "FILE_NOT_FOUND") throw cause;
      throw new StoreError(
        "CORRUPT_CHUNK",
        `Cannot read chunk ${chunk}: pack "${path}" is missing`,
        {
          cause,
          details: { chunk, place: path },
        },
      );
    }
    try {
      const header = new Uint8Array(PACK_HEADER_SIZE);
      const count = file.readSync(0, header);
      checkPackHeader(header.subarray(0, count), { storeId, number });
    } catch (error) {
      file.closeSync();
      throw error;
    }
    const pack: ReadablePack = { file, weight: 1, referenced: false };
    this.#readable.set(key, pack);
    return pack;
  }

  /** For garbage collection: the chunk has moved, or lost pages, and its index entry says so. */
  relocate(handle: ChunkHandle, location: ChunkLocation): void {
    this.#cache.drop(handle);
    handle.location = location;
  }

  /** For garbage collection: closes and deletes a pack that no index entry names; never the one being written. */
  deletePack(number: number): void {
    invariant(number !== this.#writable?.number, `pack ${number} is being written`);
    this.#readable.delete(String(number));
    this.#options.storage.deleteSync(packPath(number));
  }

  statistics(): PageCacheStatistics {
    return this.#cache.statistics();
  }

  /** Closes the files. What was not synced may be lost. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cache.clear();
    this.#readable.clear();
    const packs = new Set([...this.#dirty, ...this.#syncing]);
    if (this.#writable !== null) packs.add(this.#writable);
    this.#dirty.clear();
    this.#writable = null;
    for (const { file } of packs) file.closeSync();
  }
}

function notIndexed(handle: ChunkHandle): StoreError {
  const chunk = handle.name;
  return new StoreError(
    "CORRUPT_CHUNK",
    `Cannot read chunk ${chunk}: the chunk index does not have it`,
    {
      details: { chunk },
    },
  );
}

function missingPage(
  handle: ChunkHandle,
  chunk: DecodedChunk,
  slot: number,
  pageSize: number,
): StoreError {
  const { pageSize: size, slotCount } = chunk;
  const what =
    size !== pageSize
      ? `its pages have ${size} bytes instead of ${pageSize}`
      : `slot ${slot} of ${slotCount} is ${slot < slotCount ? "a hole" : "past its end"}`;
  return new StoreError("CORRUPT_CHUNK", `Cannot read page in chunk ${handle.name}: ${what}`, {
    details: { chunk: handle.name, slot },
  });
}

function alignUp(offset: number): number {
  return Math.ceil(offset / 8) * 8;
}
