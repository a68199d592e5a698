/**
 * Blocks of immutable objects that are on this machine: some in memory, more on disk (`block-cache-files.ts`). What is
 * cached is what object storage has, so encrypted where that is.
 *
 * Blocks come into memory and go to disk a little later, between other work or when too many wait: writing one takes about
 * as long as 20 page reads, and whoever waits for the block should not wait for that too.
 *
 * L1. Memory holds at most `memoryBytesMax` of recently read blocks, WRITES_WAITING_MAX blocks to be written, and the pinned ones.
 * L2. A pinned block stays in memory until it has been read as often as it was pinned, or for PIN_MS: the reader that
 *     it was fetched for has then gone.
 * L3. A key names the same bytes for ever. Blocks of another object of the same key and size would be taken for its own.
 */
import { createHash } from "node:crypto";

import type { Storage } from "../storage/storage.ts";
import { BlockFiles } from "./block-cache-files.ts";

export const BLOCK_SIZE = 65_536;

const MEMORY_BYTES_MAX = 8 * 1024 * 1024;
const WRITES_WAITING_MAX = 128;
/** Of a turn of the event loop; at least one block is written. */
const TURN_MS = 0.25;
const PIN_MS = 60_000;

export interface BlockCacheOptions {
  /** On disk. */
  readonly bytesMax: number;
  /** Of recently read blocks, by default 8 MiB. */
  readonly memoryBytesMax?: number;
  /** A clock that does not go back. */
  readonly nowMs?: () => number;
}

/** An object whose blocks are cached; made by `BlockCache.object`. */
export interface CachedObject {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  readonly hash: string;
  /** Names of blocks, made when first needed: a new string for each read would cost more than the read. */
  readonly ids: string[];
}

export interface BlockCacheStatistics {
  /** Bytes on disk, of the files known by now. */
  readonly diskBytes: number;
  readonly memoryBytes: number;
  readonly pinnedBlocks: number;
  readonly evictions: number;
  /** Files that did not match their checksum or could not be read. */
  readonly damagedFiles: number;
}

interface RecentBlock {
  readonly bytes: Uint8Array;
  /** Since it was last considered for eviction. */
  wasRead: boolean;
}

interface Pin {
  readonly bytes: Uint8Array;
  count: number;
  sinceMs: number;
}

export class BlockCache {
  private readonly files: BlockFiles;
  private readonly memoryBytesMax: number;
  private readonly nowMs: () => number;
  /** Evicted by CLOCK, as the files are. The map's order is the clock's, its first block under the hand. */
  private readonly recent = new Map<string, RecentBlock>();
  private recentBytes = 0;
  /** Oldest first. */
  private readonly pinned = new Map<string, Pin>();
  private readonly unwritten = new Map<string, Uint8Array>();
  private turn: NodeJS.Immediate | null = null;
  private isClosed = false;

  /** `storage` is the cache's own; whatever is in it from before is used again. */
  constructor(storage: Storage, options: BlockCacheOptions) {
    this.nowMs = options.nowMs ?? (() => performance.now());
    this.files = new BlockFiles(storage, options.bytesMax, this.nowMs);
    this.memoryBytesMax = options.memoryBytesMax ?? MEMORY_BYTES_MAX;
  }

  object(key: string, size: number): CachedObject {
    const hash = createHash("sha256").update(key).digest("hex").slice(0, 32);
    return { key, size, hash, ids: [] };
  }

  /** The block, to be read and not kept: others read the same bytes. Null when it is not here. */
  block(object: CachedObject, index: number): Uint8Array | null {
    const id = blockId(object, index);
    const recent = this.recent.get(id);
    if (recent !== undefined) {
      recent.wasRead = true;
      return recent.bytes;
    }
    const bytes =
      this.pinned.get(id)?.bytes ??
      this.unwritten.get(id) ??
      this.files.read(id, blockSize(object, index));
    if (bytes !== null) this.remember(id, bytes);
    return bytes;
  }

  /** The block is here, as far as is known without reading it. */
  has(object: CachedObject, index: number): boolean {
    const id = blockId(object, index);
    return (
      this.recent.has(id) || this.pinned.has(id) || this.unwritten.has(id) || this.files.has(id)
    );
  }

  /** Takes over the buffer of a whole block. */
  insert(object: CachedObject, index: number, bytes: Uint8Array): void {
    const id = blockId(object, index);
    if (this.isClosed) return;
    this.remember(id, bytes);
    this.unwritten.set(id, bytes);
    if (this.unwritten.size > WRITES_WAITING_MAX) this.writeOne();
    this.turn ??= setImmediate(() => this.writeInTurn());
  }

  /** Keeps a block for a reader that comes (L2). False when it is not here. */
  pin(object: CachedObject, index: number): boolean {
    const id = blockId(object, index);
    const nowMs = this.nowMs();
    this.expirePins(nowMs);
    const known = this.pinned.get(id);
    if (known !== undefined) {
      known.count++;
      this.pinned.delete(id);
      this.pinned.set(id, { ...known, sinceMs: nowMs });
      return true;
    }
    const bytes = this.block(object, index);
    if (bytes === null) return false;
    this.pinned.set(id, { bytes, count: 1, sinceMs: nowMs });
    return true;
  }

  /** One reader has read the block, or has gone. */
  release(object: CachedObject, index: number): void {
    if (this.pinned.size === 0) return;
    const id = blockId(object, index);
    const pin = this.pinned.get(id);
    if (pin === undefined) return;
    pin.count--;
    if (pin.count === 0) this.pinned.delete(id);
  }

  /** Forgets a block, so that it is fetched again. */
  drop(object: CachedObject, index: number): void {
    const id = blockId(object, index);
    this.forget(id);
    this.pinned.delete(id);
    this.unwritten.delete(id);
    this.files.drop(id);
  }

  statistics(): BlockCacheStatistics {
    const { bytes, evictions, damaged } = this.files;
    return {
      diskBytes: bytes,
      memoryBytes: this.recentBytes,
      pinnedBlocks: this.pinned.size,
      evictions,
      damagedFiles: damaged,
    };
  }

  /** Writes what waits to be written. */
  flush(): void {
    while (this.unwritten.size > 0) this.writeOne();
  }

  /** For the next start to find all blocks. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.turn !== null) clearImmediate(this.turn);
    this.turn = null;
    this.flush();
    this.recent.clear();
    this.recentBytes = 0;
    this.pinned.clear();
  }

  private remember(id: string, bytes: Uint8Array): void {
    this.forget(id);
    this.recent.set(id, { bytes, wasRead: false });
    this.recentBytes += bytes.byteLength;
    while (this.recentBytes > this.memoryBytesMax) {
      const oldest = this.recent.entries().next();
      if (oldest.done === true) return;
      const [oldestId, block] = oldest.value;
      this.recent.delete(oldestId);
      if (block.wasRead) this.recent.set(oldestId, { bytes: block.bytes, wasRead: false });
      else this.recentBytes -= block.bytes.byteLength;
    }
  }

  private forget(id: string): void {
    const known = this.recent.get(id);
    if (known === undefined) return;
    this.recent.delete(id);
    this.recentBytes -= known.bytes.byteLength;
  }

  private writeInTurn(): void {
    this.turn = null;
    const startMs = performance.now();
    do this.writeOne();
    while (this.unwritten.size > 0 && performance.now() - startMs < TURN_MS);
    if (this.unwritten.size > 0) this.turn = setImmediate(() => this.writeInTurn());
  }

  private writeOne(): void {
    for (const [id, bytes] of this.unwritten) {
      this.unwritten.delete(id);
      this.files.write(id, bytes);
      return;
    }
  }

  private expirePins(nowMs: number): void {
    for (const [id, { sinceMs }] of this.pinned) {
      if (nowMs - sinceMs < PIN_MS) return;
      this.pinned.delete(id);
    }
  }
}

/** Bytes of a block: only an object's last one is shorter. */
export function blockSize(object: { readonly size: number }, index: number): number {
  return Math.min(BLOCK_SIZE, object.size - index * BLOCK_SIZE);
}

export function blockId(object: CachedObject, index: number): string {
  return (object.ids[index] ??= `${object.hash}-${index.toString(16)}`);
}
