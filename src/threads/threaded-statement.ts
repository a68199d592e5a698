/** A prepared statement of a database that another thread owns; the methods are those of AsyncStatement. */
import type { CallLimits } from "../sqlite/async-calls.ts";
import { toggled } from "../sqlite/options.ts";
import { RowMode } from "../sqlite/row-maker.ts";
import type { ColumnDefinition, RunResult } from "../sqlite/statement.ts";
import { type CallTarget, callWithValues, releaseWith, StatementHandle } from "./call-target.ts";
import { Operation, SAFE_INTEGERS } from "./message.ts";
import type { StatementFacts } from "./served-statements.ts";
import { ThreadedIterator } from "./threaded-iterator.ts";

export class ThreadedStatement<Parameters extends unknown[] = unknown[], Row = unknown> {
  /** The SQL text it was prepared from. */
  readonly source: string;
  /** Whether it returns rows. */
  readonly reader: boolean;
  /** Whether it leaves the database unchanged. */
  readonly readonly: boolean;
  readonly #target: CallTarget;
  readonly #handle: StatementHandle;
  readonly #limits: CallLimits;
  #mode: RowMode = RowMode.flat;
  #safeIntegers: boolean;

  /** @internal */
  constructor(
    target: CallTarget,
    handle: StatementHandle,
    given: {
      readonly facts: StatementFacts;
      readonly limits: CallLimits;
      readonly safeIntegers: boolean;
    },
  ) {
    this.#target = target;
    this.#handle = handle;
    this.#limits = given.limits;
    this.#safeIntegers = given.safeIntegers;
    this.source = given.facts.source;
    this.reader = given.facts.reader;
    this.readonly = given.facts.readonly;
  }

  /** The same statement with limits for its calls. */
  with(limits: CallLimits): ThreadedStatement<Parameters, Row> {
    const { source, reader, readonly } = this;
    const statement = new ThreadedStatement<Parameters, Row>(this.#target, this.#handle, {
      facts: { source, reader, readonly },
      limits: { ...this.#limits, ...limits },
      safeIntegers: this.#safeIntegers,
    });
    statement.#mode = this.#mode;
    return statement;
  }

  async run(...values: Parameters): Promise<RunResult> {
    return (await this.#call(Operation.run, this.#mode, values)) as RunResult;
  }

  /** The first row, or undefined. */
  async get(...values: Parameters): Promise<Row | undefined> {
    return (await this.#rows(Operation.get, values)) as Row | undefined;
  }

  async all(...values: Parameters): Promise<Row[]> {
    return (await this.#rows(Operation.all, values)) as Row[];
  }

  /** All rows as arrays, whatever the mode. */
  async values(...values: Parameters): Promise<unknown[][]> {
    return (await this.#rows(Operation.values, values)) as unknown[][];
  }

  /** Rows as they are asked for, some of them ahead. The connection refuses writes until the iterator ends. */
  iterate(...values: Parameters): ThreadedIterator<Row> {
    this.#requireData();
    const handle = this.#handle;
    const begin = [handle.number, this.#shape(this.#mode)];
    return new ThreadedIterator<Row>(this.#target, this.#limits, { handle, begin, values });
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
    return this.#call(Operation.columns, RowMode.flat, []) as Promise<ColumnDefinition[]>;
  }

  async #rows(operation: Operation, values: Parameters): Promise<unknown> {
    this.#requireData();
    return await this.#call(operation, this.#mode, values);
  }

  #call(operation: Operation, mode: RowMode, values: readonly unknown[]): Promise<unknown> {
    const parameters = [this.#handle.number, this.#shape(mode)];
    return callWithValues(this.#target, operation, parameters, { values, limits: this.#limits });
  }

  #shape(mode: RowMode): number {
    return this.#safeIntegers ? mode | SAFE_INTEGERS : mode;
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

/** Prepares `sql` where `target` is. */
export async function prepareOn(
  target: CallTarget,
  sql: string,
  options: { readonly limits: CallLimits; readonly safeIntegers: boolean },
): Promise<ThreadedStatement> {
  const handle = new StatementHandle();
  const parameters = [handle.number, sql];
  const facts = (await target.call(
    Operation.prepare,
    parameters,
    options.limits,
  )) as StatementFacts;
  releaseWith(handle, target);
  return new ThreadedStatement(target, handle, { facts, ...options });
}
