/** What only a store with threads has: turns, urgent calls, names over partitions, hand-over, closing. */
import fs from "node:fs";
import { randomUUID } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { StoreError } from "../src/errors.ts";
import type { ThreadedConnection } from "../src/threads/threaded-connection.ts";
import { ThreadedStore } from "../src/threads/threaded-store.ts";
import type { ThreadedTransaction } from "../src/threads/threaded-transaction.ts";
import { failureOf } from "./threads-cases.ts";

const ENDLESS =
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
const never = new Promise<never>(() => {});

// Starting a thread takes long where all cores are busy.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

let directory = "";
let store: ThreadedStore;
let number = 0;
/** Of this test: both in thread 0, and one in thread 1. */
let [hot, cold, far] = ["", "", ""];

beforeAll(async () => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-threads-"));
  store = ThreadedStore.open(join(directory, "store"), { threads: 2 });
  await store.opened;
});

afterAll(async () => {
  await store.close();
  fs.rmSync(directory, { recursive: true, force: true });
});

beforeEach(async () => {
  number++;
  [hot, cold, far] = [`hot-${number}`, `cold-${number}`, `far-${number}`];
  for (const name of [hot, cold, far]) {
    await store.createDatabase(name, { partition: name === far ? 1 : 0 });
    await using connection = await store.open(name);
    await connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, count)");
  }
});

async function codeOf(call: Promise<unknown>): Promise<string> {
  return await call.then(
    () => "no error",
    (error: unknown) => (error instanceof StoreError ? error.code : String(error)),
  );
}

test("an interrupt, a signal and a time limit end a statement that runs, and the thread goes on", async () => {
  const connection = await store.open(hot);
  const statement = await connection.prepare(ENDLESS);
  const reason = new Error("gave up");
  const controller = new AbortController();
  const running = statement.with({ signal: controller.signal }).all();
  // Other calls of the thread are answered before or after it: this one is sent, and then it runs.
  const begun = (await store.open(far)).exec("SELECT 1");
  await begun;
  controller.abort(reason);
  await expect(running).rejects.toBe(reason);
  const interrupted = failureOf(() => statement.all());
  const timer = setInterval(() => connection.interrupt(), 1);
  expect(await interrupted).toMatchObject({ code: "SQLITE_INTERRUPT" });
  clearInterval(timer);
  expect(await codeOf(statement.with({ timeoutMs: 5 }).all())).toBe("TIMEOUT");
  await connection.exec("INSERT INTO item VALUES (1, 1)");
  const opening = new AbortController();
  const opened = store.open(hot, { signal: opening.signal });
  opening.abort(reason);
  await opened.catch((error: unknown) => expect(error).toBe(reason));
  const late = new AbortController();
  await connection.exec("SELECT 1", { signal: late.signal });
  late.abort(reason);
  await connection.exec("SELECT 1");
});

test("a call that is cancelled while it waits for its turn does nothing", async () => {
  const connection = await store.open(hot);
  const controller = new AbortController();
  const reason = new Error("gave up");
  const first = connection.exec("INSERT INTO item VALUES (1, 1)");
  const second = connection.exec("INSERT INTO item VALUES (2, 2)", { signal: controller.signal });
  const ended = second.then(
    () => true,
    (error: unknown) => {
      expect(error).toBe(reason);
      return false;
    },
  );
  controller.abort(reason);
  await first;
  const isDone = await ended;
  const rows = await (await connection.prepare("SELECT id FROM item ORDER BY id")).pluck().all();
  expect(rows).toEqual(isDone ? [1, 2] : [1]);
});

test("more calls than a thread takes are refused, and those before them are answered", async () => {
  const connection = await store.open(hot);
  const statement = await connection.prepare("SELECT 1");
  const calls = Array.from({ length: 65_537 }, () => statement.pluck().get());
  const answers = await Promise.allSettled(calls);
  const refused = answers.filter(({ status }) => status === "rejected");
  expect(refused).toHaveLength(1);
  expect(refused[0]).toMatchObject({ reason: { code: "LIMIT", retryable: true } });
});

test("calls with more bytes than may wait for a thread are refused, and those before them are answered", async () => {
  const connection = await store.open(hot);
  const statement = await connection.prepare("SELECT length(?)");
  const blob = new Uint8Array(24 * 1024 * 1024);
  const calls = Array.from({ length: 3 }, () => statement.pluck().get(blob));
  const answers = await Promise.allSettled([...calls, statement.pluck().get("small")]);
  expect(answers.map(({ status }) => status)).toEqual([
    "fulfilled",
    "fulfilled",
    "fulfilled",
    "rejected",
  ]);
  expect(answers[3]).toMatchObject({ reason: { code: "LIMIT", retryable: true } });
  const large = new Uint8Array(65 * 1024 * 1024);
  expect(await statement.pluck().get(large)).toBe(large.length);
});

test("what ends a transaction, an iterator or a connection is taken while calls with too many bytes wait", async () => {
  const large = (await (await store.open(far)).prepare("SELECT length(?)")).pluck();
  const blob = new Uint8Array(65 * 1024 * 1024);
  /** No more calls are taken until it resolves. */
  const fill = (): { readonly done: Promise<unknown> } => ({ done: large.get(blob) });
  const connection = await store.open(far);
  const begun = await connection.transaction(async () => {
    await connection.exec("INSERT INTO item VALUES (1, 1), (2, 2)");
    return fill();
  });
  expect(await begun.done).toBe(blob.length);
  const committed = await store.transact(far, async (transaction) => {
    await transaction.run("INSERT INTO item VALUES (3, 3)");
    return fill();
  });
  expect(await committed.done).toBe(blob.length);
  const rows = (await connection.prepare("SELECT id FROM item")).iterate();
  await rows.next();
  const [left] = [fill(), await rows.return()];
  expect(await left.done).toBe(blob.length);
  await connection.exec("INSERT INTO item VALUES (4, 4)");
  const [closed] = [fill(), await connection.close()];
  expect(await closed.done).toBe(blob.length);
  const ids = await (await (await store.open(far)).prepare("SELECT id FROM item")).pluck().all();
  expect(ids).toEqual([1, 2, 3, 4]);
});

test("SQL functions, and options that cannot be sent, are refused", async () => {
  const connection = await store.open(hot);
  for (const define of ["function", "aggregate", "table"] as const)
    await expect(connection[define]("f")).rejects.toThrow(/the thread that owns/);
  await expect(store.open(hot, { verbose: () => {} })).rejects.toThrow(/"verbose"/);
  const path = join(directory, "refused");
  for (const more of [
    { now: Date.now },
    { remote: "s3://bucket/x" },
    { threads: 0 },
    { threads: 65 },
  ])
    expect(() => ThreadedStore.open(path, { threads: 2, ...more })).toThrow(/Option/);
  const unclonable = { pageSize: (() => 1) as unknown as number };
  await expect(store.createDatabase("odd", unclonable)).rejects.toThrow(TypeError);
  await connection.exec("SELECT 1");
});

test("an id commits once over all threads", async () => {
  const id = randomUUID();
  const insert = async (transaction: ThreadedTransaction): Promise<unknown> =>
    await transaction.run("INSERT INTO item VALUES (1, 1)");
  await store.transact(hot, insert, { id });
  for (const name of [hot, cold, far])
    expect(await codeOf(store.transact(name, insert, { id })), name).toBe("ALREADY_COMMITTED");
  expect(await store.outcome(id)).toMatchObject({ committed: true, database: hot });
});

test("names are unique over all threads, and follow renames, deletion and coming back", async () => {
  expect(await codeOf(store.createDatabase(far, { partition: 0 }))).toBe("DATABASE_EXISTS");
  const two = await Promise.all([
    codeOf(store.createDatabase("twice")),
    codeOf(store.createDatabase("twice")),
  ]);
  expect(two.sort()).toEqual(["DATABASE_EXISTS", "no error"]);
  const database = await store.database(far);
  expect([database.name, database.pageSize, database.partition]).toEqual([far, 4096, 1]);
  expect(await codeOf(database.rename(hot))).toBe("DATABASE_EXISTS");
  await database.rename("renamed");
  expect(database.name).toBe("renamed");
  expect(await codeOf(store.open(far))).toBe("DATABASE_NOT_FOUND");
  await (await store.open("renamed")).close();
  await database.delete();
  expect(await codeOf(store.open("renamed"))).toBe("DATABASE_NOT_FOUND");
  expect(await codeOf(database.info().then(() => database.branches()))).toBe("DATABASE_NOT_FOUND");
  await store.createDatabase("renamed", { partition: 0 });
  expect(await codeOf(store.undeleteDatabase("renamed"))).toBe("DATABASE_EXISTS");
  await (await store.database("renamed")).rename("other");
  const back = await store.undeleteDatabase("renamed");
  expect(back.partition).toBe(1);
  await back.rename(far);
  expect((await store.database("other")).partition).toBe(0);
  await expect(store.createDatabase("x", { partition: 2 })).rejects.toThrow(RangeError);
});

test("branches, tags, history and retention", async () => {
  const database = await store.database(far);
  const main = await database.branch();
  const connection = await store.open(far);
  await connection.exec("INSERT INTO item VALUES (1, 1)");
  const tag = await database.createTag("first");
  expect(tag).toMatchObject({ name: "first", version: 2 });
  const dev = await database.createBranch("dev", { from: "@first" });
  await (await store.open(`${far}/dev`)).exec("INSERT INTO item VALUES (2, 2)");
  expect((await database.branches()).map(({ revision }) => revision)).toEqual([
    `${far}/main`,
    `${far}/dev`,
  ]);
  expect(await dev.head()).toMatchObject({ version: 3 });
  expect((await dev.log()).map(({ version }) => version)).toEqual([3, 2, 1]);
  expect((await dev.parent())?.name).toBe("main");
  expect(await main.parent()).toBe(null);
  await dev.protect();
  expect(await codeOf(dev.delete())).toBe("BRANCH_PROTECTED");
  await dev.unprotect();
  const kept = await dev.restore({ to: `${far}@first` });
  expect(kept.name).toBe("dev-before-3");
  await kept.rename("kept");
  await kept.setExpiration(Date.now() + 1e9);
  expect((await kept.info()).expiresAt).toBeInstanceOf(Date);
  await dev.reset();
  await dev.delete();
  expect(await codeOf(database.branch("dev"))).toBe("BRANCH_NOT_FOUND");
  expect((await database.undeleteBranch("dev")).name).toBe("dev");
  await database.setRetention({ everyCommitMs: 5000 });
  expect(await main.retention()).toMatchObject({ everyCommitMs: 5000 });
  await main.setRetention({ everyCommitMs: 7000 });
  expect(await main.retention()).toMatchObject({ everyCommitMs: 7000 });
  expect(await main.retentionStatus()).toBeTypeOf("object");
  expect(await database.retention()).toEqual((await database.info()).retention);
  expect((await database.tags()).map(({ name }) => name)).toEqual(["first"]);
  await database.deleteTag("first");
  expect(await database.tags()).toEqual([]);
});

test("what a function that is told of progress throws is what its call fails with, and nothing else", async () => {
  const file = join(directory, `${far}.db`);
  const connection = await store.open(far);
  const onProgress = (): void => {
    throw new RangeError("thrown on purpose");
  };
  await connection.exec("INSERT INTO item VALUES (1, 1)");
  const calls = [store.check({ onProgress }), store.exportFile(far, file, { onProgress })];
  const answers = await Promise.allSettled([...calls, connection.exec("SELECT 1")]);
  expect(answers).toMatchObject([
    { status: "rejected", reason: new RangeError("thrown on purpose") },
    { status: "rejected", reason: new RangeError("thrown on purpose") },
    { status: "fulfilled" },
  ]);
  const plain = join(directory, `${far}-plain.db`);
  await store.exportFile(far, plain);
  const copy = `${far}-copy`;
  await expect(store.importFile(plain, copy, { onProgress })).rejects.toThrow("on purpose");
  // Made or not, it is what its thread says that it is.
  const isMade = (await store.databases()).some(({ name }) => name === copy);
  expect(await codeOf(store.createDatabase(copy))).toBe(isMade ? "DATABASE_EXISTS" : "no error");
  await store.open(copy);
});

test("the store as a whole: files, sizes, checks, garbage", async () => {
  const file = join(directory, `${far}.db`);
  await (await store.open(far)).exec("INSERT INTO item VALUES (7, 7)");
  const progress: unknown[] = [];
  const onProgress = (step: unknown): void => void progress.push(step);
  expect(await store.exportFile(far, file, { onProgress })).toMatchObject({ version: 2 });
  expect(await codeOf(store.exportFile(far, file))).toBe("FILE_EXISTS");
  const inside = join(directory, "store/partitions/0001/copy.db");
  expect(await codeOf(store.exportFile(far, inside))).toBe("FILE_EXISTS");
  const imported = `imported-${number}`;
  expect(await store.importFile(file, imported)).toMatchObject({
    database: imported,
    branch: "main",
  });
  const rows = await (await store.open(imported)).prepare("SELECT id FROM item");
  expect(await rows.pluck().all()).toEqual([7]);
  await store.importFile(file, `${imported}/again`);
  const statistics = await store.stat();
  const names = statistics.databases.map(({ name }) => name);
  expect(names).toEqual((await store.databases()).map(({ name }) => name));
  expect(await store.stat(far)).toMatchObject({
    databases: [{ name: far }],
    disk: await store.diskUse(),
  });
  expect(await store.check({ deep: true, onProgress })).toMatchObject({ ok: true, problems: [] });
  expect(progress.length).toBeGreaterThan(0);
  expect(await store.gc({ dryRun: true })).toMatchObject({ isDryRun: true });
  for (const report of [
    await store.expire(),
    await store.heldSpace(),
    await store.compactCatalog(),
  ])
    expect(report).toBeTypeOf("object");
  await store.setCompression("none");
  expect((await store.info()).compression).toBe("none");
  expect((await store.scrub({ bytesPerSecond: 1e9 })).ok).toBe(true);
});

test("a database goes to another thread with all that it has, and the others go on", async () => {
  const database = await store.database(hot);
  const [moved, stays] = [await store.open(hot), await store.open(cold)];
  await moved.exec("INSERT INTO item VALUES (1, 1)");
  const branch = await database.createBranch("dev");
  await moved.exec("INSERT INTO item VALUES (2, 2)");
  await stays.exec("BEGIN; INSERT INTO item VALUES (9, 9)");
  const id = "ab".repeat(16);
  await store.transact(hot, (tx) => tx.exec("INSERT INTO item VALUES (3, 3)"), { id });
  await store.handOver(hot, { thread: 1 });
  expect(database.partition).toBe(1);
  await stays.exec("COMMIT");
  expect(await codeOf(moved.exec("SELECT * FROM item"))).not.toBe("no error");
  const again = await store.open(hot);
  const ids = await again.prepare("SELECT id FROM item ORDER BY id");
  expect(await ids.pluck().all()).toEqual([1, 2, 3]);
  await again.exec("INSERT INTO item VALUES (4, 4)");
  expect(await branch.head()).toMatchObject({ version: 2 });
  expect((await (await database.branch()).log()).map(({ version }) => version)).toEqual([
    5, 4, 3, 2, 1,
  ]);
  expect(await store.outcome(id)).toMatchObject({ committed: true, database: hot, version: 4 });
  await store.handOver(hot, { thread: 1 });
  await store.handOver(hot, { partition: 0 });
  expect((await store.database(hot)).partition).toBe(0);
  expect((await store.check({ deep: true })).problems).toEqual([]);
  await expect(store.handOver(hot, { thread: 2 })).rejects.toThrow(RangeError);
  expect(await codeOf(store.handOver("nothing", { thread: 0 }))).toBe("DATABASE_NOT_FOUND");
});

test("calls by a database's name find it when they come where it has just left", async () => {
  await (await store.open(hot)).exec("INSERT INTO item VALUES (1, 1)");
  const { thread } = store.owner(0);
  const call = thread.call.bind(thread);
  const insert = async (transaction: ThreadedTransaction): Promise<unknown> =>
    await transaction.run("INSERT INTO item VALUES (2, 2)");
  let calls: Promise<unknown>[] = [];
  thread.call = async (request) => {
    const answer = await call(request);
    if (request.parameters[0] !== "handOver" || request.parameters[1] !== "finish") return answer;
    calls = [store.open(hot), store.stat(hot), store.transact(hot, insert)];
    await store.info(); // They are refused before this is answered.
    return answer;
  };
  try {
    await store.handOver(hot, { thread: 1 });
  } finally {
    thread.call = call;
  }
  const [connection] = (await Promise.all(calls)) as [ThreadedConnection];
  const ids = await (await connection.prepare("SELECT id FROM item")).pluck().all();
  expect(ids).toEqual([1, 2]);
});

test("closing answers all calls that were made, and refuses new ones", async () => {
  const path = join(directory, `closing-${number}`);
  const closing = ThreadedStore.open(path, { threads: 2 });
  await closing.createDatabase("shop");
  const connection = await closing.open("shop");
  await connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY)");
  const insert = await connection.prepare("INSERT INTO item VALUES (?)");
  const calls = Array.from({ length: 500 }, (_, id) => insert.run(id));
  const left = codeOf(closing.transact("shop", () => never, { timeoutMs: 20 }));
  await calls[0];
  const closed = closing.close();
  expect(closing.isOpen).toBe(false);
  expect(await codeOf(closing.open("shop"))).toBe("STORE_CLOSED");
  expect(await left).toBe("TIMEOUT");
  await Promise.all([...calls, closed, closing.close()]);
  expect(await codeOf(connection.exec("SELECT 1"))).not.toBe("no error");
  const again = ThreadedStore.open(path, { threads: 1 });
  const rows = await (await again.open("shop")).prepare("SELECT count(*) FROM item");
  expect(await rows.pluck().get()).toBe(500);
  expect(() => ThreadedStore.open(path, { threads: 1 })).toThrow(/already open/);
  await again.close();
});
