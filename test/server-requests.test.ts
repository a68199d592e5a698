/** What the server makes of requests before they reach a stream: URLs, the APIs of before streams, limits, web pages. */
import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CLOSE, execute, rawPost, ServedDirectory, sqls } from "./server-fixture.ts";

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

  test("regression: a target in absolute form is read, and its host counts", async () => {
    const { port } = new URL(served.server.url);
    const host = `shop.localhost:${port}`;
    const raw = async (target: string, head = "", body = "", method = "GET"): Promise<string> => {
      const socket = connect(Number(port), "127.0.0.1");
      socket.write(
        `${method} ${target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${body.length}\r\n${head}\r\n${body}`,
      );
      const [data] = (await once(socket, "data")) as [Buffer];
      socket.destroy();
      return data.toString();
    };
    expect(await raw(`http://${host}/v3`)).toMatch(/^HTTP\/1\.1 200 OK/);
    expect(await raw(`HTTP://${host}`)).toContain('"hrana3"');
    expect(await raw(`http://${host}/health?x`)).toContain('"up"');
    expect(await raw(`http://${host}/api/v1/databases`)).toContain('"shop"');
    const body = JSON.stringify(sqls("SELECT bough_database()"));
    const ask = (target: string): Promise<string> => raw(target, "", body, "POST");
    expect(await ask(`http://${host}/v2/pipeline`)).toContain('"value":"shop"');
    expect(await ask("http://evil.example/v2/pipeline")).toContain("HOST_REFUSED");
    const upgrade =
      "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    expect(await raw(`http://${host}/`, upgrade)).toMatch(/^HTTP\/1\.1 101 /);
    for (const target of ["http:///v2", "http://a@localhost/v2", "ftp://localhost/v2"])
      expect(await raw(target)).toMatch(/^HTTP\/1\.1 400 /);
  });

  test("regression: the letters of a domain may be large", async () => {
    await using named = await ServedDirectory.start({ domain: ["Bough.Example"] });
    named.store.createDatabase("shop");
    const body = JSON.stringify(sqls("SELECT bough_database()"));
    const text = await rawPost(named.server.url, "/v2/pipeline", body, {
      host: "shop.bough.example",
    });
    expect(text).toContain('"value":"shop"');
  });

  test("versions, times and tags are read-only URLs", async () => {
    await served.post("/shop/v2/pipeline", sqls("INSERT INTO t VALUES (1, 'x')"));
    const { version } = served.store.database("shop").branch().head;
    served.store.database("shop").createTag("before", { at: `shop@${version}` });
    await served.post("/shop/v2/pipeline", sqls("DELETE FROM t"));
    for (const path of [`/shop@${version}/`, "/shop@before/", `/shop/main@${version}/`]) {
      expect(await served.row("SELECT count(*) FROM t", path), path).toEqual(["1"]);
      expect(await served.row("DELETE FROM t", path), path).toEqual(["READ_ONLY"]);
    }
    expect(await served.row("SELECT count(*) FROM t")).toEqual(["0"]);
  });

  test("regression: databases of all partitions of a store are served", async () => {
    await using parts = await ServedDirectory.start({}, { partitions: 2 });
    for (const [partition, name] of ["one", "two"].entries()) {
      parts.store.createDatabase(name, { partition });
      const sql = "SELECT bough_database()";
      expect(await parts.row(sql, `/${name}/`)).toEqual([name]);
    }
    expect(await parts.row("SELECT bough_database()", "/")).toEqual(["default"]);
    expect((await parts.post("/none/v2/pipeline", sqls("SELECT 1"))).body.code).toBe(
      "DATABASE_NOT_FOUND",
    );
    expect(parts.bugs).toEqual([]);
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
    const { body } = await served.pipeline([execute("INSERT INTO t VALUES (2, 'y')")]);
    served.store
      .database("shop")
      .branch()
      .restore({ to: `shop@${version}` });
    const { body: next } = await served.pipeline(
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
