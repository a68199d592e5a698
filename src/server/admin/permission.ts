/**
 * Who may do what with the admin API.
 *
 * W1. Permission is asked for by name, and before anything of that name is looked up: the answer to who may not is the same
 *     whether it exists or not. An id is looked up first, and the answer shows it as it came.
 * W2. What a request names beside its path (a source, a new name, a revision) needs permission like what is in the path.
 * W3. A tag names a commit of the database, whatever branch that is on: a revision with one needs the whole database.
 */
import { MAIN_BRANCH } from "../../branch/refs.ts";
import { parseRevision } from "../../branch/revision.ts";
import { StoreError } from "../../errors.ts";
import { forbidden, type PermissionRequest, permits, type Principal } from "../access/principal.ts";
import type { Permission, Place } from "./admin-route.ts";
import type { AdminStore } from "./admin-store.ts";

const ID = /^id:(.+)$/;
const SERVER = { database: null, branch: null } as const;
const NOT_THERE: ReadonlySet<string> = new Set(["DATABASE_NOT_FOUND", "BRANCH_NOT_FOUND"]);

/** Throws FORBIDDEN. `shown` is what the client has called it. */
export function requirePermission(
  principal: Principal,
  request: PermissionRequest,
  shown: Partial<Place> = {},
): void {
  if (permits(principal, request)) return;
  const { action } = request;
  const database = request.database === null ? null : (shown.database ?? request.database);
  const branch = request.branch === null ? null : (shown.branch ?? request.branch);
  throw forbidden({ action, database, branch });
}

/** What the path names, once the principal may have it. Throws FORBIDDEN. */
export async function admit(
  store: AdminStore,
  principal: Principal,
  { permission, path }: { readonly permission: Permission; readonly path: Partial<Place> },
): Promise<Place> {
  const database = await byName(path.database, (id) => store.databaseOfId(id));
  const branch = await byName(path.branch, (id) => store.branchOfId(database, id));
  switch (permission.on) {
    case "anybody":
    case "job":
    case "named": // It is in the body, which is not read yet.
      break;
    case "server":
      requirePermission(principal, { action: permission.action, ...SERVER });
      break;
    case "database":
      requirePermission(principal, { action: permission.action, database, branch: null }, path);
      break;
    case "branch":
      requirePermission(principal, { action: permission.action, database, branch }, path);
      break;
    case "visible database":
      if (!(await seesDatabase(store, principal, database)))
        requirePermission(principal, { action: "read", database, branch: null }, path);
      break;
  }
  return { database, branch };
}

/** What the body names. Throws FORBIDDEN. */
export function admitNamed(
  principal: Principal,
  permission: Permission,
  { place, body }: { readonly place: Place; readonly body: unknown },
): void {
  if (permission.on !== "named") return;
  // The body was parsed with the schema of the route that has this permission.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  const target = permission.target(place, body as never);
  requirePermission(principal, { action: permission.action, ...target });
}

/** Whether a list shows it: who may read one of its branches knows of it. */
export async function seesDatabase(
  store: AdminStore,
  principal: Principal,
  database: string,
): Promise<boolean> {
  if (permits(principal, { action: "read", database, branch: null })) return true;
  let branches: string[];
  try {
    branches = await store.branchNames(database);
  } catch (error) {
    if (error instanceof StoreError && error.code === "DATABASE_NOT_FOUND") return false;
    throw error;
  }
  return branches.some((branch) => seesBranch(principal, { database, branch }));
}

export function seesBranch(principal: Principal, place: Place): boolean {
  return permits(principal, { action: "read", ...place });
}

/** The whole text of a revision that the principal may read. `place` is what one that begins with "@" is of. */
export function readableRevision(principal: Principal, text: string, place: Place): string {
  const whole = text.startsWith("@") ? `${place.database}/${place.branch}${text}` : text;
  const { database, branch, at } = parseRevision(whole);
  if (database !== place.database)
    throw new StoreError(
      "REVISION_INVALID",
      `Cannot use revision "${text}" in database "${place.database}": it names another database`,
    );
  const needed = at?.kind === "tag" ? null : (branch ?? MAIN_BRANCH);
  requirePermission(principal, { action: "read", database, branch: needed });
  return whole;
}

/** W1. An id that leads to nothing stays as it is: it is no name of anything. */
async function byName(
  text: string | undefined,
  lookUp: (id: string) => Promise<string>,
): Promise<string> {
  const id = ID.exec(text ?? "")?.[1];
  if (id === undefined) return text ?? "";
  try {
    return await lookUp(id);
  } catch (error) {
    if (error instanceof StoreError && NOT_THERE.has(error.code)) return text ?? "";
    throw error;
  }
}
