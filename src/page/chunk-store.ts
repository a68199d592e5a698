/**
 * Chunks in pack files: written by the pack writer (pack-writer.ts, invariants Q1-Q3), read through the page cache
 * (page-cache.ts). Where a chunk is, the chunk index in the catalog knows; it is asked through `locate`, once per handle.
 *
 * Invariants
 * U1. A page is returned only out of a chunk that was verified (chunk-format.ts) since it was read; what is missing or
 *     damaged is CORRUPT_CHUNK, never an empty page.
 * U2. Returned views are shared with the cache: callers never write to them.
 */
import type { StoreCipher } from "../encryption/cipher.ts";
import { invariant, StoreError } from "../errors.ts";
import type { StorageFile } from "../storage/storage.ts";
import { readVerified } from "../storage/verified-read.ts";
import {
  CHUNK_HEADER_SIZE,
  CHUNK_SIZE_MAX,
  checkStoredChunk,
  type ChunkShape,
  type DecodedChunk,
  decodeChunk,
  type EncodedChunk,
  readChunkShape,
} from "./chunk-format.ts";
import type { ChunkHandle, ChunkHandles, ChunkLocation, ChunkReference } from "./chunk-handle.ts";
import { ClockCache } from "./clock-cache.ts";
import { checkPackHeader, PACK_HEADER_SIZE, packPath } from "./pack-format.ts";
import { PackWriter, type PackWriterOptions } from "./pack-writer.ts";
import { PageCache, type PageCacheStatistics } from "./page-cache.ts";

export type { ChunkHandle, ChunkLocation, ChunkReference } from "./chunk-handle.ts";

const OPEN_PACKS_MAX = 128;

export interface ChunkStoreOptions extends PackWriterOptions {
  readonly cipher: StoreCipher | null;
  readonly handles: ChunkHandles;
  /** The chunk index: where a chunk is; null or undefined when it does not have it, which reading reports as damage. */
  readonly locate: (id: Uint8Array) => ChunkLocation | null | undefined;
  readonly cacheBytesMax: number;
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

export class ChunkStore {
  readonly #options: ChunkStoreOptions;
  readonly #cache: PageCache;
  readonly #readable: ClockCache<ReadablePack>;
  readonly #writer: PackWriter;
  /** Chunks are read into this and decoded out of it. */
  #scratch: Uint8Array = new Uint8Array(0);
  #closed = false;

  private constructor(options: ChunkStoreOptions) {
    this.#options = options;
    this.#cache = new PageCache(options.cacheBytesMax);
    this.#readable = new ClockCache<ReadablePack>(OPEN_PACKS_MAX, ({ file }) => file.closeSync());
    this.#writer = new PackWriter(options);
  }

  /** Makes the directory where it is missing. Opens no pack. */
  static open(options: ChunkStoreOptions): ChunkStore {
    return new ChunkStore(options);
  }

  /** The number that the next new pack gets. */
  get nextPackNumber(): number {
    return this.#writer.nextPackNumber;
  }

  /** New packs have at least this number: lower ones have been used, though the packs may be gone. */
  reservePackNumbers(next: number): void {
    this.#writer.reserveNumbers(next);
  }

  /** Bytes of all chunks written since the store was opened. */
  get appendedBytes(): number {
    return this.#writer.appendedBytes;
  }

  /** Writes a chunk without making it durable; see Q2. */
  append(chunk: EncodedChunk): ChunkLocation {
    return this.#writer.append(chunk);
  }

  /** The same; the bytes must not change until it settles. Several may be on their way at once. */
  appendAsync(chunk: EncodedChunk): Promise<ChunkLocation> {
    return this.#writer.appendAsync(chunk);
  }

  /** Makes every chunk whose append returned durable, with its pack's name. */
  syncSync(): void {
    this.#writer.syncSync();
  }

  /** The same without blocking, but for the directory's own sync. */
  sync(): Promise<void> {
    return this.#writer.sync();
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

  /** Starts to bring chunks here that will probably be read soon, in this order. Neither waits nor fails. */
  prefetch(references: readonly ChunkReference[]): void {
    for (const { chunk } of references) {
      if (chunk.cached !== null) continue;
      try {
        chunk.location ??= this.locate(chunk.id);
      } catch {
        return; // Where it is, is not known here yet. Who reads it hears of what is wrong.
      }
      if (chunk.location === null) continue;
      const { pack, offset, length } = chunk.location;
      this.#options.storage.prefetch?.(packPath(pack), [{ offset, length }]);
    }
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
    const place = `${packPath(location.pack)} at ${location.offset}`;
    const { cipher } = this.#options;
    const { file } = this.#openPack(location.pack, Buffer.from(id).toString("hex"));
    const decoded = readVerified(file, location, () =>
      decodeChunk(this.#readBytes(id, location), { expectedId: id, cipher, place, ...options }),
    );
    return decoded.pages.buffer === this.#scratch.buffer ? decoded.clone() : decoded;
  }

  /** A view of the scratch buffer. */
  #readBytes(id: Uint8Array, { pack, offset, length }: ChunkLocation): Uint8Array {
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
    return bytes;
  }

  /** What the chunk's header says of it, from disk and unverified: for statistics. */
  readShape(id: Uint8Array, { pack, offset }: ChunkLocation): ChunkShape {
    const { file } = this.#openPack(pack, Buffer.from(id).toString("hex"));
    const header = new Uint8Array(CHUNK_HEADER_SIZE);
    const count = file.readSync(offset, header);
    const place = `${packPath(pack)} at ${offset}`;
    return readChunkShape(header.subarray(0, count), { expectedId: id, place });
  }

  #openPack(number: number, chunk: string): ReadablePack {
    if (this.#closed)
      throw new StoreError("STORE_CLOSED", `Cannot read chunk ${chunk}: the store is closed`);
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
      readVerified(file, { offset: 0, length: PACK_HEADER_SIZE }, () => {
        const count = file.readSync(0, header);
        checkPackHeader(header.subarray(0, count), { storeId, number });
      });
    } catch (error) {
      file.closeSync();
      throw error;
    }
    const pack: ReadablePack = { file, weight: 1, referenced: false };
    this.#readable.set(key, pack);
    return pack;
  }

  /** No chunk written from now on goes into the pack written so far. */
  finishPack(): void {
    this.#writer.finishPack();
  }

  /** The bytes of a chunk as they are stored, their checksum verified; a view until the next call. */
  readStored(id: Uint8Array, location: ChunkLocation): Uint8Array {
    const place = `${packPath(location.pack)} at ${location.offset}`;
    const { file } = this.#openPack(location.pack, Buffer.from(id).toString("hex"));
    return readVerified(file, location, () => {
      const bytes = this.#readBytes(id, location);
      checkStoredChunk(bytes, { expectedId: id, place });
      return bytes;
    });
  }

  /** The chunk has moved, lost pages or got them back; null: it is not stored any more. */
  relocate(handle: ChunkHandle, location: ChunkLocation | null): void {
    this.#cache.drop(handle);
    handle.location = location;
  }

  /** For garbage collection: closes and deletes a pack that no index entry names; never the one being written. */
  deletePack(number: number): void {
    invariant(number !== this.#writer.writablePackNumber, `pack ${number} is being written`);
    this.#readable.delete(String(number));
    this.#options.storage.deleteSync(packPath(number));
  }

  statistics(): PageCacheStatistics {
    return this.#cache.statistics();
  }

  /** Closes the files. What was not synced may be lost. */
  close(): void {
    this.#closed = true;
    this.#cache.clear();
    this.#readable.clear();
    this.#writer.close();
  }
}

function notIndexed(handle: ChunkHandle): StoreError {
  const chunk = handle.name;
  return new StoreError(
    "CORRUPT_CHUNK",
    `Cannot read chunk ${chunk}: the chunk index does not have it`,
    {
      // What repair could not bring back: see `isLostPage`.
      details: { chunk, isLost: true },
    },
  );
}

/**
 * Whether an error says that a page is lost for good: the store itself says that it does not have it, as after a repair that did
 * not find it. Damaged bytes or a missing file may still be brought back.
 */
export function isLostPage(error: unknown): boolean {
  return error instanceof StoreError && error.details["isLost"] === true;
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
    details: { chunk: handle.name, slot, isLost: size === pageSize && slot < slotCount },
  });
}
