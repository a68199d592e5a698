/** Awaited connections that want to write while another one does: they wait their turn, first come, first served. */
import { expect, test } from "vitest";
import type { ConnectOptions } from "../src/store/session.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";

function shop(): Store {
  const store = openStore("store", { backend: "memory", storage: new SimulatedStorage() });
  store.createDatabase("shop");
  using connection = store.connect("shop");
  connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, note)");
  return store;
}

async function ids(store: Store, options: ConnectOptions = {}): Promise<unknown[]> {
  await using connection = await store.open("shop", options);
  return await (await connection.prepare("SELECT id FROM item ORDER BY id")).pluck().all();
}

const busy = expect.objectContaining({ code: "SQLITE_BUSY" });

test("a statement that meets a writer waits until that one has committed", async () => {
  await using store = shop();
  const writer = await store.open("shop");
  const other = await store.open("shop");
  await writer.exec("BEGIN IMMEDIATE; INSERT INTO item VALUES(1, 'first')");
  const insert = await other.prepare("INSERT INTO item VALUES((SELECT max(id) FROM item) + 1, ?)");
  const waiting = insert.run("second");
  await writer.exec("COMMIT");
  expect((await waiting).lastInsertRowid).toBe(2);
});

test.each(["exec", "run", "all", "pragma"])(
  "%s waits, and goes on after a rollback",
  async (how) => {
    await using store = shop();
    const writer = await store.open("shop");
    const other = await store.open("shop");
    await writer.exec("BEGIN IMMEDIATE");
    const calls: Record<string, () => Promise<unknown>> = {
      exec: () => other.exec("INSERT INTO item VALUES(1, 'a'); INSERT INTO item VALUES(2, 'b')"),
      run: async () =>
        await (await other.prepare("INSERT INTO item VALUES(1, 'a'), (2, 'b')")).run(),
      all: async () =>
        await (await other.prepare("INSERT INTO item VALUES(1, 'a'), (2, 'b') RETURNING id")).all(),
      pragma: async () => {
        await other.pragma("user_version = 7");
        await other.exec("INSERT INTO item VALUES(1, 'a'), (2, 'b')");
      },
    };
    const waiting = calls[how]!();
    await writer.exec("ROLLBACK");
    await waiting;
    expect(await ids(store)).toEqual([1, 2]);
  },
);

test("BEGIN IMMEDIATE of twenty connections: each in its turn, in the order in which they asked", async () => {
  await using store = shop();
  const writer = await store.open("shop");
  await writer.exec("BEGIN IMMEDIATE");
  const order: number[] = [];
  const started: Promise<void>[] = [];
  for (let index = 0; index < 20; index++) {
    const connection = await store.open("shop");
    started.push(
      connection.transaction(
        async () => {
          order.push(index);
          await connection.exec(`INSERT INTO item VALUES(${index}, 'x')`);
        },
        { mode: "immediate" },
      ),
    );
    await Promise.resolve();
  }
  await writer.exec("COMMIT");
  await Promise.all(started);
  expect(order).toEqual([...Array(20).keys()]);
  expect(await ids(store)).toHaveLength(20);
});

test("one that comes back at once does not overtake those that wait", async () => {
  await using store = shop();
  const [greedy, patient] = [await store.open("shop"), await store.open("shop")];
  await greedy.exec("BEGIN IMMEDIATE");
  const order: string[] = [];
  const turn = patient.transaction(() => void order.push("patient"), { mode: "immediate" });
  const again = greedy
    .exec("COMMIT")
    .then(() => greedy.transaction(() => void order.push("greedy"), { mode: "immediate" }));
  await Promise.all([turn, again]);
  expect(order).toEqual(["patient", "greedy"]);
});

test("a synchronous connection writes in between, and those who wait go on waiting", async () => {
  await using store = shop();
  const [first, second] = [await store.open("shop"), await store.open("shop")];
  using sync = store.connect("shop");
  sync.exec("BEGIN IMMEDIATE");
  const sql = "INSERT INTO item VALUES((SELECT count(*) FROM item) + 1, ?)";
  const waiting = [first, second].map(async (connection, index) => {
    await (await connection.prepare(sql)).run(index);
  });
  for (let turn = 0; turn < 3; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
    // In one turn of the event loop: the first of those who wait is woken, and finds the lock taken again.
    sync.exec(`INSERT INTO item VALUES(${turn + 1}, 'sync'); COMMIT; BEGIN IMMEDIATE`);
  }
  sync.exec("COMMIT");
  await Promise.all(waiting);
  const notes = sync.prepare("SELECT note FROM item ORDER BY id").pluck().all();
  expect(notes).toEqual(["sync", "sync", "sync", 0, 1]);
});

test("SQLITE_BUSY when the time is over; the queue goes on for the others", async () => {
  await using store = shop();
  const writer = await store.open("shop");
  const hasty = await store.open("shop", { busyTimeoutMs: 1 });
  const never = await store.open("shop", { busyTimeoutMs: 0 });
  const patient = await store.open("shop");
  await writer.exec("BEGIN IMMEDIATE");
  const late = expect(hasty.exec("INSERT INTO item VALUES(1, 'hasty')")).rejects.toEqual(busy);
  const waiting = patient.exec("INSERT INTO item VALUES(2, 'patient')");
  await expect(never.exec("INSERT INTO item VALUES(3, 'never')")).rejects.toEqual(busy);
  await late;
  await writer.exec("COMMIT");
  await waiting;
  expect(await ids(store)).toEqual([2]);
});

test("a signal ends the wait with its reason", async () => {
  await using store = shop();
  const [writer, other] = [await store.open("shop"), await store.open("shop")];
  await writer.exec("BEGIN IMMEDIATE");
  const controller = new AbortController();
  const waiting = other.exec("INSERT INTO item VALUES(1, 'x')", { signal: controller.signal });
  await new Promise((resolve) => setImmediate(resolve));
  const reason = new Error("given up");
  controller.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  await writer.exec("COMMIT");
  await other.exec("INSERT INTO item VALUES(2, 'y')");
  expect(await ids(store)).toEqual([2]);
});

test("a transaction that has read its snapshot does not wait: it could not write behind the other commit", async () => {
  await using store = shop();
  const [writer, reader] = [await store.open("shop"), await store.open("shop")];
  await reader.exec("BEGIN; SELECT * FROM item");
  await writer.exec("BEGIN IMMEDIATE");
  await expect(reader.exec("INSERT INTO item VALUES(1, 'x')")).rejects.toEqual(busy);
  await writer.exec("INSERT INTO item VALUES(2, 'x'); COMMIT");
  await expect(reader.exec("INSERT INTO item VALUES(1, 'x')")).rejects.toMatchObject({
    code: "SQLITE_BUSY_SNAPSHOT",
  });
  await reader.exec("ROLLBACK; INSERT INTO item VALUES(1, 'x')");
  expect(await ids(store)).toEqual([1, 2]);
});

test("a deferred transaction whose first statement writes waits", async () => {
  await using store = shop();
  const [writer, other] = [await store.open("shop"), await store.open("shop")];
  await writer.exec("BEGIN IMMEDIATE; INSERT INTO item VALUES(1, 'x')");
  const waiting = other.transaction(async () => {
    await other.exec("INSERT INTO item VALUES((SELECT max(id) FROM item) + 1, 'y')");
  });
  await writer.exec("COMMIT");
  await waiting;
  expect(await ids(store)).toEqual([1, 2]);
});

test("one that waits and fails for another reason lets the next one go", async () => {
  await using store = shop();
  const [writer, failing, other] = [
    await store.open("shop"),
    await store.open("shop"),
    await store.open("shop"),
  ];
  await writer.exec("BEGIN IMMEDIATE; INSERT INTO item VALUES(1, 'x')");
  const failed = expect(failing.exec("INSERT INTO item VALUES(1, 'twice')")).rejects.toMatchObject({
    code: "SQLITE_CONSTRAINT_PRIMARYKEY",
  });
  const waiting = other.exec("INSERT INTO item VALUES(2, 'y')");
  await writer.exec("COMMIT");
  await Promise.all([failed, waiting]);
  expect(await ids(store)).toEqual([1, 2]);
});

test("an option that is no time is refused", async () => {
  await using store = shop();
  await expect(store.open("shop", { busyTimeoutMs: -1 })).rejects.toThrow(
    'Option "busyTimeoutMs": -1 is not a number of milliseconds',
  );
});
