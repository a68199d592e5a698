import { afterEach, expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { MemoryVfs, openTestConnection } from "../testing/memory-vfs.ts";
import { Connection } from "./connection.ts";
import { SqliteRuntime } from "./runtime.ts";

const zone = process.env["TZ"];
afterEach(() => {
  if (zone === undefined) delete process.env["TZ"];
  else process.env["TZ"] = zone;
});

test.each([
  "UTC",
  "Europe/Berlin",
  "America/St_Johns",
  "Australia/Lord_Howe",
  "Asia/Kathmandu",
  "America/Sao_Paulo",
])("localtime in %s agrees with Date", (name) => {
  process.env["TZ"] = name;
  const { connection } = openTestConnection();
  const local = connection.prepare("SELECT datetime(?, 'unixepoch', 'localtime')").pluck();
  const back = connection.prepare("SELECT unixepoch(?, 'utc')").pluck();
  const two = (value: number): string => String(value).padStart(2, "0");
  for (let seconds = 86_400; seconds < 2_145_916_800; seconds += 9_999_991) {
    const date = new Date(seconds * 1000);
    const expected = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
    expect(local.get(seconds)).toBe(expected);
    expect([seconds, seconds - 3600, seconds + 3600, seconds - 1800, seconds + 1800]).toContain(
      back.get(expected),
    );
  }
});

test("time comes from the injected clock", () => {
  const runtime = new SqliteRuntime({ vfs: new MemoryVfs(), now: () => 1_700_000_000_123.7 });
  const db = new Connection(runtime, { name: ":memory:" });
  expect(db.prepare("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").pluck().get()).toBe(
    "2023-11-14 22:13:20.123",
  );
});

test("random bytes differ between runtimes", () => {
  const draw = (): unknown =>
    openTestConnection().connection.prepare("SELECT hex(randomblob(16))").pluck().get();
  expect(draw()).not.toBe(draw());
});

test("R1: a trap fails the runtime for good, and every call says so", () => {
  const { vfs, runtime, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a)");
  const statement = connection.prepare("SELECT * FROM t");
  const neighbour = new Connection(runtime, { name: ":memory:" });
  vfs.onEvent = (event) => {
    if (event === "write main") runtime.heap.u8.fill(0xff);
  };
  const failed = expect.objectContaining({ code: "STORE_FAILED" });
  expect(() => connection.exec("INSERT INTO t VALUES(1)")).toThrow(failed);
  for (const action of [
    () => statement.all(),
    () => statement.run(),
    () => statement.pluck(),
    () => statement.iterate(),
    () => connection.prepare("SELECT 1"),
    () => connection.exec("SELECT 1"),
    () => connection.serialize(),
    () => connection.function("f", () => 1),
    () => neighbour.prepare("SELECT 1"),
    () => new Connection(runtime, { name: ":memory:" }),
  ]) {
    expect(action).toThrow(failed);
  }
  expect(connection.inTransaction).toBe(false);
  connection.close();
  expect(connection.open).toBe(false);
});

test("the error of a failed runtime tells the trap", () => {
  const { vfs, runtime, connection } = openTestConnection();
  vfs.onEvent = (event) => {
    if (event === "write main") runtime.heap.u8.fill(0xff);
  };
  try {
    connection.exec("CREATE TABLE t(a)");
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(StoreError);
    expect((error as StoreError).cause).toBeInstanceOf(WebAssembly.RuntimeError);
  }
});

test("H1: memory that grows in the middle of a query leaves its rows intact", () => {
  const { runtime, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a, b)");
  const insert = connection.prepare("INSERT INTO t VALUES(?, ?)");
  for (let index = 0; index < 50; index++) insert.run(index, `text ${index}`);
  const before = runtime.heap.u8.length;
  const held: unknown[] = [];
  connection.function("grow", (a: number) => {
    held.push(Buffer.alloc(200_000, a));
    return held.at(-1);
  });
  const rows = connection
    .prepare("SELECT a, b, grow(a) AS g, group_concat(grow(a)) OVER () AS all_of_them FROM t")
    .all() as {
    a: number;
    b: string;
    g: Buffer;
  }[];
  expect(runtime.heap.u8.length).toBeGreaterThan(before);
  expect(rows.map(({ a, b, g }) => [a, b, g.length, g[0], g.at(-1)])).toEqual(
    rows.map((_, index) => [index, `text ${index}`, 200_000, index, index]),
  );
  const iterator = connection.prepare("SELECT a, b FROM t").iterate();
  for (let index = 0; index < 50; index++) {
    if (index === 20) connection.prepare("SELECT length(zeroblob(20000000) || 'x')").get();
    expect(iterator.next().value).toEqual({ a: index, b: `text ${index}` });
  }
  iterator.return();
});

test("memory that cannot grow is an error of SQLite, and the connection goes on", () => {
  const runtime = new SqliteRuntime({ vfs: new MemoryVfs(), memoryBytesMax: 32 * 1024 * 1024 });
  const connection = new Connection(runtime, { name: ":memory:" });
  const hungry =
    "WITH RECURSIVE c(i, x) AS (SELECT 0, zeroblob(3000000)||'' UNION ALL SELECT i+1, x||i FROM c WHERE i < 20) SELECT count(DISTINCT x) FROM c";
  expect(() => connection.prepare(hungry).get()).toThrow(
    expect.objectContaining({ code: "SQLITE_NOMEM", message: "out of memory" }),
  );
  expect(connection.prepare("SELECT 1").pluck().get()).toBe(1);
});

test("opening and closing 1,000 connections does not grow memory", () => {
  const { runtime } = openTestConnection();
  const cycle = (): void => {
    const db = new Connection(runtime, { name: "main" });
    db.exec("CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES(1)");
    db.function("f", (a: number) => a);
    db.table("v", {
      columns: ["a"],
      *rows() {
        yield [1];
      },
    });
    db.prepare("SELECT f(t.a), v.a FROM t, v").all();
    db.prepare("SELECT * FROM t").iterate().return();
    db.prepare("DELETE FROM t").run();
    db.close();
  };
  for (let index = 0; index < 50; index++) cycle();
  const before = runtime.exports.sqlite3_malloc(8);
  const size = runtime.heap.u8.length;
  for (let index = 0; index < 1000; index++) cycle();
  expect(runtime.heap.u8.length).toBe(size);
  expect(Math.abs(runtime.exports.sqlite3_malloc(8) - before)).toBeLessThan(100_000);
  expect(runtime.connections.size).toBe(1);
  expect(runtime.functions.size).toBe(0);
});

test("failed opens and failed statements leak nothing", () => {
  const { vfs, runtime, connection } = openTestConnection();
  vfs.onEvent = (event) => {
    if (event === "open broken") throw new Error("broken");
  };
  connection.function("boom", () => {
    throw new Error("boom");
  });
  const cycle = (): void => {
    expect(() => new Connection(runtime, { name: "broken" })).toThrow("broken");
    expect(() => connection.prepare("SELEC")).toThrow();
    expect(() => connection.prepare("SELECT boom(), ?").get("x".repeat(100_000))).toThrow("boom");
    expect(() => connection.prepare("SELECT ?, ?").get("x".repeat(100_000))).toThrow(RangeError);
  };
  for (let index = 0; index < 20; index++) cycle();
  const size = runtime.heap.u8.length;
  const top = runtime.heap.arenaTop;
  for (let index = 0; index < 500; index++) cycle();
  expect([runtime.heap.u8.length, runtime.heap.arenaTop]).toEqual([size, top]);
  expect(runtime.connections.size).toBe(1);
});

test("a big sort and temporary tables use temporary files and leave the heap small", () => {
  const { runtime, connection } = openTestConnection();
  connection.exec(
    "CREATE TEMP TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200000) SELECT i, hex(randomblob(150)) AS t FROM n",
  );
  const rows = connection.prepare("SELECT t FROM big ORDER BY t").pluck().iterate();
  let last = "";
  let count = 0;
  for (const text of rows) {
    expect(String(text) > last).toBe(true);
    last = String(text);
    count++;
  }
  expect(count).toBe(200_000);
  expect(runtime.heap.u8.length).toBeLessThan(64 * 1024 * 1024);
});

test("statements nested as deep as SQLite allows do not overflow its stack", () => {
  const { connection } = openTestConnection();
  const nested = (open: string, core: string, close: string, depth: number): string =>
    open.repeat(depth) + core + close.repeat(depth);
  expect(
    connection
      .prepare(`SELECT ${nested("abs(", "1", ")", 400)}`)
      .pluck()
      .get(),
  ).toBe(1);
  expect(() => connection.prepare(`SELECT ${nested("~", "1", "", 1200)}`)).toThrow(
    "Expression tree is too large (maximum depth 1000)",
  );
  const json = nested("[", "1", "]", 900);
  expect(connection.prepare("SELECT json(?)").pluck().get(json)).toBe(json);
  expect(
    connection
      .prepare(`SELECT ${nested("(SELECT ", "1", ")", 30)}`)
      .pluck()
      .get(),
  ).toBe(1);
  expect(connection.prepare("SELECT 1").pluck().get()).toBe(1);
});

test("JavaScript's stack overflowing inside a query is an error of that call or fails the runtime, never silent", () => {
  const { runtime } = openTestConnection();
  const nest = (): unknown => {
    const db = new Connection(runtime, { name: ":memory:" });
    db.function("deeper", () => nest());
    return db.prepare("SELECT deeper()").pluck().get();
  };
  expect(nest).toThrow();
  try {
    const db = new Connection(runtime, { name: ":memory:" });
    expect(db.prepare("SELECT 1").pluck().get()).toBe(1);
  } catch (error) {
    expect(error).toMatchObject({ code: "STORE_FAILED" });
  }
});
