/**
 * The page cache: decoded chunks under a limit in bytes. A chunk in the cache hangs on its handle, so a hit is one
 * property read; the cache's own map serves only admission and eviction.
 *
 * G1. `handle.cached` is set exactly while the cache holds the chunk.
 * G2. Views of pages stay valid after eviction: they keep their memory alive, the cache only forgets it.
 */
import type { DecodedChunk } from "./chunk-format.ts";
import type { CachedChunk, ChunkHandle } from "./chunk-handle.ts";
import { ClockCache } from "./clock-cache.ts";

/** What a cached chunk takes beside its pages: the view of each page, the entry, its key. */
const OVERHEAD_PER_SLOT = 160;
const OVERHEAD = 512;

export interface PageCacheStatistics {
  readonly hits: number;
  readonly misses: number;
  /** Held now. */
  readonly bytes: number;
  readonly bytesMax: number;
  readonly chunks: number;
}

export class PageCache {
  hits = 0;
  misses = 0;
  readonly #chunks: ClockCache<CachedChunk>;

  constructor(bytesMax: number) {
    this.#chunks = new ClockCache<CachedChunk>(bytesMax, (entry) => {
      entry.handle.cached = null;
    });
  }

  /** Null when the chunk is not cached; counts a hit or a miss. */
  get(handle: ChunkHandle): DecodedChunk | null {
    const cached = handle.cached;
    if (cached === null) {
      this.misses++;
      return null;
    }
    this.hits++;
    cached.referenced = true;
    return cached.chunk;
  }

  admit(handle: ChunkHandle, chunk: DecodedChunk): void {
    const weight = chunk.pages.length + chunk.slotCount * OVERHEAD_PER_SLOT + OVERHEAD;
    const entry: CachedChunk = { handle, chunk, weight, referenced: false };
    this.#chunks.set(handle.key, entry);
    handle.cached = entry;
  }

  drop(handle: ChunkHandle): void {
    this.#chunks.delete(handle.key);
  }

  clear(): void {
    this.#chunks.clear();
  }

  statistics(): PageCacheStatistics {
    return {
      hits: this.hits,
      misses: this.misses,
      bytes: this.#chunks.weight,
      bytesMax: this.#chunks.weightMax,
      chunks: this.#chunks.count,
    };
  }
}
