/**
 * Many clients at once on one branch, judged by the checker of histories: what they were answered has an order in which the
 * transactions could have run one after another, nothing acknowledged is lost, also when power is lost in between. Clients
 * that are wrong on purpose are caught.
 */
import { describe, expect, test } from "vitest";
import { openStore, type Store } from "../src/store/store.ts";
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
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
import { SMALL_STORE } from "./store-workload.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const ALL: WorkloadOptions["mix"] = { ...LIST_APPEND, ...REGISTERS, ...SCANS };

/**
 * How the transactions of a client are made: "whole" as they should be; "split" begins at the first write, so that what was
 * read before is old by then; "unsynced" does not sync, so that a crash loses what was acknowledged.
 */
type Manner = "whole" | "split" | "unsynced";

/** A machine with a store on it, which can lose its power. */
class Machine {
  disk: SimulatedStorage;
  store: Store;
  crashes = 0;
  commits = 0;
  readonly #manner: Manner;
  readonly #random: Random;

  constructor(seed: number, manner: Manner) {
    this.#random = new Random(seed);
    this.disk = new SimulatedStorage({ seed });
    this.#manner = manner;
    this.store = this.#open();
    this.store.createDatabase("shop");
    this.store.connect("shop").exec(SQL_SCHEMA).close();
    this.store.checkpoint();
  }

  #open(): Store {
    const durability = this.#manner === "unsynced" ? "off" : "full";
    return openStore("", { ...SMALL_STORE, storage: this.disk, durability });
  }

  /** The store that was open goes on alone, on a disk that nobody reads any more. */
  losePower(): void {
    const before = this.store;
    this.disk = this.disk.copyAfterCrash(this.#random);
    this.crashes++;
    this.store = this.#open();
    before.close();
  }

  session(): SqlSession {
    return new BoughSession(this, this.#manner);
  }
}

class BoughSession implements SqlSession {
  readonly #machine: Machine;
  readonly #connection: StoreConnection;
  readonly #manner: Manner;
  readonly #crashes: number;
  #isCommitting = false;

  constructor(machine: Machine, manner: Manner) {
    this.#machine = machine;
    this.#connection = machine.store.connect("shop");
    this.#manner = manner;
    this.#crashes = machine.crashes;
  }

  /** The machine that the connection is on is gone. */
  get #isLost(): boolean {
    return this.#machine.crashes > this.#crashes;
  }

  #assertUp(): void {
    if (this.#isLost) throw new PowerLost("The machine has lost its power");
  }

  begin(): void {
    this.#assertUp();
    this.#isCommitting = false;
    if (this.#manner !== "split") this.#connection.exec("BEGIN IMMEDIATE");
  }

  column(sql: string, ...values: (string | number | null)[]): unknown[] {
    this.#assertUp();
    return this.#connection
      .prepare(sql)
      .pluck()
      .all(...values);
  }

  run(sql: string, ...values: (string | number | null)[]): number {
    this.#assertUp();
    if (!this.#connection.inTransaction) this.#connection.exec("BEGIN IMMEDIATE");
    return this.#connection.prepare(sql).run(...values).changes;
  }

  /**
   * Others see a commit before it is durable, and `durably` waits only for what was written here. So each transaction
   * writes something: then what it saw is durable when its commit is.
   */
  async commit(): Promise<void> {
    this.#assertUp();
    if (!this.#connection.inTransaction) return;
    if (this.#manner === "whole") {
      this.run("INSERT OR REPLACE INTO registers VALUES ('commits', ?)", ++this.#machine.commits);
    }
    this.#isCommitting = true;
    if (this.#manner === "unsynced") this.#connection.exec("COMMIT");
    else await this.#connection.durably(() => this.#connection.exec("COMMIT"));
    this.#assertUp();
  }

  rollback(): void {
    if (!this.#isLost && this.#connection.inTransaction) this.#connection.exec("ROLLBACK");
  }

  statusOf(error: unknown): "failed" | "unknown" {
    if (this.#isLost) return "unknown";
    const isRefused = error instanceof SqliteError && error.code.startsWith("SQLITE_BUSY");
    if (isRefused && !this.#isCommitting) return "failed";
    throw error;
  }

  close(): void {
    if (!this.#isLost) this.#connection.close();
  }
}

class PowerLost extends Error {}

interface Run {
  readonly seed: number;
  readonly mix: WorkloadOptions["mix"];
  readonly manner?: Manner;
  readonly lists?: SqlClientOptions["lists"];
  readonly transactionCount?: number;
  readonly between?: (machine: Machine, transaction: number) => void;
}

async function run(options: Run): Promise<History> {
  const { seed, mix, manner = "whole", lists = "rows", transactionCount = 400 } = options;
  const random = new Random(seed + seedOffset);
  const machine = new Machine(seed, manner);
  const pause = async (): Promise<void> => {
    for (let turns = random.integer(0, 2); turns > 0; turns--) await Promise.resolve();
  };
  const history = await runWorkload({
    random,
    workload: new Workload(random.fork(), { mix, keyCount: 4, operationsMax: 4 }),
    clientCount: 6,
    transactionCount: isLong ? 10 * transactionCount : transactionCount,
    connect: () => new SqlClient(machine.session(), { lists, pause }),
    think: async () => {
      for (let turns = random.integer(0, 40); turns > 0; turns--) await Promise.resolve();
    },
    between: (transaction) => options.between?.(machine, transaction),
  });
  const check = machine.store.connect("shop");
  expect(check.pragma("integrity_check", { simple: true })).toBe("ok");
  machine.store.close();
  return history;
}

function expectSerializable(history: History): void {
  const report = checkHistory(history);
  expect(report.ok, renderReport(report, history)).toBe(true);
  expect(report.committedCount).toBeGreaterThan(history.transactions.length / 5);
}

describe("BEGIN IMMEDIATE is strictly serializable", () => {
  test.each<[string, WorkloadOptions["mix"], SqlClientOptions["lists"]]>([
    ["lists as rows", LIST_APPEND, "rows"],
    ["lists as JSON", LIST_APPEND, "json"],
    ["registers", REGISTERS, "rows"],
    ["ranges", { ...SCANS, append: 1, "read-list": 1 }, "rows"],
  ])("%s", async (_, mix, lists) => {
    const history = await run({ seed: 1, mix, lists });
    expect(history.transactions.some(({ status }) => status === "failed")).toBe(true);
    expectSerializable(history);
  });

  test("with checkpoints and forks in between", async () => {
    const history = await run({
      seed: 2,
      mix: ALL,
      between: ({ store }, transaction) => {
        if (transaction % 20 === 10) store.checkpoint();
        if (transaction % 50 === 25) {
          const branch = store.database("shop").createBranch(`fork-${transaction}`);
          store.connect(branch.revision).exec("DELETE FROM lists").close();
        }
      },
    });
    expectSerializable(history);
  });

  test("with power lost in between", async () => {
    const history = await run({
      seed: 3,
      mix: ALL,
      between: (machine, transaction) => {
        if (transaction % 40 === 20) machine.losePower();
      },
    });
    expect(history.transactions.some(({ status }) => status === "unknown")).toBe(true);
    expectSerializable(history);
  });
});

describe("what is wrong on purpose is caught", () => {
  test.each<[string, WorkloadOptions["mix"], SqlClientOptions["lists"]]>([
    ["lists as rows", LIST_APPEND, "rows"],
    ["lists as JSON", LIST_APPEND, "json"],
    ["registers", REGISTERS, "rows"],
    ["ranges", { ...SCANS, append: 1, "read-list": 1 }, "rows"],
  ])("reads in one transaction, writes in the next: %s", async (_, mix, lists) => {
    const history = await run({ seed: 4, mix, lists, manner: "split" });
    const { ok, anomalies } = checkHistory(history, { isolation: "serializable" });
    expect(ok).toBe(false);
    expect(anomalies.some(({ cycle }) => cycle.length > 0)).toBe(true);
  });

  test("commits acknowledged before they are durable, with power lost in between", async () => {
    const history = await run({
      seed: 5,
      mix: LIST_APPEND,
      manner: "unsynced",
      between: (machine, transaction) => {
        if (transaction % 40 === 20) machine.losePower();
      },
    });
    expect(Object.keys(checkHistory(history).counts)).toContain("lost-commit");
  });
});
