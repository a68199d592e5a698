import { expect, test } from "vitest";
import { openTestConnection } from "../testing/memory-vfs.ts";
import { Connection } from "./connection.ts";

const { runtime } = openTestConnection();

function memory(sql = ""): Connection {
  return new Connection(runtime, { name: ":memory:" }).exec(sql);
}

const NUMBERS = "CREATE TABLE n(i); INSERT INTO n VALUES(1),(2),(3),(4),(5)";

test("arguments and results of all kinds cross unchanged", () => {
  const db = memory();
  let seen: unknown[] = [];
  db.function("echo", { varargs: true }, (...values: unknown[]) => {
    seen = values;
    return values.at(-1);
  });
  const echo = (value: unknown): unknown => db.prepare("SELECT echo(1, ?)").pluck().get(value);
  const values = [
    0,
    -1.5,
    "",
    "é😀",
    "x".repeat(100_000),
    null,
    Buffer.alloc(0),
    Buffer.from([0, 255]),
    Buffer.alloc(200_000, 3),
  ];
  for (const value of values) {
    expect(echo(value)).toEqual(value);
    expect(seen).toEqual([1, value]);
  }
  expect(db.prepare("SELECT echo(?)").pluck().get(-5n)).toBe(-5);
  db.function("safe", { safeIntegers: true }, (value: bigint) => value + 1n);
  expect(
    db
      .prepare("SELECT safe(?)")
      .pluck()
      .safeIntegers()
      .get(2n ** 62n),
  ).toBe(2n ** 62n + 1n);
  expect(db.prepare("SELECT echo(zeroblob(3))").pluck().get()).toEqual(Buffer.alloc(3));
  expect(db.prepare("SELECT typeof(echo(7))").pluck().get()).toBe("real");
});

test("F1: what a function throws reaches the caller unchanged, an error or not", () => {
  const db = memory(NUMBERS);
  let thrown: unknown;
  db.function("fail", () => {
    throw thrown;
  });
  for (thrown of [new RangeError("mine"), "a string", undefined, 0, null]) {
    for (const action of [
      () => db.prepare("SELECT fail()").get(),
      () => db.prepare("SELECT fail() FROM n").all(),
      () => [...db.prepare("SELECT fail() FROM n").iterate()],
      () => db.prepare("UPDATE n SET i = fail()").run(),
      () => db.exec("SELECT fail()"),
    ]) {
      let caught: unknown = "nothing";
      try {
        action();
      } catch (error) {
        caught = error;
      }
      expect(caught).toBe(thrown);
    }
  }
  expect(db.prepare("SELECT count(*) FROM n").pluck().get()).toBe(5);
});

test("a function may use other connections, but not its own", () => {
  const db = memory();
  const other = memory(NUMBERS);
  const query = other.prepare("SELECT sum(i) FROM n WHERE i > ? AND ? <> ''");
  db.function("other_sum", (limit: number, text: string) => {
    for (const row of other.prepare("SELECT i FROM n").iterate()) expect(row).toBeDefined();
    return query.pluck().get(limit, text + "!");
  });
  db.function("own", () => db.prepare("SELECT 1").get());
  expect(
    db.prepare("SELECT ? AS a, other_sum(?, ?) AS b, ? AS c").get("first", 2, "text", "last"),
  ).toEqual({
    a: "first",
    b: 12,
    c: "last",
  });
  expect(() => db.prepare("SELECT own()").get()).toThrow(
    "This database connection is busy executing a query",
  );
  expect(() => other.prepare("SELECT nope()")).toThrow("no such function: nope");
});

test("an error on another connection inside a function does not leak into the outer query", () => {
  const db = memory();
  const other = memory("CREATE TABLE u(a UNIQUE); INSERT INTO u VALUES(1)");
  db.function("tries", () => {
    try {
      other.exec("INSERT INTO u VALUES(1)");
      return "inserted";
    } catch (error) {
      return (error as Error).message;
    }
  });
  expect(db.prepare("SELECT tries()").pluck().get()).toBe("UNIQUE constraint failed: u.a");
});

test("deterministic functions may be indexed, directOnly ones stay out of views", () => {
  const db = memory(NUMBERS);
  db.function("twice", { deterministic: true }, (a: number) => a * 2);
  db.exec("CREATE INDEX ni ON n(twice(i))");
  expect(db.prepare("SELECT i FROM n WHERE twice(i) = 6").pluck().get()).toBe(3);
  db.function("secret", { directOnly: true }, () => 1);
  db.exec("CREATE VIEW v AS SELECT secret() AS s");
  expect(() => db.prepare("SELECT * FROM v").get()).toThrow("unsafe use of secret()");
  db.function("random_one", () => 1);
  expect(() => db.exec("CREATE INDEX nr ON n(random_one())")).toThrow(
    "non-deterministic functions prohibited in index expressions",
  );
});

test("a function may be defined again, and is forgotten with its connection", () => {
  const before = runtime.functions.size;
  const db = memory();
  const statement = db
    .function("f", () => 1)
    .prepare("SELECT f()")
    .pluck();
  expect(statement.get()).toBe(1);
  db.function("f", () => 2);
  expect(statement.get()).toBe(2);
  expect(runtime.functions.size).toBe(before + 1);
  db.close();
  expect(runtime.functions.size).toBe(before);
});

test("arguments of function are checked", () => {
  const db = memory();
  const call = (...parameters: unknown[]): unknown =>
    Reflect.apply(Reflect.get(db, "function"), db, parameters);
  expect(() => call(5, () => 1)).toThrow("Expected first argument to be a string");
  expect(() => call("f", 5)).toThrow("Expected last argument to be a function");
  expect(() => call("f", 5, () => 1)).toThrow("Expected second argument to be an options object");
  expect(() => call("", () => 1)).toThrow("User-defined function name cannot be an empty string");
  expect(() => call("f", { varargs: 1 }, () => 1)).toThrow(
    'Expected the "varargs" option to be a boolean',
  );
  expect(() =>
    db
      .function("f", () => ({}))
      .prepare("SELECT f()")
      .get(),
  ).toThrow(new TypeError("User-defined function f() returned an invalid value"));
  expect(() =>
    db
      .function("f", () => 2n ** 70n)
      .prepare("SELECT f()")
      .get(),
  ).toThrow(new RangeError("User-defined function f() returned a bigint that was too big"));
});

test("aggregates: start as a value or function, step, result, groups", () => {
  const db = memory(NUMBERS);
  db.aggregate("total_of", { start: 10, step: (total: number, value: number) => total + value });
  db.aggregate("list", {
    start: () => [],
    step: (items: number[], value: number) => {
      items.push(value);
    },
    result: (items: number[]) => items.join(),
  });
  const get = (sql: string): unknown => db.prepare(sql).raw().all();
  expect(get("SELECT total_of(i), list(i) FROM n")).toEqual([[25, "1,2,3,4,5"]]);
  expect(get("SELECT total_of(i), list(i) FROM n WHERE 0")).toEqual([[10, ""]]);
  expect(get("SELECT i % 2, list(i), total_of(i) FROM n GROUP BY 1 ORDER BY 1")).toEqual([
    [0, "2,4", 16],
    [1, "1,3,5", 19],
  ]);
});

test("an aggregate with inverse is a window function", () => {
  const db = memory(NUMBERS);
  db.aggregate("s", {
    start: 0,
    step: (total: number, value: number) => total + value,
    inverse: (total: number, value: number) => total - value,
    result: (total: number) => `=${total}`,
  });
  const sql = "SELECT s(i) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM n";
  expect(db.prepare(sql).pluck().all()).toEqual(["=1", "=3", "=5", "=7", "=9"]);
  expect(db.prepare("SELECT s(i) FROM n").pluck().get()).toBe("=15");
});

test("F2: an aggregate that fails anywhere throws its own error, and the next one starts afresh", () => {
  const db = memory(NUMBERS);
  let failing = "";
  const at = (place: string): void => {
    if (failing === place) throw new Error(place);
  };
  db.aggregate("s", {
    start: () => (at("start"), 0),
    step: (total: number, value: number) => (at("step"), total + value),
    inverse: (total: number, value: number) => (at("inverse"), total - value),
    result: (total: number) => (at("result"), total),
  });
  const sql = "SELECT s(i) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM n";
  for (failing of ["start", "step", "inverse", "result"]) {
    expect(() => db.prepare(sql).all()).toThrow(new Error(failing));
  }
  failing = "";
  expect(db.prepare(sql).pluck().all()).toEqual([1, 3, 5, 7, 9]);
});
