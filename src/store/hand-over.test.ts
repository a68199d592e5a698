import { beforeAll, describe, expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import {
  contentOf,
  fillDatabase,
  openPartitioned,
  type PartitionFixture,
} from "../testing/partition-fixture.ts";
import { Random } from "../testing/random.ts";
import type { OperationKind } from "../testing/simulated-faults.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { checkStore } from "./check-store.ts";
import { writeIntent } from "./hand-over-intent.ts";
import { HandOverSource } from "./hand-over-source.ts";
import { HandOverTarget } from "./hand-over-target.ts";
import type { Store } from "./store.ts";

const IS_LONG = process.env["BOUGH_TEST_LONG"] === "1";
const KEY = "07".repeat(32);
const START_MS = 1_700_000_000_000;
const CHANGING: OperationKind[] = [
  "create",
  "write",
  "sync",
  "truncate",
  "makeDirectory",
  "rename",
  "delete",
  "syncDirectory",
];

interface Prepared extends PartitionFixture {
  readonly content: object;
  readonly other: object;
  readonly ids: readonly string[];
}

/** "shop" and "other" in partition 0, "third" in partition 1 with a copy of pages of "shop". */
async function prepare(key: string | null, storage = new SimulatedStorage()): Promise<Prepared> {
  const clock = { now: START_MS };
  const fixture = { storage, key, clock };
  const store = openPartitioned(fixture, { partitions: 3 });
  const ids = await fillDatabase(store, "shop", { random: new Random(1), clock, partition: 0 });
  await fillDatabase(store, "other", { random: new Random(2), clock, partition: 0 });
  await fillDatabase(store, "third", { random: new Random(1), clock, partition: 1 });
  const content = contentOf(store, "shop", ids);
  const other = contentOf(store, "other");
  await store.closeAsync();
  return { ...fixture, content, other, ids };
}

function partitionsWith(store: Store, name: string): number[] {
  return store.engines.flatMap(({ state }, index) =>
    state.refs.databaseIds.has(name) ? [index] : [],
  );
}

function codeOf(action: () => unknown): string | null {
  try {
    action();
    return null;
  } catch (error) {
    if (error instanceof StoreError) return `${error.code} ${error.retryable}`;
    throw error;
  }
}

/** All of them; or some, and those at the end, where the database changes its place. */
function crashPoints(changes: number): number[] {
  const all = Array.from({ length: changes }, (_, index) => index + 1);
  const stride = Math.ceil(changes / 6);
  return IS_LONG ? all : all.filter((at) => at % stride === 1 || at > changes - 12);
}

async function expectWhole(store: Store, label: string): Promise<void> {
  const { ok, problems } = await store.check({ deep: true });
  expect({ ok, problems }, label).toEqual({ ok: true, problems: [] });
}

describe.each([
  ["plain", null],
  ["encrypted", KEY],
])("a database of a store that is %s", (_, key) => {
  let prepared: Prepared;
  beforeAll(async () => {
    prepared = await prepare(key);
  });

  /** Of the same moment, each time. */
  function copy(): Prepared {
    return { ...prepared, storage: prepared.storage.copyAfterCrash(new Random(1)) };
  }

  test("reads the same after it was handed over, in every revision", async () => {
    const fixture = copy();
    const store = openPartitioned(fixture);
    expect(Object.keys(prepared.content).length).toBeGreaterThan(40);
    expect(contentOf(store, "shop", prepared.ids)).toEqual(prepared.content);
    for (const to of [1, 2, 0, 2, 1]) {
      await store.handOver("shop", { partition: to });
      expect(partitionsWith(store, "shop")).toEqual([to]);
      expect(contentOf(store, "shop", prepared.ids)).toEqual(prepared.content);
      await expectWhole(store, `in ${to}`);
    }
    expect(contentOf(store, "other")).toEqual(prepared.other);
    store.close();
    const again = openPartitioned(fixture);
    expect(partitionsWith(again, "shop")).toEqual([1]);
    expect(contentOf(again, "shop", prepared.ids)).toEqual(prepared.content);
    expect(contentOf(again, "other")).toEqual(prepared.other);
    again.close();
  });

  test("goes on with its versions, and brings back what was deleted", async () => {
    const fixture = copy();
    const store = openPartitioned(fixture);
    const { version } = store.database("shop");
    await store.handOver("shop", { partition: 1 });
    using connection = store.connect("shop");
    connection.exec("INSERT INTO t VALUES (1000, 'later')");
    expect(store.database("shop").version).toBe(version + 1);
    store.database("shop").undeleteBranch("gone");
    using gone = store.connect("shop/gone");
    expect(gone.prepare("SELECT count(*) FROM t").pluck().get()).toBeGreaterThan(0);
    store.checkpoint();
    await expectWhole(store, "written to");
    store.close();
  });

  test("leaves garbage behind, and nothing of it is collected where it is", async () => {
    const fixture = copy();
    const store = openPartitioned(fixture);
    await store.handOver("shop", { partition: 1 });
    fixture.clock.now += 1000;
    const before = store.diskUse();
    const { chunks, nodes } = store.gc();
    expect(chunks.count).toBeGreaterThan(5);
    expect(nodes.count).toBeGreaterThan(5);
    expect(store.diskUse().historyBytes).toBeLessThan(before.historyBytes);
    expect(contentOf(store, "shop", prepared.ids)).toEqual(prepared.content);
    expect(contentOf(store, "other")).toEqual(prepared.other);
    await expectWhole(store, "collected");
    expect(store.gc()).toMatchObject({ chunks: { count: 0 }, nodes: { count: 0 } });
    store.close();
  });

  test(
    "is in one partition after a crash at any change of the disk, and whole",
    // All changes take about two minutes of one core.
    { timeout: 600_000 },
    async () => {
      const whole = copy();
      const store = openPartitioned(whole);
      whole.storage.clearTrace();
      await store.handOver("shop", { partition: 1 });
      const changes = whole.storage.countOf(...CHANGING);
      await store.closeAsync();
      expect(changes).toBeGreaterThan(30);
      const seen = new Set<number>();
      for (const at of crashPoints(changes)) {
        for (let outcome = 0; outcome < (IS_LONG ? 2 : 1); outcome++) {
          const random = new Random(at * 1009 + outcome);
          const fixture = { ...prepared, storage: prepared.storage.copyAfterCrash(new Random(1)) };
          const crashing = openPartitioned(fixture);
          fixture.storage.crashAt({ kinds: CHANGING, count: at });
          await expect(crashing.handOver("shop", { partition: 1 })).rejects.toThrow();
          const label = `crash at ${at} of ${changes}, outcome ${outcome}`;
          const after = { ...fixture, storage: fixture.storage.copyAfterCrash(random) };
          const keys = key === null ? {} : { key };
          const checked = await checkStore("sim", {
            storage: after.storage,
            ...keys,
            environment: {},
          });
          expect(checked.problems, label).toEqual([]);
          const again = openPartitioned(after);
          const partitions = partitionsWith(again, "shop");
          expect(partitions, label).toHaveLength(1);
          seen.add(partitions[0]!);
          expect(contentOf(again, "shop", prepared.ids), label).toEqual(prepared.content);
          expect(contentOf(again, "other"), label).toEqual(prepared.other);
          await expectWhole(again, label);
          const to = 1 - partitions[0]!;
          await again.handOver("shop", { partition: to });
          expect(contentOf(again, "shop", prepared.ids), label).toEqual(prepared.content);
          expect(partitionsWith(again, "shop"), label).toEqual([to]);
          await again.closeAsync();
        }
      }
      expect([...seen].sort((left, right) => left - right)).toEqual([0, 1]);
    },
  );
});

test("rows of a database that did not come are under a number that no other gets, and check names them", async () => {
  const fixture = await prepare(null);
  const store = openPartitioned(fixture);
  const source = await HandOverSource.begin(store.engines[0]!, "shop", 1);
  const target = HandOverTarget.begin(store.engines[1]!);
  for (let piece = source.next(); piece !== null; piece = source.next()) target.put(piece);
  await expectWhole(store, "under way");
  // Without an intent, by which opening would settle it.
  const after = { ...fixture, storage: fixture.storage.copyAfterCrash(new Random(1)) };
  const again = openPartitioned(after);
  const next = again.createDatabase("next", { partition: 1 });
  expect(next.id).toBeGreaterThan(target.databaseId);
  const { problems } = await again.check();
  expect(problems).toMatchObject([
    {
      code: "CORRUPT_CATALOG",
      message: `Partition 1: The catalog has rows of database ${target.databaseId}, which does not exist`,
    },
  ]);
  again.close();
  const closed = await checkStore("sim", { storage: after.storage, environment: {} });
  expect(closed.problems).toEqual(problems);
});

test("a closed store whose hand-over cannot be settled, as what says so is damaged, is not said to be whole", async () => {
  const { storage } = await prepare(null);
  writeIntent(storage, { database: "shop", from: 0, to: 1, sourceId: 1, targetId: 7 });
  const bytes = readFileSync(storage, "hand-over.json");
  bytes[20]! ^= 1;
  writeFileAtomicSync(storage, "hand-over.json", bytes);
  const { ok, problems } = await checkStore("sim", { storage, environment: {} });
  expect({ ok, problems }).toMatchObject({ ok: false, problems: [{ code: "CORRUPT_HEADER" }] });
});

test("a database that has gone is no damage before the checkpoint that takes its rows", async () => {
  const store = openPartitioned(await prepare(null));
  await store.handOver("shop", { partition: 2 });
  await expectWhole(store, "before");
  store.checkpoint();
  await expectWhole(store, "after");
  store.close();
});

describe("while a database is handed over", () => {
  test("it takes no writes, and goes on being read; afterwards connections say where it is", async () => {
    const fixture = await prepare(null);
    const store = openPartitioned(fixture);
    using connection = store.connect("shop");
    using reader = store.connect("shop", { readonly: true });
    using fixed = store.connect("shop@first");
    const count = connection.prepare("SELECT count(*) FROM t").pluck().get();
    const early = fixed.prepare("SELECT count(*) FROM t").pluck().get();
    reader.exec("BEGIN");
    expect(reader.prepare("SELECT count(*) FROM t").pluck().get()).toBe(count);
    connection.exec("BEGIN CONCURRENT; INSERT INTO t VALUES (2000, 'not committed')");
    const database = store.database("shop");
    const moving = store.handOver("shop", { partition: 1 });
    await Promise.resolve();
    await Promise.resolve();
    expect(codeOf(() => connection.exec("COMMIT"))).toBe("BRANCH_BUSY true");
    expect(connection.inTransaction).toBe(false);
    expect(codeOf(() => connection.exec("DELETE FROM t"))).toBe("BRANCH_BUSY true");
    expect(codeOf(() => database.createBranch("new"))).toBe("BRANCH_BUSY true");
    expect(codeOf(() => database.rename("store"))).toBe("BRANCH_BUSY true");
    expect(codeOf(() => database.setRetention(null))).toBe("BRANCH_BUSY true");
    store.expire();
    using other = store.connect("other");
    other.exec("INSERT INTO t VALUES (2000, 'meanwhile')");
    await moving;
    expect(codeOf(() => connection.prepare("SELECT count(*) FROM t").get())).toBe(
      "OTHER_PARTITION false",
    );
    expect(codeOf(() => database.name)).toBe("OTHER_PARTITION false");
    expect(reader.prepare("SELECT count(*) FROM t").pluck().get()).toBe(count);
    expect(fixed.prepare("SELECT count(*) FROM t").pluck().get()).toBe(early);
    store.gc();
    expect(reader.prepare("SELECT count(*) FROM t").pluck().get()).toBe(count);
    expect(fixed.prepare("SELECT count(*) FROM t").pluck().get()).toBe(early);
    reader.exec("COMMIT");
    expect(codeOf(() => reader.prepare("SELECT 1 FROM t").get())).toBe("OTHER_PARTITION false");
    using again = store.connect("shop");
    expect(again.prepare("SELECT count(*) FROM t").pluck().get()).toBe(count);
  });

  test("a transaction that writes keeps it where it is", async () => {
    const store = openPartitioned(await prepare(null));
    using connection = store.connect("shop");
    connection.exec("BEGIN IMMEDIATE");
    const moving = store.handOver("shop", { partition: 1 });
    await expect(moving).rejects.toMatchObject({ code: "BRANCH_BUSY", retryable: true });
    connection.exec("INSERT INTO t VALUES (2000, 'kept'); COMMIT");
    await store.handOver("shop", { partition: 1 });
    using again = store.connect("shop");
    expect(again.prepare("SELECT value FROM t WHERE id = 2000").pluck().get()).toBe("kept");
  });

  test("what fails on the way leaves it where it was, to be written and handed over again", async () => {
    const fixture = await prepare(null);
    const store = openPartitioned(fixture);
    // Of the source: a damaged node or chunk is met while it is read.
    const path = (): boolean => true;
    fixture.storage.failAt({ kinds: ["read"], path, count: 8, systemCode: "EIO" });
    await expect(store.handOver("shop", { partition: 1 })).rejects.toMatchObject({ code: "IO" });
    fixture.storage.clearFaults();
    expect(partitionsWith(store, "shop")).toEqual([0]);
    expect(contentOf(store, "shop", fixture.ids)).toEqual(fixture.content);
    using connection = store.connect("shop");
    connection.exec("INSERT INTO t VALUES (2000, 'kept')");
    await store.handOver("shop", { partition: 1 });
    expect(partitionsWith(store, "shop")).toEqual([1]);
    await expectWhole(store, "handed over");
    await store.closeAsync();
  });

  test("when it is not known whether the target has it, it takes no writes until the store is opened", async () => {
    const fixture = await prepare(null);
    const store = openPartitioned(fixture);
    fixture.storage.clearTrace();
    using connection = store.connect("shop");
    // The last replacement of the target's catalog.
    let count = 0;
    const path = (name: string): boolean => name.startsWith("partitions/0001/catalog/");
    {
      const probe = { ...fixture, storage: fixture.storage.copyAfterCrash(new Random(1)) };
      const other = openPartitioned(probe);
      probe.storage.clearTrace();
      await other.handOver("shop", { partition: 1 });
      count = probe.storage.trace.filter((at) => at.kind === "rename" && path(at.path)).length;
      other.close();
    }
    fixture.storage.failAt({ kinds: ["rename"], path, count, systemCode: "EIO" });
    await expect(store.handOver("shop", { partition: 1 })).rejects.toThrow();
    expect(codeOf(() => connection.exec("DELETE FROM t"))).toBe("BRANCH_BUSY true");
    await expect(store.handOver("shop", { partition: 2 })).rejects.toMatchObject({
      code: "STORE_FAILED",
    });
    await store.closeAsync().catch(() => {});
    const again = openPartitioned(fixture);
    expect(partitionsWith(again, "shop")).toHaveLength(1);
    expect(contentOf(again, "shop", fixture.ids)).toEqual(fixture.content);
    again.close();
  });
});
