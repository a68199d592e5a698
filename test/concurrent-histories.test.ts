/**
 * Histories of many clients that use BEGIN CONCURRENT, some of them plain transactions and awaited connections, with checkpoints,
 * forks, garbage collection and lost power in between, judged by the checker of histories: serializable, in real time, and
 * nothing acknowledged is lost. Without the comparison at COMMIT the same histories are found wrong.
 */
import { afterEach, describe, expect, test } from "vitest";
import type { AsyncConnection } from "../src/sqlite/async-connection.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { checkHistory } from "../src/testing/history-checker/check-history.ts";
import type { History } from "../src/testing/history-checker/history.ts";
import { renderReport } from "../src/testing/history-checker/report.ts";
import { runWorkload } from "../src/testing/history-checker/run-workload.ts";
import {
  SQL_SCHEMA,
  SqlClient,
  type SqlClientOptions,
  type SqlSession,
} from "../src/testing/history-checker/sql-client.ts";
import {
  LIST_APPEND,
  REGISTERS,
  SCANS,
  Workload,
  type WorkloadOptions,
} from "../src/testing/history-checker/workload.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { ConcurrentTransaction } from "../src/transaction/concurrent-transaction.ts";
import { SMALL_STORE } from "./store-workload.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const ALL: WorkloadOptions["mix"] = { ...LIST_APPEND, ...REGISTERS, ...SCANS };
const CLIENTS = 8;
/** A table of its own for each session, where it writes that it was there. */
const NOTES = Array.from({ length: CLIENTS }, (_, number) => `note${number}`);

type Value = string | number | null;

/** A machine with a store on it, which can lose its power. */
class Machine {
  disk: SimulatedStorage;
  store: Store;
  crashes = 0;
  sessions = 0;
  /** Stores on machines without power, which go on alone. */
  readonly #closing: Promise<void>[] = [];
  readonly #random: Random;

  constructor(seed: number, pageSize: number) {
    this.#random = new Random(seed);
    this.disk = new SimulatedStorage({ seed });
    this.store = this.#open();
    this.store.createDatabase("shop", { pageSize });
    const first = this.store.connect("shop").exec(SQL_SCHEMA);
    for (const table of NOTES) first.exec(`CREATE TABLE ${table}(id INTEGER PRIMARY KEY, count)`);
    first.close();
    this.store.checkpoint();
  }

  #open(): Store {
    return openStore("", { ...SMALL_STORE, storage: this.disk });
  }

  losePower(): void {
    const before = this.store;
    this.disk = this.disk.copyAfterCrash(this.#random);
    this.crashes++;
    this.store = this.#open();
    this.#closing.push(before.closeAsync());
  }

  async close(): Promise<void> {
    await Promise.all([...this.#closing, this.store.closeAsync()]);
  }
}

class PowerLost extends Error {}

/** What a session asks of a connection, synchronous or awaited. */
interface Way {
  /** A commit resolves when what the transaction has read is durable too. */
  readonly isAwaited: boolean;
  readonly inTransaction: boolean;
  exec(sql: string): unknown;
  column(sql: string, values: Value[]): unknown[] | Promise<unknown[]>;
  run(sql: string, values: Value[]): Promise<number> | number;
  commit(): Promise<unknown>;
  close(): unknown;
}

function syncWay(connection: StoreConnection): Way {
  return {
    isAwaited: false,
    get inTransaction() {
      return connection.inTransaction;
    },
    exec: (sql) => connection.exec(sql),
    column: (sql, values) =>
      connection
        .prepare(sql)
        .pluck()
        .all(...values),
    run: (sql, values) => connection.prepare(sql).run(...values).changes,
    commit: () => connection.durably(() => connection.exec("COMMIT")),
    close: () => connection.close(),
  };
}

function awaitedWay(connection: AsyncConnection): Way {
  return {
    isAwaited: true,
    get inTransaction() {
      return connection.inTransaction;
    },
    exec: (sql) => connection.exec(sql),
    column: async (sql, values) => (await connection.prepare(sql)).pluck().all(...values),
    run: async (sql, values) => (await (await connection.prepare(sql)).run(...values)).changes,
    commit: () => connection.exec("COMMIT"),
    close: () => connection.close(),
  };
}

class Session implements SqlSession {
  readonly #machine: Machine;
  readonly #way: Way;
  readonly #begin: string;
  readonly #note: string;
  readonly #crashes: number;
  #count = 0;
  #hasWritten = false;

  constructor(machine: Machine, way: Way, isPlain: boolean) {
    this.#machine = machine;
    this.#way = way;
    this.#begin = isPlain ? "BEGIN IMMEDIATE" : "BEGIN CONCURRENT";
    this.#note = NOTES[machine.sessions++ % CLIENTS]!;
    this.#crashes = machine.crashes;
  }

  get #isLost(): boolean {
    return this.#machine.crashes > this.#crashes;
  }

  /** A call that runs when the power is lost may have any outcome. */
  async #up<T>(call: () => T | Promise<T>): Promise<T> {
    if (this.#isLost) throw new PowerLost("The machine has lost its power");
    const result = await call();
    if (this.#isLost) throw new PowerLost("The machine has lost its power");
    return result;
  }

  async begin(): Promise<void> {
    this.#hasWritten = false;
    await this.#up(() => this.#way.exec(this.#begin));
  }

  column(sql: string, ...values: Value[]): Promise<unknown[]> {
    return this.#up(() => this.#way.column(sql, values));
  }

  /** What changes no row commits nothing, and is acknowledged as what only reads is. */
  async run(sql: string, ...values: Value[]): Promise<number> {
    const changes = await this.#up(() => this.#way.run(sql, values));
    if (changes > 0) this.#hasWritten = true;
    return changes;
  }

  /**
   * On a synchronous connection what is only read may not be durable yet: each transaction writes there, so that it is
   * acknowledged after what it saw.
   */
  async commit(): Promise<void> {
    const isSure = this.#hasWritten && this.#begin !== "BEGIN CONCURRENT";
    if (!this.#way.isAwaited && !isSure)
      await this.run(`INSERT OR REPLACE INTO ${this.#note} VALUES (1, ?)`, ++this.#count);
    await this.#up(() => this.#way.commit());
  }

  async rollback(): Promise<void> {
    if (!this.#isLost && this.#way.inTransaction) await this.#way.exec("ROLLBACK");
  }

  statusOf(error: unknown): "failed" | "unknown" {
    if (this.#isLost) return "unknown";
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code.startsWith("SQLITE_BUSY")) return "failed";
    throw error;
  }

  async close(): Promise<void> {
    if (!this.#isLost) await this.#way.close();
  }
}

interface Run {
  readonly seed: number;
  readonly mix: WorkloadOptions["mix"];
  readonly lists?: SqlClientOptions["lists"];
  readonly transactionCount?: number;
  /** 512 by default: what is apart is on different pages. */
  readonly pageSize?: number;
  readonly isAwaited?: boolean;
  /** How many of the clients make plain transactions. */
  readonly plainCount?: number;
  readonly between?: (machine: Machine, transaction: number) => void;
}

async function run(options: Run): Promise<History> {
  const { seed, mix, lists = "rows", transactionCount = 600, plainCount = 1 } = options;
  const random = new Random(seed + seedOffset);
  const machine = new Machine(seed, options.pageSize ?? 512);
  const pause = async (): Promise<void> => {
    for (let turns = random.integer(0, 2); turns > 0; turns--) await Promise.resolve();
  };
  const history = await runWorkload({
    random,
    workload: new Workload(random.fork(), { mix, keyCount: 12, operationsMax: 4, prefixCount: 4 }),
    clientCount: CLIENTS,
    transactionCount: isLong ? 10 * transactionCount : transactionCount,
    connect: async (client) => {
      const { store } = machine;
      const way =
        options.isAwaited === true
          ? awaitedWay(await store.open("shop"))
          : syncWay(store.connect("shop"));
      return new SqlClient(new Session(machine, way, client < plainCount), { lists, pause });
    },
    think: async () => {
      for (let turns = random.integer(0, 40); turns > 0; turns--) await Promise.resolve();
    },
    between: (transaction) => options.between?.(machine, transaction),
  });
  const check = machine.store.connect("shop");
  expect(check.pragma("integrity_check", { simple: true })).toBe("ok");
  check.close();
  await machine.close();
  return history;
}

function expectSerializable(history: History): void {
  const report = checkHistory(history);
  expect(report.ok, renderReport(report, history)).toBe(true);
  expect(report.committedCount).toBeGreaterThan(history.transactions.length / 5);
  expect(history.transactions.some(({ status }) => status === "failed")).toBe(true);
}

type Kind = readonly [
  name: string,
  mix: WorkloadOptions["mix"],
  lists: NonNullable<SqlClientOptions["lists"]>,
];
const KINDS: readonly Kind[] = [
  ["lists as rows", LIST_APPEND, "rows"],
  ["lists as JSON", LIST_APPEND, "json"],
  ["registers", REGISTERS, "rows"],
  ["ranges", { ...SCANS, append: 1, "read-list": 1 }, "rows"],
];

describe("BEGIN CONCURRENT is serializable", () => {
  test.each(KINDS)("%s", async (_, mix, lists) => {
    expectSerializable(await run({ seed: 1, mix, lists }));
  });

  test("on awaited connections", async () => {
    expectSerializable(await run({ seed: 2, mix: ALL, isAwaited: true, transactionCount: 300 }));
  });

  test("with checkpoints, forks and garbage collection in between", async () => {
    const history = await run({
      seed: 3,
      mix: ALL,
      between: ({ store }, transaction) => {
        if (transaction % 20 === 10) store.checkpoint();
        if (transaction % 100 === 55) store.gc();
        if (transaction % 100 !== 25) return;
        const branch = store.database("shop").createBranch(`fork-${transaction}`);
        store.connect(branch.revision).exec("BEGIN CONCURRENT; DELETE FROM lists; COMMIT").close();
      },
    });
    expectSerializable(history);
  });

  test("with power lost in between, nothing acknowledged is lost", async () => {
    const history = await run({
      seed: 4,
      mix: ALL,
      between: (machine, transaction) => {
        if (transaction % 40 === 20) machine.losePower();
        else if (transaction % 40 === 0) machine.store.checkpoint();
      },
    });
    expect(history.transactions.some(({ status }) => status === "unknown")).toBe(true);
    expectSerializable(history);
  });

  test("with power lost in between, on awaited connections: nothing that was only read is lost either", async () => {
    const history = await run({
      seed: 6,
      mix: { ...ALL, "read-list": 6, "read-register": 6 },
      isAwaited: true,
      between: (machine, transaction) => {
        if (transaction % 30 === 15) machine.losePower();
      },
    });
    expectSerializable(history);
  });
});

describe("without the comparison at COMMIT", () => {
  const validate = Object.getOwnPropertyDescriptor(ConcurrentTransaction.prototype, "validate")!;

  afterEach(() => {
    Object.defineProperty(ConcurrentTransaction.prototype, "validate", validate);
  });

  // All rows of a table on one page, so that the file stays sound: only what is in it is wrong.
  test.each(KINDS)("the checker finds anomalies: %s", async (_, mix, lists) => {
    Object.defineProperty(ConcurrentTransaction.prototype, "validate", { value: () => {} });
    const history = await run({
      seed: 5,
      mix,
      lists,
      plainCount: 0,
      pageSize: 65536,
      transactionCount: 150,
    });
    const { ok, anomalies } = checkHistory(history, { isolation: "serializable" });
    expect(ok).toBe(false);
    expect(anomalies.length).toBeGreaterThan(0);
  });
});
