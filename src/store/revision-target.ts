/** What a connection is opened on: a branch, which moves, or a commit, which does not. */
import { currentTimelineId } from "../branch/refs.ts";
import type { BranchRow } from "../catalog/rows.ts";
import { timelineOf } from "../checkpoint/snapshot-at.ts";
import { StoreError } from "../errors.ts";
import type { RevisionTarget } from "../transaction/revision-target.ts";
import type { Snapshot } from "../transaction/snapshot.ts";
import type { OpenDatabase, Timeline } from "../transaction/timeline.ts";
import type { Engine } from "./engine.ts";
import { requireBranchId, requireDatabaseId, resolveRevision } from "./resolve-revision.ts";

export function openTarget(
  engine: Engine,
  revision: string,
  options: { readonly readOnly: boolean },
): RevisionTarget {
  const { database, branch, snapshot } = resolveRevision(engine, revision);
  if (snapshot === null) {
    const reason = options.readOnly ? "the connection is read-only" : engine.readOnlyReason;
    return new BranchTarget(engine, database.refs.row.id, branch.id, reason);
  }
  return {
    database: database.refs.row.name,
    branch: branch.name,
    pageSize: database.refs.row.pageSize,
    isFixed: true,
    readOnlyReason: `"${revision}" is a fixed version; create a branch from it to change it`,
    head: () => {
      engine.assertOpen();
      return snapshot;
    },
    timeline: () => null,
  };
}

class BranchTarget implements RevisionTarget {
  readonly #engine: Engine;
  readonly #databaseId: number;
  readonly #branchId: number;
  readonly isFixed = false;
  readonly readOnlyReason: string | null;

  constructor(engine: Engine, databaseId: number, branchId: number, readOnlyReason: string | null) {
    this.#engine = engine;
    this.#databaseId = databaseId;
    this.#branchId = branchId;
    this.readOnlyReason = readOnlyReason;
  }

  get #database(): OpenDatabase {
    return requireDatabaseId(this.#engine, this.#databaseId);
  }

  get #row(): BranchRow {
    return requireBranchId(this.#database, this.#branchId);
  }

  get database(): string {
    return this.#database.refs.row.name;
  }

  get branch(): string {
    return this.#row.name;
  }

  get pageSize(): number {
    return this.#database.refs.row.pageSize;
  }

  head(): Snapshot {
    return this.timeline().head;
  }

  timeline(): Timeline {
    this.#engine.assertOpen();
    if (this.#row.deletedAtMs !== null || this.#database.refs.row.deletedAtMs !== null)
      throw new StoreError(
        "BRANCH_NOT_FOUND",
        `Cannot use branch "${this.database}/${this.branch}": it was deleted`,
      );
    return timelineOf(this.#database, currentTimelineId(this.#row));
  }
}
