/**
 * From a revision, as a user writes it, to a branch or a commit of an open store.
 *
 * A version names the commit of that number, which the branch must have: in its log, or in what it was before a reset. So it
 * never reads anything else, whatever becomes of the branch. A time names what the branch was then: the newest commit at or
 * before it, also across a reset (refs.ts, "history"). Tags name a commit of the database, whatever branch is given.
 */
import { currentTimelineId, livingBranches, MAIN_BRANCH } from "../branch/refs.ts";
import { requireBranch, requireDatabase, requireTag } from "../branch/ref-operations.ts";
import { parseRevision, type Revision, type RevisionPoint } from "../branch/revision.ts";
import type { BranchRow, CommitPointer } from "../catalog/rows.ts";
import { commitAtTime, snapshotAt, timelineOf } from "../checkpoint/snapshot-at.ts";
import { invariant, StoreError } from "../errors.ts";
import { waiting } from "../storage/not-local.ts";
import type { Snapshot } from "../transaction/snapshot.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import type { Engine } from "./engine.ts";

export interface ResolvedRevision {
  readonly database: OpenDatabase;
  readonly branch: BranchRow;
  /** Null when the revision is the branch's head, which moves. */
  readonly snapshot: Snapshot | null;
}

/** Throws REVISION_INVALID, *_NOT_FOUND, saying what is there. Waits for what is not local. */
export function resolveRevision(engine: Engine, text: string): ResolvedRevision {
  return waiting(() => findRevision(engine, text));
}

/** The same for those who can fetch: throws NotLocalError. */
export function findRevision(engine: Engine, text: string): ResolvedRevision {
  engine.assertOpen();
  const revision = parseRevision(text);
  const database = openDatabaseNamed(engine, revision.database);
  const branch = requireBranch(database.refs, revision.branch ?? MAIN_BRANCH);
  if (revision.at === null) return { database, branch, snapshot: null };
  const pointer = pointerAt(engine, { database, branch, revision, at: revision.at });
  return { database, branch, snapshot: snapshotAt(engine.state, database, pointer) };
}

export function openDatabaseNamed(engine: Engine, name: string): OpenDatabase {
  engine.expireBranches();
  const { row } = requireDatabase(engine.state.refs, name);
  const database = engine.state.databases.get(row.id);
  invariant(database !== undefined, `Database ${row.id} is open`);
  return database;
}

/** The branch's newest commit. */
export function headOf(database: OpenDatabase, branch: BranchRow): Snapshot {
  return timelineOf(database, branch.history.at(-1)!.timeline).head;
}

/** The earliest time that a Date can hold. */
const TIME_MIN_MS = -8.64e15;

interface PointRequest {
  readonly database: OpenDatabase;
  readonly branch: BranchRow;
  readonly revision: Revision;
  readonly at: RevisionPoint;
}

function pointerAt(engine: Engine, request: PointRequest): CommitPointer {
  const { database, at } = request;
  switch (at.kind) {
    case "tag":
      return requireTag(database.refs, at.tag);
    case "version":
      return atVersion(engine, request, at.version);
    case "time":
      return atTime(engine, request, at.timestampMs);
    case "ago":
      return atTime(engine, request, Math.max(engine.options.now() - at.milliseconds, TIME_MIN_MS));
  }
}

function atVersion(engine: Engine, request: PointRequest, version: number): CommitPointer {
  const { database, branch } = request;
  const newest = database.refs.row.nextVersion - 1;
  if (version < 1 || version > newest) {
    const range = newest === 0 ? "it has no versions yet" : `its versions go from 1 to ${newest}`;
    throw notFound(request, `version ${version}`, range);
  }
  const pointer = commitOfBranch(engine, { database, branch, version });
  if (pointer !== null) return pointer;
  const other = livingBranches(database.refs).find(
    (row) => commitOfBranch(engine, { database, branch: row, version }) !== null,
  );
  const current = { timeline: currentTimelineId(branch), version };
  const before = snapshotAt(engine.state, database, current).version;
  const { name } = database.refs.row;
  const facts = [
    other === undefined
      ? "no living branch has that commit"
      : `it is a commit of "${name}/${other.name}", so use "${name}/${other.name}@${version}"`,
    before === 0
      ? "this branch has none before it"
      : `this branch's newest version before it is ${before}`,
  ];
  throw notFound(request, `version ${version}`, facts.join("; "));
}

/** The commit of that version, if the branch has it now or had it before a reset. */
function commitOfBranch(
  engine: Engine,
  { database, branch, version }: { database: OpenDatabase; branch: BranchRow; version: number },
): CommitPointer | null {
  let end = Infinity;
  for (const { timeline, afterVersion } of branch.history.toReversed()) {
    const pointer = { timeline, version };
    // What was made on the timeline after the reset is that of a backup, which has the timeline now.
    if (version <= end && snapshotAt(engine.state, database, pointer).version === version)
      return pointer;
    end = Math.min(end, afterVersion);
  }
  return null;
}

/** What the branch named when the database was at that version, from 1. */
export function timelineAtVersion(branch: BranchRow, version: number): number {
  const entry = branch.history.findLast(({ afterVersion }) => afterVersion < version);
  invariant(entry !== undefined, `Branch ${branch.id} has a history from version 0`);
  return entry.timeline;
}

function atTime(engine: Engine, request: PointRequest, timestampMs: number): CommitPointer {
  const { database, branch } = request;
  const time = new Date(timestampMs).toISOString();
  if (timestampMs > engine.options.now())
    throw notFound(request, `its state at ${time}`, "that is in the future");
  // Times before 1970 are before the beginning, too.
  const entry = branch.history.findLast(({ atMs }) => atMs <= timestampMs) ?? branch.history[0];
  invariant(entry !== undefined, `Branch ${branch.id} has a history`);
  const pointer = commitAtTime(engine.state, database, entry.timeline, timestampMs);
  if (pointer !== null) return pointer;
  const head = headOf(database, branch);
  throw notFound(
    request,
    `its state at ${time}`,
    head.version === 0
      ? "it has no commits yet"
      : `its history begins later; the newest commit is version ${head.version} of ${new Date(head.timestampMs).toISOString()}`,
  );
}

function notFound(request: PointRequest, what: string, fact: string): StoreError {
  const { database, branch } = request;
  return new StoreError(
    "VERSION_NOT_FOUND",
    `Cannot find ${what} of "${database.refs.row.name}/${branch.name}": ${fact}`,
    { details: { database: database.refs.row.name, branch: branch.name } },
  );
}
