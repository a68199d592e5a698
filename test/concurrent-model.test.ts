/**
 * Random transactions of several connections on one branch, interleaved from a seed: BEGIN CONCURRENT among plain writers. After
 * each round the committed ones are run again, one after another in the order of their commits, on another database: each
 * statement must answer what it answered then (so the isolation is serializable), both databases hold the same, and
 * integrity_check finds every page of the file in its place, none lost.
 */
import { expect, test } from "vitest";
import { SqliteError } from "../src/sqlite/sqlite-error.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SMALL_STORE } from "./store-workload.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const SEEDS = isLong ? 300 : 16;
const ROUNDS = isLong ? 12 : 4;
const STEPS = isLong ? 400 : 220;
const IDS = 120;
/** Sets of tables: one for each client, if they keep to themselves. */
const SETS = 5;

const SCHEMA: string = Array.from(
  { length: SETS },
  (_, set) => `
  CREATE TABLE t${set}(id INTEGER PRIMARY KEY, v INTEGER NOT NULL, pad TEXT NOT NULL);
  CREATE ${set % 2 === 0 ? "" : "UNIQUE"} INDEX t${set}_v ON t${set}(v, pad);
  CREATE TABLE w${set}(k TEXT PRIMARY KEY, n INTEGER NOT NULL, pad TEXT) WITHOUT ROWID;
  CREATE TABLE b${set}(id INTEGER PRIMARY KEY, data BLOB NOT NULL);`,
).join("");
const CONTENT: readonly string[] = [
  ...Array.from({ length: SETS }, (_, set) => [
    `SELECT * FROM t${set} ORDER BY id`,
    `SELECT v, pad FROM t${set} ORDER BY v, pad`,
    `SELECT * FROM w${set} ORDER BY k`,
    `SELECT id, length(data), hex(substr(data, -20)) FROM b${set} ORDER BY id`,
  ]).flat(),
  "SELECT name, sql FROM sqlite_schema ORDER BY name",
  "PRAGMA user_version",
];

interface Statement {
  readonly sql: string;
  readonly values: readonly (string | number | Buffer)[];
}

interface Answered extends Statement {
  readonly answer: string;
}

interface Done {
  /** After how many commits; a transaction that wrote is the commit after those. */
  readonly place: number;
  readonly writes: boolean;
  readonly statements: readonly Answered[];
}

/** What a statement answers, as text; `null` for errors that are about concurrency. */
function answer(connection: StoreConnection, { sql, values }: Statement): string | null {
  try {
    const prepared = connection.prepare(sql);
    if (prepared.reader) return JSON.stringify(prepared.raw().all(...values));
    return String(prepared.run(...values).changes);
  } catch (error) {
    if (!(error instanceof SqliteError)) throw error;
    return error.code.startsWith("SQLITE_BUSY") ? null : error.code;
  }
}

class Client {
  readonly #world: World;
  readonly #random: Random;
  readonly connection: StoreConnection;
  readonly #set: number;
  #statements: Answered[] = [];
  #place = -1;
  #hasSavepoint = false;

  constructor(world: World, random: Random, set: number) {
    this.#set = set;
    this.#world = world;
    this.#random = random;
    this.connection = world.store.connect("shop");
    if (random.chance(0.5)) this.connection.pragma("cache_size = 10");
  }

  step(): void {
    const random = this.#random;
    if (!this.connection.inTransaction) {
      this.#begin();
      return;
    }
    if (random.chance(0.2)) this.#end();
    else if (random.chance(0.08)) this.#savepoint();
    else this.#run(this.#statement());
  }

  /** Until it has ended. */
  finish(): void {
    while (this.connection.inTransaction) this.#end();
  }

  #begin(): void {
    const random = this.#random;
    this.#statements = [];
    this.#place = -1;
    this.#hasSavepoint = false;
    if (random.chance(0.12)) {
      this.#run(this.#statement());
      if (this.#statements.length > 0) this.#committed();
      return;
    }
    const mode = random.chance(0.85) ? "CONCURRENT" : random.pick(["IMMEDIATE", "DEFERRED"]);
    try {
      this.connection.exec(`BEGIN ${mode}`);
    } catch (error) {
      expect(error).toMatchObject({ code: "SQLITE_BUSY" });
    }
    this.#world.counts.begun++;
  }

  #end(): void {
    const { connection } = this;
    if (this.#random.chance(0.12)) {
      connection.exec("ROLLBACK");
      return;
    }
    try {
      connection.exec("COMMIT");
      this.#committed();
    } catch (error) {
      expect(error).toBeInstanceOf(SqliteError);
      if (!(error instanceof SqliteError)) return;
      if (error.code === "SQLITE_BUSY") {
        expect(connection.inTransaction).toBe(true);
        // Somebody else holds the write lock: try again, but not for ever.
        if (this.#world.isFinishing) connection.exec("ROLLBACK");
        return;
      }
      expect(error.code).toBe("SQLITE_BUSY_SNAPSHOT");
      expect(error.retryable).toBe(true);
      expect(connection.inTransaction).toBe(false);
      this.#world.counts.conflicts++;
    }
  }

  #committed(): void {
    const world = this.#world;
    const wrote = world.noteCommit();
    const place = wrote ? world.commits - 1 : this.#place;
    if (this.#statements.length === 0) return;
    world.done.push({ place, writes: wrote, statements: this.#statements });
    if (wrote) world.counts.committed++;
  }

  #run(statement: Statement): void {
    const { connection } = this;
    // SAVEPOINT alone takes no snapshot.
    if (this.#place === -1 && statement.sql !== "SAVEPOINT s") this.#place = this.#world.commits;
    const answered = answer(connection, statement);
    if (answered === null) {
      // A plain transaction met another one.
      if (connection.inTransaction) connection.exec("ROLLBACK");
      this.#statements = [];
      return;
    }
    this.#statements.push({ ...statement, answer: answered });
  }

  #savepoint(): void {
    const sql = this.#hasSavepoint
      ? this.#random.pick(["ROLLBACK TO s", "RELEASE s"])
      : "SAVEPOINT s";
    this.#run({ sql, values: [] });
    if (!this.connection.inTransaction) return;
    if (sql === "SAVEPOINT s") this.#hasSavepoint = true;
    if (sql === "RELEASE s") this.#hasSavepoint = false;
  }

  #statement(): Statement {
    const random = this.#random;
    const set = random.chance(this.#world.locality) ? this.#set : random.integer(0, SETS - 1);
    const id = random.integer(1, IDS);
    const kind = random.integer(0, 99);
    if (kind < 50) return this.#rowStatement(`t${set}`, id, kind);
    if (kind < 80) return this.#otherStatement(set, id, kind);
    return this.#readingStatement(set, id, kind);
  }

  #rowStatement(table: string, id: number, kind: number): Statement {
    const random = this.#random;
    const v = random.integer(1, 100_000);
    const pad = "p".repeat(random.integer(0, 200));
    if (kind < 18)
      return { sql: `INSERT OR REPLACE INTO ${table} VALUES (?, ?, ?)`, values: [id, v, pad] };
    if (kind < 26) return { sql: `INSERT INTO ${table} VALUES (?, ?, ?)`, values: [id, v, pad] };
    if (kind < 38)
      return {
        sql: `UPDATE ${table} SET v = v + 1000003, pad = ? WHERE id = ?`,
        values: [pad, id],
      };
    if (kind < 45) return { sql: `DELETE FROM ${table} WHERE id = ?`, values: [id] };
    if (kind < 48)
      return { sql: `DELETE FROM ${table} WHERE id BETWEEN ? AND ?`, values: [id, id + 25] };
    return {
      sql: `INSERT OR IGNORE INTO ${table} WITH RECURSIVE n(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < 30) SELECT ? + value, ? + value, ? FROM n`,
      values: [id, v, pad],
    };
  }

  #otherStatement(set: number, id: number, kind: number): Statement {
    const random = this.#random;
    const size = random.chance(0.2) ? random.integer(0, 40_000) : random.integer(0, 3000);
    const pad = "p".repeat(random.integer(0, 200));
    const data = (length: number): Buffer => Buffer.from(random.bytes(length));
    if (kind < 58)
      return {
        sql: `INSERT OR REPLACE INTO w${set} VALUES (?, ?, ?)`,
        values: [`k${id}`, id, pad],
      };
    if (kind < 62) return { sql: `DELETE FROM w${set} WHERE k = ?`, values: [`k${id}`] };
    if (kind < 72)
      return { sql: `INSERT OR REPLACE INTO b${set} VALUES (?, ?)`, values: [id % 20, data(size)] };
    if (kind < 76)
      return {
        sql: `UPDATE b${set} SET data = CAST(substr(data, 1, length(data) - 5) || ? AS BLOB) WHERE id = ?`,
        values: [data(5), id % 20],
      };
    return { sql: `DELETE FROM b${set} WHERE id = ?`, values: [id % 20] };
  }

  #readingStatement(set: number, id: number, kind: number): Statement {
    const random = this.#random;
    if (kind < 84)
      return {
        sql: `SELECT * FROM t${set} WHERE id BETWEEN ? AND ? ORDER BY id`,
        values: [id, id + 9],
      };
    if (kind < 88)
      return {
        sql: `SELECT id, v FROM t${set} WHERE v > ? ORDER BY v, pad, id LIMIT 5`,
        values: [id * 800],
      };
    if (kind < 92)
      return {
        sql: `SELECT k, n FROM w${set} WHERE k >= ? ORDER BY k LIMIT 4`,
        values: [`k${id}`],
      };
    if (kind < 96)
      return {
        sql: `SELECT length(data), hex(substr(data, -8)) FROM b${set} WHERE id = ?`,
        values: [id % 20],
      };
    if (kind < 99 || random.chance(0.7))
      return { sql: `SELECT count(*), max(v) FROM t${set}`, values: [] };
    const sql = random.pick([
      `CREATE INDEX IF NOT EXISTS t${set}_pad ON t${set}(pad)`,
      `DROP INDEX IF EXISTS t${set}_pad`,
      `PRAGMA user_version = ${id}`,
    ]);
    return { sql, values: [] };
  }
}

class World {
  readonly store: Store;
  readonly replay: StoreConnection;
  readonly counts = { begun: 0, committed: 0, conflicts: 0 };
  done: Done[] = [];
  commits = 0;
  isFinishing = false;
  /** How often a client stays within its own tables. */
  readonly locality: number;
  readonly #disk: SimulatedStorage;
  readonly #replayStore: Store;
  readonly #random: Random;
  readonly #label: string;
  #version: number;

  constructor(random: Random, label: string) {
    this.#random = random;
    this.#label = label;
    this.#disk = new SimulatedStorage({ seed: random.nextUint32() });
    this.locality = random.pick([0, 0.9, 0.99, 1]);
    const pageSize = random.pick([512, 1024, 4096, 4096, 65536]);
    const autoVacuum = random.pick(["NONE", "NONE", "NONE", "FULL", "INCREMENTAL"]);
    const transactionBytesMax = random.pick([16 * 1024, 1024 * 1024]);
    this.store = openStore("", {
      ...SMALL_STORE,
      transactionBytesMax,
      storage: this.#disk,
    });
    this.#replayStore = openStore("", { ...SMALL_STORE, storage: new SimulatedStorage() });
    this.store.createDatabase("shop", { pageSize });
    this.#replayStore.createDatabase("replay");
    const first = this.store.connect("shop");
    first.exec(`PRAGMA auto_vacuum = ${autoVacuum}; ${SCHEMA}`).close();
    this.replay = this.#replayStore.connect("replay").exec(SCHEMA);
    this.#version = this.#headVersion();
  }

  #headVersion(): number {
    return this.store.database("shop").branch().head.version;
  }

  /** Whether the statement that was just run has made a commit. */
  noteCommit(): boolean {
    const version = this.#headVersion();
    if (version === this.#version) return false;
    this.#version = version;
    this.commits++;
    return true;
  }

  async round(round: number, steps: number): Promise<void> {
    const random = this.#random;
    const clients = Array.from(
      { length: random.integer(2, 5) },
      (_, set) => new Client(this, random.fork(), set),
    );
    const maintenance = this.store.connect("shop");
    for (let step = 0; step < steps; step++) {
      random.pick(clients).step();
      if (random.chance(0.01)) this.store.checkpoint();
      if (random.chance(0.01)) this.#maintain(maintenance, "PRAGMA incremental_vacuum(3)");
      if (random.chance(0.003)) this.#maintain(maintenance, "VACUUM");
    }
    this.isFinishing = true;
    // A plain writer first: it keeps the others from committing.
    for (const client of random.shuffle([...clients])) client.finish();
    this.isFinishing = false;
    this.#runAgain(round);
    await this.#compare(maintenance, round);
    for (const { connection } of clients) connection.close();
    if (random.chance(0.5)) this.#maintain(maintenance, "VACUUM");
    maintenance.close();
  }

  /** It changes nothing that a query shows, so it is not run again. */
  #maintain(connection: StoreConnection, sql: string): void {
    try {
      connection.exec(sql);
    } catch (error) {
      expect(error, this.#label).toMatchObject({ code: "SQLITE_BUSY" });
    }
    this.noteCommit();
  }

  #runAgain(round: number): void {
    // Of the same place, those that only read come before the one that wrote.
    const order = this.done.toSorted(
      (left, right) => left.place - right.place || Number(left.writes) - Number(right.writes),
    );
    for (const { statements, place } of order) {
      if (!this.replay.inTransaction) this.replay.exec("BEGIN");
      for (const statement of statements)
        expect(
          answer(this.replay, statement),
          `${this.#label}, round ${round}, place ${place}: ${statement.sql}`,
        ).toBe(statement.answer);
      this.replay.exec("COMMIT");
    }
    this.done = [];
  }

  async #compare(connection: StoreConnection, round: number): Promise<void> {
    const label = `${this.#label}, round ${round}`;
    expect(connection.pragma("integrity_check"), label).toEqual([{ integrity_check: "ok" }]);
    for (const sql of CONTENT)
      expect(connection.prepare(sql).raw().all(), `${label}: ${sql}`).toEqual(
        this.replay.prepare(sql).raw().all(),
      );
    expect((await this.store.check()).problems, label).toEqual([]);
    // What is in the log is what was in memory.
    const disk = this.#disk.copyAfterCrash(this.#random);
    const recovered = openStore("", { ...SMALL_STORE, storage: disk });
    const again = recovered.connect("shop");
    expect(again.pragma("integrity_check"), label).toEqual([{ integrity_check: "ok" }]);
    for (const sql of CONTENT)
      expect(again.prepare(sql).raw().all(), `${label}, recovered: ${sql}`).toEqual(
        this.replay.prepare(sql).raw().all(),
      );
    recovered.close();
  }

  close(): void {
    this.store.close();
    this.#replayStore.close();
  }
}

test.each(Array.from({ length: SEEDS }, (_, seed) => seed + seedOffset))(
  "random transactions have an order that explains them, seed %i",
  async (seed) => {
    const random = new Random(seed);
    const world = new World(random, `seed ${seed}`);
    for (let round = 0; round < ROUNDS; round++) await world.round(round, STEPS);
    expect(world.counts.committed).toBeGreaterThan(5);
    world.close();
  },
);
