/** BEGIN CONCURRENT by name: what conflicts and what does not, what is left after a failure, and who else is there. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../src/store/database.ts";
import type { Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
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

describe("two transactions on one snapshot", () => {
  test("on different tables both commit", async () => {
    begin(one, two);
    one.exec("UPDATE a SET note = 'one' WHERE id = 1");
    two.exec("UPDATE b SET note = 'two' WHERE id = 1");
    two.exec("COMMIT");
    one.exec("COMMIT");
    expect(value(one, "SELECT note FROM a WHERE id = 1")).toBe("one");
    expect(value(one, "SELECT note FROM b WHERE id = 1")).toBe("two");
    await expectSound(store);
  });

  test("lost update: the second that changes a row fails", () => {
    begin(one, two);
    for (const connection of [one, two]) connection.exec("UPDATE b SET v = v + 1 WHERE id = 7");
    one.exec("COMMIT");
    expectConflict(two, "b");
    expect(value(two, "SELECT v FROM b WHERE id = 7")).toBe(8);
  });

  test("write skew: each writes what the other has read", () => {
    begin(one, two);
    expect(value(one, "SELECT v FROM b WHERE id = 1")).toBe(1);
    expect(value(two, "SELECT v FROM a WHERE id = 1")).toBe(1);
    one.exec("UPDATE a SET v = -1 WHERE id = 1");
    two.exec("UPDATE b SET v = -1 WHERE id = 1");
    two.exec("COMMIT");
    expectConflict(one, "b");
    expect(value(one, "SELECT v FROM a WHERE id = 1")).toBe(1);
  });

  test("write skew is found though SQLite had the pages in its cache before", () => {
    expect(value(one, "SELECT v FROM b WHERE id = 1")).toBe(1);
    begin(one);
    expect(value(one, "SELECT v FROM b WHERE id = 1")).toBe(1);
    two.exec("UPDATE b SET v = -1 WHERE id = 1");
    one.exec("UPDATE a SET v = -1 WHERE id = 1");
    expectConflict(one, "b");
  });

  test.each([
    [
      "by rowid",
      "SELECT count(*) FROM a WHERE id BETWEEN 1000 AND 2000",
      "INSERT INTO a VALUES (1500, 0, '')",
    ],
    [
      "by index",
      "SELECT count(*) FROM a WHERE v BETWEEN 1000 AND 2000",
      "INSERT INTO a VALUES (900, 1500, '')",
    ],
    ["of nothing", "SELECT * FROM e", "INSERT INTO e VALUES (1)"],
  ])("phantom: a range that was read gets a row, %s", (_, read, insert) => {
    one.exec("CREATE TABLE e(id INTEGER PRIMARY KEY)");
    begin(one, two);
    one.exec(read);
    two.exec(`${insert}; COMMIT`);
    one.exec("UPDATE b SET v = 0 WHERE id = 1");
    expectConflict(one);
  });

  test("that only read neither conflict nor wait, also for a plain writer", () => {
    begin(one);
    expect(value(one, "SELECT sum(v) FROM a")).toBe(80200);
    two.exec("UPDATE a SET v = 0");
    two.exec("BEGIN IMMEDIATE; UPDATE b SET v = 0");
    expect(value(one, "SELECT sum(v) FROM a")).toBe(80200);
    expect(value(one, "SELECT sum(v) FROM b")).toBe(80200);
    one.exec("COMMIT");
    two.exec("COMMIT");
    expect(value(one, "SELECT sum(v) FROM a")).toBe(0);
  });

  test("that change nothing commit nothing", () => {
    const { version } = shop.branch().head;
    begin(one, two);
    one.exec("UPDATE a SET v = 0 WHERE id = -1");
    two.exec("UPDATE a SET v = 0 WHERE id = 1; COMMIT");
    one.exec("COMMIT");
    expect(shop.branch().head.version).toBe(version + 1);
  });

  test("that grow two tables both commit: the new pages of the second are moved", async () => {
    begin(one, two);
    const insert = (table: string): string =>
      `INSERT INTO ${table} SELECT 1000 + id, id, note || note FROM ${table}`;
    one.exec(insert("a"));
    two.exec(insert("b"));
    one.exec("COMMIT");
    two.exec("COMMIT");
    for (const table of ["a", "b"])
      expect(value(one, `SELECT count(*) || ' ' || sum(length(note)) FROM ${table}`)).toBe(
        "800 120000",
      );
    await expectSound(store);
  });

  test("that insert at different places of a large table and its index both commit", async () => {
    // Some room on each page: one that splits changes its parent.
    one.exec("CREATE INDEX b_note ON b(note); DELETE FROM b WHERE id % 3 = 0");
    begin(one, two);
    one.exec("UPDATE b SET note = '0' WHERE id = 20; INSERT INTO b VALUES (-1, 0, '00')");
    two.exec("UPDATE b SET note = 'y' WHERE id = 380; INSERT INTO b VALUES (1000, 0, 'z')");
    one.exec("COMMIT");
    two.exec("COMMIT");
    expect(values(one, "SELECT id FROM b WHERE note < '000' OR note > '1' ORDER BY id")).toEqual([
      -1, 20, 380, 1000,
    ]);
    await expectSound(store);
  });

  test("that change the same index meet there, and it is named", () => {
    begin(one, two);
    one.exec("UPDATE a SET v = 1000 WHERE id = 1");
    two.exec("UPDATE a SET v = 1001 WHERE id = 400");
    one.exec("COMMIT");
    expectConflict(two, "a_v");
  });

  test("with long overflow chains both commit", async () => {
    begin(one, two);
    one.exec("UPDATE a SET note = hex(zeroblob(50000)) WHERE id = 10");
    two.exec("UPDATE b SET note = hex(zeroblob(70000)) WHERE id = 390");
    two.exec("COMMIT");
    one.exec("COMMIT");
    expect(value(one, "SELECT length(note) FROM a WHERE id = 10")).toBe(100_000);
    expect(value(one, "SELECT length(note) FROM b WHERE id = 390")).toBe(140_000);
    await expectSound(store);
  });

  test("that delete both commit, and what both freed is on the freelist", async () => {
    begin(one, two);
    one.exec("DELETE FROM a WHERE id < 200");
    two.exec("DELETE FROM b WHERE id < 200");
    const freed = [one, two].map((connection) =>
      Number(connection.pragma("freelist_count", { simple: true })),
    );
    one.exec("COMMIT");
    two.exec("COMMIT");
    expect(freed.every((count) => count > 2)).toBe(true);
    expect(one.pragma("freelist_count", { simple: true })).toBe(freed[0]! + freed[1]!);
    await expectSound(store);
  });

  test("that come alone use the freelist, with others they leave it alone", async () => {
    one.exec("DELETE FROM a WHERE id < 200");
    const free = (): number => Number(one.pragma("freelist_count", { simple: true }));
    const before = free();
    begin(one);
    one.exec("INSERT INTO b VALUES (1001, 1, hex(zeroblob(5000))); COMMIT");
    const alone = free();
    expect(alone).toBeLessThan(before);
    begin(one, two);
    one.exec("SELECT * FROM b LIMIT 1");
    two.exec("INSERT INTO b VALUES (1002, 1, hex(zeroblob(5000))); COMMIT");
    one.exec("COMMIT");
    expect(free()).toBe(alone);
    await expectSound(store);
  });

  test("one on the freelist and one behind the end of the file both commit", async () => {
    one.exec("DELETE FROM a WHERE id < 200");
    begin(one);
    one.exec("INSERT INTO b VALUES (-1, 1, hex(zeroblob(9000)))");
    begin(two);
    two.exec(
      "UPDATE a SET note = hex(zeroblob(20000)) WHERE id = 399; DELETE FROM a WHERE id BETWEEN 300 AND 390",
    );
    one.exec("COMMIT");
    two.exec("COMMIT");
    await expectSound(store);
  });
});

describe("the whole database", () => {
  test.each([
    ["CREATE TABLE c(id)", "UPDATE b SET v = 0 WHERE id = 1"],
    ["UPDATE b SET v = 0 WHERE id = 1", "CREATE TABLE c(id)"],
    ["PRAGMA user_version = 5", "UPDATE b SET v = 0 WHERE id = 1"],
    ["UPDATE b SET v = 0 WHERE id = 1", "PRAGMA user_version = 5"],
    ["DROP INDEX a_v", "ALTER TABLE b ADD COLUMN w"],
  ])("%s before %s: the second fails", async (first, second) => {
    begin(one, two);
    one.exec(first);
    two.exec(second);
    one.exec("COMMIT");
    expectConflict(two);
    two.exec(second);
    await expectSound(store);
  });

  test("a transaction begun before a change of the schema reads the old one to its end", () => {
    begin(one);
    expect(value(one, "SELECT count(*) FROM b")).toBe(400);
    two.exec("DROP TABLE b");
    expect(value(one, "SELECT count(*) FROM b")).toBe(400);
    one.exec("COMMIT");
    expect(() => one.exec("SELECT * FROM b")).toThrow("no such table");
  });

  test("of two that make the first table one fails", () => {
    store.createDatabase("empty");
    const [left, right] = [store.connect("empty"), store.connect("empty")];
    begin(left, right);
    left.exec("CREATE TABLE l(x)");
    right.exec("CREATE TABLE r(x)");
    right.exec("COMMIT");
    expectConflict(left);
    expect(values(left, "SELECT name FROM sqlite_schema")).toEqual(["r"]);
  });

  test("VACUUM by another one is a conflict for writers", async () => {
    one.exec("DELETE FROM a WHERE id < 200");
    begin(one);
    one.exec("UPDATE b SET v = 0 WHERE id = 1");
    two.exec("VACUUM");
    expectConflict(one);
    await expectSound(store);
  });

  test("VACUUM in a concurrent transaction is refused", () => {
    begin(one);
    expect(() => one.exec("VACUUM")).toThrow("cannot VACUUM from within a transaction");
  });

  test.each(["FULL", "INCREMENTAL"])("auto_vacuum = %s: both that grow commit", async (mode) => {
    open({}, `PRAGMA auto_vacuum = ${mode}`);
    begin(one, two);
    one.exec("INSERT INTO a VALUES (1000, 1, hex(zeroblob(30000)))");
    two.exec("INSERT INTO b VALUES (1000, 1, hex(zeroblob(30000)))");
    one.exec("COMMIT");
    two.exec("COMMIT");
    begin(one, two);
    one.exec("DELETE FROM a WHERE id = 1000");
    two.exec("UPDATE b SET v = 0 WHERE id = 1");
    one.exec("COMMIT");
    if (mode === "FULL") expectConflict(two);
    else two.exec("COMMIT");
    two.exec("PRAGMA incremental_vacuum");
    await expectSound(store);
  });

  test("incremental_vacuum by another one is a conflict for writers", async () => {
    open({}, "PRAGMA auto_vacuum = INCREMENTAL");
    one.exec("DELETE FROM a");
    begin(one);
    one.exec("UPDATE b SET v = 0 WHERE id = 1");
    two.exec("PRAGMA incremental_vacuum; INSERT INTO a VALUES (1, 1, hex(zeroblob(200000)))");
    expectConflict(one);
    await expectSound(store);
  });

  test.each([512, 1024, 2048, 8192, 16384, 32768, 65536])("page size %i", async (pageSize) => {
    open({}, "", pageSize);
    begin(one, two);
    one.exec(
      "INSERT INTO a SELECT 1000 + id, id, note || note FROM a; INSERT INTO a VALUES (0, 0, hex(zeroblob(90000)))",
    );
    two.exec(
      "INSERT INTO b SELECT 1000 + id, id, note || note FROM b; DELETE FROM b WHERE id < 300",
    );
    one.exec("COMMIT");
    two.exec("COMMIT");
    expect(value(one, "SELECT (SELECT count(*) FROM a) || ' ' || (SELECT count(*) FROM b)")).toBe(
      "801 501",
    );
    await expectSound(store);
  });
});

describe("what happens to the branch meanwhile", () => {
  test("reset: a transaction that wrote fails, the next one is on the new state", () => {
    const { version } = shop.branch().head;
    one.exec("DELETE FROM a");
    begin(one);
    one.exec("INSERT INTO a VALUES (1, 2, 'late')");
    shop.branch().reset({ to: `shop@${version}` });
    expect(() => one.exec("COMMIT")).toThrow("the branch was reset since this transaction began");
    expect(one.inTransaction).toBe(false);
    expect(value(one, "SELECT count(*) FROM a")).toBe(400);
  });

  test("restore: a transaction that wrote fails, one that reads goes on to its end", () => {
    const { version } = shop.branch().head;
    one.exec("DELETE FROM a");
    begin(one, two);
    one.exec("INSERT INTO a VALUES (1, 2, 'late')");
    expect(value(two, "SELECT count(*) FROM a")).toBe(0);
    shop.branch().restore({ to: `shop@${version}` });
    expectConflict(one);
    expect(value(two, "SELECT count(*) FROM a")).toBe(0);
    two.exec("COMMIT");
    expect(value(two, "SELECT count(*) FROM a")).toBe(400);
  });

  test("import: a transaction that wrote fails, whatever it read", async () => {
    const directory = mkdtempSync(join(tmpdir(), "bough-concurrent-"));
    const path = join(directory, "shop.db");
    await store.exportFile("shop", path);
    one.exec("DELETE FROM a");
    begin(one);
    one.exec("INSERT INTO b VALUES (1000, 2, 'late')");
    await store.importFile(path, "shop");
    expect(() => one.exec("COMMIT")).toThrow("a database was imported to it");
    expect(value(one, "SELECT (SELECT count(*) FROM a) || ' ' || (SELECT count(*) FROM b)")).toBe(
      "400 400",
    );
    rmSync(directory, { recursive: true });
  });

  test("delete: a transaction that wrote fails", () => {
    shop.createBranch("dev");
    const dev = store.connect("shop/dev");
    begin(dev);
    dev.exec("INSERT INTO a VALUES (1000, 2, 'late')");
    shop.branch("dev").delete();
    expect(() => dev.exec("COMMIT")).toThrow('"shop/dev": it was deleted');
    expect(dev.inTransaction).toBe(false);
  });

  test("checkpoints, garbage collection and reopened layers change nothing", async () => {
    begin(one, two);
    one.exec("UPDATE a SET v = -1 WHERE id = 1");
    two.exec("UPDATE b SET v = -1 WHERE id = 1");
    store.checkpoint();
    two.exec("COMMIT");
    store.checkpoint();
    store.gc();
    expect(value(one, "SELECT count(*) FROM b WHERE v = -1")).toBe(0);
    expectConflict(one, "b");
    begin(one);
    one.exec("UPDATE a SET v = -1 WHERE id = 1");
    store.checkpoint();
    two.exec("UPDATE b SET v = -1 WHERE id = 300");
    store.checkpoint();
    store.gc();
    one.exec("COMMIT");
    expect(value(two, "SELECT sum(v = -1) FROM a")).toBe(1);
    await expectSound(store);
  });

  test("a fixed version and a read-only connection take BEGIN CONCURRENT for reading", () => {
    const fixed = store.connect(`shop@${shop.branch().head.version}`);
    const reader = store.connect("shop", { readonly: true });
    begin(fixed, reader);
    for (const connection of [fixed, reader]) {
      expect(value(connection, "SELECT count(*) FROM a")).toBe(400);
      expect(() => connection.exec("DELETE FROM a")).toThrow(
        /Cannot write to "shop\/main"|readonly/,
      );
      if (connection.inTransaction) connection.exec("COMMIT");
    }
  });
});
