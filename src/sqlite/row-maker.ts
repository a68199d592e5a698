/**
 * Makes functions that turn a row (the address of its first Mem) into what a statement returns. Those for objects are
 * generated, so that all rows of a query share one hidden class and no key is looked up.
 */
import { MEM_BYTES, readSafeValue, readValue, type SqliteValue } from "./row-reader.ts";
import type { SqliteRuntime } from "./runtime.ts";

/** As better-sqlite3's modes: an object, the first column, objects by table, an array. */
export const RowMode = { flat: 0, pluck: 1, expand: 2, raw: 3 } as const;
export type RowMode = (typeof RowMode)[keyof typeof RowMode];

export type RowMaker = (runtime: SqliteRuntime, row: number) => unknown;
type ValueReader = (runtime: SqliteRuntime, pointer: number) => SqliteValue;

export interface RowShape {
  readonly columns: readonly string[];
  /** For RowMode.expand: the table of each column, "$" for an expression. */
  readonly tables: readonly string[];
  readonly mode: RowMode;
  readonly safeIntegers: boolean;
}

/** Beyond this, V8 turns an object into a dictionary anyway. */
const GENERATED_COLUMNS_MAX = 128;
const CACHED_MAKERS_MAX = 1000;

const cache = new Map<string, RowMaker>();
let generationAllowed = true;

export function makeRowMaker(shape: RowShape): RowMaker {
  const read = shape.safeIntegers ? readSafeValue : readValue;
  switch (shape.mode) {
    case RowMode.pluck:
      return read;
    case RowMode.expand:
      return (runtime, row) => expandedRow(shape, read, runtime, row);
    case RowMode.raw:
      return cached(shape, `[${shape.columns.map(valueExpression).join(",")}]`, (runtime, row) =>
        shape.columns.map((_, index) => read(runtime, row + index * MEM_BYTES)),
      );
    case RowMode.flat:
      return cached(
        shape,
        `{${shape.columns.map((name, index) => `${key(name)}:${valueExpression(name, index)}`).join(",")}}`,
        (runtime, row) => flatRow(shape, read, runtime, row),
      );
  }
}

function valueExpression(_name: string, index: number): string {
  return `read(runtime,row+${index * MEM_BYTES})`;
}

function key(name: string): string {
  // A computed key defines a property; a literal __proto__ would set the prototype.
  return name === "__proto__" ? '["__proto__"]' : JSON.stringify(name);
}

function cached(shape: RowShape, expression: string, interpreted: RowMaker): RowMaker {
  if (!generationAllowed || shape.columns.length > GENERATED_COLUMNS_MAX) return interpreted;
  const identity = `${shape.safeIntegers ? "b" : "n"}${expression}`;
  const known = cache.get(identity);
  if (known !== undefined) return known;
  const made = generate(expression, shape.safeIntegers ? readSafeValue : readValue);
  if (made === null) return interpreted;
  if (cache.size >= CACHED_MAKERS_MAX) cache.clear();
  cache.set(identity, made);
  return made;
}

/** Null where code generation is disallowed (--disallow-code-generation-from-strings). */
function generate(expression: string, read: ValueReader): RowMaker | null {
  try {
    // `expression` holds nothing but column names quoted by JSON.stringify and numbers.
    // oxlint-disable-next-line typescript/no-implied-eval
    const factory: unknown = new Function("read", `return (runtime,row)=>(${expression})`);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    return (factory as (read: ValueReader) => RowMaker)(read);
  } catch {
    generationAllowed = false;
    return null;
  }
}

function define(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, {
    value,
    writable: true,
    enumerable: true,
    configurable: true,
  });
}

function flatRow(shape: RowShape, read: ValueReader, runtime: SqliteRuntime, row: number): object {
  const result = {};
  for (const [index, name] of shape.columns.entries()) {
    define(result, name, read(runtime, row + index * MEM_BYTES));
  }
  return result;
}

function expandedRow(
  shape: RowShape,
  read: ValueReader,
  runtime: SqliteRuntime,
  row: number,
): object {
  const tables = new Map<string, object>();
  const result = {};
  for (const [index, name] of shape.columns.entries()) {
    const table = shape.tables[index] ?? "$";
    let nested = tables.get(table);
    if (nested === undefined) {
      nested = {};
      tables.set(table, nested);
      define(result, table, nested);
    }
    define(nested, name, read(runtime, row + index * MEM_BYTES));
  }
  return result;
}
