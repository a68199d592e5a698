/** A server whose databases are spread over threads: what is different there from one in one thread. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { StoreError } from "../src/errors.ts";
import { WINDOW_BYTES } from "../src/server/threaded/connection-message.ts";
import { RowSender } from "../src/server/threaded/row-sender.ts";
import { CLOSE, execute, ServedDirectory, sqls } from "./server-fixture.ts";
import { SharedThreads } from "./shared-threads.ts";

let threads: SharedThreads;
let served: ServedDirectory;
let hasFailed = false;

beforeAll(async () => {
  threads = await SharedThreads.open();
});
afterAll(async () => {
  await threads[Symbol.asyncDispose]();
});
/** "zero" is in thread 0, "one" in thread 1. */
beforeEach(async () => {
  served = await ServedDirectory.start({}, {}, undefined, threads.store);
  for (const [partition, name] of ["zero", "one"].entries()) {
    await served.admin.createDatabase(name, { partition });
    await served.exec(name, "CREATE TABLE item(id INTEGER PRIMARY KEY, client)");
  }
});
afterEach(async () => {
  if (hasFailed) await served.server.stop();
  else await served[Symbol.asyncDispose]();
  expect(served.bugs).toEqual([]);
});

const ENDLESS =
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
const COUNT = "SELECT count(*) FROM item";

/** The code of what a request on a database failed with, or what it answers. */
async function ask(database: string, sql: string): Promise<unknown> {
  const { body } = await served.post(`/${database}/v2/pipeline`, sqls(sql));
  if (body.results === undefined) return body.code;
  const [{ type, error, response }] = body.results;
  return type === "error" ? error.code : response.result.rows[0]?.[0]?.value;
}

function asked(path: string, body: object): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const sent = request(`${served.server.url}${path}`, { method: "POST" }, resolve);
    sent.on("error", reject);
    sent.end(JSON.stringify(body));
  });
}

async function idsIn(database: string): Promise<number[]> {
  const connection = await threads.store.open(database);
  const ids = await (await connection.prepare("SELECT id FROM item ORDER BY id")).pluck().all();
  await connection.close();
  return ids as number[];
}

test("a database whose thread computes keeps no other one waiting", async () => {
  const ended = new AbortController();
  const computing = fetch(`${served.url("zero")}v2/pipeline`, {
    method: "POST",
    body: JSON.stringify(sqls(ENDLESS)),
    signal: ended.signal,
  });
  await served.exec("one", "INSERT INTO item VALUES (1, 0)");
  expect(await ask("one", COUNT)).toBe("1");
  ended.abort();
  await expect(computing).rejects.toThrow("aborted");
  // The statement has been ended with its client.
  expect(await ask("zero", COUNT)).toBe("0");
});

describe("rows of a large result", () => {
  const ROWS = 60_000;
  const MANY = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ROWS})
    SELECT i, zeroblob(40), 'text ' || i FROM n`;
  const cursor = { baton: null, batch: { steps: [{ stmt: { sql: MANY } }] } };

  test("wait for a client that reads slowly, and all come", async () => {
    const response = await asked("/zero/v3/cursor", cursor);
    await once(response, "readable");
    // It reads nothing yet; others go on, in that database too.
    expect(await ask("zero", COUNT)).toBe("0");
    let text = "";
    for await (const chunk of response) text += String(chunk);
    const rows = text.split("\n").filter((line) => line.startsWith('{"type":"row"'));
    expect(rows).toHaveLength(ROWS);
    expect(rows.at(-1)).toContain(`"text ${ROWS}"`);
  });

  test("end with a client that goes", async () => {
    const response = await asked("/zero/v3/cursor", cursor);
    await once(response, "readable");
    response.destroy();
    await once(response, "close");
    expect(await ask("zero", "DROP TABLE item")).toBeUndefined();
  });

  test("end at the limit of an answer, whose error is told", async () => {
    const limited = await ServedDirectory.start(
      { responseBytesMax: 100_000 },
      {},
      undefined,
      threads.store,
    );
    const { body } = await limited.post("/zero/v2/pipeline", sqls(MANY, COUNT));
    expect(body.results.map(({ error }: { error?: { code: string } }) => error?.code)).toEqual([
      "RESPONSE_TOO_LARGE",
      "RESPONSE_TOO_LARGE",
      undefined,
    ]);
    await limited.server.stop();
  });

  test("of those on their way there are so many, however many there are", async () => {
    let bytes = 0;
    const sender = new RowSender(true, (event) => {
      if (event.kind === "rows") bytes += event.batch.bytes;
    });
    const fill = async (): Promise<void> => {
      while (!sender.row(["x".repeat(1000)])) continue;
      await sender.drained();
    };
    let filled = 0;
    const filling = (async () => {
      for (let batch = 0; batch < 100; batch++) {
        await fill();
        filled++;
      }
    })();
    await new Promise((resolve) => setImmediate(resolve));
    expect(bytes).toBeGreaterThan(WINDOW_BYTES);
    expect(bytes).toBeLessThan(1.5 * WINDOW_BYTES);
    const before = filled;
    sender.taken(bytes);
    await new Promise((resolve) => setImmediate(resolve));
    expect(filled).toBeGreaterThan(before);
    sender.end();
    await expect(filling).rejects.toThrow();
  });
});

/** Clients that insert rows, each its own, until they are told to end. */
class Writers {
  readonly acknowledged: Record<string, number[]> = { zero: [], one: [] };
  readonly codes: Record<string, Set<unknown>> = { zero: new Set(), one: new Set() };
  readonly #running: Promise<void>[] = [];
  readonly #waiting: { readonly count: number; readonly resolve: () => void }[] = [];
  #count = 0;
  #isEnded = false;
  #ids = 0;

  constructor(perDatabase: number) {
    for (const database of ["zero", "one"])
      for (let client = 0; client < perDatabase; client++)
        this.#running.push(this.#write(database));
  }

  /** Resolves when so many more writes are acknowledged. */
  more(count: number): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ count: this.#count + count, resolve }));
  }

  async end(): Promise<void> {
    this.#isEnded = true;
    await Promise.all(this.#running);
  }

  async #write(database: string): Promise<void> {
    while (!this.#isEnded) {
      const id = ++this.#ids;
      const answer = await ask(database, `INSERT INTO item VALUES (${id}, 0) RETURNING id`);
      if (answer !== String(id)) {
        this.codes[database]!.add(answer);
        continue;
      }
      this.acknowledged[database]!.push(id);
      this.#count++;
      for (const { count, resolve } of this.#waiting) if (count <= this.#count) resolve();
    }
  }
}

test("a thread that ends under load loses nothing that was acknowledged, and is told by its code", async () => {
  const open = await served.post("/zero/v2/pipeline", {
    requests: [execute("BEGIN"), execute("INSERT INTO item VALUES (-1, 0)"), execute(COUNT)],
  });
  const { baton } = open.body;
  const writers = new Writers(4);
  await writers.more(20);
  await threads.store.owner(0).thread.terminate();
  await writers.more(40);
  await writers.end();
  for (const database of ["zero", "one"]) {
    const there = new Set(await idsIn(database));
    for (const id of writers.acknowledged[database]!) expect(there.has(id), `${id}`).toBe(true);
    expect(there.has(-1)).toBe(false);
  }
  expect([...writers.codes["one"]!]).toEqual([]);
  for (const code of writers.codes["zero"]!) expect(code).toBe("OWNER_LOST");
  // The transaction was in that thread: none of its statements may run by itself now.
  const after = await served.post("/zero/v2/pipeline", {
    baton,
    requests: [execute("INSERT INTO item VALUES (-2, 0)"), execute("COMMIT"), CLOSE],
  });
  const codes = after.body.results.map(({ error }: { error?: { code: string } }) => error?.code);
  expect(codes).toEqual(["OWNER_LOST", "OWNER_LOST", undefined]);
  expect(await idsIn("zero")).not.toContain(-2);
  expect((await fetch(`${served.server.url}/ready`)).status).toBe(200);
});

test("a database is handed over under traffic; a stream that is open is told, and the next one is there", async () => {
  const open = await served.post("/zero/v2/pipeline", { requests: [execute(COUNT)] });
  const writers = new Writers(3);
  await writers.more(10);
  await threads.store.handOver("zero", { thread: 1 });
  await writers.more(20);
  const told = await served.post("/zero/v2/pipeline", {
    baton: open.body.baton,
    requests: [execute(COUNT), CLOSE],
  });
  expect(told.body.results.map(({ error }: { error?: { code: string } }) => error?.code)).toEqual([
    "OTHER_PARTITION",
    undefined,
  ]);
  await threads.store.handOver("zero", { thread: 0 });
  await writers.more(20);
  await writers.end();
  expect([...writers.codes["one"]!]).toEqual([]);
  for (const code of writers.codes["zero"]!)
    expect(["BRANCH_BUSY", "OTHER_PARTITION"]).toContain(code);
  expect(await idsIn("zero")).toEqual(writers.acknowledged["zero"]!.sort((a, b) => a - b));
  expect((await threads.store.check({ deep: true })).problems).toEqual([]);
});

test("a server that stops rolls back what is open, and leaves the threads to the store", async () => {
  const server = await ServedDirectory.start({}, {}, undefined, threads.store);
  await server.post("/one/v2/pipeline", {
    requests: [execute("BEGIN"), execute("INSERT INTO item VALUES (1, 0)")],
  });
  await server.server.stop();
  expect(await ask("one", "INSERT INTO item VALUES (1, 1) RETURNING client")).toBe("1");
});

test("an id that databases of several partitions have had leads to none", async () => {
  const [zero, one] = [
    await served.admin.databaseFacts("zero"),
    await served.admin.databaseFacts("one"),
  ];
  expect(zero.id).toBe(one.id);
  const { status } = await fetch(`${served.server.url}/api/v1/databases/id:${zero.id}`);
  expect(status).toBe(404);
  await served.admin.createDatabase("two", { partition: 1 });
  const two = await served.admin.databaseFacts("two");
  expect(await served.admin.databaseOfId(two.id)).toBe("two");
});

test("a check ends with what its progress throws, a scrub says where it stopped and goes on from there", async () => {
  for (const name of ["zero", "one"]) await served.exec(name, "INSERT INTO item VALUES (1, 'x')");
  await threads.store.checkpoint();
  const reason = new Error("Enough");
  const onProgress = (): void => {
    throw reason;
  };
  await expect(threads.store.check({ deep: true, onProgress })).rejects.toBe(reason);
  const whole = await threads.store.scrub({ bytesPerSecond: Infinity });
  const ended = new AbortController();
  const part = await threads.store.scrub({
    bytesPerSecond: 1,
    signal: ended.signal,
    onProgress: () => ended.abort(),
  });
  expect(part.stoppedAt).toMatch(/^0:/);
  const rest = await threads.store.scrub({
    bytesPerSecond: Infinity,
    startAfter: part.stoppedAt!,
  });
  expect([rest.stoppedAt, part.bytes + rest.bytes]).toEqual([null, whole.bytes]);
});

test("a file is imported while other names change; its own name is taken from the beginning on", async () => {
  const { store } = threads;
  const file = join(mkdtempSync(join(tmpdir(), "bough-import-")), "file.db");
  await store.exportFile("zero", file);
  const { thread } = store.owner(0);
  const call = thread.call.bind(thread);
  const codes: unknown[] = [];
  thread.call = async (asked) => {
    if (asked.parameters[0] === "importFile") {
      await store.createDatabase("made");
      const taken = store.createDatabase("imported", { partition: 1 });
      codes.push(await taken.catch((error: StoreError) => error.code));
    }
    return await call(asked);
  };
  try {
    expect((await store.importFile(file, "imported")).database).toBe("imported");
    expect(codes).toEqual(["DATABASE_EXISTS"]);
    expect(await idsIn("imported")).toEqual([]);
    await (await store.database("made")).delete();
    // One that fails leaves its name to others.
    await expect(store.importFile(`${file}.none`, "failed")).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
    });
  } finally {
    thread.call = call;
  }
  await store.createDatabase("failed", { partition: 1 });
  rmSync(dirname(file), { recursive: true });
});

test("sizes of databases come from all threads", async () => {
  for (const name of ["zero", "one"]) expect(await ask(name, COUNT)).toBe("0");
  const metrics = await (await fetch(`${served.server.url}/metrics`)).text();
  for (const name of ["zero", "one"]) {
    const bytes = (await threads.store.stat(name)).logicalBytes;
    expect(metrics).toContain(`bough_database_head_bytes{database="${name}"} ${bytes}\n`);
  }
});

/** The last test: the thread has failed for good then. */
test("a thread that has failed for good: not ready, alive, measured; other databases go on", async () => {
  hasFailed = true;
  threads.store.owner(0).fail("the test says so", null);
  const status = async (path: string): Promise<number> =>
    (await fetch(`${served.server.url}${path}`)).status;
  expect([await status("/health"), await status("/ready")]).toEqual([200, 503]);
  const metrics = await (await fetch(`${served.server.url}/metrics`)).text();
  expect(metrics).toMatch(/^bough_partitions_failed 1$/m);
  expect(metrics).toMatch(/^bough_thread_ends_total\{thread="0"\} 1$/m);
  expect(metrics).toMatch(/^bough_thread_busy_seconds_total\{thread="1"\} [0-9.]*[1-9]/m);
  expect(await ask("zero", COUNT)).toBe("STORE_FAILED");
  expect(await ask("one", COUNT)).toBe("0");
});
