/**
 * Writes chunks to pack files (pack-format.ts): the part of the chunk store that can lose or damage something.
 *
 *   writable pack --the next chunk does not fit, finishPack--> full --sync covers all its writes--> closed, never written again
 *
 * Invariants
 * Q1. A pack is written by one process only, and only at its end: a pack left by an earlier one is never appended to.
 * Q2. A chunk can be read as soon as `append` returned, and is durable, with its pack's name, once a `sync` that began
 *     after that returned, be it the first or one that waited for another. Its index entry is committed after that.
 * Q3. After a failed write or sync nothing more is written: the contents of the pack are unknown. Reading goes on.
 */
import { invariant, StoreError } from "../errors.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { CHUNK_SIZE_MAX, type EncodedChunk } from "./chunk-format.ts";
import type { ChunkLocation } from "./chunk-handle.ts";
import {
  encodePackHeader,
  PACK_DIRECTORY,
  PACK_HEADER_SIZE,
  PACK_NUMBER_MAX,
  packNumber,
  packPath,
} from "./pack-format.ts";

const PACK_SIZE_MAX_DEFAULT = 64 * 1024 * 1024;

export interface PackWriterOptions {
  readonly storage: Storage;
  /** 16 bytes. */
  readonly storeId: Uint8Array;
  /** A pack is closed when the next chunk would make it larger. */
  readonly packSizeMax?: number;
  /** No new pack gets a lower number, even where the files of higher ones are gone. */
  readonly nextPackNumber?: number;
}

/** The pack being written. */
interface WritablePack {
  readonly number: number;
  readonly file: StorageFile;
  end: number;
  /** Asynchronous writes under way. */
  pendingCount: number;
}

export class PackWriter {
  readonly #options: PackWriterOptions;
  /** Written, with no sync begun since. */
  readonly #dirty = new Set<WritablePack>();
  /** In an asynchronous sync that has not ended. */
  readonly #syncing = new Set<WritablePack>();
  #lastSync: Promise<void> = Promise.resolve();
  #hasNewName = false;
  #writable: WritablePack | null = null;
  #nextPackNumber: number;
  #appendedBytes = 0;
  #failure: unknown = null;
  #closed = false;

  /** Makes the directory where it is missing. Opens no pack. */
  constructor(options: PackWriterOptions) {
    const { storage } = options;
    if (!storage.existsSync(PACK_DIRECTORY)) {
      storage.makeDirectorySync(PACK_DIRECTORY);
      storage.syncDirectorySync("");
    }
    let next = options.nextPackNumber ?? 1;
    for (const name of storage.listSync(PACK_DIRECTORY)) {
      next = Math.max(next, (packNumber(name) ?? 0) + 1);
    }
    this.#options = options;
    this.#nextPackNumber = next;
  }

  /** The pack being written, null before the first chunk. */
  get writablePackNumber(): number | null {
    return this.#writable?.number ?? null;
  }

  /** The number that the next new pack gets. */
  get nextPackNumber(): number {
    return this.#nextPackNumber;
  }

  /** Bytes of all chunks since it was opened. */
  get appendedBytes(): number {
    return this.#appendedBytes;
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
    const packSizeMax = this.#options.packSizeMax ?? PACK_SIZE_MAX_DEFAULT;
    let pack = this.#writable;
    if (pack === null || (pack.end + length > packSizeMax && pack.end > PACK_HEADER_SIZE)) {
      pack = this.#startPack();
    }
    const location = { pack: pack.number, offset: pack.end, length };
    pack.end = alignUp(pack.end + length);
    this.#appendedBytes += length;
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

  /** New packs have at least this number. */
  reserveNumbers(next: number): void {
    this.#nextPackNumber = Math.max(this.#nextPackNumber, next);
  }

  /** The next chunk goes into a new pack. */
  finishPack(): void {
    const pack = this.#writable;
    this.#writable = null;
    if (pack !== null) this.#closeIfDone(pack);
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

  /** Closes the files. What was not synced may be lost. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const packs = new Set([...this.#dirty, ...this.#syncing]);
    if (this.#writable !== null) packs.add(this.#writable);
    this.#dirty.clear();
    this.#writable = null;
    for (const { file } of packs) file.closeSync();
  }
}

function alignUp(offset: number): number {
  return Math.ceil(offset / 8) * 8;
}
