import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  CollectingStream,
  COMMAND_TARGETS,
  CommandDirectory,
  FakeTerminal,
} from "../testing/run-command.ts";
import { run } from "./run.ts";

let directory: CommandDirectory;

describe.each(COMMAND_TARGETS)("the store of a %s", (target) => {
  beforeEach(async () => {
    directory = await CommandDirectory.on(target);
    await directory.ok(["database", "create", "shop"]);
    await directory.ok([
      "sql",
      "shop",
      `CREATE TABLE value(id INTEGER PRIMARY KEY, v);
     INSERT INTO value(v) VALUES (NULL), ('NULL'), (''), ('a,"b"' || char(10)), (1), (1.0),
       (9223372036854775807), (1e999), (x'00ff'), ('grüße')`,
    ]);
  });

  afterEach(async () => {
    await directory.end();
  });

  const QUERY = "SELECT v FROM value ORDER BY id";

  test("a table tells NULL from text, integers from reals, and shows control characters", async () => {
    const lines = (await directory.ok(["sql", "shop", QUERY])).split("\n");
    expect(lines.slice(3, 13).map((line) => line.slice(2, -2).trim())).toEqual([
      "NULL",
      "'NULL'",
      "",
      'a,"b"␊',
      "1",
      "1.0",
      "9223372036854775807",
      "9.0e+999",
      "x'00ff'",
      "grüße",
    ]);
  });

  test("json keeps all digits and holds blobs in base64", async () => {
    const text = await directory.ok(["sql", "shop", QUERY, "--output", "json"]);
    expect(text).toBe(
      '[{"v":null},{"v":"NULL"},{"v":""},{"v":"a,\\"b\\"\\n"},{"v":1},{"v":1.0},{"v":9223372036854775807},{"v":9.0e+999},{"v":"AP8="},{"v":"grüße"}]\n',
    );
    expect(JSON.parse(text)).toHaveLength(10);
  });

  test("csv quotes as RFC 4180 says, and an empty text is not NULL", async () => {
    expect(await directory.ok(["sql", "shop", QUERY, "--output", "csv"])).toBe(
      'v\r\n\r\nNULL\r\n""\r\n"a,""b""\n"\r\n1\r\n1.0\r\n9223372036854775807\r\n9.0e+999\r\nx\'00ff\'\r\ngrüße\r\n',
    );
  });

  test("each statement that returns rows prints its own result, the others nothing", async () => {
    const sql =
      "SELECT 1 AS a, 2 AS a; CREATE TABLE t(x); SELECT x FROM t; INSERT INTO t VALUES (5) RETURNING x";
    expect(await directory.json(["sql", "shop", sql])).toEqual([
      [{ a: 1, "a:1": 2 }],
      [],
      [{ x: 5 }],
    ]);
    expect(await directory.ok(["sql", "shop", "DELETE FROM t"])).toBe("");
  });

  test("statements come from stdin, triggers, comments and strings with semicolons among them", async () => {
    const stdin = `-- a comment; with a semicolon
    CREATE TABLE a(x); /* another; */
    CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; DELETE FROM a WHERE x = 'y;'; END;
    INSERT INTO a VALUES ('x;'), ('y;');
    SELECT x FROM a`;
    expect(await directory.json(["sql", "shop"], { stdin })).toEqual([{ x: "x;" }]);
  });

  test("the first failing statement ends the run and is named, what came before it stays", async () => {
    const stdin =
      "CREATE TABLE a(x);\nINSERT INTO a VALUES (1);\n\nINSERT INTO\n  b VALUES (2);\nDROP TABLE a;";
    expect(await directory.fails(1, ["sql", "shop"], { stdin })).toBe(
      'Cannot run statement "INSERT INTO b VALUES (2);" at line 4: no such table: b',
    );
    expect(await directory.json(["sql", "shop", "SELECT x FROM a"])).toEqual([{ x: 1 }]);
  });

  test("rows before an error are printed, and the error is an object with --output json", async () => {
    const sql = "SELECT 1 AS a; INSERT INTO value(id) VALUES (1)";
    const result = await directory.bough(["sql", "shop", sql, "--output", "json"]);
    expect(result).toMatchObject({ exitCode: 1, stdout: '[{"a":1}]\n' });
    expect(JSON.parse(result.stderr)).toEqual({
      error: {
        code: "SQLITE_CONSTRAINT_PRIMARYKEY",
        message:
          'Cannot run statement "INSERT INTO value(id) VALUES (1)" at line 1: UNIQUE constraint failed: value.id',
      },
    });
  });

  test("a transaction that a script leaves open is rolled back, and that is an error", async () => {
    const message = await directory.fails(1, ["sql", "shop", "BEGIN; DELETE FROM value"]);
    expect(message).toContain("was not committed");
    expect(await directory.json(["sql", "shop", "SELECT count(*) AS n FROM value"])).toEqual([
      { n: 10 },
    ]);
  });

  test("a write to a fixed version is refused", async () => {
    const result = await directory.bough([
      "sql",
      "shop@1",
      "DELETE FROM value",
      "--output",
      "json",
    ]);
    expect(result.exitCode).toBe(1);
    expect(JSON.parse(result.stderr)).toMatchObject({
      error: { code: "READ_ONLY", message: expect.stringContaining('"shop@1" is a fixed version') },
    });
  });

  test("past and present meet in one query", async () => {
    await directory.ok(["sql", "shop", "DELETE FROM value WHERE id > 4"]);
    const sql =
      "ATTACH 'shop@2' AS old; SELECT (SELECT count(*) FROM value) AS now, (SELECT count(*) FROM old.value) AS was";
    expect(await directory.json(["sql", "shop", sql])).toEqual([{ now: 4, was: 10 }]);
  });

  test("many rows come out complete in every format", async () => {
    const sql =
      "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000) SELECT x FROM n";
    const lines = async (format: string): Promise<string[]> =>
      (await directory.ok(["sql", "shop", sql, "--output", format])).split(/\r?\n/);
    const table = await lines("table");
    expect(table).toHaveLength(20_000 + 5);
    expect(table.at(-3)).toContain("20000");
    expect((await lines("csv")).slice(1, -1).map(Number)).toEqual(
      Array.from({ length: 20_000 }, (_, index) => index + 1),
    );
  });

  test("a terminal that does not know its width counts as 80 characters wide", async () => {
    const { stdin, stderr } = new FakeTerminal();
    const stdout = new CollectingStream({ isTTY: true, columns: 0 });
    const { env } = directory;
    const sql = "SELECT hex(zeroblob(100)) AS wide";
    expect(await run(["sql", "shop", sql], { stdin, stdout, stderr, env })).toBe(0);
    expect(stdout.text.split("\n")[0]).toHaveLength(80);
  });
});
