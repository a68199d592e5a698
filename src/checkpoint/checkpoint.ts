/**
 * A checkpoint moves commits from the log into chunks, page maps and history segments:
 *
 *   freeze    every timeline with new commits gets a fresh top layer; the log position is noted
 *   store     the newest version of each page goes into chunks (shared, if the store has it), in slices
 *   map       each timeline gets a page map of its frozen head
 *   history   the versions between its last root and this one go into a history segment
 *   commit    chunks and history are synced, then the catalog takes everything in one transaction
 *   swap      new snapshots read through the new roots; the log is trimmed
 *
 * C1. Until the catalog's transaction nothing refers to what was written; after it the log up to the noted position is
 *     not needed. A crash at any point leaves either the old or the new state, and the log that goes with it.
 * C2. Running snapshots keep the view that they started with, so they notice nothing.
 * C3. Work is done in slices: `run` yields about every 16 pages, and the caller decides when to go on.
 */
import { CATALOG_FORMAT_VERSION, CatalogBatch } from "../catalog/catalog.ts";
import { invariant } from "../errors.ts";
import { EMPTY_ROOT, type PageMapRoot } from "../page/page-map.ts";
import { PagePlaces } from "../page/page-places.ts";
import type { Layer } from "../transaction/page-versions.ts";
import { RootSource } from "../transaction/root-source.ts";
import { type Snapshot, View } from "../transaction/snapshot.ts";
import type { OpenDatabase, Timeline } from "../transaction/timeline.ts";
import { writeTimelineHistory } from "./history-files.ts";
import { putPending } from "./index-pending.ts";
import { storePages } from "./store-pages.ts";
import { newPageWriter, type StoreState } from "./store-state.ts";

/** One timeline's part of a checkpoint. */
interface Work {
  readonly database: OpenDatabase;
  readonly timeline: Timeline;
  /** The head when the checkpoint began. */
  readonly head: Snapshot;
  /** Layers to be absorbed, newest first. */
  readonly layers: Snapshot["view"]["layers"];
  readonly changes: PagePlaces;
  /** First the page map that the changes apply to, then the new one. */
  root: PageMapRoot;
  /** A fork of the same commit, also without commits of its own: this one takes its page map. */
  readonly twin: Work | null;
}

export interface CheckpointReport {
  readonly lsn: number;
  readonly pagesWritten: number;
  readonly pagesShared: number;
  readonly commits: number;
}

/** Call `next()` until it is done. An error leaves the store failed: it must be opened again. */
export function* runCheckpoint(
  state: StoreState,
  progress: { nextHistorySegment: number },
): Generator<void, CheckpointReport> {
  const lsn = state.log.lastLsn;
  const batch = new CatalogBatch();
  const works = freeze(state);
  // As of `lsn`: later changes are in the log behind it.
  putChangedRefs(state, batch);
  const { put, deleted, completeSinceMs } = state.outcomes.checkpoint();
  for (const { lsn: last, transactions } of put) batch.putOutcomeRun(last, transactions);
  for (const last of deleted) batch.deleteOutcomeRun(last);
  let pagesWritten = 0;
  let pagesShared = 0;
  for (const [database, group] of byDatabase(works)) {
    const writer = newPageWriter(state, database.refs.row.pageSize);
    for (const work of group) {
      if (work.twin !== null) continue;
      const { head, layers, changes } = work;
      const { pageSize } = database.refs.row;
      work.root = yield* storePages({ head, layers, changes, pageSize }, writer);
    }
    writer.flushSync();
    pagesWritten += writer.pagesWritten;
    pagesShared += writer.pagesShared;
    yield;
    for (const work of group) {
      mapPages(state, work, batch);
      yield;
    }
    yield* storeHistory(state, database, group, batch, progress);
  }
  yield;
  // Only durable records may be behind a checkpoint: the catalog must not run ahead of the log.
  state.log.flushSync("full");
  yield;
  state.chunks.syncSync(); // From here to the commit in one slice: other chunks may become pending in between.
  const commits = putCommits(works, batch);
  putPending(state, batch);
  batch.setState({
    formatVersion: CATALOG_FORMAT_VERSION,
    checkpointLsn: lsn,
    nextDatabaseId: state.refs.nextDatabaseId,
    nextHistorySegment: progress.nextHistorySegment,
    ...(completeSinceMs > 0 ? { outcomesSinceMs: completeSinceMs } : {}),
  });
  batch.commit(state.catalog.store);
  state.changedRefs.leaving.clear();
  state.pending.clear();
  for (const work of works) swap(state, work);
  yield;
  state.log.trim(lsn);
  return { lsn, pagesWritten, pagesShared, commits };
}

/** Whether a timeline has anything that a checkpoint would move. */
function needsCheckpoint(timeline: Timeline): boolean {
  const { layers, base } = timeline.view;
  if (layers.length > 1 || layers[0]!.layer.commits.length > 0) return true;
  return timeline.head.pageCount > 0 && !(base instanceof RootSource);
}

function freeze(state: StoreState): Work[] {
  const works: Work[] = [];
  for (const database of state.databases.values()) {
    const forks = new Map<string, Work>();
    for (const timeline of database.timelines.values()) {
      if (!needsCheckpoint(timeline)) continue;
      if (timeline.view.layers[0]!.layer.commits.length > 0) timeline.freeze();
      const layers = timeline.view.layers.slice(1);
      const isFork = layers.every(({ layer }) => layer.timelineId !== timeline.row.id);
      const { parent } = timeline.row;
      const key = isFork && parent !== null ? `${parent.timeline}@${parent.version}` : null;
      const twin = key === null ? null : (forks.get(key) ?? null);
      const { head } = timeline;
      const changes = new PagePlaces();
      const work: Work = { database, timeline, head, layers, changes, root: EMPTY_ROOT, twin };
      if (key !== null && twin === null) forks.set(key, work);
      works.push(work);
    }
  }
  return works;
}

/** Rows of what was changed; of what is not there any more none. */
function putChangedRefs(state: StoreState, batch: CatalogBatch): void {
  const { refs, changedRefs } = state;
  const { store } = state.catalog;
  for (const id of changedRefs.databases) {
    const database = refs.databases.get(id);
    if (database === undefined) {
      batch.deleteDatabase(store, id);
      changedRefs.leaving.add(id);
    } else batch.putDatabase(database.row);
  }
  for (const key of changedRefs.branches) {
    const [databaseId, id] = splitKey(key);
    const database = refs.databases.get(databaseId);
    if (database === undefined) continue;
    const branch = database.branches.get(Number(id));
    if (branch === undefined) batch.deleteBranch(databaseId, Number(id));
    else batch.putBranch(branch);
  }
  for (const key of changedRefs.tags) {
    const [databaseId, name] = splitKey(key);
    const database = refs.databases.get(databaseId);
    if (database === undefined) continue;
    const tag = database.tags.get(name);
    if (tag === undefined) batch.deleteTag(databaseId, name);
    else batch.putTag(tag);
  }
  for (const key of changedRefs.timelines) {
    const [databaseId, id] = splitKey(key);
    const database = state.databases.get(databaseId);
    if (database === undefined) continue;
    const timeline = database.timelines.get(Number(id));
    if (timeline === undefined) {
      batch.deleteTimeline(store, databaseId, Number(id));
      continue;
    }
    const { version, timestampMs } = timeline.head;
    const { base } = timeline.view;
    const root = timeline.view.layers.length === 1 && base instanceof RootSource ? base.root : null;
    batch.putTimeline({
      row: timeline.row,
      headVersion: version,
      headTimestampMs: timestampMs,
      root,
    });
  }
  changedRefs.clear();
}

function mapPages(state: StoreState, work: Work, batch: CatalogBatch): void {
  const { head, changes, timeline, twin } = work;
  if (twin !== null) work.root = twin.root;
  else {
    const update = state.pageMap.update(work.root, changes, head.pageCount);
    for (const node of update.newNodes) {
      // Also one that the catalog has: garbage collection may be about to delete that row.
      state.barrier.marks?.node(node.id);
      batch.putNode(node.id, node.bytes);
    }
    work.root = update.root;
  }
  batch.putTimeline({
    row: timeline.row,
    headVersion: head.version,
    headTimestampMs: head.timestampMs,
    root: work.root,
  });
}

function* storeHistory(
  state: StoreState,
  database: OpenDatabase,
  group: readonly Work[],
  batch: CatalogBatch,
  progress: { nextHistorySegment: number },
): Generator<void> {
  const withHistory = group.filter((work) => ownLayers(work).some((l) => l.commits.length > 1));
  let segment = 0;
  if (withHistory.length > 0) {
    segment = progress.nextHistorySegment++;
    const written = yield* writeTimelineHistory(state, {
      segment,
      databaseId: database.refs.row.id,
      timelines: withHistory.map((work) => ({
        timeline: work.timeline.row.id,
        headVersion: work.head.version,
        layers: ownLayers(work),
        pageAt: (page: number, version: number) => work.head.view.peek(page, version),
      })),
    });
    const { size, references } = written;
    batch.putHistory({ segment, databaseId: database.refs.row.id, size, references });
  }
  for (const work of group) {
    if (ownLayers(work).length === 0) continue;
    batch.putRoot(database.refs.row.id, work.timeline.row.id, {
      version: work.head.version,
      root: work.root,
      historySegment: withHistory.includes(work) ? segment : 0,
    });
  }
}

function putCommits(works: readonly Work[], batch: CatalogBatch): number {
  let count = 0;
  for (const work of works) {
    for (const layer of ownLayers(work)) {
      batch.putCommits(work.database.refs.row.id, work.timeline.row.id, layer.commits);
      count += layer.commits.length;
    }
  }
  return count;
}

function swap(state: StoreState, work: Work): void {
  const { timeline, head, database, root } = work;
  const { context } = database;
  const { pageSize } = database.refs.row;
  const base = new RootSource(root, { pageMap: state.pageMap, chunks: state.chunks, pageSize });
  const kept = timeline.view.layers.slice(0, timeline.view.layers.length - work.layers.length);
  invariant(kept.length === 1, "One checkpoint at a time leaves one layer above it");
  timeline.replaceView(new View(context, kept, base, head));
}

/** The frozen layers with the timeline's own commits. */
function ownLayers(work: Work): Layer[] {
  return work.layers
    .map(({ layer }) => layer)
    .filter((layer) => layer.timelineId === work.timeline.row.id && layer.commits.length > 0);
}

function byDatabase(works: readonly Work[]): Map<OpenDatabase, Work[]> {
  const groups = new Map<OpenDatabase, Work[]>();
  for (const work of works) {
    const group = groups.get(work.database);
    if (group === undefined) groups.set(work.database, [work]);
    else group.push(work);
  }
  return groups;
}

function splitKey(key: string): [number, string] {
  const slash = key.indexOf("/");
  return [Number(key.slice(0, slash)), key.slice(slash + 1)];
}
