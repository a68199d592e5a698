/** Faults that other tests found once, each in its shortest form. */
import { describe, expect, test } from "vitest";
import { openStore } from "../src/store/store.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SMALL_STORE } from "./store-workload.ts";

describe("large transactions", () => {
  test("may write pages again that the store has had since before it was opened", () => {
    const storage = new SimulatedStorage();
    let store = openStore("", { ...SMALL_STORE, storage });
    store.createDatabase("shop");
    const fill = `
      CREATE TABLE item(id INTEGER PRIMARY KEY, value TEXT);
      WITH RECURSIVE numbers(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT 200)
      INSERT INTO item SELECT value, hex(zeroblob(500)) || value FROM numbers`;
    store.connect("shop").exec(fill);
    store.close();
    store = openStore("", { ...SMALL_STORE, storage });
    store.createDatabase("copy");
    store.connect("copy").exec(fill);
    const count = store.connect("copy").prepare("SELECT count(*) FROM item").pluck();
    expect(count.get()).toBe(200);
  });
});

describe("a failing checkpoint", () => {
  test("does not make the commit fail that it followed, but the next one", () => {
    const storage = new SimulatedStorage();
    const store = openStore("", { ...SMALL_STORE, checkpointBytes: 1, storage });
    store.createDatabase("shop");
    const connection = store.connect("shop");
    connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY)"); // A checkpoint begins.
    const isCheckpoint = (path: string): boolean => /^(catalog|chunks)/.test(path);
    storage.failAt({ kinds: ["write"], path: isCheckpoint, count: 1, systemCode: "EIO" });
    connection.exec("INSERT INTO item VALUES (1)");
    expect(() => connection.exec("INSERT INTO item VALUES (2)")).toThrow(/an earlier write failed/);
    expect(connection.prepare("SELECT id FROM item").pluck().all()).toEqual([1]);
    const readable = store.connect("shop@1").prepare("SELECT count(*) FROM item").pluck();
    expect(readable.get()).toBe(0);
  });
});

describe("VACUUM", () => {
  test("makes a commit with fewer pages, and the versions before it keep theirs", () => {
    const store = openStore("", { ...SMALL_STORE, storage: new SimulatedStorage() });
    const shop = store.createDatabase("shop");
    const connection = store.connect("shop");
    const fill = `
      WITH RECURSIVE numbers(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT 300)
      INSERT INTO item SELECT NULL, hex(randomblob(200)) FROM numbers`;
    connection.exec(`CREATE TABLE item(id INTEGER PRIMARY KEY, value TEXT); ${fill}`);
    const full = shop.branch().head.pageCount;
    connection.exec("DELETE FROM item WHERE id > 3; VACUUM");
    expect(shop.branch().head.pageCount).toBe(2);
    expect(connection.pragma("page_count", { simple: true })).toBe(2);
    store.checkpoint();
    connection.exec(fill);
    expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
    const before = store.connect("shop@2");
    expect(before.pragma("page_count", { simple: true })).toBe(full);
    expect(before.prepare("SELECT count(*) FROM item").pluck().get()).toBe(300);
    expect(before.pragma("integrity_check", { simple: true })).toBe("ok");
  });
});

describe("a large transaction that cannot write its chunks", () => {
  test("leaves the store refusing all writes until it is opened again", () => {
    const storage = new SimulatedStorage();
    let store = openStore("", { ...SMALL_STORE, storage });
    store.createDatabase("shop");
    const connection = store.connect("shop");
    connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, value BLOB)");
    const isPack = (path: string): boolean => path.startsWith("chunks/");
    storage.failAt({
      kinds: ["sync"],
      path: isPack,
      count: 1,
      systemCode: "EIO",
      dropUnsynced: true,
    });
    expect(() => connection.exec("INSERT INTO item VALUES (1, randomblob(50000))")).toThrow(/EIO/);
    expect(() => connection.exec("INSERT INTO item VALUES (2, 'small')")).toThrow(
      /an earlier write failed/,
    );
    expect(() => store.database("shop").createBranch("dev")).toThrow(/an earlier write failed/);
    expect(connection.prepare("SELECT count(*) FROM item").pluck().get()).toBe(0);
    store.close();
    store = openStore("", { ...SMALL_STORE, storage });
    store.connect("shop").exec("INSERT INTO item VALUES (1, randomblob(50000))");
  });
});

describe("pages that a transaction took and gave back", () => {
  test("are pages of zeros on every path: SQLite never writes them", () => {
    const storage = new SimulatedStorage();
    let store = openStore("", { ...SMALL_STORE, transactionBytesMax: 1 << 20, storage });
    store.createDatabase("shop");
    const connection = store.connect("shop");
    connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, value BLOB)");
    connection.exec(`BEGIN; INSERT INTO item VALUES (1, randomblob(60000)), (2, randomblob(9000));
      DELETE FROM item WHERE id = 1; COMMIT`);
    const bytes = store.connect("shop@2").serialize();
    const free = Number(connection.pragma("freelist_count", { simple: true }));
    expect(free).toBeGreaterThan(10);
    expect(bytes.length).toBe(4096 * store.database("shop").branch().head.pageCount);
    store.checkpoint();
    expect(store.connect("shop@2").serialize().equals(bytes)).toBe(true);
    connection.exec("INSERT INTO item VALUES (3, randomblob(20000)); DELETE FROM item");
    store = openStore("", { ...SMALL_STORE, storage: storage.copyAfterCrash(new Random(1)) });
    expect(store.connect("shop@2").serialize().equals(bytes)).toBe(true);
    store.connect("shop").serialize();
  });
});

describe("an awaited iterator", () => {
  test("that is asked several times at once gives its rows in order, and ends after the last", async () => {
    await using store = openStore("", { ...SMALL_STORE, storage: new SimulatedStorage() });
    store.createDatabase("shop");
    await using connection = await store.open("shop");
    const numbers = await connection.prepare("SELECT value FROM json_each('[1,2,3,4,5,6]')");
    const rows = numbers.pluck().iterate();
    expect(await rows.next()).toEqual({ value: 1, done: false });
    const asked = await Promise.all(Array.from({ length: 6 }, () => rows.next()));
    expect(asked.map(({ value }) => value)).toEqual([2, 3, 4, 5, 6, undefined]);
  });
});

// VACUUM wrote pages of the size that was set for another database of the connection, and committed them.
describe("VACUUM where databases with other page sizes are attached", () => {
  const FILL =
    "CREATE TABLE item(id INTEGER PRIMARY KEY, text); INSERT INTO item(text) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT hex(randomblob(30)) FROM n; DELETE FROM item WHERE id % 2 = 0";
  const ADD = "INSERT INTO main.item(text) VALUES ('x'); INSERT INTO other.item(text) VALUES ('y')";

  test.each([
    ["main", 512, 4096],
    ["main", 4096, 512],
    ["other", 512, 4096],
    ["other", 4096, 512],
  ])("of %s: %i and %i bytes", async (schema, size, otherSize) => {
    const store = openStore("", { ...SMALL_STORE, storage: new SimulatedStorage() });
    const sizes = { first: size, second: otherSize, third: size, fourth: otherSize };
    for (const [name, pageSize] of Object.entries(sizes)) {
      store.createDatabase(name, { pageSize });
      store.connect(name).exec(FILL);
    }
    store.connect("first").exec(`ATTACH 'second' AS other; VACUUM ${schema}; ${ADD}`);
    const awaited = await store.open("third");
    await awaited.exec(`ATTACH 'fourth' AS other; VACUUM ${schema}; ${ADD}`);
    for (const [name, pageSize] of Object.entries(sizes)) {
      const connection = store.connect(name);
      expect(connection.pragma("page_size", { simple: true })).toBe(pageSize);
      expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
      expect(connection.prepare("SELECT count(*) FROM item").pluck().get()).toBe(101);
    }
    await store.closeAsync();
  });
});

describe("an attached database that is empty", () => {
  const script = "ATTACH 'small' AS small; CREATE TABLE small.item(id INTEGER PRIMARY KEY)";

  test("is made with its own page size", async () => {
    const store = openStore("", { ...SMALL_STORE, storage: new SimulatedStorage() });
    for (const name of ["first", "second"]) {
      store.createDatabase(name);
      store.createDatabase(`${name}-small`, { pageSize: 512 });
    }
    store.connect("first").exec(script.replaceAll("'small'", "'first-small'"));
    const awaited = await store.open("second");
    await awaited.exec(script.replaceAll("'small'", "'second-small'"));
    for (const name of ["first-small", "second-small"]) {
      const connection = store.connect(name);
      expect(connection.pragma("page_size", { simple: true })).toBe(512);
      expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
      expect(connection.prepare("SELECT name FROM sqlite_schema").pluck().all()).toEqual(["item"]);
    }
    await store.closeAsync();
  });
});
