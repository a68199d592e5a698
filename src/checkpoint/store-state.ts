/** What an open store consists of, for the parts that work on it: recovery, checkpoints, snapshots of old versions. */
import type { RefState } from "../branch/refs.ts";
import type { Catalog } from "../catalog/catalog.ts";
import type { StoreCipher } from "../encryption/cipher.ts";
import type { Log } from "../log/log.ts";
import type { ChunkHandles, ChunkLocation } from "../page/chunk-handle.ts";
import type { ChunkStore } from "../page/chunk-store.ts";
import type { CodecChoice } from "../page/compression.ts";
import type { PageMap } from "../page/page-map.ts";
import { PageWriter, type PendingPages } from "../page/page-writer.ts";
import type { WriteBarrier } from "../page/write-barrier.ts";
import type { Storage } from "../storage/storage.ts";
import type { Outcomes } from "../transaction/outcomes.ts";
import type { ViewContext } from "../transaction/snapshot.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import type { PageHolder } from "../transaction/tracer.ts";
import type { HistoryFiles } from "./history-files.ts";

/** Everything but the log, which recovery opens last. */
export interface StoreParts {
  readonly storage: Storage;
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
  /** Of new chunks and history; may change while the store is open. */
  codec: CodecChoice;
  /** Pages in a chunk. */
  readonly chunkPages: number;
  readonly catalog: Catalog;
  readonly handles: ChunkHandles;
  readonly chunks: ChunkStore;
  readonly pageMap: PageMap;
  readonly pending: PendingPages;
  readonly barrier: WriteBarrier;
  /** Who needs more than the names of the store lead to. */
  readonly holders: Set<PageHolder>;
  /** Databases that come from another partition: they have rows, and do not exist yet. */
  readonly arriving: Set<number>;
  readonly history: HistoryFiles;
  readonly refs: RefState;
  readonly databases: Map<number, OpenDatabase>;
  readonly changedRefs: ChangedRefs;
  /** Which transactions have committed, by id. */
  readonly outcomes: Outcomes;
}

export interface StoreState extends StoreParts {
  readonly log: Log;
}

/** Rows of the catalog that are out of date. */
export class ChangedRefs {
  readonly databases: Set<number> = new Set();
  /** "database/branch" and so on. */
  readonly branches: Set<string> = new Set();
  readonly timelines: Set<string> = new Set();
  readonly tags: Set<string> = new Set();
  /** Databases that are gone, and whose rows go with the checkpoint that is under way. */
  readonly leaving: Set<number> = new Set();

  /** What changed is in a batch of the catalog. */
  clear(): void {
    this.databases.clear();
    this.branches.clear();
    this.timelines.clear();
    this.tags.clear();
  }
}

export function refKey(databaseId: number, id: number | string): string {
  return `${databaseId}/${id}`;
}

/** Where a chunk is: written since the last checkpoint, or in the catalog. */
export function locateChunk(parts: StoreParts, id: Uint8Array): ChunkLocation | undefined {
  const known = parts.handles.intern(id).location;
  return known ?? parts.catalog.chunk(id);
}

export function viewContext(parts: StoreParts, pageSize: number): ViewContext {
  return {
    pageSize,
    readChunkPage: (reference) => parts.chunks.readPage(reference, pageSize),
    ...(parts.storage.prefetch === undefined
      ? {}
      : { prefetch: (references) => parts.chunks.prefetch(references) }),
    holders: parts.holders,
  };
}

export function newPageWriter(parts: StoreParts, pageSize: number): PageWriter {
  const { chunks, handles, catalog, pending, barrier, cipher, codec, chunkPages } = parts;
  return new PageWriter({
    chunks,
    handles,
    pending,
    barrier,
    cipher,
    codec,
    pageSize,
    chunkPages,
    index: { find: (hash) => catalog.page(hash) },
    locate: (id) => locateChunk(parts, id),
  });
}
