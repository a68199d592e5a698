/** What the user of `connection.table` gives, checked: better-sqlite3's rules and messages. */
import type { SqliteValue } from "./row-reader.ts";

export interface TableOptions {
  /** Yields the rows: arrays in the order of the columns, or objects. It is called with the parameters' values. */
  readonly rows: (...parameters: never[]) => Generator;
  readonly columns: readonly string[];
  /** Names of hidden columns that become the generator's arguments; by default `$1` and so on, one for each. */
  readonly parameters?: readonly string[];
  readonly safeIntegers?: boolean;
  readonly directOnly?: boolean;
}

export type TableFactory = (this: TableContext, ...parameters: string[]) => TableOptions;

/** What CREATE VIRTUAL TABLE named. */
export interface TableContext {
  readonly module: string;
  readonly database: string;
  readonly table: string;
}

export interface TableDefinition {
  /** CREATE TABLE text for sqlite3_declare_vtab. */
  readonly sql: string;
  /** Rows with the parameters' values first. The array is the same each time. */
  readonly rows: (...parameters: (SqliteValue | undefined)[]) => Generator<readonly unknown[]>;
  readonly parameters: readonly string[];
  /** Null: the connection's default. */
  readonly safeIntegers: boolean | null;
  readonly directOnly: boolean;
}

const PARAMETERS_MAX = 32;
const GeneratorFunction: unknown = Object.getPrototypeOf(function* () {
  /* only its prototype counts */
});

type RowGenerator = (...parameters: unknown[]) => Iterable<unknown>;

function isGeneratorFunction(value: unknown): value is RowGenerator {
  return typeof value === "function" && Object.getPrototypeOf(value) === GeneratorFunction;
}

function isStringArray(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

/** `verb` says where the definition comes from: "used" or "returned". */
export function checkTableDefinition(
  definition: object,
  verb: "used" | "returned",
  moduleName: string,
): TableDefinition {
  const prefix = `Virtual table module "${moduleName}" ${verb} a table definition`;
  const own = (name: string): unknown => Reflect.get(definition, name);
  if (!Object.hasOwn(definition, "rows"))
    throw new TypeError(`${prefix} without a "rows" property`);
  if (!Object.hasOwn(definition, "columns")) {
    throw new TypeError(`${prefix} without a "columns" property`);
  }
  const rows = own("rows");
  if (!isGeneratorFunction(rows)) {
    throw new TypeError(
      `${prefix} with an invalid "rows" property (should be a generator function)`,
    );
  }
  const columns = stringsOf(own("columns"), "columns", prefix);
  if (new Set(columns).size !== columns.length) {
    throw new TypeError(`${prefix} with duplicate column names`);
  }
  if (columns.length === 0) throw new RangeError(`${prefix} with zero columns`);
  const parameters = Object.hasOwn(definition, "parameters")
    ? stringsOf(own("parameters"), "parameters", prefix)
    : inferredParameters(rows);
  checkParameters(parameters, columns, prefix);
  const hidden = parameters.map((name) => `${identifier(name)} HIDDEN`);
  return {
    sql: `CREATE TABLE x(${[...hidden, ...columns.map(identifier)].join(", ")});`,
    rows: rowArrays(rows, { parameterCount: parameters.length, columns, moduleName }),
    parameters,
    safeIntegers: Object.hasOwn(definition, "safeIntegers")
      ? booleanOf(own("safeIntegers"), "safeIntegers", prefix)
      : null,
    directOnly: Object.hasOwn(definition, "directOnly")
      ? booleanOf(own("directOnly"), "directOnly", prefix)
      : false,
  };
}

function stringsOf(value: unknown, name: string, prefix: string): string[] {
  if (!isStringArray(value)) {
    throw new TypeError(
      `${prefix} with an invalid "${name}" property (should be an array of strings)`,
    );
  }
  return [...value];
}

function booleanOf(value: unknown, name: string, prefix: string): boolean {
  if (typeof value !== "boolean") {
    throw new TypeError(`${prefix} with an invalid "${name}" property (should be a boolean)`);
  }
  return value;
}

function checkParameters(parameters: string[], columns: string[], prefix: string): void {
  if (new Set(parameters).size !== parameters.length) {
    throw new TypeError(`${prefix} with duplicate parameter names`);
  }
  if (parameters.length > PARAMETERS_MAX) {
    throw new RangeError(`${prefix} with more than the maximum number of 32 parameters`);
  }
  for (const parameter of parameters) {
    if (columns.includes(parameter)) {
      throw new TypeError(
        `${prefix} with column "${parameter}" which was ambiguously defined as both a column and parameter`,
      );
    }
  }
}

function inferredParameters({ length }: RowGenerator): string[] {
  if (!Number.isInteger(length) || length < 0) {
    throw new TypeError("Expected function.length to be a positive integer");
  }
  return Array.from({ length }, (_, index) => `$${index + 1}`);
}

function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

interface RowRules {
  readonly parameterCount: number;
  readonly columns: readonly string[];
  readonly moduleName: string;
}

function rowArrays(generate: RowGenerator, rules: RowRules): TableDefinition["rows"] {
  const indexes = new Map(rules.columns.map((name, index) => [name, rules.parameterCount + index]));
  return function* (...parameters) {
    // Copies: the generator could change a buffer, and with it the value of a hidden column.
    const output: unknown[] = parameters.map((value) =>
      Buffer.isBuffer(value) ? Buffer.from(value) : value,
    );
    output.push(...rules.columns.map(() => null));
    for (const row of generate(...parameters)) {
      if (Array.isArray(row)) copyArray(row, output, rules);
      else if (typeof row === "object" && row !== null) copyObject(row, output, indexes, rules);
      else {
        throw new TypeError(
          `Virtual table module "${rules.moduleName}" yielded something that isn't a valid row object`,
        );
      }
      yield output;
    }
  };
}

function copyArray(row: readonly unknown[], output: unknown[], rules: RowRules): void {
  if (row.length !== rules.columns.length) {
    throw new TypeError(
      `Virtual table module "${rules.moduleName}" yielded a row with an incorrect number of columns`,
    );
  }
  for (const [index, value] of row.entries()) output[rules.parameterCount + index] = value;
}

function copyObject(
  row: object,
  output: unknown[],
  indexes: ReadonlyMap<string, number>,
  { moduleName, columns }: RowRules,
): void {
  const entries = Object.entries(row);
  for (const [name, value] of entries) {
    const index = indexes.get(name);
    if (index === undefined) {
      throw new TypeError(
        `Virtual table module "${moduleName}" yielded a row with an undeclared column "${name}"`,
      );
    }
    output[index] = value;
  }
  if (entries.length !== columns.length) {
    throw new TypeError(`Virtual table module "${moduleName}" yielded a row with missing columns`);
  }
}
