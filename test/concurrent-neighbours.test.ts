/** BEGIN CONCURRENT beside plain writers, with savepoints, open statements and attached databases, and the ways to write it. */
import { beforeEach, describe, expect, test } from "vitest";
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
import type { Database } from "../src/store/database.ts";
import type { AsyncConnection } from "../src/sqlite/async-connection.ts";
import type { Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { Random } from "../src/testing/random.ts";
import { ConflictError } from "../src/transaction/conflict.ts";
import {
  begin,
  expectConflict,
  expectSound,
  value,
  values,
  openPair,
} from "./concurrent-fixture.ts";

let store: Store;
let shop: Database;
let one: StoreConnection;
let two: StoreConnection;

function open(...parameters: Parameters<typeof openPair>): void {
  ({ store, shop, one, two } = openPair(...parameters));
}

beforeEach(() => open());

describe("beside plain writers", () => {
  test("COMMIT is busy while one is open, the transaction stays, and commits when it is repeated", () => {
    begin(one);
    one.exec("UPDATE a SET v = -1 WHERE id = 1");
    two.exec("BEGIN IMMEDIATE");
    expect(() => one.exec("COMMIT")).toThrow(expect.objectContaining({ code: "SQLITE_BUSY" }));
    expect(one.inTransaction).toBe(true);
    expect(value(one, "SELECT v FROM a WHERE id = 1")).toBe(-1);
    two.exec("UPDATE b SET v = -1 WHERE id = 1; COMMIT");
    one.exec("COMMIT");
    expect(value(two, "SELECT (SELECT min(v) FROM a) + (SELECT min(v) FROM b)")).toBe(-2);
  });

  test("one that has written more than SQLite's cache holds cannot be kept open", async () => {
    one.pragma("cache_size = 5");
    begin(one);
    one.exec("UPDATE a SET note = upper(note) || '!'");
    two.exec("BEGIN IMMEDIATE");
    expect(() => one.exec("COMMIT")).toThrow("too large to be kept open");
    expect(one.inTransaction).toBe(false);
    two.exec("UPDATE b SET v = 0 WHERE id = 1; COMMIT");
    expect(value(one, "SELECT max(length(note)) FROM a")).toBe(100);
    await expectSound(store);
  });

  test("a prepared COMMIT that was busy can be run again", () => {
    const commit = one.prepare("COMMIT");
    begin(one);
    one.exec("UPDATE a SET v = -1 WHERE id = 1");
    two.exec("BEGIN IMMEDIATE");
    for (let tries = 0; tries < 3; tries++)
      expect(() => commit.run()).toThrow(expect.objectContaining({ code: "SQLITE_BUSY" }));
    two.exec("ROLLBACK");
    commit.run();
    expect(one.inTransaction).toBe(false);
  });

  test("what one commits is compared like anything else", () => {
    begin(one);
    one.exec("UPDATE b SET v = v + 1 WHERE id = 1");
    two.exec("UPDATE b SET v = v + 1 WHERE id = 1");
    expectConflict(one, "b");
  });

  test("a plain transaction that has read before a concurrent one commits cannot write", () => {
    two.exec("BEGIN; SELECT * FROM a");
    begin(one);
    one.exec("UPDATE b SET v = 0 WHERE id = 1; COMMIT");
    expect(() => two.exec("DELETE FROM a")).toThrow(
      expect.objectContaining({ code: "SQLITE_BUSY_SNAPSHOT" }),
    );
    two.exec("ROLLBACK; DELETE FROM a");
  });

  test("one connection takes turns: its cache is never of another state", async () => {
    const random = new Random(5);
    const third = store.connect("shop");
    let commits = 0;
    for (let turn = 0; turn < 60; turn++) {
      begin(one);
      one.prepare("UPDATE a SET v = ? WHERE id = ?").run(turn, random.integer(1, 400));
      one.exec("INSERT INTO a SELECT max(id) + 1, 0, hex(zeroblob(1500)) FROM a");
      two
        .prepare("UPDATE b SET note = hex(zeroblob(?)) WHERE id = ?")
        .run(random.integer(0, 4000), random.integer(1, 400));
      try {
        one.exec("COMMIT");
        commits++;
      } catch (error) {
        expect(error).toBeInstanceOf(ConflictError); // The plain writer has taken the same free page.
      }
      if (random.chance(0.5))
        one.exec(random.pick(["BEGIN IMMEDIATE", "BEGIN", "BEGIN CONCURRENT"]));
      one.exec("DELETE FROM b WHERE id = (SELECT max(id) FROM b)");
      if (one.inTransaction) one.exec(random.pick(["COMMIT", "ROLLBACK"]));
      for (const sql of [
        "SELECT sum(v), sum(length(note)), count(*) FROM a",
        "SELECT sum(v), sum(length(note)), count(*) FROM b",
      ]) {
        const fresh = store.connect("shop");
        const expected = fresh.prepare(sql).raw().all();
        fresh.close();
        expect([one, two, third].map((connection) => connection.prepare(sql).raw().all())).toEqual([
          expected,
          expected,
          expected,
        ]);
      }
    }
    expect(commits).toBeGreaterThan(20);
    await expectSound(store);
  });
});

describe("inside of a transaction", () => {
  test.each([
    ["in memory", 4 * 1024 * 1024],
    ["in chunks", 16 * 1024],
  ])(
    "ROLLBACK TO takes pages back, also those written behind the end, %s",
    async (_, transactionBytesMax) => {
      open({ transactionBytesMax });
      one.pragma("cache_size = 5");
      begin(one, two);
      one.exec("SAVEPOINT s; INSERT INTO a SELECT 1000 + id, id, note || note FROM a");
      one.exec("ROLLBACK TO s; UPDATE a SET v = -1 WHERE id = 3");
      two.exec("INSERT INTO b SELECT 1000 + id, id, note || note FROM b; COMMIT");
      one.exec("COMMIT");
      expect(value(one, "SELECT count(*) || ' ' || min(v) FROM a")).toBe("400 -1");
      expect(value(one, "SELECT count(*) || ' ' || sum(length(note)) FROM b")).toBe("800 120000");
      await expectSound(store);
    },
  );

  test("large ones put pages into chunks and are merged", async () => {
    open({ transactionBytesMax: 16 * 1024 });
    one.pragma("cache_size = 5");
    begin(one, two);
    one.exec("UPDATE a SET note = upper(note) || '!', v = -v; DELETE FROM a WHERE id > 350");
    two.exec("UPDATE b SET note = 'x' WHERE id = 1; COMMIT");
    one.exec("COMMIT");
    expect(value(two, "SELECT count(*) || ' ' || sum(v) || ' ' || max(length(note)) FROM a")).toBe(
      "350 -61425 101",
    );
    expect(value(two, "SELECT note FROM b WHERE id = 1")).toBe("x");
    await expectSound(store);
  });

  test("frees of large ones, under an old freelist, are all found again", async () => {
    open({ transactionBytesMax: 8 * 1024 }, "", 512);
    one.exec("UPDATE b SET note = hex(zeroblob(1000)); DELETE FROM b WHERE id < 100");
    one.pragma("cache_size = 5");
    const old = Number(one.pragma("freelist_count", { simple: true }));
    expect(old).toBeGreaterThan(100);
    begin(two, one);
    two.exec("UPDATE a SET v = 0 WHERE id = 1");
    one.exec("DELETE FROM b WHERE length(note) > 0");
    const freed = Number(one.pragma("freelist_count", { simple: true }));
    // More than one trunk of its own.
    expect(freed).toBeGreaterThan(300);
    two.exec("COMMIT");
    one.exec("COMMIT");
    expect(two.pragma("freelist_count", { simple: true })).toBe(old + freed);
    await expectSound(store);
  });

  test("too large to be moved behind another one's pages is a conflict that says so", async () => {
    open({ transactionBytesMax: 16 * 1024 });
    one.pragma("cache_size = 5");
    begin(one, two);
    one.exec("INSERT INTO a SELECT 1000 + id, id, note FROM a");
    two.exec("INSERT INTO b SELECT 1000 + id, id, note FROM b; COMMIT");
    expect(() => one.exec("COMMIT")).toThrow("too large to be moved");
    expect(value(one, "SELECT count(*) FROM a")).toBe(400);
    await expectSound(store);
  });

  test.each([
    ["merged", "UPDATE b SET v = 0 WHERE id = 1"],
    ["moved behind", "INSERT INTO b SELECT 1000 + id, id, note FROM b"],
  ])("statements that are open at COMMIT read on as before: %s", (_, other) => {
    one.pragma("cache_size = 2");
    begin(one);
    one.exec(
      "UPDATE a SET note = 'n' || id WHERE id % 2 = 0; INSERT INTO a SELECT 1000 + id, id, note FROM a",
    );
    const expected = values(one, "SELECT note FROM a");
    const iterator = one.prepare("SELECT note FROM a").pluck().iterate();
    const read = [iterator.next().value];
    two.exec(other);
    one.unsafeMode().exec("COMMIT");
    for (let turn = 0; turn < 70; turn++)
      two.prepare("UPDATE a SET note = ? WHERE id > ?").run("z".repeat(turn), turn * 5);
    store.checkpoint();
    store.gc();
    expect([...read, ...iterator]).toEqual(expected);
    expect(value(one, "SELECT note FROM a WHERE id = 400")).toBe("z".repeat(69));
  });

  test("a statement that was open before makes it a plain one", () => {
    const iterator = one.prepare("SELECT * FROM b").iterate();
    iterator.next();
    one.unsafeMode().exec("BEGIN CONCURRENT; UPDATE a SET v = 0 WHERE id = 1");
    expect(() => two.exec("UPDATE b SET v = 0 WHERE id = 1")).toThrow(
      expect.objectContaining({ code: "SQLITE_BUSY" }),
    );
    one.exec("COMMIT");
    iterator.return?.();
    two.exec("UPDATE b SET v = 0 WHERE id = 1");
  });

  test("nested BEGIN fails as in SQLite, and the transaction goes on", () => {
    begin(one);
    for (const sql of ["BEGIN", "BEGIN CONCURRENT"])
      expect(() => one.exec(sql)).toThrow("cannot start a transaction within a transaction");
    one.exec("UPDATE a SET v = 0 WHERE id = 1");
    two.exec("UPDATE b SET v = 0 WHERE id = 1");
    one.exec("COMMIT");
  });

  test("a failed BEGIN CONCURRENT in a plain transaction leaves that a plain one", () => {
    one.exec("BEGIN");
    expect(() => one.exec("BEGIN CONCURRENT")).toThrow("within a transaction");
    one.exec("UPDATE a SET v = 0 WHERE id = 1");
    expect(() => two.exec("BEGIN IMMEDIATE")).toThrow(
      expect.objectContaining({ code: "SQLITE_BUSY" }),
    );
    one.exec("COMMIT");
  });

  test.each([
    [
      "exec, in a script with comments",
      (connection: StoreConnection) =>
        connection.exec("SELECT 1; /* now */ BEGIN -- c\n CONCURRENT; -- and\n SELECT 2"),
    ],
    [
      "prepare",
      (connection: StoreConnection) =>
        connection.prepare("/* it is */ begin /**/ concurrent").run(),
    ],
    [
      "a cached statement",
      (connection: StoreConnection) => {
        for (let turn = 0; turn < 3; turn++)
          if (connection.prepare("BEGIN CONCURRENT").run().changes === 0)
            connection.exec("ROLLBACK");
        connection.prepare("BEGIN CONCURRENT").run();
      },
    ],
  ])("begins by %s", (_, start) => {
    start(one);
    one.exec("UPDATE a SET v = 0 WHERE id = 1");
    two.exec("BEGIN IMMEDIATE; UPDATE b SET v = 0 WHERE id = 1; COMMIT");
    one.exec("COMMIT");
    // The next transaction is a plain one again.
    one.exec("BEGIN; UPDATE a SET v = 0 WHERE id = 1");
    expect(() => two.exec("BEGIN IMMEDIATE")).toThrow(
      expect.objectContaining({ code: "SQLITE_BUSY" }),
    );
    one.exec("COMMIT");
  });

  test("transaction(fn).concurrent commits, throws conflicts, and nests as savepoints", () => {
    const add = one.transaction((by: number, other: () => void) => {
      one.prepare("UPDATE a SET v = v + ? WHERE id = 1").run(by);
      other();
    });
    add.concurrent(5, () => two.exec("UPDATE b SET v = 0 WHERE id = 1"));
    expect(value(two, "SELECT v FROM a WHERE id = 1")).toBe(6);
    const conflicting = (): void => void two.exec("UPDATE a SET v = 100 WHERE id = 1");
    expect(() => add.concurrent(5, conflicting)).toThrow(ConflictError);
    expect(one.inTransaction).toBe(false);
    const outer = one.transaction(() => {
      add.concurrent(1, () => {});
      expect(() =>
        add.concurrent(1, () => {
          throw new RangeError("no");
        }),
      ).toThrow("no");
    });
    outer.concurrent();
    expect(value(two, "SELECT v FROM a WHERE id = 1")).toBe(101);
  });
});

describe("awaited connections", () => {
  test("whose calls interleave commit side by side; the loser of a row is rejected, and goes on", async () => {
    const clients = await Promise.all(Array.from({ length: 4 }, () => store.open("shop")));
    const add = (client: AsyncConnection, id: number): Promise<unknown> =>
      client.transaction(
        async () => {
          const statement = await client.prepare("SELECT v FROM b WHERE id = ?");
          const before = Number(await statement.pluck().get(id));
          await Promise.resolve();
          const update = await client.prepare("UPDATE b SET v = ? WHERE id = ?");
          await update.run(before + 1000, id);
        },
        { mode: "concurrent" },
      );
    // Far apart: on pages of their own.
    await Promise.all(clients.map((client, index) => add(client, 1 + index * 110)));
    expect(values(one, "SELECT id FROM b WHERE v > 1000 ORDER BY id")).toEqual([1, 111, 221, 331]);
    const outcomes = await Promise.allSettled(clients.map((client) => add(client, 1)));
    const failed = outcomes.filter(({ status }) => status === "rejected");
    expect(failed.length).toBeGreaterThan(0);
    for (const outcome of failed)
      expect(outcome).toMatchObject({ reason: { code: "SQLITE_BUSY_SNAPSHOT", object: "b" } });
    const succeeded = outcomes.length - failed.length;
    expect(value(one, "SELECT v FROM b WHERE id = 1")).toBe(1001 + 1000 * succeeded);
    for (const client of clients) await add(client, 1);
    expect(value(one, "SELECT v FROM b WHERE id = 1")).toBe(1001 + 1000 * (succeeded + 4));
    for (const client of clients) await client.close();
  });

  test("deferred commits are merged before they are durable, and acknowledged together", async () => {
    const connections = Array.from({ length: 6 }, () => store.connect("shop"));
    begin(...connections);
    for (const [index, connection] of connections.entries())
      connection.exec(`UPDATE b SET note = 'x' WHERE id = ${1 + index * 75}`);
    const commits = connections.map((connection) =>
      connection.durably(() => connection.exec("COMMIT")),
    );
    expect(value(one, "SELECT count(*) FROM b WHERE note = 'x'")).toBe(6);
    await Promise.all(commits);
    await expectSound(store);
  });

  test.each(["off", "normal", "full"] as const)("durability %s", async (durability) => {
    const [left, right] = [
      store.connect("shop", { durability }),
      store.connect("shop", { durability }),
    ];
    begin(left, right);
    left.exec("UPDATE a SET note = 'l' WHERE id = 1; COMMIT");
    right.exec("UPDATE b SET note = 'r' WHERE id = 1; COMMIT");
    expect(
      value(left, "SELECT (SELECT note FROM a WHERE id = 1) || (SELECT note FROM b WHERE id = 1)"),
    ).toBe("lr");
    one.exec("UPDATE a SET v = -1 WHERE id = 399"); // What was not synced before is now.
    await expectSound(store);
  });
});

describe("several files", () => {
  beforeEach(() => {
    store.createDatabase("stock");
    store
      .connect("stock")
      .exec("CREATE TABLE s(id INTEGER PRIMARY KEY, v); INSERT INTO s VALUES (1, 1), (2, 2)")
      .close();
    shop.createBranch("dev");
    for (const connection of [one, two])
      connection.exec("ATTACH 'stock' AS stock; ATTACH 'shop/dev' AS dev");
  });

  const ALL =
    "UPDATE a SET v = v + 10 WHERE id = 1; UPDATE stock.s SET v = v + 10 WHERE id = 1; UPDATE dev.b SET v = v + 10 WHERE id = 1";
  const STATE =
    "SELECT (SELECT v FROM a WHERE id = 1) || ' ' || (SELECT v FROM stock.s WHERE id = 1) || ' ' || (SELECT v FROM dev.b WHERE id = 1)";

  test("commit as one, merged on each", async () => {
    begin(one);
    one.exec(ALL);
    two.exec("UPDATE b SET v = 0 WHERE id = 1; UPDATE dev.a SET v = 0 WHERE id = 1");
    one.exec("COMMIT");
    expect(value(two, STATE)).toBe("11 11 11");
    await expectSound(store);
  });

  test.each(["a", "stock.s", "dev.b"])("a conflict on %s undoes all", async (table) => {
    begin(one);
    one.exec(ALL);
    two.exec(`UPDATE ${table} SET v = v + 100 WHERE id = 1`);
    expectConflict(one);
    expect(String(value(two, STATE)).split(" ").toSorted()).toEqual(["1", "1", "101"]);
    begin(one, two);
    one.exec(`${ALL}; COMMIT`);
    two.exec("ROLLBACK");
    await expectSound(store);
  });

  test("a plain writer on one of them makes COMMIT busy, and nothing is committed", () => {
    begin(one);
    one.exec(ALL);
    const writer = store.connect("stock");
    writer.exec("BEGIN IMMEDIATE");
    expect(() => one.exec("COMMIT")).toThrow(expect.objectContaining({ code: "SQLITE_BUSY" }));
    expect(value(two, STATE)).toBe("1 1 1");
    writer.exec("ROLLBACK");
    one.exec("COMMIT");
    expect(value(two, STATE)).toBe("11 11 11");
  });

  test("a branch that is attached to itself cannot commit twice at once", () => {
    one.exec(
      "ATTACH 'shop' AS again; BEGIN CONCURRENT; UPDATE a SET v = 0 WHERE id = 1; UPDATE again.b SET v = 0 WHERE id = 1",
    );
    expect(() => one.exec("COMMIT")).toThrow(SqliteError);
    expect(one.inTransaction).toBe(false);
    expect(
      value(two, "SELECT (SELECT v FROM a WHERE id = 1) + (SELECT v FROM b WHERE id = 1)"),
    ).toBe(2);
    one.exec("UPDATE a SET v = 0 WHERE id = 1");
  });
});
