/**
 * The same random SQL on a branch and on stock SQLite: same rows, same errors, same counters, same schema, same pages
 * used. The branch's connection has a tiny cache, so that it spills; the store checkpoints and reopens in between.
 */
import { expect, test } from "vitest";
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SqlGenerator } from "./sql-generator.ts";
import { loadSqlite, type Outcome, show, StockDatabase, type Value } from "./stock-sqlite.ts";
import { SMALL_STORE } from "./store-workload.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const FIRST_SEED = 1 + Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const RUNS = isLong ? 400 : 10;
const STATEMENTS = isLong ? 600 : 250;
const COUNTERS = "SELECT changes(), total_changes(), last_insert_rowid()";

function runOnBranch(connection: StoreConnection, sql: string): Outcome {
  try {
    const statement = connection.prepare(sql);
    if (!statement.reader) {
      statement.run();
      return { rows: [], columns: [] };
    }
    const columns = statement.columns().map(({ name }) => name);
    const rows = statement.raw().safeIntegers().all() as Value[][];
    return { columns, rows: rows.map((row) => row.map(show)) };
  } catch (error) {
    if (!(error instanceof SqliteError)) throw error;
    return { code: error.code, message: error.message };
  }
}

class Comparison {
  private readonly store: Store;
  private readonly stock: StockDatabase;
  private connection: StoreConnection;
  private readonly random: Random;
  readonly script: string[] = [];
  failures = 0;

  constructor(stock: StockDatabase, seed: number) {
    this.stock = stock;
    this.random = new Random(seed);
    this.store = openStore("", { ...SMALL_STORE, storage: new SimulatedStorage({ seed }) });
    this.store.createDatabase("shop").createBranch("dev");
    this.connection = this.connect();
  }

  run(statements: number): void {
    const generator = new SqlGenerator(this.random);
    for (const sql of generator.opening()) this.compare(sql);
    for (let count = 0; count < statements; count++) {
      this.compare(generator.next());
      if (this.random.chance(0.02)) this.store.checkpoint();
      if (this.random.chance(0.02)) this.reconnect();
      if (count % 50 === 49) this.compareAll(generator);
    }
    this.compareAll(generator);
    if (this.stock.inTransaction) this.compare("ROLLBACK");
    this.reconnect();
    this.compareAll(generator);
    this.store.close();
    this.stock.close();
  }

  private compareAll(generator: SqlGenerator): void {
    for (const sql of generator.dump()) this.compare(sql);
  }

  private compare(sql: string): void {
    this.script.push(sql);
    const expected = this.stock.run(sql);
    if ("code" in expected) this.failures++;
    const actual = runOnBranch(this.connection, sql);
    const where = `statement ${this.script.length}, after:\n${this.script.slice(-15).join(";\n")}`;
    expect(actual, where).toEqual(expected);
    expect(this.connection.inTransaction, where).toBe(this.stock.inTransaction);
    expect(runOnBranch(this.connection, COUNTERS), where).toEqual(this.stock.run(COUNTERS));
  }

  private connect(): StoreConnection {
    const connection = this.store.connect("shop/dev");
    connection.pragma(`cache_size = ${this.random.pick([1, 3, 10, 100])}`);
    return connection;
  }

  /** A new connection, unless that would show: counters and settings belong to connections. */
  private reconnect(): void {
    if (this.stock.inTransaction) return;
    this.connection.close();
    this.connection = this.connect();
    this.stock.reopen();
  }
}

test("a branch answers random SQL like stock SQLite", { timeout: 3_600_000 }, async () => {
  const sqlite3 = await loadSqlite();
  let statements = 0;
  let failures = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
    try {
      const comparison = new Comparison(new StockDatabase(sqlite3), seed);
      comparison.run(STATEMENTS);
      statements += comparison.script.length;
      failures += comparison.failures;
    } catch (error) {
      throw new Error(`Seed ${seed}: ${String(error)}`, { cause: error });
    }
  }
  // Random SQL that mostly fails would prove little.
  expect(failures / statements).toBeLessThan(0.5);
});
