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
 * R4. The last entry of a branch's history is its current timeline; `afterVersion` never decreases along it.
 */
import type { BranchRow, CommitPointer, DatabaseRow, TagRow, TimelineRow } from "../catalog/rows.ts";
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
  | { readonly type: "delete-tag"; readonly databaseId: number; readonly name: string };

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
export function addTimeline(
  database: DatabaseRefs,
  id: number,
  parent: CommitPointer | null,
  createdAtMs: number,
): void {
  invariant(!database.timelines.has(id), `Timeline ${id} is new`);
  database.timelines.set(id, { id, databaseId: database.row.id, parent, createdAtMs });
  database.row.nextTimelineId = Math.max(database.row.nextTimelineId, id + 1);
}
