import { expect, test } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { openStore, type Store } from "./store.ts";

function openTestStore(storage: SimulatedStorage): Store {
  return openStore("", { storage, backend: "memory" });
}

test("pragmas that the store answers have their own name as column", () => {
  using store = openTestStore(new SimulatedStorage());
  store.createDatabase("shop");
  const connection = store.connect("shop", { durability: "normal" });
  expect(connection.pragma("journal_mode = delete")).toEqual([{ journal_mode: "wal" }]);
  expect(connection.prepare("PRAGMA journal_mode").all()).toEqual([{ journal_mode: "wal" }]);
  expect(connection.pragma("locking_mode = exclusive")).toEqual([{ locking_mode: "normal" }]);
  expect(connection.pragma("synchronous")).toEqual([{ synchronous: 1 }]);
});

test("PRAGMA synchronous decides anew each time whether a commit is on disk when it returns", () => {
  const storage = new SimulatedStorage();
  using store = openTestStore(storage);
  store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE item (id)");
  const insert = connection.prepare("INSERT INTO item VALUES (1)");
  const setting = (level: string): unknown =>
    connection.prepare(`PRAGMA synchronous=${level}`).run();
  const operationsOf = (work: () => void): number => {
    storage.clearTrace();
    work();
    return storage.trace.length;
  };
  for (let round = 0; round < 2; round++) {
    setting("off");
    expect(operationsOf(() => insert.run())).toBe(0);
    setting("full");
    expect(operationsOf(() => insert.run())).toBeGreaterThan(0);
  }
});

test("durably resolves when the commit survives a power loss", async () => {
  const storage = new SimulatedStorage();
  const store = openTestStore(storage);
  store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE item (id)");
  const insert = connection.prepare("INSERT INTO item VALUES (?)");
  const results = await Promise.all(
    [1, 2, 3].map((id) => connection.durably(() => insert.run(id).changes)),
  );
  expect(results).toEqual([1, 1, 1]);
  const { engine } = store;
  expect(engine.state.log.durableLsn).toBe(engine.state.log.lastLsn);
  await expect(
    connection.durably(() => {
      throw new Error("from the body");
    }),
  ).rejects.toThrow("from the body");
  await store.closeAsync();
});

test("checkpointAsync covers every commit made before it", async () => {
  await using store = openTestStore(new SimulatedStorage());
  store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE item (id)");
  const { log, catalog } = store.engine.state;
  const lsn = log.lastLsn;
  await store.checkpointAsync();
  expect(catalog.state()?.checkpointLsn).toBeGreaterThanOrEqual(lsn);
});
