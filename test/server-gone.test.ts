/** Clients that go away while something runs for them: it ends, as nobody is there to be told. */
import { type ClientRequest, request } from "node:http";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { CLOSE, execute, ServedDirectory } from "./server-fixture.ts";
import { SharedThreads } from "./shared-threads.ts";

let threads: SharedThreads;
let served: ServedDirectory;

beforeAll(async () => {
  threads = await SharedThreads.open();
});
afterAll(async () => {
  await threads[Symbol.asyncDispose]();
});

/** So many that they take a second or more. */
const COUNT = 2000;
const INSERT =
  "INSERT INTO item SELECT max(n) FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000) SELECT n FROM c)";
const BEGUN = "INSERT INTO begun VALUES (1)";
const inserts: string[] = Array.from({ length: COUNT }, () => INSERT);
const sequence = (...statements: readonly string[]): object => ({
  type: "sequence",
  sql: statements.join(";"),
});
const batch = (...statements: readonly string[]): object => ({
  type: "batch",
  batch: { steps: statements.map((sql) => ({ stmt: { sql } })) },
});

/** Requests over HTTP that have been sent. */
let sent: number;

async function countOf(table: string): Promise<number> {
  sent++;
  const [count] = await served.row(`SELECT count(*) FROM ${table}`);
  return Number(count);
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The sum of a metric over its labels. */
async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${served.server.url}/metrics`)).text();
  let sum = 0;
  for (const [, value] of text.matchAll(new RegExp(`^${name}{[^}]*} (\\d+)$`, "gm")))
    sum += Number(value);
  return sum;
}

/** Resolves when nothing is done any more for a request that was sent. */
async function allEnded(): Promise<void> {
  while ((await metric('bough_request_seconds_count(?={kind="(?:pipeline|failed)"})')) < sent)
    await turn();
}

function send(...requests: readonly object[]): ClientRequest {
  sent++;
  const asked = request(`${served.server.url}/shop/v2/pipeline`, { method: "POST" });
  asked.on("error", () => {});
  asked.end(JSON.stringify({ requests: [...requests, CLOSE] }));
  return asked;
}

/** Asks, and goes away once `BEGUN` has run. */
async function askAndGo(...requests: readonly object[]): Promise<void> {
  const asked = send(...requests);
  while ((await countOf("begun")) === 0) await turn();
  asked.destroy();
  await allEnded();
}

describe.each(["one thread", "threads"])("a client that goes away, with %s", (kind) => {
  beforeEach(async () => {
    const store = kind === "threads" ? threads.store : null;
    sent = 0;
    served = await ServedDirectory.start({ busyTimeoutMs: 600_000 }, {}, undefined, store);
    await served.admin.createDatabase("shop", {});
    await served.exec("shop", "CREATE TABLE item(a); CREATE TABLE begun(a)");
  });
  afterEach(async () => {
    await served[Symbol.asyncDispose]();
    expect(served.bugs).toEqual([]);
  });

  test("ends its sequence between two statements", async () => {
    await askAndGo(sequence(BEGUN, ...inserts));
    expect(await countOf("item")).toBeLessThan(COUNT);
  });

  test("ends the transaction of its sequence, which is rolled back", async () => {
    await askAndGo(sequence(BEGUN, "BEGIN", ...inserts, "COMMIT"));
    expect(await countOf("item")).toBe(0);
  });

  test("ends its batch between two steps, and what comes after it", async () => {
    await askAndGo(batch(BEGUN, ...inserts), sequence(...inserts));
    expect(await countOf("item")).toBeLessThan(COUNT);
  });

  test("ends its sequence over a WebSocket, and the requests that wait for it", async () => {
    const { host } = new URL(served.server.url);
    const socket = new WebSocket(`ws://${host}/shop/`, ["hrana2"]);
    socket.on("error", () => {});
    await new Promise((resolve) => socket.once("open", resolve));
    const ask = (id: number, asked: object): void =>
      socket.send(JSON.stringify({ type: "request", request_id: id, request: asked }));
    socket.send('{"type":"hello","jwt":null}');
    ask(1, { type: "open_stream", stream_id: 1 });
    for (const id of [2, 3])
      ask(id, { ...sequence(BEGUN, "BEGIN", ...inserts, "COMMIT"), stream_id: 1 });
    while ((await countOf("begun")) === 0) await turn();
    socket.terminate();
    while ((await metric("bough_statement_failures_total")) < 2) await turn();
    expect([await countOf("begun"), await countOf("item")]).toEqual([1, 0]);
  });

  test("waits no more for its turn to write", async () => {
    const writer = await served.pipeline([execute("BEGIN IMMEDIATE")]);
    const asked = send(sequence("INSERT INTO item VALUES (1)"));
    while (served.server.streams.size < 2) await turn();
    // If it does not wait yet, it is ended before it does.
    await countOf("item");
    asked.destroy();
    sent++; // The writer's.
    await allEnded();
    const { baton } = writer.body;
    await served.pipeline([execute(BEGUN), execute("COMMIT"), CLOSE], baton);
    expect([await countOf("begun"), await countOf("item")]).toEqual([1, 0]);
  });
});
