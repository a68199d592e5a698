/** Many who change one row: each commits after a bounded number of runs, whatever the others do. */
import { expect, test, vi } from "vitest";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import type { Transaction } from "../src/store/transaction.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";

const CLIENTS = 64;
/** Three runs without a lock, and one with it. */
const ATTEMPTS_MAX = 4;

function open(options: StoreOptions = {}): Store {
  const storage = new SimulatedStorage();
  const store = openStore("store", { backend: "memory", storage, ...options });
  store.createDatabase("shop");
  using connection = store.connect("shop");
  connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, count)");
  connection.exec("INSERT INTO item VALUES(1, 0)");
  return store;
}

function countOf(store: Store): unknown {
  using connection = store.connect("shop");
  return connection.prepare("SELECT count FROM item WHERE id = 1").pluck().get();
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function increment(tx: Transaction, between: () => Promise<void> | void): Promise<void> {
  const row = await tx.get<{ count: number }>("SELECT count FROM item WHERE id = 1");
  await between();
  await tx.run("UPDATE item SET count = ? WHERE id = 1", (row?.count ?? 0) + 1);
}

test("32 at once read, wait and write one row: nobody fails, nobody is run more than four times", async () => {
  await using store = open({ now: () => 1_800_000_000_000 });
  const attempts = await Promise.all(
    Array.from({ length: 32 }, () =>
      store.transact("shop", async (tx) => {
        await increment(tx, turn);
        return tx.attempt;
      }),
    ),
  );
  expect(countOf(store)).toBe(32);
  expect(Math.max(...attempts)).toBe(ATTEMPTS_MAX);
});

test.each(["concurrent", "deferred"] as const)(
  "clients that go on and on with one row: nobody fails (%s)",
  async (mode) => {
    await using store = open();
    const client = async (): Promise<void> => {
      for (let count = 0; count < 6; count++)
        await store.transact("shop", async (tx) => await increment(tx, turn), { mode });
    };
    await Promise.all(Array.from({ length: 12 }, client));
    expect(countOf(store)).toBe(6 * 12);
  },
);

test("64 awaited connections that change one row, each statement by itself: all changes are there", async () => {
  await using store = open();
  const client = async (): Promise<void> => {
    await using connection = await store.open("shop");
    const add = await connection.prepare("UPDATE item SET count = count + 1 WHERE id = 1");
    for (let count = 0; count < 2; count++) expect((await add.run()).changes).toBe(1);
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  expect(countOf(store)).toBe(2 * CLIENTS);
});

test("somebody comes in between each time: the fourth run holds the write lock, and commits", async () => {
  await using store = open();
  using other = store.connect("shop");
  const refused: number[] = [];
  const attempts: number[] = [];
  await store.transact("shop", async (tx) => {
    attempts.push(tx.attempt);
    await increment(tx, () => {
      try {
        other.exec("UPDATE item SET count = count + 100 WHERE id = 1");
      } catch (error) {
        expect(error).toMatchObject({ code: "SQLITE_BUSY" });
        refused.push(tx.attempt);
      }
    });
  });
  expect(attempts).toEqual([1, 2, 3, 4]);
  expect(refused).toEqual([4]);
  expect(countOf(store)).toBe(301);
});

test("others wait until that run has ended, and no longer", async () => {
  await using store = open();
  using other = store.connect("shop");
  const awaited = await store.open("shop");
  const order: string[] = [];
  let waiting: Promise<unknown> = Promise.resolve();
  await store.transact("shop", async (tx) => {
    await increment(tx, async () => {
      if (tx.attempt < ATTEMPTS_MAX) {
        other.exec("UPDATE item SET count = count + 100 WHERE id = 1");
        return;
      }
      waiting = awaited
        .exec("UPDATE item SET count = -count WHERE id = 1")
        .then(() => order.push("other"));
      for (let turns = 0; turns < 20; turns++) await turn();
      order.push("function");
    });
  });
  await waiting;
  expect(order).toEqual(["function", "other"]);
  expect(countOf(store)).toBe(-301);
});

test("a function that takes long is not run with the lock: others go on", async () => {
  let nowMs = 1_800_000_000_000;
  await using store = open({ now: () => nowMs });
  using other = store.connect("shop");
  let runs = 0;
  const failing = store.transact(
    "shop",
    async (tx) => {
      runs++;
      await increment(tx, () => {
        nowMs += 1001;
        other.exec("UPDATE item SET count = count + 100 WHERE id = 1");
      });
    },
    { retries: 6 },
  );
  await expect(failing).rejects.toMatchObject({ code: "SQLITE_BUSY_SNAPSHOT", attempts: 7 });
  expect([runs, countOf(store)]).toEqual([7, 700]);
});

test("a function that has waited for the lock in vain waits again, and is not run without it", async () => {
  await using store = open();
  using other = store.connect("shop");
  using holder = store.connect("shop");
  const attempts: number[] = [];
  const whileHeld: number[] = [];
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  try {
    const done = store.transact("shop", async (tx) => {
      attempts.push(tx.attempt);
      if (holder.inTransaction) whileHeld.push(tx.attempt);
      await increment(tx, () => {
        if (tx.attempt >= ATTEMPTS_MAX) return;
        other.exec("UPDATE item SET count = count + 100 WHERE id = 1");
        if (tx.attempt === ATTEMPTS_MAX - 1) holder.exec("BEGIN IMMEDIATE");
      });
    });
    // Three times as long as a statement waits.
    for (let seconds = 0; seconds < 16; seconds++) await vi.advanceTimersByTimeAsync(1000);
    expect(attempts).toEqual([1, 2, 3]);
    holder.exec("COMMIT");
    await vi.advanceTimersByTimeAsync(1000);
    await done;
  } finally {
    vi.useRealTimers();
  }
  expect([attempts.length, whileHeld]).toEqual([ATTEMPTS_MAX, []]);
  expect(countOf(store)).toBe(301);
});

test("a function that does not end while it holds the lock is left, and run again without it", async () => {
  await using store = open();
  using other = store.connect("shop");
  const attempts: number[] = [];
  await store
    .transact("shop", async (tx) => {
      attempts.push(tx.attempt);
      await increment(tx, async () => {
        if (tx.attempt < ATTEMPTS_MAX)
          other.exec("UPDATE item SET count = count + 100 WHERE id = 1");
        else if (tx.attempt === ATTEMPTS_MAX) await new Promise(() => {});
        else other.exec("CREATE TABLE IF NOT EXISTS free(id)"); // Nobody holds the lock.
      }).catch((error: unknown) => {
        expect(tx.attempt).toBe(ATTEMPTS_MAX);
        throw error;
      });
      if (tx.attempt === ATTEMPTS_MAX + 1) throw new Error("enough");
    })
    .catch((error: unknown) => expect(error).toMatchObject({ message: "enough" }));
  expect(attempts).toEqual([1, 2, 3, 4, 5]);
  expect(countOf(store)).toBe(300);
});

test("a function that waits for itself while it holds the lock is run again without it", async () => {
  await using store = open();
  using other = store.connect("shop");
  other.exec("CREATE TABLE note(text)");
  const refused: number[] = [];
  const attempts: number[] = [];
  await store.transact("shop", async (tx) => {
    attempts.push(tx.attempt);
    await increment(tx, () => {
      if (tx.attempt < ATTEMPTS_MAX) other.exec("UPDATE item SET count = count + 100 WHERE id = 1");
      try {
        other.exec("INSERT INTO note VALUES('of another connection')");
      } catch (error) {
        refused.push(tx.attempt);
        throw error;
      }
    });
  });
  expect([attempts, refused]).toEqual([[1, 2, 3, 4, 5], [4]]);
  expect(countOf(store)).toBe(301);
});

test("a statement by itself on a synchronous connection is never in conflict with a snapshot", async () => {
  const random = new Random(1);
  await using store = open();
  using one = store.connect("shop");
  using two = store.connect("shop");
  const add = one.prepare("UPDATE item SET count = count + 1 WHERE id = 1");
  const read = one.prepare("SELECT count FROM item WHERE id = 1").pluck();
  let expected = 0;
  for (let step = 0; step < 150; step++) {
    // What it has cached of the head before is old.
    if (random.chance(0.5)) expect(read.get()).toBe(expected);
    if (random.chance(0.5)) two.exec("UPDATE item SET count = count + 1 WHERE id = 1");
    else {
      const commit = random.chance(0.5);
      two.exec("BEGIN CONCURRENT; UPDATE item SET count = count + 1 WHERE id = 1");
      if (!commit) expect(add.run().changes).toBe(1);
      if (commit) two.exec("COMMIT");
      else expect(() => two.exec("COMMIT")).toThrow("another transaction has changed");
    }
    expected++;
    expect(add.run().changes).toBe(1);
    expected++;
    if (step % 50 === 0) store.checkpoint();
  }
  expect(countOf(store)).toBe(expected);
});
