/**
 * Random requests and random changes of good ones, on every endpoint of Hrana and over WebSocket: each is answered, none with a 5xx or
 * by what the server calls a bug, none shows what another tenant has, and the server works on.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { WebSocket } from "ws";
import { Random } from "../src/testing/random.ts";
import { ServedDirectory, sqls } from "./server-fixture.ts";
import { TokenWorld } from "./server-tokens.ts";

const LONG = process.env["BOUGH_TEST_LONG"] === "1";
const SEED = 1 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const REQUESTS = LONG ? 20_000 : 300;
const TIMEOUT = LONG ? { timeout: 1_800_000 } : {};
/** In the database, branch and tag of another tenant. */
const SECRET = "zq7secret";
/** So often what has been left open is ended. */
const SWEEP = 50;

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const SQL = [
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
];

const NAMES =
  "type stmt sql sql_id args named_args want_rows steps batch condition cond conds step requests baton stream_id request_id value base64 name statements q params jwt request __proto__ constructor toString length".split(
    " ",
  );

const WORDS =
  "execute batch sequence describe store_sql close_sql get_autocommit close open_stream close_stream hello request ok error not and or is_autocommit integer float text blob null".split(
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

const CALLS = [
  "v2/pipeline",
  "v3/pipeline",
  "v3/cursor",
  "v1/execute",
  "v1/batch",
  "",
  "v2",
  "v9/x",
];

function goodBody(random: Random, call: string, batons: readonly string[]): Json {
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
function mutated(random: Random, value: Json): Json {
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
      return random.pick(["[".repeat(100_000), '{"a":'.repeat(50_000), "nul", "", "\ufeff{}"]);
    default:
      return text;
  }
}

function good(random: Random, value: Json): Json {
  return random.chance(0.3) ? value : mutated(random, value);
}

interface World {
  readonly served: ServedDirectory;
  readonly random: Random;
  readonly token: string;
}

async function start(seed: number, tokens: TokenWorld): Promise<World> {
  const served = await ServedDirectory.start(
    {
      statementMs: 100,
      busyTimeoutMs: 0,
      responseBytesMax: 1024 * 1024,
      requestBytesMax: 1024 * 1024,
    },
    {},
    tokens.access(),
  );
  const { store } = served;
  for (const name of ["shop", SECRET]) {
    store.createDatabase(name);
    using connection = store.connect(name);
    connection.exec("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
    if (name === SECRET) connection.exec(`INSERT INTO t VALUES (1, '${SECRET}')`);
  }
  store.database("shop").createBranch("dev");
  store.database("shop").createBranch(SECRET);
  const token = await tokens.token({
    bough: ["main", "dev"].map((branch) => ({ database: "shop", branch, access: "rw" })),
  });
  return { served, random: new Random(seed), token };
}

/** What was asked for is no leak: only what the server adds is looked at. */
function leaks(answer: string, asked: string): boolean {
  return answer.includes(SECRET) && !asked.includes(SECRET);
}

/** It still does what it should. */
async function works({ served, token }: World): Promise<void> {
  await served.pass(100_000); // What is open is ended; streams of sockets when their end has come through.
  while (served.server.streams.size > 0) await new Promise((resolve) => setImmediate(resolve));
  const headers = { authorization: `Bearer ${token}` };
  const body = sqls(
    "CREATE TABLE IF NOT EXISTS fine(a)",
    "INSERT INTO fine VALUES (1) RETURNING a",
  );
  const { body: answer } = await served.post("/shop/v2/pipeline", body, headers);
  expect(answer.results[1].response.result.rows).toEqual([[{ type: "integer", value: "1" }]]);
  expect(served.bugs).toEqual([]);
  using secret = served.store.connect(SECRET);
  expect(secret.prepare("SELECT b FROM t").pluck().all()).toEqual([SECRET]);
}

const PLACES = ["", "/shop", "/shop/dev", `/shop/${SECRET}`, `/${SECRET}`, "/shop@1", "/shop@-5m"];
const ODD_PLACES = ["/%00", "/a..b", "/shop@@", "/shop/%2e%2e/x", "//", `/shop@${SECRET}`, "/é"];

test("HTTP: every request is answered, by no 5xx", TIMEOUT, async () => {
  using tokens = new TokenWorld();
  const world = await start(SEED, tokens);
  const { served, random, token } = world;
  const batons: string[] = [];
  for (let index = 0; index < REQUESTS; index++) {
    const call = random.pick(CALLS);
    const place = random.chance(0.85) ? random.pick(PLACES) : random.pick(ODD_PLACES);
    const body = encoded(random, good(random, goodBody(random, call, batons)));
    const headers: Record<string, string> = {
      "content-type": random.pick(["application/json", "text/plain", "multipart/form-data"]),
      ...(random.chance(0.9) ? { authorization: `Bearer ${token}` } : {}),
      ...(random.chance(0.1)
        ? { "x-namespace": random.pick([SECRET, "shop", "a b", "../..", `shop/${SECRET}`]) }
        : {}),
    };
    const path = `${place}/${call}`;
    const { status, text } = await served.post(path, body, headers);
    const what = `seed ${SEED}, request ${index}: ${path} ${body.slice(0, 500)} -> ${status} ${text.slice(0, 500)}`;
    expect(status, what).toBeLessThan(500);
    expect(text.includes('"INTERNAL"'), what).toBe(false);
    expect(leaks(text, path + body + JSON.stringify(headers)), what).toBe(false);
    if (call !== "v3/cursor" && text !== "" && !text.startsWith("Hrana"))
      expect(() => void JSON.parse(text), what).not.toThrow();
    const baton = /"baton":"([^"]+)"/.exec(text)?.[1];
    if (baton !== undefined) batons.push(baton);
    if (index % SWEEP === 0) {
      await served.pass(100_000);
      batons.length = 0;
    }
  }
  await works(world);
  await served[Symbol.asyncDispose]();
});

test("HTTP: what is no HTTP is refused, and ends with its connection", TIMEOUT, async () => {
  using tokens = new TokenWorld();
  const world = await start(SEED + 1, tokens);
  const { served, random } = world;
  const { port } = new URL(served.server.url);
  const head = "POST /shop/v2/pipeline HTTP/1.1\r\nhost: x\r\n";
  const messages = [
    "\r\n\r\n\r\nGARBAGE\r\n\r\n",
    `${head}content-length: -1\r\n\r\n{}`,
    `${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    `${head}transfer-encoding: chunked\r\n\r\nzz\r\n`,
    `GET / HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(50_000)}\r\n\r\n`,
    "GET /shop HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "GET /shop HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\nsec-websocket-key: x\r\n\r\n",
  ];
  for (let index = 0; index < REQUESTS / 10; index++) {
    const text = random.pick(messages);
    const cut = random.chance(0.3) ? text.slice(0, random.integer(1, text.length)) : text;
    const socket = connect(Number(port), "127.0.0.1");
    let answer = "";
    socket.on("data", (data: Buffer) => void (answer += data.toString()));
    socket.on("error", () => {}); // It may be reset.
    socket.end(cut);
    await once(socket, "close");
    expect(answer, cut.slice(0, 200)).toMatch(/^(?:HTTP\/1\.1 [1-4]|$)/);
  }
  await works(world);
  await served[Symbol.asyncDispose]();
});

test("regression: a value whose type is an object without a text is a bad request", async () => {
  await using served = await ServedDirectory.start();
  const stmt = { sql: "SELECT ?", args: [{ type: { toString: 0, valueOf: 0 } }] };
  const { status, body } = await served.post("/v1/execute", { stmt });
  expect([status, body.code]).toEqual([400, "REQUEST_INVALID"]);
  expect(served.bugs).toEqual([]);
});

function goodMessage(random: Random, token: string): Json {
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

test("WebSocket: frames are answered, or end the socket", TIMEOUT, async () => {
  using tokens = new TokenWorld();
  const world = await start(SEED + 2, tokens);
  const { served, random, token } = world;
  for (let round = 0; round < REQUESTS / 15; round++) {
    const place = random.pick(["/shop/", "/shop/dev/"]);
    const protocols = random.pick([["hrana2"], ["hrana1"], ["hrana2", "hrana1"]]);
    const socket = new WebSocket(served.server.url.replace("http:", "ws:") + place, protocols);
    let text = "";
    socket.on("message", (data: Buffer) => void (text += data.toString()));
    await once(socket, "open");
    const closed = once(socket, "close");
    let sent = "";
    const send = (data: string | Buffer): void => {
      sent += data.toString();
      if (socket.readyState === socket.OPEN) socket.send(data);
    };
    if (random.chance(0.9)) send(JSON.stringify({ type: "hello", jwt: token }));
    for (let index = 0; index < 20; index++) {
      const message = goodMessage(random, token);
      const value = random.chance(0.7) ? message : mutated(random, message);
      const frame = random.chance(0.9) ? JSON.stringify(value) : encoded(random, value);
      send(random.chance(0.02) ? Buffer.from(frame) : frame);
    }
    // The last one ends the socket when all before are taken: it is no JSON.
    send("the end");
    const [code] = (await closed) as [number];
    const what = `seed ${SEED + 2}, round ${round}: ${sent.slice(0, 2000)} -> ${code} ${text.slice(0, 500)}`;
    expect([1003, 1006, 1007, 1008, 1009], what).toContain(code);
    expect(text.includes('"INTERNAL"'), what).toBe(false);
    expect(leaks(text, sent), what).toBe(false);
    if (round % 5 === 0) await served.pass(100_000);
  }
  await works(world);
  await served[Symbol.asyncDispose]();
});
