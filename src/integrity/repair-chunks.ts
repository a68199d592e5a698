/**
 * Brings chunks back, from what is nearest:
 *
 *   another copy in any pack -> the source's copy -> single pages, by their hashes: those that the damage has left whole, equal
 *   pages in other chunks, images in the history, frames in the log -> what is not found stays a hole
 *
 * B1. A chunk is written into a new pack, never over an old one, and its row replaced when that is durable (Q1).
 * B2. A chunk of which nothing is found loses its row, and every page that is lost its row in the page index: bytes that are
 *     written again are stored again, under the same id, which heals every revision that reads them.
 * B3. Nothing is written that has fewer pages than what is there.
 */
import { type Catalog, type ChunkPlace, decodeChunkPlace, Table } from "../catalog/catalog.ts";
import { scanCatalog } from "../catalog/catalog-scan.ts";
import { openValue } from "../catalog/record-codec.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { CHUNK_SIZE_MAX } from "../page/chunk-format.ts";
import { idKey } from "../page/chunk-handle.ts";
import { packPath } from "../page/pack-format.ts";
import { PackWriter } from "../page/pack-writer.ts";
import type { Storage } from "../storage/storage.ts";
import { LostChunk } from "./lost-chunk.ts";
import { findPages } from "./find-pages.ts";
import { findChunks } from "./pack-scan.ts";
import { hexOf, type RepairPlan, rowKey } from "./repair-plan.ts";
import type { RepairSource } from "./repair-source.ts";
import { nextTurn } from "./report.ts";

export interface ChunkRepairParts {
  readonly parts: StoreParts;
  readonly source: RepairSource | null;
  readonly plan: RepairPlan;
  /** Where the log says chunks are that the catalog does not know whole. */
  readonly places: ReadonlyMap<string, ChunkPlace>;
}

/** Adds to the plan; the chunks that it names are durable when this resolves. */
export async function repairChunks(
  repair: ChunkRepairParts,
  ids: readonly Uint8Array[],
): Promise<void> {
  if (ids.length === 0) return;
  const { parts } = repair;
  const { storage, storeId } = parts;
  const { lost, nextPackNumber } = describe(repair, ids);
  const copies = await findChunks(storage, new Set(lost.keys()));
  const writer = new PackWriter({ storage, storeId, nextPackNumber });
  try {
    const incomplete: LostChunk[] = [];
    for (const [key, chunk] of lost) {
      chunk.readableCount = countReadable(parts, chunk);
      chunk.hasRow = parts.catalog.store.get(rowKey(Table.chunk, chunk.id)) !== undefined;
      await collect(repair, chunk, copies.get(key) ?? []);
      if (chunk.isWhole) store(repair, writer, chunk);
      else incomplete.push(chunk);
      await nextTurn();
    }
    await findPages(parts, incomplete, new Set(lost.keys()));
    for (const chunk of incomplete) store(repair, writer, chunk);
    writer.syncSync();
  } finally {
    writer.close();
  }
}

/** The chunks with what the catalog says of them, and a number for a pack that no row names and no upload has used. */
function describe(
  { parts: { catalog, chunks, cipher }, places }: ChunkRepairParts,
  ids: readonly Uint8Array[],
): { lost: Map<string, LostChunk>; nextPackNumber: number } {
  const lost = new Map<string, LostChunk>();
  let { nextPackNumber } = chunks;
  for (const { pack } of places.values()) nextPackNumber = Math.max(nextPackNumber, pack + 1);
  for (const id of ids) {
    const place = places.get(idKey(id)) ?? placeOf(catalog, id);
    lost.set(idKey(id), new LostChunk(Uint8Array.from(id), place, cipher));
  }
  for (const row of scanCatalog(catalog.store)) {
    if (row.kind === "chunk") nextPackNumber = Math.max(nextPackNumber, row.place.pack + 1);
    if (row.kind !== "page") continue;
    lost.get(idKey(row.place.chunkId))?.hashes.set(row.place.slot, Uint8Array.from(row.hash));
  }
  return { lost, nextPackNumber };
}

/** Null also when the row is damaged. */
function placeOf(catalog: Catalog, id: Uint8Array): ChunkPlace | null {
  try {
    return catalog.chunk(id) ?? null;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return null;
  }
}

function countReadable({ chunks }: StoreParts, { id, place }: LostChunk): number {
  if (place === null) return 0;
  try {
    const chunk = chunks.readChunk(id, place, { verifyId: true });
    return chunk.pages.length / chunk.pageSize;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return 0;
  }
}

async function collect(
  { parts, source }: ChunkRepairParts,
  chunk: LostChunk,
  copies: readonly ChunkPlace[],
): Promise<void> {
  const own = chunk.place === null ? null : readPack(parts.storage, chunk.place);
  const ownOrigin = chunk.place === null ? "" : packPath(chunk.place.pack);
  if (own !== null) chunk.takeStored(own, ownOrigin);
  for (const place of copies) {
    if (chunk.isWhole) return;
    const bytes = readPack(parts.storage, place);
    if (bytes !== null) chunk.takeStored(bytes, packPath(place.pack));
  }
  if (!chunk.isWhole && source !== null) await collectFromSource(source, chunk);
  if (!chunk.isWhole && own !== null) chunk.salvage(own, ownOrigin);
}

async function collectFromSource(source: RepairSource, chunk: LostChunk): Promise<void> {
  const places = [chunk.place, await placeInSource(source, chunk.id)];
  for (const place of places) {
    if (place === null || chunk.isWhole || !isPlausible(place)) continue;
    const { pack, offset, length } = place;
    const bytes = await source.read(packPath(pack), { offset, length });
    if (bytes?.length === length) chunk.takeStored(bytes, source.description);
  }
}

async function placeInSource(source: RepairSource, id: Uint8Array): Promise<ChunkPlace | null> {
  const key = rowKey(Table.chunk, id);
  const sealed = await source.catalogEntry(key);
  if (sealed === null) return null;
  try {
    return decodeChunkPlace(openValue(key, sealed, "a chunk"));
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return null;
  }
}

/** Bytes as they are in the file, whatever its header says; null when they are not there. */
function readPack(storage: Storage, place: ChunkPlace): Uint8Array | null {
  const path = packPath(place.pack);
  if (!isPlausible(place) || !storage.existsSync(path)) return null;
  const file = storage.openFileSync(path, { mode: "read" });
  try {
    const bytes = new Uint8Array(place.length);
    return file.readSync(place.offset, bytes) === place.length ? bytes : null;
  } finally {
    file.closeSync();
  }
}

function isPlausible({ offset, length }: ChunkPlace): boolean {
  return offset > 0 && length > 0 && length <= CHUNK_SIZE_MAX;
}

/** B1 to B3. */
function store(
  { plan, parts: { codec } }: ChunkRepairParts,
  writer: PackWriter,
  chunk: LostChunk,
): void {
  const { id, hashes, pages, origins, readableCount } = chunk;
  const what = `chunk ${hexOf(id)}`;
  if (pages.size > readableCount) {
    const { encoded, shape } = chunk.encode(codec);
    plan.batch.putChunk(id, { ...writer.append(encoded), ...shape });
    const from = [...origins].join(", ");
    plan.done(what, chunk.isWhole ? `copied from ${from}` : `${pages.size} pages from ${from}`);
  } else if (pages.size === 0 && chunk.hasRow) {
    plan.batch.deleteStored(rowKey(Table.chunk, id));
    plan.done(what, "its row was dropped: nothing of it was found");
  }
  if (chunk.isWhole) return;
  const lostHashes = [...hashes].filter(([slot]) => !pages.has(slot));
  for (const [, hash] of lostHashes) plan.batch.deleteStored(rowKey(Table.pageHash, hash));
  if (lostHashes.length > 0)
    plan.done(what, `${lostHashes.length} rows of the page index were dropped: lost pages`);
}
