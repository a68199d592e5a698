/**
 * Puts the chunks and pages written since the last checkpoint into the catalog ahead of the next one, so that a long run of
 * writes (an import) does not keep an index entry per page in memory.
 *
 * D1. A chunk is in the catalog only after its bytes are durable. Until a commit refers to it, it is garbage, no more.
 */
import { CatalogBatch } from "../catalog/catalog.ts";
import { invariant } from "../errors.ts";
import type { StoreParts } from "./store-state.ts";

export async function indexPendingPages(parts: StoreParts): Promise<void> {
  await parts.chunks.sync();
  parts.chunks.syncSync(); // What came meanwhile; from here on nothing else runs.
  const batch = new CatalogBatch();
  putPending(parts, batch);
  batch.commit(parts.catalog.store);
  parts.pending.clear();
}

/** For a batch to be committed at once: the chunks are durable and `pending` is cleared after it. */
export function putPending(parts: StoreParts, batch: CatalogBatch): void {
  for (const handle of parts.pending.chunks.values()) {
    invariant(handle.location !== null, `Chunk ${handle.name} has a location`);
    batch.putChunk(handle.id, handle.location);
  }
  for (const [key, reference] of parts.pending.pages)
    batch.putPage(Buffer.from(key, "latin1"), {
      chunkId: reference.chunk.id,
      slot: reference.slot,
    });
}
