/** Garbage collection of a whole store on a simulated disk: what goes, what stays, and what it says of both. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CatalogBatch } from "../catalog/catalog.ts";
import { openStore, type Store } from "../store/store.ts";
import type { StoreOptions } from "../store/store-options.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";

const SMALL: StoreOptions = {
  backend: "memory",
  logSegmentBytes: 32 * 1024,
  checkpointBytes: 64 * 1024,
  transactionBytesMax: 16 * 1024,
  chunkPages: 8,
  gc: "off",
};

function open(storage: SimulatedStorage, options: StoreOptions = {}): Store {
  return openStore("", { ...SMALL, storage, ...options });
}

const FILL =
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) " +
  "INSERT INTO t(value) SELECT hex(randomblob(200)) FROM n";

function fill(store: Store, revision: string): void {
  using connection = store.connect(revision);
  connection.exec(`CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, value); ${FILL}`);
}

function digest(store: Store, revision: string): string {
  using connection = store.connect(revision);
  return createHash("sha256").update(connection.serialize()).digest("hex");
}

function chunkBytes(store: Store): number {
  return store.stat().disk.chunkBytes;
}

/** What expiry does with a deleted branch whose time has passed. */
function purgeBranch(store: Store, databaseId: number, branchId: number): void {
  const { engine } = store;
  const refs = engine.state.refs.databases.get(databaseId)!;
  const timelineIds = refs.branches.get(branchId)!.history.map(({ timeline }) => timeline);
  engine.change({ type: "purge-branch", databaseId, branchId });
  engine.change({ type: "purge-timelines", databaseId, timelineIds });
}

describe("a collection", () => {
  test("frees what a rolled back transaction had put into chunks", () => {
    const store = open(new SimulatedStorage());
    store.createDatabase("shop");
    fill(store, "shop");
    store.checkpoint();
    const before = chunkBytes(store);
    const kept = digest(store, "shop");
    const connection = store.connect("shop");
    connection.pragma("cache_size=4");
    connection.exec(`BEGIN; ${FILL}; ${FILL}; ROLLBACK`);
    connection.close();
    expect(chunkBytes(store)).toBeGreaterThan(before + 20_000);
    const report = store.gc();
    expect(report.freedBytes).toBeGreaterThan(20_000);
    expect(chunkBytes(store)).toBeLessThanOrEqual(before + 4096);
    expect(digest(store, "shop")).toBe(kept);
    store.close();
  });

  test("frees a purged branch, and nothing that another one shares", async () => {
    const store = open(new SimulatedStorage());
    const shop = store.createDatabase("shop");
    fill(store, "shop");
    const dev = shop.createBranch("dev");
    fill(store, "shop/dev");
    store.checkpoint();
    const kept = digest(store, "shop");
    const before = chunkBytes(store);
    dev.delete();
    purgeBranch(store, 1, 2);
    const dry = store.gc({ dryRun: true });
    expect(chunkBytes(store)).toBe(before);
    const report = store.gc();
    expect(dry.isDryRun).toBe(true);
    expect(report.chunks).toEqual(dry.chunks);
    expect(report.pages).toBe(dry.pages);
    expect(report.nodes).toEqual(dry.nodes);
    expect(report.chunks.count).toBeGreaterThan(0);
    expect(report.nodes.count).toBeGreaterThan(0);
    expect(chunkBytes(store)).toBeLessThan(before);
    expect(digest(store, "shop")).toBe(kept);
    expect(await store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
    expect(store.gc().freedBytes).toBe(0);
    store.close();
  });
});

describe("what is deleted and collected", () => {
  test("gives its space back: an emptied store is as large as an empty one", () => {
    const clock = { now: 1_000_000_000_000 };
    const options = { now: () => (clock.now += 10) };
    const empty = open(new SimulatedStorage(), options);
    empty.createDatabase("other");
    empty.gc();
    const before = empty.stat().disk;
    empty.close();
    const store = open(new SimulatedStorage(), options);
    store.createDatabase("other");
    const shop = store.createDatabase("shop");
    for (let round = 0; round < 3; round++) {
      fill(store, "shop");
      store.checkpoint();
      shop.createBranch(`b${round}`);
      fill(store, `shop/b${round}`);
      shop.createTag(`t${round}`);
    }
    store.checkpoint();
    expect(store.stat().disk.totalBytes).toBeGreaterThan(4 * before.totalBytes);
    shop.delete();
    clock.now += 400 * 24 * 3_600_000;
    store.gc();
    const after = store.stat().disk;
    expect(after.chunkBytes).toBe(before.chunkBytes);
    expect(after.historyBytes).toBe(0);
    expect(after.catalogBytes).toBeLessThanOrEqual(1.05 * before.catalogBytes);
    store.close();
  });

  test.each([
    ["lmdb", 0],
    ["leveldb", 128 * 1024], // It keeps the log of its last writes.
  ] as const)("on disk too, with a catalog in %s", (backend, slack) => {
    const root = mkdtempSync(join(tmpdir(), "bough-gc-"));
    const clock = { now: 1_000_000_000_000 };
    const make = (name: string): Store =>
      openStore(join(root, name), {
        backend,
        gc: "off",
        durability: "off",
        now: () => (clock.now += 10),
      });
    const sizes = (store: Store): number => {
      store.gc();
      store.compactCatalog();
      const { chunkBytes, historyBytes, catalogBytes } = store.stat().disk;
      return chunkBytes + historyBytes + catalogBytes;
    };
    try {
      using empty = make("empty");
      empty.createDatabase("other");
      const before = sizes(empty);
      using store = make("full");
      store.createDatabase("other");
      const shop = store.createDatabase("shop");
      for (let round = 0; round < 20; round++) fill(store, "shop");
      store.checkpoint();
      shop.createBranch("dev");
      fill(store, "shop/dev");
      expect(sizes(store)).toBeGreaterThan(10 * before);
      shop.delete();
      clock.now += 400 * 24 * 3_600_000;
      expect(sizes(store)).toBeLessThanOrEqual(1.05 * before + slack);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  test("pages of which a chunk keeps only a hole are stored again when their content comes back", async () => {
    const clock = { now: 1_000_000_000_000 };
    const store = open(new SimulatedStorage(), { now: () => (clock.now += 10) });
    const shop = store.createDatabase("shop", { pageSize: 512 });
    const fillWith = (revision: string, ids: readonly number[]): void => {
      using connection = store.connect(revision);
      connection.exec("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, value)");
      const insert = connection.prepare("INSERT OR REPLACE INTO t VALUES (?, ?)");
      // As one transaction that is too large for memory: a chunk holds the pages in their order.
      connection.transaction(() => {
        for (const id of ids) insert.run(id, new Random(id).bytes(400));
      })();
    };
    const ids = Array.from({ length: 400 }, (_, index) => index + 1);
    shop.createBranch("dev");
    fillWith("shop/dev", ids);
    store.checkpoint();
    const whole = digest(store, "shop/dev");
    const connection = store.connect("shop/dev");
    connection.exec("UPDATE t SET value = zeroblob(400) WHERE id % 8 <> 0");
    connection.close();
    store.checkpoint();
    const kept = digest(store, "shop/dev");
    clock.now += 400 * 24 * 3_600_000;
    const report = store.gc();
    expect(report.packs.holes).toBeGreaterThan(0);
    expect(digest(store, "shop/dev")).toBe(kept);
    shop.createBranch("again");
    fillWith("shop/again", ids);
    store.checkpoint();
    expect(digest(store, "shop/again")).toBe(whole);
    expect(digest(store, "shop/dev")).toBe(kept);
    expect(await store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
    store.close();
  });
});

/** Two hundred pages with a row each, so that the page map has several leaves. */
function openWithRows(): { store: Store; set: (id: number, seed: number) => void } {
  const store = open(new SimulatedStorage(), { checkpointBytes: 1 << 30 });
  store.createDatabase("shop", { pageSize: 512 });
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, value)");
  const put = connection.prepare("INSERT OR REPLACE INTO t VALUES (?, ?)");
  const set = (id: number, seed: number): void => void put.run(id, new Random(seed).bytes(400));
  connection.transaction(() => {
    for (let id = 1; id <= 200; id++) set(id, id);
  })();
  store.checkpoint();
  return { store, set };
}

function finishCycle(store: Store): void {
  while (store.engine.collector.cycle !== null) store.engine.collect(0);
}

const AWAITED = { isDryRun: false, isBlocking: true, isAwaited: true };

describe("beside a cycle", () => {
  test("a node that is written again before the mark gets to it is visited all the same", async () => {
    const { store, set } = openWithRows();
    store.engine.beginCollection(AWAITED);
    set(150, 9001);
    store.checkpoint();
    set(150, 150); // Its page, and so the leaf of the page map, are what they were.
    store.checkpoint();
    const kept = digest(store, "shop");
    finishCycle(store);
    expect(await store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
    expect(digest(store, "shop")).toBe(kept);
    store.close();
  });

  test("a leaf that comes back after the mark is not deleted from under the checkpoint", async () => {
    const { store, set } = openWithRows();
    set(150, 9001);
    store.checkpoint();
    dropRoots(store);
    store.engine.beginCollection(AWAITED);
    while (store.engine.collector.progress?.phase === "mark") store.engine.collect(0);
    set(150, 150);
    store.checkpoint();
    const kept = digest(store, "shop");
    finishCycle(store);
    expect(await store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
    expect(digest(store, "shop")).toBe(kept);
    store.close();
  });

  test("a check holds it off, and a collection says so", async () => {
    const { store } = openWithRows();
    const check = store.check();
    expect(() => store.gc()).toThrow(expect.objectContaining({ code: "STORE_BUSY" }));
    await check;
    expect(store.gc().freedBytes).toBeGreaterThanOrEqual(0);
    store.close();
  });

  test("a signal ends it, and the store goes on", async () => {
    const { store, set } = openWithRows();
    const controller = new AbortController();
    const phases = new Set<string>();
    const collection = store.gcAsync({
      signal: controller.signal,
      onProgress: ({ phase }) => {
        phases.add(phase);
        controller.abort(new Error("enough"));
      },
    });
    await expect(collection).rejects.toThrow("enough");
    expect(phases.size).toBeGreaterThan(0);
    expect(store.engine.collector.cycle).toBeNull();
    expect(store.engine.state.barrier.marks).toBeNull();
    set(1, 2);
    const report = await store.gcAsync();
    expect(report.living.chunks).toBeGreaterThan(0);
    store.close();
  });

  test("damage ends it before anything goes, and reading goes on", () => {
    const { store, set } = openWithRows();
    set(1, 2);
    store.checkpoint();
    const { catalog } = store.engine.state;
    const root = store.engine.state.databases.get(1)!.timelines.get(1)!.view.base.origin().root;
    const batch = new CatalogBatch();
    batch.deleteNode(root.nodeId!);
    batch.commit(catalog.store);
    expect(() => store.gc()).toThrow(expect.objectContaining({ code: "CORRUPT_NODE" }));
    expect(store.engine.state.barrier.marks).toBeNull();
    set(2, 3);
    store.close();
  });
});

/** What expiry does with the roots of versions before the head. */
function dropRoots(store: Store): void {
  const { catalog, databases } = store.engine.state;
  const batch = new CatalogBatch();
  for (const { timelines } of databases.values())
    for (const { row, head } of timelines.values())
      for (const { version } of catalog.roots(row.databaseId, row.id, { from: 0, to: Infinity }))
        if (version < head.version) batch.deleteRoot(row.databaseId, row.id, version);
  batch.commit(catalog.store);
}
