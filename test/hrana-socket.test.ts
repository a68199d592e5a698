/** Hrana over WebSocket as its documents have it, without a client in between. */
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { ServedDirectory } from "./server-fixture.ts";

let served: ServedDirectory;
const sockets: Socket[] = [];

beforeEach(async () => {
  served = await ServedDirectory.start();
  served.store.createDatabase("shop");
  await served.post("/shop/v1/execute", { stmt: { sql: "CREATE TABLE t(a INTEGER PRIMARY KEY)" } });
});

afterEach(async () => {
  for (const { webSocket } of sockets.splice(0)) webSocket.terminate();
  await served[Symbol.asyncDispose]();
  expect(served.bugs).toEqual([]);
});

/** A socket that keeps what it gets in order. */
class Socket {
  readonly webSocket: WebSocket;
  // What the messages are the tests say.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly #messages: any[] = [];
  #notify: () => void = () => {};

  constructor(path: string, protocols: string[] = ["hrana2", "hrana1"]) {
    const url = `${served.server.url.replace("http:", "ws:")}${path}`;
    this.webSocket = new WebSocket(url, protocols);
    this.webSocket.on("message", (data: Buffer) => {
      this.#messages.push(JSON.parse(data.toString()));
      this.#notify();
    });
    sockets.push(this);
  }

  static async open(path = "/shop/"): Promise<Socket> {
    const socket = new Socket(path);
    await once(socket.webSocket, "open");
    return socket;
  }

  send(...messages: object[]): void {
    for (const message of messages) this.webSocket.send(JSON.stringify(message));
  }

  // oxlint-disable-next-line typescript/no-explicit-any
  async receive(count: number): Promise<any[]> {
    while (this.#messages.length < count)
      await new Promise<void>((resolve) => {
        this.#notify = resolve;
      });
    return this.#messages.splice(0, count);
  }

  async closed(): Promise<number> {
    const [code] = await once(this.webSocket, "close");
    return Number(code);
  }
}

const HELLO = { type: "hello" };
const ask = (id: number, request: object): object => ({ type: "request", request_id: id, request });
const open = (id: number, streamId: number): object =>
  ask(id, { type: "open_stream", stream_id: streamId });
const run = (id: number, streamId: number, sql: string): object =>
  ask(id, { type: "execute", stream_id: streamId, stmt: { sql } });

/** Of messages about requests: "id:code" of errors, "id:first value" of answers. */
// oxlint-disable-next-line typescript/no-explicit-any
function brief(messages: any[]): string[] {
  return messages.map(({ type, request_id: id, error, response }) => {
    if (type === "response_error") return `${id}:${error.code}`;
    return `${id}:${response.result?.rows?.[0]?.[0]?.value ?? response.type}`;
  });
}

test("requests are answered after hello_ok, though they were sent before, those of a stream in order", async () => {
  const socket = await Socket.open();
  socket.send(
    HELLO,
    open(1, 0),
    run(2, 0, "INSERT INTO t VALUES (1)"),
    run(3, 0, "SELECT count(*) FROM t"),
    ask(4, { type: "store_sql", sql_id: 9, sql: "SELECT 41 + 1" }),
    ask(5, { type: "execute", stream_id: 0, stmt: { sql_id: 9 } }),
    ask(6, { type: "close_sql", sql_id: 9 }),
    ask(7, { type: "close_stream", stream_id: 0 }),
  );
  const [hello, ...answers] = await socket.receive(8);
  expect(hello).toEqual({ type: "hello_ok" });
  const ordered = brief(answers).sort();
  expect(ordered).toEqual([
    "1:open_stream",
    "2:execute",
    "3:1",
    "4:store_sql",
    // Its text was there when it was sent, whenever it ran.
    "5:42",
    "6:close_sql",
    "7:close_stream",
  ]);
  const positions = [2, 3, 5, 7].map((id) => answers.findIndex((each) => each.request_id === id));
  expect(positions).toEqual([...positions].sort((left, right) => left - right));
  expect(served.server.streams.size).toBe(0);
});

test("streams of one socket do not wait for each other", async () => {
  const socket = await Socket.open();
  socket.send(HELLO, open(1, 1), open(2, 2), run(3, 1, "BEGIN IMMEDIATE"));
  await socket.receive(4);
  // The second waits for the lock of the first, which ends its transaction only afterwards.
  socket.send(run(4, 2, "INSERT INTO t VALUES (1)"), run(5, 2, "SELECT count(*) FROM t"));
  socket.send(run(6, 1, "SELECT 'first'"), run(7, 1, "COMMIT"));
  expect(brief(await socket.receive(4))).toEqual(["6:first", "7:execute", "4:execute", "5:1"]);
});

test("errors of requests leave the socket open", async () => {
  const socket = await Socket.open();
  socket.send(
    HELLO,
    run(1, 5, "SELECT 1"),
    open(2, 5),
    open(3, 5),
    run(4, 5, "nonsense"),
    ask(5, { type: "execute", stream_id: 5, stmt: { sql_id: 3 } }),
    ask(6, { type: "vanish" }),
    ask(7, { type: "get_autocommit", stream_id: 5 }),
  );
  const [, ...answers] = await socket.receive(8);
  expect(brief(answers).sort()).toEqual([
    "1:REQUEST_INVALID",
    "2:open_stream",
    "3:REQUEST_INVALID",
    "4:SQLITE_ERROR",
    "5:SQL_NOT_STORED",
    "6:REQUEST_INVALID",
    "7:get_autocommit",
  ]);
});

test("a revision that is not there is said to each request", async () => {
  const socket = await Socket.open("/shop/none/");
  socket.send(HELLO, open(1, 0), run(2, 0, "SELECT 1"));
  expect(brief((await socket.receive(3)).slice(1))).toEqual([
    "1:open_stream",
    "2:BRANCH_NOT_FOUND",
  ]);
});

test("a socket that goes takes its streams and transactions with it", async () => {
  const socket = await Socket.open();
  socket.send(
    HELLO,
    open(1, 0),
    run(2, 0, "BEGIN IMMEDIATE"),
    run(3, 0, "INSERT INTO t VALUES (1)"),
  );
  await socket.receive(4);
  socket.webSocket.terminate();
  const { body } = await served.post("/shop/v1/execute", {
    stmt: { sql: "INSERT INTO t VALUES (2)" },
  });
  expect(body.result.affected_row_count).toBe(1);
  while (served.server.streams.size > 0) await new Promise((resolve) => setImmediate(resolve));
});

test("a transaction that takes too long is rolled back", async () => {
  const socket = await Socket.open();
  socket.send(HELLO, open(1, 0), run(2, 0, "BEGIN IMMEDIATE"));
  await socket.receive(3);
  await served.pass(30_000);
  socket.send(run(3, 0, "INSERT INTO t VALUES (1)"));
  expect(brief(await socket.receive(1))).toEqual(["3:TRANSACTION_TIMEOUT"]);
});

test("much more than may wait unanswered is answered all the same", async () => {
  const socket = await Socket.open();
  const count = 2000;
  const requests = Array.from({ length: count }, (_, index) =>
    run(index + 10, 0, `SELECT ${index}`),
  );
  socket.send(HELLO, open(1, 0), ...requests);
  const answers = brief((await socket.receive(count + 2)).slice(2));
  expect(answers).toEqual(requests.map((_, index) => `${index + 10}:${index}`));
});

describe("what breaks the protocol", () => {
  test.each([
    ["no JSON", "{", 1007],
    ["a request before hello", JSON.stringify(ask(1, { type: "open_stream", stream_id: 0 })), 1008],
    ["an unknown message", '{"type":"goodbye"}', 1008],
    ["a request without an id", '{"type":"request","request":{}}', 1008],
    ["bytes", Buffer.from("{}"), 1003],
  ])("%s closes the socket", async (_, message, code) => {
    const socket = await Socket.open();
    socket.webSocket.send(message);
    expect(await socket.closed()).toBe(code);
  });

  test("regression: a close frame has room for no more than 123 bytes of what was wrong", async () => {
    for (const letter of ["x", "é", "日", "😀"]) {
      const socket = await Socket.open();
      socket.send({ type: letter.repeat(100) });
      const [code, reason] = await once(socket.webSocket, "close");
      expect([code, String(reason)]).toEqual([
        1008,
        expect.stringMatching(new RegExp(`message of type "${letter}+`, "u")),
      ]);
    }
  });

  test("a second hello is for version 2", async () => {
    const second = await Socket.open();
    second.send(HELLO, HELLO);
    expect(await second.receive(2)).toEqual([{ type: "hello_ok" }, { type: "hello_ok" }]);
    const first = new Socket("/shop/", ["hrana1"]);
    await once(first.webSocket, "open");
    first.send(HELLO, HELLO);
    expect(await first.closed()).toBe(1008);
  });
});

describe("the handshake", () => {
  test.each([
    [["hrana1", "hrana2", "hrana3"], "hrana2"],
    [["hrana1"], "hrana1"],
    [[], ""],
  ])("of %j takes %j", async (offered, taken) => {
    const { webSocket } = new Socket("/", offered);
    await once(webSocket, "open");
    expect(webSocket.protocol).toBe(taken);
  });

  test.each([
    ["/shop/", ["graphql"], 400],
    ["/api/v1", ["hrana2"], 404],
    ["/shop/v2/pipeline", ["hrana2"], 404],
    ["/a..b/", ["hrana2"], 400],
  ])("to %s for %j is refused", async (path, protocols, status) => {
    const { webSocket } = new Socket(path, protocols);
    const [error] = await once(webSocket, "error");
    expect(String(error)).toContain(`Unexpected server response: ${status}`);
  });

  test("of a page of another site is refused", async () => {
    const url = served.server.url.replace("http:", "ws:");
    const webSocket = new WebSocket(url, ["hrana2"], { origin: "https://example.com" });
    const [error] = await once(webSocket, "error");
    expect(String(error)).toContain("403");
  });
});

test("regression: a server that stops answers what was asked when it is durable, then closes", async () => {
  const socket = await Socket.open();
  socket.send(HELLO, open(1, 0), open(2, 1));
  await socket.receive(3);
  const before = served.server.streams.size;
  socket.send(run(3, 0, "INSERT INTO t VALUES (1)"), run(4, 1, "SELECT 7"));
  socket.send(ask(5, { type: "close_stream", stream_id: 0 }));
  // The server has closed the stream: it has taken all of them, and has not answered the first one.
  while (served.server.streams.size === before)
    await new Promise((resolve) => setImmediate(resolve));
  const closed = socket.closed();
  await served.server.stop();
  expect(brief(await socket.receive(3)).sort()).toEqual(["3:execute", "4:7", "5:close_stream"]);
  expect(await closed).toBe(1001);
});
