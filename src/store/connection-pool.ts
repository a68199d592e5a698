/**
 * Awaited connections for `store.transact`, used again and again.
 *
 *   (none) --take, none idle--> in use --give--> idle --take--> in use
 *   in use --give, not clean--> closed       idle --too many, the store is closed--> closed
 *
 * O1. At most CONNECTIONS_MAX are in use; who comes then waits, first come, first served.
 * O2. One is used again only for the same branch and options, by their ids: a branch that was deleted and made anew, or another one that
 *     has taken its name, is another branch.
 * O3. What may have left something behind on the connection (a pragma, a temporary table; traces.ts) closes it. So does a failure.
 * O4. Idle ones are parked like all awaited connections when memory asks for it (runtime-pool.ts).
 */
import { StoreError } from "../errors.ts";
import type { AsyncConnection } from "../sqlite/async-connection.ts";
import type { AsyncStatement } from "../sqlite/async-statement.ts";
import type { Session } from "./session.ts";

export interface OpenedConnection {
  readonly session: Session;
  readonly connection: AsyncConnection;
}

export interface PooledConnection extends OpenedConnection {
  /** Null: not to be used again. */
  readonly key: string | null;
  /** By SQL text. */
  readonly statements: Map<string, AsyncStatement>;
}

/** Each has an instance of SQLite with a page cache of up to 16 MB. */
const CONNECTIONS_MAX = 64;
/**
 * All that may be in use: they are given back together, when the commits of a group are in the log, and are taken again when those are
 * durable. With fewer, making instances of SQLite anew was nearly all that 64 clients did.
 */
const IDLE_MAX: number = CONNECTIONS_MAX;

export class ConnectionPool {
  readonly #description: string;
  /** The one used last is the last. */
  readonly #idle: PooledConnection[] = [];
  readonly #waiting: (() => void)[] = [];
  #inUse = 0;
  #isClosed = false;

  constructor(description: string) {
    this.#description = description;
  }

  /** Waits for its turn (O1); `give` it back. */
  async take(
    { key, signal }: { readonly key: string | null; readonly signal: AbortSignal | null },
    open: () => Promise<OpenedConnection>,
  ): Promise<PooledConnection> {
    this.#requireOpen();
    signal?.throwIfAborted();
    if (this.#inUse >= CONNECTIONS_MAX) await this.#turn(signal);
    else this.#inUse++;
    try {
      this.#requireOpen();
      return this.#find(key) ?? { ...(await open()), key, statements: new Map() };
    } catch (error) {
      this.#leave();
      throw error;
    }
  }

  async give(pooled: PooledConnection): Promise<void> {
    this.#leave();
    const { connection, key } = pooled;
    if (!connection.open) return;
    if (key === null || this.#isClosed || connection.inTransaction || !connection.isClean) {
      await connection.close();
      return;
    }
    this.#idle.push(pooled);
    if (this.#idle.length > IDLE_MAX) await this.#idle.shift()?.connection.close();
  }

  /** No more are taken. The store closes those that there are. */
  close(): void {
    this.#isClosed = true;
    this.#idle.length = 0;
  }

  #find(key: string | null): PooledConnection | null {
    if (key === null) return null;
    for (;;) {
      const index = this.#idle.findLastIndex((pooled) => pooled.key === key);
      if (index < 0) return null;
      const [found] = this.#idle.splice(index, 1);
      if (found !== undefined && found.connection.open) return found;
    }
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inUse--;
    else next(); // Its place goes on being in use.
  }

  #turn(signal: AbortSignal | null): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        const index = this.#waiting.indexOf(go);
        if (index >= 0) this.#waiting.splice(index, 1);
        // As `throwIfAborted` throws it.
        // oxlint-disable-next-line typescript/prefer-promise-reject-errors
        reject(signal?.reason);
      };
      this.#waiting.push(go);
      signal?.addEventListener("abort", leave, { once: true });
    });
  }

  #requireOpen(): void {
    if (!this.#isClosed) return;
    throw new StoreError(
      "STORE_CLOSED",
      `Cannot run a transaction on store "${this.#description}": it is closed`,
    );
  }
}
