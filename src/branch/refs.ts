/**
 * What the names of a store point at, as a pure state machine: databases, branches, timelines and tags, changed only by
 * `applyRefChange`. The same function runs when a change is made and when the log is replayed, so that both agree.
 *
 * A **timeline** is a line of commits with growing versions and an optional parent (timeline, version). It never moves:
 * a branch is a name for a timeline, and a reset gives the branch a new timeline that starts at another commit. What
 * the branch named before stays readable through `BranchRow.history`, which is what `main@14:00` looks into.
 *
 * R1. Ids and versions are handed out once: `next*` only grow, deleted rows keep theirs.
 * R2. A name is taken by at most one living row of its kind in its scope.
 * R3. A timeline's own commits have versions greater than its parent version.
 * R4. The last entry of a branch's history is its current timeline; `afterVersion` and `atMs` never decrease along it, and
 *     `atMs` lies between the timestamps of the database's commits before and after it, also when the clock goes back.
 * R5. An entry of a branch's history whose timeline is not there stands for commits that have expired; never two in a row.
 */
import type {
  BranchHistoryEntry,
  BranchRow,
  CommitPointer,
  DatabaseRow,
  RetentionOverrides,
  TagRow,
  TimelineRow,
} from "../catalog/rows.ts";
import { invariant } from "../errors.ts";

/** The name of the branch that every database starts with. */
export const MAIN_BRANCH = "main";

export interface DatabaseRefs {
  readonly row: DatabaseRow;
  readonly branches: Map<number, BranchRow>;
  /** The living branches by name. */
  readonly branchIds: Map<string, number>;
  readonly timelines: Map<number, TimelineRow>;
  readonly tags: Map<string, TagRow>;
}

export interface RefState {
  nextDatabaseId: number;
  readonly databases: Map<number, DatabaseRefs>;
  /** The living databases by name. */
  readonly databaseIds: Map<string, number>;
}

export type RefChange =
  | {
      readonly type: "create-database";
      readonly databaseId: number;
      readonly name: string;
      readonly pageSize: number;
      readonly atMs: number;
    }
  | { readonly type: "rename-database"; readonly databaseId: number; readonly name: string }
  | { readonly type: "delete-database"; readonly databaseId: number; readonly atMs: number }
  | { readonly type: "undelete-database"; readonly databaseId: number; readonly name: string }
  | {
      readonly type: "create-branch";
      readonly databaseId: number;
      readonly branchId: number;
      readonly name: string;
      readonly parentBranchId: number | null;
      readonly timelineId: number;
      readonly from: CommitPointer | null;
      readonly expiresAtMs: number | null;
      readonly atMs: number;
    }
  | {
      readonly type: "rename-branch";
      readonly databaseId: number;
      readonly branchId: number;
      readonly name: string;
    }
  | {
      readonly type: "delete-branch";
      readonly databaseId: number;
      readonly branchId: number;
      readonly atMs: number;
    }
  | {
      readonly type: "undelete-branch";
      readonly databaseId: number;
      readonly branchId: number;
      readonly name: string;
    }
  | {
      readonly type: "reset-branch";
      readonly databaseId: number;
      readonly branchId: number;
      readonly timelineId: number;
      readonly from: CommitPointer;
      readonly afterVersion: number;
      /** A new branch that keeps naming what the branch named before. */
      readonly preserveAs: { readonly branchId: number; readonly name: string } | null;
      readonly atMs: number;
    }
  | {
      readonly type: "set-branch";
      readonly databaseId: number;
      readonly branchId: number;
      readonly isProtected: boolean;
      readonly expiresAtMs: number | null;
    }
  | {
      readonly type: "create-tag";
      readonly databaseId: number;
      readonly name: string;
      readonly target: CommitPointer;
      readonly atMs: number;
    }
  | { readonly type: "delete-tag"; readonly databaseId: number; readonly name: string }
  | {
      readonly type: "set-retention";
      readonly databaseId: number;
      /** Null: the database's own. */
      readonly branchId: number | null;
      /** Null: none of its own any more. */
      readonly retention: RetentionOverrides | null;
    }
  /** A deleted branch, or database, cannot come back from here on. */
  | { readonly type: "purge-branch"; readonly databaseId: number; readonly branchId: number }
  | { readonly type: "purge-database"; readonly databaseId: number }
  /** Nothing kept is on these, and nothing kept grew from them. */
  | {
      readonly type: "purge-timelines";
      readonly databaseId: number;
      readonly timelineIds: readonly number[];
    };

export function emptyRefState(): RefState {
  return { nextDatabaseId: 1, databases: new Map(), databaseIds: new Map() };
}

export function currentTimelineId(branch: BranchRow): number {
  const last = branch.history.at(-1);
  invariant(last !== undefined, `Branch ${branch.id} has a timeline`);
  return last.timeline;
}

/** A database without branches yet, under its name if it lives. */
export function addDatabase(state: RefState, row: DatabaseRow): DatabaseRefs {
  const database: DatabaseRefs = {
    row,
    branches: new Map(),
    branchIds: new Map(),
    timelines: new Map(),
    tags: new Map(),
  };
  state.databases.set(row.id, database);
  state.nextDatabaseId = Math.max(state.nextDatabaseId, row.id + 1);
  if (row.deletedAtMs === null) state.databaseIds.set(row.name, row.id);
  return database;
}

/** Adds a branch, under its name if it lives. */
export function addBranch(database: DatabaseRefs, branch: BranchRow): void {
  invariant(!database.branches.has(branch.id), `Branch ${branch.id} is new`);
  database.branches.set(branch.id, branch);
  if (branch.deletedAtMs === null) database.branchIds.set(branch.name, branch.id);
  database.row.nextBranchId = Math.max(database.row.nextBranchId, branch.id + 1);
}

/** The living database of that name. */
export function findDatabase(state: RefState, name: string): DatabaseRefs | undefined {
  const id = state.databaseIds.get(name);
  return id === undefined ? undefined : state.databases.get(id);
}

/** The living branch of that name. */
export function findBranch(database: DatabaseRefs, name: string): BranchRow | undefined {
  const id = database.branchIds.get(name);
  return id === undefined ? undefined : database.branches.get(id);
}

export function livingBranches(database: DatabaseRefs): BranchRow[] {
  return [...database.branches.values()].filter((branch) => branch.deletedAtMs === null);
}

/** Applies a change whose preconditions the caller has checked. */
export function applyRefChange(state: RefState, change: RefChange): void {
  if (change.type === "create-database") {
    createDatabase(state, change);
    return;
  }
  const database = state.databases.get(change.databaseId);
  invariant(database !== undefined, `Database ${change.databaseId} exists`);
  switch (change.type) {
    case "rename-database":
      state.databaseIds.delete(database.row.name);
      state.databaseIds.set(change.name, change.databaseId);
      database.row.name = change.name;
      return;
    case "delete-database":
      state.databaseIds.delete(database.row.name);
      database.row.deletedAtMs = change.atMs;
      return;
    case "undelete-database":
      state.databaseIds.set(change.name, change.databaseId);
      database.row.deletedAtMs = null;
      database.row.name = change.name;
      return;
    case "create-branch":
      createBranch(database, change);
      return;
    case "reset-branch":
      resetBranch(database, change);
      return;
    case "rename-branch":
    case "delete-branch":
    case "undelete-branch":
    case "set-branch":
    case "purge-branch":
      applyBranchChange(database, change);
      return;
    case "create-tag":
      database.tags.set(change.name, {
        databaseId: change.databaseId,
        name: change.name,
        target: change.target,
        createdAtMs: change.atMs,
      });
      return;
    case "delete-tag":
      database.tags.delete(change.name);
      return;
    case "set-retention": {
      const row = change.branchId === null ? database.row : branchOf(database, change.branchId);
      if (change.retention === null) delete row.retention;
      else row.retention = change.retention;
      return;
    }
    case "purge-database":
      invariant(database.row.deletedAtMs !== null, `Database ${change.databaseId} is deleted`);
      state.databases.delete(change.databaseId);
      return;
    case "purge-timelines":
      for (const id of change.timelineIds) database.timelines.delete(id);
      for (const branch of database.branches.values())
        branch.history = foldedHistory(database, branch.history);
      return;
  }
}

type BranchChange = Extract<
  RefChange,
  {
    type: "rename-branch" | "delete-branch" | "undelete-branch" | "set-branch" | "purge-branch";
  }
>;

/** Of a branch that exists. */
function applyBranchChange(database: DatabaseRefs, change: BranchChange): void {
  const branch = branchOf(database, change.branchId);
  switch (change.type) {
    case "rename-branch":
      database.branchIds.delete(branch.name);
      database.branchIds.set(change.name, branch.id);
      branch.name = change.name;
      return;
    case "delete-branch":
      database.branchIds.delete(branch.name);
      branch.deletedAtMs = change.atMs;
      return;
    case "undelete-branch":
      database.branchIds.set(change.name, branch.id);
      branch.deletedAtMs = null;
      branch.expiresAtMs = null; // or a branch that expired would go again at once
      branch.name = change.name;
      return;
    case "set-branch":
      branch.isProtected = change.isProtected;
      branch.expiresAtMs = change.expiresAtMs;
      return;
    case "purge-branch":
      invariant(branch.deletedAtMs !== null, `Branch ${change.branchId} is deleted`);
      database.branches.delete(change.branchId);
      return;
  }
}

/** R5. */
function foldedHistory(
  database: DatabaseRefs,
  history: readonly BranchHistoryEntry[],
): BranchHistoryEntry[] {
  const isGone = (entry: BranchHistoryEntry | undefined): boolean =>
    entry !== undefined && !database.timelines.has(entry.timeline);
  return history.filter((entry, index) => !(isGone(entry) && isGone(history[index - 1])));
}

function createDatabase(
  state: RefState,
  change: Extract<RefChange, { type: "create-database" }>,
): void {
  invariant(!state.databases.has(change.databaseId), `Database ${change.databaseId} is new`);
  const database = addDatabase(state, {
    id: change.databaseId,
    name: change.name,
    pageSize: change.pageSize,
    createdAtMs: change.atMs,
    deletedAtMs: null,
    nextVersion: 1,
    nextBranchId: 1,
    nextTimelineId: 1,
    lastTimestampMs: change.atMs,
  });
  addTimeline(database, 1, null, change.atMs);
  addBranch(database, {
    id: 1,
    databaseId: change.databaseId,
    name: MAIN_BRANCH,
    parentBranchId: null,
    createdAtMs: change.atMs,
    deletedAtMs: null,
    isProtected: false,
    expiresAtMs: null,
    history: [{ timeline: 1, afterVersion: 0, atMs: 0 }],
  });
}

function createBranch(
  database: DatabaseRefs,
  change: Extract<RefChange, { type: "create-branch" }>,
): void {
  addTimeline(database, change.timelineId, change.from, change.atMs);
  addBranch(database, {
    id: change.branchId,
    databaseId: change.databaseId,
    name: change.name,
    parentBranchId: change.parentBranchId,
    createdAtMs: change.atMs,
    deletedAtMs: null,
    isProtected: false,
    expiresAtMs: change.expiresAtMs,
    history: [{ timeline: change.timelineId, afterVersion: 0, atMs: 0 }],
  });
}

function resetBranch(
  database: DatabaseRefs,
  change: Extract<RefChange, { type: "reset-branch" }>,
): void {
  const branch = branchOf(database, change.branchId);
  if (change.preserveAs !== null) {
    addBranch(database, {
      id: change.preserveAs.branchId,
      databaseId: change.databaseId,
      name: change.preserveAs.name,
      parentBranchId: branch.parentBranchId,
      createdAtMs: change.atMs,
      deletedAtMs: null,
      isProtected: false,
      expiresAtMs: null,
      history: [...branch.history],
    });
  }
  addTimeline(database, change.timelineId, change.from, change.atMs);
  database.row.lastTimestampMs = Math.max(database.row.lastTimestampMs, change.atMs);
  branch.history = [
    ...branch.history,
    { timeline: change.timelineId, afterVersion: change.afterVersion, atMs: change.atMs },
  ];
}

function branchOf(database: DatabaseRefs, branchId: number): BranchRow {
  const branch = database.branches.get(branchId);
  invariant(branch !== undefined, `Branch ${branchId} of database ${database.row.id} exists`);
  return branch;
}

function addTimeline(
  database: DatabaseRefs,
  id: number,
  parent: CommitPointer | null,
  createdAtMs: number,
): void {
  invariant(!database.timelines.has(id), `Timeline ${id} is new`);
  database.timelines.set(id, { id, databaseId: database.row.id, parent, createdAtMs });
  database.row.nextTimelineId = Math.max(database.row.nextTimelineId, id + 1);
}
