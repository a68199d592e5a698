/**
 * Random requests and random changes of good ones, on every endpoint of Hrana and over WebSocket: each is answered, none with a 5xx or
 * by what the server calls a bug, none shows what another tenant has, and the server works on; also one with threads. The bytes of HTTP and
 * of frames: server-fuzz-wire.test.ts.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { Random } from "../src/testing/random.ts";
import { CALLS, good, goodBody, goodMessage, mutated, SECRET, sent } from "./hrana-generator.ts";
import { ServedDirectory, sqls } from "./server-fixture.ts";
import { TokenWorld } from "./server-tokens.ts";
import { SharedThreads } from "./shared-threads.ts";

const LONG = process.env["BOUGH_TEST_LONG"] === "1";
const SEED = 1 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
/** What nobody who asks here may see, and nobody sends. */
const DATA = "zq8data";
const TIMEOUT = LONG ? { timeout: 1_800_000 } : {};
/** So often what has been left open is ended. */
const SWEEP = 50;

interface World {
  readonly served: ServedDirectory;
  readonly random: Random;
  readonly token: string;
}

type Kind = "one thread" | "threads";
let threads: SharedThreads | null = null;

afterAll(async () => {
  await threads?.[Symbol.asyncDispose]();
});

interface StartOptions {
  readonly kind: Kind;
  readonly seed: number;
  readonly tokens: TokenWorld;
}

async function start({ kind, seed, tokens }: StartOptions): Promise<World> {
  const served = await ServedDirectory.start(
    {
      statementMs: 100,
      busyTimeoutMs: 0,
      responseBytesMax: 1024 * 1024,
      requestBytesMax: 1024 * 1024,
    },
    {},
    tokens.access(),
    kind === "threads" ? (threads ??= await SharedThreads.open()).store : null,
  );
  const { admin } = served;
  for (const name of ["shop", SECRET]) {
    // The same partition: what keeps them apart is not where they are.
    await admin.createDatabase(name, kind === "threads" ? { partition: 1 } : {});
    await served.exec(name, "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
  }
  for (const branch of ["dev", SECRET]) await admin.createBranch("shop", branch, {});
  for (const revision of [SECRET, `shop/${SECRET}`])
    await served.exec(revision, `INSERT INTO t VALUES (1, '${DATA}')`);
  const token = await tokens.token({
    bough: ["main", "dev"].map((branch) => ({ database: "shop", branch, access: "rw" })),
  });
  return { served, random: new Random(seed), token };
}

/** A name that was asked for is no leak: only what the server adds is looked at. */
function leaks(answer: string, asked: string): boolean {
  return answer.includes(DATA) || (answer.includes(SECRET) && !asked.includes(SECRET));
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
  const secret = await served.served.open(SECRET);
  expect(await (await secret.prepare("SELECT b FROM t")).pluck().all()).toEqual([DATA]);
  await secret.close();
}

const PLACES = ["", "/shop", "/shop/dev", `/shop/${SECRET}`, `/${SECRET}`, "/shop@1", "/shop@-5m"];
const ODD_PLACES = ["/%00", "/a..b", "/shop@@", "/shop/%2e%2e/x", "//", `/shop@${SECRET}`, "/é"];

describe.each<[Kind, number]>([
  ["one thread", LONG ? 10_000 : 300],
  ["threads", LONG ? 2000 : 60],
])("a server with %s", (kind, count) => {
  test("HTTP: every request is answered, by no 5xx", TIMEOUT, async () => {
    using tokens = new TokenWorld();
    const world = await start({ kind, seed: SEED, tokens });
    const { served, random, token } = world;
    const batons: string[] = [];
    for (let index = 0; index < count; index++) {
      const call = random.pick(CALLS);
      const place = random.chance(0.85) ? random.pick(PLACES) : random.pick(ODD_PLACES);
      const body = sent(random, good(random, goodBody(random, call, batons)));
      const asked = body.toString();
      const headers: Record<string, string> = {
        "content-type": random.pick(["application/json", "text/plain", "multipart/form-data"]),
        ...(random.chance(0.9) ? { authorization: `Bearer ${token}` } : {}),
        ...(random.chance(0.1)
          ? { "x-namespace": random.pick([SECRET, "shop", "a b", "../..", `shop/${SECRET}`]) }
          : {}),
      };
      const path = `${place}/${call}`;
      const { status, text } = await served.post(path, body, headers);
      const what = `seed ${SEED}, request ${index}: ${path} ${asked.slice(0, 500)} -> ${status} ${text.slice(0, 500)}`;
      expect(status, what).toBeLessThan(500);
      expect(text.includes('"INTERNAL"'), what).toBe(false);
      expect(leaks(text, path + asked + JSON.stringify(headers)), what).toBe(false);
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
    const world = await start({ kind, seed: SEED + 1, tokens });
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
    for (let index = 0; index < count / 10; index++) {
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

  test("WebSocket: frames are answered, or end the socket", TIMEOUT, async () => {
    using tokens = new TokenWorld();
    const world = await start({ kind, seed: SEED + 2, tokens });
    const { served, random, token } = world;
    for (let round = 0; round < count / 15; round++) {
      const place = random.pick(["/shop/", "/shop/dev/"]);
      const protocols = random.pick([["hrana2"], ["hrana1"], ["hrana2", "hrana1"]]);
      const socket = new WebSocket(served.server.url.replace("http:", "ws:") + place, protocols);
      let text = "";
      socket.on("message", (data: Buffer) => void (text += data.toString()));
      await once(socket, "open");
      const closed = once(socket, "close");
      let asked = "";
      const send = (data: string | Buffer, binary = false): void => {
        asked += data.toString();
        if (socket.readyState === socket.OPEN) socket.send(data, { binary });
      };
      if (random.chance(0.9)) send(JSON.stringify({ type: "hello", jwt: token }));
      for (let index = 0; index < 20; index++) {
        const message = goodMessage(random, token);
        const value = random.chance(0.7) ? message : mutated(random, message);
        const frame = random.chance(0.7) ? JSON.stringify(value) : sent(random, value);
        send(frame, random.chance(0.02));
      }
      // The last one ends the socket when all before are taken: it is no JSON.
      send("the end");
      const [code] = (await closed) as [number];
      const what = `seed ${SEED + 2}, round ${round}: ${asked.slice(0, 2000)} -> ${code} ${text.slice(0, 500)}`;
      expect([1003, 1006, 1007, 1008, 1009], what).toContain(code);
      expect(text.includes('"INTERNAL"'), what).toBe(false);
      expect(leaks(text, asked), what).toBe(false);
      if (round % 5 === 0) await served.pass(100_000);
    }
    await works(world);
    await served[Symbol.asyncDispose]();
  });
});

test("regression: a value whose type is an object without a text is a bad request", async () => {
  await using served = await ServedDirectory.start();
  const stmt = { sql: "SELECT ?", args: [{ type: { toString: 0, valueOf: 0 } }] };
  const { status, body } = await served.post("/v1/execute", { stmt });
  expect([status, body.code]).toEqual([400, "REQUEST_INVALID"]);
  expect(served.bugs).toEqual([]);
});
