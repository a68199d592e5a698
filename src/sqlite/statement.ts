/** A prepared statement with better-sqlite3's methods. Made by Connection.prepare. */
import type { Connection } from "./connection.ts";
import { SQLITE_ROW } from "./constants.ts";
import { toggled } from "./options.ts";
import { RowMode } from "./row-maker.ts";
import { StatementIterator } from "./statement-iterator.ts";
import { StatementState } from "./statement-state.ts";

export interface RunResult {
  /** Rows inserted, updated or deleted by the statement itself, without triggers and foreign key actions. */
  changes: number;
  lastInsertRowid: number | bigint;
}

export interface ColumnDefinition {
  name: string;
  column: string | null;
  table: string | null;
  database: string | null;
  type: string | null;
}

/**
 * `Parameters`: the values that each run takes; `Row`: what a row is read as. Both are the caller's word: nothing checks
 * them. As in @types/better-sqlite3.
 */
export class Statement<Parameters extends unknown[] = unknown[], Row = unknown> {
  /** The SQL text it was prepared from. */
  readonly source: string;
  readonly database: Connection;
  /** Whether it returns rows. */
  readonly reader: boolean;
  /** Whether it leaves the database unchanged. */
  readonly readonly: boolean;
  readonly #state: StatementState;

  constructor(state: StatementState, database: Connection) {
    if (!(state instanceof StatementState)) {
      throw new TypeError("Statements can only be constructed by the db.prepare() method");
    }
    this.#state = state;
    this.source = state.sql;
    this.database = database;
    this.reader = state.returnsData;
    this.readonly = state.runtime.exports.sqlite3_stmt_readonly(state.handle.pointer) !== 0;
  }

  /** Whether an iterator of this statement is open. */
  get busy(): boolean {
    return this.#state.locked;
  }

  run(...values: Parameters): RunResult {
    const state = this.#state;
    const { connection, runtime } = state;
    state.requireIdle();
    if (connection.iterators > 0) connection.requireNoIteratorsUnlessUnsafe();
    state.enter(values);
    const { exports, heap } = runtime;
    const code = state.stepAndReset();
    const out = heap.scratch;
    const resetCode = heap.i32[out >> 2]!;
    const changes = heap.i32[(out >> 2) + 1]!;
    const lastInsertRowid = state.safeIntegers
      ? exports.sqlite3_last_insert_rowid(connection.pointer)
      : heap.f64[(out >> 3) + 1]!;
    state.finishReset(code, resetCode);
    return { changes, lastInsertRowid };
  }

  /** The first row, or undefined. */
  get(...values: Parameters): Row | undefined {
    const state = this.#state;
    state.requireData();
    state.enter(values);
    try {
      const code = state.step();
      const row = code === SQLITE_ROW ? (state.readRow() as Row) : undefined;
      state.finish(code);
      return row;
    } catch (error) {
      state.abandon();
      throw error;
    }
  }

  all(...values: Parameters): Row[] {
    const state = this.#state;
    state.requireData();
    state.enter(values);
    try {
      const rows: Row[] = [];
      let code = state.step();
      if (code === SQLITE_ROW) code = state.readRows(rows);
      state.finish(code);
      return rows;
    } catch (error) {
      state.abandon();
      throw error;
    }
  }

  /** Rows as they are asked for. The connection refuses writes until the iterator ends (see unsafeMode). */
  iterate(...values: Parameters): StatementIterator<Row> {
    const state = this.#state;
    state.requireData();
    state.requireIdle();
    state.acquire();
    state.bind(values, true);
    return new StatementIterator<Row>(this, state);
  }

  /** Binds for good. */
  bind(...values: Parameters): this {
    const state = this.#state;
    if (state.bound) {
      throw new TypeError("The bind() method can only be invoked once per statement object");
    }
    state.requireIdle();
    state.bindForGood(values);
    return this;
  }

  pluck(...toggle: [enabled?: boolean]): this {
    return this.#setMode("pluck", toggle);
  }

  expand(...toggle: [enabled?: boolean]): this {
    return this.#setMode("expand", toggle);
  }

  raw(...toggle: [enabled?: boolean]): this {
    return this.#setMode("raw", toggle);
  }

  safeIntegers(...toggle: [enabled?: boolean]): this {
    const state = this.#state;
    this.#requireChangeable();
    state.safeIntegers = toggled(toggle);
    state.shapeChanged();
    return this;
  }

  columns(): ColumnDefinition[] {
    const state = this.#state;
    if (!state.returnsData) {
      throw new TypeError("The columns() method is only for statements that return data");
    }
    state.connection.requireReady();
    state.acquire();
    return readColumns(state);
  }

  #setMode(name: "pluck" | "expand" | "raw", toggle: readonly unknown[]): this {
    const state = this.#state;
    if (!state.returnsData) {
      throw new TypeError(`The ${name}() method is only for statements that return data`);
    }
    this.#requireChangeable();
    if (toggled(toggle)) state.mode = RowMode[name];
    else if (state.mode === RowMode[name]) state.mode = RowMode.flat;
    state.shapeChanged();
    return this;
  }

  /** Settings may be changed on a closed connection, without effect. */
  #requireChangeable(): void {
    const state = this.#state;
    state.connection.requireNotBusy();
    if (state.locked) throw new TypeError("This statement is busy executing a query");
  }
}

export function readColumns(state: StatementState): ColumnDefinition[] {
  const { exports, heap } = state.runtime;
  const { pointer } = state.handle;
  return state.columnNames().map((name, index) => ({
    name,
    column: heap.readCString(exports.sqlite3_column_origin_name(pointer, index)),
    table: heap.readCString(exports.sqlite3_column_table_name(pointer, index)),
    database: heap.readCString(exports.sqlite3_column_database_name(pointer, index)),
    type: heap.readCString(exports.sqlite3_column_decltype(pointer, index)),
  }));
}
