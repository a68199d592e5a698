/**
 * Awaited connections that are parked between their calls (N1 to N5 in src/sqlite/parking.ts), and the bound on the memory of those
 * that are not (src/store/runtime-pool.ts). The cases of async-connection.test.ts run with parked connections too.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import type { AsyncConnection } from "../src/sqlite/async-connection.ts";
import type { SqliteRuntime } from "../src/sqlite/runtime.ts";
import { SingleStore } from "../src/store/single-store.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { filledStore } from "../src/testing/lazy-store.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SMALL_STORE } from "./store-workload.ts";

const SEED = 1 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const DATABASES = process.env["BOUGH_TEST_LONG"] === "1" ? 10_000 : 1000;
const MIB = 1024 * 1024;
const ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)";

/** Database "shop" with a table. Every connection is parked as soon as its call has ended, unless options say otherwise. */
function parkingStore(options: StoreOptions = {}): SingleStore {
  const storage = new SimulatedStorage({ seed: SEED });
  const store = openStore("", { ...SMALL_STORE, connectionBytesMax: 0, storage, ...options });
  if (!(store instanceof SingleStore)) throw new TypeError("Store has more than one partition");
  store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec(ITEM);
  connection.close();
  return store;
}

/** Of all instances of SQLite of awaited connections. */
function instanceBytes(store: Store): number {
  if (store instanceof SingleStore) return store.runtimes.bytes;
  throw new TypeError("Store has more than one partition");
}

async function value(connection: AsyncConnection, sql: string): Promise<unknown> {
  return await (await connection.prepare(sql)).pluck().get();
}

test("a connection is parked after each call, and its statements go on", async () => {
  const store = parkingStore();
  const connection = await store.open("shop");
  const insert = await connection.prepare("INSERT INTO item(name) VALUES(?)");
  const names = await connection.prepare("SELECT name FROM item ORDER BY id");
  for (const name of ["a", "b", "c"]) {
    expect(connection.isParked).toBe(true);
    await insert.run(name);
  }
  expect(connection.isParked).toBe(true);
  expect(await names.pluck().all()).toEqual(["a", "b", "c"]);
  expect((await names.columns()).map(({ column }) => column)).toEqual(["name"]);
  await connection.exec("DROP TABLE item; CREATE TABLE item(name TEXT, id INTEGER, more INT)");
  expect(await (await connection.prepare("SELECT * FROM item")).all()).toEqual([]);
  expect([connection.isParked, connection.inTransaction]).toEqual([true, false]);
  await store.closeAsync();
});

test("a statement goes on in another instance of SQLite than before", async () => {
  const store = parkingStore();
  const connection = await store.open("shop");
  const insert = await connection.prepare("INSERT INTO item(name) VALUES(?) RETURNING name, id");
  expect(await insert.get("a")).toEqual({ name: "a", id: 1 });
  const others = await Promise.all(Array.from({ length: 10 }, () => store.open("shop")));
  for (const other of others) await other.exec("BEGIN; SELECT * FROM item");
  expect(await insert.get("ä".repeat(1000))).toEqual({ name: "ä".repeat(1000), id: 2 });
  await store.closeAsync();
});

test("functions, aggregates and tables are there again: of each the one that was registered last, as it was", async () => {
  const store = parkingStore();
  const connection = await store.open("shop");
  await connection.function("f", () => "first");
  await connection.function("F", () => "second");
  await connection.function("f", { varargs: true }, (...given: unknown[]) => given.length);
  connection.defaultSafeIntegers();
  await connection.function("kind", (number: unknown) => typeof number);
  connection.defaultSafeIntegers(false);
  await connection.function("plain", (number: unknown) => typeof number);
  await connection.aggregate("total_of", {
    start: 0,
    step: (sum: number, item: number) => sum + item,
  });
  await connection.table("numbers", {
    columns: ["n"],
    *rows() {
      yield [1];
      yield [2];
    },
  });
  expect(connection.isParked).toBe(true);
  const all = await connection.prepare(
    "SELECT f(), f(1, 2, 3), kind(1), plain(1), (SELECT total_of(n) FROM numbers), bough_branch()",
  );
  expect(await all.raw().get()).toEqual(["second", 3, "bigint", "number", 3, "main"]);
  expect(connection.isParked).toBe(true);
  await store.closeAsync();
});

test("last_insert_rowid(), changes() and total_changes() are those of the connection", async () => {
  const store = parkingStore();
  const connection = await store.open("shop");
  const other = await store.open("shop");
  await connection.exec("INSERT INTO item VALUES(9007199254740993, 'a'), (41, 'b'), (42, 'c')");
  await other.exec("INSERT INTO item VALUES(7, 'd')");
  const sql = "SELECT last_insert_rowid(), changes(), total_changes()";
  const ask = async (of: AsyncConnection): Promise<unknown> =>
    await (await of.prepare(sql)).raw().get();
  expect([await ask(connection), await ask(other)]).toEqual([
    [42, 3, 3],
    [7, 1, 1],
  ]);
  await connection.exec("UPDATE item SET name = 'x' WHERE id < 42; DELETE FROM item WHERE id = 0");
  expect(await ask(connection)).toEqual([42, 0, 5]);
  await connection.exec("INSERT INTO item VALUES(9007199254740993 + 2, 'e')");
  const rowid = await connection.prepare("SELECT last_insert_rowid()");
  expect(await rowid.pluck().safeIntegers().get()).toBe(9007199254740995n);
  await store.closeAsync();
});

/** What is set, what it says then, and what it would say on a connection that is new. */
const TRACES: readonly (readonly [string, string, unknown])[] = [
  ["CREATE TEMP TABLE mine(a); INSERT INTO mine VALUES(5)", "SELECT a FROM mine", 5],
  ["create table [temp].mine(a); INSERT INTO mine VALUES(6)", "SELECT a FROM mine", 6],
  ["CREATE VIEW temp.mine AS SELECT 8 AS a", "SELECT a FROM mine", 8],
  ["CREATE TEMPORARY VIEW mine AS SELECT 7 AS a", "SELECT a FROM mine", 7],
  ["CREATE VIRTUAL TABLE temp.mine USING fts5(a)", "SELECT count(*) FROM mine", 0],
  ["ATTACH 'shop/dev' AS dev", "SELECT count(*) FROM dev.item", 0],
  ["PRAGMA foreign_keys = off", "PRAGMA foreign_keys", 0],
  ["pragma /* */ cache_size = 77", "PRAGMA cache_size", 77],
  ["PRAGMA case_sensitive_like(1)", "SELECT 'a' LIKE 'A'", 0],
  ["BEGIN; INSERT INTO item(id) VALUES(99)", "SELECT id FROM item", 99],
  ["SAVEPOINT s; INSERT INTO item(id) VALUES(98)", "SELECT id FROM item", 98],
];

test.each(TRACES)("%s: not parked, as it would be gone", async (setting, asking, expected) => {
  const store = parkingStore();
  store.database("shop").createBranch("dev");
  const connection = await store.open("shop");
  await connection.exec(setting);
  expect(connection.isParked).toBe(false);
  expect(await value(connection, asking)).toBe(expected);
  expect(connection.isParked).toBe(false);
  await connection.close();
  await store.closeAsync();
});

test("what leaves nothing on the connection does not keep it from being parked", async () => {
  const store = parkingStore();
  const connection = await store.open("shop");
  store.database("shop").createBranch("dev");
  for (const sql of [
    'CREATE TABLE "pragma temp attach"("temp" INT)',
    'SELECT "temp" FROM "pragma temp attach" -- PRAGMA foreign_keys = off',
    "SELECT * FROM pragma_table_info('item')",
    "PRAGMA table_info(item)",
    "PRAGMA foreign_keys",
    "PRAGMA integrity_check(5)",
    "PRAGMA user_version = 3",
    "ATTACH 'shop/dev' AS dev; SELECT * FROM dev.item; DETACH dev",
    "BEGIN; INSERT INTO item(id) VALUES(5); ROLLBACK",
    "BEGIN CONCURRENT; INSERT INTO item(id) VALUES(5); COMMIT",
    "CREATE VIRTUAL TABLE text USING fts5(body); INSERT INTO text VALUES('some words')",
    "SELECT rank FROM text WHERE text MATCH 'words'",
    "VACUUM",
  ]) {
    await connection.exec(sql);
    expect(connection.isParked, sql).toBe(true);
  }
  expect(await connection.pragma("user_version", { simple: true })).toBe(3);
  expect(await value(connection, "SELECT count(*) FROM text WHERE text MATCH 'some'")).toBe(1);
  await connection.pragma("data_version");
  expect(connection.isParked).toBe(false); // It means something only beside an earlier one.
  await store.closeAsync();
});

test("who asks for pragma_data_version sees the commits of others, also through a view", async () => {
  const store = parkingStore();
  const other = await store.open("shop");
  await other.exec("CREATE VIEW version AS SELECT data_version FROM Pragma_Data_Version");
  for (const table of ["pragma_data_version", "PRAGMA_DATA_VERSION", "version"]) {
    const connection = await store.open("shop");
    const sql = `SELECT data_version FROM ${table}`;
    const before = await value(connection, sql);
    await other.exec("INSERT INTO item DEFAULT VALUES");
    expect(await value(connection, sql), table).not.toBe(before);
    await connection.close();
  }
  await store.closeAsync();
});

test("an open iterator and a transaction(...) keep the connection, until they end", async () => {
  const store = parkingStore();
  const connection = await store.open("shop");
  await connection.exec("INSERT INTO item(id) VALUES(1), (2), (3)");
  const rows = (await connection.prepare("SELECT id FROM item")).pluck().iterate();
  expect(await rows.next()).toEqual({ value: 1, done: false });
  expect(connection.isParked).toBe(false);
  await rows.return();
  expect(connection.isParked).toBe(true);
  await connection.transaction(async () => {
    await connection.exec("DELETE FROM item WHERE id = 2");
    expect(connection.isParked).toBe(false);
    expect(await value(connection, "SELECT count(*) FROM item")).toBe(2);
  });
  expect(connection.isParked).toBe(true);
  const unused = (await connection.prepare("SELECT id FROM item")).iterate();
  await unused.return();
  expect(await unused.next()).toEqual({ value: undefined, done: true });
  expect(connection.isParked).toBe(true);
  await store.closeAsync();
});

test("a fixed revision stays the commit that it was, past its expiry and garbage collection", async () => {
  const clock = { now: 1_000_000 };
  const store = parkingStore({ now: () => clock.now });
  const writer = store.connect("shop");
  const rewrite = writer.prepare("INSERT OR REPLACE INTO item VALUES(?, ?)");
  for (let version = 0; version < 5; version++) {
    clock.now += 60_000;
    for (let id = 0; id < 40; id++) rewrite.run(id, `version ${version} ${"x".repeat(300)}`);
    store.checkpoint();
  }
  const byTime = await store.open("shop@-2m");
  const byVersion = await store.open("shop@45");
  const ask = async (connection: AsyncConnection): Promise<unknown> =>
    await value(connection, "SELECT group_concat(substr(name, 1, 10)) FROM item");
  const before = [await ask(byTime), await ask(byVersion)];
  expect(before[0]).not.toBe(before[1]);
  expect([byTime.isParked, byVersion.isParked]).toEqual([true, true]);
  clock.now += 3_600_000;
  for (let id = 0; id < 40; id++) rewrite.run(id, `newest ${id}`);
  store.checkpoint();
  store.database("shop").setRetention({ everyCommitMs: 0, hourlyMs: 0, dailyMs: 0 });
  store.expire();
  store.gc();
  expect([await ask(byTime), await ask(byVersion)]).toEqual(before);
  await expect(store.open("shop@45")).rejects.toMatchObject({ code: "VERSION_EXPIRED" });
  await byTime.close();
  await byVersion.close();
  expect(store.engine.state.holders.size).toBe(1); // The writer's file.
  await store.closeAsync();
});

test("while parked: the branch is reset, renamed, deleted, made anew under its name, and comes back", async () => {
  const store = parkingStore();
  const shop = store.database("shop");
  shop.createBranch("dev");
  const connection = await store.open("shop/dev");
  const count = (await connection.prepare("SELECT count(*) FROM item")).pluck();
  await connection.exec("INSERT INTO item(id) VALUES(1)");
  shop.branch("dev").reset();
  expect(await count.get()).toBe(0);
  shop.branch("dev").rename("old");
  shop.createBranch("dev");
  await connection.exec("INSERT INTO item(id) VALUES(2)");
  expect(await value(connection, "SELECT bough_branch()")).toBe("old");
  expect(await value(await store.open("shop/dev"), "SELECT count(*) FROM item")).toBe(0);
  shop.branch("old").delete();
  await expect(count.get()).rejects.toMatchObject({ code: "BRANCH_NOT_FOUND" });
  expect(connection.isParked).toBe(true);
  shop.undeleteBranch("old");
  expect(await count.get()).toBe(1);
  await store.closeAsync();
});

test("closing while parked: the connection, and the store at once or awaited", async () => {
  for (const isAwaited of [false, true]) {
    const store = parkingStore();
    const [first, second] = [await store.open("shop"), await store.open("shop")];
    const statement = await first.prepare("SELECT 1");
    await first.close();
    expect([first.open, first.isParked, first.inTransaction]).toEqual([false, false, false]);
    await expect(statement.get()).rejects.toThrow("not open");
    await expect(first.exec("SELECT 1")).rejects.toThrow("not open");
    expect([second.open, second.isParked]).toEqual([true, true]);
    if (isAwaited) await store.closeAsync();
    else store.close();
    expect(second.open).toBe(false);
    await expect(second.exec("SELECT 1")).rejects.toThrow("not open");
    expect(store.engine.state.holders.size).toBe(0);
  }
});

test("when opening again fails the call says why, and the next one tries again", async () => {
  const options = { ...SMALL_STORE, cacheBytesMax: 0, connectionBytesMax: 0 };
  const { store, storage } = filledStore(SEED, options);
  const connection = await store.open("shop", { readonly: true });
  const count = (await connection.prepare("SELECT count(*) FROM item")).pluck();
  storage.hideAll();
  storage.failureChance = 1;
  await expect(count.get()).rejects.toMatchObject({ code: "REMOTE_UNAVAILABLE" });
  storage.failureChance = 0;
  expect(connection.isParked).toBe(true);
  const gone = new Error("given up");
  await expect(count.with({ signal: AbortSignal.abort(gone) }).get()).rejects.toBe(gone);
  expect(await count.get()).toBe(2000);
  await expect(connection.exec("DELETE FROM item")).rejects.toMatchObject({
    code: "SQLITE_READONLY",
  });
  expect(connection.isParked).toBe(true);
  await store.closeAsync();
});

test("limits of the connection and of its calls hold after parking, and only for their calls", async () => {
  const store = parkingStore();
  const connection = await store.open("shop", { statementTimeoutMs: 1e9, busyTimeoutMs: 0 });
  const endless =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
  const statement = await connection.prepare(endless, { timeoutMs: 20 });
  await expect(statement.get()).rejects.toMatchObject({ code: "TIMEOUT" });
  const bounded = `${endless.slice(0, -"SELECT count(*) FROM n".length)} SELECT i FROM n LIMIT 1 OFFSET 50000`;
  expect(await (await connection.prepare(bounded)).pluck().get()).toBe(50_001);
  const hasty = await store.open("shop", { statementTimeoutMs: 20 });
  await hasty.exec("BEGIN", { timeoutMs: 1e9 });
  await expect(value(hasty, endless)).rejects.toMatchObject({ code: "TIMEOUT" });
  await hasty.close();
  const writer = store.connect("shop");
  writer.exec("BEGIN IMMEDIATE");
  await expect(connection.exec("DELETE FROM item")).rejects.toMatchObject({ code: "SQLITE_BUSY" });
  writer.exec("COMMIT");
  expect(connection.isParked).toBe(true);
  await store.closeAsync();
});

test("calls that come at once have their turns in order, and the connection is parked after the last", async () => {
  const store = parkingStore();
  const connection = await store.open("shop");
  const insert = await connection.prepare("INSERT INTO item(name) VALUES(?)");
  const results = await Promise.all(
    Array.from({ length: 20 }, (_, index) => insert.run(`name ${index}`)),
  );
  expect(results.map(({ lastInsertRowid }) => lastInsertRowid)).toEqual(
    Array.from({ length: 20 }, (_, index) => index + 1),
  );
  expect(connection.isParked).toBe(true);
  await store.closeAsync();
});

test("an instance on which a limit of its own was set is not handed on", async () => {
  const store = parkingStore();
  const connection = await store.open("shop");
  await connection.exec("PRAGMA hard_heap_limit = 400000");
  expect(connection.isParked).toBe(false);
  await connection.close();
  const next = await store.open("shop");
  expect(await next.pragma("hard_heap_limit", { simple: true })).toBe(0);
  await store.closeAsync();
});

test("store.transact: words of SQL in names leave nothing, what leaves something does not reach the next", async () => {
  const store = parkingStore({ connectionBytesMax: 64 * MIB });
  await store.transact("shop", async (tx) => {
    await tx.exec('CREATE TABLE "temp pragma"(attach INT); INSERT INTO "temp pragma" VALUES(1)');
  });
  const { count } = store.runtimes;
  await store.transact("shop", async (tx) => {
    expect(await tx.get('SELECT attach FROM "temp pragma"')).toEqual({ attach: 1 });
  });
  expect(store.runtimes.count).toBe(count);
  await store.transact("shop", async (tx) => await tx.exec("CREATE TEMP TABLE mine(a)"));
  await store.transact("shop", async (tx) => {
    await expect(tx.get("SELECT * FROM mine")).rejects.toThrow("no such table");
  });
  await store.closeAsync();
});

test("idle connections stay within connectionBytesMax, those used last; spare instances go first", async () => {
  const bytesMax = 8 * MIB;
  const store = parkingStore({ connectionBytesMax: bytesMax });
  const connections: AsyncConnection[] = [];
  for (let index = 0; index < 60; index++) {
    connections.push(await store.open("shop"));
    expect(store.runtimes.bytes).toBeLessThanOrEqual(bytesMax);
  }
  const kept = connections.map(({ isParked }) => !isParked).lastIndexOf(false) + 1;
  expect(kept).toBeGreaterThan(30);
  expect(kept).toBeLessThan(58);
  expect(connections.slice(0, kept).every(({ isParked }) => isParked)).toBe(true);
  for (const oldest of connections.slice(0, 3)) {
    await oldest.exec("INSERT INTO item(name) VALUES('x')");
    expect(oldest.isParked).toBe(false);
  }
  expect([kept, 59].map((index) => connections[index]!.isParked)).toEqual([true, false]);
  const inUse = connections.filter(({ isParked }) => !isParked).length;
  expect(store.runtimes.count).toBeLessThanOrEqual(inUse + 1);
  expect(store.runtimes.bytes).toBeLessThanOrEqual(bytesMax);
  await store.closeAsync();
});

// What was given up stayed in memory: the last call that had read rows kept it.
test("an instance that is let go of is left to the garbage collector, although its connection is there", async () => {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect !== "function") throw new TypeError("No garbage collector to call");
  const store = parkingStore();
  const taken: WeakRef<SqliteRuntime>[] = [];
  const { runtimes } = store;
  const take = runtimes.take.bind(runtimes);
  runtimes.take = () => {
    const runtime = take();
    taken.push(new WeakRef(runtime));
    return runtime;
  };
  const sql = "SELECT 1, 'a' UNION SELECT 2, 'b'";
  const sink = { wantsRows: true, begin: () => {}, row: () => false, drained: async () => {} };
  const connections = await Promise.all(Array.from({ length: 30 }, () => store.open("shop")));
  for (const connection of connections) await connection.exec("BEGIN");
  for (const connection of connections)
    await connection.executor().execute({ sql, values: [], namedValues: [] }, sink);
  for (const connection of connections) await connection.exec("COMMIT");
  expect(connections.map(({ isParked }) => isParked)).not.toContain(false);
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  const living = new Set(taken.map((reference) => reference.deref()).filter(Boolean));
  expect(living.size).toBeLessThanOrEqual(runtimes.count + 2); // The stack may hold on to some.
  expect(runtimes.count).toBeLessThan(10);
  await store.closeAsync();
});

test("an instance that grew is let go of when its connection is parked, and those in use go on beyond the bound", async () => {
  const store = parkingStore({ connectionBytesMax: 4 * MIB });
  const large = await store.open("shop");
  await large.exec(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)
     INSERT INTO item(name) SELECT hex(randomblob(1000)) FROM n`,
  );
  await large.exec("BEGIN");
  expect(await value(large, "SELECT sum(length(name)) FROM item")).toBe(4_000_000);
  expect(store.runtimes.bytes).toBeGreaterThan(4 * MIB);
  const other = await store.open("shop");
  expect([large.isParked, other.isParked]).toEqual([false, true]);
  await large.exec("COMMIT");
  expect(large.isParked).toBe(true);
  expect(store.runtimes.bytes).toBeLessThan(4 * MIB);
  expect(await value(large, "SELECT sum(length(name)) FROM item")).toBe(4_000_000);
  await store.closeAsync();
});

test(
  `${DATABASES} databases, opened, used and closed in random order, match a model`,
  { timeout: 600_000 },
  async () => {
    const random = new Random(SEED);
    const storage = new SimulatedStorage({ seed: SEED });
    const options: StoreOptions = {
      ...SMALL_STORE,
      checkpointBytes: 4 * MIB,
      logSegmentBytes: MIB,
      connectionBytesMax: 6 * MIB,
      durability: "off",
      storage,
    };
    let store = openStore("", options);
    const model = new Map<string, string[]>();
    for (let index = 0; index < DATABASES; index++) {
      store.createDatabase(`d${index}`);
      model.set(`d${index}`, []);
    }
    const opened = new Map<string, AsyncConnection>();
    const use = async (name: string): Promise<void> => {
      const rows = model.get(name)!;
      const text = `row ${rows.length} of ${name}`;
      if (rows.length === 0) await store.transact(name, async (tx) => await tx.exec(ITEM));
      const connection = opened.get(name) ?? (await store.open(name));
      opened.set(name, connection);
      const names = await connection.prepare("SELECT name FROM item ORDER BY id");
      expect(await names.pluck().all(), name).toEqual(rows);
      if (random.chance(0.5)) await connection.exec(`INSERT INTO item(name) VALUES('${text}')`);
      else
        await store.transact(
          name,
          async (tx) => void (await tx.run("INSERT INTO item(name) VALUES(?)", text)),
        );
      rows.push(text);
      expect(instanceBytes(store)).toBeLessThanOrEqual(6 * MIB);
      if (!random.chance(0.2)) return;
      await connection.close();
      opened.delete(name);
    };
    for (let step = 0; step < DATABASES * 2; step++)
      await use(`d${random.integer(0, DATABASES - 1)}`);
    expect(opened.size).toBeGreaterThan(DATABASES / 3);
    expect([...opened.values()].filter(({ isParked }) => !isParked).length).toBeLessThan(20);
    await store.closeAsync();
    store = openStore("", options);
    for (const [name, rows] of model) {
      const connection = store.connect(name);
      if (rows.length > 0)
        expect(connection.prepare("SELECT name FROM item ORDER BY id").pluck().all()).toEqual(rows);
      connection.close();
    }
    store.close();
  },
);
