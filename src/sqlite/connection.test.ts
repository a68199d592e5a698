import { expect, test } from "vitest";
import { openTestConnection } from "../testing/memory-vfs.ts";
import { Connection } from "./connection.ts";
import { SqliteRuntime } from "./runtime.ts";
import { SqliteError } from "./sqlite-error.ts";
import { MemoryVfs } from "../testing/memory-vfs.ts";

const runtime = new SqliteRuntime({ vfs: new MemoryVfs() });

function memory(sql = ""): Connection {
  return new Connection(runtime, { name: ":memory:" }).exec(sql);
}

/** What better-sqlite3 12.11 throws in the same place. */
function message(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof SqliteError) return `${error.code}: ${error.message}`;
    if (error instanceof Error) return `${error.constructor.name}: ${error.message}`;
    return `thrown: ${String(error)}`;
  }
  return "nothing";
}

const TABLE =
  "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT UNIQUE NOT NULL CHECK(a<>'x'));INSERT INTO t VALUES(1,'one'),(2,'two')";

test("prepare takes exactly one statement", () => {
  const db = memory();
  const none = "RangeError: The supplied SQL string contains no statements";
  const several = "RangeError: The supplied SQL string contains more than one statement";
  for (const sql of ["", ";;", "-- x", "/* x */"])
    expect(message(() => db.prepare(sql))).toBe(none);
  for (const sql of ["select 1; select 2", "select 1;x"])
    expect(message(() => db.prepare(sql))).toBe(several);
  for (const sql of ["select 1; -- x", "select 1; /* x */ ;", "select 1; /* x", "select 1 -- x"]) {
    expect(db.prepare(sql).pluck().get()).toBe(1);
  }
  expect(message(() => db.prepare("selec"))).toBe('SQLITE_ERROR: near "selec": syntax error');
  expect(message(() => db.prepare("select * from nope"))).toBe("SQLITE_ERROR: no such table: nope");
});

test("constraint errors carry extended codes", () => {
  const db = memory(`${TABLE};CREATE TABLE c(t REFERENCES t(id))`);
  const run = (sql: string): string => message(() => db.prepare(sql).run());
  expect(run("INSERT INTO t VALUES(1,'z')")).toBe(
    "SQLITE_CONSTRAINT_PRIMARYKEY: UNIQUE constraint failed: t.id",
  );
  expect(run("INSERT INTO t VALUES(9,'one')")).toBe(
    "SQLITE_CONSTRAINT_UNIQUE: UNIQUE constraint failed: t.a",
  );
  expect(run("INSERT INTO t VALUES(9,NULL)")).toBe(
    "SQLITE_CONSTRAINT_NOTNULL: NOT NULL constraint failed: t.a",
  );
  expect(run("INSERT INTO t VALUES(9,'x')")).toBe(
    "SQLITE_CONSTRAINT_CHECK: CHECK constraint failed: a<>'x'",
  );
  expect(run("INSERT INTO c VALUES(77)")).toBe(
    "SQLITE_CONSTRAINT_FOREIGNKEY: FOREIGN KEY constraint failed",
  );
});

test("parameters are bound by position, in arrays, by name and mixed", () => {
  const db = memory();
  const get = (sql: string, ...values: unknown[]): unknown =>
    db
      .prepare(sql)
      .raw()
      .get(...values);
  expect(get("select ?, ?", 1, "b")).toEqual([1, "b"]);
  expect(get("select ?, ?, ?", [1, 2], 3)).toEqual([1, 2, 3]);
  expect(get("select :a, @b, $c", { a: 1, b: 2, c: 3 })).toEqual([1, 2, 3]);
  expect(get("select ?, :x, ?", 1, 2, { x: 3 })).toEqual([1, 3, 2]);
  expect(get("select ?1, ?2, ?1", { 1: 5, 2: 6 })).toEqual([5, 6, 5]);
  expect(get("select ?", undefined)).toEqual([null]);
  expect(get("select typeof(?), typeof(?)", 1, 1n)).toEqual(["real", "integer"]);
  expect(
    get("select hex(?), hex(?)", new Uint16Array([258]), new DataView(new ArrayBuffer(2))),
  ).toEqual(["0201", "0000"]);
});

test("parameters that do not fit are refused with better-sqlite3's messages", () => {
  const db = memory();
  const bind = (sql: string, ...values: unknown[]): string =>
    message(() => db.prepare(sql).get(...values));
  expect(bind("select ?,?", 1)).toBe("RangeError: Too few parameter values were provided");
  expect(bind("select ?", 1, 2)).toBe("RangeError: Too many parameter values were provided");
  expect(bind("select :a")).toBe("TypeError: Missing named parameters");
  expect(bind("select :a", { b: 1 })).toBe('RangeError: Missing named parameter "a"');
  expect(bind("select :a", { a: 1 }, { a: 2 })).toBe(
    "TypeError: You cannot specify named parameters in two different objects",
  );
  expect(bind("select :a", new Date(0))).toBe(
    "TypeError: Named parameters can only be passed within plain objects",
  );
  const unbindable =
    "TypeError: SQLite3 can only bind numbers, strings, bigints, buffers, and null";
  for (const value of [true, new Date(0), () => 1, Symbol("x"), new ArrayBuffer(3)]) {
    expect(bind("select ?", value)).toBe(unbindable);
  }
  for (const value of [2n ** 63n, -(2n ** 63n) - 1n]) {
    expect(bind("select ?", value)).toBe(
      "RangeError: The bound string, buffer, or bigint is too big",
    );
  }
});

test("bind() keeps copies of its values for good", () => {
  const db = memory();
  const buffer = Buffer.from("abc");
  const named = { n: buffer };
  const statement = db.prepare("select ? a, :n n, ? b").bind("x".repeat(5000), [buffer], named);
  buffer.fill(0);
  named.n = Buffer.from("other");
  const expected = { a: "x".repeat(5000), n: Buffer.from("abc"), b: Buffer.from("abc") };
  expect(statement.get()).toEqual(expected);
  expect([...statement.iterate()]).toEqual([expected]);
  expect(message(() => statement.get(1))).toBe(
    "TypeError: This statement already has bound parameters",
  );
  expect(message(() => statement.bind(1))).toBe(
    "TypeError: The bind() method can only be invoked once per statement object",
  );
});

test("large text and blobs survive the way in and out", () => {
  const db = memory();
  for (const size of [0, 1, 21_000, 65_535, 65_536, 300_000, 5_000_000]) {
    const text = "é€".repeat(size / 2);
    const blob = Buffer.alloc(size, 7);
    const [a, b] = db.prepare("select ?, ?").raw().get(text, blob) as [string, Buffer];
    // Not toEqual: it compares buffers byte by byte in JavaScript.
    expect([a === text, b.equals(blob)]).toEqual([true, true]);
  }
});

test("safe integers are bigints over the whole range, others are rounded as doubles", () => {
  const db = memory();
  const values = [
    0n,
    -1n,
    2n ** 31n,
    -(2n ** 31n) - 1n,
    2n ** 53n + 1n,
    2n ** 63n - 1n,
    -(2n ** 63n),
  ];
  for (const value of values) {
    expect(db.prepare("select ?").pluck().safeIntegers().get(value)).toBe(value);
    expect(db.prepare("select ?").pluck().get(value)).toBe(Number(value));
  }
  db.defaultSafeIntegers();
  expect(db.prepare("select 5").pluck().get()).toBe(5n);
  expect(db.prepare("select 5").safeIntegers(false).pluck().get()).toBe(5);
});

test("run reports changes without those of triggers, and the last rowid", () => {
  const db = memory(`${TABLE};CREATE TABLE log(x);
    CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES(1); INSERT INTO log VALUES(2); END`);
  expect(db.prepare("INSERT INTO t VALUES(?,?)").run(40, "q")).toEqual({
    changes: 1,
    lastInsertRowid: 40,
  });
  expect(db.prepare("UPDATE t SET a=a||'!'").run().changes).toBe(3);
  expect(db.prepare("SELECT 1").run().changes).toBe(0);
  expect(
    db
      .prepare("INSERT INTO t VALUES(?,?)")
      .safeIntegers()
      .run(2n ** 60n, "r"),
  ).toEqual({
    changes: 1,
    lastInsertRowid: 2n ** 60n,
  });
});

test("the five modes of a row", () => {
  const db = memory(`${TABLE};CREATE TABLE u(id, t)`);
  db.exec("INSERT INTO u VALUES(7,1)");
  const statement = db.prepare("SELECT t.id, a, u.id, 1+1 AS sum FROM t JOIN u ON u.t=t.id");
  expect(statement.get()).toEqual({ id: 7, a: "one", sum: 2 });
  expect(statement.raw().get()).toEqual([1, "one", 7, 2]);
  expect(statement.pluck().get()).toBe(1);
  expect(statement.expand().get()).toEqual({ t: { id: 1, a: "one" }, u: { id: 7 }, $: { sum: 2 } });
  expect(statement.expand(false).get()).toEqual({ id: 7, a: "one", sum: 2 });
  expect(statement.columns()).toEqual([
    { name: "id", column: "id", table: "t", database: "main", type: "INTEGER" },
    { name: "a", column: "a", table: "t", database: "main", type: "TEXT" },
    { name: "id", column: "id", table: "u", database: "main", type: null },
    { name: "sum", column: null, table: null, database: null, type: null },
  ]);
});

test("a column named __proto__ is a property and does not change the prototype", () => {
  const row = memory().prepare('select 1 as "__proto__", 2 as "constructor"').get();
  expect(Object.getPrototypeOf(row)).toBe(Object.prototype);
  expect(Object.entries(row as object)).toEqual([
    ["__proto__", 1],
    ["constructor", 2],
  ]);
});

test("a busy connection and a busy statement refuse what would disturb them", () => {
  const db = memory(TABLE);
  const busy = "TypeError: This database connection is busy executing a query";
  const statement = db.prepare("SELECT id FROM t");
  const iterator = statement.iterate();
  iterator.next();
  expect(statement.busy).toBe(true);
  expect(message(() => statement.get())).toBe(
    "TypeError: This statement is busy executing a query",
  );
  expect(message(() => statement.pluck())).toBe(
    "TypeError: This statement is busy executing a query",
  );
  expect(message(() => db.exec("DELETE FROM t"))).toBe(busy);
  expect(message(() => db.prepare("DELETE FROM t").run())).toBe(busy);
  expect(message(() => db.pragma("user_version"))).toBe(busy);
  expect(message(() => db.close())).toBe(busy);
  expect(message(() => db.function("f", () => 1))).toBe(busy);
  expect(message(() => db.serialize())).toBe(busy);
  expect(db.prepare("SELECT id FROM t").all()).toHaveLength(2);
  expect(db.unsafeMode().prepare("INSERT INTO t VALUES(3,'three')").run().changes).toBe(1);
  expect(iterator.return()).toEqual({ value: undefined, done: true });
  expect(iterator.next()).toEqual({ value: undefined, done: true });
  expect(statement.busy).toBe(false);
});

test("two iterators of the same SQL and others in between do not disturb each other", () => {
  const db = memory(
    "CREATE TABLE n(i); WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<50) INSERT INTO n SELECT i FROM c",
  );
  const sql = "SELECT i FROM n WHERE i > ? AND ? = ?";
  const iterators = [0, 10, 20].map((start) =>
    db
      .prepare(sql)
      .pluck()
      .iterate(start, "text" + start, "text" + start),
  );
  const seen: unknown[][] = [[], [], []];
  for (let open = 3; open > 0;) {
    open = 0;
    for (const [index, iterator] of iterators.entries()) {
      const item = iterator.next();
      if (item.done === true) continue;
      open++;
      seen[index]!.push(item.value);
      expect(db.prepare("SELECT max(i) FROM n").pluck().get()).toBe(50);
      expect(db.prepare(sql).pluck().get(48, "x", "x")).toBe(49);
    }
  }
  expect(seen.map((values) => [values.length, values[0], values.at(-1)])).toEqual([
    [50, 1, 50],
    [40, 11, 50],
    [30, 21, 50],
  ]);
});

test("an iterator that is dropped by break is ended", () => {
  const db = memory(TABLE);
  for (const row of db.prepare("SELECT * FROM t").iterate()) {
    expect(row).toEqual({ id: 1, a: "one" });
    break;
  }
  db.exec("DELETE FROM t");
});

test("a closed connection refuses to work and tells so", () => {
  const db = memory(TABLE);
  const statement = db.prepare("SELECT 1");
  db.close();
  db.close();
  expect([db.open, db.inTransaction]).toEqual([false, false]);
  const closed = "TypeError: The database connection is not open";
  for (const action of [
    () => statement.get(),
    () => statement.columns(),
    () => db.prepare("SELECT 1"),
    () => db.exec("SELECT 1"),
    () => db.pragma("user_version"),
    () => db.function("f", () => 1),
    () => db.serialize(),
  ]) {
    expect(message(action)).toBe(closed);
  }
});

test("transaction commits, rolls back, nests as savepoints and refuses promises", () => {
  const db = memory("CREATE TABLE t(a)");
  const all = (): unknown => db.prepare("SELECT a FROM t").pluck().all();
  const insert = db.prepare("INSERT INTO t VALUES(?)");
  const add = db.transaction((value: number, fail: boolean): number => {
    insert.run(value);
    if (fail) throw new Error("stop");
    return value * 2;
  });
  expect(add(1, false)).toBe(2);
  expect(() => add(2, true)).toThrow("stop");
  const outer = db.transaction(() => {
    add(3, false);
    expect(() => add(4, true)).toThrow("stop");
    expect(db.inTransaction).toBe(true);
    return add.immediate(5, false);
  });
  expect(outer.exclusive()).toBe(10);
  expect(all()).toEqual([1, 3, 5]);
  expect(message(db.transaction(() => Promise.resolve(1)))).toBe(
    "TypeError: Transaction function cannot return a promise",
  );
  expect([db.inTransaction, add.database === db, Object.keys(add)]).toEqual([
    false,
    true,
    ["database"],
  ]);
});

test("serialize and a connection made of bytes", () => {
  const db = memory(TABLE);
  const bytes = db.serialize();
  const copy = new Connection(runtime, { name: ":memory:", bytes });
  expect(copy.prepare("SELECT a FROM t").pluck().all()).toEqual(["one", "two"]);
  copy.exec("INSERT INTO t VALUES(3,'three')");
  const reader = new Connection(runtime, { name: ":memory:", bytes, readonly: true });
  expect(message(() => reader.exec("DELETE FROM t"))).toBe(
    "SQLITE_READONLY: attempt to write a readonly database",
  );
  expect(
    message(() =>
      new Connection(runtime, { name: ":memory:", bytes: Buffer.alloc(600, 1) }).exec(
        "select * from x",
      ),
    ),
  ).toBe("SQLITE_NOTADB: file is not a database");
  db.exec("ATTACH ':memory:' AS aux; CREATE TABLE aux.z(a)");
  expect(
    new Connection(runtime, { name: ":memory:", bytes: db.serialize({ attached: "aux" }) }).pragma(
      "table_list(z)",
    ),
  ).toHaveLength(1);
  expect(message(() => db.serialize({ attached: "nope" }))).toBe(
    "SQLITE_ERROR: unknown database nope",
  );
});

test("backup copies a database and reports progress", async () => {
  const { runtime: own, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a)");
  connection.transaction(() => {
    const insert = connection.prepare("INSERT INTO t VALUES(zeroblob(3000))");
    for (let index = 0; index < 500; index++) insert.run();
  })();
  const seen: number[] = [];
  const done = await connection.backup("copy", {
    progress: ({ remainingPages }) => {
      seen.push(remainingPages);
      return 50;
    },
  });
  expect(done.remainingPages).toBe(0);
  expect(seen.length).toBeGreaterThan(3);
  expect(
    new Connection(own, { name: "copy" }).prepare("SELECT count(*) FROM t").pluck().get(),
  ).toBe(500);
  await expect(
    connection.backup("copy", { progress: () => "x" as unknown as number }),
  ).rejects.toThrow("Expected progress callback to return a number or undefined");
  await expect(connection.backup("copy", { attached: "nope" })).rejects.toThrow(
    "unknown database nope",
  );
  await expect(connection.backup("")).rejects.toThrow("Backup filename cannot be an empty string");
  expect(connection.prepare("SELECT count(*) FROM t").pluck().get()).toBe(500);
});

test("verbose gets the SQL with its values before it runs", () => {
  const seen: unknown[] = [];
  const db = new Connection(runtime, { name: ":memory:", verbose: (sql) => seen.push(sql) });
  db.exec("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  db.prepare("SELECT ?, ?").get(1n, "it's");
  for (const row of db.prepare("SELECT a FROM t").iterate()) expect(row).toEqual({ a: 1 });
  expect(seen).toEqual([
    "CREATE TABLE t(a);",
    "INSERT INTO t VALUES(1)",
    "SELECT 1, 'it''s'",
    "SELECT a FROM t",
  ]);
});

test("loadExtension says why it cannot", () => {
  expect(message(() => memory().loadExtension("x.so"))).toBe(
    'SQLITE_ERROR: Cannot load extension "x.so": SQLite runs in WebAssembly, which cannot load native code',
  );
});

test("defaults are those of better-sqlite3", () => {
  const db = memory();
  const pragma = (name: string): unknown => db.pragma(name, { simple: true });
  expect(["foreign_keys", "cache_size", "page_size"].map(pragma)).toEqual([1, -16000, 4096]);
  expect([db.name, db.memory, db.readonly, db.open, db.inTransaction]).toEqual([
    ":memory:",
    true,
    false,
    true,
    false,
  ]);
  expect(message(() => db.exec("PRAGMA writable_schema=1; UPDATE sqlite_schema SET sql=''"))).toBe(
    "SQLITE_ERROR: table sqlite_master may not be modified",
  );
});

test("interrupt ends the statement that is running", () => {
  const db = memory();
  let rows = 0;
  db.function("tick", () => {
    if (++rows === 1000) db.interrupt();
    return rows;
  });
  const endless =
    "WITH RECURSIVE c(i) AS (SELECT tick() UNION ALL SELECT tick() FROM c) SELECT count(*) FROM c";
  expect(message(() => db.prepare(endless).get())).toBe("SQLITE_INTERRUPT: interrupted");
  expect(db.prepare("SELECT 1").pluck().get()).toBe(1);
});

test("dispose closes", () => {
  const db = memory();
  db[Symbol.dispose]();
  expect(db.open).toBe(false);
});
