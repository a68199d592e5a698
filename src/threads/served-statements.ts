/** The statements of one connection or transaction in the thread that owns it, by the numbers that the caller gave them. */
import type { CallLimits } from "../sqlite/async-calls.ts";
import type { AsyncStatement } from "../sqlite/async-statement.ts";
import type { AsyncStatementIterator } from "../sqlite/async-statement-iterator.ts";
import { RowMode } from "../sqlite/row-maker.ts";
import { packRows } from "./carried-values.ts";
import { type Call, Operation, SAFE_INTEGERS } from "./message.ts";
import type { CallContext } from "./served.ts";

/** Rows of an iterator in one answer: as many as it reads ahead. */
const BATCH_ROWS_MAX = 64;

/** What the caller learns of a statement. */
export interface StatementFacts {
  readonly source: string;
  readonly reader: boolean;
  readonly readonly: boolean;
}

/** An answer of `next`; `failed` is thrown after the rows. */
export interface RowBatch {
  readonly rows: unknown[];
  readonly isLast: boolean;
}

interface ServedIterator {
  readonly rows: AsyncStatementIterator;
  batchRows: number;
  /** What is to be thrown when the rows before it have been taken. */
  failure: { readonly error: unknown } | null;
}

export class ServedStatements {
  /** By number, then by shape: modes are of the caller's statement, and calls that wait keep theirs. */
  readonly #statements: Map<number, AsyncStatement[]> = new Map();
  readonly #iterators: Map<number, ServedIterator> = new Map();

  add(number: number, statement: AsyncStatement): StatementFacts {
    this.#statements.set(number, [statement.with({})]);
    const { source, reader, readonly } = statement;
    return { source, reader, readonly };
  }

  release(number: number): void {
    this.#statements.delete(number);
  }

  /** A call on a statement: number, shape, values. */
  async answer(operation: number, parameters: Call[5], context: CallContext): Promise<unknown> {
    const [number, shape, values] = parameters as [number, number, unknown[]];
    const statement = this.#statement(number, shape, context.limits);
    switch (operation) {
      case Operation.run:
        return await statement.run(...values);
      case Operation.get: {
        const rows = [await statement.get(...values)];
        context.hasBlobs = packRows(rows, context.transfer);
        return rows[0];
      }
      case Operation.all:
        return packed(await statement.all(...values), context);
      case Operation.values:
        return packed(await statement.values(...values), context);
      default:
        return await statement.columns();
    }
  }

  /** Number of the iterator; the first time also of its statement, with the shape and the values. */
  async next(parameters: Call[5], context: CallContext): Promise<RowBatch> {
    const [number, ...begin] = parameters as [number, number?, number?, unknown[]?];
    let iterator = this.#iterators.get(number);
    if (iterator === undefined) {
      const [statement = 0, shape = 0, values = []] = begin;
      const rows = this.#statement(statement, shape, context.limits).iterate(...values);
      iterator = { rows, batchRows: 1, failure: null };
      this.#iterators.set(number, iterator);
    }
    const batch = await this.#readBatch(number, iterator);
    context.hasBlobs = packRows(batch.rows, context.transfer);
    return batch;
  }

  async #readBatch(number: number, iterator: ServedIterator): Promise<RowBatch> {
    const rows: unknown[] = [];
    const count = iterator.batchRows;
    iterator.batchRows = Math.min(BATCH_ROWS_MAX, count * 2);
    const { failure } = iterator;
    try {
      if (failure !== null) throw failure.error;
      while (rows.length < count) {
        const { value, done } = await iterator.rows.next();
        if (done === true) {
          this.#iterators.delete(number);
          return { rows, isLast: true };
        }
        rows.push(value);
      }
    } catch (error) {
      if (rows.length === 0) {
        this.#iterators.delete(number);
        throw error;
      }
      iterator.failure = { error };
    }
    return { rows, isLast: false };
  }

  async leave(number: number): Promise<void> {
    const iterator = this.#iterators.get(number);
    this.#iterators.delete(number);
    await iterator?.rows.return();
  }

  #statement(number: number, shape: number, limits: CallLimits): AsyncStatement {
    const shapes = this.#statements.get(number);
    if (shapes === undefined) throw new TypeError("Cannot use the statement: it was closed");
    const statement = (shapes[shape] ??= shaped(shapes[0]!, shape));
    const hasLimits = limits.signal !== undefined || limits.timeoutMs !== undefined;
    return hasLimits ? statement.with(limits) : statement;
  }
}

/** A copy that gives its rows as `shape` says. */
function shaped(statement: AsyncStatement, shape: number): AsyncStatement {
  const copy = statement.with({}).safeIntegers((shape & SAFE_INTEGERS) !== 0);
  switch (shape & ~SAFE_INTEGERS) {
    case RowMode.pluck:
      return copy.pluck();
    case RowMode.expand:
      return copy.expand();
    case RowMode.raw:
      return copy.raw();
    default:
      return copy;
  }
}

function packed(rows: unknown[], context: CallContext): unknown[] {
  context.hasBlobs = packRows(rows, context.transfer);
  return rows;
}
