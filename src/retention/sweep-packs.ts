/**
 * What a garbage collection cycle does with pack files, once the rows of dead chunks are gone.
 *
 *   no chunk left ---------------------------> deleted
 *   at most half of its bytes alive ---------> its chunks are copied to a new pack, their rows replaced, then deleted
 *   one of many small packs -----------------> the same
 *   otherwise -------------------------------> stays as it is
 *
 * A chunk that is copied with at most half of its pages alive leaves the others behind: it gets holes (chunk-format.ts), under
 * the same id. Any other chunk is copied as it is stored, its checksum verified.
 *
 * E1. A file is deleted only after the catalog's commit that took its last row is durable, and only if it was complete
 *     when the cycle began. A file that no row names, left by a crash, is one without chunks.
 * E2. A copy is durable before its row is. The row is replaced only if it is still what was copied, and no page of the
 *     chunk has been revived; otherwise the old pack stays.
 * E3. Chunks that the catalog does not know yet keep their pack.
 */
import { CatalogBatch, type ChunkPlace, decodeChunkPlace, Table } from "../catalog/catalog.ts";
import { openValue } from "../catalog/record-codec.ts";
import { visitRows } from "../catalog/table-rows.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import { type EncodedChunk, encodeChunk } from "../page/chunk-format.ts";
import { type ChunkLocation, idKey } from "../page/chunk-handle.ts";
import { PACK_DIRECTORY, PACK_HEADER_SIZE, packNumber, packPath } from "../page/pack-format.ts";
import type { LiveSet } from "./mark.ts";

const ROWS_PER_STEP = 256;
/** Bytes that are copied between two commits. */
const COPY_BYTES = 4 * 1024 * 1024;
/** A pack below this is small; that many of them are brought together. */
const SMALL_PACK_BYTES = 4 * 1024 * 1024;
const SMALL_PACKS_MIN = 16;
const FILES_PER_STEP = 16;

/** How much of each pack is alive. */
export class PackUse {
  /** By pack number, about how many bytes its living pages take. */
  readonly #living: Map<number, number> = new Map();

  add(place: ChunkPlace, live: bigint): void {
    const bytes = this.#living.get(place.pack) ?? 0;
    this.#living.set(place.pack, bytes + Math.max(1, place.length * livingShare(place, live)));
  }

  /** 0 when no row names the pack. */
  of(pack: number): number {
    return this.#living.get(pack) ?? 0;
  }
}

/**
 * From 0 to 1; 1 where it is not known how many pages the chunk has. 0: the pages that are alive are holes here, and the
 * chunk is stored again, whole, which the next checkpoint tells the catalog.
 */
function livingShare({ slotCount, present }: ChunkPlace, live: bigint): number {
  if (slotCount === undefined) return 1;
  const slots = present ?? (1n << BigInt(slotCount)) - 1n;
  return countBits(live & slots) / countBits(slots);
}

export interface PackRequest {
  readonly state: StoreState;
  readonly live: LiveSet;
  readonly use: PackUse;
  /** Packs from this number on were begun in the cycle. */
  readonly packsBelow: number;
  /** E3. */
  readonly kept: ReadonlySet<number>;
  readonly report: PackReport;
  readonly isDryRun: boolean;
  /** Waits, or yields until the packs are durable. */
  readonly sync: () => Generator<void, void, void>;
}

export interface PackReport {
  packs: number;
  /** Of the files that went. */
  packBytes: number;
  /** That were copied from them first. */
  copiedBytes: number;
  holes: number;
}

interface Pack {
  readonly number: number;
  readonly size: number;
}

export function* sweepPacks(request: PackRequest): Generator<void, void, void> {
  const { state, use, kept, packsBelow } = request;
  const sparse: Pack[] = [];
  const small: Pack[] = [];
  let count = 0;
  for (const name of state.storage.listSync(PACK_DIRECTORY)) {
    const number = packNumber(name);
    if (number === null || number >= packsBelow || kept.has(number)) continue;
    const pack = { number, size: sizeOf(state, number) };
    const living = use.of(number);
    if (living === 0) {
      deletePack(request, pack);
      yield; // Deleting a large file takes its time.
    } else if (living <= (pack.size - PACK_HEADER_SIZE) / 2) sparse.push(pack);
    else if (pack.size < SMALL_PACK_BYTES) small.push(pack);
    if (++count % FILES_PER_STEP === 0) yield;
  }
  const victims = small.length >= SMALL_PACKS_MIN ? [...sparse, ...small] : sparse;
  if (victims.length > 0) yield* evacuate(request, victims);
  if (request.report.packs > 0 && !request.isDryRun)
    state.storage.syncDirectorySync(PACK_DIRECTORY);
}

function sizeOf({ storage }: StoreState, number: number): number {
  const file = storage.openFileSync(packPath(number), { mode: "read" });
  try {
    return file.sizeSync();
  } finally {
    file.closeSync();
  }
}

function deletePack({ state, report, isDryRun }: PackRequest, { number, size }: Pack): void {
  report.packs++;
  report.packBytes += size;
  if (!isDryRun) state.chunks.deletePack(number);
}

interface Copy {
  readonly id: Uint8Array;
  readonly from: ChunkPlace;
  readonly to: ChunkLocation;
  /** Pages that were alive when it was copied. */
  readonly live: bigint;
}

/** Copies what is alive in the packs, and deletes those that are empty then. */
function* evacuate(request: PackRequest, packs: readonly Pack[]): Generator<void, void, void> {
  const { state, report, isDryRun } = request;
  const victims = new Set(packs.map(({ number }) => number));
  /** Packs that still have a row: E2. */
  const inUse = new Set<number>();
  let copies: Copy[] = [];
  let copied = 0;
  let after: Uint8Array | null = null;
  do {
    const found: { readonly id: Uint8Array; readonly place: ChunkPlace }[] = [];
    const options = { after, limit: ROWS_PER_STEP };
    after = visitRows(state.catalog.store, Table.chunk, options, (key, value) => {
      const place = decodeChunkPlace(openValue(key, value, "a chunk"));
      if (victims.has(place.pack)) found.push({ id: Uint8Array.from(key.subarray(1)), place });
    });
    for (const { id, place } of found) {
      const copy = copyChunk(request, id, place);
      report.copiedBytes += copy.to.length;
      if (!isDryRun) copies.push(copy);
      copied += copy.to.length;
      if (copied >= COPY_BYTES) {
        yield* commitCopies(request, copies, inUse);
        copies = [];
        copied = 0;
      } else yield;
    }
    yield;
  } while (after !== null);
  if (copies.length > 0) yield* commitCopies(request, copies, inUse);
  for (const pack of packs) {
    if (inUse.has(pack.number)) continue;
    deletePack(request, pack);
    yield;
  }
}

/** Appends a copy of the chunk, without its dead pages where enough of them are. */
function copyChunk(
  { state, live, report, isDryRun }: PackRequest,
  id: Uint8Array,
  from: ChunkPlace,
): Copy {
  const alive = live.chunks.bits(id);
  const share = livingShare(from, alive);
  if (share > 0.5 || share === 0) {
    const bytes = isDryRun ? null : state.chunks.readStored(id, from);
    const to = bytes === null ? from : { ...from, ...state.chunks.append({ id, bytes }) };
    return { id, from, to, live: alive };
  }
  report.holes++;
  const slotCount = from.slotCount!;
  if (isDryRun) {
    const length = Math.round(from.length * share);
    return { id, from, to: { ...from, length }, live: alive };
  }
  const { chunk, present } = withHoles(state, id, from, alive);
  return { id, from, to: { ...state.chunks.append(chunk), slotCount, present }, live: alive };
}

function withHoles(
  state: StoreState,
  id: Uint8Array,
  from: ChunkPlace,
  alive: bigint,
): { chunk: EncodedChunk; present: bigint } {
  const decoded = state.chunks.readChunk(id, from);
  const { pageSize, slotCount } = decoded;
  const present = decoded.present & alive;
  const pages = new Uint8Array(countBits(present) * pageSize);
  let end = 0;
  for (let slot = 0; slot < slotCount; slot++) {
    if (((present >> BigInt(slot)) & 1n) === 0n) continue;
    pages.set(decoded.page(slot)!, end);
    end += pageSize;
  }
  const { codec, cipher } = state;
  const holes = { id, slotCount, present };
  return { chunk: encodeChunk({ pages, pageSize, codec, cipher, holes }), present };
}

/** E2. */
function* commitCopies(
  request: PackRequest,
  copies: readonly Copy[],
  inUse: Set<number>,
): Generator<void, void, void> {
  if (copies.length === 0) return;
  yield* request.sync();
  const { state, live } = request;
  const { catalog, handles, chunks } = state;
  const batch = new CatalogBatch();
  const moved: Copy[] = [];
  for (const copy of copies) {
    const { id, from, to } = copy;
    const now = catalog.chunk(id);
    const isSame = now !== undefined && isSamePlace(now, from);
    const isRevived = to.present !== undefined && live.chunks.bits(id) !== copy.live;
    if (isSame && !isRevived) {
      batch.putChunk(id, to);
      moved.push(copy);
    } else if (now !== undefined && now.pack === from.pack) inUse.add(from.pack);
  }
  if (moved.length > 0) batch.commit(catalog.store);
  for (const { id, from, to } of moved) {
    const handle = handles.find(idKey(id));
    // One that is stored again, whole, has a newer place already.
    if (handle?.location != null && isSamePlace(handle.location, from)) chunks.relocate(handle, to);
  }
  yield;
}

function isSamePlace(left: ChunkPlace, right: ChunkPlace): boolean {
  return left.pack === right.pack && left.offset === right.offset;
}

function countBits(bits: bigint): number {
  let count = 0;
  for (let rest = bits; rest !== 0n; rest &= rest - 1n) count++;
  return count;
}
