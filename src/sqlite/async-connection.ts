/**
 * A connection whose calls are awaited: while one waits for a page in object storage, the thread serves others. Where calls
 * into SQLite cannot be suspended (Node before 24) the API is the same and such a wait blocks the thread.
 *
 *   open --close()--> closing: calls made before have their turns, new ones are refused --> closed
 *   open <--> parked, while nobody uses it: see parking.ts
 *
 * A transaction(...) is one call for all who are outside of it; calls from within its function belong to it, whatever
 * object they are made on.
 */
import { AsyncCalls, type CallHooks, type CallLimits } from "./async-calls.ts";
import { AsyncExecutor } from "./async-executor.ts";
import { AsyncStatement } from "./async-statement.ts";
import type { ConnectionOptions } from "./connection.ts";
import { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import { closeDatabase } from "./database-handle.ts";
import { booleanOption, requireBusyTimeout, requireTimeout } from "./options.ts";
import {
  type AggregateOptions,
  type FunctionOptions,
  registerAggregate,
  registerFunction,
} from "./register-function.ts";
import { openDatabase, Parking, type RuntimeSource } from "./parking.ts";
import { registerTable } from "./register-table.ts";
import type { SqliteRuntime } from "./runtime.ts";
import { mayChangeSchemaInScript } from "./statement-cache.ts";
import { StatementState } from "./statement-state.ts";
import type { TableFactory, TableOptions } from "./table-definition.ts";
import type { UserCallback } from "./user-functions.ts";

export interface TransactionOptions extends CallLimits {
  /** "deferred" by default: the write lock is taken by the first statement that writes. */
  readonly mode?: "deferred" | "immediate" | "exclusive" | "concurrent";
}

const MODES: readonly string[] = ["deferred", "immediate", "exclusive", "concurrent"];
/** As better-sqlite3's option "timeout". */
const BUSY_TIMEOUT_MS = 5000;
const SAVEPOINT = "`\t_bough_savepoint.\t`";

export class AsyncConnection {
  readonly name: string;
  readonly readonly: boolean;
  readonly #calls: AsyncCalls;
  readonly #parking: Parking;
  #closing: Promise<void> | null = null;

  private constructor(calls: AsyncCalls, parking: Parking, options: ConnectionOptions) {
    this.#calls = calls;
    this.#parking = parking;
    this.name = options.displayName ?? options.name;
    this.readonly = options.readonly ?? false;
  }

  /** @internal */
  static async open(
    source: RuntimeSource,
    options: ConnectionOptions,
    given: { readonly hooks?: CallHooks; readonly limits?: CallLimits } = {},
  ): Promise<AsyncConnection> {
    const runtime = source.take();
    const state = new ConnectionState(runtime, options.owner ?? {});
    state.verbose = options.verbose ?? null;
    state.fetchTimeoutMs = requireTimeout(options.fetchTimeoutMs ?? Infinity);
    // Here too: what the turn below sets is put back at its end.
    state.statementTimeoutMs = requireTimeout(options.statementTimeoutMs ?? Infinity);
    state.busyTimeoutMs = requireBusyTimeout(options.busyTimeoutMs ?? BUSY_TIMEOUT_MS);
    const calls = new AsyncCalls(state, given.hooks ?? null);
    try {
      await calls.turn(given.limits ?? {}, async () => await openDatabase(calls, options));
    } catch (error) {
      closeDatabase(state);
      source.give(runtime);
      throw error;
    }
    calls.parking = new Parking(calls, options, source);
    calls.parking.idle();
    return new AsyncConnection(calls, calls.parking, options);
  }

  get open(): boolean {
    return this.#closing === null;
  }

  get inTransaction(): boolean {
    const { state } = this.#calls;
    return (
      state.pointer !== 0 &&
      state.status !== ConnectionStatus.failed &&
      state.runtime.exports.sqlite3_get_autocommit(state.pointer) === 0
    );
  }

  /** @internal */
  get isParked(): boolean {
    return this.#calls.state.status === ConnectionStatus.parked;
  }

  /** @internal Whether nothing but its commits is left of what it was used for; see traces.ts. */
  get isClean(): boolean {
    const { status } = this.#calls.state;
    if (status === ConnectionStatus.failed || status === ConnectionStatus.closed) return false;
    return this.isParked || this.#parking.isClean;
  }

  // As Connection.prepare.
  // oxlint-disable-next-line typescript/no-empty-object-type
  prepare<Parameters extends unknown[] | {} = unknown[], Row = unknown>(
    sql: string,
    limits?: CallLimits,
  ): Promise<
    Parameters extends unknown[]
      ? AsyncStatement<Parameters, Row>
      : AsyncStatement<[Parameters], Row>
  >;
  /** Rejects for what is no statement. `limits`: also of the statement's calls. */
  async prepare(sql: string, limits: CallLimits = {}): Promise<AsyncStatement> {
    requireText(sql);
    const calls = this.#openCalls();
    return await calls.turn(limits, async () => {
      const handle = await calls.acquire(sql);
      const { exports } = calls.runtime;
      try {
        const returnsData = exports.sqlite3_column_count(handle.pointer) >= 1;
        const isReadOnly = exports.sqlite3_stmt_readonly(handle.pointer) !== 0;
        return new AsyncStatement(calls, { sql, returnsData, isReadOnly }, limits);
      } finally {
        calls.release(handle);
      }
    });
  }

  /** Runs any number of statements, without parameters. */
  async exec(sql: string, limits: CallLimits = {}): Promise<void> {
    requireText(sql);
    const calls = this.#openCalls();
    const { state } = calls;
    await calls.turnDurably(limits, async () => {
      state.requireNoIteratorsUnlessUnsafe();
      try {
        await calls.script(sql, {
          onStatement: (statement) => state.verbose?.(expandedSql(calls.runtime, statement)),
          afterStatement: async () => {
            if (state.fileOpened) await calls.settleAttachedFiles();
          },
        });
      } finally {
        if (mayChangeSchemaInScript(sql)) state.schemaMayHaveChanged();
      }
    });
  }

  async pragma(source: string, options: { readonly simple?: boolean } = {}): Promise<unknown> {
    requireText(source);
    const simple = booleanOption(options, "simple");
    const calls = this.#openCalls();
    const run = async (): Promise<unknown> => {
      const sql = `PRAGMA ${source}`;
      const handle = await calls.acquireTemporary(sql);
      const statement = new StatementState(calls.state, { sql, handle, returnsData: true });
      try {
        calls.enter();
        const rows: unknown[] = [];
        const code = await calls.steps(handle.pointer, () => {
          rows.push(statement.readRow());
          return simple;
        });
        await calls.finish(() => statement.finish(code));
        return simple ? firstValue(rows[0]) : rows;
      } catch (error) {
        statement.abandon();
        throw error;
      } finally {
        calls.release(handle);
      }
    };
    return await calls.turnDurably({}, async () => {
      calls.state.requireNoIteratorsUnlessUnsafe();
      return await calls.untilWritable(run);
    });
  }

  /**
   * Runs `body` in a transaction, or in a savepoint when called within one: commits when its promise resolves, rolls back when
   * it rejects. Other calls on this connection wait until then. The limits are those of BEGIN and COMMIT and the waits of
   * calls within that set none.
   */
  async transaction<T>(
    body: () => Promise<T> | T,
    { mode = "deferred", ...limits }: TransactionOptions = {},
  ): Promise<T> {
    if (typeof body !== "function") throw new TypeError("Expected first argument to be a function");
    requireMode(mode);
    const calls = this.#openCalls();
    return await calls.turnDurably(limits, () => this.#transaction(body, mode));
  }

  /** @internal The same, but it resolves once the commit is in the log; `settled` makes it durable. */
  async attempt<T>(
    body: () => Promise<T>,
    { mode = "deferred", ...limits }: TransactionOptions,
  ): Promise<T> {
    requireMode(mode);
    const calls = this.#openCalls();
    return await calls.turn(limits, () => this.#transaction(body, mode));
  }

  /** @internal For servers, which have one each. */
  executor(): AsyncExecutor {
    return new AsyncExecutor(this.#openCalls());
  }

  /** @internal See CallHooks. */
  settled(): Promise<void> | null {
    return this.#calls.hooks?.settled(true) ?? null;
  }

  /** @internal After a conflict with a transaction that holds the write lock: false when there is none to wait for. */
  async writerIsGone(signal: AbortSignal | null): Promise<boolean> {
    const { hooks, state } = this.#calls;
    if (hooks === null || state.busyTimeoutMs === 0) return false;
    const timeoutMs = state.busyTimeoutMs;
    const done = await hooks.contended({ signal, timeoutMs, isAgain: false });
    done?.();
    return done !== null;
  }

  async #transaction<T>(
    body: () => Promise<T> | T,
    mode: NonNullable<TransactionOptions["mode"]>,
  ): Promise<T> {
    const calls = this.#calls;
    const isNested = this.inTransaction;
    await calls.command(isNested ? `SAVEPOINT ${SAVEPOINT}` : `BEGIN ${mode}`);
    return await calls.nest(
      async () => await body(),
      async (failed) => await this.#end({ isNested, failed }),
    );
  }

  /** Defines an SQL function, which is called on the thread's time. */
  function(name: string, call: UserCallback): Promise<void>;
  function(name: string, options: FunctionOptions | null, call: UserCallback): Promise<void>;
  async function(name: string, options: unknown, call?: unknown): Promise<void> {
    await this.#register((state) => registerFunction(state, name, options, call));
  }

  async aggregate(name: string, options: AggregateOptions): Promise<void> {
    await this.#register((state) => registerAggregate(state, name, options));
  }

  async table(name: string, definition: TableOptions | TableFactory): Promise<void> {
    await this.#register((state) => registerTable(state, name, definition));
  }

  defaultSafeIntegers(enabled = true): this {
    this.#calls.state.safeIntegers = enabled;
    return this;
  }

  /** Makes the call that is running fail with SQLITE_INTERRUPT, also while it waits for a page. */
  interrupt(): void {
    this.#calls.interrupt();
  }

  /** Resolves when it is closed: after the calls that were made before. A transaction that is open is rolled back. */
  close(): Promise<void> {
    if (this.#calls.isWithinTransaction)
      return Promise.reject(
        new TypeError("Cannot close the connection within its transaction: end that first"),
      );
    return (this.#closing ??= this.#close());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal For a store that is closed at once: false when a call is running. */
  closeIdle(): boolean {
    const { state } = this.#calls;
    if (state.status === ConnectionStatus.busy) return false;
    this.#closing ??= Promise.resolve();
    this.#closeNow();
    return true;
  }

  async #close(): Promise<void> {
    const { state } = this.#calls;
    if (state.status === ConnectionStatus.failed) {
      this.#closeNow();
      return;
    }
    await this.#calls.last(() => this.#closeNow());
  }

  #closeNow(): void {
    const { state, hooks } = this.#calls;
    if (state.status === ConnectionStatus.closed) return;
    try {
      this.#parking.close();
    } finally {
      hooks?.closed();
    }
  }

  async #end({ isNested, failed }: { isNested: boolean; failed: boolean }): Promise<void> {
    const calls = this.#calls;
    if (!failed) {
      try {
        await calls.command(isNested ? `RELEASE ${SAVEPOINT}` : "COMMIT");
        return;
      } catch (error) {
        await this.#rollBack(isNested);
        throw error;
      }
    }
    await this.#rollBack(isNested);
  }

  async #rollBack(isNested: boolean): Promise<void> {
    this.#calls.state.signal = null; // Given up or not, this must be done.
    // SQLite itself may have rolled back, after a fetch that failed for example.
    if (!this.inTransaction) return;
    const calls = this.#calls;
    await calls.script(isNested ? `ROLLBACK TO ${SAVEPOINT}; RELEASE ${SAVEPOINT}` : "ROLLBACK");
    calls.state.schemaMayHaveChanged();
  }

  async #register(register: (state: ConnectionState) => string): Promise<void> {
    const calls = this.#openCalls();
    await calls.turn({}, async () => {
      await Promise.resolve();
      this.#parking.register(register);
    });
  }

  #openCalls(): AsyncCalls {
    const { state } = this.#calls;
    if (state.status === ConnectionStatus.failed) throw state.runtime.failureError();
    if (this.#closing !== null && !this.#calls.isWithinTransaction)
      throw new TypeError("The database connection is not open");
    return this.#calls;
  }
}

function expandedSql({ exports, heap }: SqliteRuntime, statement: number): string | null {
  const text = exports.sqlite3_expanded_sql(statement);
  const expanded = heap.readCString(text);
  exports.sqlite3_free(text);
  return expanded;
}

function firstValue(row: unknown): unknown {
  return typeof row === "object" && row !== null ? Object.values(row)[0] : undefined;
}

function requireMode(mode: string): void {
  if (!MODES.includes(mode))
    throw new TypeError(`Option "mode": "${mode}" is not one of ${MODES.join(", ")}`);
}

function requireText(text: string): void {
  if (typeof text !== "string") throw new TypeError("Expected first argument to be a string");
}
