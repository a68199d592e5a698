/**
 * The same SQL on bough's host and on the official JavaScript API of the same build, which shares none of the host:
 * same rows, same errors, same bytes of the database.
 */
import sqlite3InitModule from "@sqlite.org/sqlite-wasm";
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { MemoryVfs } from "../testing/memory-vfs.ts";
import { Connection } from "./connection.ts";
import { SqliteRuntime } from "./runtime.ts";

type Row = unknown[];
interface Outcome {
  readonly rows?: Row[];
  readonly error?: string;
}

let stock: Awaited<ReturnType<typeof sqlite3InitModule>>;
const vfs = new MemoryVfs();
const runtime = new SqliteRuntime({ vfs });
let databases = 0;

beforeAll(async () => {
  stock = await sqlite3InitModule();
  // It reports each failing statement.
  Object.assign(stock.config, { warn: () => undefined, error: () => undefined });
});

/** Runs each statement on both, in files of the same settings, and compares outcome by outcome, then the databases. */
function compare(statements: readonly string[]): Outcome[] {
  const reference = new stock.oo1.DB(":memory:");
  const connection = new Connection(runtime, { name: `database${++databases}` });
  reference.exec("PRAGMA page_size=4096; PRAGMA foreign_keys=1; PRAGMA journal_mode=MEMORY");
  try {
    const outcomes = statements.map((sql) => {
      const expected = runStock(reference, sql);
      const actual = run(connection, sql);
      expect(actual, sql).toEqual(expected);
      return actual;
    });
    expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
    const bytes = withoutCounters(connection.serialize());
    const expectedBytes = withoutCounters(stock.capi.sqlite3_js_db_export(reference));
    expect(bytes.equals(expectedBytes), "same bytes").toBe(true);
    return outcomes;
  } finally {
    reference.close();
    connection.close();
  }
}

/** Change counter, version-valid-for and SQLite version: a database in memory, like the reference, has none. */
function withoutCounters(bytes: Uint8Array): Buffer {
  const copy = Buffer.from(bytes);
  copy.fill(0, 24, 28).fill(0, 92, 100);
  return copy;
}

function runStock(database: InstanceType<typeof stock.oo1.DB>, sql: string): Outcome {
  try {
    const rows: Row[] = [];
    database.exec({
      sql,
      rowMode: "array",
      callback: (row: Row) => void rows.push(row.map(plain)),
    });
    return { rows };
  } catch (error) {
    // "SQLITE_ERROR: sqlite3 result code 1: message"
    return { error: (error as Error).message.replace(/^.*?result code \d+: /, "") };
  }
}

function run(connection: Connection, sql: string): Outcome {
  try {
    const statement = connection.prepare(sql);
    if (!statement.reader) {
      statement.run();
      return { rows: [] };
    }
    const rows = statement.raw().all() as Row[];
    return { rows: rows.map((row) => row.map(plain)) };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

/** Blobs as hex; bigints, which the official API gives beyond 2^53, as the double. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return `x'${Buffer.from(value).toString("hex")}'`;
  return typeof value === "bigint" ? Number(value) : value;
}

const lines = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");

test("values of all kinds", () => {
  compare(
    lines(`
      SELECT 1, -1, 0, 127, 128, 32768, 2147483647, 2147483648, -2147483649, 9007199254740993, 9223372036854775807
      SELECT 0.0, -0.0, 1.5, 1e300, 1e-320, 9e999, -9e999, 3.0
      SELECT '', 'a', 'é', '😀', 'exactly twelve', 'abcdefghijklmnopqrstuvwx', 'abcdefghijklmnopqrstuvwxy', 'éabcdefghijklmnop'
      SELECT x'', x'00', x'ff00ff', zeroblob(5), zeroblob(0), NULL
      SELECT cast(x'61ff62' AS TEXT), cast(x'c3' AS TEXT), cast(x'610062' AS TEXT), char(65533), char(1114111)
      SELECT cast('12' AS INT), cast(1.9 AS INT), '5'+0, 1||'', typeof(1.0), typeof('1'+1), 7/2, 7%3, 1/0
      SELECT max(1,2.5,'x'), min(NULL,1), coalesce(NULL,x'01'), nullif(1,1), iif(1,'a',2)
      SELECT 5 AS a, 6 AS a UNION ALL SELECT 'x', NULL
    `),
  );
});

test("tables, constraints, indexes, triggers, views, generated columns", () => {
  compare(
    lines(`
      CREATE TABLE p(id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE, price REAL CHECK(price >= 0), tax AS (price*0.2) STORED, gross AS (price+tax))
      CREATE TABLE s(p REFERENCES p(id) ON DELETE CASCADE, n INT) STRICT
      CREATE TABLE w(k TEXT PRIMARY KEY, v ANY) STRICT, WITHOUT ROWID
      INSERT INTO p(name, price) VALUES('Apple', 1.25), ('pear', 2), ('Fig', 0)
      INSERT INTO p(name, price) VALUES('APPLE', 1)
      INSERT INTO p(name, price) VALUES('kiwi', -1)
      INSERT INTO p(name) VALUES(NULL)
      INSERT INTO p(name, price) VALUES('pear', 9) ON CONFLICT(name) DO UPDATE SET price=excluded.price RETURNING *
      INSERT INTO w VALUES('a', 1), ('b', 'text'), ('c', x'0102'), ('d', 1.5), ('e', NULL)
      SELECT k, v, typeof(v) FROM w ORDER BY k DESC
      CREATE VIEW cheap AS SELECT name, gross FROM p WHERE price < 2
      CREATE TRIGGER tr AFTER UPDATE OF price ON p BEGIN INSERT INTO w VALUES(new.name||old.price, new.price); END
      UPDATE p SET price = price + 1 WHERE name = 'FIG'
      SELECT * FROM cheap ORDER BY name
      SELECT * FROM w ORDER BY k
      CREATE INDEX pi ON p(gross DESC, name) WHERE price > 1
      EXPLAIN QUERY PLAN SELECT name FROM p INDEXED BY pi WHERE price > 1 ORDER BY gross DESC
      INSERT INTO s VALUES(1, 5), (99, 1)
      INSERT INTO s VALUES(1, 'no')
      CREATE TABLE bad(a, a)
      SELECT * FROM nope
      ALTER TABLE p RENAME COLUMN price TO cost
      ALTER TABLE p DROP COLUMN gross
      ALTER TABLE p ADD COLUMN note DEFAULT 'n'
      SELECT * FROM p
      SELECT sql FROM sqlite_schema ORDER BY name
      DELETE FROM p WHERE id = 1
      REINDEX
      ANALYZE
      VACUUM
      SELECT count(*) FROM p
      PRAGMA foreign_key_check
      DROP TABLE p
    `),
  );
});

test("full-text search, R-tree, JSON, window functions, recursion, dates, math, dbstat", () => {
  compare(
    lines(`
      CREATE VIRTUAL TABLE f USING fts5(title, body, tokenize='porter unicode61')
      INSERT INTO f VALUES('Running', 'the quick brown fox runs'), ('Über', 'Zürich and Köln'), ('none', 'nothing here')
      SELECT title, highlight(f, 1, '[', ']'), bm25(f) FROM f WHERE f MATCH 'run OR zurich' ORDER BY rank
      SELECT snippet(f, 1, '<', '>', '...', 2) FROM f('fox')
      DELETE FROM f WHERE title = 'none'
      INSERT INTO f(f) VALUES('integrity-check')
      INSERT INTO f(f) VALUES('optimize')
      CREATE VIRTUAL TABLE r USING rtree(id, x0, x1, y0, y1)
      INSERT INTO r VALUES(1,0,1,0,1),(2,5,6,5,6),(3,0.5,5.5,0.5,5.5)
      SELECT id FROM r WHERE x1 >= 1 AND x0 <= 2 AND y0 < 3 ORDER BY id
      SELECT json('{"a":[1,2,{"b":null}]}'), json_extract('{"a":{"b":[5]}}','$.a.b[0]'), '{"x":1}'->>'x', json_group_array(value) FROM json_each('[3,"z",null]')
      SELECT key, type, atom FROM json_tree('{"a":[1,2.5,"s",true,null]}')
      SELECT hex(jsonb('{"k":[1]}')), json_patch('{"a":1}','{"a":null,"b":2}'), json_valid('{')
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20) SELECT i, sum(i) OVER w, row_number() OVER (ORDER BY i DESC), ntile(3) OVER (ORDER BY i), lag(i,2,0) OVER w, first_value(i) OVER (PARTITION BY i%3 ORDER BY i) FROM n WINDOW w AS (ORDER BY i ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)
      SELECT date('2024-01-31','+1 month'), datetime(1700000000,'unixepoch'), strftime('%J %w %W %s','2001-02-03'), timediff('2024-03-01','2023-12-31'), julianday('2000-01-01')
      SELECT sqrt(2), pow(2,10), ln(10), pi(), ceil(1.2), trunc(-1.7), degrees(1), mod(7,3), acos(2)
      SELECT printf('%05.2f|%-5s|%x|%,d', 3.14159, 'ab', 255, 1234567), format('%q', 'it''s'), quote(x'00ff'), unhex('4142'), hex('é')
      SELECT group_concat(v, '-' ORDER BY v DESC), string_agg(v, ','), median(v), percentile(v, 25) FROM (SELECT 3 AS v UNION SELECT 1 UNION SELECT 2)
      SELECT name, pageno, pagetype FROM dbstat ORDER BY pageno LIMIT 5
      SELECT length(data) FROM sqlite_dbpage WHERE pgno = 1
      SELECT * FROM pragma_table_info('f')
      SELECT instr('héllo','l'), substr('héllo',2,2), upper('é'), trim('  x '), replace('aXa','X','--'), unicode('€'), like('a%','ABC'), glob('a*','abc')
    `),
  );
});

test("savepoints, cache spill, rollback and commit of large transactions", () => {
  const many = (count: number): string =>
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<${count}) INSERT INTO big SELECT i, printf('%.*c', 300, 'x') || i FROM n`;
  compare([
    "PRAGMA cache_size=10",
    "CREATE TABLE big(i INTEGER PRIMARY KEY, t TEXT)",
    "CREATE INDEX bt ON big(t)",
    "BEGIN",
    many(5000),
    "SELECT count(*), sum(i) FROM big",
    "ROLLBACK",
    "SELECT count(*) FROM big",
    "BEGIN",
    many(3000),
    "SAVEPOINT one",
    "UPDATE big SET t = 'y' || i WHERE i % 3 = 0",
    "SAVEPOINT two",
    "DELETE FROM big WHERE i % 2 = 0",
    "SELECT count(*), max(t) FROM big",
    "ROLLBACK TO two",
    "SELECT count(*), max(t) FROM big",
    "RELEASE one",
    "COMMIT",
    "SELECT count(*), sum(length(t)) FROM big",
    "SELECT i FROM big ORDER BY t DESC LIMIT 3",
    "CREATE TEMP TABLE sorted AS SELECT * FROM big ORDER BY substr(t, -3), i",
    "SELECT * FROM sorted LIMIT 2 OFFSET 1000",
    "DELETE FROM big WHERE i > 10",
    "PRAGMA incremental_vacuum",
    "VACUUM",
    "PRAGMA page_count",
    "PRAGMA freelist_count",
  ]);
});

const name = fc.constantFrom("a", "b", "c");
const table = fc.constantFrom("t", "u");
const literal = fc.oneof(
  fc.integer({ min: -5, max: 5 }).map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value.toExponential()),
  fc
    .string({ maxLength: 20 })
    .filter((text) => !text.includes("\0"))
    .map((text) => `'${text.replaceAll("'", "''")}'`),
  fc.uint8Array({ maxLength: 12 }).map((bytes) => `x'${Buffer.from(bytes).toString("hex")}'`),
  fc.constantFrom("NULL", "9223372036854775807", "zeroblob(9)", "1e999"),
);
const expression = fc.oneof(
  { weight: 3, arbitrary: literal },
  { weight: 3, arbitrary: name },
  fc
    .tuple(name, fc.constantFrom("+", "*", "||", "%", "=", "IS NOT", "<", "LIKE"), literal)
    .map((parts) => `(${parts.join(" ")})`),
  fc
    .tuple(fc.constantFrom("typeof", "length", "hex", "abs", "quote", "upper"), name)
    .map(([call, argument]) => `${call}(${argument})`),
);
const statement = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(table, fc.constantFrom("", "OR IGNORE ", "OR REPLACE "), literal, literal, literal)
      .map(([t, or, ...v]) => `INSERT ${or}INTO ${t} VALUES(${v.join(", ")})`),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(table, name, expression, expression)
      .map(([t, n, e, w]) => `UPDATE ${t} SET ${n} = ${e} WHERE ${w}`),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(table, expression).map(([t, w]) => `DELETE FROM ${t} WHERE ${w}`),
  },
  {
    weight: 5,
    arbitrary: fc
      .tuple(expression, table, expression)
      .map(([e, t, w]) => `SELECT *, ${e} FROM ${t} WHERE ${w} ORDER BY 1, 2, 3, 4`),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(table, name)
      .map(
        ([t, n]) =>
          `SELECT ${n}, count(*), total(a), group_concat(b) FROM ${t} GROUP BY ${n} ORDER BY 1`,
      ),
  },
  {
    weight: 1,
    arbitrary: fc.constant(
      "SELECT t.a, u.b FROM t LEFT JOIN u ON t.a = u.a ORDER BY t.rowid, u.rowid",
    ),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      "BEGIN",
      "COMMIT",
      "ROLLBACK",
      "SAVEPOINT s",
      "ROLLBACK TO s",
      "RELEASE s",
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      "CREATE INDEX i ON t(b)",
      "DROP INDEX i",
      "CREATE UNIQUE INDEX j ON u(a, b)",
      "DROP INDEX j",
      "ALTER TABLE u ADD COLUMN d",
      "VACUUM",
      "ANALYZE",
    ),
  },
);

test("random statements give the same rows, errors and files", () => {
  fc.assert(
    fc.property(fc.array(statement, { minLength: 5, maxLength: 40 }), (statements) => {
      compare([
        "CREATE TABLE t(a INTEGER, b TEXT UNIQUE, c REAL)",
        "CREATE TABLE u(a, b NOT NULL, c BLOB CHECK(length(c) < 10))",
        ...statements,
        "COMMIT",
      ]);
    }),
    { numRuns: process.env["BOUGH_TEST_LONG"] === undefined ? 60 : 5000 },
  );
});
