/**
 * Which revisions a connection may open and attach, for one principal. Asked by the store as it opens a file for SQLite, so there is no
 * other way in, however the SQL is written.
 *
 * N1. A refusal is FORBIDDEN, the same whether the revision exists or not.
 * N2. A revision with a tag is of the branches that have the tag's commit, whatever branch stands before it. One that is on none, or is
 *     not there, is shown only to who may read the whole database.
 * N3. Another database than the connection's own is attached only as the scope allows (C5 in access/claims.ts).
 */
import { livingBranches, MAIN_BRANCH } from "../branch/refs.ts";
import { parseRevision, type Revision } from "../branch/revision.ts";
import { StoreError } from "../errors.ts";
import type { Engine } from "../store/engine.ts";
import { hasCommit } from "../store/resolve-revision.ts";
import type { Admit } from "../transaction/connection-context.ts";
import {
  attachAccess,
  branchAccess,
  type BranchAccess,
  permits,
  type Principal,
} from "./access/principal.ts";

/** For a connection on a revision of the database `from`. */
export function admission(engine: Engine, principal: Principal, from: string): Admit {
  return (text, isMain) => {
    const revision = parseRevision(text);
    const { database } = revision;
    const accessTo = (branch: string): BranchAccess =>
      isMain
        ? branchAccess(principal, { database, branch })
        : attachAccess(principal, { database, branch, from });
    const access =
      revision.at?.kind === "tag"
        ? accessToTag(engine, { revision, tag: revision.at.tag, principal, accessTo })
        : accessTo(revision.branch ?? MAIN_BRANCH);
    if (access !== "none") return access;
    throw new StoreError(
      "FORBIDDEN",
      `Cannot ${isMain ? "open" : "attach"} "${text}": the token does not allow it`,
      { details: { action: "read", database, branch: revision.branch } },
    );
  };
}

/** N2. */
function accessToTag(
  engine: Engine,
  {
    revision: { database: name },
    tag,
    principal,
    accessTo,
  }: {
    readonly revision: Revision;
    readonly tag: string;
    readonly principal: Principal;
    readonly accessTo: (branch: string) => BranchAccess;
  },
): BranchAccess {
  if (permits(principal, { action: "read", database: name, branch: null }))
    return accessTo(MAIN_BRANCH);
  const id = engine.state.refs.databaseIds.get(name);
  const database = id === undefined ? undefined : engine.state.databases.get(id);
  const target = database?.refs.tags.get(tag)?.target;
  if (database === undefined || target === undefined) return "none";
  const isAllowed = livingBranches(database.refs).some(
    (branch) =>
      accessTo(branch.name) !== "none" && hasCommit(engine, { database, branch, ...target }),
  );
  return isAllowed ? "read" : "none";
}
