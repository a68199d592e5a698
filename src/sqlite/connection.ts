/** A connection with better-sqlite3's methods, on a database that the runtime's VFS opens, or in memory. */
import { settleAttachedFiles } from "./attached-files.ts";
import { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import { SQLITE_DBCONFIG_DEFENSIVE } from "./constants.ts";
import {
  applySettings,
  closeDatabase,
  opened,
  openRequest,
  setOption,
  settingsScript,
} from "./database-handle.ts";
import { attachedOption, booleanOption, requireTimeout, toggled } from "./options.ts";
import {
  registerAggregate,
  registerFunction,
  type AggregateOptions,
  type FunctionOptions,
} from "./register-function.ts";
import { registerTable } from "./register-table.ts";
import type { TableFactory, TableOptions } from "./table-definition.ts";
import type { UserCallback } from "./user-functions.ts";
import { copyDatabase, type BackupOptions, type BackupProgress } from "./backup.ts";
import type { SqliteRuntime } from "./runtime.ts";
import { runScript } from "./script.ts";
import { deserialize, serialize } from "./serialization.ts";
import { SqliteError } from "./sqlite-error.ts";
import { mayChangeSchemaInScript } from "./statement-cache.ts";
import { Statement } from "./statement.ts";
import { StatementState } from "./statement-state.ts";
import {
  transactionFunction,
  type AnyFunction,
  type TransactionFunction,
} from "./transaction-function.ts";
import { isTrap } from "./trap.ts";

export interface ConnectionOptions {
  /** What the VFS is asked to open; ":memory:" and "" are private databases in memory and in a temporary file. */
  readonly name: string;
  /** What `connection.name` says; `name` by default. */
  readonly displayName?: string;
  readonly vfsName?: string;
  readonly readonly?: boolean;
  /** SQLITE_OPEN_CREATE is not given. */
  readonly fileMustExist?: boolean;
  /**
   * Milliseconds that SQLite repeats a busy lock. The thread sleeps in between, so that a lock held by another
   * connection of this thread cannot go away meanwhile. 0 by default.
   */
  readonly timeout?: number;
  /** Of a database that is still empty; 4096 by default. */
  readonly pageSize?: number;
  /** What PRAGMA synchronous says at first: 0 off, 1 normal, 2 full, which is the default. */
  readonly synchronous?: 0 | 1 | 2;
  /** How long one statement may wait for pages from object storage; Infinity by default. */
  readonly fetchTimeoutMs?: number;
  /** How long one statement may run, in milliseconds; Infinity by default. Then it fails with TIMEOUT. */
  readonly statementTimeoutMs?: number;
  /** Of a connection that is awaited: how long a statement may wait for the write lock; 5000 by default. */
  readonly busyTimeoutMs?: number;
  /** Given to `Vfs.open` as the owner; the Connection itself by default. */
  readonly owner?: object;
  /** Called with each statement's SQL before it runs. */
  readonly verbose?: ((...parameters: unknown[]) => unknown) | null;
  /** The database's bytes, for a database in memory. */
  readonly bytes?: Uint8Array | null;
}

export class Connection {
  readonly name: string;
  readonly memory: boolean;
  readonly readonly: boolean;
  readonly #state: ConnectionState;

  constructor(runtime: SqliteRuntime, options: ConnectionOptions) {
    runtime.requireRunning();
    this.name = options.displayName ?? options.name;
    this.memory = options.name === "" || options.name === ":memory:";
    this.readonly = options.readonly ?? false;
    this.#state = new ConnectionState(runtime, options.owner ?? this);
    this.#state.verbose = options.verbose ?? null;
    this.#state.fetchTimeoutMs = requireTimeout(options.fetchTimeoutMs ?? Infinity);
    openDatabase(this.#state, options);
    try {
      configure(this.#state, options);
      if (options.bytes) deserialize(this.#state, options.bytes, this.readonly);
    } catch (error) {
      closeDatabase(this.#state);
      throw error;
    }
  }

  get open(): boolean {
    return this.#state.status !== ConnectionStatus.closed;
  }

  get inTransaction(): boolean {
    const { status, runtime, pointer } = this.#state;
    if (status === ConnectionStatus.closed || status === ConnectionStatus.failed) return false;
    return runtime.exports.sqlite3_get_autocommit(pointer) === 0;
  }

  // As in @types/better-sqlite3; with `object`, TypeScript 5 cannot infer a declared Statement<[number]>.
  // oxlint-disable-next-line typescript/no-empty-object-type
  prepare<Parameters extends unknown[] | {} = unknown[], Row = unknown>(
    sql: string,
  ): Parameters extends unknown[] ? Statement<Parameters, Row> : Statement<[Parameters], Row>;
  prepare(sql: string): Statement {
    if (typeof sql !== "string") throw new TypeError("Expected first argument to be a string");
    const state = this.#state;
    state.requireReady();
    const handle = state.statements.acquire(sql);
    const { exports } = state.runtime;
    const returnsData = exports.sqlite3_column_count(handle.pointer) >= 1;
    return new Statement(new StatementState(state, { sql, handle, returnsData }), this);
  }

  exec(sql: string): this {
    if (typeof sql !== "string") throw new TypeError("Expected first argument to be a string");
    const state = this.#state;
    state.requireReady();
    state.requireNoIteratorsUnlessUnsafe();
    try {
      runScript(state, sql, {
        onStatement: (statement) => {
          if (state.verbose !== null) state.verbose(expandedSql(state, statement));
        },
        afterStatement: () => {
          if (state.fileOpened) settleAttachedFiles(state);
        },
      });
    } finally {
      if (mayChangeSchemaInScript(sql)) state.schemaMayHaveChanged();
    }
    return this;
  }

  pragma(source: string, options?: { simple?: boolean } | null): unknown {
    if (typeof source !== "string") throw new TypeError("Expected first argument to be a string");
    if (options !== undefined && typeof options !== "object") {
      throw new TypeError("Expected second argument to be an options object");
    }
    const simple = booleanOption(options ?? {}, "simple");
    const state = this.#state;
    state.requireReady();
    state.requireNoIteratorsUnlessUnsafe();
    const sql = `PRAGMA ${source}`;
    const handle = state.statements.acquireTemporary(sql);
    try {
      const prepared = new StatementState(state, { sql, handle, returnsData: true });
      const statement = new Statement(prepared, this);
      return simple ? statement.pluck().get() : statement.all();
    } finally {
      state.statements.finalize(handle);
    }
  }

  transaction<F extends AnyFunction>(body: F): TransactionFunction<F> {
    return transactionFunction(this, body);
  }

  /** Defines an SQL function. An exception that `call` throws reaches the caller of the statement. */
  function(name: string, call: UserCallback): this;
  function(name: string, options: FunctionOptions | null | undefined, call: UserCallback): this;
  function(name: string, options: unknown, call?: unknown): this {
    registerFunction(this.#state, name, options, call);
    return this;
  }

  /** Defines an aggregate function; with `inverse` a window function too. */
  aggregate(name: string, options: AggregateOptions): this {
    registerAggregate(this.#state, name, options);
    return this;
  }

  /** Defines a virtual table: one by this name, or a module for CREATE VIRTUAL TABLE ... USING name(...). */
  table(name: string, definition: TableOptions | TableFactory): this {
    registerTable(this.#state, name, definition);
    return this;
  }

  /** Copies the database into another one, which `openBackup` opens. */
  async backup(destination: string, options?: BackupOptions | null): Promise<BackupProgress> {
    if (typeof destination !== "string")
      throw new TypeError("Expected first argument to be a string");
    if (options !== undefined && typeof options !== "object") {
      throw new TypeError("Expected second argument to be an options object");
    }
    const name = destination.trim();
    if (name === "") throw new TypeError("Backup filename cannot be an empty string");
    if (name === ":memory:") throw new TypeError('Invalid backup filename ":memory:"');
    const attached = attachedOption(options ?? {});
    const progress = options?.progress ?? null;
    if (progress !== null && typeof progress !== "function") {
      throw new TypeError('Expected the "progress" option to be a function');
    }
    this.#state.requireReady();
    const target = this.openBackup(name);
    try {
      return await copyDatabase(this.#state, target.#state, { attached, progress });
    } finally {
      target.close();
    }
  }

  /** Opens what `backup` writes to: a database of the same VFS. It must belong to the same runtime. */
  protected openBackup(name: string): Connection {
    const { runtime, owner } = this.#state;
    return new Connection(runtime, { name, owner });
  }

  serialize(options?: { attached?: string } | null): Buffer {
    if (options !== undefined && typeof options !== "object") {
      throw new TypeError("Expected first argument to be an options object");
    }
    const attached = attachedOption(options ?? {});
    this.#state.requireReady();
    this.#state.requireNoIterators();
    return serialize(this.#state, attached);
  }

  loadExtension(...parameters: unknown[]): this {
    if (typeof parameters[0] !== "string")
      throw new TypeError("Expected first argument to be a string");
    this.#state.requireReady();
    this.#state.requireNoIterators();
    throw new SqliteError(
      `Cannot load extension "${parameters[0]}": SQLite runs in WebAssembly, which cannot load native code`,
      "SQLITE_ERROR",
    );
  }

  defaultSafeIntegers(...toggle: [enabled?: boolean]): this {
    this.#state.safeIntegers = toggled(toggle);
    return this;
  }

  unsafeMode(...toggle: [enabled?: boolean]): this {
    const state = this.#state;
    state.unsafe = toggled(toggle);
    if (state.pointer !== 0 && state.status !== ConnectionStatus.failed) {
      setOption(state, SQLITE_DBCONFIG_DEFENSIVE, !state.unsafe);
    }
    return this;
  }

  /** Makes the statement that is running fail with SQLITE_INTERRUPT: for use from within a user-defined function. */
  interrupt(): this {
    const { status, runtime, pointer } = this.#state;
    if (status === ConnectionStatus.busy || status === ConnectionStatus.ready) {
      runtime.exports.sqlite3_interrupt(pointer);
    }
    return this;
  }

  close(): this {
    const state = this.#state;
    if (state.status === ConnectionStatus.closed) return this;
    if (state.status !== ConnectionStatus.failed) {
      state.requireNotBusy();
      state.requireNoIterators();
    }
    closeDatabase(state);
    return this;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The SQL with the values of its parameters. */
function expandedSql({ runtime }: ConnectionState, statement: number): string | null {
  const { exports, heap } = runtime;
  const text = exports.sqlite3_expanded_sql(statement);
  const expanded = heap.readCString(text);
  exports.sqlite3_free(text);
  return expanded;
}

function openDatabase(state: ConnectionState, options: ConnectionOptions): void {
  const { runtime } = state;
  const { exports, heap } = runtime;
  const request = openRequest(state, options);
  state.enter();
  try {
    const { name, out, flags, vfsName } = request;
    opened(state, exports.sqlite3_open_v2(name, out, flags, vfsName), heap.i32[out >> 2]!);
  } catch (error) {
    if (isTrap(error)) throw runtime.fail(error);
    closeDatabase(state);
    throw error;
  } finally {
    state.leave();
    request.release();
  }
}

function configure(state: ConnectionState, options: ConnectionOptions): void {
  applySettings(state, options);
  state.internalPragma = true;
  try {
    runScript(state, settingsScript(options));
  } finally {
    state.internalPragma = false;
  }
  if (state.fileOpened) settleAttachedFiles(state);
}
