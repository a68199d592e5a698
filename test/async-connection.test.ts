/**
 * Connections whose calls are awaited, over a store whose bytes are in object storage. Where the runtime can suspend calls into
 * SQLite (Node 24 and later) they wait without the thread; else the thread waits, and the answers are the same.
 */
import { describe, expect, test } from "vitest";
import type { AsyncConnection } from "../src/sqlite/async-connection.ts";
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
import { openStore } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { filledStore as filled, type LazyStore, lazyStore } from "../src/testing/lazy-store.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SqlGenerator } from "./sql-generator.ts";
import { SMALL_STORE } from "./store-workload.ts";

const FIRST_SEED = 1 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const RUNS = process.env["BOUGH_TEST_LONG"] === "1" ? 100 : 3;

/** By all or iterate: what they answer must be the same. */
async function answer(connection: AsyncConnection, sql: string, random: Random): Promise<unknown> {
  try {
    const statement = await connection.prepare(sql);
    if (!statement.reader) return await statement.run();
    statement.raw().safeIntegers();
    if (random.chance(0.5)) return await statement.all();
    const rows: unknown[] = [];
    for await (const row of statement.iterate()) rows.push(row);
    return rows;
  } catch (error) {
    if (!(error instanceof SqliteError)) throw error;
    return { code: error.code, message: error.message };
  }
}

function syncAnswer(connection: StoreConnection, sql: string): unknown {
  try {
    const statement = connection.prepare(sql);
    return statement.reader ? statement.raw().safeIntegers().all() : statement.run();
  } catch (error) {
    if (!(error instanceof SqliteError)) throw error;
    return { code: error.code, message: error.message };
  }
}

describe.each([
  ["kept", 2 ** 30],
  ["parked between their calls", 0],
])("connections that are %s:", (_, connectionBytesMax) => {
  const options = { ...SMALL_STORE, cacheBytesMax: 0, connectionBytesMax };
  const filledStore = (seed: number): LazyStore => filled(seed, options);

  test("get, all, run, iterate, values, exec, pragma, columns", async () => {
    const { store } = filledStore(1);
    const connection = await store.open("shop");
    const get = await connection.prepare<[number], { id: number; name: string }>(
      "SELECT * FROM item WHERE id = ?",
    );
    expect((await get.get(7))?.name.slice(0, 6)).toBe("item 7");
    expect(await get.get(70_000)).toBeUndefined();
    expect([get.reader, get.readonly, get.source]).toEqual([
      true,
      true,
      "SELECT * FROM item WHERE id = ?",
    ]);
    expect((await get.columns()).map(({ name, table }) => [name, table])).toEqual([
      ["id", "item"],
      ["name", "item"],
    ]);
    const some = await connection.prepare("SELECT id FROM item WHERE id > ? LIMIT 3");
    expect(await some.all(10)).toEqual([{ id: 11 }, { id: 12 }, { id: 13 }]);
    expect(await some.values(10)).toEqual([[11], [12], [13]]);
    expect(await some.pluck().all(10)).toEqual([11, 12, 13]);
    expect(await some.safeIntegers().all(10)).toEqual([11n, 12n, 13n]);
    const insert = await connection.prepare("INSERT INTO item(name) VALUES(?)");
    expect(await insert.run("new")).toEqual({ changes: 1, lastInsertRowid: 2001 });
    await expect(insert.get("x")).rejects.toThrow("does not return data");
    const returning = await connection.prepare("INSERT INTO item(name) VALUES(?) RETURNING id");
    expect(await returning.get("newer")).toEqual({ id: 2002 });
    await connection.exec("DELETE FROM item WHERE id > 2000; ANALYZE");
    expect(await connection.pragma("user_version", { simple: true })).toBe(0);
    expect(await connection.pragma("table_list('item')")).toMatchObject([{ name: "item" }]);
    const ids: number[] = [];
    const all = await connection.prepare<[], { id: number }>("SELECT id FROM item");
    for await (const { id } of all.iterate()) ids.push(id);
    expect(ids).toEqual(Array.from({ length: 2000 }, (_, index) => index + 1));
    expect(
      await (await connection.prepare("SELECT bough_branch(), bough_version()")).values(),
    ).toEqual([["main", 6]]);
    await expect(connection.prepare("SELEC")).rejects.toMatchObject({ code: "SQLITE_ERROR" });
    await expect(connection.prepare("SELECT 1; SELECT 2")).rejects.toThrow(RangeError);
    await expect(some.pluck().all()).rejects.toThrow(RangeError);
    await connection.close();
    expect(connection.open).toBe(false);
    await expect(get.get(1)).rejects.toThrow("not open");
    await expect(connection.exec("SELECT 1")).rejects.toThrow("not open");
    await store.closeAsync();
  });

  test("a transaction commits or undoes what its function did, and calls from outside wait for its end", async () => {
    const { store } = filledStore(3);
    const connection = await store.open("shop");
    const rows = await connection.prepare("SELECT count(*) FROM item");
    const insert = await connection.prepare("INSERT INTO item(name) VALUES(?)");
    const order: string[] = [];
    let begin: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const result = connection.transaction(async () => {
      await insert.run("a");
      begin();
      await connection.transaction(async () => void (await insert.run("b")));
      const undone = connection.transaction(async () => {
        await insert.run("c");
        throw new Error("no");
      });
      await expect(undone).rejects.toThrow("no");
      order.push(`inside ${String(await rows.pluck().get())}`);
      void insert.run("not awaited");
      return "done";
    });
    await begun;
    const outside = rows
      .pluck()
      .get()
      .then((count) => order.push(`outside ${String(count)}`));
    expect(await result).toBe("done");
    await outside;
    expect(order).toEqual(["inside 2002", "outside 2003"]);
    const failed = connection.transaction(
      async () => {
        await insert.run("d");
        await expect(connection.close()).rejects.toThrow("within its transaction");
        throw new Error("undo");
      },
      { mode: "immediate" },
    );
    await expect(failed).rejects.toThrow("undo");
    expect([await rows.get(), connection.inTransaction]).toEqual([2003, false]);
    await store.closeAsync();
  });

  test("commits of many connections are durable when their calls resolve, in one group or several", async () => {
    const { store } = filledStore(4);
    for (let index = 0; index < 10; index++) store.database("shop").createBranch(`b${index}`);
    const connections = await Promise.all(
      Array.from({ length: 10 }, (_, index) => store.open(`shop/b${index}`)),
    );
    const { log } = store.engine.state;
    const before = log.lastLsn;
    await Promise.all(
      connections.map(async (connection, index) => {
        const { lastInsertRowid } = await (
          await connection.prepare("INSERT INTO item(name) VALUES(?)")
        ).run(`of ${index}`);
        expect(lastInsertRowid).toBe(2001);
        expect(log.durableLsn).toBeGreaterThan(before);
      }),
    );
    expect(
      store.connect("shop/b3").prepare("SELECT name FROM item WHERE id = 2001").pluck().get(),
    ).toBe("of 3");
    expect(log.durableLsn).toBe(log.lastLsn);
    await store.closeAsync();
  });

  test("random SQL gives the same answers as on a synchronous connection, while bytes vanish", async () => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
      const random = new Random(seed);
      const local = openStore("", { ...SMALL_STORE, storage: new SimulatedStorage({ seed }) });
      const lazy = lazyStore(seed, options);
      lazy.storage.vanishChance = 0.2;
      for (const store of [local, lazy.store]) store.createDatabase("shop");
      const sync = local.connect("shop");
      const connection = await lazy.store.open("shop");
      await connection.pragma("cache_size = 3");
      const generator = new SqlGenerator(random);
      const script: string[] = [];
      const compare = async (sql: string): Promise<void> => {
        script.push(sql);
        const where = `seed ${seed}, after:\n${script.slice(-8).join(";\n")}`;
        expect(await answer(connection, sql, random), where).toEqual(syncAnswer(sync, sql));
        expect(connection.inTransaction, where).toBe(sync.inTransaction);
      };
      for (const sql of generator.opening()) await compare(sql);
      for (let count = 0; count < 120; count++) {
        await compare(generator.next());
        if (random.chance(0.1)) {
          for (const store of [local, lazy.store]) store.checkpoint();
          lazy.storage.hideAll();
        }
      }
      for (const sql of generator.dump()) await compare(sql);
      expect(lazy.storage.requests).toBeGreaterThan(20);
      await lazy.store.closeAsync();
      local.close();
    }
  });

  test("50 connections read and write at random while bytes vanish and fetches fail: each branch has what it was told it has", async () => {
    const { store, storage } = filledStore(5);
    const random = new Random(5);
    storage.vanishChance = 0.2;
    const connections: AsyncConnection[] = [];
    for (let index = 0; index < 50; index++) {
      store.database("shop").createBranch(`b${index}`);
      connections.push(await store.open(`shop/b${index}`));
    }
    storage.failureChance = 0.06;
    let failures = 0;
    const work = async (connection: AsyncConnection): Promise<number> => {
      let expected = 2000;
      for (let step = 0; step < 6; step++) {
        try {
          const kind = random.integer(1, 3);
          if (kind === 1) {
            await connection.transaction(async () => {
              await connection.exec("INSERT INTO item(name) VALUES('new')");
              await connection.exec(`UPDATE item SET name = 'u' WHERE id % 97 = ${step}`);
            });
            expected++;
          } else if (kind === 2) {
            const rows = (await connection.prepare("SELECT id FROM item")).iterate();
            for (let count = random.integer(0, 300); count > 0; count--) await rows.next();
            await rows.return();
          } else {
            const statement = await connection.prepare("SELECT count(*) FROM item");
            expect(await statement.pluck().get()).toBe(expected);
          }
        } catch (error) {
          expect(error).toMatchObject({ code: "REMOTE_UNAVAILABLE" });
          failures++;
        }
      }
      return expected;
    };
    const expected = await Promise.all(connections.map(work));
    storage.failureChance = 0;
    expect(failures).toBeGreaterThan(5);
    for (const [index, connection] of connections.entries()) {
      expect(await (await connection.prepare("SELECT count(*) FROM item")).pluck().get()).toBe(
        expected[index],
      );
      expect(await connection.pragma("integrity_check", { simple: true })).toBe("ok");
    }
    await store.closeAsync();
  });

  test("attached revisions, and pragmas that the file answers", async () => {
    const { store } = filledStore(7);
    store.database("shop").createBranch("dev");
    const connection = await store.open("shop");
    await connection.exec("ATTACH 'shop/dev' AS dev; DELETE FROM dev.item WHERE id > 10");
    const statement = await connection.prepare(
      "SELECT (SELECT count(*) FROM main.item), (SELECT count(*) FROM dev.item)",
    );
    expect(await statement.values()).toEqual([[2000, 10]]);
    await connection.transaction(async () => {
      await connection.exec(
        "DELETE FROM main.item WHERE id > 20; DELETE FROM dev.item WHERE id > 5",
      );
    });
    expect(await statement.values()).toEqual([[20, 5]]);
    expect(await connection.pragma("dev.journal_mode", { simple: true })).toBe("wal");
    const old = await store.open("shop@2");
    await expect(old.exec("DELETE FROM item")).rejects.toMatchObject({ code: "READ_ONLY" });
    await expect(store.open("shop@99")).rejects.toMatchObject({ code: "VERSION_NOT_FOUND" });
    await expect(store.open("none")).rejects.toMatchObject({ code: "DATABASE_NOT_FOUND" });
    await store.closeAsync();
  });
});
