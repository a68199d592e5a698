/** What the function of `store.transact` works with: one attempt of one transaction, on a connection that it does not own. */
import { AsyncLocalStorage } from "node:async_hooks";
import type { AsyncStatement } from "../sqlite/async-statement.ts";
import type { RunResult } from "../sqlite/statement.ts";
import type { PooledConnection } from "./connection-pool.ts";

const STATEMENTS_MAX = 100;

export class Transaction {
  /** What `store.outcome` asks for: 32 hexadecimal digits. */
  readonly id: string;
  /** 1 for the first run of the function, 2 when it is run again, and so on. */
  readonly attempt: number;
  readonly #pooled: PooledConnection;
  /** Calls belong to the transaction wherever they are made from. */
  readonly #inside: <T>(call: () => T) => T;
  readonly #signal: () => AbortSignal;
  #isOver = false;

  /** @internal To be made within the transaction's function. `signal`: aborted when the attempt has ended. */
  constructor(
    pooled: PooledConnection,
    { id, attempt, signal }: { id: string; attempt: number; signal: () => AbortSignal },
  ) {
    this.id = id;
    this.attempt = attempt;
    this.#pooled = pooled;
    this.#signal = signal;
    this.#inside = AsyncLocalStorage.snapshot();
  }

  /** A statement of this transaction: it cannot be used after it. */
  prepare<Row = unknown>(sql: string): Promise<AsyncStatement<unknown[], Row>> {
    return this.#call(
      async ({ connection }) =>
        await connection.prepare<unknown[], Row>(sql, { signal: this.#signal() }),
    );
  }

  run(sql: string, ...values: unknown[]): Promise<RunResult> {
    return this.#call(async (pooled) => await (await statementOf(pooled, sql)).run(...values));
  }

  /** The first row, or undefined. */
  get<Row = unknown>(sql: string, ...values: unknown[]): Promise<Row | undefined> {
    return this.#call(
      async (pooled) => (await (await statementOf(pooled, sql)).get(...values)) as Row | undefined,
    );
  }

  all<Row = unknown>(sql: string, ...values: unknown[]): Promise<Row[]> {
    return this.#call(
      async (pooled) => (await (await statementOf(pooled, sql)).all(...values)) as Row[],
    );
  }

  /** Any number of statements, without parameters. */
  exec(sql: string): Promise<void> {
    return this.#call(
      async ({ connection }) => await connection.exec(sql, { signal: this.#signal() }),
    );
  }

  /** @internal */
  end(): void {
    this.#isOver = true;
  }

  async #call<T>(call: (pooled: PooledConnection) => Promise<T>): Promise<T> {
    if (this.#isOver)
      throw new TypeError("Cannot use the transaction: it has ended; await all calls within it");
    return await this.#inside(() => call(this.#pooled));
  }
}

async function statementOf(pooled: PooledConnection, sql: string): Promise<AsyncStatement> {
  const { statements, connection } = pooled;
  const known = statements.get(sql);
  if (known !== undefined) return known;
  const statement = await connection.prepare(sql);
  if (statements.size >= STATEMENTS_MAX)
    for (const oldest of statements.keys()) {
      statements.delete(oldest);
      break;
    }
  statements.set(sql, statement);
  return statement;
}
