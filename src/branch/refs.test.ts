import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import {
  requireBranch,
  createBranchChange,
  createDatabaseChange,
  createTagChange,
  deleteBranchChange,
  deleteDatabaseChange,
  deleteTagChange,
  renameBranchChange,
  renameDatabaseChange,
  requireDatabase,
  requireTag,
  resetBranchChange,
  setBranchChange,
  undeleteBranchChange,
  undeleteDatabaseChange,
} from "./ref-operations.ts";
import {
  type DatabaseRefs,
  applyRefChange,
  currentTimelineId,
  emptyRefState,
  findBranch,
  findDatabase,
  livingBranches,
  type RefChange,
  type RefState,
} from "./refs.ts";

/** What a user may try; numbers choose among few names, so that operations meet. */
type Operation = readonly [kind: string, database: number, branch: number, other: number];

const KINDS = [
  "create-database",
  "rename-database",
  "delete-database",
  "undelete-database",
  "create-branch",
  "create-branch",
  "rename-branch",
  "delete-branch",
  "undelete-branch",
  "reset-branch",
  "restore-branch",
  "protect",
  "unprotect",
  "expire",
  "create-tag",
  "delete-tag",
  "set-retention",
  "purge-branch",
  "purge-database",
  "purge-timelines",
  "commit",
  "commit",
] as const;

const BRANCHES = ["main", "dev", "test", "feature/a"];
const DATABASES = ["shop", "world"];

const operation: fc.Arbitrary<Operation> = fc.tuple(
  fc.constantFrom(...KINDS),
  fc.nat(1),
  fc.nat(3),
  fc.nat(3),
);

/** The change that an operation asks for; null for a commit, which is no change of names. */
function changeFor(state: RefState, step: Operation, atMs: number): RefChange | null {
  const [kind, first, second, third] = step;
  const name = DATABASES[first]!;
  if (kind === "create-database") return createDatabaseChange(state, { name, atMs });
  if (kind === "undelete-database") return undeleteDatabaseChange(state, { name });
  if (kind === "purge-database") {
    const deleted = [...state.databases.values()].find(({ row }) => row.deletedAtMs !== null);
    return deleted === undefined ? null : { type: kind, databaseId: deleted.row.id };
  }
  const database = requireDatabase(state, name);
  const branch = BRANCHES[second]!;
  const other = BRANCHES[third]!;
  switch (kind) {
    case "rename-database":
      return renameDatabaseChange(state, { name, to: DATABASES[third % 2]! });
    case "delete-database":
      return deleteDatabaseChange(state, { name, atMs });
    case "create-branch": {
      const parent = findBranch(database, other) ?? findBranch(database, "main")!;
      const from = {
        timeline: currentTimelineId(parent),
        version: database.row.nextVersion - 1,
      };
      const request = { name: branch, from, parentBranchId: parent.id, expiresAtMs: null, atMs };
      return createBranchChange(database, request);
    }
    case "rename-branch":
      return renameBranchChange(database, { name: branch, to: other });
    case "delete-branch":
      return deleteBranchChange(database, { name: branch, atMs });
    case "undelete-branch":
      return undeleteBranchChange(database, { name: branch });
    case "reset-branch":
    case "restore-branch": {
      const preserveAs = kind === "restore-branch" ? other : null;
      const version = Math.min(third, database.row.nextVersion - 1);
      const from = { timeline: oldest(database), version };
      return resetBranchChange(database, { name: branch, from, preserveAs, atMs });
    }
    case "protect":
    case "unprotect":
      return setBranchChange(database, { name: branch, isProtected: kind === "protect", atMs });
    case "expire":
      return setBranchChange(database, { name: branch, expiresAtMs: atMs + 1 + third, atMs });
    case "create-tag":
      return createTagChange(database, {
        name: `tag-${second}`,
        target: { timeline: oldest(database), version: 0 },
        atMs,
      });
    case "delete-tag":
      return deleteTagChange(database, { name: `tag-${second}` });
    case "set-retention": {
      const found = third === 0 ? null : requireBranch(database, branch).id;
      const retention = second === 0 ? null : { everyCommitMs: second, dailyMs: null };
      return { type: kind, databaseId: database.row.id, branchId: found, retention };
    }
    case "purge-branch": {
      const deleted = [...database.branches.values()].find((row) => row.deletedAtMs !== null);
      if (deleted === undefined) return null;
      return { type: kind, databaseId: database.row.id, branchId: deleted.id };
    }
    case "purge-timelines": {
      const needed = new Set<number>();
      const starts = [...database.branches.values()].map(currentTimelineId);
      for (const { target } of database.tags.values()) starts.push(target.timeline);
      for (let id of starts) {
        while (!needed.has(id)) {
          needed.add(id);
          id = database.timelines.get(id)!.parent?.timeline ?? id;
        }
      }
      const timelineIds = [...database.timelines.keys()].filter((id) => !needed.has(id));
      return { type: kind, databaseId: database.row.id, timelineIds };
    }
    default:
      database.row.nextVersion++;
      return null;
  }
}

function oldest(database: DatabaseRefs): number {
  return Math.min(...database.timelines.keys());
}

/** R1 to R5, and that the tables of names say what the rows say. */
function checkRules(state: RefState): void {
  const names = [...state.databases.values()]
    .filter(({ row }) => row.deletedAtMs === null)
    .map(({ row }): [string, number] => [row.name, row.id]);
  expect(new Set(names.map(([name]) => name)).size).toBe(names.length); // R2
  expect(new Map(names)).toEqual(state.databaseIds);
  for (const database of state.databases.values()) {
    const { row, branches, timelines } = database;
    expect(row.id).toBeLessThan(state.nextDatabaseId); // R1
    for (const id of branches.keys()) expect(id).toBeLessThan(row.nextBranchId);
    for (const id of timelines.keys()) expect(id).toBeLessThan(row.nextTimelineId);
    const living = livingBranches(database).map((one): [string, number] => [one.name, one.id]);
    expect(new Set(living.map(([name]) => name)).size).toBe(living.length); // R2
    expect(new Map(living)).toEqual(database.branchIds);
    expect(living.map(([name]) => name)).toContain("main");
    const current = [...branches.values()].map(currentTimelineId);
    expect(new Set(current).size).toBe(current.length); // no two branches share a line of commits
    for (const timeline of timelines.values()) {
      if (timeline.parent === null) continue;
      expect(timelines.has(timeline.parent.timeline)).toBe(true);
      expect(timeline.parent.timeline).toBeLessThan(timeline.id);
      expect(timeline.parent.version).toBeLessThan(row.nextVersion); // R3: later commits are greater
    }
    for (const branch of branches.values()) {
      expect(branch.isProtected && branch.expiresAtMs !== null).toBe(false);
      for (const [index, entry] of branch.history.entries()) {
        const before = branch.history[index - 1];
        const isGone = !timelines.has(entry.timeline);
        if (before !== undefined && isGone) expect(timelines.has(before.timeline)).toBe(true); // R5
        if (index === branch.history.length - 1) expect(isGone).toBe(false);
        if (before !== undefined)
          expect(entry.afterVersion).toBeGreaterThanOrEqual(before.afterVersion); // R4
      }
    }
  }
}

describe("changes of names", () => {
  test("random operations keep R1 to R5, and the replayed log makes the same state", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (steps) => {
        const state = emptyRefState();
        const replayed = emptyRefState();
        for (const [index, step] of steps.entries()) {
          const before = structuredClone(state);
          let change: RefChange | null;
          try {
            change = changeFor(state, step, 1000 + index);
          } catch (error) {
            expect(error).toBeInstanceOf(StoreError);
            expect(state).toEqual(before); // a refusal changes nothing
            continue;
          }
          if (change === null) {
            if (step[0] !== "commit") continue;
            requireDatabase(replayed, DATABASES[step[1]]!).row.nextVersion++;
          } else {
            expect(state).toEqual(before); // nor does the check of a request
            applyRefChange(state, change);
            applyRefChange(replayed, JSON.parse(JSON.stringify(change)) as RefChange);
          }
          checkRules(state);
        }
        expect(replayed).toEqual(state);
      }),
      { numRuns: 300 },
    );
  });

  test("a reset keeps what the branch was in its history, and a restore keeps it under another name", () => {
    const state = withDatabase();
    const database = findDatabase(state, "shop")!;
    database.row.nextVersion = 8;
    const from = { timeline: 1, version: 3 };
    applyRefChange(
      state,
      resetBranchChange(database, { name: "main", from, preserveAs: "old", atMs: 20 }),
    );
    expect(findBranch(database, "main")!.history).toEqual([
      { timeline: 1, afterVersion: 0, atMs: 0 },
      { timeline: 2, afterVersion: 7, atMs: 20 },
    ]);
    expect(findBranch(database, "old")!.history).toEqual([
      { timeline: 1, afterVersion: 0, atMs: 0 },
    ]);
    expect(database.timelines.get(2)!.parent).toEqual(from);
  });

  test("a branch with children is not deleted, until they are", () => {
    const state = withDatabase("dev");
    const database = findDatabase(state, "shop")!;
    const dev = findBranch(database, "dev")!;
    applyRefChange(state, branchChange(state, "child", dev.id));
    expect(() => deleteBranchChange(database, { name: "dev", atMs: 3 })).toThrow(
      expect.objectContaining({
        code: "BRANCH_HAS_CHILDREN",
        message: 'Cannot delete branch "shop/dev": it has the child "child"; delete it first',
      }),
    );
    applyRefChange(state, deleteBranchChange(database, { name: "child", atMs: 3 }));
    applyRefChange(state, deleteBranchChange(database, { name: "dev", atMs: 3 }));
    expect(livingBranches(database).map(({ name }) => name)).toEqual(["main"]);
  });

  test("a protected branch is neither deleted nor reset, nor its database deleted", () => {
    const state = withDatabase("dev");
    const database = findDatabase(state, "shop")!;
    applyRefChange(state, setBranchChange(database, { name: "dev", isProtected: true, atMs: 3 }));
    const isRefused = expect.objectContaining({ code: "BRANCH_PROTECTED" });
    const from = { timeline: 1, version: 0 };
    expect(() => deleteBranchChange(database, { name: "dev", atMs: 3 })).toThrow(isRefused);
    expect(() =>
      resetBranchChange(database, { name: "dev", from, preserveAs: null, atMs: 3 }),
    ).toThrow(isRefused);
    expect(() => deleteDatabaseChange(state, { name: "shop", atMs: 3 })).toThrow(isRefused);
    expect(() => setBranchChange(database, { name: "dev", expiresAtMs: 9, atMs: 3 })).toThrow(
      isRefused,
    );
  });

  test("main is never deleted, renamed or left to expire", () => {
    const database = findDatabase(withDatabase(), "shop")!;
    const isRefused = expect.objectContaining({ code: "BRANCH_PROTECTED" });
    expect(() => deleteBranchChange(database, { name: "main", atMs: 3 })).toThrow(isRefused);
    expect(() => renameBranchChange(database, { name: "main", to: "x" })).toThrow(isRefused);
    expect(() => setBranchChange(database, { name: "main", expiresAtMs: 9, atMs: 3 })).toThrow(
      isRefused,
    );
  });

  test("a taken name brings nothing back, a free one brings back the branch deleted last", () => {
    const state = withDatabase("dev");
    const database = findDatabase(state, "shop")!;
    // Both are deleted in the same millisecond.
    applyRefChange(state, deleteBranchChange(database, { name: "dev", atMs: 5 }));
    applyRefChange(state, branchChange(state, "dev", 1));
    const second = findBranch(database, "dev")!.id;
    expect(() => undeleteBranchChange(database, { name: "dev" })).toThrow(
      expect.objectContaining({ code: "BRANCH_EXISTS" }),
    );
    applyRefChange(state, deleteBranchChange(database, { name: "dev", atMs: 5 }));
    expect(undeleteBranchChange(database, { name: "dev" })).toMatchObject({ branchId: second });
    expect(() => undeleteBranchChange(database, { name: "never" })).toThrow(
      'Cannot undelete branch "shop/never": no deleted branch of that name is kept',
    );
  });

  test("what is not found is answered with what is there", () => {
    const state = withDatabase("dev");
    const database = findDatabase(state, "shop")!;
    expect(() => requireDatabase(state, "shopp")).toThrow(
      'Cannot find database "shopp": did you mean "shop"?',
    );
    expect(() => requireDatabase(emptyRefState(), "x")).toThrow(
      'Cannot find database "x": there is no database yet',
    );
    expect(() => deleteBranchChange(database, { name: "quite-other", atMs: 1 })).toThrow(
      'Cannot find branch "shop/quite-other": there are "main", "dev"',
    );
    expect(() => requireTag(database, "v1")).toThrow(
      'Cannot find tag "shop@v1": there is no tag yet',
    );
  });

  test("page sizes are powers of two from 512 to 65536", () => {
    const state = emptyRefState();
    for (let pageSize = 512; pageSize <= 65536; pageSize *= 2)
      expect(createDatabaseChange(state, { name: "a", pageSize, atMs: 1 })).toMatchObject({
        pageSize,
      });
    for (const pageSize of [0, 1, 256, 511, 513, 4095, 131072, 2 ** 32 + 4096, -512, 0.5, NaN])
      expect(() => createDatabaseChange(state, { name: "a", pageSize, atMs: 1 })).toThrow(
        expect.objectContaining({ code: "PAGE_SIZE" }),
      );
  });
});

function withDatabase(...branches: string[]): RefState {
  const state = emptyRefState();
  applyRefChange(state, createDatabaseChange(state, { name: "shop", atMs: 1 }));
  for (const name of branches) applyRefChange(state, branchChange(state, name, 1));
  return state;
}

function branchChange(state: RefState, name: string, parentBranchId: number): RefChange {
  const from = { timeline: 1, version: 0 };
  const request = { name, from, parentBranchId, expiresAtMs: null, atMs: 2 };
  return createBranchChange(findDatabase(state, "shop")!, request);
}
