/** Who runs the transactions of the concurrent benchmarks: bough in three ways, better-sqlite3, and Turso where it is installed. */
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type BetterSqlite3 from "better-sqlite3";
import type { Load, Row, Step, Transaction } from "./concurrent-loads.ts";
import type { Sides, SqlStatement } from "./sides.ts";
import type { AsyncConnection } from "../../src/sqlite/async-connection.ts";
import type { AsyncStatement } from "../../src/sqlite/async-statement.ts";
import type { Store } from "../../src/store/store.ts";

/** Runs one transaction until it is durable; returns how many attempts that took. */
export type Client = (transaction: Transaction) => Promise<number>;

export interface ConcurrentSide {
  readonly name: string;
  client(): Promise<Client>;
  /** The one number of a query. */
  number(sql: string): Promise<number>;
  close(): Promise<void>;
}

const RETRIES = 1_000_000;

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && String(error.code).startsWith(code);
}

/** Waits for every statement. */
async function drive(
  body: Generator<Step, void, Row>,
  statement: (step: Exclude<Step, { kind: "wait" }>) => unknown,
): Promise<void> {
  let row: Row;
  for (;;) {
    const { done, value: step } = body.next(row);
    if (done === true) return;
    row = undefined;
    if (step.kind === "wait") await wait(step.ms);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    else row = (await statement(step)) as Row;
  }
}

/** The same at once, for transactions that do not wait. */
function driveNow(
  body: Generator<Step, void, Row>,
  statement: (step: Exclude<Step, { kind: "wait" }>) => unknown,
): void {
  let row: Row;
  for (;;) {
    const { done, value: step } = body.next(row);
    if (done === true) return;
    if (step.kind === "wait") throw new Error("A transaction that waits needs a driver that does");
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    row = statement(step) as Row;
  }
}

/** Prepared statements of one connection, by their text. */
function prepared(
  prepare: (sql: string) => SqlStatement,
): (step: Exclude<Step, { kind: "wait" }>) => unknown {
  const statements = new Map<string, SqlStatement>();
  return ({ kind, sql, values }) => {
    let statement = statements.get(sql);
    if (statement === undefined) statements.set(sql, (statement = prepare(sql)));
    return statement[kind](...values);
  };
}

async function openStore(sides: Sides, seed: string, load: Load): Promise<Store> {
  const store = sides.store();
  await store.importFile(seed, "data");
  const connection = store.connect("data");
  for (const table of load.tables) connection.exec(table);
  connection.close();
  store.checkpoint();
  return store;
}

function storeNumber(store: Store, sql: string): Promise<number> {
  const connection = store.connect("data");
  try {
    return Promise.resolve(Number(connection.prepare(sql).pluck().get()));
  } finally {
    connection.close();
  }
}

/** store.transact, for reads as well. */
export async function transactSide(
  sides: Sides,
  seed: string,
  load: Load,
): Promise<ConcurrentSide> {
  const store = await openStore(sides, seed, load);
  const client: Client = async ({ body }) => {
    let attempts = 0;
    await store.transact(
      "data",
      async (transaction) => {
        attempts = transaction.attempt;
        await drive(body(), ({ kind, sql, values }) => transaction[kind](sql, ...values));
      },
      { retries: RETRIES },
    );
    return attempts;
  };
  return {
    name: "store.transact",
    client: () => Promise.resolve(client),
    number: (sql) => storeNumber(store, sql),
    close: () => store.closeAsync(),
  };
}

/** An awaited connection for each client; reads by themselves, writes in BEGIN CONCURRENT. */
export async function awaitedSide(sides: Sides, seed: string, load: Load): Promise<ConcurrentSide> {
  const store = await openStore(sides, seed, load);
  return {
    name: "awaited connections",
    client: async () => awaitedClient(await store.open("data"), false),
    number: (sql) => storeNumber(store, sql),
    close: () => store.closeAsync(),
  };
}

/** The same without BEGIN: one statement is a transaction, and waits for its turn to write. Null where there are several. */
export async function statementSide(
  sides: Sides,
  seed: string,
  load: Load,
): Promise<ConcurrentSide | null> {
  if (load.hasWaits) return null;
  const store = await openStore(sides, seed, load);
  return {
    name: "awaited, no BEGIN",
    client: async () => awaitedClient(await store.open("data"), true),
    number: (sql) => storeNumber(store, sql),
    close: () => store.closeAsync(),
  };
}

function awaitedClient(connection: AsyncConnection, isStatement: boolean): Client {
  const statements = new Map<string, AsyncStatement>();
  const statement = async ({ kind, sql, values }: Exclude<Step, { kind: "wait" }>) => {
    let known = statements.get(sql);
    if (known === undefined) statements.set(sql, (known = await connection.prepare(sql)));
    return await known[kind](...values);
  };
  return async ({ writes, body }) => {
    for (let attempt = 1; ; attempt++) {
      try {
        if (writes && !isStatement)
          await connection.transaction(() => drive(body(), statement), { mode: "concurrent" });
        else await drive(body(), statement);
        return attempt;
      } catch (error) {
        if (!hasCode(error, "SQLITE_BUSY")) throw error;
      }
      await turn();
    }
  };
}

/**
 * Synchronous calls and `durably`. Transactions that do not wait share one connection, as they do in better-sqlite3; for those that do
 * each client has its own.
 */
export async function synchronousSide(
  sides: Sides,
  seed: string,
  load: Load,
): Promise<ConcurrentSide> {
  const store = await openStore(sides, seed, load);
  const shared = load.hasWaits ? null : synchronousClient(store);
  return {
    name: "synchronous, durably",
    client: () => Promise.resolve(shared ?? waitingClient(store)),
    number: (sql) => storeNumber(store, sql),
    close: () => store.closeAsync(),
  };
}

function synchronousClient(store: Store): Client {
  const connection = store.connect("data");
  const statement = prepared((sql) => connection.prepare(sql));
  const { concurrent } = connection.transaction((body: Generator<Step, void, Row>) =>
    driveNow(body, statement),
  );
  return async ({ writes, body }) => {
    if (writes) await connection.durably(() => concurrent(body()));
    else driveNow(body(), statement);
    return 1; // Nobody comes in between.
  };
}

function waitingClient(store: Store): Client {
  const connection = store.connect("data");
  const statement = prepared((sql) => connection.prepare(sql));
  return async ({ body }) => {
    for (let attempt = 1; ; attempt++) {
      try {
        connection.exec("BEGIN CONCURRENT");
        await drive(body(), statement);
        await connection.durably(() => connection.exec("COMMIT"));
        return attempt;
      } catch (error) {
        if (connection.inTransaction) connection.exec("ROLLBACK");
        if (!hasCode(error, "SQLITE_BUSY")) throw error;
      }
    }
  };
}

/** First come, first served. */
class Mutex {
  readonly #waiting: (() => void)[] = [];
  #isHeld = false;

  async hold(body: () => Promise<void> | void): Promise<void> {
    if (this.#isHeld) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#isHeld = true;
    try {
      await body();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#isHeld = false;
      else next();
    }
  }
}

/**
 * SQLite has one writer, and better-sqlite3's calls are synchronous: the clients of a process share a connection, and hold it for the
 * whole of a transaction that writes, their own waits included. Reads do not wait for it, unless a transaction is open.
 */
export function sqliteSide(sides: Sides, seed: string, load: Load): ConcurrentSide {
  const file = sides.workspace.path("plain.db");
  fs.copyFileSync(seed, file);
  const sqlite: BetterSqlite3.Database = sides.sqlite("full", file);
  for (const table of load.tables) sqlite.exec(table);
  const statement = prepared((sql) => sqlite.prepare(sql));
  const [begin, commit] = [sqlite.prepare("BEGIN IMMEDIATE"), sqlite.prepare("COMMIT")];
  const mutex = new Mutex();
  const client: Client = async ({ writes, body }) => {
    if (!writes) {
      driveNow(body(), statement);
      return 1;
    }
    await mutex.hold(async () => {
      begin.run();
      if (load.hasWaits) await drive(body(), statement);
      else driveNow(body(), statement);
      commit.run();
    });
    return 1;
  };
  return {
    name: "better-sqlite3",
    client: () => Promise.resolve(client),
    number: (sql) => Promise.resolve(Number(sqlite.prepare(sql).pluck().get())),
    close: () => {
      sqlite.close();
      return Promise.resolve();
    },
  };
}

/** The part of @tursodatabase/database that is used here. */
interface TursoDatabase {
  prepare(sql: string): {
    run(...values: unknown[]): Promise<unknown>;
    get(...values: unknown[]): Promise<Record<string, unknown> | undefined>;
  };
  exec(sql: string): Promise<unknown>;
  close(): Promise<void> | void;
}

interface TursoModule {
  connect(path: string, options?: { readonly timeout?: number }): Promise<TursoDatabase>;
}

/** Null with a word to people when it is not installed here. */
export async function loadTurso(root: string): Promise<TursoModule | null> {
  const require = createRequire(path.join(root, "benchmarks/package.json"));
  try {
    const file = require.resolve("@tursodatabase/database");
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    return (await import(file)) as TursoModule;
  } catch (error) {
    process.stderr.write(`@tursodatabase/database is left out: it does not load here (${error})\n`);
    return null;
  }
}

/** A connection for each client, journal_mode = mvcc, synchronous = FULL, BEGIN CONCURRENT. Throws when it has no MVCC. */
export async function tursoSide(
  turso: TursoModule,
  sides: Sides,
  seed: string,
  load: Load,
): Promise<ConcurrentSide> {
  const file = sides.workspace.path("turso.db");
  fs.copyFileSync(seed, file);
  const first = await turso.connect(file);
  const connections = [first];
  const number = async (sql: string): Promise<number> =>
    Number(Object.values((await first.prepare(sql).get()) ?? {})[0]);
  const mode = Object.values((await first.prepare("PRAGMA journal_mode = 'mvcc'").get()) ?? {})[0];
  if (mode !== "mvcc") throw new Error(`its journal_mode is "${String(mode)}", not "mvcc"`);
  if ((await number("PRAGMA synchronous")) !== 2) throw new Error("its synchronous is not FULL");
  for (const table of load.tables) await first.exec(table);
  return {
    name: "turso",
    client: async () => {
      const connection = await turso.connect(file);
      connections.push(connection);
      return tursoClient(connection);
    },
    number,
    close: async () => {
      for (const connection of connections) await connection.close();
    },
  };
}

function tursoClient(connection: TursoDatabase): Client {
  const statements = new Map<string, ReturnType<TursoDatabase["prepare"]>>();
  const statement = ({ kind, sql, values }: Exclude<Step, { kind: "wait" }>): Promise<unknown> => {
    let known = statements.get(sql);
    if (known === undefined) statements.set(sql, (known = connection.prepare(sql)));
    return known[kind](...values);
  };
  const begin = connection.prepare("BEGIN CONCURRENT");
  const commit = connection.prepare("COMMIT");
  return async ({ writes, body }) => {
    for (let attempt = 1; ; attempt++) {
      let isOpen = false;
      try {
        if (writes) {
          await begin.run();
          isOpen = true;
        }
        await drive(body(), statement);
        if (writes) await commit.run();
        return attempt;
      } catch (error) {
        if (isOpen) await connection.exec("ROLLBACK").catch(() => {}); // It may have done that itself.
        if (!isTursoConflict(error)) throw error;
      }
      await turn();
    }
  };
}

function isTursoConflict(error: unknown): boolean {
  return error instanceof Error && /conflict|busy|locked/i.test(error.message);
}
