/**
 * SQL functions in JavaScript: scalar, aggregate and window functions.
 *
 * All of a runtime's functions share one set of callbacks; sqlite3_user_data is the key of the function in `functions`.
 * An aggregate's state is in `accumulators`; its key is in the memory that SQLite keeps for it (0: not started).
 *
 * F1. An exception ends the SQL statement; the user's call throws that same exception (C2).
 * F2. An accumulator lives until its xFinal, which SQLite calls for each that was started, on errors too.
 */
import type { ConnectionState } from "./connection-state.ts";
import { setResult } from "./result-value.ts";
import { readSafeValue, readValue } from "./row-reader.ts";
import type { SqliteRuntime } from "./runtime.ts";

// A function of any parameters: nothing less accepts what users pass.
// oxlint-disable-next-line typescript/no-explicit-any
export type UserCallback = (...parameters: any[]) => unknown;

export interface UserFunction {
  readonly name: string;
  readonly state: ConnectionState;
  readonly safeIntegers: boolean;
  /** The function itself, or an aggregate's step. */
  readonly call: UserCallback;
  readonly aggregate: AggregateParts | null;
}

export interface AggregateParts {
  readonly start: unknown;
  readonly inverse: UserCallback | null;
  readonly result: UserCallback | null;
}

interface Accumulator {
  value: unknown;
  /** An error ended it: nothing more is called. */
  ended: boolean;
  isWindow: boolean;
}

const ACCUMULATOR_BYTES = 8;

/** Function table indexes. */
export interface FunctionCallbacks {
  readonly xFunc: number;
  readonly xStep: number;
  readonly xFinal: number;
  readonly xValue: number;
  readonly xInverse: number;
  readonly xDestroy: number;
}

export class UserFunctions {
  readonly callbacks: FunctionCallbacks;
  readonly #runtime: SqliteRuntime;
  readonly #functions = new Map<number, UserFunction>();
  readonly #accumulators = new Map<number, Accumulator>();
  #nextKey = 1;

  constructor(runtime: SqliteRuntime) {
    this.#runtime = runtime;
    const first = runtime.addCallbacks([
      {
        signature: "iii>",
        callback: (context, count, values) => this.#call(context, count, values),
      },
      {
        signature: "iii>",
        callback: (context, count, values) => this.#step(context, count, values, false),
      },
      { signature: "i>", callback: (context) => this.#result(context, true) },
      { signature: "i>", callback: (context) => this.#result(context, false) },
      {
        signature: "iii>",
        callback: (context, count, values) => this.#step(context, count, values, true),
      },
      { signature: "i>", callback: (key) => void this.#functions.delete(key) },
    ]);
    this.callbacks = {
      xFunc: first,
      xStep: first + 1,
      xFinal: first + 2,
      xValue: first + 3,
      xInverse: first + 4,
      xDestroy: first + 5,
    };
  }

  /** Returns the key to register with SQLite, whose xDestroy removes the function again. */
  add(entry: UserFunction): number {
    const key = this.#nextKey++;
    this.#functions.set(key, entry);
    return key;
  }

  get size(): number {
    return this.#functions.size;
  }

  #functionOf(context: number): UserFunction {
    const entry = this.#functions.get(this.#runtime.exports.sqlite3_user_data(context));
    if (entry === undefined) throw new RangeError("Cannot call SQL function: it was removed");
    return entry;
  }

  #readArguments(entry: UserFunction, count: number, values: number): unknown[] {
    const runtime = this.#runtime;
    const read = entry.safeIntegers ? readSafeValue : readValue;
    const parameters: unknown[] = [];
    for (let index = 0; index < count; index++) {
      parameters.push(read(runtime, runtime.heap.i32[(values >> 2) + index]!));
    }
    return parameters;
  }

  #fail(entry: UserFunction, context: number, error: unknown): void {
    entry.state.keep(error);
    this.#runtime.exports.sqlite3_result_error(context, this.#runtime.heap.scratch, 0);
  }

  #call(context: number, count: number, values: number): void {
    const runtime = this.#runtime;
    const { current } = runtime;
    const entry = this.#functionOf(context);
    try {
      const value = entry.call(...this.#readArguments(entry, count, values));
      setResult(runtime, context, value, returned(entry));
    } catch (error) {
      this.#fail(entry, context, error);
    } finally {
      runtime.current = current;
    }
  }

  #step(context: number, count: number, values: number, inverse: boolean): void {
    const runtime = this.#runtime;
    const { current } = runtime;
    const entry = this.#functionOf(context);
    const accumulator = this.#accumulatorOf(entry, context);
    if (accumulator.ended) return;
    try {
      const step = inverse ? entry.aggregate?.inverse : entry.call;
      const value = step?.(accumulator.value, ...this.#readArguments(entry, count, values));
      if (value !== undefined) accumulator.value = value;
    } catch (error) {
      accumulator.ended = true;
      this.#fail(entry, context, error);
    } finally {
      runtime.current = current;
    }
  }

  #result(context: number, final: boolean): void {
    const runtime = this.#runtime;
    const { current } = runtime;
    const entry = this.#functionOf(context);
    const accumulator = this.#accumulatorOf(entry, context);
    if (final) this.#forget(context);
    if (accumulator.ended) return;
    if (final && accumulator.isWindow) return;
    accumulator.isWindow = !final;
    try {
      const finish = entry.aggregate?.result ?? null;
      const value = finish === null ? accumulator.value : finish(accumulator.value);
      setResult(runtime, context, value, returned(entry));
    } catch (error) {
      accumulator.ended = true;
      this.#fail(entry, context, error);
    } finally {
      runtime.current = current;
    }
  }

  #accumulatorOf(entry: UserFunction, context: number): Accumulator {
    const { exports, heap } = this.#runtime;
    const memory = exports.sqlite3_aggregate_context(context, ACCUMULATOR_BYTES);
    const known = this.#accumulators.get(heap.i32[memory >> 2]!);
    if (known !== undefined) return known;
    const accumulator: Accumulator = { value: undefined, ended: false, isWindow: false };
    const key = this.#nextKey++;
    heap.i32[memory >> 2] = key;
    this.#accumulators.set(key, accumulator);
    try {
      const start = entry.aggregate?.start;
      accumulator.value = isCallback(start) ? start() : start;
    } catch (error) {
      accumulator.ended = true;
      this.#fail(entry, context, error);
    }
    return accumulator;
  }

  #forget(context: number): void {
    const { exports, heap } = this.#runtime;
    const memory = exports.sqlite3_aggregate_context(context, ACCUMULATOR_BYTES);
    this.#accumulators.delete(heap.i32[memory >> 2]!);
  }
}

export function isCallback(value: unknown): value is UserCallback {
  return typeof value === "function";
}

function returned(entry: UserFunction): string {
  return `User-defined function ${entry.name}() returned`;
}
