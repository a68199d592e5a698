import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import {
  contentOf,
  fillDatabase,
  openPartitioned,
  type PartitionFixture,
} from "../testing/partition-fixture.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { checkStore } from "./check-store.ts";
import { convertStore } from "./convert-store.ts";
import { repairStore } from "./repair-store.ts";
import { SingleStore } from "./single-store.ts";
import { openStore, type Store } from "./store.ts";

let fixture: PartitionFixture;
let store: Store;

beforeEach(() => {
  fixture = { storage: new SimulatedStorage(), key: null, clock: { now: 1_700_000_000_000 } };
  store = openPartitioned(fixture, { partitions: 3 });
});

afterEach(() => {
  store.close();
});

function reopen(): void {
  store.close();
  store = openPartitioned(fixture);
}

function errorOf(action: () => unknown): StoreError {
  try {
    action();
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("databases", () => {
  test("go to the partition with the fewest, or to the one that is asked for", () => {
    for (const name of ["a", "b", "c", "d"]) store.createDatabase(name);
    expect(store.databases().map(({ name, partition }) => [name, partition])).toEqual([
      ["a", 0],
      ["b", 1],
      ["c", 2],
      ["d", 0],
    ]);
    store.database("b").delete();
    expect(store.createDatabase("e").partition).toBe(1);
    expect(store.createDatabase("f", { partition: 0 }).partition).toBe(0);
    expect(() => store.createDatabase("g", { partition: 3 })).toThrow(
      "Partition 3 is not from 0 to 2",
    );
    reopen();
    expect(store.databases().map(({ name }) => name)).toEqual(["a", "c", "d", "e", "f"]);
  });

  test("have names that are unique over all partitions", () => {
    store.createDatabase("a");
    const second = store.createDatabase("b");
    for (const partition of [0, 1, 2])
      expect(errorOf(() => store.createDatabase("a", { partition })).code).toBe("DATABASE_EXISTS");
    expect(errorOf(() => second.rename("a"))).toMatchObject({ code: "DATABASE_EXISTS" });
    second.rename("c");
    expect(store.createDatabase("b").name).toBe("b");
    second.delete();
    expect(store.createDatabase("c", { partition: 2 }).partition).toBe(2);
    expect(errorOf(() => store.undeleteDatabase("c")).code).toBe("DATABASE_EXISTS");
    store.database("c").delete();
    fixture.clock.now += 1000;
    // The newer one.
    expect(store.undeleteDatabase("c").partition).toBe(1);
    expect(errorOf(() => store.database("shop"))).toMatchObject({ code: "DATABASE_NOT_FOUND" });
    expect(errorOf(() => store.connect("shop")).message).toContain('"a"');
  });

  test("of another partition are not attached, and the error says what to do", () => {
    store.createDatabase("a");
    store.createDatabase("b");
    using connection = store.connect("a");
    expect(errorOf(() => connection.exec("ATTACH 'b' AS b"))).toMatchObject({
      code: "OTHER_PARTITION",
      details: { database: "b", partition: 1 },
    });
    expect(errorOf(() => connection.exec("ATTACH 'c' AS c")).code).toBe("DATABASE_NOT_FOUND");
  });

  test("of another partition are attached once they were handed over", async () => {
    store.createDatabase("a");
    store.createDatabase("b");
    {
      using other = store.connect("b");
      other.exec("CREATE TABLE t (x)");
    }
    using connection = store.connect("a");
    await store.handOver("b", { partition: 0 });
    connection.exec("ATTACH 'b' AS b; INSERT INTO b.t VALUES (1); CREATE TABLE main.t (x)");
    expect(store.database("b").version).toBe(2);
  });
});

test("awaited connections and transactions find their partition, outcomes are asked of all", async () => {
  store.createDatabase("a");
  store.createDatabase("b");
  const id = "0123456789abcdef0123456789abcdef";
  await store.transact("b", (transaction) => transaction.exec("CREATE TABLE t (x)"), { id });
  expect(store.outcome(id)).toMatchObject({ committed: true, database: "b", version: 1 });
  await expect(
    store.transact("a", (transaction) => transaction.exec("CREATE TABLE t (x)"), { id }),
  ).rejects.toMatchObject({ code: "ALREADY_COMMITTED" });
  await expect(store.transact("a", () => store.transact("b", () => {}))).rejects.toThrow(
    "within the function of another one",
  );
  const connection = await store.open("b");
  const names = await connection.prepare("SELECT name FROM sqlite_schema");
  expect(await names.all()).toEqual([{ name: "t" }]);
  await connection.close();
  expect(store.outcome("f".repeat(32))).toMatchObject({ committed: false });
});

test("what is said of the store is the sum over its partitions", async () => {
  const { clock } = fixture;
  for (const partition of [0, 1, 2])
    await fillDatabase(store, `d${partition}`, { random: new Random(partition), clock, partition });
  const whole = store.stat();
  const each = ["d0", "d1", "d2"].map((name) => store.stat(name));
  expect(whole.databases.map(({ name }) => name)).toEqual(["d0", "d1", "d2"]);
  expect(whole.logicalBytes).toBe(each.reduce((sum, { logicalBytes }) => sum + logicalBytes, 0));
  expect(each[0]!.disk).toEqual(whole.disk);
  expect(store.info()).toMatchObject({ partitions: 3, backend: "memory" });
  const held = store.heldSpace();
  expect(held.holders.map(({ revision }) => revision)).toEqual(
    expect.arrayContaining(["d0", "d1/dev", "d2@first"]),
  );
  const report = await store.check({ deep: true });
  expect(report).toMatchObject({ ok: true });
  expect(report.counts.heads).toBe(9);
  const positions: string[] = [];
  const scrub = await store.scrub({
    bytesPerSecond: Infinity,
    onProgress: ({ position }) => positions.push(position),
  });
  expect(scrub).toMatchObject({ ok: true, stoppedAt: null });
  expect(new Set(positions.map((position) => position.slice(0, 2)))).toEqual(
    new Set(["0:", "1:", "2:"]),
  );
  const rest = await store.scrub({ bytesPerSecond: Infinity, startAfter: positions.at(-1)! });
  expect(rest.bytes).toBeLessThan(scrub.bytes);
  clock.now += 365 * 86_400_000;
  expect(store.expire().expiredVersions).toBeGreaterThan(3);
  expect(store.gc().chunks.count).toBeGreaterThan(3);
  expect(await store.gcAsync()).toMatchObject({ chunks: { count: 0 } });
});

test("a store of partitions is closed as a whole, or not at all", () => {
  store.createDatabase("a");
  store.createDatabase("b");
  using connection = store.connect("b");
  connection.exec("CREATE TABLE t (x); INSERT INTO t VALUES (1)");
  const rows = connection.prepare("SELECT x FROM t").iterate();
  rows.next();
  expect(errorOf(() => store.close()).code).toBe("BRANCH_BUSY");
  expect(store.isOpen).toBe(true);
  using other = store.connect("a");
  expect(other.prepare("SELECT 1").pluck().get()).toBe(1);
  rows.return?.();
  store.close();
  expect(store.isOpen).toBe(false);
  expect(errorOf(() => store.databases()).code).toBe("STORE_CLOSED");
  store = openPartitioned(fixture);
});

test("settings of the store reach every partition", () => {
  store.setCompression("none");
  expect(store.engines.map(({ header }) => header.compression)).toEqual(["none", "none", "none"]);
  reopen();
  expect(store.info().compression).toBe("none");
  expect(errorOf(() => store.rotateKey("07".repeat(32))).code).toBe("KEY_REQUIRED");
});

test("a check of the closed store reads every partition, and says which one is damaged", async () => {
  const { storage, clock } = fixture;
  await fillDatabase(store, "a", { random: new Random(1), clock, partition: 0 });
  await fillDatabase(store, "b", { random: new Random(2), clock, partition: 2 });
  store.close();
  const options = { storage, environment: {}, deep: true };
  const whole = await checkStore("sim", options);
  expect(whole).toMatchObject({ ok: true, problems: [] });
  expect(whole.counts.heads).toBe(6);
  const pack = storage.listSync("partitions/0002/chunks")[0]!;
  storage.flipBit(`partitions/0002/chunks/${pack}`, 8 * 300);
  const damaged = await checkStore("sim", options);
  expect(damaged.ok).toBe(false);
  expect(damaged.problems[0]).toMatchObject({ code: "CORRUPT_CHUNK" });
  expect(damaged.problems[0]!.message).toMatch(/^Partition 2: /);
  expect(damaged.problems[0]!.revisions.join(" ")).toContain("b");
  await expect(repairStore("sim", { storage, environment: {} })).rejects.toMatchObject({
    code: "PARTITIONED",
  });
  storage.flipBit(`partitions/0002/chunks/${pack}`, 8 * 300);
  storage.deleteSync("partitions/0002/partition.json");
  const lost = await checkStore("sim", { storage, environment: {} });
  expect(lost.problems.map(({ code }) => code)).toEqual(["CORRUPT_HEADER"]);
  store = openPartitioned({ ...fixture, storage: new SimulatedStorage() });
});

test("a number of partitions that makes no sense is refused", () => {
  const storage = new SimulatedStorage();
  for (const partitions of [0, 257, 1.5])
    expect(() => openStore("sim", { storage, backend: "memory", partitions })).toThrow(
      `Option "partitions": ${partitions} is not a whole number from 1 to 256`,
    );
  expect(storage.listSync("")).toEqual([]);
  expect(errorOf(() => openStore("file:///nowhere", { partitions: 2 })).code).toBe("PARTITIONED");
  expect(openPartitioned({ ...fixture, storage }, { partitions: 1 })).toBeInstanceOf(SingleStore);
});

test("a store with one partition has the class that it always had", () => {
  using single = openStore("sim", { storage: new SimulatedStorage(), backend: "memory" });
  expect(single).toBeInstanceOf(SingleStore);
  expect(single.createDatabase("a", { partition: 0 }).partition).toBe(0);
  expect(() => single.createDatabase("b", { partition: 1 })).toThrow(RangeError);
  expect(single.info().partitions).toBe(1);
  expect(() => store.engine).toThrow("several engines");
});

test("on a real disk: every backend, conversion of all catalogs, export and import", async () => {
  const directory = mkdtempSync(join(tmpdir(), "bough-partitions-"));
  const path = join(directory, "store");
  const clock = { now: Date.now() };
  try {
    let content: object;
    let other: object;
    {
      using opened = openStore(path, { environment: {}, partitions: 2 });
      await fillDatabase(opened, "a", { random: new Random(1), clock, partition: 0 });
      await fillDatabase(opened, "b", { random: new Random(2), clock, partition: 1 });
      await opened.handOver("a", { partition: 1 });
      content = contentOf(opened, "a");
      other = contentOf(opened, "b");
      await expect(opened.exportFile("b", join(path, "b.db"))).rejects.toMatchObject({
        code: "FILE_EXISTS",
      });
      await opened.exportFile("b", join(directory, "b.db"));
      await opened.importFile(join(directory, "b.db"), "c");
      expect(opened.database("c").partition).toBe(0);
    }
    for (const backend of ["leveldb", "lmdb"] as const) {
      const { entryCount } = convertStore(path, { backend });
      expect(entryCount).toBeGreaterThan(20);
      using opened = openStore(path, { environment: {} });
      expect(opened.info()).toMatchObject({ backend, partitions: 2 });
      expect(contentOf(opened, "a")).toEqual(content);
      expect(contentOf(opened, "b")).toEqual(other);
      await opened.handOver("a", { partition: 0 });
      expect(contentOf(opened, "a")).toEqual(content);
      await opened.handOver("a", { partition: 1 });
      expect(await opened.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});
