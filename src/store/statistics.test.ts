import { createHash } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { headOf, resolveRevision } from "./resolve-revision.ts";
import { openStore, type Store } from "./store.ts";

let store: Store;

beforeEach(() => {
  store = openStore("statistics", { storage: new SimulatedStorage(), backend: "memory" });
});

afterEach(() => store.close());

function run(revision: string, sql: string): void {
  const connection = store.connect(revision);
  connection.exec(sql);
  connection.close();
}

/** The content hashes of a head's pages. */
function pageHashes(revision: string): string[] {
  const { database, branch } = resolveRevision(store.engine, revision);
  const head = headOf(database, branch);
  return Array.from({ length: head.pageCount }, (_, index) =>
    createHash("sha256")
      .update(head.page(index + 1))
      .digest("hex"),
  );
}

test("sizes agree with counting every page of every head", () => {
  const random = new Random(42);
  const revisions: string[] = [];
  for (const [name, pageSize] of [
    ["shop", 1024],
    ["books", 1024],
    ["maps", 512],
  ] as const) {
    store.createDatabase(name, { pageSize });
    run(name, "CREATE TABLE item(id INTEGER PRIMARY KEY, text TEXT)");
    run(
      name,
      `WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<400)
       INSERT INTO item SELECT i, 'item number ' || i || ' of many' FROM n`,
    );
    revisions.push(name);
  }
  for (let step = 0; step < 40; step++) {
    const from = random.pick(revisions);
    if (random.integer(0, 2) === 0) {
      const name = `branch-${step}`;
      const database = from.split("/")[0]!;
      store.database(database).createBranch(name, { from });
      revisions.push(`${database}/${name}`);
    } else {
      const id = random.integer(1, 400);
      run(from, `UPDATE item SET text = text || ${step} WHERE id BETWEEN ${id} AND ${id + 5}`);
    }
    if (step === 20) store.checkpoint();
  }

  const statistics = store.stat();

  const owners = new Map<string, Set<string>>();
  let logicalBytes = 0;
  const sizes = new Map<string, number>();
  for (const revision of revisions) {
    const { pageSize } = store.database(revision.split("/")[0]!);
    for (const hash of pageHashes(revision)) {
      logicalBytes += pageSize;
      sizes.set(hash, pageSize);
      owners.set(hash, (owners.get(hash) ?? new Set()).add(revision));
    }
  }
  const uniqueBytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  expect(statistics).toMatchObject({ logicalBytes, uniqueBytes });
  expect(statistics.dedupSavedBytes).toBe(logicalBytes - uniqueBytes);
  expect(statistics.storedBytes).toBeLessThan(uniqueBytes);
  expect(statistics.storedBytes).toBeLessThanOrEqual(statistics.disk.chunkBytes);
  let seen = 0;
  for (const { name, pageSize, branches } of statistics.databases) {
    for (const branch of branches) {
      const revision = branch.name === "main" ? name : `${name}/${branch.name}`;
      const own = [...owners.values()].filter((set) => set.size === 1 && set.has(revision)).length;
      expect({ revision, ownBytes: branch.ownBytes }).toEqual({
        revision,
        ownBytes: own * pageSize,
      });
      expect(branch.bytes).toBe(pageHashes(revision).length * pageSize);
      expect(branch.ownStoredBytes > 0).toBe(own > 0);
      seen++;
    }
  }
  expect(seen).toBe(revisions.length);
});

test("of one database: its own sums, but own bytes against the whole store", () => {
  for (const name of ["one", "two"]) {
    store.createDatabase(name);
    run(name, "CREATE TABLE item(id INTEGER PRIMARY KEY, text TEXT)");
  }
  const both = store.stat();
  const one = store.stat("one");
  expect(one.databases.map(({ name }) => name)).toEqual(["one"]);
  expect(one.logicalBytes).toBe(8192);
  expect(one.uniqueBytes).toBe(8192);
  expect(both.logicalBytes).toBe(16_384);
  expect(both.uniqueBytes).toBe(8192);
  expect(one.databases[0]!.branches[0]!.ownBytes).toBe(0);
  store.database("two").delete();
  expect(store.stat("one").databases[0]!.branches[0]!.ownBytes).toBe(8192);
});

test("a fork costs nothing until it changes, then its own pages only", () => {
  store.createDatabase("shop");
  run("shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, text TEXT)");
  run(
    "shop",
    `WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<5000)
     INSERT INTO item SELECT i, hex(randomblob(20)) FROM n`,
  );
  store.database("shop").createBranch("dev");
  const [database] = store.stat().databases;
  expect(database!.branches.map(({ ownBytes }) => ownBytes)).toEqual([0, 0]);
  run("shop/dev", "UPDATE item SET text = 'changed' WHERE id = 1");
  const after = store.stat().databases[0]!.branches[1]!;
  expect(after.name).toBe("dev");
  expect(after.ownBytes).toBeGreaterThan(0);
  expect(after.ownBytes).toBeLessThanOrEqual(3 * 4096);
});

test("an empty store and an unknown database", () => {
  expect(store.stat()).toMatchObject({ logicalBytes: 0, uniqueBytes: 0, databases: [] });
  expect(() => store.stat("none")).toThrow(/none/);
});
