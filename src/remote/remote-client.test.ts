import { execFile } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";

import { StoreError } from "../errors.ts";
import { ObjectStoreControl } from "../testing/held-object-store-thread.ts";
import type { ListedObject } from "./object-store.ts";
import { RemoteClient } from "./remote-client.ts";
import { testProgram } from "../testing/test-program.ts";

const PROGRAM = testProgram(new URL("../testing/remote-client-process.ts", import.meta.url));

let directory: string;
let clients: RemoteClient[] = [];

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-client-"));
});

afterEach(() => {
  for (const client of clients) client.close();
  clients = [];
  fs.rmSync(directory, { recursive: true });
});

function open(): RemoteClient {
  const client = RemoteClient.open(pathToFileURL(directory).href);
  clients.push(client);
  return client;
}

function openHeld(): { client: RemoteClient; control: ObjectStoreControl } {
  const control = new ObjectStoreControl();
  const url = pathToFileURL(directory).href;
  const client = new RemoteClient(url, { url, ...control.program });
  clients.push(client);
  return { client, control };
}

function failure(action: () => unknown): StoreError {
  try {
    action();
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
  throw new Error("It did not fail");
}

async function all(objects: AsyncIterable<ListedObject>): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key, size } of objects) keys.push(`${key} ${size}`);
  return keys;
}

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

test("objects go and come through the worker, asynchronously and while the thread waits", async () => {
  const client = open();
  // The first call of all waits: the worker starts without the event loop of this thread.
  const first = client.putSync("a/1", bytes(1, 2, 3), { condition: { absent: true } });
  const second = await client.put("a/2", bytes(4, 5), { condition: { absent: true } });
  expect(client.getSync("a/2")).toEqual({ body: bytes(4, 5), etag: second.etag });
  expect(await client.get("a/1")).toEqual({ body: bytes(1, 2, 3), etag: first.etag });
  expect((await client.get("a/1", { range: { offset: 1, length: 9 } }))?.body).toEqual(bytes(2, 3));
  expect(client.getSync("a/1", { range: { offset: 0, length: 2 } })?.body).toEqual(bytes(1, 2));
  expect(client.getSync("none")).toBeNull();
  expect(await client.get("none")).toBeNull();
  expect(await all(client.list("a/"))).toEqual(["a/1 3", "a/2 2"]);
  expect(await all(client.list("a/", { startAfter: "a/1" }))).toEqual(["a/2 2"]);
  expect(client.listSync("").map(({ key }) => key)).toEqual(["a/1", "a/2"]);
  expect(client.listSync("a/", { startAfter: "a/1" }).map(({ key }) => key)).toEqual(["a/2"]);
  client.deleteSync(["a/1", "none"]);
  await client.delete(["a/2"]);
  expect(client.listSync("")).toEqual([]);
});

test("long listings come in batches, each object once", async () => {
  const { client, control } = openHeld();
  const keys = Array.from({ length: 20_001 }, (_, index) => String(index + 1).padStart(9, "0"));
  control.showObjects(keys.length);
  expect(client.listSync("").map(({ key }) => key)).toEqual(keys);
  expect(control.get("requests")).toBe(3);
  expect((await all(client.list(""))).length).toBe(keys.length);
  for await (const { key } of client.list("")) {
    expect(key).toBe(keys[0]);
    break;
  }
  expect(control.get("requests")).toBe(7);
});

test("many gets at once while the thread waits: answers in order, one failure or the time ends them", async () => {
  const { client, control } = openHeld();
  for (let index = 0; index < 30; index++) client.putSync(`k${index}`, bytes(index, index));
  const requests = Array.from({ length: 31 }, (_, index) => ({ key: `k${index}` }));
  const range = { offset: 1, length: 1 };
  const answers = client.getManySync([...requests, { key: "k7", range }]);
  expect(answers.slice(0, 30).map((object) => object?.body[0])).toEqual([...Array(30).keys()]);
  expect(answers[30]).toBeNull();
  expect(answers[31]?.body).toEqual(bytes(7));
  expect(client.getManySync([])).toEqual([]);
  control.failNext(1);
  expect(failure(() => client.getManySync(requests))).toMatchObject({ code: "REMOTE_UNAVAILABLE" });
  control.dieNext();
  expect(failure(() => client.getManySync(requests))).toMatchObject({ code: "REMOTE_UNAVAILABLE" });
  control.hold();
  expect(failure(() => client.getManySync(requests, { timeoutMs: 5 })).code).toBe("TIMEOUT");
  await control.reached("cancelled", 8);
  control.release();
  expect(client.getManySync(requests).length).toBe(31);
});

test("errors keep code, message, retryable, details and cause over the thread boundary", async () => {
  const { client, control } = openHeld();
  await client.put("a", bytes(1));
  control.failNext(1);
  const expected = {
    code: "REMOTE_UNAVAILABLE",
    message: 'Cannot get object "a": as the test asked',
    retryable: true,
    details: { key: "a" },
  };
  await expect(client.get("a")).rejects.toMatchObject(expected);
  control.failNext(1);
  expect(failure(() => client.getSync("a"))).toMatchObject(expected);
  await expect(client.put("a", bytes(2), { condition: { absent: true } })).rejects.toMatchObject({
    code: "CONDITION_FAILED",
  });
  expect(() => RemoteClient.open("ftp://host/x")).toThrow(
    expect.objectContaining({ code: "REMOTE_URL_INVALID" }),
  );
});

test("a module that cannot be loaded fails each call, waiting or not", async () => {
  const client = new RemoteClient("x", { url: "x", options: {}, module: "file:///none.mjs" });
  clients.push(client);
  expect(() => client.getSync("a")).toThrow(/none\.mjs/);
  await expect(client.get("a")).rejects.toThrow(/none\.mjs/);
});

test("a put copies its body, or empties it when it is transferred; views of larger buffers go alone", async () => {
  const client = open();
  const body = bytes(1, 2, 3);
  await client.put("copied", body);
  expect(body).toEqual(bytes(1, 2, 3));
  await client.put("given", body, { transfer: true });
  expect(body.byteLength).toBe(0);
  const large = new Uint8Array(100).fill(7);
  await client.put("view", large.subarray(2, 4), { transfer: true });
  expect(large.byteLength).toBe(100);
  expect(client.getSync("given")?.body).toEqual(bytes(1, 2, 3));
  expect(client.getSync("view")?.body).toEqual(bytes(7, 7));
});

test("a waiting call gives up after its time limit and cancels the request in the worker", async () => {
  const { client, control } = openHeld();
  control.hold();
  expect(failure(() => client.getSync("a", { timeoutMs: 20 }))).toMatchObject({
    code: "TIMEOUT",
    retryable: true,
  });
  await control.reached("requests", 1);
  await control.reached("cancelled", 1);
  control.release();
  expect(client.getSync("a")).toBeNull();
});

test("an aborted signal rejects at once with its reason and reaches the request", async () => {
  const { client, control } = openHeld();
  control.hold();
  const controller = new AbortController();
  const reading = client.get("a", { signal: controller.signal });
  await control.reached("requests", 1);
  const reason = new Error("enough");
  controller.abort(reason);
  await expect(reading).rejects.toBe(reason);
  await control.reached("cancelled", 1);
  await expect(client.get("a", { signal: controller.signal })).rejects.toBe(reason);
  expect(() => client.getSync("a", { signal: controller.signal })).toThrow(reason);
  expect(control.get("requests")).toBe(1);
});

test("answers to other requests that come while the thread waits are not lost", async () => {
  const { client, control } = openHeld();
  for (let index = 0; index < 20; index++) client.putSync(`k${index}`, bytes(index));
  control.hold();
  const readings = Array.from({ length: 20 }, (_, index) => client.get(`k${index}`));
  await control.reached("requests", 40);
  control.release();
  // Answers to the requests above come in among the ones to these.
  for (let index = 0; index < 20; index++) {
    expect(client.getSync(`k${index}`)?.body).toEqual(bytes(index));
  }
  const bodies = (await Promise.all(readings)).map((object) => object?.body[0]);
  expect(bodies).toEqual(Array.from({ length: 20 }, (_, index) => index));
});

test("when the worker dies its calls fail, and the next call starts another", async () => {
  const { client, control } = openHeld();
  await client.put("a", bytes(1));
  control.hold();
  const readings = [client.get("b"), client.get("a")];
  await control.reached("requests", 3);
  control.dieNext();
  control.release();
  const outcomes = await Promise.allSettled(readings);
  expect(outcomes.some(({ status }) => status === "rejected")).toBe(true);
  for (const outcome of outcomes) {
    if (outcome.status === "rejected")
      expect(outcome.reason).toMatchObject({ code: "REMOTE_UNAVAILABLE", retryable: true });
  }
  expect((await client.get("a"))?.body).toEqual(bytes(1));

  control.dieNext();
  expect(failure(() => client.getSync("a"))).toMatchObject({ code: "REMOTE_UNAVAILABLE" });
  expect(client.getSync("a")?.body).toEqual(bytes(1));
});

test("a worker that stands still counts as ended, for a thread that waits without a time limit", () => {
  const control = new ObjectStoreControl();
  const url = pathToFileURL(directory).href;
  const client = new RemoteClient(url, { url, ...control.program, silenceMs: 2500 });
  clients.push(client);
  client.putSync("a", bytes(1));
  control.hangNext();
  expect(failure(() => client.getSync("a"))).toMatchObject({
    code: "REMOTE_UNAVAILABLE",
    cause: { message: expect.stringContaining("No sign of life") },
  });
  expect(client.getSync("a")?.body).toEqual(bytes(1));
});

test("closing fails what is under way and refuses what comes after", async () => {
  const { client, control } = openHeld();
  control.hold();
  const reading = client.get("a");
  await control.reached("requests", 1);
  client.close();
  await expect(reading).rejects.toMatchObject({ code: "REMOTE_UNAVAILABLE" });
  await control.reached("cancelled", 1);
  expect(failure(() => client.getSync("a"))).toMatchObject({ code: "STORE_CLOSED" });
});

test("idle clients and gets that nobody waits for let the process end, an awaited one keeps it", async () => {
  const url = pathToFileURL(directory).href;
  const output = await promisify(execFile)(process.execPath, [PROGRAM, url]);
  // Nothing after "idle": the process ended with the get under way that nobody waited for.
  expect(output.stdout).toBe("stored\nread 3\njoined 3\nidle\n");
});
