/** What those see who look after a server: probes, metrics, the log, over real HTTP. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@libsql/client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StoreError } from "../src/errors.ts";
import type { Access } from "../src/server/access.ts";
import { LocalAdminStore } from "../src/server/admin/local-admin-store.ts";
import type { HttpServer } from "../src/server/http-server.ts";
import { LocalStore } from "../src/server/local-store.ts";
import { serveStore } from "../src/server/serve.ts";
import type { ServerSettings } from "../src/server/setting-list.ts";
import { parseSettings } from "../src/server/settings.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { principalOf } from "./admin-fixture.ts";
import { execute, rawPost, sqls, startHttpServer } from "./server-fixture.ts";

let directory: string;
let store: Store;
let server: HttpServer | null = null;
let lines: string[] = [];
let nowMs = 0;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-operations-"));
  store = openStore(join(directory, "store"));
  lines = [];
  nowMs = 0;
});
afterEach(async () => {
  await server?.stop();
  server = null;
  store.close();
  rmSync(directory, { recursive: true, force: true });
});

async function start(
  settings: Partial<ServerSettings> = {},
  more: { readonly access?: Access; readonly now?: () => number } = {},
): Promise<string> {
  server = await serveStore(store, {
    settings: { port: 0, logLevel: "off", ...settings },
    now: () => nowMs,
    writeLog: (line) => lines.push(line),
    ...more,
  });
  return server.url;
}

/** Who says "admin" may do anything, all others may write to databases. */
const TOKENS: Access = {
  isOpen: false,
  authenticate: ({ request: { authorization } }) => {
    if (authorization === undefined)
      throw new StoreError("FORBIDDEN", "Cannot let anybody in without a token");
    const action = authorization === "Bearer admin" ? "admin" : "write";
    return principalOf(authorization, [{ action, database: "*", branch: "**" }]);
  },
  isCurrent: () => true,
  requireCurrent: () => Promise.resolve(),
};

async function run(url: string, path: string, ...statements: string[]): Promise<void> {
  const response = await fetch(`${url}${path}v2/pipeline`, {
    method: "POST",
    body: JSON.stringify(sqls(...statements)),
  });
  expect(response.status).toBe(200);
  await response.text();
}

/** The values of all series by their names, with labels as they are written. */
async function readMetrics(
  url: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<ReadonlyMap<string, number>> {
  const response = await fetch(`${url}/metrics`, { headers });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const text = await response.text();
  const series = new Map<string, number>();
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const end = line.lastIndexOf(" ");
    expect(series.has(line.slice(0, end))).toBe(false);
    series.set(line.slice(0, end), Number(line.slice(end + 1)));
  }
  return series;
}

const events = (): Record<string, unknown>[] =>
  lines.map((line) => {
    expect(line.endsWith("\n")).toBe(true);
    return JSON.parse(line) as Record<string, unknown>;
  });

describe("/health and /ready", () => {
  test("need no token, no name of the host and no origin, and say nothing of the store", async () => {
    store.createDatabase("shop");
    const url = await start({}, { access: TOKENS });
    for (const [path, body] of [
      ["/health", '{"status":"up"}'],
      ["/ready", '{"status":"ready"}'],
      ["/ready/?a=b", '{"status":"ready"}'],
    ] as const) {
      const response = await fetch(url + path, { headers: { origin: "http://evil.example" } });
      expect([response.status, await response.text()]).toEqual([200, body]);
      expect(response.headers.get("cache-control")).toBe("no-store");
    }
    expect((await fetch(`${url}/shop/v2/pipeline`)).status).toBe(403);
    expect((await fetch(`${url}/health`, { method: "POST" })).status).toBe(403);
    expect((await fetch(`${url}/healthy/v2/pipeline`)).status).toBe(403);
    expect(await rawPost(url, "/health", "", { host: "evil.example" })).toContain("FORBIDDEN");
  });

  test("a server is not ready once a write has failed, and is up all the same", async () => {
    store.close();
    const storage = new SimulatedStorage();
    store = openStore("simulated", { storage, backend: "memory" });
    store.createDatabase("shop");
    const url = await start();
    await run(url, "/shop/", "CREATE TABLE t(a)");
    expect((await fetch(`${url}/ready`)).status).toBe(200);
    storage.failAt({
      kinds: ["write", "sync"],
      path: (path) => path.includes("log/"),
      count: 1,
      systemCode: "EIO",
      forever: true,
    });
    const body = JSON.stringify(sqls("INSERT INTO t VALUES (1)"));
    expect((await fetch(`${url}/shop/v2/pipeline`, { method: "POST", body })).status).toBe(500);
    const ready = await fetch(`${url}/ready`);
    expect([ready.status, await ready.text()]).toEqual([503, '{"status":"failed"}']);
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect((await readMetrics(url)).get("bough_partitions_failed")).toBe(1);
    await server?.stop();
    expect(() => store.close()).toThrow("an earlier write failed");
  });

  test("a server whose store was closed is not ready", async () => {
    const url = await start();
    store.close();
    const ready = await fetch(`${url}/ready`);
    expect([ready.status, await ready.text()]).toEqual([503, '{"status":"failed"}']);
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });
});

describe("/metrics", () => {
  test("counts statements, rows, failures and commits, in all and by database", async () => {
    store.createDatabase("shop");
    const url = await start();
    await run(url, "/shop/", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1), (2)");
    await run(url, "/shop/", "SELECT a FROM t", "SELECT none FROM t");
    const cursor = await fetch(`${url}/shop/v3/cursor`, {
      method: "POST",
      body: JSON.stringify({ batch: { steps: [{ stmt: { sql: "SELECT a FROM t" } }] } }),
    });
    await cursor.text();
    await (await fetch(`${url}/none/v2/pipeline`, { method: "POST", body: "{}" })).text();
    const metrics = await readMetrics(url);
    expect(Object.fromEntries(metrics)).toMatchObject({
      bough_statement_seconds_count: 5,
      'bough_statement_seconds_bucket{le="+Inf"}': 5,
      'bough_statement_failures_total{code="SQLITE_ERROR"}': 1,
      bough_rows_read_total: 4,
      bough_rows_written_total: 2,
      bough_commits_total: 2,
      bough_conflicts_total: 0,
      bough_bugs_total: 0,
      'bough_request_seconds_count{kind="pipeline"}': 2,
      'bough_request_seconds_count{kind="cursor"}': 1,
      'bough_request_seconds_count{kind="failed"}': 1,
      'bough_request_failures_total{code="REQUEST_INVALID"}': 1,
      'bough_database_statements_total{database="shop"}': 5,
      'bough_database_statement_failures_total{database="shop"}': 1,
      'bough_database_rows_read_total{database="shop"}': 4,
      'bough_database_rows_written_total{database="shop"}': 2,
      'bough_database_commits_total{database="shop"}': 2,
    });
    expect(metrics.get("bough_commit_wait_seconds_count")).toBeGreaterThan(0);
    expect(metrics.get("process_resident_memory_bytes")).toBeGreaterThan(0);
    expect([...metrics.keys()].filter((name) => name.includes("none"))).toEqual([]);
  });

  test("shows how far the log is ahead of the checkpoint, sizes, and what is open", async () => {
    store.createDatabase("shop");
    const url = await start();
    await run(url, "/shop/", "CREATE TABLE t(a)", "INSERT INTO t VALUES (randomblob(5000))");
    const before = await readMetrics(url);
    expect(before.get("bough_checkpoint_lag_bytes")).toBeGreaterThan(5000);
    expect(before.get("bough_checkpoint_lag_records")).toBe(3);
    expect(before.get("bough_checkpoints_total")).toBe(0);
    store.checkpoint();
    const client = createClient({ url: url.replace("http:", "ws:") + "/shop/" });
    const transaction = await client.transaction("write");
    await transaction.execute("SELECT * FROM t");
    nowMs += 60_000; // Sizes of files are looked up once a minute.
    const metrics = await readMetrics(url);
    expect(Object.fromEntries(metrics)).toMatchObject({
      bough_checkpoint_lag_bytes: 0,
      bough_checkpoint_lag_records: 0,
      bough_checkpoint_lag_seconds: 0,
      bough_checkpoints_total: 1,
      'bough_checkpoint_pages_total{state="shared"}': 0,
      bough_log_pending_records: 0,
      bough_streams: 1,
      'bough_database_streams{database="shop"}': 1,
      'bough_database_head_bytes{database="shop"}': store.stat("shop").logicalBytes,
      bough_websockets: 1,
    });
    expect(metrics.get('bough_checkpoint_pages_total{state="written"}')).toBeGreaterThan(2);
    expect(metrics.get('bough_connections{state="open"}')).toBeGreaterThan(0);
    expect(metrics.get("bough_sqlite_instances")).toBeGreaterThan(0);
    expect(metrics.get("bough_chunk_written_bytes_total")).toBeGreaterThan(5000);
    const disk = store.diskUse();
    expect(metrics.get('bough_disk_bytes{files="chunks"}')).toBe(disk.chunkBytes);
    expect(metrics.get('bough_disk_bytes{files="log"}')).toBe(disk.logBytes);
    transaction.close();
    client.close();
    while ((await readMetrics(url)).get('bough_database_streams{database="shop"}') !== 0);
  });

  test("histograms count how long things took by the server's clock", async () => {
    store.createDatabase("shop");
    let ms = 0;
    const url = await start({}, { now: () => (ms += 20) });
    await run(url, "/shop/", "SELECT 1");
    const metrics = await readMetrics(url);
    expect(Object.fromEntries(metrics)).toMatchObject({
      'bough_statement_seconds_bucket{le="0.01"}': 0,
      'bough_statement_seconds_bucket{le="0.025"}': 1,
      'bough_statement_seconds_bucket{le="10"}': 1,
      bough_statement_seconds_sum: 0.02,
      bough_statement_seconds_count: 1,
    });
  });

  test("a conflict counts as one", async () => {
    store.createDatabase("shop");
    const url = await start();
    await run(url, "/shop/", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1)");
    const begin = async (): Promise<string> => {
      const response = await fetch(`${url}/shop/v2/pipeline`, {
        method: "POST",
        body: JSON.stringify({
          requests: ["BEGIN CONCURRENT", "UPDATE t SET a = a + 1"].map((sql) => execute(sql)),
        }),
      });
      return ((await response.json()) as { baton: string }).baton;
    };
    const batons = [await begin(), await begin()];
    for (const baton of batons) {
      const body = JSON.stringify({ baton, requests: [execute("COMMIT"), { type: "close" }] });
      await (await fetch(`${url}/shop/v2/pipeline`, { method: "POST", body })).text();
    }
    const metrics = await readMetrics(url);
    expect(metrics.get("bough_conflicts_total")).toBe(1);
    expect(metrics.get('bough_database_conflicts_total{database="shop"}')).toBe(1);
  });

  test("no more databases than the setting says have series; the sums have all", async () => {
    for (const name of ["a", "b", "c"]) store.createDatabase(name);
    const url = await start({ metricsDatabasesMax: 2 });
    await run(url, "/b/", "CREATE TABLE t(x)");
    await run(url, "/c/", "CREATE TABLE t(x)", "SELECT 1");
    await run(url, "/a/", "CREATE TABLE t(x)");
    const metrics = await readMetrics(url);
    const shown = [...metrics.keys()].filter((name) => name.startsWith("bough_database_commits"));
    expect(shown).toEqual([
      'bough_database_commits_total{database="b"}',
      'bough_database_commits_total{database="c"}',
    ]);
    expect(metrics.get('bough_database_statements_total{database="c"}')).toBe(2);
    for (const name of ["statements_total", "streams", "head_bytes"])
      expect(metrics.has(`bough_database_${name}{database="a"}`)).toBe(false);
    expect(metrics.get('bough_database_head_bytes{database="b"}')).toBe(
      store.stat("b").logicalBytes,
    );
    expect(metrics.get("bough_statement_seconds_count")).toBe(4);
  });

  test("regression: what the admin API refuses counts as refused", async () => {
    const url = await start();
    expect((await fetch(`${url}/api/v1/databases/none`)).status).toBe(404);
    expect((await fetch(`${url}/api/v1/databases`)).status).toBe(200);
    expect(Object.fromEntries(await readMetrics(url))).toMatchObject({
      'bough_request_failures_total{code="DATABASE_NOT_FOUND"}': 1,
      'bough_request_seconds_count{kind="failed"}': 1,
      'bough_request_seconds_count{kind="api"}': 1,
    });
  });

  test("needs a token for the whole server, where there are tokens", async () => {
    const url = await start({}, { access: TOKENS });
    expect((await fetch(`${url}/metrics`)).status).toBe(403);
    const other = await fetch(`${url}/metrics`, { headers: { authorization: "Bearer other" } });
    expect([other.status, ((await other.json()) as { code: string }).code]).toEqual([
      403,
      "FORBIDDEN",
    ]);
    const metrics = await readMetrics(url, { authorization: "Bearer admin" });
    expect(metrics.get('bough_request_failures_total{code="FORBIDDEN"}')).toBe(2);
    const post = await fetch(`${url}/metrics`, {
      method: "POST",
      headers: { authorization: "Bearer admin" },
    });
    expect(post.status).toBe(404);
  });
});

describe("the log", () => {
  test("has a line of JSON for each event, requests where it is to debug", async () => {
    store.createDatabase("shop");
    const url = await start({ logLevel: "debug" });
    await run(url, "/shop/", "SELECT 1");
    await (await fetch(`${url}/shop/v9?authToken=secret`, { method: "PUT" })).text();
    await server?.stop();
    for (const { level, time } of events()) {
      expect(["debug", "info"]).toContain(level);
      expect(new Date(String(time)).toISOString()).toBe(time);
    }
    expect(events().map(({ level: _level, time: _time, ...facts }) => facts)).toEqual([
      { event: "server.start", url },
      {
        event: "request",
        method: "POST",
        path: "/shop/v2/pipeline",
        status: 200,
        durationMs: 0,
      },
      { event: "request", method: "PUT", path: "/shop/v9", status: 404, durationMs: 0 },
      { event: "server.stopping", streams: 0, stopMs: 10_000 },
      { event: "server.stopped", isInTime: true },
    ]);
  });

  test("says what a bug was, which the client is not told", async () => {
    const access: Access = {
      isOpen: false,
      authenticate: () => {
        throw new TypeError("A hole in the floor");
      },
      isCurrent: () => true,
      requireCurrent: () => Promise.resolve(),
    };
    const url = await start({ logLevel: "error" }, { access });
    const response = await fetch(`${url}/shop/v2/pipeline`, { method: "POST", body: "{}" });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("hole");
    expect(events()).toEqual([
      {
        level: "error",
        time: expect.any(String),
        event: "bug",
        error: expect.stringMatching(/^TypeError: A hole in the floor\n +at /),
      },
    ]);
  });

  test("names slow statements with their text, and never parameters or tokens", async () => {
    store.createDatabase("shop");
    let ms = 0;
    const now = (): number => (ms += 3);
    const url = await start({ logLevel: "debug", slowQueryMs: 3 }, { access: TOKENS, now });
    const long = `SELECT 'x${"y".repeat(5000)}' WHERE ?`;
    const response = await fetch(`${url}/shop/v2/pipeline`, {
      method: "POST",
      headers: { authorization: "Bearer top-secret" },
      body: JSON.stringify({
        requests: [
          execute("SELECT ? AS a UNION ALL SELECT 2", {
            args: [{ type: "text", value: "secret-parameter" }],
          }),
          execute("SELECT :name FROM none", {
            named_args: [{ name: "name", value: { type: "text", value: "secret-name" } }],
          }),
          execute(long, { args: [{ type: "integer", value: "1" }] }),
          { type: "sequence", sql: "CREATE TABLE t(a); INSERT INTO t VALUES (1)" },
          { type: "close" },
        ],
      }),
    });
    await response.text();
    const slow = events().filter(({ event }) => event === "statement.slow");
    expect(slow.map(({ level: _level, time: _time, ...facts }) => facts)).toEqual([
      {
        event: "statement.slow",
        revision: "shop",
        durationMs: 3,
        rows: 2,
        changes: 0,
        sql: "SELECT ? AS a UNION ALL SELECT 2",
      },
      {
        event: "statement.slow",
        revision: "shop",
        durationMs: 3,
        rows: 0,
        changes: 0,
        code: "SQLITE_ERROR",
        sql: "SELECT :name FROM none",
      },
      expect.objectContaining({ rows: 1, sql: `${long.slice(0, 4000)}...` }),
      expect.objectContaining({ sql: "CREATE TABLE t(a); INSERT INTO t VALUES (1)" }),
    ]);
    expect(lines.join("")).not.toMatch(/secret/);
  });

  test.each([
    ["a threshold of 0 names none", { slowQueryMs: 0 }],
    ["one that took less is not slow", { slowQueryMs: 4 }],
    ["off is off", { slowQueryMs: 1, logLevel: "off" }],
  ] as const)("%s", async (_, settings) => {
    store.createDatabase("shop");
    let ms = 0;
    const url = await start({ logLevel: "warn", ...settings }, { now: () => (ms += 3) });
    await run(url, "/shop/", "SELECT 1");
    expect(lines).toEqual([]);
  });
});

describe("stopping", () => {
  test("ends within its time though a stream does not, and says so", async () => {
    store.createDatabase("shop");
    const stuck = new LocalStore(store, { busyTimeoutMs: 1000, statementTimeoutMs: 1000 });
    let release = (): void => {};
    const closed = new Promise<void>((resolve) => {
      release = resolve;
    });
    stuck.close = () => closed;
    const told: string[] = [];
    const note = (event: string): void => void told.push(event);
    const log = { isDebug: false, debug: note, info: note, warn: note, error: note };
    const stopping = await startHttpServer({
      store: stuck,
      admin: new LocalAdminStore(store),
      settings: parseSettings({ port: 0, stopMs: 20 }),
      access: TOKENS,
      log: { ...log, warn: (event, facts) => told.push(`${event} ${JSON.stringify(facts)}`) },
    });
    await stopping.stop();
    release();
    expect(told).toEqual(["server.start", "server.stopping", 'server.stopped {"isInTime":false}']);
  });
});
