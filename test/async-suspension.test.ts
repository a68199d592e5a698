/**
 * Calls that are suspended in the middle of SQLite: others run meanwhile, and whatever becomes of the wait, the connection is
 * whole afterwards. Only where calls can be suspended: Node 24 and later. See docs/testing.md for the rest.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { StoreError } from "../src/errors.ts";
import type { AsyncConnection } from "../src/sqlite/async-connection.ts";
import { canSuspend } from "../src/sqlite/suspension.ts";
import {
  filledStore as filled,
  type LazyStore,
  releaseUntil,
  turn,
  untilHeld,
} from "../src/testing/lazy-store.ts";
import { SMALL_STORE } from "./store-workload.ts";

const suspending = test.skipIf(!canSuspend);
/** A Node that can suspend calls, for runs on one that cannot. */
const OTHER_NODE = process.env["BOUGH_SUSPENDING_NODE"];

if (!canSuspend && OTHER_NODE === undefined)
  process.stderr.write(
    `SKIPPED: calls cannot be suspended on Node ${process.version}. Run these tests on Node 24, or say where one is: BOUGH_SUSPENDING_NODE=/path/to/node\n`,
  );

if (!canSuspend && OTHER_NODE !== undefined) {
  test("all of this, on another Node", () => {
    const { status, stdout, stderr } = spawnSync(
      OTHER_NODE,
      ["node_modules/vitest/vitest.mjs", "run", "test/async-", "src/sqlite/async-"],
      { cwd: fileURLToPath(new URL("..", import.meta.url)), encoding: "utf8" },
    );
    expect(stdout, stderr).not.toContain("skipped");
    expect(status, stdout + stderr).toBe(0);
  });
}

const COUNT = "SELECT count(*), sum(id) FROM item";

function filledStore(seed: number): LazyStore {
  return filled(seed, { ...SMALL_STORE, cacheBytesMax: 0 });
}

async function count(connection: AsyncConnection): Promise<unknown> {
  return await (await connection.prepare("SELECT count(*) FROM item")).pluck().get();
}

/** Open, with its schema read, and every page hidden again; fetches are held back. */
async function heldConnection(lazy: LazyStore): Promise<AsyncConnection> {
  const connection = await lazy.store.open("shop");
  await connection.prepare(COUNT);
  lazy.storage.hideAll();
  lazy.storage.holdsFetches = true;
  return connection;
}

function letGo({ storage }: LazyStore): void {
  storage.holdsFetches = false;
  storage.release();
}

suspending("while one call is suspended, others answer: synchronous ones too", async () => {
  const lazy = filledStore(1);
  const connection = await heldConnection(lazy);
  const waits = connection.prepare(COUNT).then((statement) => statement.values());
  await untilHeld(lazy.storage);
  lazy.store.createDatabase("other");
  const sync = lazy.store.connect("other");
  sync.exec("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  expect(sync.prepare("SELECT a FROM t").pluck().all()).toEqual([1]);
  const other = await lazy.store.open("other");
  expect(await (await other.prepare("SELECT a FROM t")).values()).toEqual([[1]]);
  await releaseUntil(lazy.storage, waits);
  expect(await waits).toEqual([[2000, 2_001_000]]);
});

suspending(
  "a reader that is suspended reads one version, whatever is written meanwhile",
  async () => {
    const lazy = filledStore(2);
    const connection = await heldConnection(lazy);
    const waits = connection.prepare(COUNT).then((statement) => statement.values());
    await untilHeld(lazy.storage);
    lazy.storage.holdsFetches = false;
    const writer = lazy.store.connect("shop");
    writer.exec("DELETE FROM item WHERE id % 2 = 0");
    lazy.store.checkpoint();
    await releaseUntil(lazy.storage, waits);
    expect(await waits).toEqual([[2000, 2_001_000]]);
    expect(await count(connection)).toBe(1000);
  },
);

suspending(
  "a signal ends a suspended call with its reason, and the fetch hears of it",
  async () => {
    const lazy = filledStore(3);
    const connection = await heldConnection(lazy);
    const controller = new AbortController();
    const statement = (await connection.prepare(COUNT)).with({ signal: controller.signal });
    const waits = statement.values();
    await untilHeld(lazy.storage);
    const queued = statement.values();
    const behind = count(connection);
    controller.abort(new Error("enough"));
    await expect(waits).rejects.toThrow("enough");
    await expect(queued).rejects.toThrow("enough");
    expect(lazy.storage.aborted).toBe(1);
    await expect(statement.values()).rejects.toThrow("enough");
    await releaseUntil(lazy.storage, behind);
    expect(await behind).toBe(2000);
  },
);

suspending(
  "a time limit ends a suspended call; the connection and the next call go on",
  async () => {
    const lazy = filledStore(4);
    const connection = await heldConnection(lazy);
    const statement = await connection.prepare(COUNT, { timeoutMs: 5 });
    await expect(statement.values()).rejects.toMatchObject({ code: "TIMEOUT", retryable: true });
    lazy.storage.holdsFetches = false;
    lazy.storage.release();
    expect(await count(connection)).toBe(2000);
    await expect(statement.with({ timeoutMs: -1 }).values()).rejects.toThrow(RangeError);
  },
);

suspending("interrupt ends a suspended call", async () => {
  const lazy = filledStore(5);
  const connection = await heldConnection(lazy);
  const waits = connection.prepare(COUNT).then((statement) => statement.values());
  await untilHeld(lazy.storage);
  connection.interrupt();
  await expect(waits).rejects.toMatchObject({ code: "SQLITE_INTERRUPT" });
  letGo(lazy);
  expect(await count(connection)).toBe(2000);
});

suspending(
  "a fetch that fails in a write transaction undoes it, and another writer gets the branch",
  async () => {
    const lazy = filledStore(6);
    const connection = await heldConnection(lazy);
    lazy.storage.holdsFetches = false;
    const failure = new StoreError("REMOTE_UNAVAILABLE", "Cannot fetch: no answer");
    await expect(
      connection.transaction(async () => {
        await connection.exec("INSERT INTO item VALUES(9000, 'new')");
        lazy.storage.hideAll();
        lazy.storage.failures = [failure];
        await connection.exec("UPDATE item SET name = 'x'");
      }),
    ).rejects.toBe(failure);
    expect(connection.inTransaction).toBe(false);
    const other = await lazy.store.open("shop");
    await other.exec("INSERT INTO item VALUES(9000, 'other')");
    expect(await count(connection)).toBe(2001);
    expect(await connection.pragma("integrity_check", { simple: true })).toBe("ok");
  },
);

suspending(
  "a writer that is suspended holds its branch: others are busy, and it commits",
  async () => {
    const lazy = filledStore(7);
    const other = await lazy.store.open("shop", { busyTimeoutMs: 0 });
    const connection = await heldConnection(lazy);
    const update = connection.exec("UPDATE item SET name = 'x' WHERE id > 1500");
    await untilHeld(lazy.storage);
    lazy.storage.release();
    await untilHeld(lazy.storage);
    lazy.storage.holdsFetches = false;
    await expect(other.exec("INSERT INTO item VALUES(9000, 'other')")).rejects.toMatchObject({
      code: "SQLITE_BUSY",
    });
    letGo(lazy);
    await update;
    expect(
      await (await connection.prepare("SELECT count(*) FROM item WHERE name = 'x'")).pluck().get(),
    ).toBe(500);
  },
);

suspending(
  "SQL functions and virtual tables run between suspensions, and may use other connections",
  async () => {
    const lazy = filledStore(8);
    const connection = await heldConnection(lazy);
    letGo(lazy);
    lazy.store.createDatabase("other");
    const sync = lazy.store.connect("other");
    sync.exec("CREATE TABLE log(id)");
    const insert = sync.prepare("INSERT INTO log VALUES(?)");
    let inner: Promise<unknown> | null = null;
    await connection.function("note", (id: number) => {
      insert.run(id);
      inner ??= count(connection); // Its turn comes after this call.
      return id % 7;
    });
    await connection.aggregate("longest", {
      start: 0,
      step: (longest: number, text: string) => Math.max(longest, text.length),
    });
    await connection.table("days", {
      columns: ["day"],
      *rows() {
        for (let day = 0; day < 7; day++) yield { day };
      },
    });
    const statement = await connection.prepare(
      "SELECT days.day, count(*), longest(item.name) FROM item JOIN days ON note(item.id) = days.day GROUP BY 1",
    );
    const rows = statement.values();
    await releaseUntil(lazy.storage, rows);
    const sizes = [285, 286, 286, 286, 286, 286, 285];
    expect(await rows).toEqual(sizes.map((size, day) => [day, size, 200]));
    expect(sync.prepare("SELECT count(DISTINCT id) FROM log").pluck().get()).toBe(2000);
    const count2 = inner as Promise<unknown> | null;
    await releaseUntil(lazy.storage, Promise.resolve(count2));
    expect(await count2).toBe(2000);
  },
);

suspending(
  "a function that throws after a suspension ends the statement with its error",
  async () => {
    const lazy = filledStore(9);
    const connection = await heldConnection(lazy);
    lazy.storage.holdsFetches = false;
    await connection.function("fail_late", (id: number) => {
      if (id === 1999) throw new Error("late");
      return id;
    });
    const statement = await connection.prepare("SELECT max(fail_late(id), length(name)) FROM item");
    await expect(statement.all()).rejects.toThrow("late");
    expect(await count(connection)).toBe(2000);
  },
);

suspending("an iterator is ended while its next row is suspended", async () => {
  const lazy = filledStore(10);
  const connection = await heldConnection(lazy);
  const rows = (await connection.prepare("SELECT id, name FROM item WHERE id > 1000"))
    .pluck()
    .iterate();
  const first = rows.next();
  await untilHeld(lazy.storage);
  const end = rows.return();
  const write = connection.exec("DELETE FROM item WHERE id = 1");
  letGo(lazy);
  await write;
  expect(await first).toEqual({ value: 1001, done: false });
  expect(await end).toEqual({ value: undefined, done: true });
  expect(await rows.next()).toEqual({ value: undefined, done: true });
  expect(await count(connection)).toBe(1999);
});

suspending(
  "close waits for the call that is suspended and those before it, and refuses new ones",
  async () => {
    const lazy = filledStore(11);
    const connection = await heldConnection(lazy);
    const statement = await connection.prepare(COUNT);
    const first = statement.values();
    const second = statement.values();
    await untilHeld(lazy.storage);
    const closed = connection.close();
    expect(connection.open).toBe(false);
    await expect(connection.prepare("SELECT 1")).rejects.toThrow("not open");
    expect(() => lazy.store.close()).toThrow(expect.objectContaining({ code: "BRANCH_BUSY" }));
    await releaseUntil(lazy.storage, closed);
    expect([await first, await second]).toEqual([[[2000, 2_001_000]], [[2000, 2_001_000]]]);
    await expect(statement.values()).rejects.toThrow("not open");
    lazy.storage.holdsFetches = false;
    await lazy.store.closeAsync();
  },
);

suspending("a store that is closed with closeAsync waits for its connections", async () => {
  const lazy = filledStore(12);
  const connection = await heldConnection(lazy);
  const waits = connection.prepare(COUNT).then((statement) => statement.values());
  await untilHeld(lazy.storage);
  await turn();
  const closed = lazy.store.closeAsync();
  await releaseUntil(lazy.storage, waits);
  lazy.storage.holdsFetches = false;
  await releaseUntil(lazy.storage, closed);
  await closed;
  expect(await waits).toEqual([[2000, 2_001_000]]);
});

suspending("many who miss the same pages make one request for each", async () => {
  const single = filledStore(13);
  const alone = await heldConnection(single);
  single.storage.holdsFetches = false;
  single.storage.requests = 0;
  await count(alone);
  const expected = single.storage.requests;
  const lazy = filledStore(13);
  const connections = await Promise.all(Array.from({ length: 50 }, () => lazy.store.open("shop")));
  for (const connection of connections) await connection.prepare(COUNT);
  lazy.storage.hideAll();
  lazy.storage.holdsFetches = true;
  lazy.storage.requests = 0;
  const counts = Promise.all(connections.map(count));
  expect(await releaseUntil(lazy.storage, counts)).toBeLessThanOrEqual(2);
  expect(await counts).toEqual(connections.map(() => 2000));
  expect(lazy.storage.requests).toBeLessThanOrEqual(expected * 2);
});
