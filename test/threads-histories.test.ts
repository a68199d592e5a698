/**
 * Histories of many clients on databases in two threads, which end now and then in the middle of it: each history is serializable,
 * in real time, and nothing that was acknowledged is lost.
 */
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { StoreError } from "../src/errors.ts";
import { checkHistory } from "../src/testing/history-checker/check-history.ts";
import { renderReport } from "../src/testing/history-checker/report.ts";
import { runWorkload } from "../src/testing/history-checker/run-workload.ts";
import {
  SQL_SCHEMA,
  SqlClient,
  type SqlSession,
} from "../src/testing/history-checker/sql-client.ts";
import { LIST_APPEND, REGISTERS, Workload } from "../src/testing/history-checker/workload.ts";
import { Random } from "../src/testing/random.ts";
import type { ThreadedConnection } from "../src/threads/threaded-connection.ts";
import { ThreadedStore } from "../src/threads/threaded-store.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const SEED = 23 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const CLIENTS = 6;

// Starting a thread takes long where all cores are busy.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

let directory = "";

beforeAll(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-histories-"));
});
afterAll(() => {
  fs.rmSync(directory, { recursive: true, force: true });
});

class Session implements SqlSession {
  readonly #connection: ThreadedConnection;
  readonly #note: string;
  #count = 0;

  constructor(connection: ThreadedConnection, note: string) {
    this.#connection = connection;
    this.#note = note;
  }

  async begin(): Promise<void> {
    await this.#connection.exec("BEGIN CONCURRENT");
  }

  async column(sql: string, ...values: unknown[]): Promise<unknown[]> {
    return await (await this.#connection.prepare(sql)).pluck().all(...values);
  }

  async run(sql: string, ...values: unknown[]): Promise<number> {
    return (await (await this.#connection.prepare(sql)).run(...values)).changes;
  }

  /** What is only read may not be durable yet: each transaction writes, so that it is acknowledged after what it saw. */
  async commit(): Promise<void> {
    await this.run(`INSERT OR REPLACE INTO ${this.#note} VALUES (1, ?)`, ++this.#count);
    await this.#connection.exec("COMMIT");
  }

  async rollback(): Promise<void> {
    if (this.#connection.inTransaction) await this.#connection.exec("ROLLBACK");
  }

  statusOf(error: unknown): "failed" | "unknown" {
    if (error instanceof StoreError && error.code === "OWNER_LOST") return "unknown";
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code.startsWith("SQLITE_BUSY")) return "failed";
    throw error;
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }
}

/** Opens it again when its thread ended meanwhile. */
async function opened(store: ThreadedStore, database: string): Promise<ThreadedConnection> {
  for (;;) {
    try {
      return await store.open(database);
    } catch (error) {
      if (!(error instanceof StoreError && error.code === "OWNER_LOST")) throw error;
    }
  }
}

test("concurrent clients on two threads that end now and then", async () => {
  const path = join(directory, "store");
  await using store = ThreadedStore.open(path, { threads: 2 });
  const transactionCount = isLong ? 2000 : 100;
  const ends: Promise<void>[] = [];
  const histories = ["zero", "one"].map(async (database, thread) => {
    await store.createDatabase(database, { pageSize: 512 });
    await using first = await store.open(database);
    await first.exec(SQL_SCHEMA);
    for (let client = 0; client < CLIENTS + 1; client++)
      await first.exec(`CREATE TABLE note${client}(id INTEGER PRIMARY KEY, count)`);
    const random = new Random(SEED + thread);
    let sessions = 0;
    const history = await runWorkload({
      random,
      workload: new Workload(random.fork(), {
        mix: { ...LIST_APPEND, ...REGISTERS },
        keyCount: 12,
        operationsMax: 4,
      }),
      clientCount: CLIENTS,
      transactionCount,
      connect: async () => {
        const note = `note${sessions++ % CLIENTS}`;
        const session = new Session(await opened(store, database), note);
        const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
        return new SqlClient(session, { lists: "rows", pause });
      },
      between: (transaction) => {
        if (transaction % 40 === 20) ends.push(store.owner(thread).thread.terminate());
      },
    });
    const report = checkHistory(history);
    expect(report.ok, renderReport(report, history)).toBe(true);
    return history;
  });
  const [zero, one] = await Promise.all(histories);
  await Promise.all(ends);
  expect(ends.length).toBeGreaterThan(2);
  for (const history of [zero!, one!]) {
    const committed = history.transactions.filter(({ status }) => status === "ok");
    expect(committed.length).toBeGreaterThan(transactionCount / 4);
    expect(history.transactions.some(({ status }) => status === "unknown")).toBe(true);
  }
  expect((await store.check({ deep: true })).problems).toEqual([]);
});
