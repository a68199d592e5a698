/** Random requests of Hrana, good ones and others, for server-fuzz.test.ts: what is in a body, and how it is written as JSON. */
import type { Random } from "../src/testing/random.ts";

/** The name of a database, a branch and a tag of another tenant. */
export const SECRET = "zq7secret";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const SQL: readonly string[] = [
  "SELECT 1",
  "SELECT a, b FROM t ORDER BY a",
  "INSERT INTO t(b) VALUES (?) RETURNING a",
  "INSERT INTO t(a, b) VALUES (:a, $b)",
  "BEGIN",
  "BEGIN IMMEDIATE",
  "BEGIN CONCURRENT",
  "BEGIN TRANSACTION READONLY",
  "COMMIT",
  "ROLLBACK",
  "SAVEPOINT x",
  "PRAGMA foreign_keys=off",
  "PRAGMA user_version = 3",
  "PRAGMA writable_schema = 1",
  "CREATE TEMP TABLE x AS SELECT * FROM t",
  "DROP TABLE IF EXISTS t2; CREATE TABLE t2(x)",
  `ATTACH '${SECRET}' AS s`,
  `ATTACH 'shop/${SECRET}' AS s`,
  `ATTACH 'shop@${SECRET}' AS s`,
  "ATTACH 'shop/dev' AS s",
  "VACUUM",
  `VACUUM INTO '${SECRET}'`,
  "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c",
  "SELECT randomblob(200000), zeroblob(10)",
  "SELECT '",
  "SELECT \u0000 1",
  "--",
  ";;",
  "",
  "EXPLAIN QUERY PLAN SELECT * FROM t",
  "SELECT json_extract('{', '$.a')",
  "REPLACE INTO sqlite_master VALUES (1)",
  "/* a */ SELECT -- b\n 1 /* c -- d */ -- e",
  "/* /* nested */ SELECT 1 */",
  "SELECT 1 /* unterminated",
  "SELECT 1; -- and then\n; /* nothing */ ;",
  "/**/".repeat(5000),
  "--\n".repeat(5000),
  "-- \u{1f600} \u0000\nSELECT 2",
  "SELECT 'é\u0301', \"ünïcode ✓\", [\u{1f600}], `x` FROM t",
  'CREATE TABLE IF NOT EXISTS "та́блица \u{1f600}"("col\u0000umn", ж)',
  `SELECT ${"(".repeat(500)}1${")".repeat(500)}`,
  `SELECT 1${" + 1".repeat(2000)}`,
  "SELECT 1;".repeat(3000),
  "BEGIN;ROLLBACK;".repeat(300),
  "SELECT ?99999, ?1, :é, @\u{1f600}, $a::b(c)",
  `SELECT ${"9".repeat(400)}, 0x8000000000000000, 1e999, -9223372036854775808`,
  `ATTACH 'SHOP/${SECRET}' AS s; SELECT * FROM s.t`,
  `ATTACH DATABASE (SELECT '${SECRET}') AS s; SELECT * FROM s.t`,
  `ATTACH 'file:${SECRET}?mode=ro' AS s; SELECT * FROM s.t`,
  `ATTACH '${SECRET}@1' AS s; SELECT * FROM s.t`,
  `ATTACH '${SECRET}/main@1' AS "s"".t"; SELECT * FROM "s"".t".t`,
  `ATTACH 'shop/../${SECRET}' AS s; SELECT * FROM s.t`,
  `ATTACH '${SECRET}\u0000' AS main; SELECT * FROM t`,
  `ATTACH ? AS ?`,
  `DETACH s; DETACH main; DETACH temp`,
  "ATTACH '/etc/passwd' AS f; SELECT * FROM f.sqlite_schema",
  "ATTACH '' AS e; CREATE TABLE e.x(a); ATTACH ':memory:' AS m; CREATE TABLE m.x(a)",
  "ATTACH 'shop/dev@1' AS d; SELECT * FROM d.t, main.t",
  "SELECT * FROM pragma_database_list, pragma_table_list, pragma_module_list",
  "SELECT * FROM sqlite_stmt",
  "SELECT * FROM sqlite_dbpage, dbstat",
  "SELECT load_extension('x'), readfile('/etc/passwd')",
  "PRAGMA database_list; PRAGMA temp_store_directory = '/tmp'; PRAGMA journal_mode = WAL",
];

const NAMES =
  "type stmt sql sql_id args named_args want_rows steps batch condition cond conds step requests baton stream_id request_id value base64 name statements q params jwt request __proto__ constructor toString length".split(
    " ",
  );

const WORDS =
  "execute batch sequence describe store_sql close_sql get_autocommit close open_stream close_stream hello request ok error not and or is_autocommit integer float text blob null EXECUTE exécute тип 😀".split(
    " ",
  );

const NUMBERS = [0, 1, 2, -1, 0.5, 2 ** 31, 2 ** 53, 1e308, -0];
const TEXTS = [
  "",
  "1",
  "-9223372036854775808",
  "9223372036854775808",
  "1e5",
  "AQID",
  "A",
  "\ud800",
  "\udc00 \ud83d\ude00 \u0000",
  "é".repeat(3000),
  SECRET,
];

function leaf(random: Random): Json {
  switch (random.integer(0, 6)) {
    case 0:
      return null;
    case 1:
      return random.chance(0.5);
    case 2:
      return random.pick(NUMBERS);
    case 3:
      return random.pick(TEXTS);
    case 4:
      return random.pick(WORDS);
    case 5:
      return random.pick(SQL);
    default:
      return "x".repeat(random.pick([10, 1000, 50_000]));
  }
}

function anything(random: Random, depth = 0): Json {
  if (depth > 3 || random.chance(0.5)) return leaf(random);
  const count = random.integer(0, 4);
  const parts = Array.from({ length: count }, () => anything(random, depth + 1));
  if (random.chance(0.5)) return parts;
  return fromEntries(parts.map((part) => [random.pick(NAMES), part]));
}

/** "__proto__" is a name like any other, as for JSON.parse. */
function fromEntries(entries: readonly (readonly [string, Json])[]): { [name: string]: Json } {
  return Object.fromEntries(entries);
}

function goodValue(random: Random): Json {
  return random.pick<Json>([
    { type: "null" },
    { type: "integer", value: random.pick(["1", "-5", "9223372036854775807"]) },
    { type: "float", value: 2.5 },
    { type: "text", value: random.pick(TEXTS) },
    { type: "blob", base64: "AQID" },
  ]);
}

function goodStatement(random: Random): Json {
  return {
    sql: random.pick(SQL),
    args: Array.from({ length: random.integer(0, 2) }, () => goodValue(random)),
    ...(random.chance(0.2) ? { named_args: [{ name: ":a", value: goodValue(random) }] } : {}),
    want_rows: random.chance(0.9),
  };
}

function goodBatch(random: Random): Json {
  const steps = Array.from({ length: random.integer(0, 5) }, (_, index) => ({
    stmt: goodStatement(random),
    ...(index > 0 && random.chance(0.5) ? { condition: goodCondition(random, index, 0) } : {}),
  }));
  return { steps };
}

function goodCondition(random: Random, before: number, depth: number): Json {
  const type = random.pick(depth > 4 ? ["ok"] : ["ok", "error", "not", "and", "or"]);
  if (type === "not") return { type, cond: goodCondition(random, before, depth + 1) };
  if (type === "and" || type === "or")
    return { type, conds: [goodCondition(random, before, depth + 1), { type: "is_autocommit" }] };
  return { type, step: random.integer(0, before - 1) };
}

function goodRequest(random: Random): { [name: string]: Json } {
  const type = random.pick(WORDS.slice(0, 8));
  return {
    type,
    stmt: goodStatement(random),
    batch: goodBatch(random),
    ...(type === "store_sql" || type === "close_sql" ? { sql_id: random.integer(0, 5) } : {}),
    ...(type === "close_sql" ? {} : { sql: random.pick(SQL) }),
  };
}

export const CALLS: readonly string[] = [
  "v2/pipeline",
  "v3/pipeline",
  "v3/cursor",
  "v1/execute",
  "v1/batch",
  "",
  "v2",
  "v9/x",
];

export function goodBody(random: Random, call: string, batons: readonly string[]): Json {
  const baton = batons.length > 0 && random.chance(0.4) ? random.pick(batons) : null;
  switch (call) {
    case "v3/cursor":
      return { baton, batch: goodBatch(random) };
    case "v1/execute":
      return { stmt: goodStatement(random) };
    case "v1/batch":
      return { batch: goodBatch(random) };
    case "":
      return {
        statements: [random.pick(SQL), { q: random.pick(SQL), params: [leaf(random)] }],
      };
    default: {
      const requests = Array.from({ length: random.integer(0, 4) }, () => goodRequest(random));
      return { baton, requests };
    }
  }
}

/** The same with one place changed. */
export function mutated(random: Random, value: Json): Json {
  if (random.chance(0.25) || value === null || typeof value !== "object") return anything(random);
  if (Array.isArray(value)) {
    const copy = [...value];
    const at = random.integer(0, copy.length);
    const change = copy.length === 0 ? 0 : random.integer(0, 4);
    if (change === 0) copy.splice(at, 0, anything(random));
    else if (change === 1) copy.splice(at, 1);
    else if (at < copy.length) copy[at] = mutated(random, copy[at]!);
    return copy;
  }
  const entries = Object.entries(value);
  if (entries.length === 0 || random.chance(0.2))
    return fromEntries([...entries, [random.pick(NAMES), anything(random)]]);
  const at = random.integer(0, entries.length - 1);
  if (random.chance(0.2)) entries.splice(at, 1);
  else entries[at] = [entries[at]![0], mutated(random, entries[at]![1])];
  return fromEntries(entries);
}

const NUMBER_TEXTS = [
  "1e400",
  "-1e400",
  "1E-999",
  "-0",
  "9".repeat(400),
  `0.${"0".repeat(400)}1`,
  "9007199254740993",
  "2147483648",
  "01",
  "+1",
  "NaN",
];

/** As it is sent: also text that JSON.stringify does not make, and bytes that are no text. */
export function sent(random: Random, value: Json): string | Buffer {
  const text = encoded(random, value);
  switch (random.integer(0, 12)) {
    case 0:
      return inPlaceOf(/-?\d+/g, { random, text, by: random.pick(NUMBER_TEXTS) });
    case 1: // Names that are there twice.
      return inPlaceOf(/\{"/g, { random, text, by: '{"type":"close","sql":1,"baton":{},"' });
    case 2:
      return inPlaceOf(/":"/g, { random, text, by: '":"\\ud800\\udfff\\ud800\\u0000' });
    case 3:
      return inPlaceOf(/":"/g, { random, text, by: `":"${"long é ".repeat(5000)}` });
    case 4: {
      const bytes = Buffer.from(text);
      const at = random.integer(0, bytes.length);
      const odd = random.pick([[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90], [0]]);
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(odd), bytes.subarray(at)]);
    }
    default:
      return text;
  }
}

/** One of the places that fit is another text. */
function inPlaceOf(
  pattern: RegExp,
  { random, text, by }: { readonly random: Random; readonly text: string; readonly by: string },
): string {
  const places = [...text.matchAll(pattern)];
  if (places.length === 0) return text;
  const { 0: found, index } = random.pick(places);
  return text.slice(0, index) + by + text.slice(index + found.length);
}

/** Text, sometimes no JSON any more. */
function encoded(random: Random, value: Json): string {
  const text = JSON.stringify(value);
  switch (random.integer(0, 12)) {
    case 0:
      return text.slice(0, random.integer(0, text.length));
    case 1: {
      const at = random.integer(0, text.length);
      return text.slice(0, at) + random.pick(["\u0000", '"', "}", "[", "\ufffd"]) + text.slice(at);
    }
    case 2:
      if (random.chance(0.5)) return text;
      return random.pick(["[".repeat(100_000), '{"a":'.repeat(50_000), "nul", "", "\ufeff{}"]);
    default:
      return text;
  }
}

export function good(random: Random, value: Json): Json {
  return random.chance(0.3) ? value : mutated(random, value);
}

export function goodMessage(random: Random, token: string): Json {
  if (random.chance(0.1)) return { type: "hello", jwt: random.chance(0.8) ? token : leaf(random) };
  const request = random.chance(0.3)
    ? { type: random.pick(["open_stream", "close_stream"]) }
    : goodRequest(random);
  const stream = { stream_id: random.integer(0, 3) };
  return {
    type: "request",
    request_id: random.integer(0, 1000),
    request: { ...request, ...stream },
  };
}
