/** A server that starts, or cannot: what is bound, and what is left when it does not. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { OPEN_ACCESS } from "../src/server/access.ts";
import { LocalAdminStore } from "../src/server/admin/local-admin-store.ts";
import { readBody } from "../src/server/http-exchange.ts";
import { HttpServer } from "../src/server/http-server.ts";
import { explainListening, Listener } from "../src/server/listener.ts";
import { LocalStore } from "../src/server/local-store.ts";
import { serveStore } from "../src/server/serve.ts";
import { parseSettings } from "../src/server/settings.ts";
import { openStore } from "../src/store/store.ts";
import { CommandDirectory } from "../src/testing/run-command.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { sqls } from "./server-fixture.ts";

let directory: string;
let taken: Server;
let takenPort: number;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "bough-start-"));
  taken = createServer();
  takenPort = await listen(taken, 0);
});
afterEach(() => {
  taken.close();
  rmSync(directory, { recursive: true, force: true });
});

async function listen(server: Server, port: number): Promise<number> {
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("It does not listen");
  return address.port;
}

/** How many ports this process has bound, once those that are closed are. */
async function boundPorts(): Promise<number> {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  return process.getActiveResourcesInfo().filter((kind) => kind === "TCPServerWrap").length;
}

describe("bough serve that cannot start", () => {
  test.each([[[]], [["--threads", "6"]]])("changes nothing, with %j", async (threads) => {
    using commands = new CommandDirectory();
    const missing = commands.file("none.pem");
    const refused: readonly (readonly [1 | 2, RegExp, ...string[]])[] = [
      [
        1,
        /^Cannot listen on "127\.0\.0\.1:\d+": another process .* --port/,
        "--port",
        `${takenPort}`,
      ],
      [1, /^Cannot listen on "192\.0\.2\.1:0": .* --host/, "--host", "192.0.2.1", "--no-auth"],
      [1, /^Cannot listen on "no such host:0": .* --host/, "--host", "no such host", "--no-auth"],
      [1, /without authentication/, "--host", "0.0.0.0"],
      [1, /^Cannot serve over TLS: there is no file/, "--tls-cert", missing, "--tls-key", missing],
      [2, /^Cannot serve over TLS: .* belong together/, "--tls-cert", missing],
      [1, /none\.pem/, "--auth-key-file", missing],
      [2, /^Cannot send spans to/, "--otel-endpoint", "ftp://collector"],
    ];
    const failAll = async (): Promise<void> => {
      for (const [exitCode, message, ...words] of refused) {
        const port = words.includes("--port") ? [] : ["--port", "0"];
        const given = ["serve", ...port, ...words, ...threads];
        expect(await commands.fails(exitCode, given)).toMatch(message);
      }
    };
    await failAll();
    expect(existsSync(commands.file("store"))).toBe(false);
    await commands.ok(["database", "create", "shop"]);
    const before = await commands.json(["store", "info"]);
    await failAll();
    expect(await commands.json(["store", "info"])).toEqual(before);
  });

  test("lets go of the port when the store cannot be opened", async () => {
    using commands = new CommandDirectory();
    await commands.ok(["database", "create", "shop"]);
    const held = openStore(commands.file("store"));
    taken.close();
    await once(taken, "close");
    const words = ["serve", "--port", `${takenPort}`];
    expect(await commands.fails(1, words)).toMatch(/^Cannot open the store/);
    held.close();
    taken = createServer();
    expect(await listen(taken, takenPort)).toBe(takenPort);
  });
});

test("serveStore that fails leaves no port bound", async () => {
  const storage = new SimulatedStorage();
  using store = openStore("simulated", { storage, backend: "memory" });
  const settings = { port: 0, otelEndpoint: "http://127.0.0.1:1" };
  const before = await boundPorts();
  await expect(
    serveStore(store, { settings: { ...settings, port: takenPort } }),
  ).rejects.toMatchObject({
    code: "ADDRESS_IN_USE",
    details: { host: "127.0.0.1", port: takenPort },
  });
  // This store has no directory: whether requests are asked for a token is known when it is open.
  await expect(
    serveStore(store, { settings: { ...settings, host: "0.0.0.0" } }),
  ).rejects.toMatchObject({ code: "LISTEN_UNPROTECTED" });
  expect(await boundPorts()).toBe(before);
});

describe("a port that is bound", () => {
  const settings = parseSettings({ port: 0 });
  const body = JSON.stringify(sqls("SELECT 1"));
  const post = { method: "POST", body };
  let listener: Listener;

  /** A request, a WebSocket, and a request whose body waits; resolves when all of them have come. */
  async function ask(): Promise<{ answer: Promise<Response>; webSocket: WebSocket; raw: Socket }> {
    listener = await Listener.bind({ settings, isAuthenticated: false, now: () => 0 });
    const came = ["request", "upgrade", "checkContinue"].map((event) =>
      once(listener.server, event),
    );
    const { host, port } = new URL(listener.url);
    const answer = fetch(`${listener.url}/shop/v2/pipeline`, post);
    const webSocket = new WebSocket(`ws://${host}/shop/`, ["hrana2"]);
    const raw = connect(Number(port), "127.0.0.1");
    raw.write(
      `POST /shop/v2/pipeline HTTP/1.1\r\nhost: ${host}\r\nexpect: 100-continue\r\ncontent-length: ${body.length}\r\n\r\n`,
    );
    await Promise.all(came);
    return { answer, webSocket, raw };
  }

  test("keeps what comes until there is a store", async () => {
    const { answer, webSocket, raw } = await ask();
    const opened = once(webSocket, "open");
    const store = openStore(join(directory, "store"));
    store.createDatabase("shop");
    const server = await HttpServer.start({
      listener,
      store: new LocalStore(store, { busyTimeoutMs: 1000, statementTimeoutMs: 1000 }),
      admin: new LocalAdminStore(store),
      settings,
      access: OPEN_ACCESS,
    });
    expect((await answer).status).toBe(200);
    await opened;
    const [told] = (await once(raw, "data")) as [Buffer];
    expect(told.toString()).toMatch(/^HTTP\/1\.1 100 Continue/);
    raw.end(body);
    const [answered] = (await once(raw, "data")) as [Buffer];
    expect(answered.toString()).toMatch(/^HTTP\/1\.1 200 OK/);
    webSocket.terminate();
    await server.stop();
    store.close();
  });

  // Each request was held: one connection could send as many as there is memory, before anybody was asked for a token.
  test("regression: reads no more of a connection than what came with its first request", async () => {
    listener = await Listener.bind({ settings, isAuthenticated: false, now: () => 0 });
    const raw = connect(Number(new URL(listener.url).port), "127.0.0.1");
    let answers = "";
    raw.on("data", (text: Buffer) => (answers += text.toString()));
    const request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const count = 20_000;
    raw.write(request.repeat(count));
    await once(listener.server, "request");
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    let taken = 0;
    listener.serve({
      take: (_, response) => {
        taken++;
        response.end();
      },
      upgrade: () => {},
    });
    expect(taken).toBeLessThan(count / 4);
    while (answers.split("HTTP/1.1 200").length <= count) await once(raw, "data");
    raw.destroy();
    await listener.close();
  });

  test("regression: a connection on which far too many requests wait is ended", async () => {
    listener = await Listener.bind({ settings, isAuthenticated: false, now: () => 0 });
    const raw = connect(Number(new URL(listener.url).port), "127.0.0.1");
    raw.on("error", () => {});
    const closed = new Promise((resolve) => raw.once("close", resolve));
    raw.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx".repeat(20_000));
    await closed;
    await listener.close();
  });

  // Nothing says twice that a connection has closed: the request was waited for, and so was the end of the process.
  test("regression: a client that has gone before there is a store is not waited for", async () => {
    listener = await Listener.bind({ settings, isAuthenticated: false, now: () => 0 });
    const { host, port } = new URL(listener.url);
    const raw = connect(Number(port), "127.0.0.1");
    raw.write(`POST /shop/v2/pipeline HTTP/1.1\r\nhost: ${host}\r\ncontent-length: 10\r\n\r\n`);
    const [request] = (await once(listener.server, "request")) as [IncomingMessage];
    request.on("error", () => {});
    request.socket.destroy();
    await new Promise((resolve) => request.once("close", resolve));
    await expect(readBody(request, 100)).rejects.toThrow("The client has gone");
    await listener.close();
  });

  test("ends them when there is none", async () => {
    const { answer, webSocket, raw } = await ask();
    const refused = once(webSocket, "error");
    const ended = once(raw, "close");
    raw.on("error", () => {});
    const failed = expect(answer).rejects.toThrow();
    await listener.close();
    await Promise.all([refused, ended, failed]);
  });
});

test("a port that the process may not take is refused with what to do", () => {
  const cause = Object.assign(new Error("listen EACCES"), { code: "EACCES" });
  expect(explainListening(cause, { host: "::", port: 80 })).toMatchObject({
    code: "ADDRESS_DENIED",
    message: 'Cannot listen on "[::]:80": the system does not allow it; give a --port from 1024 on',
    cause,
  });
  const other = Object.assign(new Error("listen EMFILE"), { code: "EMFILE" });
  expect(explainListening(other, { host: "::", port: 80 })).toBe(other);
});
