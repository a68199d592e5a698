/** Statements that compute for long: time limits, signals, and turns for others. */
import { expect, test } from "vitest";
import { canSuspend } from "../src/sqlite/suspension.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";

const ENDLESS =
  "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
const LONG = ENDLESS.replace("FROM n)", "FROM n WHERE i < 1000000)");
const timeout = expect.objectContaining({ code: "TIMEOUT", details: { timeoutMs: 20 } });

function shop(): Store {
  const store = openStore("store", { backend: "memory", storage: new SimulatedStorage() });
  store.createDatabase("shop");
  using connection = store.connect("shop");
  connection.exec(
    "CREATE TABLE item(id INTEGER PRIMARY KEY, note); INSERT INTO item VALUES(1, 'a')",
  );
  return store;
}

test("a synchronous connection: the statement ends with TIMEOUT, the next one runs", () => {
  using store = shop();
  using connection = store.connect("shop", { statementTimeoutMs: 20 });
  expect(() => connection.prepare(ENDLESS).get()).toThrow(timeout);
  expect(() => connection.exec(ENDLESS)).toThrow(timeout);
  expect(() => connection.exec(`INSERT INTO item ${ENDLESS}, 1`)).toThrow();
  expect(connection.prepare("SELECT count(*) FROM item").pluck().get()).toBe(1);
});

test("a write that is ended rolls its transaction back", () => {
  using store = shop();
  using connection = store.connect("shop", { statementTimeoutMs: 20 });
  connection.exec("BEGIN; INSERT INTO item VALUES(2, 'b')");
  expect(() => connection.exec(`INSERT INTO item SELECT 3, (${ENDLESS})`)).toThrow(timeout);
  expect(connection.inTransaction).toBe(false);
  expect(connection.prepare("SELECT count(*) FROM item").pluck().get()).toBe(1);
});

test("an awaited statement with timeoutMs; others of the connection have none", async () => {
  await using store = shop();
  const connection = await store.open("shop");
  const statement = await connection.prepare(ENDLESS, { timeoutMs: 20 });
  await expect(statement.get()).rejects.toEqual(timeout);
  await expect(connection.exec(ENDLESS, { timeoutMs: 20 })).rejects.toEqual(timeout);
  expect(await (await connection.prepare(LONG)).pluck().get()).toBe(1_000_000);
});

test("statementTimeoutMs of an awaited connection", async () => {
  await using store = shop();
  const connection = await store.open("shop", { statementTimeoutMs: 20 });
  await expect(connection.exec(ENDLESS)).rejects.toEqual(timeout);
  expect(await (await connection.prepare("SELECT count(*) FROM item")).pluck().get()).toBe(1);
});

test("limits that are no times are refused", () => {
  using store = shop();
  expect(() => store.connect("shop", { statementTimeoutMs: 0 })).toThrow(RangeError);
});

test.skipIf(!canSuspend)("a signal ends a statement that computes, with its reason", async () => {
  await using store = shop();
  const connection = await store.open("shop");
  const controller = new AbortController();
  const running = connection.exec(ENDLESS, { signal: controller.signal });
  const reason = new Error("given up");
  setImmediate(() => setImmediate(() => controller.abort(reason)));
  await expect(running).rejects.toBe(reason);
  expect(await (await connection.prepare("SELECT count(*) FROM item")).pluck().get()).toBe(1);
});

test.skipIf(!canSuspend)(
  "a transaction whose function computes for ever ends at its time limit",
  async () => {
    await using store = shop();
    const running = store.transact("shop", async (tx) => await tx.all(ENDLESS), { timeoutMs: 50 });
    await expect(running).rejects.toMatchObject({ code: "TIMEOUT" });
  },
);

test.skipIf(!canSuspend)("while one computes others have their turns", async () => {
  await using store = shop();
  const [hot, other] = [await store.open("shop"), await store.open("shop")];
  const controller = new AbortController();
  let isRunning = true;
  const running = hot
    .exec(ENDLESS, { signal: controller.signal })
    .catch((error: unknown) => error)
    .finally(() => (isRunning = false));
  const count = await other.prepare("SELECT count(*) FROM item");
  for (let turn = 0; turn < 20; turn++) expect(await count.pluck().get()).toBe(1);
  await other.exec("INSERT INTO item VALUES(2, 'b')");
  expect(isRunning).toBe(true);
  controller.abort(new Error("enough"));
  expect(await running).toMatchObject({ message: "enough" });
});
