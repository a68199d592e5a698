/**
 * The mark of a garbage collection cycle: every page, node and history segment that something leads to.
 *
 *   root rows, timelines in the catalog --+--> page maps --> nodes --> pages of chunks
 *   views of timelines, holders ----------+--> layers, places ------> pages of chunks
 *   history segments in the catalog ------+-------------------------> pages of chunks
 *
 * L1. What is reachable when the cycle begins is marked, also if it ceases to be reachable meanwhile. What is made reachable
 *     later comes from there, or through the write barrier, which marks it.
 * L2. Nothing that was marked is ever unmarked in the cycle.
 * L3. A node that is missing or damaged ends the mark with an error: what hangs on it is not known, so nothing may go.
 * L4. Subtrees are visited once, by node id, however many snapshots share them. A node that the barrier tells of was
 *     written, not visited: it may also be one that an old root leads to, and what is below it is still to be marked.
 */
import { decodeHistoryRow, decodeRootRow, decodeTimeline, Table } from "../catalog/catalog.ts";
import { openValue } from "../catalog/record-codec.ts";
import { visitRows } from "../catalog/table-rows.ts";
import { openHistoryFile } from "../checkpoint/history-files.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import { decodeHistoryReference, HistoryKind } from "../page/history-format.ts";
import { HistoryReader } from "../page/history-reader.ts";
import { corruptNode, type NodeVisitor, visitNode } from "../page/page-map-node.ts";
import type { PageMapRoot } from "../page/page-map.ts";
import type { PagePlaces } from "../page/page-places.ts";
import type { LiveMarks } from "../page/write-barrier.ts";
import type { Layer } from "../transaction/page-versions.ts";
import type { Tracer } from "../transaction/tracer.ts";
import { MarkTable } from "./mark-table.ts";

const ALL = 0xffff_ffff;
const NODES_PER_STEP = 16;
const REFERENCES_PER_STEP = 256;
const ROWS_PER_STEP = 128;

/** What is alive: grows by the mark and by the write barrier. */
export class LiveSet implements LiveMarks {
  /** Slots by chunk id. */
  readonly chunks: MarkTable = new MarkTable();
  /** Nodes that the mark has visited. */
  readonly nodes: MarkTable = new MarkTable();
  /** Nodes written since the cycle began (L4). */
  readonly #written: MarkTable = new MarkTable();

  page(chunkId: Uint8Array, slot: number): void {
    if (slot < 32) this.chunks.add(chunkId, 0, (1 << slot) >>> 0, 0);
    else this.chunks.add(chunkId, 0, 0, (1 << (slot - 32)) >>> 0);
  }

  chunk(chunkId: Uint8Array): void {
    this.chunks.add(chunkId, 0, ALL, ALL);
  }

  node(id: Uint8Array): void {
    this.#written.add(id, 0, 1, 0);
  }

  hasNode(id: Uint8Array, offset: number): boolean {
    return this.nodes.has(id, offset) || this.#written.has(id, offset);
  }
}

/** What leads to pages besides the catalog, taken down in one turn when the cycle begins. */
export class TracedRoots implements Tracer {
  readonly roots: Set<PageMapRoot> = new Set();
  readonly layers: Set<Layer> = new Set();
  readonly staged: Set<PagePlaces> = new Set();
  readonly historySegments: Set<number> = new Set();

  root(root: PageMapRoot): void {
    this.roots.add(root);
  }

  layer(layer: Layer): void {
    this.layers.add(layer);
  }

  places(places: PagePlaces): void {
    this.staged.add(places);
  }

  historySegment(segment: number): void {
    this.historySegments.add(segment);
  }
}

export function traceRoots(state: StoreState): TracedRoots {
  const traced = new TracedRoots();
  for (const database of state.databases.values())
    for (const timeline of database.timelines.values()) timeline.view.trace(traced);
  for (const holder of state.holders) holder.trace(traced);
  return traced;
}

/** References to chunks in history segments, which never change: kept from one cycle to the next. */
export class HistoryReferences {
  /** Chunk id and slot, 17 bytes each, one after another. */
  readonly #known: Map<number, Uint8Array> = new Map();

  get(segment: number): Uint8Array | undefined {
    return this.#known.get(segment);
  }

  set(segment: number, references: Uint8Array): void {
    this.#known.set(segment, references);
  }

  forget(segment: number): void {
    this.#known.delete(segment);
  }
}

export interface MarkRequest {
  readonly state: StoreState;
  readonly live: LiveSet;
  readonly traced: TracedRoots;
  readonly references: HistoryReferences;
  /** Called with every history segment that the catalog names. */
  readonly onSegment: (segment: number) => void;
}

/** Yields about every tenth of a millisecond. Throws CORRUPT_NODE, CORRUPT_HISTORY, CORRUPT_CATALOG. */
export function* mark(request: MarkRequest): Generator<void, void, void> {
  const { state, live, traced } = request;
  for (const places of traced.staged) yield* markReferences(live, referencesOf(places));
  for (const layer of traced.layers) yield* markReferences(live, layer.references());
  // The index gets them when the next checkpoint ends: it must not then name pages that are gone.
  yield* markReferences(live, state.pending.pages.values());
  const walk = new PageMapWalk(state, live);
  for (const root of traced.roots) yield* walk.visit(root);
  yield* markRootRows(state, walk);
  yield* markTimelines(state, walk);
  yield* markHistory(request);
}

function* referencesOf(
  places: PagePlaces,
): Generator<{ chunk: { id: Uint8Array }; slot: number }, void, undefined> {
  for (const [, reference] of places.entries()) yield reference;
}

function* markReferences(
  live: LiveSet,
  references: Iterable<{ readonly chunk: { readonly id: Uint8Array }; readonly slot: number }>,
): Generator<void, void, void> {
  let count = 0;
  for (const { chunk, slot } of references) {
    live.page(chunk.id, slot);
    if (++count % REFERENCES_PER_STEP === 0) yield;
  }
}

/** Depth first, with a stack of its own: 17 bytes per node that waits. */
export class PageMapWalk implements NodeVisitor {
  readonly #state: StoreState;
  readonly #live: LiveSet;
  readonly #waiting: { readonly id: Uint8Array; readonly level: number }[] = [];
  #level = 0;

  constructor(state: StoreState, live: LiveSet) {
    this.#state = state;
    this.#live = live;
  }

  *visit({ nodeId, levels }: Pick<PageMapRoot, "nodeId" | "levels">): Generator<void, void, void> {
    if (nodeId === null || !this.#live.nodes.add(nodeId, 0, 1, 0)) return;
    const { catalog, cipher } = this.#state;
    this.#waiting.push({ id: nodeId, level: levels });
    let count = 0;
    for (let next = this.#waiting.pop(); next !== undefined; next = this.#waiting.pop()) {
      const { id, level } = next;
      const bytes = catalog.node(id);
      if (bytes === undefined) throw corruptNode(id, "the catalog does not have it");
      this.#level = level - 1;
      visitNode(bytes, { id, level, cipher }, this);
      if (++count % NODES_PER_STEP === 0) yield;
    }
  }

  child(bytes: Uint8Array, offset: number): void {
    if (!this.#live.nodes.add(bytes, offset, 1, 0)) return;
    const id = new Uint8Array(bytes.subarray(offset, offset + 16));
    this.#waiting.push({ id, level: this.#level });
  }

  chunk(bytes: Uint8Array, offset: number, low: number, high: number): void {
    this.#live.chunks.add(bytes, offset, low, high);
  }
}

function* markRootRows(state: StoreState, walk: PageMapWalk): Generator<void, void, void> {
  let after: Uint8Array | null = null;
  do {
    const roots: Pick<PageMapRoot, "nodeId" | "levels">[] = [];
    const options = { after, limit: ROWS_PER_STEP };
    after = visitRows(state.catalog.store, Table.root, options, (key, value) => {
      roots.push(decodeRootRow(key, openValue(key, value, "a checkpoint")).root);
    });
    for (const root of roots) yield* walk.visit(root);
    yield;
  } while (after !== null);
}

function* markTimelines(state: StoreState, walk: PageMapWalk): Generator<void, void, void> {
  let after: Uint8Array | null = null;
  do {
    const roots: Pick<PageMapRoot, "nodeId" | "levels">[] = [];
    const options = { after, limit: ROWS_PER_STEP };
    after = visitRows(state.catalog.store, Table.timeline, options, (key, value) => {
      const { root } = decodeTimeline(openValue(key, value, "a timeline"));
      if (root !== null) roots.push(root);
    });
    for (const root of roots) yield* walk.visit(root);
    yield;
  } while (after !== null);
}

function* markHistory(request: MarkRequest): Generator<void, void, void> {
  const { state, live, traced, references, onSegment } = request;
  const segments = new Map<number, number | undefined>();
  for (const segment of traced.historySegments) segments.set(segment, undefined);
  let after: Uint8Array | null = null;
  do {
    const options = { after, limit: ROWS_PER_STEP };
    after = visitRows(state.catalog.store, Table.history, options, (key, value) => {
      const row = decodeHistoryRow(key, openValue(key, value, "a history segment"));
      onSegment(row.segment);
      segments.set(row.segment, row.references);
    });
    yield;
  } while (after !== null);
  for (const [segment, count] of segments) {
    if (count === 0) continue;
    let known = references.get(segment);
    if (known === undefined) {
      known = yield* readReferences(state, segment);
      references.set(segment, known);
    }
    for (let at = 0; at < known.length; at += 17) {
      live.page(known.subarray(at, at + 16), known[at + 16]!);
      if (at % (17 * REFERENCES_PER_STEP) === 0) yield;
    }
  }
}

function* readReferences(state: StoreState, segment: number): Generator<void, Uint8Array, void> {
  const { storage, storeId, cipher } = state;
  const found: Uint8Array[] = [];
  let count = 0;
  // A file of its own: those that readers share are closed when enough others are opened.
  const file = openHistoryFile(storage, segment);
  try {
    const reader = HistoryReader.open(file, { storeId, cipher, cacheBytesMax: 0 });
    for (const { kind, payload } of reader.entries()) {
      if (kind === HistoryKind.reference) {
        const { chunkId, slot } = decodeHistoryReference(payload);
        const reference = new Uint8Array(17);
        reference.set(chunkId);
        reference[16] = slot;
        found.push(reference);
      }
      if (++count % REFERENCES_PER_STEP === 0) yield;
    }
  } finally {
    file.closeSync();
  }
  return new Uint8Array(Buffer.concat(found));
}
