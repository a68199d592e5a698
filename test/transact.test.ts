/** store.transact: functions in transactions, run again after conflicts. */
import { expect, test } from "vitest";
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import type { Transaction } from "../src/store/transaction.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";

function shop(options: StoreOptions = {}): Store {
  const storage = new SimulatedStorage();
  const store = openStore("store", { backend: "memory", storage, ...options });
  store.createDatabase("shop");
  using connection = store.connect("shop");
  connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, count)");
  connection.exec("INSERT INTO item VALUES(1, 0), (2, 0)");
  return store;
}

function countOf(store: Store, id: number): unknown {
  using connection = store.connect("shop");
  return connection.prepare("SELECT count FROM item WHERE id = ?").pluck().get(id);
}

async function increment(transaction: Transaction, id = 1): Promise<number> {
  const row = await transaction.get<{ count: number }>("SELECT count FROM item WHERE id = ?", id);
  const count = (row?.count ?? 0) + 1;
  await transaction.run("UPDATE item SET count = ? WHERE id = ?", count, id);
  return count;
}

/** Resolves when `count` callers have come. */
function barrier(count: number): () => Promise<void> {
  let missing = count;
  let open: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return async () => {
    if (--missing === 0) open();
    await opened;
  };
}

const never = new Promise<never>(() => {});

test("the value is returned when the commit is durable, and only then", async () => {
  const storage = new SimulatedStorage();
  const store = shop({ storage });
  const value = await store.transact("shop", async (transaction) => {
    expect(transaction.id).toMatch(/^[0-9a-f]{32}$/);
    const statement = await transaction.prepare<{ count: number }>("SELECT count FROM item");
    expect(await statement.all()).toHaveLength(2);
    await transaction.exec("INSERT INTO item VALUES(3, 30); INSERT INTO item VALUES(4, 40)");
    return await transaction.all("SELECT id FROM item WHERE count > ?", 0);
  });
  expect(value).toEqual([{ id: 3 }, { id: 4 }]);
  const after = storage.copyAfterCrash(new Random(1));
  const recovered = openStore("store", { backend: "memory", storage: after });
  expect(countOf(recovered, 4)).toBe(40);
});

test("two that read and write the same row: both increments are there", async () => {
  await using store = shop();
  const meet = barrier(2);
  const attempts: number[] = [];
  const one = (): Promise<number> =>
    store.transact("shop", async (transaction) => {
      const count = await increment(transaction);
      attempts.push(transaction.attempt);
      if (transaction.attempt === 1) await meet();
      return count;
    });
  expect(new Set(await Promise.all([one(), one()]))).toEqual(new Set([1, 2]));
  expect(attempts).toEqual([1, 1, 2]);
  expect(countOf(store, 1)).toBe(2);
});

test("sixty increments of one row by ten clients at once are all there", async () => {
  await using store = shop();
  const client = async (): Promise<void> => {
    for (let turn = 0; turn < 6; turn++)
      await store.transact("shop", async (transaction) => await increment(transaction), {
        retries: 1000,
      });
  };
  await Promise.all(Array.from({ length: 10 }, client));
  expect(countOf(store, 1)).toBe(60);
});

test("the last error says how often it was tried, and nothing is committed", async () => {
  await using store = shop();
  using other = store.connect("shop");
  let runs = 0;
  const failing = store.transact(
    "shop",
    async (transaction) => {
      runs++;
      await increment(transaction);
      other.exec("UPDATE item SET count = count - 1 WHERE id = 1");
    },
    { retries: 2 },
  );
  const error = await failing.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(SqliteError);
  expect(error).toMatchObject({ code: "SQLITE_BUSY_SNAPSHOT", retryable: true, attempts: 3 });
  expect(error).toMatchObject({ object: "item" });
  expect((error as Error).message).toContain("(tried 3 times)");
  expect(runs).toBe(3);
  expect(countOf(store, 1)).toBe(-3);
});

test("retries 0: the error as it is", async () => {
  await using store = shop();
  using other = store.connect("shop");
  const failing = store.transact(
    "shop",
    async (transaction) => {
      await increment(transaction);
      other.exec("UPDATE item SET count = count - 1 WHERE id = 1");
    },
    { retries: 0 },
  );
  await expect(failing).rejects.toMatchObject({ code: "SQLITE_BUSY_SNAPSHOT" });
  await expect(failing).rejects.not.toThrow("tried");
});

test("what the function throws rolls back and is thrown as it is, once", async () => {
  await using store = shop();
  const thrown = new Error("no");
  let runs = 0;
  const failing = store.transact("shop", async (transaction) => {
    runs++;
    await increment(transaction);
    throw thrown;
  });
  await expect(failing).rejects.toBe(thrown);
  await expect(
    store.transact("shop", async (tx) => await tx.run("INSERT INTO item VALUES(1, 1)")),
  ).rejects.toMatchObject({ code: "SQLITE_CONSTRAINT_PRIMARYKEY" });
  expect(runs).toBe(1);
  expect(countOf(store, 1)).toBe(0);
});

test("a conflict with a plain writer: run again when that one has ended", async () => {
  await using store = shop();
  const writer = await store.open("shop");
  await writer.exec("BEGIN IMMEDIATE; UPDATE item SET count = 5 WHERE id = 1");
  const attempts: number[] = [];
  const waiting = store.transact("shop", async (transaction) => {
    attempts.push(transaction.attempt);
    return await increment(transaction);
  });
  while (attempts.length === 0) await new Promise((resolve) => setImmediate(resolve));
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  await writer.exec("COMMIT");
  expect(await waiting).toBe(6);
  expect(attempts).toEqual([1, 2]);
});

test.each(["deferred", "immediate", "exclusive"] as const)("mode %s", async (mode) => {
  await using store = shop();
  const increments = Array.from({ length: 8 }, () =>
    store.transact("shop", async (transaction) => await increment(transaction), {
      mode,
      retries: 1000,
    }),
  );
  await Promise.all(increments);
  expect(countOf(store, 1)).toBe(8);
});

test("readonly: writes are refused, and it reads one version", async () => {
  await using store = shop();
  using other = store.connect("shop");
  const options = { readonly: true };
  const read = store.transact(
    "shop",
    async (transaction) => {
      const before = await transaction.get("SELECT sum(count) AS sum FROM item");
      other.exec("UPDATE item SET count = 7");
      return [before, await transaction.get("SELECT sum(count) AS sum FROM item")];
    },
    options,
  );
  expect(await read).toEqual([{ sum: 0 }, { sum: 0 }]);
  await expect(store.transact("shop", async (tx) => await increment(tx), options)).rejects.toThrow(
    /read-?only/,
  );
});

test("a fixed version can be read in a transaction", async () => {
  await using store = shop();
  const [head] = store.database("shop").branch("main").log();
  await store.transact("shop", async (transaction) => await increment(transaction));
  const old = await store.transact(`shop@${head!.version}`, async (transaction) =>
    transaction.get("SELECT count FROM item WHERE id = 1"),
  );
  expect(old).toEqual({ count: 0 });
});

test("a function that never settles: the signal rolls back, and its calls are refused from then on", async () => {
  await using store = shop();
  const controller = new AbortController();
  const reason = new Error("given up");
  let left: Transaction | null = null;
  const failing = store.transact(
    "shop",
    async (transaction) => {
      left = transaction;
      await increment(transaction);
      controller.abort(reason);
      return await never;
    },
    { signal: controller.signal },
  );
  await expect(failing).rejects.toBe(reason);
  await expect(left!.run("DELETE FROM item")).rejects.toThrow("it has ended");
  expect(countOf(store, 1)).toBe(0);
  expect(await store.transact("shop", async (transaction) => await increment(transaction))).toBe(1);
});

test("a time limit does the same", async () => {
  await using store = shop();
  const failing = store.transact(
    "shop",
    async (transaction) => {
      await increment(transaction);
      return await never;
    },
    { timeoutMs: 20 },
  );
  await expect(failing).rejects.toMatchObject({ code: "TIMEOUT", retryable: true });
  expect(countOf(store, 1)).toBe(0);
});

test("a signal that is aborted before: nothing runs", async () => {
  await using store = shop();
  const reason = new Error("early");
  let runs = 0;
  const failing = store.transact("shop", () => void runs++, { signal: AbortSignal.abort(reason) });
  await expect(failing).rejects.toBe(reason);
  expect(runs).toBe(0);
});

test("a transaction within another one's function is refused; after it, it is not", async () => {
  await using store = shop();
  let later: Promise<number> = Promise.resolve(0);
  const meet = barrier(2);
  await store.transact("shop", async (transaction) => {
    await expect(store.transact("shop", async (tx) => await increment(tx, 2))).rejects.toThrow(
      "Cannot run a transaction within the function of another one",
    );
    later = meet().then(() => store.transact("shop", async (tx) => await increment(tx, 2)));
    await increment(transaction);
  });
  await meet();
  expect(await later).toBe(1);
  expect([countOf(store, 1), countOf(store, 2)]).toEqual([1, 1]);
});

test("a statement that outlives its transaction is refused", async () => {
  await using store = shop();
  const statement = await store.transact(
    "shop",
    async (transaction) => await transaction.prepare("UPDATE item SET count = 9"),
  );
  await expect(statement.run()).rejects.toThrow("its transaction has ended");
  expect(countOf(store, 1)).toBe(0);
});

test("calls from outside of the function's own flow belong to the transaction all the same", async () => {
  await using store = shop();
  let give: (transaction: Transaction) => void;
  const given = new Promise<Transaction>((resolve) => (give = resolve));
  const outside = given.then(async (transaction) => await increment(transaction));
  await store
    .transact("shop", async (transaction) => {
      give(transaction);
      await outside;
      throw new Error("rolled back");
    })
    .catch(() => {});
  expect(countOf(store, 1)).toBe(0);
});

test("calls that the function did not await are part of the commit", async () => {
  await using store = shop();
  await store.transact("shop", (transaction) => {
    void transaction.run("UPDATE item SET count = 3 WHERE id = 1");
  });
  expect(countOf(store, 1)).toBe(3);
});

test("a pragma or a temporary table of one transaction is not seen by the next one", async () => {
  await using store = shop();
  await store.transact("shop", async (transaction) => {
    await transaction.exec("CREATE TEMP TABLE left_behind(a); PRAGMA cache_size = 17");
  });
  const after = await store.transact("shop", async (transaction) => [
    await transaction.all("SELECT name FROM temp.sqlite_schema"),
    (await transaction.get<{ cache_size: number }>("PRAGMA cache_size"))?.cache_size,
  ]);
  expect(after).toEqual([[], -16000]);
});

test("a branch made anew under the same name is another one", async () => {
  await using store = shop();
  const database = store.database("shop");
  database.createBranch("dev");
  await store.transact("shop/dev", async (transaction) => await increment(transaction));
  database.branch("dev").delete();
  database.createBranch("dev");
  const count = await store.transact("shop/dev", async (tx) => await increment(tx));
  expect(count).toBe(1);
});

test("64 transactions at once find the connections of the 64 before them, whose commits are durable together", async () => {
  const store = shop();
  const round = async <T>(body: (transaction: Transaction) => Promise<T>): Promise<T[]> => {
    const together = barrier(64);
    const run = (): Promise<T> =>
      store.transact(
        "shop",
        async (transaction) => {
          await together();
          return await body(transaction);
        },
        { retries: 1000 },
      );
    return await Promise.all(Array.from({ length: 64 }, run));
  };
  await round((transaction) => transaction.run("INSERT INTO item(count) VALUES(1)"));
  // Of the connection, since it was opened.
  const changes = await round((transaction) =>
    transaction.get<{ count: number }>("SELECT total_changes() AS count"),
  );
  expect(changes.filter((row) => (row?.count ?? 0) > 0)).toHaveLength(64);
  await store.closeAsync();
});

test("200 transactions at once share 64 connections", async () => {
  await using store = shop();
  const all = Array.from({ length: 200 }, (_, index) =>
    store.transact(
      "shop",
      async (transaction) => {
        await transaction.run("INSERT INTO item VALUES(?, 0)", index + 10);
      },
      { retries: 1000 },
    ),
  );
  await Promise.all(all);
  using connection = store.connect("shop");
  expect(connection.prepare("SELECT count(*) FROM item").pluck().get()).toBe(202);
  expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
});

test("a closed store refuses; one that closes waits for what runs", async () => {
  const store = shop();
  const started = barrier(2);
  const running = store.transact("shop", async (transaction) => {
    await started();
    return await increment(transaction);
  });
  await started();
  const closing = store.closeAsync();
  await expect(store.transact("shop", async () => {})).rejects.toMatchObject({
    code: "STORE_CLOSED",
  });
  expect(await running).toBe(1);
  await closing;
  await expect(store.transact("shop", async () => {})).rejects.toMatchObject({
    code: "STORE_CLOSED",
  });
});

test("a commit whose flush fails is not run again", async () => {
  const storage = new SimulatedStorage();
  const store = shop({ storage });
  let runs = 0;
  const failing = store.transact("shop", async (transaction) => {
    runs++;
    await increment(transaction);
    storage.failAt({ kinds: ["write", "sync"], count: 1, systemCode: "EIO", forever: true });
  });
  await expect(failing).rejects.toMatchObject({ code: "IO" });
  expect(runs).toBe(1);
});

test("options that make no sense are refused", async () => {
  await using store = shop();
  const body = (): void => {};
  await expect(store.transact("shop", body, { retries: -1 })).rejects.toThrow(RangeError);
  await expect(store.transact("shop", body, { timeoutMs: 0 })).rejects.toThrow(RangeError);
  await expect(store.transact("shop", body, { mode: "fast" as never })).rejects.toThrow(TypeError);
  await expect(store.transact("none", body)).rejects.toMatchObject({ code: "DATABASE_NOT_FOUND" });
});
