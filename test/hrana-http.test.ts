/** Hrana over HTTP as its documents have it, without a client in between: shapes, batons, limits, errors, URLs. */
import { once } from "node:events";
import { request } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { type Answer, CLOSE, execute, ServedDirectory, sqls } from "./server-fixture.ts";

let served: ServedDirectory;

beforeEach(async () => {
  served = await ServedDirectory.start();
  served.store.createDatabase("shop");
  await served.post("/shop/v2/pipeline", sqls("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)"));
});

afterEach(async () => {
  await served[Symbol.asyncDispose]();
  expect(served.bugs).toEqual([]);
});

describe("answers", () => {
  test("a result has every field with its type, in versions 2 and 3", async () => {
    const requests = [execute("SELECT 1 AS a, 2.5, 'é', x'010203ff', NULL"), CLOSE];
    const { status, type, body } = await served.pipeline(requests);
    expect([status, type]).toEqual([200, "application/json"]);
    const result = {
      cols: [
        { name: "a", decltype: null },
        { name: "2.5", decltype: null },
        { name: "'é'", decltype: null },
        { name: "x'010203ff'", decltype: null },
        { name: "NULL", decltype: null },
      ],
      rows: [
        [
          { type: "integer", value: "1" },
          { type: "float", value: 2.5 },
          { type: "text", value: "é" },
          { type: "blob", base64: "AQID/w" },
          { type: "null" },
        ],
      ],
      affected_row_count: 0,
      last_insert_rowid: "0",
    };
    expect(body).toEqual({
      baton: null,
      base_url: null,
      results: [
        { type: "ok", response: { type: "execute", result } },
        { type: "ok", response: { type: "close" } },
      ],
    });
    const third = await served.pipeline(requests, null, 3);
    expect(third.body.results[0].response.result).toEqual({
      ...result,
      rows_read: 1,
      rows_written: 0,
      query_duration_ms: expect.any(Number),
    });
  });

  test("want_rows false drops rows and keeps columns", async () => {
    const { body } = await served.pipeline([
      execute("SELECT a FROM t UNION SELECT 1", { want_rows: false }),
      CLOSE,
    ]);
    expect(body.results[0].response.result).toMatchObject({
      cols: [{ name: "a" }],
      rows: [],
    });
  });

  test("values come back as they were sent, with either form of base64", async () => {
    const values = [
      { type: "integer", value: "-9223372036854775808" },
      { type: "integer", value: "9223372036854775807" },
      { type: "float", value: 7 },
      { type: "text", value: 'a"\\\u0000\n✓' },
      { type: "null" },
    ];
    const blobs = ["AQ==", "AQ"].map((base64) => ({ type: "blob", base64 }));
    const { body } = await served.pipeline([
      execute("SELECT ?, ?, ?, ?, ?, ?, ?", { args: [...values, ...blobs] }),
      CLOSE,
    ]);
    expect(body.results[0].response.result.rows[0]).toEqual([
      ...values,
      { type: "blob", base64: "AQ" },
      { type: "blob", base64: "AQ" },
    ]);
  });

  test("an error in one request does not keep the following ones from running", async () => {
    const { status, body } = await served.pipeline([
      execute("INSERT INTO t VALUES (1, 'x')"),
      execute("INSERT INTO t VALUES (1, 'x')"),
      { type: "sequence", sql: "INSERT INTO t VALUES (2, 'y'); INSERT INTO t VALUES (3, 'z')" },
      { type: "describe", sql: "SELECT b AS c, ? FROM t WHERE a = :a" },
      { type: "describe", sql: "EXPLAIN DELETE FROM t" },
      { type: "get_autocommit" },
      CLOSE,
    ]);
    expect(status).toBe(200);
    expect(body.results.map((each: { type: string }) => each.type).join()).toBe(
      "ok,error,ok,ok,ok,ok,ok",
    );
    expect(body.results[1].error).toEqual({
      message: "UNIQUE constraint failed: t.a",
      code: "SQLITE_CONSTRAINT",
      extended_code: "SQLITE_CONSTRAINT_PRIMARYKEY",
    });
    expect(body.results[3].response.result).toEqual({
      params: [{ name: null }, { name: ":a" }],
      cols: [
        { name: "c", decltype: "TEXT" },
        { name: "?", decltype: null },
      ],
      is_explain: false,
      is_readonly: true,
    });
    expect(body.results[4].response.result).toMatchObject({ is_explain: true });
    expect(body.results[5].response).toEqual({ type: "get_autocommit", is_autocommit: true });
  });

  test("columns follow a schema that another connection has changed", async () => {
    const { body } = await served.pipeline([execute("SELECT * FROM t")]);
    await served.post(
      "/shop/v2/pipeline",
      sqls("ALTER TABLE t ADD COLUMN c REAL", "INSERT INTO t VALUES (1, 'x', 2.5)"),
    );
    const { body: next } = await served.pipeline([execute("SELECT * FROM t"), CLOSE], body.baton);
    expect(next.results[0].response.result).toMatchObject({
      cols: [{ name: "a" }, { name: "b" }, { name: "c", decltype: "REAL" }],
      rows: [[{ value: "1" }, { value: "x" }, { value: 2.5 }]],
    });
  });
});

describe("batches", () => {
  const ok = (step: number): object => ({ type: "ok", step });

  test("steps run as their conditions say", async () => {
    const failed = { type: "error", step: 1 };
    const steps = [
      { stmt: { sql: "SELECT 0" } },
      { stmt: { sql: "nonsense" }, condition: ok(0) },
      { stmt: { sql: "SELECT 2" }, condition: ok(1) },
      { stmt: { sql: "SELECT 3" }, condition: failed },
      // A step that was skipped is neither.
      {
        stmt: { sql: "SELECT 4" },
        condition: { type: "or", conds: [ok(2), { type: "error", step: 2 }] },
      },
      {
        stmt: { sql: "SELECT 5" },
        condition: { type: "and", conds: [ok(0), { type: "not", cond: ok(1) }] },
      },
      { stmt: { sql: "BEGIN" }, condition: { type: "is_autocommit" } },
      { stmt: { sql: "SELECT 7" }, condition: { type: "is_autocommit" } },
      { stmt: { sql: "COMMIT" }, condition: { type: "not", cond: { type: "is_autocommit" } } },
      { stmt: { sql: "SELECT 9" }, condition: { type: "and", conds: [] } },
    ];
    const { body } = await served.pipeline([{ type: "batch", batch: { steps } }, CLOSE], null, 3);
    const { step_results: results, step_errors: errors } = body.results[0].response.result;
    const ran = results.flatMap((each: unknown, index: number) => (each === null ? [] : [index]));
    expect(ran).toEqual([0, 3, 5, 6, 8, 9]);
    expect(errors.map((each: { code: string } | null) => each?.code ?? null)).toEqual([
      null,
      "SQLITE_ERROR",
      ...Array.from({ length: 8 }, () => null),
    ]);
  });

  test.each([
    ["a later step", { type: "ok", step: 1 }],
    ["itself", { type: "ok", step: 0 }],
    ["a step before the first", { type: "error", step: -1 }],
    ["nothing known", { type: "maybe", step: 0 }],
  ])("a condition on %s is refused before anything runs", async (_, condition) => {
    const steps = [
      { stmt: { sql: "INSERT INTO t(b) VALUES ('x')" }, condition },
      { stmt: { sql: "SELECT 1" } },
    ];
    const { status, body } = await served.pipeline([{ type: "batch", batch: { steps } }]);
    expect([status, body.code]).toEqual([400, "REQUEST_INVALID"]);
    expect(await served.row("SELECT count(*) FROM t")).toEqual(["0"]);
  });

  test("a cursor sends each step's columns, rows and end", async () => {
    const { status, type, text } = await served.post("/shop/v3/cursor", {
      batch: {
        steps: [
          { stmt: { sql: "INSERT INTO t VALUES (5, 'x')" } },
          { stmt: { sql: "SELECT 1 AS a UNION ALL SELECT 2" } },
          { stmt: { sql: "nonsense" } },
          { stmt: { sql: "SELECT 3" }, condition: ok(2) },
          { stmt: { sql: "SELECT a FROM t", want_rows: false } },
        ],
      },
    });
    expect([status, type]).toEqual([200, "text/plain"]);
    expect(
      text
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual([
      { baton: null, base_url: null },
      { type: "step_begin", step: 0, cols: [] },
      { type: "step_end", affected_row_count: 1, last_insert_rowid: "5" },
      { type: "step_begin", step: 1, cols: [{ name: "a", decltype: null }] },
      { type: "row", row: [{ type: "integer", value: "1" }] },
      { type: "row", row: [{ type: "integer", value: "2" }] },
      { type: "step_end", affected_row_count: 0, last_insert_rowid: "5" },
      {
        type: "step_error",
        step: 2,
        error: { message: 'near "nonsense": syntax error', code: "SQLITE_ERROR" },
      },
      { type: "step_begin", step: 4, cols: [{ name: "a", decltype: "INTEGER" }] },
      { type: "step_end", affected_row_count: 0, last_insert_rowid: "5" },
      { type: "replication_index", replication_index: null },
    ]);
  });

  test("a cursor whose client has gone leaves neither statement nor stream", async () => {
    const sql =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, hex(zeroblob(500)) FROM n";
    await new Promise<void>((resolve, reject) => {
      const asked = request(
        `${served.server.url}/shop/v3/cursor`,
        { method: "POST" },
        (response) => {
          response.once("data", () => asked.destroy());
          response.once("close", resolve);
        },
      );
      asked.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code !== "ECONNRESET") reject(error);
      });
      asked.end(JSON.stringify({ batch: { steps: [{ stmt: { sql } }] } }));
    });
    while (served.server.streams.size > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(await served.row("SELECT 1")).toEqual(["1"]);
  });
});

describe("streams", () => {
  test("a baton goes on with its transaction, is another each time, and good once", async () => {
    const first = await served.pipeline([
      execute("BEGIN"),
      execute("INSERT INTO t VALUES (1, 'x')"),
    ]);
    const second = await served.pipeline([execute("SELECT count(*) FROM t")], first.body.baton);
    expect(second.body.results[0].response.result.rows[0][0].value).toBe("1");
    expect(second.body.baton).not.toBe(first.body.baton);
    const used = await served.pipeline([], first.body.baton);
    expect([used.status, used.type, used.body.code]).toEqual([
      400,
      "application/json",
      "BATON_INVALID",
    ]);
    expect(await served.row("SELECT count(*) FROM t")).toEqual(["0"]);
    const last = await served.pipeline([execute("COMMIT"), CLOSE], second.body.baton);
    expect(last.body.baton).toBeNull();
    expect(await served.row("SELECT count(*) FROM t")).toEqual(["1"]);
    expect(served.server.streams.size).toBe(0);
  });

  test("a baton is good on its own URL only, and a guessed one nowhere", async () => {
    served.store.createDatabase("other");
    const { body } = await served.pipeline([execute("BEGIN")]);
    const elsewhere = await served.post("/other/v2/pipeline", { baton: body.baton, requests: [] });
    const guessed = await served.pipeline([], "00000000-0000-4000-8000-000000000000");
    expect([elsewhere.body.code, guessed.body.code]).toEqual(["BATON_INVALID", "BATON_INVALID"]);
    expect(
      (await served.pipeline([execute("COMMIT"), CLOSE], body.baton)).body.results[0].type,
    ).toBe("ok");
  });

  test("closing a stream rolls back what was open", async () => {
    await served.pipeline([
      execute("BEGIN IMMEDIATE"),
      execute("INSERT INTO t VALUES (1, 'x')"),
      CLOSE,
    ]);
    expect(await served.row("SELECT count(*) FROM t")).toEqual(["0"]);
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (2, 'y')"));
    expect(await served.row("SELECT count(*) FROM t")).toEqual(["1"]);
  });

  test("SQL texts are stored for their stream", async () => {
    const { body } = await served.pipeline([
      { type: "store_sql", sql_id: 1, sql: "SELECT 41 + ?" },
      { type: "execute", stmt: { sql_id: 1, args: [{ type: "integer", value: "1" }] } },
      { type: "store_sql", sql_id: 1, sql: "SELECT 1" },
      { type: "close_sql", sql_id: 7 },
    ]);
    expect(body.results[1].response.result.rows[0][0].value).toBe("42");
    expect(body.results[2].error.code).toBe("SQL_STORE_FULL");
    expect(body.results[3].type).toBe("ok");
    const { body: next } = await served.pipeline(
      [
        { type: "describe", sql_id: 1 },
        { type: "close_sql", sql_id: 1 },
        { type: "sequence", sql_id: 1 },
        ...Array.from({ length: 201 }, (_, index) => ({
          type: "store_sql",
          sql_id: index,
          sql: "SELECT 1",
        })),
        CLOSE,
      ],
      body.baton,
    );
    const codes = next.results.map(
      (each: { type: string; error?: { code: string } }) => each.error?.code ?? "ok",
    );
    expect(codes.slice(0, 3)).toEqual(["ok", "ok", "SQL_NOT_STORED"]);
    expect(codes.slice(-3)).toEqual(["ok", "SQL_STORE_FULL", "ok"]);
  });

  test("SQL texts go with their stream or WebSocket: those of all are bounded together", async () => {
    const store = { type: "store_sql", sql_id: 1, sql: "-".repeat(2 * 1024 * 1024) };
    const { host } = new URL(served.server.url);
    // As many as 64 Mi characters would not hold.
    for (let count = 0; count < 20; count++) {
      const { body } = await served.pipeline([store, CLOSE]);
      expect(body.results[0].type, `stream ${count}`).toBe("ok");
      const socket = new WebSocket(`ws://${host}/shop/`, ["hrana2"]);
      await once(socket, "open");
      const answered = new Promise<string>((resolve) => {
        socket.on("message", (data: Buffer) => {
          if (!data.toString().includes("hello_ok")) resolve(data.toString());
        });
      });
      socket.send('{"type":"hello","jwt":null}');
      socket.send(JSON.stringify({ type: "request", request_id: 1, request: store }));
      expect(await answered, `socket ${count}`).toContain('"response_ok"');
      socket.close();
      await once(socket, "close");
    }
  });

  // It was counted, and nobody gave it back: whoever did this 32 times left no room for the texts of others.
  test("regression: a text that is stored after its stream has closed is refused", async () => {
    const store = { type: "store_sql", sql_id: 1, sql: "-".repeat(2 * 1024 * 1024) };
    for (let count = 0; count < 40; count++) {
      const { body } = await served.pipeline([CLOSE, store]);
      expect(body.results[1].error.code).toBe("STREAM_EXPIRED");
    }
    const { body } = await served.pipeline([store, CLOSE]);
    expect(body.results[0].type).toBe("ok");
  });

  test("a stream that is not used expires, which its client is told", async () => {
    const { body } = await served.pipeline([
      execute("BEGIN"),
      execute("INSERT INTO t VALUES (1, 'x')"),
    ]);
    await served.pass(29_999);
    expect(served.server.streams.size).toBe(1);
    const { body: next } = await served.pipeline(
      [execute("COMMIT"), execute("SELECT 1")],
      body.baton,
    );
    await served.pass(59_999);
    const { body: third } = await served.pipeline([execute("SELECT 1")], next.baton);
    expect(third.results[0].type).toBe("ok");
    await served.pass(60_000);
    expect(served.server.streams.size).toBe(0);
    const expired = await served.pipeline([execute("SELECT 1")], third.baton);
    expect([expired.status, expired.body.code]).toEqual([400, "STREAM_EXPIRED"]);
  });

  test("a transaction that takes too long is rolled back, and its stream never goes on by itself", async () => {
    const { body } = await served.pipeline([
      execute("BEGIN IMMEDIATE"),
      execute("INSERT INTO t VALUES (1, 'x')"),
    ]);
    await served.pass(30_000);
    // The write lock is free.
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (2, 'y')"));
    const { body: next } = await served.pipeline(
      [execute("INSERT INTO t VALUES (3, 'z')"), execute("COMMIT")],
      body.baton,
    );
    expect(next.results.map((each: { error: { code: string } }) => each.error.code)).toEqual([
      "TRANSACTION_TIMEOUT",
      "TRANSACTION_TIMEOUT",
    ]);
    expect((await served.pipeline([CLOSE], next.baton)).body.results[0].type).toBe("ok");
    expect(await served.row("SELECT group_concat(a) FROM t")).toEqual(["2"]);
  });

  test("there are at most so many streams", async () => {
    await using small = await ServedDirectory.start({ streamsMax: 2 });
    const open = (): Promise<Answer> =>
      small.post("/v2/pipeline", { requests: [execute("SELECT 1")] });
    const [first] = [await open(), await open()];
    const third = await open();
    expect([third.status, third.body.code]).toEqual([429, "STREAM_LIMIT"]);
    await small.post("/v2/pipeline", { baton: first.body.baton, requests: [CLOSE] });
    expect((await open()).status).toBe(200);
  });

  test("what one stream leaves behind no other one sees", async () => {
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (77, 'x')"));
    expect(await served.row("SELECT last_insert_rowid()")).toEqual(["0"]);
    await served.post("/shop/v2/pipeline", sqls("CREATE TEMP TABLE secret(a)"));
    expect(await served.row("SELECT count(*) FROM secret")).toEqual(["SQLITE_ERROR"]);
    await served.post("/shop/v2/pipeline", sqls("PRAGMA case_sensitive_like = 1"));
    expect(await served.row("SELECT 'a' LIKE 'A'")).toEqual(["1"]);
    await served.post("/shop/v2/pipeline", sqls("BEGIN TRANSACTION READONLY"));
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (78, 'y')"));
    expect(await served.row("SELECT max(a) FROM t")).toEqual(["78"]);
  });
});

describe("read-only transactions", () => {
  test.each(["BEGIN TRANSACTION READONLY", " begin /* x */ deferred transaction readonly; "])(
    "%s refuses every way to write, until it ends",
    async (begin) => {
      const { body } = await served.pipeline([
        execute(begin),
        execute("INSERT INTO t VALUES (1, 'x')"),
        execute("CREATE TABLE u(a)"),
        execute("PRAGMA user_version = 3"),
        { type: "sequence", sql: "SELECT 1; DELETE FROM t" },
        execute("SELECT count(*) FROM t"),
        execute("COMMIT"),
        execute("INSERT INTO t VALUES (2, 'y')"),
        {
          type: "sequence",
          sql: "BEGIN TRANSACTION READONLY; SELECT 1; INSERT INTO t VALUES (3, 'z')",
        },
        { type: "sequence", sql: "ROLLBACK; BEGIN; INSERT INTO t VALUES (4, 'z'); COMMIT" },
        CLOSE,
      ]);
      const codes = body.results.map(
        (each: { error?: { code: string } }) => each.error?.code ?? "ok",
      );
      expect(codes).toEqual([
        "ok",
        ...Array.from({ length: 4 }, () => "SQLITE_READONLY"),
        "ok",
        "ok",
        "ok",
        "SQLITE_READONLY",
        "ok",
        "ok",
      ]);
      expect(await served.row("SELECT group_concat(a) FROM t")).toEqual(["2,4"]);
    },
  );
});
