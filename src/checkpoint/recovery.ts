/**
 * Opening a store: the catalog gives the state of the last checkpoint, the log's records after it are applied in order.
 * What is applied is exactly what was applied when the records were written: the same functions on the same state.
 *
 * V1. A record refers only to what exists at its place in the log. Anything else is damage, reported as CORRUPT_LOG.
 * V2. Where a chunk is, the catalog knows better than a record: a repair or garbage collection may have moved it since. Not
 *     so when the catalog lacks the chunk, or knows it with a hole in the slot: then it was stored after the last checkpoint.
 */
import {
  addBranch,
  addDatabase,
  applyRefChange,
  type DatabaseRefs,
  type RefChange,
} from "../branch/refs.ts";
import { type CheckpointedTimeline, hasSlot } from "../catalog/catalog.ts";
import type { BranchRow, DatabaseRow, TagRow } from "../catalog/rows.ts";
import { invariant, InvariantError, StoreError } from "../errors.ts";
import type { ChunkLocation, ChunkReference } from "../page/chunk-handle.ts";
import { PagePlaces } from "../page/page-places.ts";
import {
  type CommitPart,
  decodeCommitRecord,
  type DecodedFrame,
  decodeRefChange,
  RecordKind,
} from "../transaction/commit-record.ts";
import { Frame, FrameKind } from "../transaction/page-versions.ts";
import { RootSource } from "../transaction/root-source.ts";
import { View } from "../transaction/snapshot.ts";
import { type OpenDatabase, Timeline } from "../transaction/timeline.ts";
import { openTimeline } from "./snapshot-at.ts";
import { refKey, type StoreParts, viewContext } from "./store-state.ts";

/** Fills `parts.refs` and `parts.databases` from the catalog. */
export function loadCatalog(parts: StoreParts): void {
  const { catalog, refs, outcomes } = parts;
  outcomes.load(catalog.outcomeRuns());
  for (const row of catalog.databases()) addDatabase(refs, row);
  for (const row of catalog.branches()) addBranch(requireRefs(parts, row.databaseId), row);
  for (const row of catalog.tags()) requireRefs(parts, row.databaseId).tags.set(row.name, row);
  const timelines = new Map<number, CheckpointedTimeline[]>();
  for (const timeline of catalog.timelines()) {
    const { row } = timeline;
    requireRefs(parts, row.databaseId).timelines.set(row.id, row);
    const list = timelines.get(row.databaseId);
    if (list === undefined) timelines.set(row.databaseId, [timeline]);
    else list.push(timeline);
  }
  for (const database of refs.databases.values())
    openLoaded(parts, database, timelines.get(database.row.id) ?? []);
}

/** Rows of one database. */
export interface DatabaseRows {
  readonly database: DatabaseRow;
  readonly branches: readonly BranchRow[];
  readonly tags: readonly TagRow[];
  /** By id. */
  readonly timelines: readonly CheckpointedTimeline[];
}

/** Adds a database that has come into the catalog while the store is open. */
export function loadDatabase(parts: StoreParts, rows: DatabaseRows): void {
  const database = addDatabase(parts.refs, rows.database);
  for (const row of rows.branches) addBranch(database, row);
  for (const row of rows.tags) database.tags.set(row.name, row);
  for (const { row } of rows.timelines) database.timelines.set(row.id, row);
  openLoaded(parts, database, rows.timelines);
}

function openLoaded(
  parts: StoreParts,
  database: DatabaseRefs,
  timelines: readonly CheckpointedTimeline[],
): void {
  const open = openDatabase(parts, database);
  for (const stored of timelines)
    open.timelines.set(stored.row.id, checkpointedTimeline(parts, open, stored));
}

/** Applies one record of the log. */
export function applyRecord(
  parts: StoreParts,
  lsn: number,
  kind: number,
  payload: Uint8Array,
): void {
  try {
    const commit = decodeCommitRecord(kind, payload, lsn);
    if (commit !== null) {
      for (const part of commit.parts) applyCommit(parts, part);
      const [first] = commit.parts;
      const id = commit.transactionId;
      if (id !== null && first !== undefined) {
        const { databaseId, version, timestampMs } = first;
        parts.outcomes.add({ id, databaseId, version, timestampMs, lsn });
      }
    } else if (kind === RecordKind.refChange) {
      applyChange(parts, decodeRefChange(payload, lsn));
    } else {
      throw new StoreError(
        "STORE_FORMAT",
        `Cannot read log record ${lsn}: its kind ${kind} is unknown; use a newer bough`,
      );
    }
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError("CORRUPT_LOG", `Cannot apply log record ${lsn}: ${String(error)}`, {
      cause: error,
    });
  }
}

/** Applies a change of names and opens what it made. */
export function applyChange(parts: StoreParts, change: RefChange): void {
  const { refs, changedRefs } = parts;
  applyRefChange(refs, change);
  const { databaseId } = change;
  changedRefs.databases.add(databaseId);
  if (change.type === "purge-database") {
    parts.databases.delete(databaseId);
    return;
  }
  const database = requireRefs(parts, databaseId);
  switch (change.type) {
    case "create-database": {
      const open = openDatabase(parts, database);
      changedRefs.branches.add(refKey(databaseId, 1));
      addTimeline(parts, open, 1);
      return;
    }
    case "create-branch":
      changedRefs.branches.add(refKey(databaseId, change.branchId));
      addTimeline(parts, requireOpen(parts, databaseId), change.timelineId);
      return;
    case "reset-branch":
      changedRefs.branches.add(refKey(databaseId, change.branchId));
      if (change.preserveAs !== null)
        changedRefs.branches.add(refKey(databaseId, change.preserveAs.branchId));
      addTimeline(parts, requireOpen(parts, databaseId), change.timelineId);
      return;
    case "rename-branch":
    case "delete-branch":
    case "undelete-branch":
    case "set-branch":
    case "purge-branch":
      changedRefs.branches.add(refKey(databaseId, change.branchId));
      return;
    case "create-tag":
    case "delete-tag":
      changedRefs.tags.add(refKey(databaseId, change.name));
      return;
    case "set-retention":
      if (change.branchId !== null) changedRefs.branches.add(refKey(databaseId, change.branchId));
      return;
    case "purge-timelines": {
      const { timelines } = requireOpen(parts, databaseId);
      for (const id of change.timelineIds) {
        timelines.delete(id);
        changedRefs.timelines.add(refKey(databaseId, id));
      }
      for (const id of database.branches.keys()) changedRefs.branches.add(refKey(databaseId, id));
      return;
    }
    case "rename-database":
    case "delete-database":
    case "undelete-database":
      return;
  }
}

function addTimeline(parts: StoreParts, database: OpenDatabase, id: number): void {
  parts.changedRefs.timelines.add(refKey(database.refs.row.id, id));
  database.timelines.set(id, openTimeline(parts, database, id));
}

function applyCommit(parts: StoreParts, part: CommitPart): void {
  const database = requireOpen(parts, part.databaseId);
  const timeline = database.timelines.get(part.timelineId);
  invariant(timeline !== undefined, `Timeline ${part.timelineId} exists`);
  const { row } = database.refs;
  invariant(part.version >= row.nextVersion, `Version ${part.version} is new`);
  row.nextVersion = part.version + 1;
  row.lastTimestampMs = part.timestampMs;
  parts.changedRefs.databases.add(row.id);
  const { version, timestampMs, pageCount } = part;
  const pages: number[] = [];
  const frames: Frame[] = [];
  const staged = new PagePlaces();
  for (const frame of part.frames) {
    if (frame.reference !== null) staged.set(frame.page, replayReference(parts, frame.reference));
    else {
      pages.push(frame.page);
      frames.push(replayFrame(version, frame, row.pageSize));
    }
  }
  const commit = { version, timestampMs, pageCount, changedPages: part.frames.length };
  timeline.publish(commit, pages, frames, null, staged.size > 0 ? staged : null);
}

/** V2. */
function replayReference(
  parts: StoreParts,
  { id, place, slot }: NonNullable<DecodedFrame["reference"]>,
): ChunkReference {
  const chunk = parts.handles.intern(id);
  if (chunk.location !== null && hasSlot(chunk.location, slot)) return { chunk, slot };
  const indexed = indexedPlace(parts, id);
  if (indexed !== null && hasSlot(indexed, slot)) chunk.location = indexed;
  else {
    chunk.location = place;
    parts.pending.chunks.set(chunk.key, chunk);
  }
  return { chunk, slot };
}

/** Null also when the row is damaged: the record says where the chunk was. */
function indexedPlace({ catalog }: StoreParts, id: Uint8Array): ChunkLocation | null {
  try {
    return catalog.chunk(id) ?? null;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return null;
  }
}

function replayFrame(version: number, frame: DecodedFrame, pageSize: number): Frame {
  switch (frame.kind) {
    case FrameKind.image:
      invariant(
        frame.bytes.length === pageSize,
        `Page ${frame.page} has ${pageSize} bytes, not ${frame.bytes.length}`,
      );
      return Frame.ofImage(version, frame.bytes);
    case FrameKind.delta:
      return Frame.ofDelta(version, frame.bytes, 0, frame.bytes.length);
    case FrameKind.zero:
      return Frame.ofZeros(version);
    case FrameKind.reference:
      throw new InvariantError(`The reference of page ${frame.page} is replayed as a place`);
  }
}

function openDatabase(parts: StoreParts, refs: DatabaseRefs): OpenDatabase {
  const open: OpenDatabase = {
    refs,
    context: viewContext(parts, refs.row.pageSize),
    timelines: new Map(),
    commits: 0,
  };
  parts.databases.set(refs.row.id, open);
  return open;
}

function checkpointedTimeline(
  parts: StoreParts,
  database: OpenDatabase,
  stored: CheckpointedTimeline,
): Timeline {
  const { row, root } = stored;
  if (root === null) return openTimeline(parts, database, row.id);
  const { pageMap, chunks } = parts;
  const { pageSize } = database.refs.row;
  const floor = {
    version: stored.headVersion,
    timestampMs: stored.headTimestampMs,
    pageCount: root.pageCount,
  };
  const base = new RootSource(root, { pageMap, chunks, pageSize });
  const view = new View(database.context, [Timeline.topLayer(row.id)], base, floor);
  return new Timeline(database, row, view, floor);
}

function requireRefs(parts: StoreParts, databaseId: number): DatabaseRefs {
  const database = parts.refs.databases.get(databaseId);
  if (database !== undefined) return database;
  throw new StoreError(
    "CORRUPT_CATALOG",
    `Cannot open the store: a record names database ${databaseId}, which does not exist`,
  );
}

function requireOpen(parts: StoreParts, databaseId: number): OpenDatabase {
  const database = parts.databases.get(databaseId);
  invariant(database !== undefined, `Database ${databaseId} is open`);
  return database;
}
