/**
 * The operations of a workload as SQL, over whatever runs transactions on a SQLite database. A session is one connection;
 * between any two of its calls other clients run.
 *
 *   list      rows of lists(key, position, value), or one row of documents(key, list) as JSON
 *   register  a row of registers(key, value)
 *   row       a row of rows(key); a scan is a range of it
 */
import type { Operation, OutcomeStatus } from "./history.ts";
import type { Client, Outcome } from "./run-workload.ts";
import type { PlannedOperation } from "./workload.ts";

export const SQL_SCHEMA: string = `
  CREATE TABLE lists(key TEXT, position INTEGER, value INTEGER, PRIMARY KEY (key, position)) WITHOUT ROWID;
  CREATE TABLE documents(key TEXT PRIMARY KEY, list TEXT NOT NULL);
  CREATE TABLE registers(key TEXT PRIMARY KEY, value INTEGER NOT NULL);
  CREATE TABLE rows(key TEXT PRIMARY KEY, note TEXT NOT NULL);`;

type SqlValue = string | number | null;

export interface SqlSession {
  begin(): void | Promise<void>;
  /** The first column of each row. */
  column(sql: string, ...values: SqlValue[]): readonly unknown[] | Promise<readonly unknown[]>;
  /** How many rows it changed. */
  run(sql: string, ...values: SqlValue[]): number | Promise<number>;
  commit(): void | Promise<void>;
  /** After an error, of the commit too; when no transaction is open it does nothing. */
  rollback(): void | Promise<void>;
  /** What an error of these calls means. It throws errors that a store may not give. */
  statusOf(error: unknown): Exclude<OutcomeStatus, "ok">;
  close(): void | Promise<void>;
}

export interface SqlClientOptions {
  readonly lists: "rows" | "json";
  /** Awaited between two calls of the session, so that other clients run. */
  readonly pause: () => Promise<void>;
}

export class SqlClient implements Client {
  readonly #session: SqlSession;
  readonly #options: SqlClientOptions;

  constructor(session: SqlSession, options: SqlClientOptions) {
    this.#session = session;
    this.#options = options;
  }

  async transact(planned: readonly PlannedOperation[]): Promise<Outcome> {
    const operations: Operation[] = [];
    try {
      await this.#session.begin();
      for (const operation of planned) {
        await this.#options.pause();
        await this.#apply(operation, operations);
      }
      await this.#options.pause();
      await this.#session.commit();
      return { status: "ok", operations };
    } catch (error) {
      const status = this.#session.statusOf(error);
      await this.#session.rollback();
      return { status, operations };
    }
  }

  async close(): Promise<void> {
    await this.#session.close();
  }

  /** A write is put down before it is done: it was begun, whatever becomes of it. */
  async #apply(operation: PlannedOperation, done: Operation[]): Promise<void> {
    const session = this.#session;
    const { kind } = operation;
    switch (kind) {
      case "append": {
        const { key, value } = operation;
        done.push({ kind, key, value });
        await this.#append(key, value);
        return;
      }
      case "write": {
        const { key, value } = operation;
        done.push({ kind, key, value });
        await session.run("INSERT OR REPLACE INTO registers VALUES (?, ?)", key, value);
        return;
      }
      case "insert": {
        const { key } = operation;
        done.push({ kind, key });
        await session.run("INSERT INTO rows VALUES (?, ?)", key, "n".repeat(key.length * 7));
        return;
      }
      case "delete": {
        const { key } = operation;
        const found = (await session.run("DELETE FROM rows WHERE key = ?", key)) > 0;
        done.push({ kind, key, found });
        return;
      }
      case "read-list":
        done.push({ kind, key: operation.key, values: await this.#list(operation.key) });
        return;
      case "read-register": {
        const { key } = operation;
        const found = await session.column("SELECT value FROM registers WHERE key = ?", key);
        done.push({ kind, key, value: found.length === 0 ? null : Number(found[0]) });
        return;
      }
      case "scan": {
        const { prefix } = operation;
        const keys = await session.column(
          "SELECT key FROM rows WHERE key >= ? AND key < ? ORDER BY key",
          prefix,
          `${prefix}\u{10ffff}`,
        );
        done.push({ kind, prefix, keys: keys.map(String) });
      }
    }
  }

  async #append(key: string, value: number): Promise<void> {
    const session = this.#session;
    if (this.#options.lists === "json") {
      const list = await this.#list(key);
      await this.#options.pause();
      const text = JSON.stringify([...list, value]);
      await session.run("INSERT OR REPLACE INTO documents VALUES (?, ?)", key, text);
      return;
    }
    await session.run(
      "INSERT INTO lists SELECT ?, coalesce(max(position), 0) + 1, ? FROM lists WHERE key = ?",
      key,
      value,
      key,
    );
  }

  async #list(key: string): Promise<number[]> {
    const session = this.#session;
    if (this.#options.lists === "json") {
      const found = await session.column("SELECT list FROM documents WHERE key = ?", key);
      const list: unknown = found.length === 0 ? [] : JSON.parse(String(found[0]));
      if (!Array.isArray(list)) throw new TypeError(`The list "${key}" is ${String(found[0])}`);
      return list.map(Number);
    }
    const values = await session.column(
      "SELECT value FROM lists WHERE key = ? ORDER BY position",
      key,
    );
    return values.map(Number);
  }
}
