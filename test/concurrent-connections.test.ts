/** Several connections at once: on one branch, on different branches, on old versions. */
import { beforeEach, describe, expect, test } from "vitest";
import { StoreError } from "../src/errors.ts";
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
import type { Database } from "../src/store/database.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SMALL_STORE } from "./store-workload.ts";

let storage: SimulatedStorage;
let store: Store;
let shop: Database;

beforeEach(() => {
  storage = new SimulatedStorage();
  store = openStore("", { ...SMALL_STORE, storage });
  shop = store.createDatabase("shop");
  store.connect("shop").exec(`
    CREATE TABLE item(id INTEGER PRIMARY KEY, value TEXT);
    INSERT INTO item VALUES (1, 'one'), (2, 'two'), (3, 'three')`);
});

function values(connection: StoreConnection, table = "item"): unknown[] {
  return connection.prepare(`SELECT value FROM ${table} ORDER BY id`).pluck().all();
}

function errorOf(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return null;
}

function sqliteCodeOf(action: () => unknown): string | null {
  const error = errorOf(action);
  return error instanceof SqliteError ? error.code : null;
}

function storeCodeOf(action: () => unknown): string | null {
  const error = errorOf(action);
  return error instanceof StoreError ? error.code : null;
}

describe("readers", () => {
  test("an open iterator keeps its snapshot while another connection commits", () => {
    const reader = store.connect("shop");
    const writer = store.connect("shop");
    const iterator = reader.prepare("SELECT value FROM item ORDER BY id").pluck().iterate();
    expect(iterator.next().value).toBe("one");
    writer.exec("UPDATE item SET value = 'changed'; DELETE FROM item WHERE id = 3");
    store.checkpoint();
    writer.exec("DROP TABLE item; VACUUM");
    expect([...iterator]).toEqual(["two", "three"]);
    expect(() => values(reader)).toThrow("no such table: item");
  });

  test("a read transaction reads one version however much is committed meanwhile", () => {
    const reader = store.connect("shop");
    const writer = store.connect("shop");
    reader.exec("BEGIN");
    const before = values(reader);
    const version = reader.prepare("SELECT bough_version()").pluck();
    const atStart = version.get();
    for (let id = 10; id < 60; id++) {
      writer.prepare("INSERT INTO item VALUES (?, ?)").run(id, "x".repeat(2000));
      expect(values(reader)).toEqual(before);
      expect(version.get()).toBe(atStart);
    }
    reader.exec("COMMIT");
    expect(values(reader)).toHaveLength(53);
    expect(version.get()).toBe(shop.branch().head.version);
  });

  test("many old versions are read at once, while the branch goes on", () => {
    const writer = store.connect("shop");
    for (let id = 4; id <= 30; id++) writer.prepare("INSERT INTO item VALUES (?, 'v')").run(id);
    const old = Array.from({ length: 29 }, (_, index) => store.connect(`shop@${index + 1}`));
    const iterators = old.slice(1).map((one) => one.prepare("SELECT id FROM item").iterate());
    for (const iterator of iterators) expect(iterator.next().value).toEqual({ id: 1 });
    writer.exec("DELETE FROM item");
    store.checkpoint();
    writer.exec("INSERT INTO item VALUES (1, 'again')");
    for (const [index, iterator] of iterators.entries())
      expect([...iterator], `version ${index + 2}`).toHaveLength(2 + index);
    expect(values(old[0]!)).toEqual([]);
  });

  test("a schema change by another connection reaches prepared statements", () => {
    const reader = store.connect("shop");
    const all = reader.prepare("SELECT * FROM item WHERE id = 1");
    expect(all.get()).toEqual({ id: 1, value: "one" });
    store.connect("shop").exec("ALTER TABLE item ADD COLUMN extra DEFAULT 7");
    expect(all.get()).toEqual({ id: 1, value: "one", extra: 7 });
  });
});

describe("writers", () => {
  test("the second writer of a branch gets SQLITE_BUSY until the first has ended", () => {
    const first = store.connect("shop");
    const second = store.connect("shop");
    first.exec("BEGIN IMMEDIATE");
    expect(sqliteCodeOf(() => second.exec("BEGIN IMMEDIATE"))).toBe("SQLITE_BUSY");
    expect(sqliteCodeOf(() => second.exec("INSERT INTO item VALUES (4, 'four')"))).toBe(
      "SQLITE_BUSY",
    );
    expect(values(second)).toHaveLength(3);
    first.exec("ROLLBACK");
    second.exec("INSERT INTO item VALUES (4, 'four')");
    expect(values(first)).toHaveLength(4);
  });

  test("a transaction that has read an older version cannot write: SQLITE_BUSY_SNAPSHOT", () => {
    const first = store.connect("shop");
    const second = store.connect("shop");
    second.exec("BEGIN");
    expect(values(second)).toHaveLength(3);
    first.exec("INSERT INTO item VALUES (4, 'four')");
    expect(sqliteCodeOf(() => second.exec("INSERT INTO item VALUES (5, 'five')"))).toBe(
      "SQLITE_BUSY_SNAPSHOT",
    );
    expect(values(second)).toHaveLength(3);
    second.exec("ROLLBACK");
    second.exec("INSERT INTO item VALUES (5, 'five')");
    expect(values(first)).toHaveLength(5);
  });

  test("writers of different branches do not see each other", () => {
    shop.createBranch("dev");
    const main = store.connect("shop");
    const dev = store.connect("shop/dev");
    main.exec("BEGIN IMMEDIATE; INSERT INTO item VALUES (4, 'main')");
    dev.exec("BEGIN IMMEDIATE; INSERT INTO item VALUES (4, 'dev')");
    dev.exec("COMMIT");
    main.exec("COMMIT");
    expect([values(main).at(-1), values(dev).at(-1)]).toEqual(["main", "dev"]);
    expect(shop.branch("dev").head.version).toBeLessThan(shop.branch().head.version);
  });

  test("one connection that attaches its own branch cannot write it twice at once", () => {
    const connection = store.connect("shop");
    connection.exec("ATTACH 'shop' AS twin; BEGIN; INSERT INTO main.item VALUES (4, 'four')");
    const code = sqliteCodeOf(() => connection.exec("INSERT INTO twin.item VALUES (5, 'five')"));
    expect(code).toBe("SQLITE_BUSY");
    connection.exec("COMMIT");
    expect(values(connection, "twin.item")).toHaveLength(4);
  });

  test("a transaction that locks two branches and writes one makes one version", () => {
    shop.createBranch("dev");
    const connection = store.connect("shop");
    connection.exec("ATTACH 'shop/dev' AS dev");
    const { version } = shop;
    connection.exec("BEGIN IMMEDIATE; INSERT INTO main.item VALUES (4, 'four'); COMMIT");
    expect(shop.version).toBe(version + 1);
    expect(shop.branch("dev").head.version).toBeLessThan(shop.version);
    connection.exec("BEGIN; DELETE FROM dev.item; ROLLBACK");
    expect(values(connection, "dev.item")).toHaveLength(3);
  });
});

describe("a branch that changes under open connections", () => {
  test("a reset shows in open connections, also when counters and sizes agree", () => {
    shop.createBranch("dev");
    const main = store.connect("shop");
    const dev = store.connect("shop/dev");
    // The same change counter, page count and freelist on both branches: only the commit tells them apart.
    main.exec("UPDATE item SET value = 'main' WHERE id = 1");
    dev.exec("UPDATE item SET value = 'devs' WHERE id = 1");
    expect(values(main)[0]).toBe("main");
    shop.branch().reset({ to: "shop/dev" });
    expect(values(main)[0]).toBe("devs");
    main.exec("UPDATE item SET value = 'next' WHERE id = 2");
    expect(values(main)).toEqual(["devs", "next", "three"]);
    expect(values(dev)).toEqual(["devs", "two", "three"]);
    expect(main.pragma("integrity_check", { simple: true })).toBe("ok");
  });

  test("a restore shows too, and back again", () => {
    const main = store.connect("shop");
    const { version } = shop;
    main.exec("UPDATE item SET value = 'late' WHERE id = 1");
    for (let round = 0; round < 3; round++) {
      const backup = shop.branch().restore({ to: `shop@${version}` });
      expect(values(main)[0]).toBe("one");
      shop.branch().reset({ to: backup.revision });
      expect(values(main)[0]).toBe("late");
    }
  });

  test("a reader keeps its snapshot across a reset, and cannot write on it", () => {
    const reader = store.connect("shop");
    store.connect("shop").exec("DELETE FROM item");
    reader.exec("BEGIN");
    expect(values(reader)).toEqual([]);
    shop.branch().reset({ to: "shop@2" });
    expect(values(reader)).toEqual([]);
    const code = sqliteCodeOf(() => reader.exec("INSERT INTO item VALUES (9, 'nine')"));
    expect(code).toBe("SQLITE_BUSY_SNAPSHOT");
    reader.exec("COMMIT");
    expect(values(reader)).toEqual(["one", "two", "three"]);
  });

  test("a transaction that writes keeps its branch from being reset, restored and deleted", () => {
    const dev = shop.createBranch("dev");
    const writer = store.connect("shop/dev");
    writer.exec("BEGIN; DELETE FROM item");
    expect(storeCodeOf(() => dev.reset())).toBe("BRANCH_BUSY");
    expect(storeCodeOf(() => dev.restore({ to: "shop@1" }))).toBe("BRANCH_BUSY");
    expect(storeCodeOf(() => dev.delete())).toBe("BRANCH_BUSY");
    expect(storeCodeOf(() => shop.delete())).toBe("BRANCH_BUSY");
    writer.exec("COMMIT");
    expect(values(writer)).toEqual([]);
    dev.reset();
    expect(values(writer)).toHaveLength(3);
    dev.delete();
  });

  test("a connection on a deleted branch says so, and works again after undelete", () => {
    shop.createBranch("dev");
    const connection = store.connect("shop/dev");
    const reader = store.connect("shop/dev");
    reader.exec("BEGIN");
    expect(values(reader)).toHaveLength(3);
    shop.branch("dev").delete();
    expect(errorOf(() => values(connection))).toMatchObject({
      code: "BRANCH_NOT_FOUND",
      message: 'Cannot use branch "shop/dev": it was deleted',
    });
    expect(storeCodeOf(() => connection.exec("DELETE FROM item"))).toBe("BRANCH_NOT_FOUND");
    expect(values(reader)).toHaveLength(3);
    reader.exec("COMMIT");
    expect(storeCodeOf(() => values(reader))).toBe("BRANCH_NOT_FOUND");
    shop.undeleteBranch("dev");
    connection.exec("DELETE FROM item WHERE id = 1");
    expect(values(reader)).toEqual(["two", "three"]);
  });

  test("a rename does not disturb connections, and old revisions outlive their branch", () => {
    shop.createBranch("dev");
    const connection = store.connect("shop/dev");
    connection.exec("INSERT INTO item VALUES (4, 'four')");
    const old = store.connect(`shop/dev@${shop.version}`);
    connection.exec("DELETE FROM item");
    shop.branch("dev").rename("next");
    connection.exec("INSERT INTO item VALUES (5, 'five')");
    expect(values(connection)).toEqual(["five"]);
    const names = connection.prepare("SELECT bough_database() AS d, bough_branch() AS b").get();
    expect(names).toEqual({ d: "shop", b: "next" });
    shop.branch("next").delete();
    store.checkpoint();
    expect(values(old)).toHaveLength(4);
  });

  test("resetting a branch to its parent never takes another branch of the parent's name", () => {
    shop.createBranch("parent");
    const child = shop.createBranch("child", { from: "shop/parent" });
    child.delete();
    shop.branch("parent").delete();
    shop.createBranch("parent", { from: "shop@1" });
    const undeleted = shop.undeleteBranch("child");
    expect(storeCodeOf(() => undeleted.reset())).toBe("BRANCH_NOT_FOUND");
    expect(values(store.connect("shop/child"))).toHaveLength(3);
  });
});

describe("revisions that cannot be written", () => {
  const WRITES = [
    "INSERT INTO item VALUES (9, 'nine')",
    "UPDATE item SET value = 'x'",
    "DELETE FROM item",
    "CREATE TABLE other(a)",
    "PRAGMA user_version = 5",
    "VACUUM",
    "BEGIN IMMEDIATE; DELETE FROM item",
  ];

  test.each(WRITES)("a fixed version refuses %s with READ_ONLY", (sql) => {
    const connection = store.connect("shop@2");
    expect(errorOf(() => connection.exec(sql))).toMatchObject({
      code: "READ_ONLY",
      message: expect.stringContaining("create a branch from it to change it") as unknown,
    });
    if (connection.inTransaction) connection.exec("ROLLBACK");
    expect(values(connection)).toHaveLength(3);
  });

  test.each(WRITES)("a read-only connection refuses %s", (sql) => {
    const connection = store.connect("shop", { readonly: true });
    const error = errorOf(() => connection.exec(sql));
    expect(error).toBeInstanceOf(Error);
    expect(["READ_ONLY", "SQLITE_READONLY"]).toContain((error as StoreError).code);
    expect(values(connection)).toHaveLength(3);
    expect(shop.version).toBe(2);
  });

  test("an attached version refuses writes, and the transaction on the branch goes on", () => {
    const connection = store.connect("shop");
    connection.exec("ATTACH 'shop@2' AS old");
    connection.exec("BEGIN; INSERT INTO main.item VALUES (4, 'four')");
    expect(storeCodeOf(() => connection.exec("DELETE FROM old.item"))).toBe("READ_ONLY");
    expect(connection.inTransaction).toBe(true);
    connection.exec("COMMIT");
    expect(values(connection, "old.item")).toHaveLength(3);
    expect(values(connection)).toHaveLength(4);
    const added = connection
      .prepare("SELECT value FROM main.item EXCEPT SELECT value FROM old.item")
      .pluck();
    expect(added.all()).toEqual(["four"]);
  });
});

describe("an attached version beside a branch that is written", () => {
  test.each(["IMMEDIATE", "EXCLUSIVE"])("does not get in the way of BEGIN %s", (kind) => {
    const connection = store.connect("shop");
    connection.exec("DELETE FROM item WHERE id = 1; ATTACH 'shop@2' AS old");
    connection.exec(`BEGIN ${kind}; INSERT INTO item SELECT * FROM old.item WHERE id = 1; COMMIT`);
    expect(values(connection)).toEqual(["one", "two", "three"]);
    expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
  });
});

describe("deferred commits", () => {
  test("many share few syncs, and every one is durable when its promise resolves", async () => {
    const connections = Array.from({ length: 16 }, (_, index) => {
      shop.createBranch(`b${index}`);
      return store.connect(`shop/b${index}`);
    });
    storage.clearTrace();
    const results = connections.map((connection, index) =>
      connection.durably(() =>
        connection.prepare("INSERT INTO item VALUES (4, ?)").run(`b${index}`),
      ),
    );
    expect(values(connections[0]!)).toHaveLength(4); // Seen before it is durable.
    for (const { changes } of await Promise.all(results)) expect(changes).toBe(1);
    const { length } = storage.trace.filter(({ path }) => path.startsWith("log/"));
    expect(length, JSON.stringify(storage.trace)).toBeLessThan(16);
    const after = storage.copyAfterCrash(new Random(1));
    const reopened = openStore("", { ...SMALL_STORE, storage: after });
    for (let index = 0; index < 16; index++)
      expect(values(reopened.connect(`shop/b${index}`)).at(-1)).toBe(`b${index}`);
  });

  test("after a power loss the deferred commits that are left are the first ones, whole", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const disk = new SimulatedStorage({ seed });
      const first = openStore("", { ...SMALL_STORE, storage: disk });
      first.createDatabase("shop");
      const writer = first.connect("shop");
      writer.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, value TEXT)");
      const insert = writer.prepare("INSERT INTO item VALUES (?, hex(zeroblob(200)))");
      const durable: number[] = [];
      disk.crashAt({ kinds: ["write", "sync"], count: seed });
      const all = Array.from({ length: 40 }, async (_, id) => {
        await writer.durably(() => insert.run(id));
        durable.push(id);
        if (id % 7 === 0)
          await writer.durably(() => insert.run(100 + id)).then(() => durable.push(100 + id));
      });
      await Promise.allSettled(all);
      const second = openStore("", {
        ...SMALL_STORE,
        storage: disk.copyAfterCrash(new Random(seed)),
      });
      const ids = second.connect("shop").prepare("SELECT id FROM item ORDER BY id").pluck().all();
      for (const id of durable) expect(ids, `seed ${seed}`).toContain(id);
      const early = ids.filter((id) => Number(id) < 40);
      expect(early, `seed ${seed}`).toEqual(early.map((_, index) => index));
      const integrity = second.connect("shop").pragma("integrity_check", { simple: true });
      expect(integrity).toBe("ok");
    }
  });

  test("a body that throws rejects and leaves nothing", async () => {
    const connection = store.connect("shop");
    const failing = connection.durably(() => {
      connection.transaction(() => {
        connection.exec("DELETE FROM item");
        throw new RangeError("on purpose");
      })();
    });
    await expect(failing).rejects.toThrow("on purpose");
    expect(values(connection)).toHaveLength(3);
  });

  test("when the log fails, the promise rejects and the store refuses further commits", async () => {
    const connection = store.connect("shop");
    storage.failAt({ kinds: ["write", "sync"], count: 1, systemCode: "EIO", forever: true });
    const lost = connection.durably(() => connection.exec("DELETE FROM item"));
    await expect(lost).rejects.toMatchObject({ code: "IO" });
    storage.clearFaults();
    expect(storeCodeOf(() => connection.exec("INSERT INTO item VALUES (7, 'x')"))).toBe(
      "STORE_FAILED",
    );
    expect(storeCodeOf(() => store.close())).toBe("STORE_FAILED"); // A commit that others saw is lost.
    expect(store.isOpen).toBe(false);
    const reopened = openStore("", { ...SMALL_STORE, storage });
    expect(values(reopened.connect("shop"))).toHaveLength(3);
  });
});
