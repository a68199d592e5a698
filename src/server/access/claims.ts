/**
 * What the claims of a token allow. The first of these that is there decides, alone:
 *
 *   bough   [{ "database": pattern, "branch": pattern, "access": "ro" | "rw" | "admin" }, ...]      bough's own, see name-pattern.ts
 *   p       { "ro" | "rw" | "roa" | "rwa": { "ns": [name, ...] } }                                  newer libSQL servers
 *   a, id   a: "ro" | "rw" | "roa", "rw" when it is missing; id: a name, every database when it is missing
 *   none    nothing; with `withoutClaims` "rw", every database, as in sqld
 *
 * C1. A scope allows what it names, and what no scope allows is denied.
 * C2. "bough" is read strictly: an unknown member, access or pattern refuses the token. A restriction that a newer bough added must not
 *     be passed over by an older one.
 * C3. Names in "p" and "id" are names, never patterns: "*" there is nobody. They are databases with all their branches.
 * C4. libSQL's claims give at most "rw": what changes names (branches, tags, databases) needs bough's "admin".
 * C5. ATTACH: what bough's claims allow may be attached. With libSQL's, another database only by "roa" and "rwa", as there.
 */
import { compilePattern, exactPattern, faultOfPattern, type NamePattern } from "./name-pattern.ts";
import { authInvalid } from "./refusal.ts";

export const ACCESS_LEVELS = ["ro", "rw", "admin"] as const;
/** Each includes those before it. */
export type AccessLevel = (typeof ACCESS_LEVELS)[number];

export interface Scope {
  readonly database: NamePattern;
  readonly branch: NamePattern;
  readonly access: AccessLevel;
  /** May be attached from every database, not only from its own (C5). */
  readonly isAttachable: boolean;
}

/** As it stands in the claim. */
export interface ScopeClaim {
  readonly database: string;
  readonly branch: string;
  readonly access: AccessLevel;
}

/** What a good token without any of the claims above may do. */
export type WithoutClaims = "nothing" | "rw";

export const SCOPE_CLAIM = "bough";
export const SCOPES_MAX = 256;

const EVERY_DATABASE: NamePattern = compilePattern("database", "*");
const EVERY_BRANCH: NamePattern = compilePattern("branch", "**");

/** `payload` is of a token whose signature was verified. Throws AUTH_INVALID. */
export function scopesOfClaims(
  payload: Readonly<Record<string, unknown>>,
  withoutClaims: WithoutClaims,
): Scope[] {
  const own = claim(payload, SCOPE_CLAIM);
  if (own !== undefined) return scopesOfOwnClaim(own);
  const permissions = claim(payload, "p");
  if (permissions !== undefined) return scopesOfPermissions(permissions);
  const access = claim(payload, "a");
  const id = claim(payload, "id");
  if (access !== undefined || id !== undefined) return [scopeOfAccess(access, id)];
  return withoutClaims === "nothing" ? [] : [everything("rw")];
}

export function everything(access: AccessLevel): Scope {
  return { database: EVERY_DATABASE, branch: EVERY_BRANCH, access, isAttachable: true };
}

/** What is wrong with a scope, to be put after a colon; null when nothing is. */
export function faultOfScope(scope: ScopeClaim): string | null {
  const database = faultOfPattern("database", scope.database);
  if (database !== null) return `database ${JSON.stringify(scope.database)}: ${database}`;
  const branch = faultOfPattern("branch", scope.branch);
  return branch === null ? null : `branch ${JSON.stringify(scope.branch)}: ${branch}`;
}

function scopesOfOwnClaim(value: unknown): Scope[] {
  if (!Array.isArray(value)) throw claimFault(SCOPE_CLAIM, "it is no list of scopes");
  requireCount(value.length, SCOPE_CLAIM);
  return value.map((member: unknown) => {
    const scope = scopeClaim(member);
    const fault = faultOfScope(scope);
    if (fault !== null) throw claimFault(SCOPE_CLAIM, fault);
    return {
      database: compilePattern("database", scope.database),
      branch: compilePattern("branch", scope.branch),
      access: scope.access,
      isAttachable: true,
    };
  });
}

function scopeClaim(value: unknown): ScopeClaim {
  if (!isObject(value)) throw claimFault(SCOPE_CLAIM, "a scope is no object");
  const { database, branch, access, ...others } = value;
  const [unknownName] = Object.keys(others);
  if (unknownName !== undefined)
    throw claimFault(SCOPE_CLAIM, `a scope has the unknown member ${JSON.stringify(unknownName)}`);
  if (typeof database !== "string" || typeof branch !== "string")
    throw claimFault(SCOPE_CLAIM, 'a scope has "database" and "branch", both strings');
  if (!isAccessLevel(access))
    throw claimFault(SCOPE_CLAIM, `the access of a scope is one of ${ACCESS_LEVELS.join(", ")}`);
  return { database, branch, access };
}

const PERMISSIONS = [
  ["ro", "ro", false],
  ["rw", "rw", false],
  ["roa", "ro", true],
  ["rwa", "rw", true],
] as const;

function scopesOfPermissions(value: unknown): Scope[] {
  if (!isObject(value)) throw claimFault("p", "it is no object");
  const scopes = PERMISSIONS.flatMap(([name, access, isAttachable]) =>
    namesOf(claim(value, name)).map((database) => ({
      database: exactPattern(database),
      branch: EVERY_BRANCH,
      access,
      isAttachable,
    })),
  );
  requireCount(scopes.length, "p");
  return scopes;
}

/** Of {"ns": [...]}, or of nothing. */
function namesOf(value: unknown): string[] {
  if (value === undefined) return [];
  const names = isObject(value) ? claim(value, "ns") : null;
  if (names === undefined) return [];
  if (Array.isArray(names) && names.every((name): name is string => typeof name === "string"))
    return names;
  throw claimFault("p", 'its members have "ns", a list of names');
}

function scopeOfAccess(access: unknown = "rw", id: unknown): Scope {
  if (access !== "ro" && access !== "rw" && access !== "roa")
    throw claimFault("a", "it is one of ro, rw, roa");
  if (id !== undefined && typeof id !== "string") throw claimFault("id", "it is no string");
  return {
    database: id === undefined ? EVERY_DATABASE : exactPattern(id),
    branch: EVERY_BRANCH,
    access: access === "rw" ? "rw" : "ro",
    isAttachable: access === "roa",
  };
}

function requireCount(count: number, name: string): void {
  if (count > SCOPES_MAX)
    throw claimFault(name, `it has ${count} scopes, at most ${SCOPES_MAX} are allowed`);
}

function isAccessLevel(value: unknown): value is AccessLevel {
  return ACCESS_LEVELS.some((level) => level === value);
}

/** Null is as good as not there, as in libSQL. */
function claim(object: Readonly<Record<string, unknown>>, name: string): unknown {
  return Object.hasOwn(object, name) ? (object[name] ?? undefined) : undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function claimFault(name: string, fact: string): Error {
  return authInvalid("claims", `its claim "${name}" is not understood: ${fact}`);
}
