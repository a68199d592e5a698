/** Stock SQLite, as its project builds it, on its own VFS: what tests compare with. */
import sqlite3InitModule, { type PreparedStatement } from "@sqlite.org/sqlite-wasm";
import { resultCodeName } from "../src/sqlite/sqlite-error.ts";

export type Value = null | bigint | number | string | Uint8Array;

/** What a statement did, in a form that can be compared. */
export type Outcome =
  | { readonly rows: readonly (readonly string[])[]; readonly columns: readonly string[] }
  | { readonly code: string; readonly message: string };

export type Sqlite3 = Awaited<ReturnType<typeof sqlite3InitModule>>;

export async function loadSqlite(): Promise<Sqlite3> {
  const sqlite3 = await sqlite3InitModule();
  sqlite3.config.warn = () => undefined; // It would print every failing statement.
  return sqlite3;
}

/** The value with its type: 1, 1.0 and '1' are different. */
export function show(value: Value): string {
  if (value === null) return "NULL";
  if (typeof value === "bigint") return `${value}`;
  if (typeof value === "number") return Object.is(value, -0) ? "real -0" : `real ${value}`;
  if (typeof value === "string") return `'${value}'`;
  return `x'${Buffer.from(value).toString("hex")}'`;
}

let files = 0;

export class StockDatabase {
  readonly #sqlite3: Sqlite3;
  readonly #name = `/stock-${++files}.db`;
  #db: InstanceType<Sqlite3["oo1"]["DB"]>;

  constructor(sqlite3: Sqlite3) {
    this.#sqlite3 = sqlite3;
    this.#db = this.#open();
  }

  /** Closes the connection and opens another one on the same file. */
  reopen(): void {
    this.#db.close();
    this.#db = this.#open();
  }

  get inTransaction(): boolean {
    return this.#sqlite3.capi.sqlite3_get_autocommit(this.#db) === 0;
  }

  run(sql: string): Outcome {
    const { capi, SQLite3Error } = this.#sqlite3;
    try {
      const statement = this.#db.prepare(sql);
      try {
        const columns: string[] = statement.columnCount > 0 ? statement.getColumnNames() : [];
        const rows: string[][] = [];
        while (statement.step())
          rows.push(columns.map((_, index) => show(this.#column(statement, index))));
        return { rows, columns };
      } finally {
        statement.finalize();
      }
    } catch (error) {
      if (!(error instanceof SQLite3Error)) throw error;
      const message = error.message.replace(/^.*?sqlite3 result code \d+: /s, "");
      return { code: resultCodeName(error.resultCode ?? capi.SQLITE_ERROR), message };
    }
  }

  close(): void {
    this.#db.close();
  }

  #open(): InstanceType<Sqlite3["oo1"]["DB"]> {
    const { capi, oo1 } = this.#sqlite3;
    const db = new oo1.DB(this.#name, "c");
    capi.sqlite3_extended_result_codes(db, 1);
    capi.sqlite3_db_config(db, capi.SQLITE_DBCONFIG_DEFENSIVE, 1, 0);
    db.exec("PRAGMA page_size = 4096; PRAGMA foreign_keys = ON");
    return db;
  }

  #column(statement: PreparedStatement, index: number): Value {
    const { capi } = this.#sqlite3;
    const { pointer } = statement;
    if (pointer === undefined) throw new TypeError("The statement is finalized");
    switch (capi.sqlite3_column_type(pointer, index)) {
      case capi.SQLITE_INTEGER:
        return capi.sqlite3_column_int64(pointer, index);
      case capi.SQLITE_FLOAT:
        return capi.sqlite3_column_double(pointer, index);
      case capi.SQLITE_TEXT:
        return capi.sqlite3_column_text(pointer, index);
      case capi.SQLITE_BLOB:
        return statement.getBlob(index) ?? new Uint8Array(0);
      default:
        return null;
    }
  }
}
