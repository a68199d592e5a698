import { expect, test } from "vitest";
import { MemoryVfs } from "../testing/memory-vfs.ts";
import { Connection } from "./connection.ts";
import { SqliteRuntime } from "./runtime.ts";
import { readByLoop, readShortAscii, SHORT_TEXT_MAX } from "./short-text.ts";

const inPlace = new SqliteRuntime({ vfs: new MemoryVfs() });
const throughInterface = new SqliteRuntime({ vfs: new MemoryVfs(), readRowsInPlace: false });

test("L1: this build of SQLite has the expected layout", () => {
  expect(inPlace.layout).not.toBeNull();
  expect(throughInterface.layout).toBeNull();
});

test("L1: values read in place and through the interface are the same", () => {
  const queries = [
    "SELECT 1 AS a, -1 AS b, 2147483648 AS c, -9223372036854775808 AS d, 9007199254740993 AS e, 0.5 AS f, -0.0 AS g",
    "SELECT 'abc' AS a, '' AS b, 'é' AS c, cast(x'ff' AS TEXT) AS d, 'a'||char(0)||'b' AS e, printf('%.*c', 1000, 'y') AS f",
    "SELECT x'00ff' AS a, x'' AS b, zeroblob(20) AS c, NULL AS d, zeroblob(2)||x'01' AS e",
    "SELECT a, typeof(a) AS t, a+0 AS n, cast(a AS TEXT) AS x FROM (SELECT '5' AS a UNION ALL SELECT 7.0 UNION ALL SELECT 8)",
    "SELECT r FROM (SELECT 3 AS r) ORDER BY r",
    "SELECT t.i, t.r, u.* FROM t LEFT JOIN u ON u.i = t.i ORDER BY t.i",
    "SELECT i, r, sum(r) OVER (ORDER BY i) AS s, json_object('i', i) AS j FROM t",
  ];
  const [first, second] = [inPlace, throughInterface].map((runtime) =>
    new Connection(runtime, { name: ":memory:" }).exec(
      "CREATE TABLE t(i INTEGER, r REAL); INSERT INTO t VALUES(1, 5), (2, 2.5), (3, NULL); CREATE TABLE u(i, x TEXT); INSERT INTO u VALUES(1, 17)",
    ),
  );
  for (const sql of queries) {
    for (const configure of ["flat", "raw", "pluck", "expand", "safeIntegers"] as const) {
      const [a, b] = [first!, second!].map((db) => {
        const statement = db.prepare(sql);
        if (configure !== "flat") statement[configure]();
        return [statement.all(), statement.get(), [...statement.iterate()]];
      });
      expect(a, `${configure}: ${sql}`).toEqual(b);
    }
  }
});

test("short text is read the same by generated code, by a loop and by Node", () => {
  for (let size = 0; size <= SHORT_TEXT_MAX; size++) {
    const bytes = Buffer.from("abcdefghijklmnopqrstuvwxyz".slice(0, size) + "!");
    expect(readShortAscii(bytes, 0, size)).toBe(bytes.toString("utf8", 0, size));
    expect(readByLoop(bytes, 0, size)).toBe(bytes.toString("utf8", 0, size));
    for (let index = 0; index < size; index++) {
      const damaged = Buffer.from(bytes);
      damaged[index] = 0xc3;
      expect(readShortAscii(damaged, 0, size)).toBeNull();
      expect(readByLoop(damaged, 0, size)).toBeNull();
    }
  }
});
