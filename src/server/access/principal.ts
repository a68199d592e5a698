/**
 * Who asks, and what they may do.
 *
 *   action   on a branch                             on a database                     on the server
 *   read     its content, versions, log, export      all of its branches, sizes        sizes, what is configured
 *   write    SQL that changes it, import into it     -                                 -
 *   admin    create, delete, rename, reset, restore, create, delete, rename, retention collect garbage, check, scrub, remote,
 *            protect, expire, tag it, retention                                        settings, keys, metrics
 *
 * P1. Nothing is allowed that no scope allows.
 * P2. "admin" includes "write", which includes "read".
 * P3. The whole of a database (branch null) needs a scope for every branch, the server (database null) one for every branch of every database.
 *     Several scopes do not add up to a whole: a branch that none of them names may be made tomorrow.
 * P4. Whoever may read a branch may read its versions, also those from before it was forked.
 * P5. A list shows a branch only to who may read it, and a database only to who may read one of its branches.
 */
import { StoreError } from "../../errors.ts";
import { type AccessLevel, everything, type Scope } from "./claims.ts";

export type Action = "read" | "write" | "admin";

export interface Target {
  /** Null: the server. */
  readonly database: string | null;
  /** Null: the database as a whole. A revision without a branch is of "main", unless its tag is on another. */
  readonly branch: string | null;
}

export interface PermissionRequest extends Target {
  readonly action: Action;
}

export interface Principal {
  /** "jti" of the token, or a digest of one that has none; null without authentication. What `bough token revoke` takes. */
  readonly id: string | null;
  /** "sub" of the token. */
  readonly subject: string | null;
  readonly issuer: string | null;
  /** Null: never. */
  readonly expiresAtMs: number | null;
  readonly scopes: readonly Scope[];
}

/** Whose streams and jobs are whose: two requests are of the same owner when these are equal. An id is of its issuer only. */
export function ownerId({ issuer, id }: Principal): string {
  return `${issuer ?? ""} ${id ?? ""}`;
}

/** Everybody, on a server without authentication. */
export const UNAUTHENTICATED: Principal = {
  id: null,
  subject: null,
  issuer: null,
  expiresAtMs: null,
  scopes: [everything("admin")],
};

const LEVEL_OF_ACCESS: Readonly<Record<AccessLevel, number>> = { ro: 1, rw: 2, admin: 3 };
const LEVEL_OF_ACTION: Readonly<Record<Action, number>> = { read: 1, write: 2, admin: 3 };

export function permits(principal: Principal, request: PermissionRequest): boolean {
  const level = LEVEL_OF_ACTION[request.action];
  return principal.scopes.some(
    (scope) => LEVEL_OF_ACCESS[scope.access] >= level && covers(scope, request),
  );
}

/** Throws FORBIDDEN. To be asked before anything is looked up, so that the answer tells nothing about what exists. */
export function requirePermission(principal: Principal, request: PermissionRequest): void {
  if (!permits(principal, request)) throw forbidden(request);
}

/** The refusal of what a token does not allow; its names are shown as they are here. */
export function forbidden({ action, database, branch }: PermissionRequest): StoreError {
  const verb = database === null ? SERVER_VERBS[action] : VERBS[action];
  return new StoreError(
    "FORBIDDEN",
    `Cannot ${verb} ${nameOf({ database, branch })}: the token does not allow it`,
    { details: { action, database, branch } },
  );
}

const VERBS: Readonly<Record<Action, string>> = {
  read: "read",
  write: "write to",
  admin: "administer",
};
/** What is read there are its settings and sizes. */
const SERVER_VERBS: Readonly<Record<Action, string>> = { ...VERBS, read: "read about" };

/** What may be done with the data of a branch. */
export type BranchAccess = "none" | "read" | "write";

export interface BranchTarget {
  readonly database: string;
  readonly branch: string;
}

export function branchAccess(principal: Principal, target: BranchTarget): BranchAccess {
  return largestAccess(principal.scopes, target);
}

/**
 * What ATTACH may do with a branch, on a connection to a branch of the database `from`: "none" is to be refused with FORBIDDEN, "read" to be
 * attached read-only.
 */
export function attachAccess(
  principal: Principal,
  target: BranchTarget & { readonly from: string },
): BranchAccess {
  const isOwn = target.database === target.from;
  return largestAccess(
    principal.scopes.filter((scope) => isOwn || scope.isAttachable),
    target,
  );
}

function largestAccess(scopes: readonly Scope[], target: BranchTarget): BranchAccess {
  let access: BranchAccess = "none";
  for (const scope of scopes) {
    if (!covers(scope, target)) continue;
    if (LEVEL_OF_ACCESS[scope.access] >= LEVEL_OF_ACTION.write) return "write";
    access = "read";
  }
  return access;
}

/** Whether a list shows the branch (P5). */
export function seesBranch(principal: Principal, database: string, branch: string): boolean {
  return permits(principal, { action: "read", database, branch });
}

/** Whether a list shows the database (P5). `branches` gives the names of its branches; it is asked only when they matter. */
export function seesDatabase(
  principal: Principal,
  database: string,
  branches: () => Iterable<string>,
): boolean {
  if (permits(principal, { action: "read", database, branch: null })) return true;
  if (!principal.scopes.some((scope) => scope.database.matches(database))) return false;
  for (const branch of branches()) if (seesBranch(principal, database, branch)) return true;
  return false;
}

/** Codes whose messages name what there is instead, with what is said in place of that. */
const FACTS: ReadonlyMap<string, string> = new Map([
  ["DATABASE_NOT_FOUND", "there is none of that name"],
  ["BRANCH_NOT_FOUND", "there is none of that name"],
  ["TAG_NOT_FOUND", "there is none of that name"],
  ["VERSION_NOT_FOUND", "this branch does not have it"],
  ["BRANCH_HAS_CHILDREN", "it has branches of its own"],
]);

/** An error as the principal may see it: without the names of others in its message. */
export function withoutOtherNames(principal: Principal, error: unknown): unknown {
  const fact = error instanceof StoreError ? FACTS.get(error.code) : undefined;
  if (!(error instanceof StoreError) || fact === undefined) return error;
  if (permits(principal, { action: "read", database: null, branch: null })) return error;
  const end = error.message.indexOf('": ');
  const what = end === -1 ? "Cannot do this" : error.message.slice(0, end + 1);
  return new StoreError(error.code, `${what}: ${fact}`, { retryable: error.retryable });
}

/** A scope for every name covers also what could be no name: that is then what the client is told. */
function covers({ database: databases, branch: branches }: Scope, target: Target): boolean {
  const { database, branch } = target;
  if (database === null) return databases.coversAll && branches.coversAll;
  if (!databases.coversAll && !databases.matches(database)) return false;
  return branches.coversAll || (branch !== null && branches.matches(branch));
}

function nameOf({ database, branch }: Target): string {
  if (database === null) return "the server";
  return branch === null ? `database "${database}"` : `branch "${database}/${branch}"`;
}
