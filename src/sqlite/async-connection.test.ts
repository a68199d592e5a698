import { expect, test } from "vitest";
import { MemoryVfs } from "../testing/memory-vfs.ts";
import { AsyncConnection } from "./async-connection.ts";
import { CallQueue } from "./call-queue.ts";
import type { RuntimeSource } from "./parking.ts";
import { SqliteRuntime } from "./runtime.ts";

async function opened(): Promise<{
  vfs: MemoryVfs;
  runtime: SqliteRuntime;
  connection: AsyncConnection;
}> {
  const vfs = new MemoryVfs();
  const runtime = new SqliteRuntime({ vfs, suspends: true });
  return { vfs, runtime, connection: await AsyncConnection.open(only(runtime), { name: "main" }) };
}

/** Nothing is parked. */
function only(runtime: SqliteRuntime): RuntimeSource {
  const nothing = (): void => undefined;
  return { take: () => runtime, give: nothing, idle: nothing, busy: nothing };
}

test("a trap fails the connection for good, and every call says so", async () => {
  const { vfs, runtime, connection } = await opened();
  await connection.exec("CREATE TABLE t(a)");
  const statement = await connection.prepare("SELECT * FROM t");
  vfs.onEvent = (event) => {
    if (event === "write main") runtime.heap.u8.fill(0xff);
  };
  const failed = { code: "STORE_FAILED" };
  const queued = statement.all.bind(statement);
  const trap = connection.exec("INSERT INTO t VALUES(1)");
  const behind = queued();
  await expect(trap).rejects.toMatchObject(failed);
  await expect(behind).rejects.toMatchObject(failed);
  for (const call of [
    () => statement.run(),
    () => statement.iterate().next(),
    () => statement.columns(),
    () => connection.prepare("SELECT 1"),
    () => connection.pragma("user_version"),
    () => connection.transaction(() => 1),
    () => connection.function("f", () => 1),
  ])
    await expect(call()).rejects.toMatchObject(failed);
  expect(connection.inTransaction).toBe(false);
  await connection.close();
  expect(connection.open).toBe(false);
});

test("opening and closing 200 connections on one instance leaves its memory as it was", async () => {
  const { runtime, connection } = await opened();
  await connection.exec("CREATE TABLE t(a)");
  await connection.close();
  const cycle = async (): Promise<void> => {
    const db = await AsyncConnection.open(only(runtime), { name: "main" });
    await db.function("f", (a: number) => a);
    const insert = await db.prepare("INSERT INTO t VALUES(?) RETURNING f(a)");
    await insert.get("x".repeat(1000));
    const rows = (await db.prepare("SELECT f(a) FROM t")).iterate();
    await rows.next();
    await expect(db.exec("DELETE FROM t")).rejects.toThrow("busy executing a query");
    await expect(db.prepare("SELEC")).rejects.toThrow("syntax error");
    await rows.return();
    await db.exec("DELETE FROM t");
    const left = (await db.prepare("SELECT 1")).iterate();
    await left.next();
    await db.close();
    expect(await left.return()).toEqual({ value: undefined, done: true });
  };
  for (let index = 0; index < 20; index++) await cycle();
  const size = runtime.heap.u8.length;
  const before = runtime.exports.sqlite3_malloc(8);
  for (let index = 0; index < 200; index++) await cycle();
  expect(runtime.heap.u8.length).toBe(size);
  expect(Math.abs(runtime.exports.sqlite3_malloc(8) - before)).toBeLessThan(100_000);
  expect([runtime.connections.size, runtime.functions.size]).toEqual([0, 0]);
});

test("rows before an error reach the iterator's reader, then the error does", async () => {
  const { connection } = await opened();
  await connection.function("fail_at", (value: number) => {
    if (value === 6) throw new Error("six");
    return value;
  });
  const statement = await connection.prepare(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<9) SELECT fail_at(i) FROM n",
  );
  const rows: unknown[] = [];
  const read = async (): Promise<void> => {
    for await (const row of statement.pluck().iterate()) rows.push(row);
  };
  await expect(read()).rejects.toThrow("six");
  expect(rows).toEqual([1, 2, 3, 4, 5]);
  await connection.exec("CREATE TABLE t(a)");
});

test("calls have their turns in order; one that is given up leaves the queue", async () => {
  const queue = new CallQueue();
  const order: string[] = [];
  const controller = new AbortController();
  const call = (name: string, signal?: AbortSignal): Promise<void> =>
    queue.run(async () => {
      await Promise.resolve();
      order.push(name);
      if (name === "second") throw new Error("failed");
    }, signal ?? null);
  const calls = [call("first"), call("second"), call("third", controller.signal), call("fourth")];
  controller.abort(new Error("given up"));
  const results = await Promise.allSettled(calls);
  expect(results.map(({ status }) => status)).toEqual([
    "fulfilled",
    "rejected",
    "rejected",
    "fulfilled",
  ]);
  expect(order).toEqual(["first", "second", "fourth"]);
});
