/**
 * Connections whose calls are awaited, over a store whose bytes are in object storage. Where the runtime can suspend calls into
 * SQLite (Node 24 and later) they wait without the thread; else the thread waits, and the answers are the same.
 */
import { expect, test } from "vitest";
import { canSuspend } from "../src/sqlite/suspension.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { VanishingStorage } from "../src/testing/vanishing-storage.ts";
import { SMALL_STORE } from "./store-workload.ts";

const suspending = test.skipIf(!canSuspend);

function filledStore(seed: number, rows = 2000): { store: Store; storage: VanishingStorage } {
  const storage = new VanishingStorage(new SimulatedStorage({ seed }), {
    random: new Random(seed),
  });
  const store = openStore("", { ...SMALL_STORE, cacheBytesMax: 0, storage });
  store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  const insert = connection.prepare("INSERT INTO item VALUES(?, ?)");
  connection.transaction(() => {
    for (let id = 1; id <= rows; id++) insert.run(id, `item ${id} ${"x".repeat(190)}`);
  })();
  connection.close();
  store.checkpoint();
  storage.hideAll();
  return { store, storage };
}

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

suspending(
  "50 queries on 50 connections wait at the same time, and the thread is free",
  async () => {
    const { store, storage } = filledStore(2);
    const connections = await Promise.all(Array.from({ length: 50 }, () => store.open("shop")));
    storage.hideAll();
    storage.holdsFetches = true;
    const answers = Promise.all(
      connections.map(async (connection, index) => {
        const statement = await connection.prepare(
          "SELECT sum(id), max(length(name)) FROM item WHERE id % 50 = ?",
        );
        return await statement.values(index);
      }),
    );
    let rounds = 0;
    let most = 0;
    const progress = { isDone: false };
    void answers.then(() => (progress.isDone = true));
    while (!progress.isDone) {
      await new Promise((resolve) => setImmediate(resolve));
      most = Math.max(most, storage.heldFetches);
      rounds++;
      storage.release();
    }
    const sync = store.connect("shop");
    storage.holdsFetches = false;
    expect(await answers).toEqual(
      connections.map((_, index) =>
        sync
          .prepare("SELECT sum(id), max(length(name)) FROM item WHERE id % 50 = ?")
          .raw()
          .all(index),
      ),
    );
    expect(rounds).toBeGreaterThan(10);
    // All of them scan the same pages: what one asks for, none of the others asks for again while it is under way.
    expect(most).toBeLessThan(10);
  },
);
