/**
 * The sweep of a garbage collection cycle, after the mark: rows of the catalog that describe what is dead.
 *
 *   page hashes of dead slots --> chunks without live slots --> nodes that nothing leads to
 *
 * D1. A row goes in the same turn in which it is found dead, after everything that could still revive it has been looked at:
 *     between that look and the catalog's commit nothing else runs.
 * D2. Page hashes go first. From then on no writer finds a dead slot by its content, and what was found before is marked.
 *     A chunk that is written again under the same id is marked whole by the barrier.
 * D3. Each commit leaves a valid store: what it deletes, nothing that can be named leads to.
 * D4. What memory knows of a chunk that goes (its place, its pages) goes in the same turn.
 */
import {
  CatalogBatch,
  type ChunkPlace,
  decodeChunkPlace,
  decodePagePlace,
  Table,
} from "../catalog/catalog.ts";
import { openValue } from "../catalog/record-codec.ts";
import { visitRows } from "../catalog/table-rows.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import { idKey } from "../page/chunk-handle.ts";
import type { LiveSet } from "./mark.ts";
import type { PackUse } from "./sweep-packs.ts";

/** Rows that are looked at in one step. */
const ROWS_PER_STEP = 256;
/** Dead rows of one commit. */
const BATCH_ROWS = 256;

export interface SweepRequest {
  readonly state: StoreState;
  readonly live: LiveSet;
  readonly report: SweepReport;
  readonly isDryRun: boolean;
}

/** What a sweep found dead. */
export interface SweepReport {
  pageHashes: number;
  chunks: number;
  /** As stored. */
  chunkBytes: number;
  nodes: number;
  nodeBytes: number;
}

interface DeadPage {
  readonly hash: Uint8Array;
  readonly chunkId: Uint8Array;
  readonly slot: number;
}

export function* sweepPageHashes(request: SweepRequest): Generator<void, void, void> {
  const { state, live, report, isDryRun } = request;
  let dead: DeadPage[] = [];
  let after: Uint8Array | null = null;
  do {
    const options = { after, limit: ROWS_PER_STEP };
    after = visitRows(state.catalog.store, Table.pageHash, options, (key, value) => {
      const { chunkId, slot } = decodePagePlace(openValue(key, value, "a page hash"));
      if (!live.chunks.hasBit(chunkId, slot))
        dead.push({ hash: Uint8Array.from(key.subarray(1)), chunkId, slot });
    });
    if (dead.length >= BATCH_ROWS || (after === null && dead.length > 0)) {
      if (isDryRun) report.pageHashes += dead.length;
      else {
        yield;
        report.pageHashes += deletePageHashes(state, live, dead);
      }
      dead = [];
    }
    yield;
  } while (after !== null);
}

/** D1. */
function deletePageHashes({ catalog }: StoreState, live: LiveSet, dead: DeadPage[]): number {
  const batch = new CatalogBatch();
  let count = 0;
  for (const { hash, chunkId, slot } of dead) {
    if (live.chunks.hasBit(chunkId, slot)) continue;
    // The page may have been stored again meanwhile: then the row tells the new place.
    const now = catalog.page(hash);
    if (now === undefined || now.slot !== slot || Buffer.compare(now.chunkId, chunkId) !== 0)
      continue;
    batch.deletePage(hash);
    count++;
  }
  if (count > 0) batch.commit(catalog.store);
  return count;
}

/** Tells `use` of every chunk that stays: nothing that is in none of its packs is in the catalog. */
export function* sweepChunks(request: SweepRequest, use: PackUse): Generator<void, void, void> {
  const { state, live, report, isDryRun } = request;
  let dead: DeadChunk[] = [];
  let after: Uint8Array | null = null;
  do {
    const options = { after, limit: ROWS_PER_STEP };
    after = visitRows(state.catalog.store, Table.chunk, options, (key, value) => {
      const place = decodeChunkPlace(openValue(key, value, "a chunk"));
      const bits = live.chunks.bits(key.subarray(1));
      if (bits === 0n) dead.push({ id: Uint8Array.from(key.subarray(1)), place });
      else use.add(place, bits);
    });
    if (dead.length >= BATCH_ROWS || (after === null && dead.length > 0)) {
      if (!isDryRun) yield;
      const gone = isDryRun ? dead : deleteChunks(state, live, dead);
      report.chunks += gone.length;
      for (const { place } of gone) report.chunkBytes += place.length;
      if (gone.length < dead.length)
        for (const { id, place } of dead)
          if (live.chunks.has(id)) use.add(place, live.chunks.bits(id));
      dead = [];
    }
    yield;
  } while (after !== null);
}

interface DeadChunk {
  readonly id: Uint8Array;
  readonly place: ChunkPlace;
}

/** D1, D4. Those that a writer has revived stay. */
function deleteChunks(
  { catalog, handles, chunks }: StoreState,
  live: LiveSet,
  dead: readonly DeadChunk[],
): readonly DeadChunk[] {
  const gone = dead.filter(({ id }) => !live.chunks.has(id));
  if (gone.length === 0) return gone;
  const batch = new CatalogBatch();
  for (const { id } of gone) batch.deleteChunk(id);
  batch.commit(catalog.store);
  for (const { id } of gone) {
    const handle = handles.find(idKey(id));
    if (handle !== null) chunks.relocate(handle, null);
  }
  return gone;
}

export function* sweepNodes(request: SweepRequest): Generator<void, void, void> {
  const { state, live, report, isDryRun } = request;
  let dead: { readonly id: Uint8Array; readonly size: number }[] = [];
  let after: Uint8Array | null = null;
  do {
    const options = { after, limit: ROWS_PER_STEP };
    after = visitRows(state.catalog.store, Table.node, options, (key, value) => {
      if (!live.hasNode(key, 1))
        dead.push({ id: Uint8Array.from(key.subarray(1)), size: value.length });
    });
    if (dead.length >= BATCH_ROWS || (after === null && dead.length > 0)) {
      if (!isDryRun) yield;
      const gone = dead.filter(({ id }) => !live.hasNode(id, 0));
      const batch = new CatalogBatch();
      for (const { id, size } of gone) {
        batch.deleteNode(id);
        report.nodes++;
        report.nodeBytes += size;
      }
      if (!isDryRun && gone.length > 0) batch.commit(state.catalog.store);
      dead = [];
    }
    yield;
  } while (after !== null);
}
