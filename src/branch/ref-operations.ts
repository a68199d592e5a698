/**
 * What a user may do to names: each function checks a request against the current refs and returns the change to be
 * logged and applied, or throws a StoreError that says what is there. Nothing here changes anything.
 */
import type { BranchRow, CommitPointer } from "../catalog/rows.ts";
import { StoreError } from "../errors.ts";
import { nearestNames } from "./nearest-names.ts";
import {
  type DatabaseRefs,
  findBranch,
  findDatabase,
  livingBranches,
  MAIN_BRANCH,
  type RefChange,
  type RefState,
} from "./refs.ts";
import { checkName, requireText } from "./names.ts";

export const PAGE_SIZE_MIN = 512;
export const PAGE_SIZE_MAX = 65536;
export const PAGE_SIZE_DEFAULT = 4096;

export function requireDatabase(state: RefState, name: string): DatabaseRefs {
  const database = findDatabase(state, name);
  if (database !== undefined) return database;
  const names = [...state.databases.values()]
    .filter(({ row }) => row.deletedAtMs === null)
    .map(({ row }) => row.name);
  throw databaseNotFound(name, names);
}

/** `names` are those that there are. */
export function databaseNotFound(name: string, names: readonly string[]): StoreError {
  return new StoreError(
    "DATABASE_NOT_FOUND",
    `Cannot find database "${name}": ${whatIsThere("database", name, names)}`,
    { details: { database: name } },
  );
}

export function requireBranch(database: DatabaseRefs, name: string): BranchRow {
  requireText("The name of a branch", name);
  const branch = findBranch(database, name);
  if (branch !== undefined) return branch;
  const names = livingBranches(database).map((row) => row.name);
  throw new StoreError(
    "BRANCH_NOT_FOUND",
    `Cannot find branch "${database.row.name}/${name}": ${whatIsThere("branch", name, names)}`,
    { details: { database: database.row.name, branch: name } },
  );
}

export function createDatabaseChange(
  state: RefState,
  request: { name: string; pageSize?: number; atMs: number },
): RefChange {
  const { name, pageSize = PAGE_SIZE_DEFAULT, atMs } = request;
  checkName("database", name);
  checkPageSize(pageSize);
  requireFreeDatabaseName(state, name);
  return { type: "create-database", databaseId: state.nextDatabaseId, name, pageSize, atMs };
}

export function checkPageSize(pageSize: number): void {
  const isPowerOfTwo = Number.isInteger(pageSize) && (pageSize & (pageSize - 1)) === 0;
  if (isPowerOfTwo && pageSize >= PAGE_SIZE_MIN && pageSize <= PAGE_SIZE_MAX) return;
  throw new StoreError(
    "PAGE_SIZE",
    `Cannot use page size ${pageSize}: it must be a power of two from ${PAGE_SIZE_MIN} to ${PAGE_SIZE_MAX}`,
  );
}

export function renameDatabaseChange(
  state: RefState,
  request: { name: string; to: string },
): RefChange {
  const database = requireDatabase(state, request.name);
  checkName("database", request.to);
  if (request.to !== request.name) requireFreeDatabaseName(state, request.to);
  return { type: "rename-database", databaseId: database.row.id, name: request.to };
}

export function deleteDatabaseChange(
  state: RefState,
  request: { name: string; atMs: number },
): RefChange {
  const database = requireDatabase(state, request.name);
  const guarded = livingBranches(database).find((branch) => branch.isProtected);
  if (guarded !== undefined)
    throw new StoreError(
      "BRANCH_PROTECTED",
      `Cannot delete database "${request.name}": branch "${guarded.name}" is protected; unprotect it first`,
    );
  return { type: "delete-database", databaseId: database.row.id, atMs: request.atMs };
}

export function undeleteDatabaseChange(state: RefState, request: { name: string }): RefChange {
  const deleted = newest(
    [...state.databases.values()].filter(
      ({ row }) => row.deletedAtMs !== null && row.name === request.name,
    ),
    ({ row }) => row.deletedAtMs ?? 0,
  );
  if (deleted === undefined)
    throw new StoreError(
      "DATABASE_NOT_FOUND",
      `Cannot undelete database "${request.name}": no deleted database of that name is kept`,
    );
  requireFreeDatabaseName(state, request.name);
  return { type: "undelete-database", databaseId: deleted.row.id, name: request.name };
}

export function createBranchChange(
  database: DatabaseRefs,
  request: {
    name: string;
    from: CommitPointer | null;
    parentBranchId: number | null;
    expiresAtMs: number | null;
    atMs: number;
  },
): RefChange {
  checkName("branch", request.name);
  requireFreeBranchName(database, request.name);
  requireFuture(request.expiresAtMs, request.atMs);
  return {
    type: "create-branch",
    databaseId: database.row.id,
    branchId: database.row.nextBranchId,
    name: request.name,
    parentBranchId: request.parentBranchId,
    timelineId: database.row.nextTimelineId,
    from: request.from,
    expiresAtMs: request.expiresAtMs,
    atMs: request.atMs,
  };
}

export function renameBranchChange(
  database: DatabaseRefs,
  request: { name: string; to: string },
): RefChange {
  const branch = requireBranch(database, request.name);
  checkName("branch", request.to);
  if (branch.name === MAIN_BRANCH)
    throw new StoreError(
      "BRANCH_PROTECTED",
      `Cannot rename branch "${database.row.name}/${MAIN_BRANCH}": every database keeps its "${MAIN_BRANCH}"`,
    );
  if (request.to !== request.name) requireFreeBranchName(database, request.to);
  return {
    type: "rename-branch",
    databaseId: database.row.id,
    branchId: branch.id,
    name: request.to,
  };
}

export function deleteBranchChange(
  database: DatabaseRefs,
  request: { name: string; atMs: number },
): RefChange {
  const branch = requireBranch(database, request.name);
  const label = `${database.row.name}/${branch.name}`;
  if (branch.name === MAIN_BRANCH)
    throw new StoreError(
      "BRANCH_PROTECTED",
      `Cannot delete branch "${label}": every database keeps its "${MAIN_BRANCH}"; delete the database instead`,
    );
  requireUnprotected(database, branch, "delete");
  const children = livingBranches(database)
    .filter((row) => row.parentBranchId === branch.id)
    .map((row) => row.name);
  if (children.length > 0)
    throw new StoreError(
      "BRANCH_HAS_CHILDREN",
      `Cannot delete branch "${label}": it has ${children.length === 1 ? "the child" : "the children"} ${quoteList(children, 5)}; delete ${children.length === 1 ? "it" : "them"} first`,
      { details: { children } },
    );
  return {
    type: "delete-branch",
    databaseId: database.row.id,
    branchId: branch.id,
    atMs: request.atMs,
  };
}

export function undeleteBranchChange(database: DatabaseRefs, request: { name: string }): RefChange {
  const deleted = newest(
    [...database.branches.values()].filter(
      (row) => row.deletedAtMs !== null && row.name === request.name,
    ),
    (row) => row.deletedAtMs ?? 0,
  );
  if (deleted === undefined)
    throw new StoreError(
      "BRANCH_NOT_FOUND",
      `Cannot undelete branch "${database.row.name}/${request.name}": no deleted branch of that name is kept`,
    );
  requireFreeBranchName(database, request.name);
  return {
    type: "undelete-branch",
    databaseId: database.row.id,
    branchId: deleted.id,
    name: request.name,
  };
}

export function resetBranchChange(
  database: DatabaseRefs,
  request: { name: string; from: CommitPointer; preserveAs: string | null; atMs: number },
): RefChange {
  const branch = requireBranch(database, request.name);
  requireUnprotected(database, branch, "reset");
  if (request.preserveAs !== null) {
    checkName("branch", request.preserveAs);
    requireFreeBranchName(database, request.preserveAs);
  }
  return {
    type: "reset-branch",
    databaseId: database.row.id,
    branchId: branch.id,
    timelineId: database.row.nextTimelineId,
    from: request.from,
    afterVersion: database.row.nextVersion - 1,
    preserveAs:
      request.preserveAs === null
        ? null
        : { branchId: database.row.nextBranchId, name: request.preserveAs },
    // Not before what it leaves behind, whatever the clock says.
    atMs: Math.max(request.atMs, database.row.lastTimestampMs),
  };
}

export function setBranchChange(
  database: DatabaseRefs,
  request: { name: string; isProtected?: boolean; expiresAtMs?: number | null; atMs: number },
): RefChange {
  const branch = requireBranch(database, request.name);
  if (request.expiresAtMs !== undefined) {
    requireFuture(request.expiresAtMs, request.atMs);
    if (request.expiresAtMs !== null && branch.name === MAIN_BRANCH)
      throw new StoreError(
        "BRANCH_PROTECTED",
        `Cannot let branch "${database.row.name}/${MAIN_BRANCH}" expire: every database keeps its "${MAIN_BRANCH}"`,
      );
  }
  const isProtected = request.isProtected ?? branch.isProtected;
  const expiresAtMs = request.expiresAtMs === undefined ? branch.expiresAtMs : request.expiresAtMs;
  if (isProtected && expiresAtMs !== null)
    throw new StoreError(
      "BRANCH_PROTECTED",
      `Cannot set branch "${database.row.name}/${branch.name}": a protected branch does not expire; remove the protection or the expiry time`,
    );
  return {
    type: "set-branch",
    databaseId: database.row.id,
    branchId: branch.id,
    isProtected,
    expiresAtMs,
  };
}

export function createTagChange(
  database: DatabaseRefs,
  request: { name: string; target: CommitPointer; atMs: number },
): RefChange {
  checkName("tag", request.name);
  if (database.tags.has(request.name))
    throw new StoreError(
      "TAG_EXISTS",
      `Cannot create tag "${database.row.name}@${request.name}": it exists; delete it first or choose another name`,
    );
  return {
    type: "create-tag",
    databaseId: database.row.id,
    name: request.name,
    target: request.target,
    atMs: request.atMs,
  };
}

export function deleteTagChange(database: DatabaseRefs, request: { name: string }): RefChange {
  requireTag(database, request.name);
  return { type: "delete-tag", databaseId: database.row.id, name: request.name };
}

export function requireTag(database: DatabaseRefs, name: string): CommitPointer {
  const tag = database.tags.get(name);
  if (tag !== undefined) return tag.target;
  throw new StoreError(
    "TAG_NOT_FOUND",
    `Cannot find tag "${database.row.name}@${name}": ${whatIsThere("tag", name, [...database.tags.keys()])}`,
  );
}

function requireUnprotected(database: DatabaseRefs, branch: BranchRow, action: string): void {
  if (!branch.isProtected) return;
  throw new StoreError(
    "BRANCH_PROTECTED",
    `Cannot ${action} branch "${database.row.name}/${branch.name}": it is protected; unprotect it first`,
  );
}

function requireFreeDatabaseName(state: RefState, name: string): void {
  if (findDatabase(state, name) === undefined) return;
  throw new StoreError(
    "DATABASE_EXISTS",
    `Cannot use database name "${name}": it is taken; choose another name`,
  );
}

function requireFreeBranchName(database: DatabaseRefs, name: string): void {
  if (findBranch(database, name) === undefined) return;
  throw new StoreError(
    "BRANCH_EXISTS",
    `Cannot use branch name "${database.row.name}/${name}": it is taken; choose another name`,
  );
}

function requireFuture(expiresAtMs: number | null, nowMs: number): void {
  if (expiresAtMs === null || expiresAtMs > nowMs) return;
  throw new RangeError(
    `Cannot expire a branch at ${new Date(expiresAtMs).toISOString()}: that is not in the future`,
  );
}

function whatIsThere(kind: string, name: string, names: readonly string[]): string {
  if (names.length === 0) return `there is no ${kind} yet`;
  const near = nearestNames(name, names, 3);
  if (near.length > 0) return `did you mean ${quoteList(near, 3)}?`;
  return `there ${names.length === 1 ? "is" : "are"} ${quoteList(names, 10)}`;
}

function quoteList(names: readonly string[], limit: number): string {
  const shown = names.slice(0, limit).map((name) => `"${name}"`);
  if (names.length > limit) shown.push(`${names.length - limit} more`);
  return shown.join(", ");
}

function newest<T>(rows: readonly T[], deletedAt: (row: T) => number): T | undefined {
  let best: T | undefined;
  // Of two deleted in one millisecond the younger: its name was free only after the older had gone.
  for (const row of rows) if (best === undefined || deletedAt(row) >= deletedAt(best)) best = row;
  return best;
}
