/** Spans as a collector gets them, which is a server of its own here. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@libsql/client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { Access } from "../src/server/access.ts";
import type { HttpServer } from "../src/server/http-server.ts";
import { serveStore } from "../src/server/serve.ts";
import type { ServerSettings } from "../src/server/setting-list.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { execute, sqls } from "./server-fixture.ts";
import { type ReceivedSpan, TraceCollector } from "./trace-collector.ts";

let directory: string;
let store: Store;
let server: HttpServer | null = null;
let lines: string[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-tracing-"));
  store = openStore(join(directory, "store"));
  store.createDatabase("shop").createBranch("feature/auth");
  lines = [];
});
afterEach(async () => {
  await server?.stop();
  server = null;
  store.close();
  rmSync(directory, { recursive: true, force: true });
});

async function start(
  settings: Partial<ServerSettings>,
  more: { readonly access?: Access; readonly now?: () => number } = {},
): Promise<string> {
  server = await serveStore(store, {
    settings: { port: 0, logLevel: "info", ...settings },
    writeLog: (line) => lines.push(line),
    ...more,
  });
  return server.url;
}

/** Everything is sent then. */
async function stop(): Promise<void> {
  await server?.stop();
}

async function post(
  url: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<number> {
  const response = await fetch(url, { method: "POST", body: JSON.stringify(body), headers });
  await response.text();
  return response.status;
}

const events = (): Record<string, unknown>[] =>
  lines.map((line) => JSON.parse(line) as Record<string, unknown>);

describe("spans of requests over HTTP", () => {
  test("have their statements, batches and waits for commits as parts", async () => {
    await using collector = await TraceCollector.start();
    const url = await start({ otelEndpoint: `${collector.url}/`, otelServiceName: "shop-db" });
    await post(`${url}/shop/feature/auth/v2/pipeline`, sqls("CREATE TABLE t(a UNIQUE)"));
    const step = (sql: string): object => ({ stmt: { sql } });
    const batch = { steps: [step("INSERT INTO t VALUES (1), (2)"), step("SELECT a FROM t")] };
    await post(`${url}/shop/feature/auth/v3/pipeline`, { requests: [{ type: "batch", batch }] });
    await post(`${url}/shop/feature/auth/v3/cursor`, { batch: { steps: [step("VALUES (1)")] } });
    await post(`${url}/shop/feature/auth/v2/pipeline`, sqls("INSERT INTO t VALUES (1)"));
    await stop();
    expect(collector.paths.every((path) => path === "POST /v1/traces")).toBe(true);
    expect(collector.resource).toMatchObject({ "service.name": "shop-db" });
    expect(collector.tree()).toEqual([
      ["POST /{revision}/v2/pipeline", ["CREATE shop", "commit wait"]],
      [
        "POST /{revision}/v3/pipeline",
        [["BATCH shop", ["INSERT shop", "SELECT shop"]], "commit wait"],
      ],
      ["POST /{revision}/v3/cursor", ["VALUES shop"]],
      ["POST /{revision}/v2/pipeline", ["INSERT shop"]],
    ]);
    for (const span of collector.spans) {
      expect(span.attributes).toMatchObject({ "db.namespace": "shop" });
      expect(span.attributes).toMatchObject({ "bough.branch": "feature/auth" });
      expect(span.endNs >= span.startNs).toBe(true);
      const parent = collector.spans.find(({ spanId }) => spanId === span.parentId);
      expect(span.kind).toBe(parent === undefined ? "server" : "internal");
      if (parent === undefined) continue;
      expect(span.traceId).toBe(parent.traceId);
      expect(span.startNs >= parent.startNs && span.endNs <= parent.endNs, span.name).toBe(true);
    }
    expect(collector.span("SELECT shop").attributes).toEqual({
      "db.system.name": "sqlite",
      "db.namespace": "shop",
      "bough.branch": "feature/auth",
      "db.operation.name": "SELECT",
      "db.response.returned_rows": 2,
      "bough.rows_changed": 0,
    });
    expect(collector.span("BATCH shop").attributes).toMatchObject({ "db.operation.batch.size": 2 });
    const inserts = collector.spans.filter(({ name }) => name === "INSERT shop");
    expect(inserts.map(({ isError }) => isError)).toEqual([false, true]);
    expect(inserts.map(({ attributes }) => attributes)).toMatchObject([
      { "bough.rows_changed": 2 },
      {
        "error.type": "SQLITE_CONSTRAINT",
        "db.response.status_code": "SQLITE_CONSTRAINT_UNIQUE",
      },
    ]);
    expect(collector.span("POST /{revision}/v3/cursor").attributes).toEqual({
      "http.request.method": "POST",
      "http.response.status_code": 200,
      "http.route": "/{revision}/v3/cursor",
      "url.path": "/shop/feature/auth/v3/cursor",
      "url.scheme": "http",
      "network.protocol.version": "1.1",
      "client.address": "127.0.0.1",
      "db.system.name": "sqlite",
      "db.namespace": "shop",
      "bough.branch": "feature/auth",
    });
  });

  test("are children of what traceparent names, and there are none of what it does not sample", async () => {
    await using collector = await TraceCollector.start();
    const url = await start({ otelEndpoint: collector.url, otelSamplePercent: 0 });
    const traceId = "0af7651916cd43dd8448eb211c80319c";
    const parent = (flags: string): Record<string, string> => ({
      traceparent: `00-${traceId}-b7ad6b7169203331-${flags}`,
      tracestate: "vendor=1",
    });
    await post(`${url}/shop/v2/pipeline`, sqls("SELECT 1"), parent("01"));
    await post(`${url}/shop/v2/pipeline`, sqls("SELECT 2"), parent("00"));
    await post(`${url}/shop/v2/pipeline`, sqls("SELECT 3"), { traceparent: "00-nonsense" });
    await post(`${url}/shop/v2/pipeline`, sqls("SELECT 4"));
    await stop();
    expect(collector.tree()).toEqual([["POST /{revision}/v2/pipeline", ["SELECT shop"]]]);
    expect(collector.span("POST /{revision}/v2/pipeline")).toMatchObject({
      traceId,
      parentId: "b7ad6b7169203331",
    });
    expect(collector.span("SELECT shop")).toMatchObject({ traceId });
  });

  test("say how a request failed; probes have none", async () => {
    await using collector = await TraceCollector.start();
    const url = await start({ otelEndpoint: collector.url });
    expect(await post(`${url}/none/v2/pipeline`, sqls("SELECT 1"))).toBe(404);
    expect(await post(`${url}/shop/v2/pipeline`, { requests: 1 })).toBe(400);
    expect((await fetch(`${url}/api/v1/databases/none?token=1`)).status).toBe(400);
    expect((await fetch(`${url}/console/x`)).status).toBe(404);
    for (const path of ["/health", "/ready"]) await (await fetch(url + path)).text();
    await stop();
    expect(collector.tree()).toEqual([
      "POST /{revision}/v2/pipeline",
      "POST /{revision}/v2/pipeline",
      expect.stringMatching(/^GET/),
      "GET",
    ]);
    expect(
      collector.spans.map(({ attributes, isError }) => [
        attributes["http.response.status_code"],
        attributes["error.type"],
        isError,
      ]),
    ).toEqual([
      [404, "DATABASE_NOT_FOUND", false],
      [400, "REQUEST_INVALID", false],
      [400, "REQUEST_INVALID", false],
      [404, "ENDPOINT_NOT_FOUND", false],
    ]);
  });

  test("a bug is an error of the server", async () => {
    await using collector = await TraceCollector.start();
    const access: Access = {
      isOpen: false,
      authenticate: () => {
        throw new TypeError("A secret hole");
      },
      isCurrent: () => true,
      requireCurrent: () => Promise.resolve(),
    };
    const url = await start({ otelEndpoint: collector.url }, { access });
    expect(await post(`${url}/shop/v2/pipeline`, sqls("SELECT 1"))).toBe(500);
    await stop();
    expect(collector.span("POST /{revision}/v2/pipeline")).toMatchObject({
      isError: true,
      attributes: { "error.type": "INTERNAL", "http.response.status_code": 500 },
    });
    expect(collector.bodies.join("")).not.toContain("hole");
  });

  test("have texts of slow statements only, and never parameters, tokens or messages", async () => {
    await using collector = await TraceCollector.start();
    let ms = 0;
    let stepMs = 0;
    const now = (): number => (ms += stepMs);
    const url = await start({ otelEndpoint: collector.url, slowQueryMs: 3 }, { now });
    await post(`${url}/shop/v2/pipeline?authToken=secret-url`, {
      requests: [
        execute("SELECT 'fast-secret', ?", { args: [{ type: "text", value: "secret-value" }] }),
        { type: "close" },
      ],
    });
    stepMs = 3;
    await post(
      `${url}/shop/v2/pipeline`,
      { requests: [execute("SELECT ? || :b FROM none"), { type: "close" }] },
      { authorization: "Bearer secret-token" },
    );
    await stop();
    const texts = collector.spans.map(({ attributes }) => attributes["db.query.text"]);
    expect(texts.filter((text) => text !== undefined)).toEqual(["SELECT ? || :b FROM none"]);
    expect(collector.bodies.join("")).not.toMatch(/secret|no such table/);
  });
});

describe("spans of a WebSocket", () => {
  test("there is one for each request, of the trace that opened the socket", async () => {
    await using collector = await TraceCollector.start();
    const url = await start({ otelEndpoint: collector.url });
    const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
    const socket = new WebSocket(`${url.replace("http:", "ws:")}/shop/`, ["hrana2"], {
      headers: { traceparent: `00-${traceId}-00f067aa0ba902b7-01` },
    });
    const requests = [
      { type: "open_stream", stream_id: 1 },
      { type: "execute", stream_id: 1, stmt: { sql: "CREATE TABLE t(a)" } },
      { type: "execute", stream_id: 1, stmt: { sql: "SELECT * FROM none" } },
      { type: "execute", stream_id: 2, stmt: { sql: "SELECT 1" } },
      { type: "close_stream", stream_id: 1 },
    ];
    let answers = 0;
    await new Promise<void>((resolve, reject) => {
      socket.on("error", reject);
      socket.on("open", () => {
        socket.send('{"type":"hello","jwt":null}');
        for (const [id, request] of requests.entries())
          socket.send(JSON.stringify({ type: "request", request_id: id, request }));
      });
      socket.on("message", () => {
        if (++answers === requests.length + 1) resolve();
      });
    });
    socket.close();
    await stop();
    const roots = collector.spans.filter(({ kind }) => kind === "server");
    expect(roots.map(({ name }) => name).sort()).toEqual([
      "WebSocket close_stream",
      "WebSocket execute",
      "WebSocket execute",
      "WebSocket execute",
      "WebSocket open_stream",
    ]);
    for (const span of collector.spans) expect(span.traceId).toBe(traceId);
    for (const span of roots) {
      expect(span.parentId).toBe("00f067aa0ba902b7");
      expect(span.attributes).toMatchObject({ "db.namespace": "shop" });
    }
    const create = collector.span("CREATE shop");
    const wait = collector.spans.filter(({ name }) => name === "commit wait");
    expect(wait.map(({ parentId }) => parentId)).toContain(create.parentId);
    expect(roots.find(({ spanId }) => spanId === create.parentId)?.name).toBe("WebSocket execute");
    expect(new Set(roots.map(({ attributes }) => attributes["error.type"]))).toEqual(
      new Set([undefined, "REQUEST_INVALID", "SQLITE_ERROR"]),
    );
  });

  test("the statements of a transaction are each part of the request that brought them", async () => {
    await using collector = await TraceCollector.start();
    const url = await start({ otelEndpoint: collector.url });
    for (const scheme of ["ws:", "http:"]) {
      const client = createClient({ url: `${url.replace("http:", scheme)}/shop/` });
      const transaction = await client.transaction("write");
      await transaction.execute("CREATE TABLE t(a)");
      await transaction.execute("DROP TABLE t");
      await transaction.commit();
      client.close();
    }
    await stop();
    const all = new Map(collector.spans.map((span) => [span.spanId, span]));
    const requestOf = ({ parentId, name }: ReceivedSpan): string => {
      const parent = all.get(parentId ?? "");
      return parent === undefined ? name : requestOf(parent);
    };
    for (const name of ["CREATE shop", "DROP shop", "COMMIT shop"]) {
      const spans = collector.spans.filter((span) => span.name === name);
      expect(spans.map((span) => requestOf(span))).toEqual([
        expect.stringMatching(/^WebSocket (execute|batch)$/),
        expect.stringMatching(/^POST .*pipeline$/),
      ]);
    }
    const requests = collector.spans.filter(({ kind }) => kind === "server");
    const withStatements = new Set(
      collector.spans.filter(({ kind }) => kind === "internal").map(({ parentId }) => parentId),
    );
    expect(requests.filter(({ spanId }) => withStatements.has(spanId)).length).toBeGreaterThan(5);
  });
});

test("a job of the admin API has a span below the request that began it", async () => {
  await using collector = await TraceCollector.start();
  const url = await start({ otelEndpoint: collector.url });
  const started = await fetch(`${url}/api/v1/store/gc`, { method: "POST" });
  expect([started.status, await started.text()]).toEqual([202, expect.any(String)]);
  const path = started.headers.get("location") ?? "";
  const state = async (): Promise<unknown> =>
    ((await (await fetch(url + path)).json()) as { state: string }).state;
  await expect.poll(state).toBe("done");
  await stop();
  const job = collector.span("job gc");
  expect(job.attributes).toMatchObject({ "bough.job.kind": "gc", "bough.job.state": "done" });
  expect(collector.span("POST /api/v1/store/gc").spanId).toBe(job.parentId);
});

describe("a collector that takes nothing", () => {
  test.each([
    ["says no", 400],
    ["is broken", 500],
  ])("fails no request where it %s, and the log tells once", async (_, status) => {
    await using collector = await TraceCollector.start((response) => {
      response.writeHead(status);
      response.end();
    });
    const url = await start({ otelEndpoint: collector.url, streamsMax: 100 });
    const steps = Array.from({ length: 600 }, () => ({ stmt: { sql: "SELECT 1" } }));
    for (let round = 0; round < 2; round++)
      expect(await post(`${url}/shop/v1/batch`, { batch: { steps } })).toBe(200);
    await stop();
    expect(collector.paths.length).toBeGreaterThan(1);
    const told = events().filter(({ event }) => String(event).startsWith("spans"));
    expect(told).toMatchObject([{ level: "warn", event: "spans.lost", error: expect.any(String) }]);
    expect(events().at(-1)).toMatchObject({ event: "server.stopped", isInTime: true });
  });

  test("holds up nobody where it does not answer, and a stop no longer than it may take", async () => {
    await using collector = await TraceCollector.start(() => {});
    const url = await start({ otelEndpoint: collector.url, stopMs: 50 });
    expect(await post(`${url}/shop/v2/pipeline`, sqls("SELECT 1"))).toBe(200);
    await stop();
    expect(events().at(-1)).toMatchObject({ event: "server.stopped", isInTime: false });
    expect(collector.spans.map(({ name }) => name)).toContain("SELECT shop");
  });

  test("is no reason not to start where nobody listens, and one where it is no address", async () => {
    const collector = await TraceCollector.start();
    const gone = collector.url;
    await collector[Symbol.asyncDispose]();
    const url = await start({ otelEndpoint: gone, stopMs: 50 });
    expect(await post(`${url}/shop/v2/pipeline`, sqls("SELECT 1"))).toBe(200);
    await stop();
    for (const otelEndpoint of ["collector:4317", "grpc://collector:4317", "/v1/traces"])
      await expect(start({ otelEndpoint })).rejects.toThrow(
        `Cannot send spans to "${otelEndpoint}": it is no address that begins with http: or https:`,
      );
  });
});
