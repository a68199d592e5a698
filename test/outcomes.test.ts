/** Outcomes of transactions by id: what is said of them is what the data shows, after any crash. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { Table } from "../src/catalog/catalog.ts";
import { WriteBatch } from "../src/catalog/key-value.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedCrash } from "../src/testing/simulated-faults.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SMALL_STORE } from "./store-workload.ts";

const HOUR_MS = 3_600_000;
const isLong = process.env["BOUGH_TEST_LONG"] === "1";

interface World {
  storage: SimulatedStorage;
  nowMs: number;
}

function newWorld(): World {
  return { storage: new SimulatedStorage(), nowMs: 1_800_000_000_000 };
}

function open(world: World, options: StoreOptions = {}): Store {
  const { storage } = world;
  return openStore("store", {
    ...SMALL_STORE,
    gc: "off",
    now: () => world.nowMs,
    ...options,
    storage,
  });
}

function shop(world: World, options: StoreOptions = {}): Store {
  const store = open(world, options);
  store.createDatabase("shop");
  using connection = store.connect("shop");
  connection.exec("CREATE TABLE done(id TEXT PRIMARY KEY)");
  return store;
}

function idOf(index: number): string {
  return index.toString(16).padStart(32, "0");
}

async function commit(store: Store, id: string): Promise<void> {
  await store.transact(
    "shop",
    async (tx) => void (await tx.run("INSERT INTO done VALUES(?)", id)),
    {
      id,
    },
  );
}

function done(store: Store): unknown[] {
  using connection = store.connect("shop");
  return connection.prepare("SELECT id FROM done ORDER BY id").pluck().all();
}

test("committed, with database, version and time; not committed; another time refused", async () => {
  const world = newWorld();
  await using store = shop(world);
  const id = randomUUID();
  expect(store.outcome(id)).toEqual({
    committed: false,
    since: new Date(world.nowMs - 24 * HOUR_MS),
  });
  world.nowMs += 5;
  const given = await store.transact(
    "shop",
    async (tx) => {
      expect(store.outcome(id)).toEqual({ committed: null, reason: "running" });
      await tx.run("INSERT INTO done VALUES(?)", tx.id);
      return tx.id;
    },
    { id: id.toUpperCase() },
  );
  expect(given).toBe(id.replaceAll("-", ""));
  const version = store.database("shop").branch("main").head.version;
  const yes = { committed: true, database: "shop", version, at: new Date(world.nowMs) };
  expect(store.outcome(id)).toEqual(yes);
  let runs = 0;
  const again = store.transact("shop", () => void runs++, { id });
  await expect(again).rejects.toMatchObject({
    code: "ALREADY_COMMITTED",
    retryable: false,
    details: { version },
  });
  expect(runs).toBe(0);
  store.database("shop").rename("shop2");
  expect(store.outcome(id)).toEqual({ ...yes, database: "shop2" });
});

test("a random id can be asked for as well", async () => {
  await using store = shop(newWorld());
  const id = await store.transact("shop", async (tx) => {
    await tx.run("INSERT INTO done VALUES('x')");
    return tx.id;
  });
  expect(store.outcome(id)).toMatchObject({ committed: true });
});

test("what failed, was given up or wrote nothing has not committed", async () => {
  await using store = shop(newWorld());
  const failing = store.transact(
    "shop",
    async (tx) => {
      await tx.run("INSERT INTO done VALUES('x')");
      throw new Error("no");
    },
    { id: idOf(1) },
  );
  await expect(failing).rejects.toThrow("no");
  await store.transact("shop", async (tx) => await tx.all("SELECT * FROM done"), { id: idOf(2) });
  for (const index of [1, 2]) expect(store.outcome(idOf(index)).committed).toBe(false);
  await commit(store, idOf(1));
  expect(store.outcome(idOf(1)).committed).toBe(true);
});

test("two requests with one id at the same time: one commits, the other one is refused", async () => {
  await using store = shop(newWorld());
  const both = await Promise.allSettled(
    [1, 2].map((value) =>
      store.transact(
        "shop",
        async (tx) => void (await tx.run("INSERT INTO done VALUES(?)", `value ${value}`)),
        { id: idOf(7) },
      ),
    ),
  );
  expect(both.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  const failed = both.find((result) => result.status === "rejected");
  expect(failed?.reason).toMatchObject({ code: "ALREADY_COMMITTED" });
  expect(done(store)).toHaveLength(1);
});

test("a transaction that commits twice by its own SQL is refused the second time", async () => {
  await using store = shop(newWorld());
  const twice = store.transact(
    "shop",
    async (tx) => {
      await tx.exec("INSERT INTO done VALUES('first'); COMMIT; BEGIN");
      await tx.exec("INSERT INTO done VALUES('second')");
    },
    { id: idOf(1) },
  );
  await expect(twice).rejects.toMatchObject({ code: "ALREADY_COMMITTED" });
  expect(done(store)).toEqual(["first"]);
});

test("plain commits of the same connection afterwards have no id", async () => {
  await using store = shop(newWorld());
  await commit(store, idOf(1));
  await commit(store, idOf(2));
  expect(done(store)).toHaveLength(2);
  expect([1, 2].map((index) => store.outcome(idOf(index)).committed)).toEqual([true, true]);
});

test.each([false, true])(
  "known after the store was opened again (checkpointed: %s)",
  async (checkpointed) => {
    const world = newWorld();
    const store = shop(world);
    for (let index = 0; index < 300; index++) await commit(store, idOf(index));
    if (checkpointed) store.checkpoint();
    await commit(store, idOf(300));
    const before = store.outcome(idOf(150));
    world.storage = world.storage.copyAfterCrash(new Random(1));
    await using again = open(world);
    expect(again.outcome(idOf(150))).toEqual(before);
    for (const index of [0, 127, 128, 299, 300])
      expect(again.outcome(idOf(index)), String(index)).toMatchObject({ committed: true });
    await expect(commit(again, idOf(3))).rejects.toMatchObject({ code: "ALREADY_COMMITTED" });
    expect((await again.check()).problems).toEqual([]);
  },
);

test("kept for the window; then unknown to who says when it began, and dropped from the catalog", async () => {
  const world = newWorld();
  const store = shop(world, { outcomeWindowMs: HOUR_MS });
  const startedAt = new Date(world.nowMs);
  await commit(store, idOf(1));
  store.checkpoint();
  world.nowMs += HOUR_MS / 2;
  await commit(store, idOf(2));
  store.checkpoint();
  expect(store.outcome(idOf(1)).committed).toBe(true);
  world.nowMs += HOUR_MS / 2 + 1;
  await commit(store, idOf(3));
  store.checkpoint();
  expect(store.outcome(idOf(1), { startedAt })).toEqual({ committed: null, reason: "expired" });
  expect(store.outcome(idOf(1))).toMatchObject({ committed: false });
  expect(store.outcome(idOf(2)).committed).toBe(true);
  const { catalog } = store.engine.state;
  expect(
    [...catalog.outcomeRuns()].flatMap((run) => run.transactions ?? []).map(({ id }) => id),
  ).toEqual([idOf(2), idOf(3)]);
  store.close();
  await using again = open(world, { outcomeWindowMs: HOUR_MS });
  expect(again.outcome(idOf(1), { startedAt })).toEqual({ committed: null, reason: "expired" });
  expect(again.outcome(idOf(2)).committed).toBe(true);
});

test("no more than outcomesMax: the oldest go, and are unknown, also after the store was opened again", async () => {
  const world = newWorld();
  const store = shop(world, { outcomesMax: 3 });
  const startedAt = new Date(world.nowMs);
  for (let index = 0; index < 5; index++) {
    world.nowMs += 10;
    await commit(store, idOf(index));
    if (index % 2 === 0) store.checkpoint();
  }
  const answers = (asked: Store): unknown[] =>
    [0, 1, 2, 3, 4].map((index) => asked.outcome(idOf(index), { startedAt }).committed);
  expect(answers(store)).toEqual([null, null, true, true, true]);
  store.close();
  await using again = open(world, { outcomesMax: 3 });
  expect(answers(again)).toEqual([null, null, true, true, true]);
  expect(again.engine.state.outcomes.size).toBe(3);
});

test("what is not durable yet is made so before it is called committed", async () => {
  const world = newWorld();
  const store = shop(world);
  const options = { id: idOf(1), durability: "off" } as const;
  await store.transact(
    "shop",
    async (tx) => void (await tx.run("INSERT INTO done VALUES('x')")),
    options,
  );
  expect(store.outcome(idOf(1)).committed).toBe(true);
  world.storage = world.storage.copyAfterCrash(new Random(1));
  expect(done(open(world))).toEqual(["x"]);
});

test("ids that are none are refused", async () => {
  await using store = shop(newWorld());
  for (const id of ["", "abc", "g".repeat(32), 7 as never]) {
    expect(() => store.outcome(id)).toThrow(TypeError);
    await expect(store.transact("shop", () => {}, { id })).rejects.toThrow(TypeError);
  }
});

test("a damaged row: the store opens, says that it does not know, and a check says why", async () => {
  const world = newWorld();
  const store = shop(world);
  const startedAt = new Date(world.nowMs);
  await commit(store, idOf(1));
  store.checkpoint();
  await commit(store, idOf(2));
  store.checkpoint();
  const { catalog } = store.engine.state;
  const range = { start: Uint8Array.of(Table.outcome), end: Uint8Array.of(Table.outcome + 1) };
  const [row] = [...catalog.store.range(range)];
  const batch = new WriteBatch();
  const damaged = Uint8Array.from(row!.value);
  damaged[20]! ^= 1;
  batch.put(Uint8Array.from(row!.key), damaged);
  catalog.store.commit(batch);
  store.close();
  world.nowMs += 10;
  const again = open(world);
  expect(again.outcome(idOf(1), { startedAt })).toEqual({ committed: null, reason: "expired" });
  expect(again.outcome(idOf(2)).committed).toBe(true);
  expect((await again.check()).problems.map(({ code }) => code)).toEqual(["CORRUPT_CATALOG"]);
  world.nowMs += 25 * HOUR_MS;
  await commit(again, idOf(3));
  again.checkpoint();
  expect((await again.check()).problems).toEqual([]);
  again.close();
});

/** Clients of two at a time, checkpoints in between; until a crash, or to the end. */
async function work(world: World, acknowledged: Set<string>): Promise<void> {
  const store = shop(world, { outcomeWindowMs: HOUR_MS });
  for (let round = 0; round < 4; round++) {
    const ids = [idOf(2 * round), idOf(2 * round + 1)];
    await Promise.all(
      ids.map(async (id) => {
        await commit(store, id);
        acknowledged.add(id);
      }),
    );
    if (round % 2 === 1) store.checkpoint();
  }
  await store.closeAsync();
}

test("a crash at every write: an outcome is what the data shows, and what was acknowledged has committed", async () => {
  const kinds = [
    "write",
    "sync",
    "create",
    "rename",
    "delete",
    "truncate",
    "syncDirectory",
  ] as const;
  const whole = newWorld();
  await work(whole, new Set());
  const count = whole.storage.countOf(...kinds);
  let crashes = 0;
  const stride = isLong ? 1 : Math.ceil(count / 60);
  for (let at = 1; at <= count; at += stride) {
    const world = newWorld();
    const acknowledged = new Set<string>();
    world.storage.crashAt({ kinds, count: at });
    try {
      await work(world, acknowledged);
    } catch (error) {
      if (!world.storage.isCrashed) throw error;
      expect([error, error instanceof Error ? error.cause : null]).toContainEqual(
        expect.any(SimulatedCrash),
      );
      crashes++;
    }
    world.storage = world.storage.copyAfterCrash(new Random(at));
    const store = open(world, { outcomeWindowMs: HOUR_MS });
    if (!store.databases().some(({ name }) => name === "shop")) {
      expect(acknowledged.size).toBe(0);
      continue;
    }
    let rows: unknown[] = [];
    try {
      rows = done(store);
    } catch {
      expect(acknowledged.size).toBe(0); // The table is not there yet.
    }
    for (let index = 0; index < 8; index++) {
      const id = idOf(index);
      const outcome = store.outcome(id).committed;
      expect(outcome, `crash at ${at}, ${id}`).toBe(rows.includes(id));
      if (acknowledged.has(id)) expect(outcome, `crash at ${at}, ${id}`).toBe(true);
      if (outcome === true)
        await expect(commit(store, id)).rejects.toMatchObject({ code: "ALREADY_COMMITTED" });
    }
    store.close();
  }
  expect(crashes).toBeGreaterThan(20);
});
