/** From a catalog and a log to the state of an open store. */
import { Catalog } from "../catalog/catalog.ts";
import type { KeyValueStore } from "../catalog/key-value.ts";
import { HistoryFiles } from "../checkpoint/history-files.ts";
import { applyRecord, loadCatalog } from "../checkpoint/recovery.ts";
import {
  ChangedRefs,
  locateChunk,
  type StoreParts,
  type StoreState,
} from "../checkpoint/store-state.ts";
import { emptyRefState } from "../branch/refs.ts";
import type { CurrentCipher } from "../encryption/current-cipher.ts";
import { Log } from "../log/log.ts";
import { ChunkHandles } from "../page/chunk-handle.ts";
import { ChunkStore } from "../page/chunk-store.ts";
import { PageMap } from "../page/page-map.ts";
import { PendingPages } from "../page/page-writer.ts";
import { WriteBarrier } from "../page/write-barrier.ts";
import { Outcomes } from "../transaction/outcomes.ts";
import type { PageHolder } from "../transaction/tracer.ts";
import type { Storage } from "../storage/storage.ts";
import { codecOf } from "./compression-option.ts";
import type { StoreHeader } from "./store-header.ts";
import type { ResolvedOptions } from "./store-options.ts";

export interface OpenedState {
  readonly state: StoreState;
  readonly nextHistorySegment: number;
}

/** Reads the catalog and applies the log's records after it. */
export function openState(given: {
  readonly storage: Storage;
  readonly header: StoreHeader;
  readonly cipher: CurrentCipher | null;
  readonly resolved: ResolvedOptions;
  readonly catalog: KeyValueStore;
  /** Of an earlier state of the same store, whose connections go on. */
  readonly holders?: Set<PageHolder>;
}): OpenedState {
  const { storage, header, cipher, resolved } = given;
  const { storeId } = header;
  const catalog = new Catalog(given.catalog);
  const parts: StoreParts = {
    ...makeParts({ storage, storeId, cipher, resolved, catalog }),
    ...(given.holders === undefined ? {} : { holders: given.holders }),
  };
  try {
    const stored = catalog.state();
    if (stored !== null) parts.refs.nextDatabaseId = stored.nextDatabaseId;
    parts.outcomes.setCompleteSince(stored?.outcomesSinceMs ?? 0);
    loadCatalog(parts);
    const log = Log.open({
      storage,
      storeId,
      cipher,
      afterLsn: stored?.checkpointLsn ?? 0,
      segmentSize: resolved.logSegmentBytes,
      onRecord: (lsn, kind, payload) => applyRecord(parts, lsn, kind, payload),
    });
    return {
      state: { ...parts, log },
      nextHistorySegment: Math.max(
        stored?.nextHistorySegment ?? 1,
        parts.history.nextSegmentNumber(),
      ),
    };
  } catch (error) {
    parts.chunks.close();
    throw error;
  }
}

export function makeParts(given: {
  storage: Storage;
  storeId: Uint8Array;
  cipher: CurrentCipher | null;
  resolved: ResolvedOptions;
  catalog: Catalog;
}): StoreParts {
  const { storage, storeId, cipher, resolved, catalog } = given;
  const handles = new ChunkHandles();
  const chunks = ChunkStore.open({
    storage,
    storeId,
    cipher,
    handles,
    locate: (id) => locateChunk(parts, id),
    cacheBytesMax: resolved.cacheBytesMax,
  });
  const pageMap = new PageMap({
    source: { load: (id) => catalog.node(id) },
    handles,
    cipher,
  });
  const parts: StoreParts = {
    storage,
    storeId,
    cipher,
    codec: codecOf(resolved.compression ?? "lz4"),
    chunkPages: resolved.chunkPages,
    catalog,
    handles,
    chunks,
    pageMap,
    pending: new PendingPages(),
    barrier: new WriteBarrier(),
    holders: new Set(),
    arriving: new Set(),
    history: new HistoryFiles({ storage, storeId, cipher }),
    refs: emptyRefState(),
    databases: new Map(),
    changedRefs: new ChangedRefs(),
    outcomes: new Outcomes({
      windowMs: resolved.outcomeWindowMs,
      countMax: resolved.outcomesMax,
      now: resolved.now,
    }),
  };
  return parts;
}
