/**
 * Any commit of a database as a snapshot: from memory when it is newer than the last checkpoint, else from the page map
 * of a checkpoint, with the history segment after it for the versions between two checkpoints.
 *
 * A1. From a timeline's `everyCommitFrom` on each commit is readable. Before it a commit is when it has a root of its own, or when
 *     the root after it names a history segment: that segment holds changes of the root before it, which is kept with it.
 * A2. The catalog keeps the row of each readable commit, of the commit after each readable one, and of the timeline's first. So the
 *     newest row at or before a version, or a time, is the commit that was current then, or one that is not readable: what
 *     was current has expired, and is an error, never another commit.
 */
import type { CommitPointer } from "../catalog/rows.ts";
import type { CommitRow } from "../catalog/commit-run.ts";
import { invariant, StoreError } from "../errors.ts";
import { emptySource, type PageSource, Snapshot, View } from "../transaction/snapshot.ts";
import { RootSource } from "../transaction/root-source.ts";
import { type OpenDatabase, Timeline } from "../transaction/timeline.ts";
import { HistoricalSource } from "./historical-source.ts";
import type { StoreParts } from "./store-state.ts";

/** The newest commit of the timeline, or of those it grew from, with a version <= `at.version`. Throws VERSION_EXPIRED (A2). */
export function snapshotAt(parts: StoreParts, database: OpenDatabase, at: CommitPointer): Snapshot {
  let timeline = timelineOf(database, at.timeline);
  let version = at.version;
  for (;;) {
    const { parent } = timeline.row;
    if (parent === null || version > parent.version) {
      const snapshot = ownSnapshot(parts, timeline, version);
      if (snapshot !== null) return snapshot;
    }
    if (parent === null) return emptySnapshot(timeline);
    version = Math.min(version, parent.version);
    timeline = timelineOf(database, parent.timeline);
  }
}

/** A timeline that starts at a commit (null: with nothing), to be added to the database. */
export function openTimeline(parts: StoreParts, database: OpenDatabase, id: number): Timeline {
  const row = database.refs.timelines.get(id);
  invariant(row !== undefined, `Timeline ${id} exists`);
  const { context } = database;
  const top = Timeline.topLayer(id);
  if (row.parent === null) {
    const floor = { version: 0, pageCount: 0, timestampMs: row.createdAtMs };
    return new Timeline(database, row, new View(context, [top], emptySource, floor), floor);
  }
  const from = snapshotAt(parts, database, row.parent);
  const layers = from.view.layers
    .filter(({ layer }) => layer.commits.length > 0 && layer.commits[0]!.version <= from.version)
    .map((bound) =>
      bound.maxVersion <= from.version ? bound : { layer: bound.layer, maxVersion: from.version },
    );
  const view = new View(context, [top, ...layers], from.view.base, from);
  return new Timeline(database, row, view, from);
}

export function timelineOf(database: OpenDatabase, id: number): Timeline {
  const timeline = database.timelines.get(id);
  invariant(timeline !== undefined, `Timeline ${id} of "${database.refs.row.name}" is open`);
  return timeline;
}

/** The newest commit of the timeline with timestamp <= `timestampMs`, or one that says it has expired (A2); null when all are newer. */
export function commitAtTime(
  parts: StoreParts,
  database: OpenDatabase,
  timelineId: number,
  timestampMs: number,
): CommitPointer | null {
  let timeline = timelineOf(database, timelineId);
  let maxVersion = Infinity;
  for (;;) {
    const version = newestBefore(parts, timeline, timestampMs, maxVersion);
    if (version !== null) return { timeline: timeline.row.id, version };
    const { parent } = timeline.row;
    if (parent === null) return null;
    maxVersion = Math.min(maxVersion, parent.version);
    timeline = timelineOf(database, parent.timeline);
  }
}

/** Whether the pages of a commit of the timeline's own are kept, that is, a row of it or the timeline has it in memory (A1). */
export function isReadable(parts: StoreParts, timeline: Timeline, version: number): boolean {
  const { row, view, head } = timeline;
  if (version > head.version) return false;
  if (version >= view.floor.version || version >= (row.everyCommitFrom ?? 0)) return true;
  const next = first(
    parts.catalog.roots(row.databaseId, row.id, { from: version, to: Infinity, limit: 1 }),
  );
  return next !== undefined && (next.version === version || next.historySegment !== 0);
}

function ownSnapshot(parts: StoreParts, timeline: Timeline, version: number): Snapshot | null {
  const { view, row } = timeline;
  if (version >= view.floor.version) {
    const { version: newest } = timeline.head;
    if (version > newest && (row.everyCommitFrom ?? 0) > newest)
      throw versionExpired(timeline, version);
    if (version >= timeline.head.version) return timeline.head;
    for (const { layer } of view.layers) {
      const commit = layer.timelineId === row.id ? layer.commitAt(version) : undefined;
      if (commit !== undefined) return new Snapshot(row.id, view, commit);
    }
    return isOwn(timeline, view.floor.version) ? new Snapshot(row.id, view, view.floor) : null;
  }
  const commit = first(
    parts.catalog.commits(row.databaseId, row.id, {
      from: (row.parent?.version ?? 0) + 1,
      to: version,
      reverse: true,
      limit: 1,
    }),
  );
  if (commit === undefined) return null;
  const source = historicalPages(parts, timeline, commit);
  return new Snapshot(row.id, new View(view.context, [], source, commit), commit);
}

function historicalPages(parts: StoreParts, timeline: Timeline, commit: CommitRow): PageSource {
  const { row, database } = timeline;
  const { pageSize } = database.refs.row;
  const root = first(
    parts.catalog.roots(row.databaseId, row.id, {
      from: 0,
      to: commit.version,
      reverse: true,
      limit: 1,
    }),
  );
  const reader = { pageMap: parts.pageMap, chunks: parts.chunks, pageSize };
  if (root?.version === commit.version) return new RootSource(root.root, reader);
  const next = first(
    parts.catalog.roots(row.databaseId, row.id, {
      from: commit.version,
      to: Infinity,
      limit: 1,
    }),
  );
  if (next === undefined || next.historySegment === 0) {
    if (commit.version < (row.everyCommitFrom ?? 0)) throw versionExpired(timeline, commit.version);
    throw new StoreError(
      "CORRUPT_CATALOG",
      `Cannot read version ${commit.version} of "${database.refs.row.name}": the catalog has no checkpoint after it`,
      { details: { version: commit.version, timeline: row.id } },
    );
  }
  let base: PageSource;
  if (root !== undefined) base = new RootSource(root.root, reader);
  else if (row.parent === null) base = emptySource;
  else base = snapshotAt(parts, database, row.parent).asSource();
  return new HistoricalSource({
    base,
    history: parts.history,
    segment: next.historySegment,
    timeline: row.id,
    version: commit.version,
    context: timeline.view.context,
    handles: parts.handles,
  });
}

function versionExpired({ row, database }: Timeline, version: number): StoreError {
  const { name } = database.refs.row;
  return new StoreError(
    "VERSION_EXPIRED",
    `Cannot read version ${version} of "${name}": it has expired; "bough retention show ${name}" says what is kept`,
    { details: { version, timeline: row.id } },
  );
}

function emptySnapshot(timeline: Timeline): Snapshot {
  const place = { version: 0, pageCount: 0, timestampMs: timeline.row.createdAtMs };
  return new Snapshot(
    timeline.row.id,
    new View(timeline.view.context, [], emptySource, place),
    place,
  );
}

function newestBefore(
  parts: StoreParts,
  timeline: Timeline,
  timestampMs: number,
  maxVersion: number,
): number | null {
  const { row, view, head } = timeline;
  for (const { layer } of view.layers) {
    if (layer.timelineId !== row.id) continue;
    for (let index = layer.commits.length - 1; index >= 0; index--) {
      const commit = layer.commits[index]!;
      if (commit.version <= maxVersion && commit.timestampMs <= timestampMs) return commit.version;
    }
  }
  let low = (row.parent?.version ?? 0) + 1;
  // Of a timeline whose newest commits have gone the row of the first of them says when that was (A2).
  let high = Math.min(Math.max(head.version, (row.everyCommitFrom ?? 0) - 1), maxVersion);
  let best: number | null = null;
  while (low <= high) {
    const middle = Math.floor((low + high) / 2);
    const commit = first(
      parts.catalog.commits(row.databaseId, row.id, { from: middle, to: high, limit: 1 }),
    );
    if (commit === undefined) high = middle - 1;
    else if (commit.timestampMs <= timestampMs) {
      best = commit.version;
      low = commit.version + 1;
    } else high = middle - 1;
  }
  return best;
}

/** Whether the version is a commit of the timeline, not of what it grew from. */
function isOwn(timeline: Timeline, version: number): boolean {
  return version > (timeline.row.parent?.version ?? 0);
}

function first<T>(rows: Iterable<T>): T | undefined {
  for (const row of rows) return row;
  return undefined;
}
