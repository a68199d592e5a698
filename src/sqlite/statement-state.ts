/**
 * A prepared statement as Statement and StatementIterator use it.
 *
 * S1. `enter` binds and marks the connection busy; each successful `enter` is followed by `finish` or `abandon`.
 * S2. After `finish`, SQLite refers to none of the arguments: those bound from the arena were bound for that run only,
 *     and a statement never runs without binding all of its parameters again (or keeps those of `bind()`, copied).
 * S3. A commit happens inside the last step or inside the reset of an unfinished statement: an error of either is
 *     thrown.
 */
import { bindAll, readParameters, type Binding, type StatementParameters } from "./binder.ts";
import { settleAttachedFiles } from "./attached-files.ts";
import type { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import type { StatementHandle } from "./statement-cache.ts";
import {
  SQLITE_DONE,
  SQLITE_OK,
  SQLITE_ROW,
  SQLITE_STATIC,
  SQLITE_TRANSIENT,
} from "./constants.ts";
import { makeRowMaker, RowMode, type RowMaker } from "./row-maker.ts";
import type { SqliteRuntime } from "./runtime.ts";

export class StatementState {
  readonly connection: ConnectionState;
  readonly runtime: SqliteRuntime;
  readonly sql: string;
  readonly returnsData: boolean;
  /** Borrowed: see statement-cache.ts. */
  handle: StatementHandle;
  locked = false;
  mode: RowMode = RowMode.flat;
  safeIntegers: boolean;
  /** What `bind()` was given. */
  #boundValues: readonly unknown[] | null = null;
  #temporary: Binding | null = null;
  #maker: RowMaker | null = null;
  /** The handle, and how often SQLite had prepared it again, when the maker was made. */
  #makerHandle: StatementHandle | null = null;
  #makerReprepares = 0;
  /** Where the arena was before this run's arguments; -1: none of them is in it. */
  #arenaMark = -1;

  constructor(
    connection: ConnectionState,
    { sql, handle, returnsData }: { sql: string; handle: StatementHandle; returnsData: boolean },
  ) {
    this.connection = connection;
    this.runtime = connection.runtime;
    this.sql = sql;
    this.handle = handle;
    this.returnsData = returnsData;
    this.safeIntegers = connection.safeIntegers;
  }

  /** Refuses in better-sqlite3's order: closed, busy connection, busy statement. */
  requireIdle(): void {
    if (this.connection.status !== ConnectionStatus.ready) this.connection.requireReady();
    if (this.locked) throw new TypeError("This statement is busy executing a query");
  }

  requireData(): void {
    if (!this.returnsData) {
      throw new TypeError("This statement does not return data. Use run() instead");
    }
  }

  /** Binds for one run. `keep`: the statement goes on after this call, so that SQLite copies text and blobs. */
  bind(values: readonly unknown[], keep: boolean): void {
    if (this.#boundValues === null) {
      this.#bindValues(values, keep);
    } else {
      if (values.length > 0) throw new TypeError("This statement already has bound parameters");
      this.#bindValues(this.#boundValues, keep);
    }
  }

  #bindValues(values: readonly unknown[], keep: boolean): void {
    const { heap } = this.runtime;
    this.#temporary ??= this.#makeBinding();
    this.#temporary.statement = this.handle.pointer;
    if (values.length === 0 && this.#temporary.parameters.count === 0) return;
    this.#arenaMark = heap.arenaTop;
    try {
      if (keep) {
        bindAll({ ...this.#temporary, lifetime: SQLITE_TRANSIENT }, values);
        this.#releaseArguments();
      } else {
        bindAll(this.#temporary, values);
      }
    } catch (error) {
      this.#releaseArguments();
      this.runtime.exports.sqlite3_clear_bindings(this.handle.pointer);
      throw error;
    }
  }

  /** See S1. */
  enter(values: readonly unknown[]): void {
    this.requireIdle();
    this.acquire();
    this.bind(values, false);
    this.connection.enter();
    if (this.connection.verbose !== null) this.log();
  }

  get bound(): boolean {
    return this.#boundValues !== null;
  }

  /** Checks the values now and binds them at each run. */
  bindForGood(values: readonly unknown[]): void {
    this.acquire();
    this.bind(values, true);
    this.#boundValues = values.map(snapshot);
  }

  /** Makes `handle` one that this statement may use: see P1 and P2. */
  acquire(): void {
    if (this.handle.pointer !== 0 && !this.handle.locked) return;
    const { connection } = this;
    this.handle = connection.statements.acquire(this.sql);
    if (!this.handle.cached) this.runtime.finalizeWith(this, connection, this.handle);
  }

  step(): number {
    try {
      return this.runtime.exports.sqlite3_step(this.handle.pointer);
    } catch (error) {
      throw this.runtime.fail(error);
    }
  }

  /** For `run`: its result is in the heap's scratch words, see fused-run.ts. */
  stepAndReset(): number {
    const { runtime } = this;
    try {
      return runtime.run(this.handle.pointer, this.connection.pointer, runtime.heap.scratch);
    } catch (error) {
      throw runtime.fail(error);
    }
  }

  /** Ends a run whose last step returned `code`; throws when it failed (S3). */
  finish(code: number): void {
    this.finishReset(code, this.#reset());
  }

  /** As `finish`, after the reset. */
  finishReset(code: number, resetCode: number): void {
    this.connection.leave();
    this.#releaseArguments();
    if (resetCode !== SQLITE_OK || (code !== SQLITE_ROW && code !== SQLITE_DONE)) {
      throw this.connection.failure();
    }
    if (this.connection.fileOpened) settleAttachedFiles(this.connection);
    if (this.handle.changesSchema) this.connection.schemaMayHaveChanged();
    if (this.handle.beginsConcurrent) this.connection.beganConcurrent();
  }

  /** Ends a run that an exception left. */
  abandon(): void {
    if (this.connection.status !== ConnectionStatus.busy) return;
    this.#reset();
    this.connection.leave();
    this.#releaseArguments();
  }

  #releaseArguments(): void {
    if (this.#arenaMark === -1) return;
    this.runtime.heap.arenaTop = this.#arenaMark;
    this.#arenaMark = -1;
  }

  #reset(): number {
    try {
      return this.runtime.exports.sqlite3_reset(this.handle.pointer);
    } catch (error) {
      throw this.runtime.fail(error);
    }
  }

  /** The current row, after a step returned SQLITE_ROW. */
  readRow(): unknown {
    const { layout, heap } = this.runtime;
    if (layout === null) return this.#readRowThroughInterface();
    const { handle } = this;
    const reprepares = heap.i32[(handle.pointer + layout.reprepares) >> 2]!;
    if (
      this.#maker === null ||
      this.#makerHandle !== handle ||
      this.#makerReprepares !== reprepares
    ) {
      this.#maker = this.#makeMaker();
      this.#makerHandle = handle;
      this.#makerReprepares = reprepares;
    }
    return this.#maker(this.runtime, heap.i32[(handle.pointer + layout.resultRow) >> 2]!);
  }

  /** After a change of mode or of integers. */
  shapeChanged(): void {
    this.#maker = null;
  }

  /** All rows from the current one to the last, appended to `rows`; returns the last step's code. */
  readRows(rows: unknown[]): number {
    const { layout, heap, exports } = this.runtime;
    rows.push(this.readRow());
    const maker = this.#maker;
    if (layout === null || maker === null) {
      let code = this.step();
      for (; code === SQLITE_ROW; code = this.step()) rows.push(this.readRow());
      return code;
    }
    const pointer = this.handle.pointer;
    const word = (pointer + layout.resultRow) >> 2;
    const { sqlite3_step } = exports;
    let code = this.step();
    while (code === SQLITE_ROW) {
      rows.push(maker(this.runtime, heap.i32[word]!));
      try {
        code = sqlite3_step(pointer);
      } catch (error) {
        throw this.runtime.fail(error);
      }
    }
    return code;
  }

  columnNames(): string[] {
    const { exports, heap } = this.runtime;
    const { pointer, answeredPragma } = this.handle;
    if (answeredPragma !== null) return [answeredPragma];
    const names: string[] = [];
    for (let index = 0; index < exports.sqlite3_column_count(pointer); index++) {
      names.push(heap.requireCString(exports.sqlite3_column_name(pointer, index)));
    }
    return names;
  }

  #makeMaker(): RowMaker {
    const { exports, heap } = this.runtime;
    const columns = this.columnNames();
    const tables =
      this.mode === RowMode.expand
        ? columns.map(
            (_, index) =>
              heap.readCString(exports.sqlite3_column_table_name(this.handle.pointer, index)) ??
              "$",
          )
        : [];
    return makeRowMaker({ columns, tables, mode: this.mode, safeIntegers: this.safeIntegers });
  }

  /** Mems are not known to be contiguous: this makes each column look like the first of a row. */
  #readRowThroughInterface(): unknown {
    const { exports, heap } = this.runtime;
    const { mode, safeIntegers } = this;
    const read = makeRowMaker({ columns: [], tables: [], mode: RowMode.pluck, safeIntegers });
    const value = (index: number): unknown =>
      read(this.runtime, exports.sqlite3_column_value(this.handle.pointer, index));
    if (mode === RowMode.pluck) return value(0);
    const columns = this.columnNames();
    if (mode === RowMode.raw) return columns.map((_, index) => value(index));
    if (mode === RowMode.flat)
      return Object.fromEntries(columns.map((name, index) => [name, value(index)]));
    const tables = new Map<string, [string, unknown][]>();
    for (const [index, name] of columns.entries()) {
      const table =
        heap.readCString(exports.sqlite3_column_table_name(this.handle.pointer, index)) ?? "$";
      tables.set(table, [...(tables.get(table) ?? []), [name, value(index)]]);
    }
    return Object.fromEntries(
      [...tables].map(([table, entries]) => [table, Object.fromEntries(entries)]),
    );
  }

  /** Hands the statement's SQL, with the bound values in it, to the connection's `verbose` function. */
  log(): void {
    const { exports, heap } = this.runtime;
    const text = exports.sqlite3_expanded_sql(this.handle.pointer);
    const sql = heap.readCString(text);
    exports.sqlite3_free(text);
    try {
      this.connection.verbose?.(sql);
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  #makeBinding(): Binding {
    const statement = this.handle.pointer;
    const parameters: StatementParameters = readParameters(this.runtime, statement);
    return { runtime: this.runtime, statement, parameters, lifetime: SQLITE_STATIC };
  }
}

/** What SQLite would have copied at once, so that later changes do not count. */
function snapshot(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) {
    return Buffer.from(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  }
  if (Array.isArray(value)) return value.map(snapshot);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, snapshot(item)]));
  }
  return value;
}
