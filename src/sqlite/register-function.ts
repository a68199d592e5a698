/** `connection.function` and `connection.aggregate`: checks of the arguments, and registration with SQLite. */
import type { ConnectionState } from "./connection-state.ts";
import { SQLITE_DETERMINISTIC, SQLITE_DIRECTONLY, SQLITE_OK, SQLITE_UTF8 } from "./constants.ts";
import { booleanOption } from "./options.ts";
import { isCallback, type UserCallback } from "./user-functions.ts";

export interface FunctionOptions {
  /** Pass any number of arguments. */
  readonly varargs?: boolean;
  /** The same arguments always give the same result: the function may be used in indexes and generated columns. */
  readonly deterministic?: boolean;
  /** Refuse calls from triggers, views and the like. */
  readonly directOnly?: boolean;
  /** Pass integers as bigints; the connection's default by default. */
  readonly safeIntegers?: boolean;
}

export interface AggregateOptions extends FunctionOptions {
  /** The first accumulator, or a function that makes it. */
  readonly start?: unknown;
  /** Takes the accumulator and a row's arguments; what it returns replaces the accumulator, unless undefined. */
  readonly step: UserCallback;
  /** Takes a row out again: makes the aggregate usable as a window function. */
  readonly inverse?: UserCallback;
  /** Turns the accumulator into the result. */
  readonly result?: UserCallback;
}

const ARGUMENTS_MAX = 100;

/** Returns what a later registration with the same result replaces. */
export function registerFunction(
  state: ConnectionState,
  name: unknown,
  givenOptions: unknown,
  givenCall: unknown,
): string {
  let options: unknown = givenOptions ?? {};
  let call = givenCall;
  if (typeof options === "function") {
    call = options;
    options = {};
  }
  if (typeof name !== "string") throw new TypeError("Expected first argument to be a string");
  if (!isCallback(call)) throw new TypeError("Expected last argument to be a function");
  if (typeof options !== "object" || options === null) {
    throw new TypeError("Expected second argument to be an options object");
  }
  if (name === "") throw new TypeError("User-defined function name cannot be an empty string");
  const common = commonOptions(state, options);
  const argumentCount = common.varargs ? -1 : checkedCount(parameterCount(call));
  requireRegistrable(state);
  const { runtime } = state;
  const { callbacks } = runtime.functions;
  const key = runtime.functions.add({
    name,
    state,
    safeIntegers: common.safeIntegers,
    call,
    aggregate: null,
  });
  withName(state, name, (zName) =>
    runtime.exports.sqlite3_create_function_v2(
      state.pointer,
      zName,
      argumentCount,
      common.flags,
      key,
      callbacks.xFunc,
      0,
      0,
      callbacks.xDestroy,
    ),
  );
  return functionKey(name, argumentCount);
}

/** Returns the same. */
export function registerAggregate(state: ConnectionState, name: unknown, options: unknown): string {
  if (typeof name !== "string") throw new TypeError("Expected first argument to be a string");
  if (typeof options !== "object" || options === null) {
    throw new TypeError("Expected second argument to be an options object");
  }
  if (name === "") throw new TypeError("User-defined function name cannot be an empty string");
  const start: unknown = "start" in options ? options.start : null;
  const step = callbackOption(options, "step");
  if (step === null) throw new TypeError('Missing required option "step"');
  const inverse = callbackOption(options, "inverse");
  const result = callbackOption(options, "result");
  const common = commonOptions(state, options);
  const longest = common.varargs
    ? 0
    : Math.max(parameterCount(step), inverse === null ? 0 : parameterCount(inverse));
  const argumentCount = common.varargs ? -1 : checkedCount(Math.max(0, longest - 1));
  requireRegistrable(state);
  const { runtime } = state;
  const { callbacks } = runtime.functions;
  const key = runtime.functions.add({
    name,
    state,
    safeIntegers: common.safeIntegers,
    call: step,
    aggregate: { start, inverse, result },
  });
  withName(state, name, (zName) =>
    runtime.exports.sqlite3_create_window_function(
      state.pointer,
      zName,
      argumentCount,
      common.flags,
      key,
      callbacks.xStep,
      callbacks.xFinal,
      inverse === null ? 0 : callbacks.xValue,
      inverse === null ? 0 : callbacks.xInverse,
      callbacks.xDestroy,
    ),
  );
  return functionKey(name, argumentCount);
}

function functionKey(name: string, argumentCount: number): string {
  return `function ${name.toLowerCase()} ${argumentCount}`;
}

function commonOptions(
  state: ConnectionState,
  options: object,
): { safeIntegers: boolean; varargs: boolean; flags: number } {
  const safeIntegers =
    "safeIntegers" in options ? booleanOption(options, "safeIntegers") : state.safeIntegers;
  const deterministic = booleanOption(options, "deterministic");
  const directOnly = booleanOption(options, "directOnly");
  const varargs = booleanOption(options, "varargs");
  const flags =
    SQLITE_UTF8 | (deterministic ? SQLITE_DETERMINISTIC : 0) | (directOnly ? SQLITE_DIRECTONLY : 0);
  return { safeIntegers, varargs, flags };
}

function callbackOption(options: object, name: string): UserCallback | null {
  const value: unknown = name in options ? Reflect.get(options, name) : null;
  if (value === null || value === undefined) return null;
  if (!isCallback(value)) throw new TypeError(`Expected the "${name}" option to be a function`);
  return value;
}

function parameterCount(call: UserCallback): number {
  const { length } = call;
  if (!Number.isInteger(length) || length < 0) {
    throw new TypeError("Expected function.length to be a positive integer");
  }
  return length;
}

function checkedCount(count: number): number {
  if (count > ARGUMENTS_MAX) {
    throw new RangeError("User-defined functions cannot have more than 100 arguments");
  }
  return count;
}

export function requireRegistrable(state: ConnectionState): void {
  state.requireReady();
  state.requireNoIterators();
}

/** On failure SQLite has called xDestroy already. */
export function withName(
  state: ConnectionState,
  name: string,
  register: (zName: number) => number,
): void {
  const { exports, heap } = state.runtime;
  const zName = heap.allocateText(name);
  state.enter();
  try {
    if (register(zName) !== SQLITE_OK) throw state.failure();
  } finally {
    state.leave();
    exports.sqlite3_free(zName);
  }
}
