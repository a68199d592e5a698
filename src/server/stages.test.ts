import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Stages } from "./stages.ts";

/** What happened, in order. */
let events: string[];
let stages: Stages;
let sockets: Socket[];
/** What the request "/slow" waits for. */
let gate: PromiseWithResolvers;
const server = createServer((request, response) => {
  const name = request.url?.slice(1) ?? "";
  events.push(`read ${name}`);
  setImmediate(() => events.push(`turn after ${name}`));
  void (async (): Promise<void> => {
    await stages.begin(request.socket);
    events.push(`run ${name}`);
    if (name === "slow") await gate.promise;
    response.writeHead(200, { "content-length": 2 });
    response.once("finish", () => events.push(`sent ${name}`));
    stages.end(response, "ok");
  })();
});

interface PromiseWithResolvers {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
}

beforeEach(async () => {
  stages = new Stages(() => events.push("all sent"));
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => (resolve = done));
  gate = { promise, resolve };
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The server has a port");
  sockets = [connect(address.port, "127.0.0.1"), connect(address.port, "127.0.0.1")];
  events = [];
  for (const index of [0, 1]) await ask(index, "first"); // The server has accepted both.
  events = [];
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  server.close();
  await once(server, "close");
});

async function ask(index: number, name: string): Promise<void> {
  const socket = sockets[index]!;
  socket.write(`GET /${name} HTTP/1.1\r\nhost: x\r\n\r\n`);
  await once(socket, "data");
}

test("what comes together is read, then run, then sent", async () => {
  await Promise.all([ask(0, "a"), ask(1, "b")]);
  expect(events).toContain("all sent"); // A server that stops closes the connections then.
  const stagesOf = events.filter((event) => !/^(?:turn|all)/.test(event));
  expect(stagesOf.map((event) => event.split(" ", 1)[0])).toEqual(
    ["read", "run", "sent"].flatMap((stage) => [stage, stage]),
  );
});

test("S1: one that waits lets the others be run and answered", async () => {
  const slow = ask(0, "slow");
  await ask(1, "b");
  expect(events).toContain("sent b");
  expect(events).not.toContain("sent slow");
  gate.resolve();
  await slow;
});

// The second was run at once, as the one before it had come on the same connection: before that one, which still waited.
test("regression: requests that are pipelined begin in their order", async () => {
  sockets[0]!.write(
    ["first", "second", "third"].map((name) => `GET /${name} HTTP/1.1\r\nhost: x\r\n\r\n`).join(""),
  );
  let answers = "";
  while (answers.split("HTTP/1.1 200").length < 4)
    answers += String((await once(sockets[0]!, "data"))[0]);
  expect(events.filter((event) => event.startsWith("run"))).toEqual([
    "run first",
    "run second",
    "run third",
  ]);
});

test("S3: the only connection that asks is answered at once, others in the next turn", async () => {
  await ask(1, "a");
  expect(events.slice(0, 2)).toEqual(["read a", "run a"]);
  events = [];
  await ask(0, "b");
  expect(events.slice(0, 3)).toEqual(["read b", "turn after b", "run b"]);
});
