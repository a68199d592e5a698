/**
 * Puts the chunks and pages written since the last checkpoint into the catalog ahead of the next one, so that a long run of
 * writes (an import) does not keep an index entry per page in memory.
 *
 * D1. A chunk is in the catalog only after its bytes are durable. Until a commit refers to it, it is garbage, no more.
 */
import { CatalogBatch } from "../catalog/catalog.ts";
import { invariant } from "../errors.ts";
import type { StoreParts } from "./store-state.ts";

/** Rows of one catalog transaction: few enough that what it allocates dies young. */
const SLICE_ROWS = 2048;

/** Other work goes on meanwhile; what it adds stays pending. */
export async function indexPendingPages(parts: StoreParts): Promise<void> {
  const { pending, chunks, catalog } = parts;
  await chunks.sync();
  chunks.syncSync(); // What came meanwhile: all that is pending now is durable.
  const chunkKeys = [...pending.chunks.keys()];
  // In order of the keys each transaction changes few pages of the catalog's tree, and leaves them full.
  const pageKeys = [...pending.pages.keys()].sort();
  for (let start = 0; start < chunkKeys.length; start += SLICE_ROWS) {
    const batch = new CatalogBatch();
    const keys = chunkKeys.slice(start, start + SLICE_ROWS);
    for (const key of keys) putChunk(parts, batch, key);
    batch.commit(catalog.store);
    for (const key of keys) pending.chunks.delete(key);
  }
  for (let start = 0; start < pageKeys.length; start += SLICE_ROWS) {
    const batch = new CatalogBatch();
    const keys = pageKeys.slice(start, start + SLICE_ROWS);
    for (const key of keys) putPage(parts, batch, key);
    batch.commit(catalog.store);
    for (const key of keys) pending.pages.delete(key);
    await nextTurn();
  }
}

/** All at once: for garbage collection, which frees what the catalog knows and nobody needs. */
export function settlePending(parts: StoreParts): void {
  const { pending, chunks, catalog } = parts;
  if (pending.chunks.size === 0 && pending.pages.size === 0) return;
  chunks.syncSync();
  const batch = new CatalogBatch();
  putPending(parts, batch);
  batch.commit(catalog.store);
  pending.clear();
}

/** For a batch that is committed in the same turn: the chunks are durable, and `pending` is cleared after it. */
export function putPending(parts: StoreParts, batch: CatalogBatch): void {
  for (const key of parts.pending.chunks.keys()) putChunk(parts, batch, key);
  for (const key of parts.pending.pages.keys()) putPage(parts, batch, key);
}

/** Nothing where a checkpoint has put it into the catalog meanwhile. */
function putChunk({ pending }: StoreParts, batch: CatalogBatch, key: string): void {
  const handle = pending.chunks.get(key);
  if (handle === undefined) return;
  invariant(handle.location !== null, `Chunk ${handle.name} has a location`);
  batch.putChunk(handle.id, handle.location);
}

function putPage({ pending }: StoreParts, batch: CatalogBatch, key: string): void {
  const reference = pending.pages.get(key);
  if (reference === undefined) return;
  const { chunk, slot } = reference;
  batch.putPage(Buffer.from(key, "latin1"), { chunkId: chunk.id, slot });
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
