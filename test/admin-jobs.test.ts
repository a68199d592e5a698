import { request as httpRequest, type IncomingMessage } from "node:http";
import { expect, test } from "vitest";
import { OPEN_ACCESS } from "../src/server/access.ts";
import { LocalAdminStore } from "../src/server/admin/local-admin-store.ts";
import { LocalStore } from "../src/server/local-store.ts";
import { parseSettings } from "../src/server/settings.ts";
import { AdminServer, namedTokens } from "./admin-fixture.ts";
import { startHttpServer } from "./server-fixture.ts";

interface ServerEvent {
  readonly id: string;
  readonly event: string;
  readonly data: { readonly state: string };
}

function eventsOf(text: string): ServerEvent[] {
  return text
    .split("\n\n")
    .filter((block) => block.startsWith("id: "))
    .map((block) => {
      const fields = new Map(
        block.split("\n").map((line) => line.split(/: (.*)/s, 2) as [string, string]),
      );
      const [id = "", event = "", data = ""] = ["id", "event", "data"].map((name) =>
        fields.get(name),
      );
      return { id, event, data: JSON.parse(data) };
    });
}

/** With something to scrub, so slowly that it does not end. */
async function withSlowScrub(): Promise<readonly [AdminServer, string]> {
  const admin = await AdminServer.start();
  admin.store.createDatabase("shop");
  using connection = admin.store.connect("shop");
  connection.exec("CREATE TABLE blobs (data BLOB)");
  for (let index = 0; index < 20; index++) {
    connection.exec("INSERT INTO blobs VALUES (randomblob(200000))");
    admin.store.checkpoint();
  }
  const { body } = await admin.call("POST", "/store/scrub", { body: { bytesPerSecond: 1000 } });
  return [admin, body.id];
}

/** An open event stream. */
async function follow(admin: AdminServer, id: string): Promise<IncomingMessage> {
  return await new Promise((resolve, reject) => {
    httpRequest(admin.url(`/jobs/${id}/events`), { agent: false }, resolve)
      .on("error", reject)
      .end();
  });
}

async function textOf(stream: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return text;
}

test("the events of a job end with its end, and are not given again", async () => {
  await using admin = await AdminServer.start();
  admin.store.createDatabase("shop");
  const { body: job } = await admin.call("POST", "/store/gc", { body: { dryRun: true } });
  const response = await admin.fetch("GET", `/jobs/${job.id}/events`);
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  const events = eventsOf(await response.text());
  const last = events.at(-1)!;
  expect([last.event, last.data.state]).toEqual(["end", "done"]);
  expect(events.filter(({ event }) => event === "end")).toHaveLength(1);
  expect((await admin.call("GET", `/jobs/${job.id}`)).body).toEqual(last.data);
  const headers = { "last-event-id": last.id };
  expect((await admin.fetch("GET", `/jobs/${job.id}/events`, { headers })).status).toBe(204);
  const again = await admin.fetch("GET", `/jobs/${job.id}/events`, {
    headers: { "last-event-id": "1" },
  });
  expect(eventsOf(await again.text()).map(({ event }) => event)).toEqual(["end"]);
});

test("a job that is cancelled ends, and its followers are told", async () => {
  const [server, id] = await withSlowScrub();
  await using admin = server;
  const head = await admin.fetch("HEAD", `/jobs/${id}/events`);
  expect([head.status, head.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
  const stream = await follow(admin, id);
  const cancelled = await admin.call("DELETE", `/jobs/${id}`);
  expect(cancelled.status).toBe(200);
  const events = eventsOf(await textOf(stream));
  expect(events.at(-1)).toMatchObject({ event: "end", data: { state: "cancelled" } });
  const { body } = await admin.call("GET", `/jobs/${id}`);
  expect(body.result.stoppedAt).toMatch(/^(?:chunk|history)\//);
  // Where it was is where the next one goes on.
  const next = await admin.call("POST", "/store/scrub", {
    body: { bytesPerSecond: null, startAfter: body.result.stoppedAt },
  });
  expect(await admin.ended(next.body)).toMatchObject({ state: "done", result: { ok: true } });
  // What has ended stays as it is.
  expect((await admin.call("DELETE", `/jobs/${id}`)).body).toEqual(body);
  expect(admin.bugs).toEqual([]);
});

test("a check that is cancelled ends with CANCELLED", async () => {
  await using admin = await AdminServer.start();
  for (const name of ["a", "b", "c"]) {
    admin.store.createDatabase(name);
    admin.store.connect(name).exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
  }
  admin.store.checkpoint();
  const { body: job } = await admin.call("POST", "/store/check", { body: { deep: true } });
  await admin.call("DELETE", `/jobs/${job.id}`);
  const ended = await admin.ended(job);
  // It may have been at its end.
  if (ended.state !== "done")
    expect([ended.state, ended.problem.code]).toEqual(["cancelled", "CANCELLED"]);
  expect(admin.bugs).toEqual([]);
});

test("an idle event stream has heartbeats, and is let go of when its client goes", async () => {
  const [server, id] = await withSlowScrub();
  await using admin = server;
  const stream = await follow(admin, id);
  while (admin.beats.size === 0) await new Promise((resolve) => setImmediate(resolve));
  for (const beat of admin.beats) beat();
  let text = "";
  await new Promise<void>((resolve) => {
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes(": still there\n\n")) resolve();
    });
  });
  stream.destroy();
  while (admin.beats.size > 0) await new Promise((resolve) => setImmediate(resolve));
  await admin.call("DELETE", `/jobs/${id}`);
});

test("a server that is stopped cancels its jobs and ends event streams", async () => {
  const [server, id] = await withSlowScrub();
  await using admin = server;
  const stream = await follow(admin, id);
  const text = textOf(stream);
  await admin.server.stop();
  expect(await text).toContain("event: ");
});

test.each(["expire", "upload", "collect-remote"])(
  "a job of kind %s can be cancelled",
  async (kind) => {
    await using admin = await AdminServer.start();
    /** Goes on until it is told to end. */
    const untilAborted = ({ signal }: { signal?: AbortSignal | undefined }): Promise<never> =>
      new Promise((_, reject) => {
        signal?.addEventListener("abort", () => reject(signal.reason as Error));
      });
    class EndlessStore extends LocalAdminStore {
      override expire = untilAborted;
      override upload = untilAborted;
      override collectRemote = untilAborted;
    }
    const server = await startHttpServer({
      store: new LocalStore(admin.store, { busyTimeoutMs: 1000, statementTimeoutMs: 1000 }),
      admin: new EndlessStore(admin.store),
      settings: parseSettings({ port: 0 }),
      access: OPEN_ACCESS,
    });
    const api = `${server.url}/api/v1`;
    const begun = await fetch(`${api}/store/${kind}`, { method: "POST" });
    const job = (await begun.json()) as { id: string; isCancellable: boolean };
    expect([begun.status, job.isCancellable]).toEqual([202, true]);
    await fetch(`${api}/jobs/${job.id}`, { method: "DELETE" });
    let state = "running";
    while (state === "running")
      ({ state } = (await (await fetch(`${api}/jobs/${job.id}`)).json()) as { state: string });
    expect(state).toBe("cancelled");
    await server.stop();
  },
);

test("jobs are listed the newest first, by pages", async () => {
  await using admin = await AdminServer.start();
  const kinds = ["gc", "check", "expire"];
  for (const kind of kinds) {
    await admin.ended((await admin.call("POST", `/store/${kind}`)).body);
    const before = Date.now();
    while (Date.now() === before) await new Promise((resolve) => setImmediate(resolve));
  }
  const first = await admin.call("GET", "/jobs?limit=2");
  const rest = await admin.call("GET", `/jobs?limit=2&cursor=${first.body.next}`);
  const found = [...first.body.items, ...rest.body.items].map(({ kind }: { kind: string }) => kind);
  expect(found).toEqual(kinds.reverse());
});

test("a job is shown to who began it and to who could have", async () => {
  const write = { action: "write", database: "shop", branch: "dev" } as const;
  const other = { action: "admin", database: "shop", branch: "x*" } as const;
  await using admin = await AdminServer.start({
    access: namedTokens({ writer: [write], second: [write], other: [other] }),
  });
  admin.store.createDatabase("shop").createBranch("dev");
  const file = new Uint8Array(0);
  const failed = await admin.call("PUT", "/databases/shop/branches/dev/file", {
    raw: file,
    token: "writer",
  });
  expect(failed.body.code).toBe("NOT_A_DATABASE");
  const { body } = await admin.call("GET", "/jobs", { token: "writer" });
  const [job] = body.items;
  const status = async (token: string): Promise<number> =>
    (await admin.call("GET", `/jobs/${job.id}`, { token })).status;
  expect([await status("writer"), await status("all")]).toEqual([200, 200]);
  expect([await status("second"), await status("other")]).toEqual([404, 404]);
  expect((await admin.call("GET", "/jobs", { token: "second" })).body.items).toEqual([]);
  expect((await admin.call("DELETE", `/jobs/${job.id}`, { token: "other" })).status).toBe(404);
});
