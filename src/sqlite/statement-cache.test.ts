import { expect, test } from "vitest";
import { openTestConnection } from "../testing/memory-vfs.ts";
import { Connection } from "./connection.ts";
import { mayChangeSchema } from "./statement-cache.ts";

test("a loop that prepares holds a bounded amount of SQLite's memory", () => {
  const { runtime, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a)");
  for (let index = 0; index < 1000; index++) connection.prepare(`SELECT ${index} FROM t`);
  const size = runtime.heap.u8.length;
  for (let index = 0; index < 30_000; index++)
    connection.prepare(`SELECT a, ${index} FROM t WHERE a = ?`).all(index);
  expect(runtime.heap.u8.length).toBe(size);
});

test("P1: thousands of Statement objects stay usable", () => {
  const { connection } = openTestConnection();
  const statements = Array.from({ length: 2000 }, (_, index) =>
    connection.prepare(`SELECT ${index} AS n, ? AS p`),
  );
  for (let round = 0; round < 2; round++) {
    for (const [index, statement] of statements.entries()) {
      expect(statement.get(round)).toEqual({ n: index, p: round });
    }
  }
  expect(statements[0]!.columns().map(({ name }) => name)).toEqual(["n", "p"]);
});

test("statements of the same SQL keep their own settings and bindings", () => {
  const { connection } = openTestConnection();
  const sql = "SELECT ? AS a, 2 AS b";
  const statements = [
    connection.prepare(sql),
    connection.prepare(sql).raw(),
    connection.prepare(sql).pluck().safeIntegers(),
    connection.prepare(sql).bind("bound"),
  ];
  for (let round = 0; round < 2; round++) {
    expect(statements[0]!.get(1)).toEqual({ a: 1, b: 2 });
    expect(statements[1]!.get(1)).toEqual([1, 2]);
    expect(statements[2]!.get(5n)).toBe(5n);
    expect(statements[3]!.get()).toEqual({ a: "bound", b: 2 });
  }
});

test("P3: prepare fails for a table that is gone, whoever prepared the SQL before", () => {
  const { connection } = openTestConnection();
  const sql = "SELECT * FROM t";
  const gone = expect.objectContaining({ message: "no such table: t" });
  connection.exec("CREATE TABLE t(a)");
  const statement = connection.prepare(sql);
  connection.exec("DROP TABLE t");
  expect(() => connection.prepare(sql)).toThrow(gone);
  expect(() => statement.all()).toThrow(gone);
  connection.prepare("CREATE TABLE t(a)").run();
  expect(statement.all()).toEqual([]);
  connection.prepare("/* x */ DROP TABLE t").run();
  expect(() => connection.prepare(sql)).toThrow(gone);
  connection.exec("BEGIN; CREATE TABLE t(a)");
  connection.prepare(sql).all();
  connection.prepare("ROLLBACK").run();
  expect(() => connection.prepare(sql)).toThrow(gone);
  connection.exec("CREATE TABLE t(a)");
  expect(statement.all()).toEqual([]);
});

test("P3: a change of schema that SQLite rolls back by itself is forgotten too", () => {
  const { vfs, connection } = openTestConnection();
  connection.exec("BEGIN; CREATE TABLE t(a)");
  const statement = connection.prepare("SELECT * FROM t");
  vfs.onEvent = (event) => {
    if (event.startsWith("prepare")) throw Object.assign(new Error("refused"), { sqliteCode: 517 });
  };
  expect(() => connection.prepare("COMMIT").run()).toThrow("refused");
  vfs.onEvent = () => {};
  if (connection.inTransaction) connection.exec("ROLLBACK");
  expect(() => connection.prepare("SELECT * FROM t")).toThrow("no such table: t");
  expect(() => statement.get()).toThrow("no such table: t");
});

test("rows follow a schema that this or another connection changed", () => {
  const { runtime, connection } = openTestConnection();
  const other = new Connection(runtime, { name: "main" });
  connection.exec("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  const flat = connection.prepare("SELECT * FROM t");
  const raw = connection.prepare("SELECT * FROM t").raw();
  expect([flat.get(), raw.get()]).toEqual([{ a: 1 }, [1]]);
  connection.exec("ALTER TABLE t ADD COLUMN b DEFAULT 2");
  expect([flat.get(), raw.get()]).toEqual([{ a: 1, b: 2 }, [1, 2]]);
  other.exec("ALTER TABLE t ADD COLUMN c DEFAULT 3");
  expect([flat.get(), raw.get()]).toEqual([{ a: 1, b: 2, c: 3 }, [1, 2, 3]]);
  other.exec("ALTER TABLE t RENAME COLUMN a TO z");
  expect([raw.get(), flat.get()]).toEqual([[1, 2, 3], { z: 1, b: 2, c: 3 }]);
  other.exec("ALTER TABLE t DROP COLUMN b");
  expect([...flat.iterate()]).toEqual([{ z: 1, c: 3 }]);
  expect(flat.expand().all()).toEqual([{ t: { z: 1, c: 3 } }]);
});

test("only statements that can change the schema count as such", () => {
  for (const sql of [
    "SELECT 'drop table'",
    " -- create\n INSERT INTO t VALUES('alter')",
    "/* drop */ update t set a=1",
    "BEGIN",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "EXPLAIN SELECT 1",
  ]) {
    expect(mayChangeSchema(sql), sql).toBe(false);
  }
  for (const sql of [
    "CREATE TABLE t(a)",
    ";; drop table t",
    "--x\n alter table t add b",
    "ROLLBACK TO s",
    "rollback",
    "ATTACH 'x' AS y",
    "VACUUM",
    "/* a */ /* b */ DETACH y",
  ]) {
    expect(mayChangeSchema(sql), sql).toBe(true);
  }
});

test("P2: handles made beside a locked one are finalized with the connection", () => {
  const { runtime, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a); INSERT INTO t VALUES(1),(2)");
  connection.unsafeMode();
  const sql = "SELECT a FROM t";
  const iterators = Array.from({ length: 10 }, () => connection.prepare(sql).pluck().iterate());
  expect(iterators.map((iterator) => iterator.next().value)).toEqual(
    Array.from({ length: 10 }, () => 1),
  );
  expect(iterators.map((iterator) => iterator.next().value)).toEqual(
    Array.from({ length: 10 }, () => 2),
  );
  for (const iterator of iterators) iterator.return();
  connection.close();
  expect(new Connection(runtime, { name: "main" }).prepare(sql).pluck().all()).toEqual([1, 2]);
});

test("regression: the texts of cached statements are bounded", () => {
  const { runtime, connection } = openTestConnection();
  const before = runtime.heap.u8.length;
  for (let index = 0; index < 100; index++)
    expect(
      connection
        .prepare(`SELECT ${index} -- ${"x".repeat(1_000_000)}`)
        .pluck()
        .get(),
    ).toBe(index);
  expect(runtime.heap.u8.length - before).toBeLessThan(40_000_000);
});
