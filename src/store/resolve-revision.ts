/**
 * From a revision, as a user writes it, to a branch or a commit of an open store.
 *
 * A version names the commit of that number, which the branch must have: in its log, or in what it was before a reset. So it
 * never reads anything else, whatever becomes of the branch. A time names what the branch was then: the newest commit at or
 * before it, also across a reset (refs.ts, "history"). Tags name a commit of the database, whatever branch is given.
 */
import { livingBranches, MAIN_BRANCH } from "../branch/refs.ts";
import { requireBranch, requireDatabase, requireTag } from "../branch/ref-operations.ts";
import { parseRevision, type Revision, type RevisionPoint } from "../branch/revision.ts";
import type { BranchRow, CommitPointer } from "../catalog/rows.ts";
import { nearestReadable } from "../checkpoint/nearest-commits.ts";
import { commitAtTime, snapshotAt, timelineOf } from "../checkpoint/snapshot-at.ts";
import { invariant, StoreError } from "../errors.ts";
import { waiting } from "../storage/not-local.ts";
import type { CommitPlace, Snapshot } from "../transaction/snapshot.ts";
import type { OpenDatabase, Timeline } from "../transaction/timeline.ts";
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
  const request = { database, branch, revision, at: revision.at };
  const pointer = pointerAt(engine, request);
  try {
    return { database, branch, snapshot: snapshotAt(engine.state, database, pointer) };
  } catch (error) {
    if (!isExpiry(error)) throw error;
    throw expired(engine, request, { what: whatOf(engine, revision.at), version: pointer.version });
  }
}

export function openDatabaseNamed(engine: Engine, name: string): OpenDatabase {
  engine.expireBranches();
  refuseOtherPartition(engine, name);
  const { row } = requireDatabase(engine.state.refs, name);
  const database = engine.state.databases.get(row.id);
  invariant(database !== undefined, `Database ${row.id} is open`);
  return database;
}

function refuseOtherPartition({ partition, state }: Engine, name: string): void {
  if (partition === null || state.refs.databaseIds.has(name)) return;
  const other = partition.otherPartitionOf(name);
  if (other === null) return;
  throw new StoreError(
    "OTHER_PARTITION",
    `Cannot use database "${name}" here: it is in partition ${other}, the others in partition ${partition.index}; hand it over with "bough database hand-over ${name} --partition ${partition.index}"`,
    { details: { database: name, partition: other } },
  );
}

/** By id: what a follower has open now, whatever it had when the id was looked up. */
export function requireDatabaseId(engine: Engine, id: number): OpenDatabase {
  const database = engine.state.databases.get(id);
  if (database !== undefined) return database;
  const gone = engine.handedOver.get(id);
  if (gone !== undefined)
    throw new StoreError(
      "OTHER_PARTITION",
      `Cannot use database "${gone.name}" here any more: it was handed over to partition ${gone.partition}; ask the store for it again`,
      { details: { database: gone.name, partition: gone.partition } },
    );
  throw new StoreError("DATABASE_NOT_FOUND", "Cannot use the database: it was deleted");
}

export function requireBranchId(database: OpenDatabase, id: number): BranchRow {
  const row = database.refs.branches.get(id);
  if (row !== undefined) return row;
  throw new StoreError(
    "BRANCH_NOT_FOUND",
    `Cannot use the branch of "${database.refs.row.name}": it was deleted`,
  );
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
  const found = commitOfBranch(engine, { database, branch, version });
  if (typeof found === "object") return found;
  const other = livingBranches(database.refs).find(
    (row) => typeof commitOfBranch(engine, { database, branch: row, version }) === "object",
  );
  if (other === undefined && found === "expired")
    throw expired(engine, request, { what: `version ${version}`, version });
  const before = keptAround(engine, request, version).before?.version ?? 0;
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

/** Whether the branch has, or had, the commit `version`: numbers are of one database, so no other commit has it. */
export function hasCommit(
  engine: Engine,
  place: { readonly database: OpenDatabase; readonly branch: BranchRow; readonly version: number },
): boolean {
  return place.version === 0 || typeof commitOfBranch(engine, place) === "object";
}

/**
 * The commit of that version, if the branch has it now or had it before a reset; "expired": it may have had it, and the commits
 * around it have gone; "none": it never had it.
 */
function commitOfBranch(
  engine: Engine,
  { database, branch, version }: { database: OpenDatabase; branch: BranchRow; version: number },
): CommitPointer | "expired" | "none" {
  let end = Infinity;
  let isExpired = false;
  for (const { timeline, afterVersion } of branch.history.toReversed()) {
    // What was made on the timeline after the reset is that of a backup, which has the timeline now.
    if (version <= end) {
      const newest = newestVersion(engine, database, { timeline, version });
      if (newest === version) return { timeline, version };
      if (newest === "expired" && (database.timelines.has(timeline) || version > afterVersion))
        isExpired = true;
    }
    end = Math.min(end, afterVersion);
  }
  return isExpired ? "expired" : "none";
}

function newestVersion(
  engine: Engine,
  database: OpenDatabase,
  at: CommitPointer,
): number | "expired" {
  if (!database.timelines.has(at.timeline)) return "expired";
  try {
    return snapshotAt(engine.state, database, at).version;
  } catch (error) {
    if (isExpiry(error)) return "expired";
    throw error;
  }
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
  if (!database.timelines.has(entry.timeline))
    throw expired(engine, request, {
      what: `its state at ${time}`,
      version: entry.afterVersion,
    });
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

function isExpiry(error: unknown): boolean {
  return error instanceof StoreError && error.code === "VERSION_EXPIRED";
}

/** How the user named the point. */
function whatOf(engine: Engine, at: RevisionPoint): string {
  if (at.kind === "version") return `version ${at.version}`;
  if (at.kind === "tag") return `tag "${at.tag}"`;
  const timestampMs =
    at.kind === "time"
      ? at.timestampMs
      : Math.max(engine.options.now() - at.milliseconds, TIME_MIN_MS);
  return `its state at ${new Date(timestampMs).toISOString()}`;
}

/** The readable commits of the branch next to a version, over all that it is, was and grew from. */
function keptAround(
  engine: Engine,
  { database, branch }: PointRequest,
  version: number,
): { readonly before: CommitPlace | null; readonly after: CommitPlace | null } {
  let before: CommitPlace | null = null;
  let after: CommitPlace | null = null;
  let end = Infinity;
  const seen = new Set<string>();
  for (const entry of branch.history.toReversed()) {
    let timeline = database.timelines.get(entry.timeline);
    for (let bound = end; timeline !== undefined;) {
      const key = `${timeline.row.id}/${bound}`;
      if (seen.has(key)) break;
      seen.add(key);
      const found = nearestReadable(engine.state, timeline, { version, end: bound });
      if (found.before !== null && found.before.version > (before?.version ?? 0))
        before = found.before;
      if (found.after !== null && found.after.version < (after?.version ?? Infinity))
        after = found.after;
      const { parent }: Timeline["row"] = timeline.row;
      if (parent === null || parent.version <= (before?.version ?? 0)) break;
      bound = Math.min(bound, parent.version);
      timeline = database.timelines.get(parent.timeline);
    }
    end = Math.min(end, entry.afterVersion);
  }
  return { before, after };
}

function expired(
  engine: Engine,
  request: PointRequest,
  { what, version }: { readonly what: string; readonly version: number },
): StoreError {
  const { database, branch } = request;
  const name = `${database.refs.row.name}/${branch.name}`;
  const { before, after } = keptAround(engine, request, version);
  const kept = [before, after].filter((commit) => commit !== null);
  const facts =
    kept.length === 0
      ? "nothing older is kept"
      : `the nearest kept are ${kept.map((commit) => `version ${commit.version} of ${new Date(commit.timestampMs).toISOString()}`).join(" and ")}`;
  const detail = (commit: CommitPlace | null): object | null =>
    commit === null
      ? null
      : { version: commit.version, timestamp: new Date(commit.timestampMs).toISOString() };
  return new StoreError(
    "VERSION_EXPIRED",
    `Cannot find ${what} of "${name}": the commits from there have expired; ${facts}; "bough retention show ${name}" lists all`,
    {
      details: {
        database: database.refs.row.name,
        branch: branch.name,
        before: detail(before),
        after: detail(after),
      },
    },
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
