/** Threads that end while they own databases: what they had acknowledged is there, and who waits for them hears of it. */
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BroadcastChannel } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { StoreError } from "../src/errors.ts";
import { openStore } from "../src/store/store.ts";
import { Random } from "../src/testing/random.ts";
import { Operation } from "../src/threads/message.ts";
import type { WorkerChoice } from "../src/threads/owner-thread.ts";
import type { ThreadedConnection } from "../src/threads/threaded-connection.ts";
import { ThreadedStore } from "../src/threads/threaded-store.ts";

// Starting a thread takes long where all cores are busy.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const SEED = 57 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);

const PROGRAM = new URL("dying-owner.ts", import.meta.url).href;
const FAILING_CLOSE = new URL("failing-close-owner.ts", import.meta.url).href;

const ENDLESS =
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

let directory = "";

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-death-"));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

function openThreaded(choice: WorkerChoice = {}): ThreadedStore {
  return ThreadedStore.open(directory, { threads: 2 }, { program: PROGRAM, ...choice });
}

/** Databases "zero" and "one", each in the thread of its name. */
async function openWithTables(choice: WorkerChoice = {}): Promise<ThreadedStore> {
  const store = openThreaded(choice);
  for (const name of ["zero", "one"]) {
    await store.createDatabase(name);
    await using connection = await store.open(name);
    await connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, count)");
  }
  return store;
}

type Death = "terminate" | "exit" | "throw" | "memory";

async function end(store: ThreadedStore, thread: number, how: Death): Promise<void> {
  const owner = store.owner(thread).thread;
  if (how === "terminate") return await owner.terminate();
  const channel = new BroadcastChannel(`bough-death ${directory}`);
  channel.postMessage({ index: thread, how });
  await owner.ended;
  channel.close();
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return await call.then(
    () => "no error",
    (error: unknown) => (error instanceof StoreError ? error.code : String(error)),
  );
}

async function idsIn(connection: ThreadedConnection): Promise<unknown[]> {
  return await (await connection.prepare("SELECT id FROM item ORDER BY id")).pluck().all();
}

describe.each<Death>(isLong ? ["terminate", "exit", "throw", "memory"] : ["throw", "memory"])(
  "a thread that ends by %s",
  (how) => {
    test("loses its calls and connections, and nothing that was acknowledged", async () => {
      const choice =
        how === "memory" ? { resourceLimits: { maxOldGenerationSizeMb: 64 } } : ({} as const);
      await using store = await openWithTables(choice);
      const [lost, other] = [await store.open("zero"), await store.open("one")];
      await lost.exec("INSERT INTO item(id) VALUES (1)");
      await other.exec("BEGIN; INSERT INTO item(id) VALUES (5)");
      await lost.exec("BEGIN; INSERT INTO item(id) VALUES (2)");
      // Waits for that transaction, so that it is under way.
      const waiting = await store.open("zero", { busyTimeoutMs: 1e6 });
      const call = waiting.exec("INSERT INTO item(id) VALUES (3)").catch((error: unknown) => error);
      await end(store, 0, how);
      expect(await call).toMatchObject({ code: "OWNER_LOST", retryable: true });
      expect(String(await call)).toContain("store.outcome");
      expect(await codeOf(lost.exec("COMMIT"))).toBe("OWNER_LOST");
      expect([lost.open, lost.inTransaction, other.open]).toEqual([false, false, true]);
      await lost.close();
      await other.exec("COMMIT");
      const again = await store.open("zero");
      expect(await idsIn(again)).toEqual([1]);
      expect(await idsIn(other)).toEqual([5]);
      expect((await store.check()).problems).toEqual([]);
      expect((await store.databases()).map(({ name }) => name)).toEqual(["one", "zero"]);
    });
  },
);

test("a thread that ends in the middle of a statement is replaced", async () => {
  await using store = await openWithTables();
  const connection = await store.open("one");
  const call = codeOf(connection.exec(ENDLESS));
  await end(store, 1, "terminate");
  expect(await call).toBe("OWNER_LOST");
  expect(await idsIn(await store.open("one"))).toEqual([]);
});

test("names are as the thread's log has them, also those whose answer was lost", async () => {
  await using store = await openWithTables();
  const made = store.createDatabase("made").catch((error: unknown) => error);
  const owner = store.owner(0).thread;
  await Promise.all([owner.terminate(), made]);
  const names = (await store.databases()).map(({ name }) => name);
  const after = store.createDatabase("made");
  expect(await codeOf(after)).toBe(names.includes("made") ? "DATABASE_EXISTS" : "no error");
  await store.open("made");
});

test("a store whose thread has ended can be closed, and opened without threads", async () => {
  const store = await openWithTables();
  await using connection = await store.open("zero");
  await connection.exec("INSERT INTO item(id) VALUES (1)");
  const ended = store.owner(0).thread.terminate();
  await store.close();
  await ended;
  const again = openThreaded();
  expect(await idsIn(await again.open("zero"))).toEqual([1]);
  await again.close();
});

test("threads that end at once, again and again, fail the store", async () => {
  await using store = await openWithTables();
  fs.writeFileSync(join(directory, "die-0"), "");
  await end(store, 0, "exit");
  const failed = await store
    .open("zero")
    .then(() => store.open("zero"))
    .catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(StoreError);
  // Calls made while the next ones begin and end are lost with them; then it is said once and for all.
  let error: unknown = failed;
  while (error instanceof StoreError && error.code === "OWNER_LOST")
    error = await store.open("zero").catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "STORE_FAILED" });
  expect(String(error)).toContain("without answering a call");
  expect(await idsIn(await store.open("one"))).toEqual([]);
});

test("threads that end as soon as they are open, and have answered nothing, fail the store", async () => {
  await using store = await openWithTables();
  // They are told all names when they are open, which is no call.
  fs.writeFileSync(join(directory, "die-open-0"), "");
  await end(store, 0, "exit");
  let deaths = 1;
  const ended = async (): Promise<void> => {
    for (; deaths < 10; deaths++) await store.owner(0).thread.ended;
  };
  expect(await codeOf(ended())).toBe("STORE_FAILED");
  expect(deaths).toBe(6);
  expect(await codeOf(store.open("zero"))).toBe("STORE_FAILED");
  expect(await idsIn(await store.open("one"))).toEqual([]);
});

test("a store whose first threads end at once says so", async () => {
  fs.mkdirSync(directory, { recursive: true });
  const store = openThreaded();
  await store.close();
  fs.writeFileSync(join(directory, "die-1"), "");
  const failing = openThreaded();
  expect(await codeOf(failing.opened)).toBe("STORE_FAILED");
  expect(await codeOf(failing.databases())).toBe("STORE_FAILED");
  await failing.close();
});

test("partitions that cannot be opened again fail the store with the reason", async () => {
  await using store = await openWithTables();
  await store.checkpoint();
  fs.rmSync(join(directory, "partitions/0001/partition.json"));
  const catalogs = fs
    .readdirSync(join(directory, "partitions/0001"))
    .filter((name) => name.startsWith("catalog"));
  for (const name of catalogs)
    fs.rmSync(join(directory, "partitions/0001", name), { recursive: true });
  await end(store, 1, "exit");
  let error: unknown = null;
  do error = await store.open("one").catch((thrown: unknown) => thrown);
  while (error instanceof StoreError && error.code === "OWNER_LOST");
  expect(error).toMatchObject({ code: expect.not.stringMatching("OWNER_LOST") as string });
  expect(await codeOf(store.open("one"))).toBe("STORE_FAILED");
  expect(await idsIn(await store.open("zero"))).toEqual([]);
});

/** Clients that write to both databases until `deaths` threads have ended at moments that only the seed knows. */
async function underLoad(
  store: ThreadedStore,
  seed: number,
  { deaths, client }: { deaths: number; client: (name: string, turn: () => void) => Promise<void> },
): Promise<void> {
  const random = new Random(seed);
  let acknowledged = 0;
  let left = deaths;
  let next = random.integer(0, 40) + 1;
  const ends: Promise<void>[] = [];
  const turn = (): void => {
    if (++acknowledged < next || left === 0) return;
    left--;
    next = acknowledged + random.integer(0, 60) + 20;
    ends.push(store.owner(random.integer(0, 1)).thread.terminate());
  };
  const isOver = (): boolean => left === 0;
  const run = async (name: string): Promise<void> => {
    while (!isOver()) await client(name, turn);
  };
  await Promise.all(
    Array.from({ length: 8 }, (_, number) => run(number % 2 === 0 ? "zero" : "one")),
  );
  await Promise.all(ends);
}

test("no acknowledged commit is lost, whenever the thread ends", async () => {
  for (let seed = SEED; seed < SEED + (isLong ? 20 : 1); seed++) {
    const path = directory;
    directory = join(path, String(seed));
    const store = await openWithTables();
    const acknowledged = { zero: new Set<number>(), one: new Set<number>() };
    const begun = { zero: new Set<number>(), one: new Set<number>() };
    let ids = 0;
    const client = async (name: string, turn: () => void): Promise<void> => {
      const database = name as "zero" | "one";
      try {
        await using connection = await store.open(name);
        const insert = await connection.prepare("INSERT INTO item(id) VALUES (?)");
        for (let count = 0; count < 50; count++) {
          const id = ++ids;
          begun[database].add(id);
          await insert.run(id);
          acknowledged[database].add(id);
          turn();
        }
      } catch (error) {
        expect(error).toMatchObject({ code: "OWNER_LOST" });
      }
    };
    await underLoad(store, seed, { deaths: isLong ? 10 : 3, client });
    for (const name of ["zero", "one"] as const) {
      const there = new Set(await idsIn(await store.open(name)));
      for (const id of acknowledged[name]) expect(there.has(id), `${name} ${id}`).toBe(true);
      for (const id of there)
        expect(begun[name].has(Number(id)), `${name} ${String(id)}`).toBe(true);
    }
    expect((await store.check({ deep: true })).problems).toEqual([]);
    await store.close();
    directory = path;
  }
});

test("transact resolves the doubt by itself: each function counts once", async () => {
  await using store = await openWithTables();
  for (const name of ["zero", "one"]) {
    await using connection = await store.open(name);
    await connection.exec("INSERT INTO item VALUES (1, 0)");
  }
  const counts: Record<string, number> = { zero: 0, one: 0 };
  const attempts: number[] = [];
  const client = async (name: string, turn: () => void): Promise<void> => {
    await store.transact(
      name,
      async (transaction) => {
        attempts.push(transaction.attempt);
        await transaction.run("UPDATE item SET count = count + 1 WHERE id = 1");
      },
      { retries: 1000 },
    );
    counts[name]!++;
    turn();
  };
  await underLoad(store, SEED, { deaths: isLong ? 40 : 3, client });
  for (const name of ["zero", "one"]) {
    const connection = await store.open(name);
    const count = await (await connection.prepare("SELECT count FROM item")).pluck().get();
    expect(count, name).toBe(counts[name]);
  }
  expect(Math.max(...attempts)).toBeGreaterThan(1);
});

/** A step of a hand-over, and which end's thread ends then: before it is asked, with its answer lost, or after its answer. */
type StepDeath = readonly [step: string, when: "before" | "lost" | "after", end: "from" | "to"];

const STEPS = ["beginSource", "beginTarget", "next", "put", "install", "finish"];
const STEP_DEATHS: StepDeath[] = isLong
  ? STEPS.flatMap((step) =>
      (["before", "lost", "after"] as const).flatMap((when) => [
        [step, when, "from"] as const,
        [step, when, "to"] as const,
      ]),
    )
  : [
      ["put", "after", "from"],
      ["put", "after", "to"],
      ["install", "lost", "to"],
      ["finish", "before", "from"],
    ];

/** Ends threads of a store, once, at a step of a hand-over. */
function dieAt(
  store: ThreadedStore,
  [step, when, end]: StepDeath,
  ends: { readonly from: number; readonly to: number },
): void {
  let isDone = false;
  const victim = store.owner(ends[end]).thread;
  for (const thread of [store.owner(0).thread, store.owner(1).thread]) {
    const call = thread.call.bind(thread);
    thread.call = async (request) => {
      if (isDone || request.parameters[0] !== "handOver" || request.parameters[1] !== step)
        return await call(request);
      isDone = true;
      if (when === "before") await victim.terminate();
      const answer = await call(request);
      if (when !== "before") await victim.terminate();
      if (when === "lost") throw new StoreError("OWNER_LOST", "The answer is lost");
      return answer;
    };
  }
}

test("a hand-over whose thread ends, at any step, has happened or not, and nothing of it is left where it is not", async () => {
  await using store = await openWithTables();
  {
    await using first = await store.open("zero");
    await first.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
      INSERT INTO item SELECT i, i FROM n`);
  }
  const database = await store.database("zero");
  let expected = 2000;
  for (const death of STEP_DEATHS) {
    const label = death.join("-");
    const from = database.partition;
    const to = 1 - from;
    dieAt(store, death, { from, to });
    const code = await codeOf(store.handOver("zero", { partition: to }));
    expect(["no error", "OWNER_LOST"], label).toContain(code);
    expect(database.partition, label).toBe(code === "no error" ? to : from);
    // It takes commits, and the next database in the target gets nothing of it.
    await using connection = await store.open("zero");
    expected++;
    await connection.exec(`INSERT INTO item VALUES (${expected}, 0)`);
    await store.createDatabase(label, { partition: to });
    await using next = await store.open(label);
    await next.exec("CREATE TABLE item(id INTEGER PRIMARY KEY); INSERT INTO item VALUES (7)");
    await store.checkpoint();
    expect(await idsIn(next), label).toEqual([7]);
    const log = await (await (await store.database(label)).branch()).log();
    expect(
      log.map(({ version }) => version),
      label,
    ).toEqual([2, 1]);
    expect(await idsIn(connection), label).toHaveLength(expected);
    expect((await store.check({ deep: true })).problems, label).toEqual([]);
  }
  await store.handOver("zero", { partition: 1 - database.partition });
  expect(await idsIn(await store.open("zero"))).toHaveLength(expected);
});

test("a hand-over that cannot be settled fails both threads, and is settled once the cause is gone", async () => {
  const store = await openWithTables();
  await (await store.open("zero")).exec("INSERT INTO item VALUES (1, 1)");
  const intent = join(directory, "hand-over.json");
  const { thread } = store.owner(1);
  const call = thread.call.bind(thread);
  let bytes = Buffer.alloc(0);
  thread.call = async (request) => {
    if (request.parameters[1] === "put") {
      bytes = fs.readFileSync(intent);
      fs.writeFileSync(intent, "damaged");
      await thread.terminate();
    }
    return await call(request);
  };
  expect(await codeOf(store.handOver("zero", { partition: 1 }))).toBe("CORRUPT_HEADER");
  for (const name of ["zero", "one"])
    expect(await codeOf(store.open(name)), name).toBe("STORE_FAILED");
  expect(await codeOf(store.createDatabase("new"))).toBe("STORE_FAILED");
  await store.close();
  expect(() => openStore(directory)).toThrow("hand-over.json");
  fs.writeFileSync(intent, bytes);
  using reopened = openStore(directory);
  using connection = reopened.connect("zero");
  expect(connection.prepare("SELECT id FROM item").pluck().all()).toEqual([1]);
  expect((await reopened.check({ deep: true })).problems).toEqual([]);
});

test("a partition that fails when it is closed keeps no call of another one from its answer", async () => {
  await (await openWithTables()).close();
  const store = ThreadedStore.open(directory, { threads: 1 }, { program: FAILING_CLOSE });
  let closed: Promise<void> = Promise.resolve();
  const call = store.transact("one", async (transaction) => {
    const channel = new BroadcastChannel(`bough-death ${directory}`);
    const failed = new Promise((resolve) => channel.addEventListener("message", resolve));
    closed = store.close();
    closed.catch(() => {}); // Awaited below.
    await failed;
    channel.close();
    await transaction.get("SELECT 1"); // What the first one says has come before this answer.
    await transaction.run("INSERT INTO item VALUES (1, 1)");
    return "done";
  });
  expect(await call).toBe("done");
  await expect(closed).rejects.toThrow("on purpose");
  using reopened = openStore(directory);
  using connection = reopened.connect("one");
  expect(connection.prepare("SELECT id FROM item").pluck().all()).toEqual([1]);
});

test("a store is closed after a hand-over whose thread ends, and changes of names made before", async () => {
  const store = await openWithTables();
  dieAt(store, ["put", "after", "to"], { from: 0, to: 1 });
  const moved = codeOf(store.handOver("zero", { partition: 1 }));
  const made = codeOf(store.createDatabase("made"));
  const closed = store.close();
  const late = codeOf(store.createDatabase("late"));
  expect(await Promise.all([moved, made, late])).toEqual([
    "OWNER_LOST",
    "no error",
    "STORE_CLOSED",
  ]);
  await closed;
  using reopened = openStore(directory);
  expect(reopened.databases().map(({ name }) => name)).toEqual(["made", "one", "zero"]);
  expect((await reopened.check({ deep: true })).problems).toEqual([]);
});

test("a thread that has failed leaves the databases of others as they are: renamed, made, deleted, opened again", async () => {
  await using store = await openWithTables();
  fs.writeFileSync(join(directory, "die-0"), "");
  await end(store, 0, "exit");
  await store.owner(0).settled();
  expect(await codeOf(store.open("zero"))).toBe("STORE_FAILED");
  const one = await store.database("one");
  await one.rename("first");
  expect(one.name).toBe("first");
  await store.createDatabase("made", { partition: 1 });
  await (await store.database("made")).delete();
  await end(store, 1, "terminate");
  await store.owner(1).settled();
  expect(await idsIn(await store.open("first"))).toEqual([]);
  expect((await store.databases()).map(({ name }) => name)).toEqual(["first", "zero"]);
  await store.close().catch(() => {});
});

test("a name whose deletion lost its answer is free in all partitions", async () => {
  await using store = await openWithTables();
  const { thread } = store.owner(0);
  const call = thread.call.bind(thread);
  thread.call = async (request) => {
    const answer = await call(request);
    if (request.parameters[0] !== "deleteDatabase") return answer;
    await thread.terminate();
    throw new StoreError("OWNER_LOST", "The answer is lost");
  };
  expect(await codeOf((await store.database("zero")).delete())).toBe("OWNER_LOST");
  await store.createDatabase("zero", { partition: 1 });
  expect((await store.database("zero")).partition).toBe(1);
});

test("transact asks again when the thread ends that is asked for the outcome", async () => {
  await using store = await openWithTables();
  const owner = store.owner(0);
  let asked = 0;
  const ask = vi.spyOn(owner, "ask").mockImplementation(async (partition, method, parameters) => {
    asked++;
    const { thread } = owner;
    await thread.terminate();
    if (asked === 3) ask.mockRestore();
    return await thread.call({
      operation: Operation.store,
      target: partition,
      parameters: [method, ...parameters],
    });
  });
  let runs = 0;
  await store.transact("zero", async (transaction) => {
    await transaction.run("INSERT INTO item VALUES (1, 1)");
    if (++runs === 1) await owner.thread.terminate();
  });
  expect([asked, runs]).toEqual([3, 2]);
  expect(await idsIn(await store.open("zero"))).toEqual([1]);
});

test("transact whose signal is aborted when it has committed resolves, also when its thread ends before it answers", async () => {
  await using store = await openWithTables();
  const owner = store.owner(0);
  const { thread } = owner;
  const controller = new AbortController();
  const call = thread.call.bind(thread);
  thread.call = async (request) => {
    const answer = await call(request);
    if (request.operation !== Operation.transact) return answer;
    await thread.terminate();
    controller.abort(new Error("gave up"));
    throw new StoreError("OWNER_LOST", "The answer is lost");
  };
  const value = store.transact(
    "zero",
    async (transaction) => {
      await transaction.run("INSERT INTO item VALUES (1, 1)");
      return "done";
    },
    { signal: controller.signal },
  );
  expect(await value).toBe("done");
  expect(await idsIn(await store.open("zero"))).toEqual([1]);
});

test("transact that may not run again says that its thread has ended", async () => {
  await using store = await openWithTables();
  const call = store.transact(
    "zero",
    async (transaction) => {
      await transaction.run("INSERT INTO item VALUES (1, 1)");
      await store.owner(0).thread.terminate();
    },
    { retries: 0 },
  );
  expect(await codeOf(call)).toBe("OWNER_LOST");
  expect(await idsIn(await store.open("zero"))).toEqual([]);
  await store.close();
  const reopened = openStore(directory);
  expect(reopened.databases().map(({ name }) => name)).toEqual(["one", "zero"]);
  reopened.close();
});
