/**
 * A prepared statement whose calls are awaited. Made by AsyncConnection.prepare; the methods are those of Statement.
 *
 * Calls of one connection have their turns in the order in which they were made; calls of different connections
 * interleave wherever one waits for a page.
 */
import type { AsyncCalls, CallLimits } from "./async-calls.ts";
import { AsyncStatementIterator } from "./async-statement-iterator.ts";
import { toggled } from "./options.ts";
import { RowMode } from "./row-maker.ts";
import { type ColumnDefinition, readColumns, type RunResult } from "./statement.ts";
import type { StatementHandle } from "./statement-cache.ts";
import { StatementState } from "./statement-state.ts";

/** What prepare has learnt of a statement. */
export interface StatementFacts {
  readonly sql: string;
  readonly returnsData: boolean;
  readonly isReadOnly: boolean;
}

export class AsyncStatement<Parameters extends unknown[] = unknown[], Row = unknown> {
  /** The SQL text it was prepared from. */
  readonly source: string;
  /** Whether it returns rows. */
  readonly reader: boolean;
  /** Whether it leaves the database unchanged. */
  readonly readonly: boolean;
  readonly #calls: AsyncCalls;
  readonly #facts: StatementFacts;
  readonly #limits: CallLimits;
  #mode: RowMode = RowMode.flat;
  #safeIntegers = false;

  /** @internal */
  constructor(calls: AsyncCalls, facts: StatementFacts, limits: CallLimits) {
    this.#calls = calls;
    this.#facts = facts;
    this.#limits = limits;
    this.#safeIntegers = calls.state.safeIntegers;
    this.source = facts.sql;
    this.reader = facts.returnsData;
    this.readonly = facts.isReadOnly;
  }

  /** The same statement with limits for its calls. */
  with(limits: CallLimits): AsyncStatement<Parameters, Row> {
    const statement = new AsyncStatement<Parameters, Row>(this.#calls, this.#facts, {
      ...this.#limits,
      ...limits,
    });
    statement.#mode = this.#mode;
    statement.#safeIntegers = this.#safeIntegers;
    return statement;
  }

  run(...values: Parameters): Promise<RunResult> {
    const calls = this.#calls;
    const { state } = calls;
    return calls.turnDurably(this.#limits, () => {
      state.requireNoIteratorsUnlessUnsafe();
      const run = async (statement: StatementState): Promise<RunResult> => {
        const { exports, heap } = calls.runtime;
        const { out } = calls.runtime.suspendable;
        const running = calls.run(statement.handle.pointer);
        const code = typeof running === "number" ? running : await running;
        const resetCode = heap.i32[out >> 2]!;
        const changes = heap.i32[(out >> 2) + 1]!;
        const lastInsertRowid = statement.safeIntegers
          ? exports.sqlite3_last_insert_rowid(state.pointer)
          : heap.f64[(out >> 3) + 1]!;
        const finishing = calls.finish(() => statement.finishReset(code, resetCode));
        if (finishing !== null) await finishing;
        return { changes, lastInsertRowid };
      };
      const once = (): Promise<RunResult> => this.#inTurn(values, this.#mode, run);
      return calls.untilWritable(once);
    });
  }

  /** The first row, or undefined. */
  async get(...values: Parameters): Promise<Row | undefined> {
    const [row] = await this.#rows(values, this.#mode, 1);
    return row as Row | undefined;
  }

  async all(...values: Parameters): Promise<Row[]> {
    return (await this.#rows(values, this.#mode, Infinity)) as Row[];
  }

  /** All rows as arrays, whatever the mode. */
  async values(...values: Parameters): Promise<unknown[][]> {
    return (await this.#rows(values, RowMode.raw, Infinity)) as unknown[][];
  }

  /** Rows as they are asked for, some of them ahead. The connection refuses writes until the iterator ends. */
  iterate(...values: Parameters): AsyncStatementIterator<Row> {
    this.#requireData();
    const calls = this.#calls;
    return new AsyncStatementIterator<Row>(calls, this.#limits, async () => {
      const handle = await calls.acquire(this.source);
      const statement = this.#newState(handle);
      this.#setShape(statement, this.#mode);
      try {
        statement.bind(values, true);
      } catch (error) {
        calls.release(handle);
        throw error;
      }
      return statement;
    });
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
    this.#safeIntegers = toggled(toggle);
    return this;
  }

  columns(): Promise<ColumnDefinition[]> {
    if (!this.reader)
      throw new TypeError("The columns() method is only for statements that return data");
    const calls = this.#calls;
    return calls.turn(this.#limits, async () => {
      const handle = await calls.acquire(this.source);
      try {
        return readColumns(this.#newState(handle));
      } finally {
        calls.release(handle);
      }
    });
  }

  async #rows(values: Parameters, mode: RowMode, count: number): Promise<unknown[]> {
    this.#requireData();
    const calls = this.#calls;
    const body = (): Promise<unknown[]> =>
      this.#inTurn(values, mode, async (statement) => {
        const rows: unknown[] = [];
        const stepping = calls.steps(statement.handle.pointer, () => {
          rows.push(statement.readRow());
          return rows.length >= count;
        });
        const code = typeof stepping === "number" ? stepping : await stepping;
        const finishing = calls.finish(() => statement.finish(code));
        if (finishing !== null) await finishing;
        return rows;
      });
    return await calls.turnDurably(
      this.#limits,
      this.readonly ? body : () => calls.untilWritable(body),
    );
  }

  /** Binds, runs `body` inside of SQLite, and gives everything back. */
  async #inTurn<T>(
    values: readonly unknown[],
    mode: RowMode,
    body: (statement: StatementState) => Promise<T>,
  ): Promise<T> {
    const calls = this.#calls;
    const acquiring = calls.acquire(this.source);
    const handle = acquiring instanceof Promise ? await acquiring : acquiring;
    const statement = calls.statementOf(this, () => this.#newState(handle));
    statement.handle = handle;
    this.#setShape(statement, mode);
    try {
      statement.bind(values, true);
      calls.enter();
      if (calls.state.verbose !== null) statement.log();
      return await body(statement);
    } catch (error) {
      statement.abandon();
      throw error;
    } finally {
      calls.release(handle);
    }
  }

  #newState(handle: StatementHandle): StatementState {
    const { sql, returnsData } = this.#facts;
    return new StatementState(this.#calls.state, { sql, handle, returnsData });
  }

  #setShape(statement: StatementState, mode: RowMode): void {
    if (statement.mode === mode && statement.safeIntegers === this.#safeIntegers) return;
    statement.mode = mode;
    statement.safeIntegers = this.#safeIntegers;
    statement.shapeChanged();
  }

  #setMode(name: "pluck" | "expand" | "raw", toggle: readonly unknown[]): this {
    if (!this.reader)
      throw new TypeError(`The ${name}() method is only for statements that return data`);
    if (toggled(toggle)) this.#mode = RowMode[name];
    else if (this.#mode === RowMode[name]) this.#mode = RowMode.flat;
    return this;
  }

  #requireData(): void {
    if (!this.reader) throw new TypeError("This statement does not return data. Use run() instead");
  }
}
