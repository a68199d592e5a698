/** What a store with threads and one without must do alike: cases that note what they see, for comparison. */
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
import { StoreError } from "../src/errors.ts";
import type { CallLimits } from "../src/sqlite/async-calls.ts";
import type { TransactionOptions } from "../src/sqlite/async-connection.ts";
import type { ColumnDefinition, RunResult } from "../src/sqlite/statement.ts";
import type { ConnectOptions } from "../src/store/session.ts";
import type { TransactOptions } from "../src/store/transact.ts";
import type { Outcome } from "../src/store/outcome.ts";

export interface SharedStatement {
  readonly source: string;
  readonly reader: boolean;
  readonly readonly: boolean;
  run(...values: unknown[]): Promise<RunResult>;
  get(...values: unknown[]): Promise<unknown>;
  all(...values: unknown[]): Promise<unknown[]>;
  values(...values: unknown[]): Promise<unknown[][]>;
  iterate(...values: unknown[]): AsyncIterableIterator<unknown>;
  columns(): Promise<ColumnDefinition[]>;
  pluck(enabled?: boolean): this;
  raw(enabled?: boolean): this;
  expand(enabled?: boolean): this;
  safeIntegers(enabled?: boolean): this;
  with(limits: CallLimits): SharedStatement;
}

export interface SharedConnection {
  readonly open: boolean;
  readonly inTransaction: boolean;
  readonly name: string;
  readonly readonly: boolean;
  prepare(sql: string, limits?: CallLimits): Promise<SharedStatement>;
  exec(sql: string, limits?: CallLimits): Promise<void>;
  pragma(source: string, options?: { readonly simple?: boolean }): Promise<unknown>;
  transaction<T>(body: () => Promise<T> | T, options?: TransactionOptions): Promise<T>;
  defaultSafeIntegers(enabled?: boolean): this;
  interrupt(): void;
  close(): Promise<void>;
}

export interface SharedTransaction {
  readonly id: string;
  readonly attempt: number;
  prepare(sql: string): Promise<SharedStatement>;
  run(sql: string, ...values: unknown[]): Promise<RunResult>;
  get(sql: string, ...values: unknown[]): Promise<unknown>;
  all(sql: string, ...values: unknown[]): Promise<unknown[]>;
  exec(sql: string): Promise<void>;
}

export interface SharedStore {
  open(
    revision: string,
    options?: ConnectOptions & { readonly signal?: AbortSignal },
  ): Promise<SharedConnection>;
  transact<T>(
    revision: string,
    body: (transaction: SharedTransaction) => Promise<T> | T,
    options?: TransactOptions,
  ): Promise<T>;
  outcome(id: string): Outcome | Promise<Outcome>;
}

export type Note = (...facts: unknown[]) => void;
export type Case = (store: SharedStore, note: Note) => Promise<void>;

/** What an error is to a program. */
function facts(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { constructor, name, message, cause } = error;
  return {
    // Classes of its own under StoreError are inside of bough.
    class: error instanceof StoreError ? "StoreError" : constructor.name,
    name,
    message,
    ...(error instanceof StoreError
      ? { code: error.code, retryable: error.retryable, details: error.details }
      : {}),
    ...(error instanceof SqliteError
      ? { ...error, code: error.code, retryable: error.retryable, cause: facts(cause) }
      : {}),
  };
}

/** Comparing much text byte by byte takes long. */
function brief(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return ["blob", value.length, value.toString("hex", 0, 40)];
  return typeof value === "string" && value.length > 100 ? [value.length, value.slice(-20)] : value;
}

export async function failureOf(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return facts(error);
  }
  return "no error";
}

/** On a database "shop" with table item(id, name, count), which has three rows. */
async function shop(store: SharedStore, options?: ConnectOptions): Promise<SharedConnection> {
  return await store.open("shop", options);
}

export const SHOP_SCHEMA = `
  CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, count INTEGER);
  CREATE TABLE kept(value);
  INSERT INTO item VALUES (1, 'hat', 10), (2, 'shoe', 20), (3, 'sock', 30)`;

const ENDLESS =
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

class Point {
  readonly x = 1;
}

const id = (digit: string): string => digit.repeat(32);
const never = new Promise<never>(() => {});

export const CASES: Readonly<Record<string, Case>> = {
  "rows in all their shapes": async (store, note) => {
    const connection = await shop(store);
    const all = await connection.prepare("SELECT * FROM item ORDER BY id");
    note(all.source, all.reader, all.readonly, await all.columns());
    note(await all.all(), await all.get(), await all.values());
    note(await all.pluck().all(), await all.get(), await all.raw().all(), await all.expand().all());
    note(await all.expand(false).get(), await all.safeIntegers().all());
    const copy = all.with({ timeoutMs: 10_000 }).pluck();
    note(await copy.all(), await all.get());
    connection.defaultSafeIntegers();
    const later = await connection.prepare("SELECT count FROM item");
    note(await later.all(), await connection.pragma("page_count", { simple: true }));
    connection.defaultSafeIntegers(false);
    note(await connection.pragma("table_info(item)"), await connection.pragma("page_size"));
    const insert = await connection.prepare("INSERT INTO item(name) VALUES (?) RETURNING id, name");
    note(insert.reader, insert.readonly, await insert.all("tie"), await insert.get("bow"));
    note(await failureOf(() => connection.pragma(5 as unknown as string)));
  },

  "calls that are made before an answer keep their shapes": async (store, note) => {
    const connection = await shop(store);
    const statement = await connection.prepare("SELECT id, name FROM item WHERE id = ?");
    const answers = [statement.get(1)];
    statement.pluck();
    answers.push(statement.get(2));
    statement.raw();
    answers.push(statement.get(3));
    note(await Promise.all(answers));
  },

  "values of all types go there and back": async (store, note) => {
    const connection = await shop(store);
    const insert = await connection.prepare("INSERT INTO kept VALUES (?)");
    const large = Buffer.alloc(300_000, "large");
    const values = [
      1,
      -1.5,
      2 ** 53,
      12n,
      "text",
      "täxt 😀",
      "",
      null,
      undefined,
      Buffer.from("blob"),
      Buffer.alloc(0),
      large,
      new Uint8Array([1, 2, 3]).subarray(1),
      new Float64Array([1]),
      "long ".repeat(50_000),
    ];
    for (const value of values) note(await insert.run(value));
    note(large.length, large[299_999]);
    const rows = await connection.prepare("SELECT value FROM kept ORDER BY rowid");
    const back = await rows.pluck().all();
    note(
      back.map(brief),
      back.map((value) => Buffer.isBuffer(value)),
    );
    const big = await connection.prepare("SELECT value, value AS again FROM kept WHERE rowid = 12");
    note(Object.values((await big.get()) as object).map(brief));
    note(await (await connection.prepare("SELECT * FROM kept WHERE rowid = 10")).pluck().get());
    const expanded = "SELECT k.*, 1 AS one FROM kept k WHERE rowid IN (5, 10)";
    note(await (await connection.prepare(expanded)).expand().all());
    for await (const row of rows.raw().iterate()) note((row as unknown[]).map(brief));
    const named = await connection.prepare("SELECT $a AS a, @b AS b, :c AS c, ? AS d");
    note(await named.all({ a: 1, b: Buffer.from("x"), c: null }, [7]));
  },

  "what cannot be bound": async (store, note) => {
    const connection = await shop(store);
    const one = await connection.prepare("SELECT ?");
    const named = await connection.prepare("SELECT $a");
    const wrong = [true, Symbol("s"), () => 1, new Date(5), new Point(), {}, new Map(), 2n ** 64n];
    for (const value of wrong) {
      note(await failureOf(() => one.all(value)));
      note(await failureOf(() => one.all([value])));
      note(await failureOf(() => named.all({ a: value })));
      note(await failureOf(() => named.all(value)));
    }
    note(await failureOf(() => one.all()), await failureOf(() => one.all(1, 2)));
    note(await failureOf(() => named.all({ b: 1 })), await failureOf(() => named.all({}, {})));
    note(await failureOf(() => one.run(1)), await one.all(Object.create(null)).catch(facts));
  },

  "failures keep class, code and message": async (store, note) => {
    const connection = await shop(store);
    for (const sql of ["SELEC", "SELECT * FROM nothing", "", "SELECT 1; SELECT 2", "-- only"])
      note(await failureOf(() => connection.prepare(sql)));
    note(await failureOf(() => connection.prepare(5 as unknown as string)));
    note(await failureOf(() => connection.exec("INSERT INTO item VALUES (1, 'x', 1)")));
    note(await failureOf(() => connection.exec("INSERT INTO item VALUES (9, 'hat', 1)")));
    const write = await connection.prepare("DELETE FROM item WHERE id = ?");
    note(await failureOf(() => write.all(1)), await failureOf(() => write.pluck()));
    note(await failureOf(() => write.columns()), await failureOf(() => write.iterate(1)));
    const read = await connection.prepare("SELECT 1");
    note(await failureOf(() => read.run()));
    note(await failureOf(() => read.pluck("yes" as unknown as boolean)));
    note(
      await failureOf(() => store.open("nothing/here@")),
      await failureOf(() => store.open("a b")),
    );
    note(await failureOf(() => store.open("shop/nothing")));
    note(await failureOf(() => store.open("shop@999")));
    const old = await store.open("shop@1");
    note(old.name, old.readonly, await failureOf(() => old.exec("DELETE FROM item")));
    const reader = await shop(store, { readonly: true });
    note(reader.readonly, await failureOf(() => reader.exec("DELETE FROM item")));
    await connection.close();
    await connection.close();
    note(connection.open, await failureOf(() => read.all()));
    note(await failureOf(() => connection.exec("SELECT 1")));
    note(await failureOf(() => connection.transaction(async () => {})));
  },

  "iterators read ahead, end, and keep writers out": async (store, note) => {
    const connection = await shop(store);
    const numbers = await connection.prepare(
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n",
    );
    numbers.pluck();
    const seen: unknown[] = [];
    for await (const value of numbers.iterate(300)) seen.push(value);
    note(seen.length, seen);
    const open = numbers.iterate(1000);
    note(await open.next(), await failureOf(() => connection.exec("DELETE FROM item")));
    note(await Promise.all([open.next(), open.next(), open.next()]));
    note(await open.return?.(), await open.next());
    await connection.exec("DELETE FROM item WHERE id = 3");
    const failing = await connection.prepare(
      "SELECT abs(CASE id WHEN 2 THEN 1 << 63 ELSE id END) FROM item",
    );
    const rows = failing.pluck().iterate();
    note(await rows.next(), await failureOf(() => rows.next()), await rows.next());
    note(await failureOf(() => failing.iterate(1).next()));
    for await (const value of numbers.iterate(1000)) if (value === 3) break;
    await connection.exec("DELETE FROM item WHERE id = 2");
    note(await (await connection.prepare("SELECT * FROM item")).all());
    note(await numbers.iterate(0).return?.());
  },

  "transactions commit, roll back and nest": async (store, note) => {
    const connection = await shop(store);
    const count = async (): Promise<unknown> =>
      await (await connection.prepare("SELECT count(*) FROM item")).pluck().get();
    const add = await connection.prepare("INSERT INTO item(name) VALUES (?)");
    note(connection.inTransaction);
    const value = await connection.transaction(async () => {
      await add.run("one");
      note(connection.inTransaction);
      return 7;
    });
    note(value, connection.inTransaction, await count());
    const mine = new Error("mine");
    const failed = await connection
      .transaction(async () => {
        await add.run("two");
        throw mine;
      })
      .catch((error: unknown) => error);
    note(failed === mine, await count(), connection.inTransaction);
    await connection.transaction(async () => {
      await add.run("three");
      note(
        await failureOf(() =>
          connection.transaction(async () => {
            await add.run("four");
            await add.run("four");
          }),
        ),
      );
      await connection.transaction(async () => void (await add.run("five")));
      note(await failureOf(() => connection.close()));
      void add.run("not awaited");
    });
    note(await (await connection.prepare("SELECT name FROM item ORDER BY id")).pluck().all());
    let inside = "";
    const outer = connection.transaction(async () => {
      await add.run("in");
      inside += "a";
      await Promise.resolve();
      inside += "b";
    });
    const outside = add.run("out").then(() => (inside += "c"));
    await Promise.all([outer, outside]);
    note(inside);
    note(
      await failureOf(() => connection.transaction(async () => {}, { mode: "odd" as "deferred" })),
    );
    note(await failureOf(() => connection.transaction(5 as unknown as () => void)));
    await connection.exec("BEGIN");
    note(connection.inTransaction);
    await connection.exec("ROLLBACK");
    note(connection.inTransaction);
  },

  "conflicts say what both have touched": async (store, note) => {
    const [one, two] = [await shop(store), await shop(store)];
    for (const connection of [one, two]) {
      await connection.exec("BEGIN CONCURRENT");
      await connection.exec("UPDATE item SET count = count + 1 WHERE id = 1");
    }
    await one.exec("COMMIT");
    note(await failureOf(() => two.exec("COMMIT")), two.inTransaction);
    const impatient = await shop(store, { busyTimeoutMs: 0 });
    await one.exec("BEGIN IMMEDIATE");
    note(await failureOf(() => impatient.exec("UPDATE item SET count = 0")));
    note(await failureOf(() => impatient.transaction(async () => {}, { mode: "immediate" })));
    const waiting = two.exec("UPDATE item SET count = 5 WHERE id = 2");
    await one.exec("COMMIT");
    await waiting;
    note(await (await one.prepare("SELECT * FROM item")).all());
  },

  "store.transact": async (store, note) => {
    const seen: number[] = [];
    const connection = await shop(store);
    const value = await store.transact("shop", async (transaction) => {
      seen.push(transaction.attempt);
      const row = await transaction.get("SELECT count FROM item WHERE id = ?", 1);
      if (transaction.attempt < 3) await connection.exec("UPDATE item SET count = count + 1");
      await transaction.run("UPDATE item SET count = count * 2 WHERE id = 1");
      const statement = await transaction.prepare("SELECT * FROM item ORDER BY id");
      return [row, await statement.all(), await statement.pluck().get()];
    });
    note(value, seen);
    const mine = new Error("mine");
    const thrown = await store
      .transact("shop", async (transaction) => {
        await transaction.exec("DELETE FROM item");
        throw mine;
      })
      .catch((error: unknown) => error);
    note(thrown === mine);
    note(
      await failureOf(() =>
        store.transact("shop", (tx) => tx.run("INSERT INTO item(id) VALUES (1)")),
      ),
    );
    const busy = store.transact(
      "shop",
      async (transaction) => {
        await transaction.run("UPDATE item SET count = 1 WHERE id = 1");
        await connection.exec("UPDATE item SET count = 2 WHERE id = 1");
      },
      { retries: 2 },
    );
    note(await failureOf(() => busy));
    note(await failureOf(() => store.transact("shop", () => 1, { retries: -1 })));
    note(await failureOf(() => store.transact("shop", () => 1, { id: "odd" })));
    note(await failureOf(() => store.transact("shop", 5 as unknown as () => void)));
    note(await failureOf(() => store.transact("shop/nothing", () => 1)));
    note(await failureOf(() => store.transact("shop", () => store.transact("shop", () => 1))));
    let late: SharedTransaction | null = null;
    let lateStatement: SharedStatement | null = null;
    await store.transact("shop", async (transaction) => {
      late = transaction;
      lateStatement = await transaction.prepare("SELECT 1");
    });
    note(await failureOf(() => late!.run("DELETE FROM item")));
    note((await failureOf(() => lateStatement!.all())) !== "no error");
    note(
      await store.transact("shop", (transaction) => transaction.all("SELECT * FROM item"), {
        readonly: true,
      }),
    );
    note(
      await failureOf(() =>
        store.transact("shop", (tx) => tx.exec("DELETE FROM item"), { readonly: true }),
      ),
    );
  },

  "outcomes by id": async (store, note) => {
    await store.transact("shop", (tx) => tx.exec("DELETE FROM item WHERE id = 3"), { id: id("a") });
    const outcome = await store.outcome(id("a"));
    note({ ...outcome, at: null });
    note((await store.outcome(id("b"))).committed, await failureOf(() => store.outcome("odd")));
    let ran = false;
    const again = store.transact("shop", () => (ran = true), { id: id("a") });
    note((await again.catch((error: unknown) => error)) instanceof StoreError, ran);
    let inside: Outcome | null = null;
    await store.transact("shop", async () => void (inside = await store.outcome(id("c"))), {
      id: id("c"),
    });
    note(inside);
  },

  "limits end calls": async (store, note) => {
    const connection = await shop(store);
    const endless = await connection.prepare(ENDLESS);
    note(await failureOf(() => endless.with({ timeoutMs: 5 }).all()));
    note(await failureOf(() => connection.exec(ENDLESS, { timeoutMs: 5 })));
    note(await failureOf(() => endless.with({ timeoutMs: -1 }).all()));
    const quick = await shop(store, { statementTimeoutMs: 5 });
    note(await failureOf(() => quick.exec(ENDLESS)), await failureOf(() => quick.exec("SELECT 1")));
    const reason = new Error("gave up");
    const signal = AbortSignal.abort(reason);
    note(await failureOf(() => endless.with({ signal }).all()));
    note(await failureOf(() => connection.transaction(() => 1, { signal })));
    note(await failureOf(() => store.open("shop", { signal })));
    note(await failureOf(() => store.transact("shop", () => 1, { signal })));
    note(await failureOf(() => store.transact("shop", () => never, { timeoutMs: 5 })));
    const controller = new AbortController();
    const left = store.transact("shop", () => (controller.abort(reason), never), {
      signal: controller.signal,
    });
    note((await left.catch((error: unknown) => error)) === reason);
    const blocker = await shop(store);
    await blocker.exec("BEGIN IMMEDIATE; DELETE FROM item");
    const second = new AbortController();
    const blocked = connection.exec("DELETE FROM item", { signal: second.signal });
    second.abort(reason);
    note((await blocked.catch((error: unknown) => error)) === reason);
    await blocker.exec("ROLLBACK");
    const third = new AbortController();
    const within = connection.transaction(
      async () => {
        await connection.exec("DELETE FROM item");
        third.abort(reason);
        return await failureOf(() => connection.exec("SELECT 1"));
      },
      { signal: third.signal },
    );
    note((await within.catch((error: unknown) => error)) === reason);
    note(await (await connection.prepare("SELECT count(*) FROM item")).pluck().get());
  },

  "closing waits for the calls that were made": async (store, note) => {
    const connection = await shop(store);
    const add = await connection.prepare("INSERT INTO item(name) VALUES (?)");
    const calls = Array.from({ length: 50 }, (_, number) => add.run(`made ${number}`));
    const closed = connection.close();
    const refused = failureOf(() => add.run("late"));
    await Promise.all([...calls, closed]);
    note(await refused, connection.open);
    const again = await shop(store);
    note(await (await again.prepare("SELECT count(*) FROM item")).pluck().get());
  },
};
