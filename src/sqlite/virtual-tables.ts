/**
 * Virtual tables in JavaScript. SQLite drives a generator of rows; a table's parameters are hidden columns.
 *
 *   sqlite3_vtab, 16 bytes:         0 pModule  4 nRef  8 zErrMsg  12 key of the table
 *   sqlite3_vtab_cursor, 8 bytes:   0 pVtab  4 key of the cursor
 *   sqlite3_module, 100 bytes:      0 iVersion, then 24 methods; those not named below are 0
 *
 * V1. A module is eponymous (usable without CREATE VIRTUAL TABLE) when its xCreate is 0.
 * V2. A plan that ignores a parameter's value is refused: the generator would see undefined.
 */
import type { ConnectionState } from "./connection-state.ts";
import {
  SQLITE_CONSTRAINT,
  SQLITE_ERROR,
  SQLITE_INDEX_CONSTRAINT_EQ,
  SQLITE_INDEX_CONSTRAINT_LIMIT,
  SQLITE_INDEX_CONSTRAINT_OFFSET,
  SQLITE_OK,
  SQLITE_VTAB_DIRECTONLY,
} from "./constants.ts";
import { setResult } from "./result-value.ts";
import { readSafeValue, readValue, type SqliteValue } from "./row-reader.ts";
import type { SqliteRuntime } from "./runtime.ts";
import type { TableDefinition } from "./table-definition.ts";

const VTAB_BYTES = 16;
const CURSOR_BYTES = 8;
const MODULE_BYTES = 100;
/** The generator should not run inside of a loop if that can be avoided. */
const FULL_COST = 1_000_000_000;

/** sqlite3_index_info, in words; aConstraint items have 12 bytes, aConstraintUsage items 8. */
const INFO_CONSTRAINT_COUNT = 0;
const INFO_CONSTRAINTS = 1;
const INFO_USAGE = 4;
const INFO_INDEX_NUMBER = 5;
const INFO_COST_OFFSET = 40;
const INFO_ROWS_OFFSET = 48;

export interface TableModule {
  readonly name: string;
  readonly state: ConnectionState;
  /** Called with module, database and table name, and the arguments of CREATE VIRTUAL TABLE. */
  readonly define: (names: readonly string[]) => TableDefinition;
}

interface Table {
  readonly module: TableModule;
  readonly definition: TableDefinition;
  readonly safeIntegers: boolean;
}

interface Cursor {
  readonly table: Table;
  rows: Iterator<readonly unknown[]> | null;
  row: readonly unknown[];
  rowid: number;
  done: boolean;
}

export class VirtualTables {
  /** sqlite3_module structs. */
  readonly module: number;
  readonly eponymousModule: number;
  readonly xDestroy: number;
  readonly #runtime: SqliteRuntime;
  readonly #modules = new Map<number, TableModule>();
  readonly #tables = new Map<number, Table>();
  readonly #cursors = new Map<number, Cursor>();
  #nextKey = 1;

  constructor(runtime: SqliteRuntime) {
    this.#runtime = runtime;
    const methods = this.#methods();
    const first = runtime.addCallbacks(methods);
    this.xDestroy = first + methods.length - 1;
    this.module = this.#writeModule(first, first);
    this.eponymousModule = this.#writeModule(0, first);
  }

  add(module: TableModule): number {
    const key = this.#nextKey++;
    this.#modules.set(key, module);
    return key;
  }

  /** xCreate, then the struct's methods in its order, then the destructor of a module. */
  #methods(): { signature: string; callback: (...parameters: number[]) => number }[] {
    const connect = (
      db: number,
      key: number,
      count: number,
      names: number,
      out: number,
      message: number,
    ): number => this.#connect({ db, key, count, names, out, message });
    const disconnect = (vtab: number): number => this.#disconnect(vtab);
    return [
      { signature: "iiiiii>i", callback: connect },
      { signature: "iiiiii>i", callback: connect },
      { signature: "ii>i", callback: (vtab: number, info: number) => this.#bestIndex(vtab, info) },
      { signature: "i>i", callback: disconnect },
      { signature: "i>i", callback: disconnect },
      { signature: "ii>i", callback: (vtab: number, out: number) => this.#open(vtab, out) },
      { signature: "i>i", callback: (cursor: number) => this.#close(cursor) },
      {
        signature: "iiiii>i",
        callback: (cursor: number, index: number, _text: number, _count: number, values: number) =>
          this.#filter(cursor, index, values),
      },
      { signature: "i>i", callback: (cursor: number) => this.#next(this.#cursorOf(cursor)) },
      { signature: "i>i", callback: (cursor: number) => (this.#cursorOf(cursor).done ? 1 : 0) },
      {
        signature: "iii>i",
        callback: (cursor: number, context: number, column: number) =>
          this.#column(cursor, context, column),
      },
      {
        signature: "ii>i",
        callback: (cursor: number, out: number) => {
          this.#runtime.heap.writeInt64(out, this.#cursorOf(cursor).rowid);
          return SQLITE_OK;
        },
      },
      {
        signature: "i>",
        callback: (key: number) => {
          this.#modules.delete(key);
          return 0;
        },
      },
    ];
  }

  #writeModule(xCreate: number, first: number): number {
    const { heap } = this.#runtime;
    const struct = heap.allocate(MODULE_BYTES);
    heap.u8.fill(0, struct, struct + MODULE_BYTES);
    heap.i32[(struct >> 2) + 1] = xCreate;
    for (let method = 1; method <= 11; method++) {
      heap.i32[(struct >> 2) + 1 + method] = first + method;
    }
    return struct;
  }

  #connect(call: {
    db: number;
    key: number;
    count: number;
    names: number;
    out: number;
    message: number;
  }): number {
    const { exports, heap, current } = this.#runtime;
    const module = this.#modules.get(call.key);
    if (module === undefined) return SQLITE_ERROR;
    try {
      const names: string[] = [];
      for (let index = 0; index < call.count; index++) {
        names.push(heap.requireCString(heap.i32[(call.names >> 2) + index]!));
      }
      const definition = module.define(names);
      const refuse = (action: string): number => {
        heap.i32[call.message >> 2] = heap.allocateText(
          `failed to ${action} virtual table "${names[2]}"`,
        );
        return SQLITE_ERROR;
      };
      const sql = heap.allocateText(definition.sql);
      const declared = exports.sqlite3_declare_vtab(call.db, sql);
      exports.sqlite3_free(sql);
      if (declared !== SQLITE_OK) return refuse("declare");
      if (
        definition.directOnly &&
        exports.sqlite3__wasm_vtab_config(call.db, SQLITE_VTAB_DIRECTONLY, 0) !== 0
      ) {
        return refuse("configure");
      }
      const safeIntegers = definition.safeIntegers ?? module.state.safeIntegers;
      const key = this.#nextKey++;
      this.#tables.set(key, { module, definition, safeIntegers });
      const vtab = heap.allocate(VTAB_BYTES);
      heap.i32.set([0, 0, 0, key], vtab >> 2);
      heap.i32[call.out >> 2] = vtab;
      return SQLITE_OK;
    } catch (error) {
      module.state.keep(error);
      return SQLITE_ERROR;
    } finally {
      this.#runtime.current = current;
    }
  }

  #disconnect(vtab: number): number {
    const { exports, heap } = this.#runtime;
    this.#tables.delete(heap.i32[(vtab >> 2) + 3]!);
    exports.sqlite3_free(vtab);
    return SQLITE_OK;
  }

  #tableOf(vtab: number): Table {
    const table = this.#tables.get(this.#runtime.heap.i32[(vtab >> 2) + 3]!);
    if (table === undefined) throw new RangeError(`Cannot find virtual table: pointer ${vtab}`);
    return table;
  }

  #cursorOf(pointer: number): Cursor {
    const cursor = this.#cursors.get(this.#runtime.heap.i32[(pointer >> 2) + 1]!);
    if (cursor === undefined)
      throw new RangeError(`Cannot find virtual table cursor: pointer ${pointer}`);
    return cursor;
  }

  #bestIndex(vtab: number, info: number): number {
    const { heap } = this.#runtime;
    const { parameters } = this.#tableOf(vtab).definition;
    const word = info >> 2;
    const constraints = heap.i32[word + INFO_CONSTRAINTS]!;
    const forwarded: { column: number; constraint: number }[] = [];
    for (let index = 0; index < heap.i32[word + INFO_CONSTRAINT_COUNT]!; index++) {
      const constraint = constraints + index * 12;
      const column = heap.i32[constraint >> 2]!;
      const operator = heap.u8[constraint + 4]!;
      const usable = heap.u8[constraint + 5] !== 0;
      // LIMIT and OFFSET have no column.
      if (operator === SQLITE_INDEX_CONSTRAINT_LIMIT || operator === SQLITE_INDEX_CONSTRAINT_OFFSET)
        continue;
      if (column < 0 || column >= parameters.length) continue;
      if (operator !== SQLITE_INDEX_CONSTRAINT_EQ) {
        this.#setMessage(
          vtab,
          `virtual table parameter "${parameters[column]}" can only be constrained by the '=' operator`,
        );
        return SQLITE_ERROR;
      }
      if (!usable) return SQLITE_CONSTRAINT;
      forwarded.push({ column, constraint: index });
    }
    forwarded.sort((a, b) => a.column - b.column || a.constraint - b.constraint);
    const usage = heap.i32[word + INFO_USAGE]!;
    let indexNumber = 0;
    let argumentCount = 0;
    for (const { column, constraint } of forwarded) {
      if ((indexNumber & (1 << column)) !== 0) continue;
      indexNumber |= 1 << column;
      heap.i32[(usage + constraint * 8) >> 2] = ++argumentCount;
      heap.u8[usage + constraint * 8 + 4] = 1;
    }
    heap.i32[word + INFO_INDEX_NUMBER] = indexNumber;
    const cost = Math.floor(FULL_COST / (argumentCount + 1));
    heap.f64[(info + INFO_COST_OFFSET) >> 3] = cost;
    heap.writeInt64(info + INFO_ROWS_OFFSET, cost);
    return SQLITE_OK;
  }

  #setMessage(vtab: number, message: string): void {
    const { exports, heap } = this.#runtime;
    exports.sqlite3_free(heap.i32[(vtab >> 2) + 2]!);
    heap.i32[(vtab >> 2) + 2] = heap.allocateText(message);
  }

  #open(vtab: number, out: number): number {
    const { heap } = this.#runtime;
    const key = this.#nextKey++;
    this.#cursors.set(key, {
      table: this.#tableOf(vtab),
      rows: null,
      row: [],
      rowid: 0,
      done: false,
    });
    const cursor = heap.allocate(CURSOR_BYTES);
    heap.i32.set([0, key], cursor >> 2);
    heap.i32[out >> 2] = cursor;
    return SQLITE_OK;
  }

  #close(pointer: number): number {
    const cursor = this.#cursorOf(pointer);
    const { current } = this.#runtime;
    this.#cursors.delete(this.#runtime.heap.i32[(pointer >> 2) + 1]!);
    this.#runtime.exports.sqlite3_free(pointer);
    return this.#guard(cursor, current, () => {
      cursor.rows?.return?.();
    });
  }

  #filter(pointer: number, indexNumber: number, values: number): number {
    const cursor = this.#cursorOf(pointer);
    const { heap, current } = this.#runtime;
    const { definition, safeIntegers } = cursor.table;
    const read = safeIntegers ? readSafeValue : readValue;
    const parameters: (SqliteValue | undefined)[] = [];
    let next = values >> 2;
    for (let index = 0; index < definition.parameters.length; index++) {
      if ((indexNumber & (1 << index)) === 0) {
        parameters.push(undefined);
        continue;
      }
      const value = read(this.#runtime, heap.i32[next++]!);
      if (value === null) {
        // A comparison with NULL selects nothing.
        cursor.done = true;
        return SQLITE_OK;
      }
      parameters.push(value);
    }
    const code = this.#guard(cursor, current, () => {
      cursor.rows?.return?.();
      cursor.rows = definition.rows(...parameters);
      cursor.rowid = 0;
    });
    return code === SQLITE_OK ? this.#next(cursor) : code;
  }

  #next(cursor: Cursor): number {
    return this.#guard(cursor, this.#runtime.current, () => {
      const item = cursor.rows?.next();
      cursor.done = item === undefined || item.done === true;
      if (item !== undefined && item.done !== true) cursor.row = item.value;
      cursor.rowid++;
    });
  }

  #column(pointer: number, context: number, column: number): number {
    const cursor = this.#cursorOf(pointer);
    return this.#guard(cursor, this.#runtime.current, () =>
      setResult(
        this.#runtime,
        context,
        cursor.row[column],
        `Virtual table module "${cursor.table.module.name}" yielded`,
      ),
    );
  }

  #guard(cursor: Cursor, current: ConnectionState | null, action: () => void): number {
    try {
      action();
      return SQLITE_OK;
    } catch (error) {
      cursor.table.module.state.keep(error);
      return SQLITE_ERROR;
    } finally {
      this.#runtime.current = current;
    }
  }
}
