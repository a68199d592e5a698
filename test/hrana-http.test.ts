/** Hrana over HTTP as its documents have it, without a client in between: shapes, batons, limits, errors, URLs. */
import { request } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Answer, ServedDirectory } from "./server-fixture.ts";

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

const execute = (sql: string, more: object = {}): object => ({
  type: "execute",
  stmt: { sql, ...more },
});
const CLOSE = { type: "close" };

/** Statements, and the stream is closed. */
function sqls(...statements: string[]): object {
  return { requests: [...statements.map((sql) => execute(sql)), CLOSE] };
}

function pipeline(
  requests: readonly object[],
  baton: string | null = null,
  version = 2,
): Promise<Answer> {
  return served.post(`/shop/v${version}/pipeline`, { baton, requests });
}

/** The values of the only row. */
async function row(sql: string, path = "/shop/"): Promise<unknown[]> {
  const { body } = await served.post(`${path}v2/pipeline`, sqls(sql));
  const [first] = body.results;
  if (first.type === "error") return [first.error.code];
  return first.response.result.rows[0].map((value: { value: unknown }) => value.value);
}

describe("answers", () => {
  test("a result has every field with its type, in versions 2 and 3", async () => {
    const requests = [execute("SELECT 1 AS a, 2.5, 'é', x'010203ff', NULL"), CLOSE];
    const { status, type, body } = await pipeline(requests);
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
    const third = await pipeline(requests, null, 3);
    expect(third.body.results[0].response.result).toEqual({
      ...result,
      rows_read: 1,
      rows_written: 0,
      query_duration_ms: expect.any(Number),
    });
  });

  test("want_rows false drops rows and keeps columns", async () => {
    const { body } = await pipeline([
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
    const { body } = await pipeline([
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
    const { status, body } = await pipeline([
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
    const { body } = await pipeline([execute("SELECT * FROM t")]);
    await served.post(
      "/shop/v2/pipeline",
      sqls("ALTER TABLE t ADD COLUMN c REAL", "INSERT INTO t VALUES (1, 'x', 2.5)"),
    );
    const { body: next } = await pipeline([execute("SELECT * FROM t"), CLOSE], body.baton);
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
    const { body } = await pipeline([{ type: "batch", batch: { steps } }, CLOSE], null, 3);
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
    const { status, body } = await pipeline([{ type: "batch", batch: { steps } }]);
    expect([status, body.code]).toEqual([400, "REQUEST_INVALID"]);
    expect(await row("SELECT count(*) FROM t")).toEqual(["0"]);
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
    expect(await row("SELECT 1")).toEqual(["1"]);
  });
});

describe("streams", () => {
  test("a baton goes on with its transaction, is another each time, and good once", async () => {
    const first = await pipeline([execute("BEGIN"), execute("INSERT INTO t VALUES (1, 'x')")]);
    const second = await pipeline([execute("SELECT count(*) FROM t")], first.body.baton);
    expect(second.body.results[0].response.result.rows[0][0].value).toBe("1");
    expect(second.body.baton).not.toBe(first.body.baton);
    const used = await pipeline([], first.body.baton);
    expect([used.status, used.type, used.body.code]).toEqual([
      400,
      "application/json",
      "BATON_INVALID",
    ]);
    expect(await row("SELECT count(*) FROM t")).toEqual(["0"]);
    const last = await pipeline([execute("COMMIT"), CLOSE], second.body.baton);
    expect(last.body.baton).toBeNull();
    expect(await row("SELECT count(*) FROM t")).toEqual(["1"]);
    expect(served.server.streams.size).toBe(0);
  });

  test("a baton is good on its own URL only, and a guessed one nowhere", async () => {
    served.store.createDatabase("other");
    const { body } = await pipeline([execute("BEGIN")]);
    const elsewhere = await served.post("/other/v2/pipeline", { baton: body.baton, requests: [] });
    const guessed = await pipeline([], "00000000-0000-4000-8000-000000000000");
    expect([elsewhere.body.code, guessed.body.code]).toEqual(["BATON_INVALID", "BATON_INVALID"]);
    expect((await pipeline([execute("COMMIT"), CLOSE], body.baton)).body.results[0].type).toBe(
      "ok",
    );
  });

  test("closing a stream rolls back what was open", async () => {
    await pipeline([execute("BEGIN IMMEDIATE"), execute("INSERT INTO t VALUES (1, 'x')"), CLOSE]);
    expect(await row("SELECT count(*) FROM t")).toEqual(["0"]);
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (2, 'y')"));
    expect(await row("SELECT count(*) FROM t")).toEqual(["1"]);
  });

  test("SQL texts are stored for their stream", async () => {
    const { body } = await pipeline([
      { type: "store_sql", sql_id: 1, sql: "SELECT 41 + ?" },
      { type: "execute", stmt: { sql_id: 1, args: [{ type: "integer", value: "1" }] } },
      { type: "store_sql", sql_id: 1, sql: "SELECT 1" },
      { type: "close_sql", sql_id: 7 },
    ]);
    expect(body.results[1].response.result.rows[0][0].value).toBe("42");
    expect(body.results[2].error.code).toBe("SQL_STORE_FULL");
    expect(body.results[3].type).toBe("ok");
    const { body: next } = await pipeline(
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

  test("a stream that is not used expires, which its client is told", async () => {
    const { body } = await pipeline([execute("BEGIN"), execute("INSERT INTO t VALUES (1, 'x')")]);
    await served.pass(29_999);
    expect(served.server.streams.size).toBe(1);
    const { body: next } = await pipeline([execute("COMMIT"), execute("SELECT 1")], body.baton);
    await served.pass(59_999);
    const { body: third } = await pipeline([execute("SELECT 1")], next.baton);
    expect(third.results[0].type).toBe("ok");
    await served.pass(60_000);
    expect(served.server.streams.size).toBe(0);
    const expired = await pipeline([execute("SELECT 1")], third.baton);
    expect([expired.status, expired.body.code]).toEqual([400, "STREAM_EXPIRED"]);
  });

  test("a transaction that takes too long is rolled back, and its stream never goes on by itself", async () => {
    const { body } = await pipeline([
      execute("BEGIN IMMEDIATE"),
      execute("INSERT INTO t VALUES (1, 'x')"),
    ]);
    await served.pass(30_000);
    // The write lock is free.
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (2, 'y')"));
    const { body: next } = await pipeline(
      [execute("INSERT INTO t VALUES (3, 'z')"), execute("COMMIT")],
      body.baton,
    );
    expect(next.results.map((each: { error: { code: string } }) => each.error.code)).toEqual([
      "TRANSACTION_TIMEOUT",
      "TRANSACTION_TIMEOUT",
    ]);
    expect((await pipeline([CLOSE], next.baton)).body.results[0].type).toBe("ok");
    expect(await row("SELECT group_concat(a) FROM t")).toEqual(["2"]);
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
    expect(await row("SELECT last_insert_rowid()")).toEqual(["0"]);
    await served.post("/shop/v2/pipeline", sqls("CREATE TEMP TABLE secret(a)"));
    expect(await row("SELECT count(*) FROM secret")).toEqual(["SQLITE_ERROR"]);
    await served.post("/shop/v2/pipeline", sqls("PRAGMA case_sensitive_like = 1"));
    expect(await row("SELECT 'a' LIKE 'A'")).toEqual(["1"]);
    await served.post("/shop/v2/pipeline", sqls("BEGIN TRANSACTION READONLY"));
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (78, 'y')"));
    expect(await row("SELECT max(a) FROM t")).toEqual(["78"]);
  });
});

describe("read-only transactions", () => {
  test.each(["BEGIN TRANSACTION READONLY", " begin /* x */ deferred transaction readonly; "])(
    "%s refuses every way to write, until it ends",
    async (begin) => {
      const { body } = await pipeline([
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
        ...["ok", "ok", "ok", "SQLITE_READONLY", "ok", "ok"],
      ]);
      expect(await row("SELECT group_concat(a) FROM t")).toEqual(["2,4"]);
    },
  );
});

describe("URLs", () => {
  test("path, header, host and default name the database, in this order", async () => {
    served.store.database("shop").createBranch("feature/auth");
    served.store.database("shop").createBranch("dev");
    const where = async (
      path: string,
      headers: Readonly<Record<string, string>>,
    ): Promise<string> => {
      const body = sqls("SELECT bough_database() || '/' || bough_branch()");
      const text = await rawPost(
        served.server.url,
        `${path}v2/pipeline`,
        JSON.stringify(body),
        headers,
      );
      return /"value":"([^"]*)"/.exec(text)?.[1] ?? text;
    };
    const host = (name: string): Record<string, string> => ({ host: `${name}:8080` });
    expect(await where("/", {})).toBe("default/main");
    expect(await where("/", host("shop.localhost"))).toBe("shop/main");
    expect(await where("/", host("dev--shop.localhost"))).toBe("shop/dev");
    expect(
      await where("/", { "x-namespace": "shop/feature/auth", ...host("shop.localhost") }),
    ).toBe("shop/feature/auth");
    expect(await where("/shop/dev/", { "x-namespace": "default" })).toBe("shop/dev");
    expect(await where("/shop/feature%2Fauth/", {})).toBe("shop/feature/auth");
  });

  test("versions, times and tags are read-only URLs", async () => {
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (1, 'x')"));
    const { version } = served.store.database("shop").branch().head;
    served.store.database("shop").createTag("before", { at: `shop@${version}` });
    await served.post("/shop/v2/pipeline", sqls("DELETE FROM t"));
    for (const path of [`/shop@${version}/`, "/shop@before/", `/shop/main@${version}/`]) {
      expect(await row("SELECT count(*) FROM t", path), path).toEqual(["1"]);
      expect(await row("DELETE FROM t", path), path).toEqual(["READ_ONLY"]);
    }
    expect(await row("SELECT count(*) FROM t")).toEqual(["0"]);
  });

  test("what is not there is 404 with a code", async () => {
    const codes = async (path: string): Promise<unknown[]> => {
      const { status, body } = await served.post(path, sqls("SELECT 1"));
      return [status, body?.code];
    };
    expect(await codes("/none/v2/pipeline")).toEqual([404, "DATABASE_NOT_FOUND"]);
    expect(await codes("/shop/none/v3/pipeline")).toEqual([404, "BRANCH_NOT_FOUND"]);
    expect(await codes("/shop@99/v2/pipeline")).toEqual([404, "VERSION_NOT_FOUND"]);
    expect(await codes("/shop@tag/v2/pipeline")).toEqual([404, "TAG_NOT_FOUND"]);
    expect(await codes("/a..b/v2/pipeline")).toEqual([400, "NAME_INVALID"]);
    expect(await codes("/%ff/v2/pipeline")).toEqual([400, "REQUEST_INVALID"]);
    expect(await codes("/metrics/v2/pipeline")).toEqual([404, "ENDPOINT_NOT_FOUND"]);
    const { status } = await fetch(`${served.url("shop")}v2/pipeline`);
    expect(status).toBe(404);
    expect(await codes("/api/v1/none")).toEqual([404, "ENDPOINT_NOT_FOUND"]);
    expect(served.store.databases().map(({ name }) => name)).toEqual(["shop"]);
  });

  test("versions are said to be there", async () => {
    for (const path of ["v2", "v3", "shop/v2", "shop/dev/v3"]) {
      const response = await fetch(`${served.server.url}/${path}`);
      expect([response.status, await response.text()]).toEqual([
        200,
        `Hrana over HTTP, version ${path.slice(-1)}\n`,
      ]);
    }
    expect((await fetch(`${served.server.url}/v3-protobuf`)).status).toBe(404);
  });

  test("an open stream goes on when its branch is reset under it", async () => {
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (1, 'x')"));
    const { version } = served.store.database("shop").branch().head;
    const { body } = await pipeline([execute("INSERT INTO t VALUES (2, 'y')")]);
    served.store
      .database("shop")
      .branch()
      .restore({ to: `shop@${version}` });
    const { body: next } = await pipeline(
      [execute("SELECT group_concat(a) FROM t"), CLOSE],
      body.baton,
    );
    expect(next.results[0].response.result.rows[0][0].value).toBe("1");
  });
});

describe("the APIs of before streams", () => {
  test("/v1/execute and /v1/batch", async () => {
    const one = await served.post("/shop/v1/execute", {
      stmt: { sql: "SELECT ? AS a", args: [{ type: "integer", value: "5" }] },
    });
    expect(one.body.result.rows).toEqual([[{ type: "integer", value: "5" }]]);
    const failing = await served.post("/shop/v1/execute", { stmt: { sql: "nonsense" } });
    expect([failing.status, failing.body.code]).toEqual([400, "SQLITE_ERROR"]);
    const steps = [
      { stmt: { sql: "SELECT 1" } },
      { stmt: { sql: "SELECT 2" }, condition: { type: "error", step: 0 } },
    ];
    const { body } = await served.post("/shop/v1/batch", { batch: { steps } });
    expect(body.result.step_results.map((each: unknown) => each !== null)).toEqual([true, false]);
  });

  test("a list of statements at the URL itself", async () => {
    const { body } = await served.post("/shop/", {
      statements: [
        { q: "INSERT INTO t VALUES (?, :b)", params: [1] },
        { q: "INSERT INTO t VALUES (:a, $b)", params: { a: 1, ":b": "x" } },
        { q: "SELECT a, b, 2.5, x'01', NULL FROM t WHERE a = ?", params: [1] },
      ],
    });
    expect(body.map((each: { error?: { code: string } }) => each.error?.code)).toEqual([
      "ARGS_INVALID",
      "ARGS_INVALID",
      undefined,
    ]);
    const { body: next } = await served.post("/shop/", {
      statements: ["INSERT INTO t VALUES (1, 'x')", { q: "SELECT a, b, 2.5, x'01', NULL FROM t" }],
    });
    expect(next[1].results).toEqual({
      columns: ["a", "b", "2.5", "x'01'", "NULL"],
      rows: [[1, "x", 2.5, { base64: "AQ==" }, null]],
    });
  });
});

describe("limits", () => {
  test("a body beyond the limit is refused, said or not said how long it is", async () => {
    await using small = await ServedDirectory.start({ requestBytesMax: 2000 });
    const body = JSON.stringify(sqls(`SELECT '${"x".repeat(3000)}'`));
    const refused = await small.post("/v2/pipeline", body);
    expect([refused.status, refused.body.code]).toEqual([413, "REQUEST_TOO_LARGE"]);
    const chunked = await rawPost(small.server.url, "/v2/pipeline", body, {
      "transfer-encoding": "chunked",
    });
    expect(chunked).toContain("REQUEST_TOO_LARGE");
  });

  test("an answer beyond the limit is refused, and a cursor is not", async () => {
    await using small = await ServedDirectory.start({ responseBytesMax: 10_000 });
    const sql =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n";
    const { body } = await small.post("/v2/pipeline", sqls(sql, "SELECT 1"));
    expect(
      body.results.map((each: { error?: { code: string } }) => each.error?.code ?? "ok"),
    ).toEqual(["RESPONSE_TOO_LARGE", "RESPONSE_TOO_LARGE", "ok"]);
    // Its changes were made before the first row came; what comes after it is not run.
    const { body: changing } = await small.post(
      "/v2/pipeline",
      sqls("CREATE TABLE u(a)", `INSERT INTO u ${sql} RETURNING a`, "INSERT INTO u VALUES (0)"),
    );
    expect(changing.results[2].error.code).toBe("RESPONSE_TOO_LARGE");
    const { body: count } = await small.post("/v2/pipeline", sqls("SELECT count(*) FROM u"));
    expect(count.results[0].response.result.rows[0][0].value).toBe("5000");
    const { text } = await small.post("/v3/cursor", { batch: { steps: [{ stmt: { sql } }] } });
    expect(text.split("\n").filter((line) => line.startsWith('{"type":"row"'))).toHaveLength(5000);
  });

  test.each([
    ["no JSON", "{"],
    ["no object", "[]"],
    ["no requests", "{}"],
    ["an unknown request", '{"requests":[{"type":"drop"}]}'],
    ["no SQL", '{"requests":[{"type":"execute","stmt":{}}]}'],
    ["SQL twice", '{"requests":[{"type":"execute","stmt":{"sql":"SELECT 1","sql_id":1}}]}'],
    [
      "a number as integer",
      '{"requests":[{"type":"execute","stmt":{"sql":"SELECT ?","args":[{"type":"integer","value":1}]}}]}',
    ],
    [
      "an integer of 65 bits",
      '{"requests":[{"type":"execute","stmt":{"sql":"SELECT ?","args":[{"type":"integer","value":"9223372036854775808"}]}}]}',
    ],
    [
      "bad base64",
      '{"requests":[{"type":"execute","stmt":{"sql":"SELECT ?","args":[{"type":"blob","base64":"*!"}]}}]}',
    ],
    ["a baton that is none", '{"baton":7,"requests":[]}'],
    ["a large number of a text", '{"requests":[{"type":"close_sql","sql_id":2147483648}]}'],
  ])("%s is refused as a whole", async (_, body) => {
    const { status, type, body: answer } = await served.post("/shop/v2/pipeline", body);
    expect([status, type, answer.code]).toEqual([400, "application/json", "REQUEST_INVALID"]);
    expect(served.server.streams.size).toBe(0);
  });
});

describe("web pages, without authentication", () => {
  const ask = (headers: Readonly<Record<string, string>>): Promise<string> =>
    rawPost(served.server.url, "/shop/v2/pipeline", JSON.stringify(sqls("SELECT 1")), headers);

  test("those on this machine may ask, others may not", async () => {
    expect(await ask({ origin: "http://localhost:3000" })).toContain('"type":"ok"');
    expect(await ask({ origin: "http://127.0.0.1" })).toContain('"type":"ok"');
    expect(await ask({ origin: "https://example.com" })).toContain("ORIGIN_REFUSED");
    expect(await ask({ origin: "http://localhost.example.com" })).toContain("ORIGIN_REFUSED");
    expect(await ask({ origin: "null" })).toContain("ORIGIN_REFUSED");
  });

  test("a name that leads here by somebody else's DNS is refused", async () => {
    expect(await ask({ host: "rebound.example.com" })).toContain("HOST_REFUSED");
    expect(await ask({ host: "localhost:1" })).toContain('"type":"ok"');
  });

  test("an allowed origin gets what browsers ask for", async () => {
    await using open = await ServedDirectory.start({ allowOrigin: ["https://app.example.com"] });
    const response = await fetch(`${open.server.url}/v2/pipeline`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example.com",
        "access-control-request-headers": "content-type",
      },
    });
    expect([
      response.status,
      response.headers.get("access-control-allow-origin"),
      response.headers.get("access-control-allow-headers"),
    ]).toEqual([204, "https://app.example.com", "content-type"]);
  });
});

/** With headers that fetch does not let one set. */
function rawPost(
  url: string,
  path: string,
  body: string,
  headers: Readonly<Record<string, string>>,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(`${url}${path}`, { method: "POST", headers }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on("end", () => resolve(text));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}
