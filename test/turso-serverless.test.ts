/** The real package @tursodatabase/serverless on a server: pipelines and cursors of version 3. */
import { connect, type Connection, DatabaseError } from "@tursodatabase/serverless";
import { createClient } from "@tursodatabase/serverless/compat";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ServedDirectory } from "./server-fixture.ts";

let served: ServedDirectory;
let connection: Connection;

beforeEach(async () => {
  served = await ServedDirectory.start();
  served.store.createDatabase("shop");
  connection = connect({ url: served.url("shop") });
  await connection.exec("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
});

afterEach(async () => {
  await connection.close();
  await served[Symbol.asyncDispose]();
  expect(served.bugs).toEqual([]);
});

test("statements run, get, all and iterate, and know their columns", async () => {
  const insert = await connection.prepare("INSERT INTO t(b) VALUES (?)");
  expect(await insert.run(["x"])).toEqual({ changes: 1, lastInsertRowid: 1 });
  await insert.run(["y"]);
  const select = await connection.prepare("SELECT * FROM t WHERE a >= :least ORDER BY a");
  expect(select.columns().map(({ name, type }) => [name, type])).toEqual([
    ["a", "INTEGER"],
    ["b", "TEXT"],
  ]);
  expect(await select.get({ least: 2 })).toEqual({ a: 2, b: "y" });
  expect(await select.raw().all({ least: 1 })).toEqual([
    [1, "x"],
    [2, "y"],
  ]);
  const seen: unknown[] = [];
  for await (const row of select.raw(false).iterate({ least: 1 })) seen.push(row);
  expect(seen).toHaveLength(2);
  const exact = await connection.prepare("SELECT 9223372036854775807 AS n");
  expect(await exact.safeIntegers().get()).toEqual({ n: 9223372036854775807n });
});

test("a large result comes as a stream, whole and in order", async () => {
  const rows = await connection.all(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i, hex(zeroblob(20)) AS h FROM n",
  );
  expect(rows).toHaveLength(20_000);
  expect(rows.every((row: { i: number }, index: number) => row.i === index + 1)).toBe(true);
  // Its baton was given before the end, and goes on being good when the stream has expired.
  await served.pass(120_000);
  expect(served.server.streams.size).toBe(0);
  expect(await connection.get("SELECT count(*) AS n FROM t")).toEqual({ n: 0 });
});

test("batches without a mode, and atomic ones in each mode", async () => {
  await expect(
    connection.batch(["INSERT INTO t(a) VALUES (1)", "INSERT INTO t(a) VALUES (1)"]),
  ).rejects.toThrow("UNIQUE constraint failed: t.a");
  expect(await connection.get("SELECT count(*) AS n FROM t")).toEqual({ n: 1 });
  for (const [index, mode] of ["deferred", "immediate", "exclusive", "concurrent"].entries()) {
    const result = await connection.batch(
      [{ sql: "INSERT INTO t(a) VALUES (?)", args: [10 + index] }, "SELECT count(*) AS n FROM t"],
      mode,
    );
    expect(
      result.map(({ rowsAffected, rows }: { rowsAffected: number; rows: unknown[] }) => [
        rowsAffected,
        rows,
      ]),
    ).toEqual([
      [1, []],
      [0, [{ n: index + 2 }]],
    ]);
    const failing = connection.batch(
      ["INSERT INTO t(a) VALUES (99)", "INSERT INTO t(a) VALUES (1)"],
      mode,
    );
    await expect(failing).rejects.toMatchObject({ code: "SQLITE_CONSTRAINT" });
    expect(connection.inTransaction).toBe(false);
  }
  expect(await connection.get("SELECT count(*) AS n FROM t")).toEqual({ n: 5 });
});

test("transactions: on the connection, on their own session, by hand", async () => {
  const insert = async (a: number): Promise<unknown> =>
    connection.run("INSERT INTO t(a) VALUES (?)", [a]);
  const both = connection.transaction(async () => {
    await insert(1);
    expect(connection.inTransaction).toBe(true);
    await insert(2);
  });
  await both.concurrent();
  const failing = connection.transactionAsync(async (tx) => {
    await tx.run("INSERT INTO t(a) VALUES (3)");
    throw new Error("given up");
  });
  await expect(failing.immediate()).rejects.toThrow("given up");
  await connection.exec("BEGIN");
  await insert(4);
  await connection.exec("ROLLBACK");
  expect(connection.inTransaction).toBe(false);
  expect(await connection.get("SELECT group_concat(a) AS s FROM t")).toEqual({ s: "1,2" });
});

test("a connection that was not used for long goes on, with nothing left on the server meanwhile", async () => {
  await connection.run("INSERT INTO t(a) VALUES (1)");
  expect(await connection.pragma("user_version")).toMatchObject({ columns: ["user_version"] });
  expect(served.server.streams.size).toBe(0);
  await served.pass(3_600_000);
  expect(await connection.get("SELECT count(*) AS n FROM t")).toEqual({ n: 1 });
});

test("settings of a connection stay: its stream is kept for them", async () => {
  await connection.pragma("case_sensitive_like = 1");
  expect(served.server.streams.size).toBe(1);
  expect(await connection.get("SELECT 'a' LIKE 'A' AS same")).toEqual({ same: 0 });
  const other = connect({ url: served.url("shop") });
  expect(await other.get("SELECT 'a' LIKE 'A' AS same")).toEqual({ same: 1 });
});

test("failures are the package's own, with code and message", async () => {
  await expect(connection.run("INSERT INTO missing VALUES (1)")).rejects.toThrow(DatabaseError);
  await expect(connection.prepare("SELEC 1")).rejects.toMatchObject({ code: "SQLITE_ERROR" });
  await expect(connect({ url: served.url("shpo") }).get("SELECT 1")).rejects.toThrow(
    'Cannot find database "shpo"',
  );
});

test("the package's libSQL interface works too", async () => {
  const client = createClient({ url: served.url("shop") });
  await client.batch(["INSERT INTO t(a) VALUES (1)", "INSERT INTO t(a) VALUES (2)"], "write");
  expect(
    (await client.execute({ sql: "SELECT max(a) AS m FROM t", args: [] })).rows[0]?.["m"],
  ).toBe(2);
  client.close();
});
