/** Binds the arguments of a call to a statement's parameters: better-sqlite3's rules, checks and messages. */
import {
  SQLITE_NOMEM,
  SQLITE_OK,
  SQLITE_RANGE,
  SQLITE_STATIC,
  SQLITE_TOOBIG,
  SQLITE_TRANSIENT,
} from "./constants.ts";
import type { SqliteRuntime } from "./runtime.ts";

/** What a statement's SQL asks for; `index` is SQLite's, from 1. */
export interface StatementParameters {
  readonly count: number;
  readonly named: readonly { readonly name: string; readonly index: number }[];
  /** Indexes of the parameters without a name, in order. */
  readonly anonymous: readonly number[];
}

export function readParameters(
  { exports, heap }: SqliteRuntime,
  statement: number,
): StatementParameters {
  const count = exports.sqlite3_bind_parameter_count(statement);
  const named: { name: string; index: number }[] = [];
  const anonymous: number[] = [];
  for (let index = 1; index <= count; index++) {
    const name = heap.readCString(exports.sqlite3_bind_parameter_name(statement, index));
    if (name === null) anonymous.push(index);
    else named.push({ name: name.slice(1), index });
  }
  return { count, named, anonymous };
}

export interface Binding {
  readonly runtime: SqliteRuntime;
  statement: number;
  readonly parameters: StatementParameters;
  /** SQLITE_STATIC: the arena keeps text and blobs until the statement is reset. SQLITE_TRANSIENT: SQLite copies. */
  readonly lifetime: typeof SQLITE_STATIC | typeof SQLITE_TRANSIENT;
}

/** Throws when values and parameters do not match; the statement must then not be run. */
export function bindAll(binding: Binding, values: readonly unknown[]): void {
  const { parameters } = binding;
  if (parameters.named.length > 0 || !bindPlain(binding, values)) bindMixed(binding, values);
}

/**
 * The usual call: as many values as parameters without names, all of them numbers, strings or null. False, with some
 * of them bound, when it is not that.
 */
function bindPlain(binding: Binding, values: readonly unknown[]): boolean {
  const { runtime, statement, parameters } = binding;
  const { exports } = runtime;
  const { count } = parameters;
  if (values.length !== count) return false;
  for (let index = 0; index < count; index++) {
    const value = values[index];
    let code: number;
    if (typeof value === "number") {
      code = exports.sqlite3_bind_double(statement, index + 1, value);
    } else if (typeof value === "string") {
      code = bindText(binding, index + 1, value);
    } else if (value === null) {
      code = exports.sqlite3_bind_null(statement, index + 1);
    } else {
      return false;
    }
    if (code !== SQLITE_OK) throw bindError(code);
  }
  return true;
}

function bindMixed(binding: Binding, values: readonly unknown[]): void {
  const { parameters } = binding;
  let bound = 0;
  let anonymous = 0;
  let boundObject = false;
  for (const value of values) {
    if (Array.isArray(value)) {
      for (let index = 0; index < value.length; index++) {
        bindValue(binding, anonymousIndex(parameters, anonymous++), value[index]);
      }
      bound += value.length;
    } else if (
      typeof value === "object" &&
      value !== null &&
      !ArrayBuffer.isView(value) &&
      isPlainObject(value)
    ) {
      if (boundObject) {
        throw new TypeError("You cannot specify named parameters in two different objects");
      }
      boundObject = true;
      bound += bindNamed(binding, value);
    } else {
      if (isForeignObject(value) && parameters.named.length > 0) {
        throw new TypeError("Named parameters can only be passed within plain objects");
      }
      bindValue(binding, anonymousIndex(parameters, anonymous++), value);
      bound++;
    }
  }
  if (bound > parameters.count) throw new RangeError("Too many parameter values were provided");
  if (bound < parameters.count) {
    if (!boundObject && parameters.named.length > 0)
      throw new TypeError("Missing named parameters");
    throw new RangeError("Too few parameter values were provided");
  }
}

function isForeignObject(value: unknown): boolean {
  return (
    typeof value === "function" ||
    (typeof value === "object" && value !== null && !ArrayBuffer.isView(value))
  );
}

function anonymousIndex(parameters: StatementParameters, position: number): number {
  // One past the last is out of range for SQLite too: the value is checked first, as better-sqlite3 does.
  return parameters.anonymous[position] ?? parameters.count + 1;
}

function bindNamed(binding: Binding, values: object): number {
  const { named } = binding.parameters;
  for (const { name, index } of named) {
    if (!Object.hasOwn(values, name)) throw new RangeError(`Missing named parameter "${name}"`);
    const value: unknown = Reflect.get(values, name);
    bindValue(binding, index, value);
  }
  return named.length;
}

/** An object literal, of any realm, or one without a prototype. */
export function isPlainObject(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === null || prototype === Object.prototype) return true;
  return (
    typeof prototype === "object" &&
    Object.getPrototypeOf(prototype) === null &&
    Object.hasOwn(prototype, "isPrototypeOf")
  );
}

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

export function bindValue(binding: Binding, index: number, value: unknown): void {
  const { runtime, statement } = binding;
  let code: number;
  if (typeof value === "number") {
    code = runtime.exports.sqlite3_bind_double(statement, index, value);
  } else if (typeof value === "string") {
    code = bindText(binding, index, value);
  } else if (value === null || value === undefined) {
    code = runtime.exports.sqlite3_bind_null(statement, index);
  } else if (typeof value === "bigint") {
    code =
      value >= INT64_MIN && value <= INT64_MAX
        ? runtime.exports.sqlite3_bind_int64(statement, index, value)
        : SQLITE_TOOBIG;
  } else if (ArrayBuffer.isView(value)) {
    code = bindBlob(binding, index, value);
  } else {
    throw new TypeError("SQLite3 can only bind numbers, strings, bigints, buffers, and null");
  }
  if (code !== SQLITE_OK) throw bindError(code);
}

function bindError(code: number): Error {
  switch (code) {
    case SQLITE_TOOBIG:
      return new RangeError("The bound string, buffer, or bigint is too big");
    case SQLITE_RANGE:
      return new RangeError("Too many parameter values were provided");
    case SQLITE_NOMEM:
      return new Error("Out of memory");
    default:
      return new Error("An unexpected error occured while trying to bind parameters");
  }
}

function bindText({ runtime, statement, lifetime }: Binding, index: number, text: string): number {
  const { exports, heap } = runtime;
  const pointer = heap.reserve(text.length * 3);
  if (pointer !== null) {
    const size = heap.writeText(pointer, text);
    return exports.sqlite3_bind_text(statement, index, pointer, size, lifetime);
  }
  const size = Buffer.byteLength(text);
  const owned = heap.allocate(size + 1);
  heap.buffer.write(text, owned, size, "utf8");
  return exports.sqlite3_bind_text(statement, index, owned, size, runtime.freeFunction);
}

function bindBlob(
  { runtime, statement, lifetime }: Binding,
  index: number,
  view: ArrayBufferView,
): number {
  const { exports, heap } = runtime;
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const size = bytes.byteLength;
  const pointer = heap.reserve(size);
  if (pointer !== null) {
    heap.u8.set(bytes, pointer);
    return exports.sqlite3_bind_blob(statement, index, pointer, size, lifetime);
  }
  const owned = heap.allocate(size + 1);
  heap.u8.set(bytes, owned);
  return exports.sqlite3_bind_blob(statement, index, owned, size, runtime.freeFunction);
}
