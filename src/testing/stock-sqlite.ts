/** SQLite as its authors ship it, in memory, to judge what bough writes and to make what bough reads. */
import sqlite3InitModule, { type Database, type Sqlite3Static } from "@sqlite.org/sqlite-wasm";

const loading: Promise<Sqlite3Static> = sqlite3InitModule();

export type StockRow = Record<string, unknown>;

export class StockSqlite {
  readonly #sqlite: Sqlite3Static;
  readonly #database: Database;

  private constructor(sqlite: Sqlite3Static) {
    this.#sqlite = sqlite;
    this.#database = new sqlite.oo1.DB(":memory:");
  }

  /** A database file's bytes; none for an empty database. */
  static async open(bytes: Uint8Array = new Uint8Array(0)): Promise<StockSqlite> {
    const stock = new StockSqlite(await loading);
    if (bytes.length > 0) stock.#deserialize(bytes);
    return stock;
  }

  run(sql: string): StockRow[] {
    return this.#database.exec({ sql, rowMode: "object", returnValue: "resultRows" });
  }

  /** The database as a file. */
  bytes(): Uint8Array {
    return this.#sqlite.capi.sqlite3_js_db_export(this.#database);
  }

  #deserialize(bytes: Uint8Array): void {
    const { capi, wasm } = this.#sqlite;
    const pointer = wasm.allocFromTypedArray(new Uint8Array(bytes));
    const code = capi.sqlite3_deserialize(
      this.#database,
      "main",
      pointer,
      bytes.length,
      bytes.length,
      capi.SQLITE_DESERIALIZE_FREEONCLOSE | capi.SQLITE_DESERIALIZE_RESIZEABLE,
    );
    this.#database.checkRc(code);
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}
