/**
 * A store whose bytes are in object storage, block by block: what it answers is what a local store answers, and what fails to
 * arrive fails one statement.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { StoreError } from "../src/errors.ts";
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { StockSqlite } from "../src/testing/stock-sqlite.ts";
import { VanishingStorage } from "../src/testing/vanishing-storage.ts";
import { SqlGenerator } from "./sql-generator.ts";
import { SMALL_STORE } from "./store-workload.ts";

const FIRST_SEED = 1 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const RUNS = process.env["BOUGH_TEST_LONG"] === "1" ? 200 : 5;

interface LazyStore {
  readonly store: Store;
  readonly storage: VanishingStorage;
}

function lazyStore(seed: number): LazyStore {
  const storage = new VanishingStorage(new SimulatedStorage({ seed }), {
    random: new Random(seed),
  });
  return { store: openStore("", { ...SMALL_STORE, cacheBytesMax: 0, storage }), storage };
}

/** 2,000 rows of 200 bytes, on disk and nowhere else. */
function filledStore(seed: number): LazyStore {
  const lazy = lazyStore(seed);
  lazy.store.createDatabase("shop");
  const connection = lazy.store.connect("shop");
  connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  const insert = connection.prepare("INSERT INTO item VALUES(?, ?)");
  connection.transaction(() => {
    for (let id = 1; id <= 2000; id++) insert.run(id, `item ${id} ${"x".repeat(190)}`);
  })();
  connection.close();
  lazy.store.checkpoint();
  lazy.storage.hideAll();
  return lazy;
}

function outcome(connection: StoreConnection, sql: string): unknown {
  try {
    const statement = connection.prepare(sql);
    return statement.reader ? statement.raw().safeIntegers().all() : statement.run();
  } catch (error) {
    if (!(error instanceof SqliteError)) throw error;
    return { code: error.code, message: error.message };
  }
}

test("bytes that vanish at random change no answer: random SQL on a local store and on a lazy one", () => {
  let waits = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
    const random = new Random(seed);
    const local = openStore("", { ...SMALL_STORE, storage: new SimulatedStorage({ seed }) });
    const lazy = lazyStore(seed);
    lazy.storage.vanishChance = 0.2;
    const stores = [local, lazy.store];
    for (const store of stores) store.createDatabase("shop");
    let connections = stores.map((store) => store.connect("shop"));
    const generator = new SqlGenerator(random);
    const script: string[] = [];
    const compare = (sql: string): void => {
      script.push(sql);
      const [expected, actual] = connections.map((connection) => outcome(connection, sql));
      expect(actual, `seed ${seed}, after:\n${script.slice(-8).join(";\n")}`).toEqual(expected);
    };
    for (const sql of generator.opening()) compare(sql);
    for (let count = 0; count < 150; count++) {
      compare(generator.next());
      if (random.chance(0.1)) {
        for (const store of stores) store.checkpoint();
        lazy.storage.hideAll();
      }
      if (random.chance(0.1) && connections.every(({ inTransaction }) => !inTransaction)) {
        for (const connection of connections) connection.close();
        connections = stores.map((store) => store.connect("shop"));
        for (const connection of connections) connection.pragma("cache_size = 3");
      }
    }
    for (const sql of generator.dump()) compare(sql);
    for (const connection of connections) connection.close();
    waits += lazy.storage.waits;
    for (const store of stores) store.close();
  }
  expect(waits).toBeGreaterThan(RUNS * 100);
});

test("every old version reads the same once its history is remote", () => {
  const { store, storage } = lazyStore(1);
  const database = store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE t(a, b)");
  for (let version = 2; version <= 40; version++) {
    connection.prepare("INSERT INTO t VALUES(?, hex(randomblob(200)))").run(version);
    if (version % 10 === 0) store.checkpoint();
  }
  const read = (version: number): unknown =>
    store.connect(`shop@${version}`).prepare("SELECT * FROM t").all();
  const versions = Array.from({ length: database.version }, (_, index) => index + 1);
  const before = versions.map(read);
  storage.hideAll();
  storage.vanishChance = 0.5;
  expect(versions.map(read)).toEqual(before);
  expect(storage.waits).toBeGreaterThan(20);
});

test("a fetch that fails ends the statement and its transaction, and the connection goes on", () => {
  const { store, storage } = filledStore(2);
  const connection = store.connect("shop");
  connection.exec("BEGIN; INSERT INTO item VALUES(9001, 'new')");
  const error = new StoreError("REMOTE_UNAVAILABLE", "Cannot fetch: no answer");
  storage.hideAll();
  storage.failures = [error];
  expect(() => connection.prepare("SELECT count(*), max(name) FROM item").get()).toThrow(error);
  expect(connection.inTransaction).toBe(false);
  expect(connection.prepare("SELECT count(*) FROM item").pluck().get()).toBe(2000);
  connection.prepare("INSERT INTO item VALUES(9001, 'again')").run();
  expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
  expect(connection.prepare("SELECT count(*) FROM item").pluck().get()).toBe(2001);
});

test("failures anywhere in a transaction leave it whole or undone", () => {
  const { store, storage } = filledStore(3);
  storage.vanishChance = 0.3;
  const expected = { count: 2000, updated: 0 };
  let failures = 0;
  for (let round = 1; round <= 60; round++) {
    const connection = store.connect("shop");
    connection.pragma("cache_size = 2");
    const change = connection.transaction(() => {
      const { changes } = connection
        .prepare("UPDATE item SET name = name || '!' WHERE id % 20 = ?")
        .run(round % 20);
      connection.prepare("INSERT INTO item VALUES(?, hex(randomblob(300)))").run(10_000 + round);
      return changes;
    });
    storage.failureChance = 0.02;
    storage.hideAll();
    try {
      expected.updated += change();
      expected.count++;
    } catch (error) {
      expect(error).toMatchObject({ code: "REMOTE_UNAVAILABLE" });
      failures++;
    }
    storage.failureChance = 0;
    expect(connection.inTransaction).toBe(false);
    const count = connection.prepare("SELECT count(*) FROM item").pluck().get();
    const updated = connection
      .prepare("SELECT sum(length(name) - length(replace(name, '!', ''))) FROM item")
      .pluck()
      .get();
    expect({ count, updated }).toEqual(expected);
    connection.close();
    if (round % 7 === 0) store.checkpoint();
  }
  expect(failures).toBeGreaterThan(10);
  expect(failures).toBeLessThan(55);
});

test("the time limit of a connection reaches the fetch", () => {
  const { store, storage } = filledStore(4);
  const connection = store.connect("shop", { fetchTimeoutMs: 5 });
  connection.prepare("SELECT count(*) FROM sqlite_schema").get();
  storage.hideAll();
  storage.holdsFetches = true;
  const timeout = expect.objectContaining({ code: "TIMEOUT", retryable: true });
  expect(() => connection.prepare("SELECT count(*) FROM item").get()).toThrow(timeout);
  storage.holdsFetches = false;
  expect(() => store.connect("shop", { fetchTimeoutMs: 0 })).toThrow(RangeError);
  const patient = store.connect("shop", { fetchTimeoutMs: 100_000 });
  expect(patient.prepare("SELECT count(*) FROM item").pluck().get()).toBe(2000);
});

test("work of the engine waits: checkpoints, branches, statistics, checks, exports", async () => {
  const { store, storage } = filledStore(5);
  storage.vanishChance = 0.5;
  const connection = store.connect("shop");
  connection.exec("DELETE FROM item WHERE id % 3 = 0; CREATE INDEX by_name ON item(name)");
  connection.close();
  storage.hideAll();
  store.checkpoint();
  storage.hideAll();
  store.database("shop").createBranch("dev", { from: "shop@2" });
  expect(store.database("shop").branch("dev").log().length).toBe(2);
  expect(store.stat().logicalBytes).toBeGreaterThan(0);
  storage.hideAll();
  expect(store.connect("shop/dev").prepare("SELECT count(*) FROM item").pluck().get()).toBe(2000);
  storage.hideAll();
  expect((await store.check({ deep: true })).problems).toEqual([]);
  storage.hideAll();
  const path = join(mkdtempSync(join(tmpdir(), "bough-lazy-")), "shop.db");
  await store.exportFile("shop", path);
  using stock = await StockSqlite.open(readFileSync(path));
  expect(stock.run("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
  expect(stock.run("SELECT count(*) AS n FROM item")).toEqual([{ n: 1334 }]);
  rmSync(dirname(path), { recursive: true });
  store.close();
});

/** Two levels of interior pages, each page in a chunk of its own. */
function deepStore(seed: number): LazyStore {
  const storage = new VanishingStorage(new SimulatedStorage({ seed }), {
    random: new Random(seed),
  });
  const options = { ...SMALL_STORE, cacheBytesMax: 64 * 1024 * 1024, chunkPages: 1 };
  const store = openStore("", { ...options, storage });
  store.createDatabase("shop", { pageSize: 1024 });
  const connection = store.connect("shop");
  connection.exec(
    "CREATE TABLE item(id INTEGER PRIMARY KEY, name BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<4000) INSERT INTO item SELECT i, randomblob(300) FROM n",
  );
  connection.close();
  store.checkpoint();
  // Another Store has nothing in memory.
  store.close();
  const again = openStore("", { ...options, storage });
  storage.hideAll();
  return { store: again, storage };
}

test.each([
  ["forwards", "SELECT sum(length(name)) FROM item"],
  ["backwards", "SELECT sum(length(name)) FROM (SELECT name FROM item ORDER BY id DESC)"],
])("a scan %s has the children of interior pages fetched ahead", (_, sql) => {
  const { store, storage } = deepStore(6);
  const connection = store.connect("shop");
  const pages = Number(connection.pragma("page_count", { simple: true }));
  expect(connection.prepare(sql).pluck().get()).toBe(1_200_000);
  expect(storage.waits).toBeLessThan(pages / 5);
  expect(storage.prefetches).toBeGreaterThan(pages / 2);
  store.close();
});

test("point queries have nothing fetched ahead", () => {
  const { store, storage } = deepStore(7);
  const connection = store.connect("shop");
  const get = connection.prepare("SELECT length(name) FROM item WHERE id = ?").pluck();
  for (const id of [3, 3999, 1000, 2500, 1800, 600, 3200, 2000]) expect(get.get(id)).toBe(300);
  expect(storage.prefetches).toBeLessThan(3);
  store.close();
});
