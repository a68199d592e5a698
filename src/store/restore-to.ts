/**
 * Makes the databases and branches of a copy what they were: all of them at a time, or one branch at a revision.
 *
 * Z1. What was there at the time is there: also what was deleted since, for as long as it is kept, and what is protected.
 * Z2. What was made later is gone. Its names are free before what was there comes back; one that a rename has given to
 *     something else stays with that, and the other comes back under a name with a number.
 */
import { resetBranchChange } from "../branch/ref-operations.ts";
import { type DatabaseRefs, findBranch, findDatabase, livingBranches } from "../branch/refs.ts";
import { parseRevision } from "../branch/revision.ts";
import type { BranchRow, CommitPointer } from "../catalog/rows.ts";
import { StoreError } from "../errors.ts";
import { pointerTo } from "./branch.ts";
import type { Engine } from "./engine.ts";
import { resolveRevision } from "./resolve-revision.ts";
import type { Store } from "./abstract-store.ts";

/** Returns what was moved: revisions of branches, names of databases that came back or went. */
export function moveBranches(store: Store, to: Date | string): string[] {
  // Date.parse reads "shop@600" as a time, too.
  if (typeof to === "string" && !/^\d{4}-\d\d-\d\dT/.test(to)) return [moveOne(store, to)];
  const toMs = new Date(to).getTime();
  const { engine } = store;
  if (toMs > engine.options.now())
    throw new StoreError(
      "VERSION_NOT_FOUND",
      `Cannot restore to ${new Date(toMs).toISOString()}: that is in the future; say a time that has passed`,
    );
  engine.expireBranches(); // Those count as deleted now, and none goes on the way.
  const { refs } = engine.state;
  const moved: string[] = [];
  const databases = [...refs.databases.values()];
  for (const { row } of databases.filter((each) => isLater(each.row, toMs))) {
    moved.push(row.name);
    engine.change({ type: "delete-database", databaseId: row.id, atMs: engine.options.now() });
  }
  for (const { row } of databases.filter((each) => isDeletedSince(each.row, toMs))) {
    const name = freeName(row.name, (each) => findDatabase(refs, each) !== undefined);
    engine.change({ type: "undelete-database", databaseId: row.id, name });
    moved.push(name);
  }
  for (const database of databases)
    if (database.row.deletedAtMs === null) moved.push(...moveDatabase(engine, database, toMs));
  return [...new Set(moved)];
}

function moveDatabase(engine: Engine, database: DatabaseRefs, toMs: number): string[] {
  const moved: string[] = [];
  const databaseId = database.row.id;
  const branches = [...database.branches.values()];
  for (const { id, name } of branches.filter((row) => isLater(row, toMs))) {
    moved.push(`${database.row.name}/${name}`);
    engine.change({
      type: "delete-branch",
      databaseId,
      branchId: id,
      atMs: engine.options.now(),
    });
  }
  for (const { id, name: before } of branches.filter((row) => isDeletedSince(row, toMs))) {
    const name = freeName(before, (each) => findBranch(database, each) !== undefined);
    engine.change({ type: "undelete-branch", databaseId, branchId: id, name });
  }
  for (const branch of livingBranches(database)) {
    const from = pointerAtTime(engine, database, branch, toMs);
    if (from === null) continue;
    resetBranch(engine, database, branch, from);
    moved.push(`${database.row.name}/${branch.name}`);
  }
  return moved;
}

interface Lifetime {
  readonly createdAtMs: number;
  readonly deletedAtMs: number | null;
}

function isLater({ createdAtMs, deletedAtMs }: Lifetime, toMs: number): boolean {
  return deletedAtMs === null && createdAtMs > toMs;
}

function isDeletedSince({ createdAtMs, deletedAtMs }: Lifetime, toMs: number): boolean {
  return deletedAtMs !== null && deletedAtMs > toMs && createdAtMs <= toMs;
}

/** Null: it had no commit then, and has none now. */
function pointerAtTime(
  engine: Engine,
  database: DatabaseRefs,
  { name, history }: BranchRow,
  toMs: number,
): CommitPointer | null {
  const revision = `${database.row.name}/${name}`;
  try {
    const at = `${revision}@${new Date(toMs).toISOString()}`;
    return pointerTo(resolveRevision(engine, at).snapshot!);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "VERSION_NOT_FOUND") throw error;
  }
  const head = engine.state.databases
    .get(database.row.id)!
    .timelines.get(history.at(-1)!.timeline)!;
  const first = history.findLast(({ atMs }) => atMs <= toMs) ?? history[0]!;
  return head.head.version === 0 ? null : { timeline: first.timeline, version: 0 };
}

/** Protection is for users of the branch, and stays. */
function resetBranch(
  engine: Engine,
  database: DatabaseRefs,
  { id, name, isProtected, expiresAtMs }: BranchRow,
  from: CommitPointer,
): void {
  const setting = { type: "set-branch", databaseId: database.row.id, branchId: id } as const;
  if (isProtected) engine.change({ ...setting, isProtected: false, expiresAtMs });
  const atMs = engine.options.now();
  engine.change(resetBranchChange(database, { name, from, preserveAs: null, atMs }));
  if (isProtected) engine.change({ ...setting, isProtected, expiresAtMs });
}

function freeName(wanted: string, isTaken: (name: string) => boolean): string {
  let name = wanted;
  for (let number = 2; isTaken(name); number++) name = `${wanted}-${number}`;
  return name;
}

function moveOne(store: Store, revision: string): string {
  const { database, branch, at } = parseRevision(revision);
  if (at === null)
    throw new StoreError(
      "REVISION_INVALID",
      `Cannot restore to "${revision}": it names no version; write "shop@120" or a time`,
    );
  const { refs } = store.engine.state;
  const target = store.database(database).branch(branch ?? "main");
  const owner = findDatabase(refs, database)!;
  const row = findBranch(owner, target.name)!;
  resetBranch(
    store.engine,
    owner,
    row,
    pointerTo(resolveRevision(store.engine, revision).snapshot!),
  );
  return target.revision;
}
