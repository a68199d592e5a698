import { expect, test } from "vitest";
import { openTestConnection } from "../testing/memory-vfs.ts";
import { Connection } from "./connection.ts";

const { runtime } = openTestConnection();
const memory = (): Connection => new Connection(runtime, { name: ":memory:" });

test("a table definition makes a table at once: rows as arrays and objects", () => {
  const db = memory().table("v", {
    columns: ["a", "b"],
    *rows() {
      yield [1, "x"];
      yield { b: 2n, a: null };
    },
  });
  expect(db.prepare("SELECT rowid, * FROM v").raw().all()).toEqual([
    [1, 1, "x"],
    [2, null, 2],
  ]);
  expect(db.prepare("SELECT count(*) FROM v AS p, v AS q").pluck().get()).toBe(4);
  expect(() => db.prepare("INSERT INTO v VALUES(1,2)").run()).toThrow(
    "table v may not be modified",
  );
});

test("parameters are hidden columns and function arguments", () => {
  const db = memory().table("series", {
    columns: ["value"],
    parameters: ["first", "last", "step"],
    *rows(first: number, last: number, step = 1) {
      for (let value = first; value <= last; value += step) yield [value];
    },
  });
  const all = (sql: string, ...values: unknown[]): unknown =>
    db
      .prepare(sql)
      .pluck()
      .all(...values);
  expect(all("SELECT value FROM series(1, 4)")).toEqual([1, 2, 3, 4]);
  expect(all("SELECT value FROM series(?, ?, ?)", 0, 10, 5)).toEqual([0, 5, 10]);
  expect(all("SELECT value FROM series WHERE last = 3 AND first = 2")).toEqual([2, 3]);
  expect(all("SELECT value FROM series(NULL, 4)")).toEqual([]);
  expect(
    all("SELECT s.value FROM (SELECT 2 AS n UNION SELECT 3) AS t, series(1, t.n) AS s ORDER BY 1"),
  ).toEqual([1, 1, 2, 2, 3]);
  expect(() => all("SELECT value FROM series WHERE first > 1")).toThrow(
    "virtual table parameter \"first\" can only be constrained by the '=' operator",
  );
});

test("a factory makes a module for CREATE VIRTUAL TABLE", () => {
  const db = memory().table("lines", function (text) {
    const context = { ...this };
    return {
      columns: ["line", "context"],
      *rows() {
        for (const line of text.split("+")) yield [line, JSON.stringify(context)];
      },
    };
  });
  db.exec("CREATE VIRTUAL TABLE l USING lines(a+b)");
  expect(db.prepare("SELECT line FROM l").pluck().all()).toEqual(["a", "b"]);
  expect(JSON.parse(String(db.prepare("SELECT context FROM l").pluck().get()))).toEqual({
    module: "lines",
    database: "main",
    table: "l",
  });
  expect(() => db.prepare("SELECT * FROM lines")).toThrow("no such table: lines");
  db.exec("DROP TABLE l");
});

test("what the generator or the factory throws reaches the caller, and its finally runs", () => {
  let ended = 0;
  const boom = new Error("boom");
  const db = memory().table("v", {
    columns: ["a"],
    *rows(limit: number) {
      try {
        for (let value = 1; ; value++) {
          if (value > limit) throw boom;
          yield [value];
        }
      } finally {
        ended++;
      }
    },
  });
  expect(() => db.prepare("SELECT * FROM v(3)").all()).toThrow(boom);
  expect(db.prepare("SELECT a FROM v(3) LIMIT 2").pluck().all()).toEqual([1, 2]);
  for (const row of db.prepare("SELECT a FROM v(9)").iterate()) {
    expect(row).toEqual({ a: 1 });
    break;
  }
  expect(ended).toBe(3);
  db.table("broken", () => {
    throw boom;
  });
  expect(() => db.exec("CREATE VIRTUAL TABLE x USING broken")).toThrow(boom);
});

test("rows that do not fit are refused", () => {
  const rows = (value: unknown): (() => unknown) => {
    const db = memory().table("v", {
      columns: ["a", "b"],
      *rows() {
        yield value;
      },
    });
    return () => db.prepare("SELECT * FROM v").all();
  };
  const prefix = 'Virtual table module "v" yielded';
  expect(rows(5)).toThrow(`${prefix} something that isn't a valid row object`);
  expect(rows([1])).toThrow(`${prefix} a row with an incorrect number of columns`);
  expect(rows({ a: 1 })).toThrow(`${prefix} a row with missing columns`);
  expect(rows({ a: 1, c: 1 })).toThrow(`${prefix} a row with an undeclared column "c"`);
  expect(rows([1, {}])).toThrow(`${prefix} an invalid value`);
  expect(rows([1, 2n ** 64n])).toThrow(`${prefix} a bigint that was too big`);
});

test("definitions that do not fit are refused", () => {
  const define = (definition: unknown): (() => unknown) => {
    const db = memory();
    return () => Reflect.apply(Reflect.get(db, "table"), db, ["v", definition]);
  };
  const prefix = 'Virtual table module "v" used a table definition';
  function* rows(): Generator {
    yield [1];
  }
  expect(define(5)).toThrow(
    "Expected second argument to be a function or a table definition object",
  );
  expect(define({ columns: ["a"] })).toThrow(`${prefix} without a "rows" property`);
  expect(define({ rows })).toThrow(`${prefix} without a "columns" property`);
  expect(define({ rows: () => [], columns: ["a"] })).toThrow(
    `${prefix} with an invalid "rows" property (should be a generator function)`,
  );
  expect(define({ rows, columns: [] })).toThrow(`${prefix} with zero columns`);
  expect(define({ rows, columns: ["a", "a"] })).toThrow(`${prefix} with duplicate column names`);
  expect(define({ rows, columns: ["a"], parameters: ["a"] })).toThrow(
    "ambiguously defined as both a column and parameter",
  );
  expect(define({ rows, columns: ["a"], safeIntegers: 1 })).toThrow(
    'invalid "safeIntegers" property (should be a boolean)',
  );
  expect(define({ rows, columns: ["a"], directOnly: 1 })).toThrow(
    'invalid "directOnly" property (should be a boolean)',
  );
});

test("safe integers and directOnly", () => {
  const db = memory().table("v", {
    columns: ["a"],
    safeIntegers: true,
    directOnly: true,
    *rows(p: unknown) {
      yield [typeof p];
    },
  });
  expect(db.prepare("SELECT a FROM v(5)").pluck().get()).toBe("bigint");
  db.exec("CREATE VIEW w AS SELECT * FROM v");
  expect(() => db.prepare("SELECT * FROM w").all()).toThrow('unsafe use of virtual table "v"');
});

test("a factory may use other connections, also when it fails afterwards", () => {
  const db = memory();
  const other = memory().exec("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  const iterator = other.prepare("SELECT a FROM t").pluck().iterate();
  let failing = true;
  db.table("m", () => {
    const columns = other.prepare("SELECT 'c' || a FROM t").pluck().all() as string[];
    if (failing) throw new Error("later");
    return {
      columns,
      *rows() {
        yield other.prepare("SELECT a + 1 FROM t").raw().get();
      },
    };
  });
  for (let round = 0; round < 20; round++) {
    expect(() => db.prepare("CREATE VIRTUAL TABLE v USING m").run()).toThrow("later");
    expect(() => db.exec("CREATE VIRTUAL TABLE v USING m")).toThrow("later");
  }
  failing = false;
  db.exec("CREATE VIRTUAL TABLE v USING m");
  expect(db.prepare("SELECT * FROM v").get()).toEqual({ c1: 2 });
  expect([...iterator]).toEqual([1]);
  const reopened = new Connection(runtime, { name: ":memory:", bytes: db.serialize() });
  failing = true;
  reopened.table("m", () => {
    other.prepare("SELECT a, 5 FROM t").get();
    throw new Error("connect");
  });
  expect(() => reopened.prepare("SELECT * FROM v")).toThrow("connect");
  expect(other.prepare("SELECT a, 5 FROM t").raw().get()).toEqual([1, 5]);
});
