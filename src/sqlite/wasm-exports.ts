/** The functions of `sqlite3.wasm` that the host calls. Pointers and sizes are 32-bit numbers, 64-bit integers bigints. */
import { InvariantError } from "../errors.ts";
import type { WasmTable } from "./wasm-types.ts";

type Call = (...parameters: number[]) => number;
type CallVoid = (...parameters: number[]) => void;

const INTEGER_FUNCTIONS = [
  "malloc",
  "sqlite3_malloc",
  "sqlite3_aggregate_context",
  "sqlite3_backup_finish",
  "sqlite3_backup_init",
  "sqlite3_backup_pagecount",
  "sqlite3_backup_remaining",
  "sqlite3_backup_step",
  "sqlite3_bind_blob",
  "sqlite3_bind_double",
  "sqlite3_bind_null",
  "sqlite3_bind_parameter_count",
  "sqlite3_bind_parameter_name",
  "sqlite3_bind_text",
  "sqlite3_busy_timeout",
  "sqlite3_changes",
  "sqlite3_clear_bindings",
  "sqlite3_close_v2",
  "sqlite3_column_count",
  "sqlite3_column_database_name",
  "sqlite3_column_decltype",
  "sqlite3_column_name",
  "sqlite3_column_origin_name",
  "sqlite3_column_table_name",
  "sqlite3_column_value",
  "sqlite3_create_function_v2",
  "sqlite3_create_module_v2",
  "sqlite3_create_window_function",
  "sqlite3_data_count",
  "sqlite3_db_name",
  "sqlite3_declare_vtab",
  "sqlite3_errmsg",
  "sqlite3_errstr",
  "sqlite3_expanded_sql",
  "sqlite3_extended_errcode",
  "sqlite3_extended_result_codes",
  "sqlite3_finalize",
  "sqlite3_get_autocommit",
  "sqlite3_initialize",
  "sqlite3_interrupt",
  "sqlite3_libversion",
  "sqlite3_limit",
  "sqlite3_msize",
  "sqlite3_open_v2",
  "sqlite3_prepare_v3",
  "sqlite3_reset",
  "sqlite3_serialize",
  "sqlite3_set_authorizer",
  "sqlite3_status",
  "sqlite3_sql",
  "sqlite3_step",
  "sqlite3_stmt_isexplain",
  "sqlite3_stmt_readonly",
  "sqlite3_total_changes",
  "sqlite3_user_data",
  "sqlite3_value_blob",
  "sqlite3_value_bytes",
  "sqlite3_value_double",
  "sqlite3_value_text",
  "sqlite3_value_type",
  "sqlite3_vfs_find",
  "sqlite3_vfs_register",
  "sqlite3_vfs_unregister",
  "sqlite3__wasm_config_i",
  "sqlite3__wasm_db_config_ip",
  "sqlite3__wasm_vtab_config",
] as const;

const VOID_FUNCTIONS = [
  "__wasm_call_ctors",
  "free",
  "sqlite3_free",
  "sqlite3_progress_handler",
  "sqlite3_result_blob",
  "sqlite3_result_double",
  "sqlite3_result_error",
  "sqlite3_result_null",
  "sqlite3_result_text",
] as const;

const BIGINT_FUNCTIONS = [
  "sqlite3_bind_int64",
  "sqlite3_changes64",
  "sqlite3_deserialize",
  "sqlite3_last_insert_rowid",
  "sqlite3_result_int64",
  "sqlite3_set_last_insert_rowid",
  "sqlite3_total_changes64",
  "sqlite3_value_int64",
] as const;

export type SqliteExports = Readonly<Record<(typeof INTEGER_FUNCTIONS)[number], Call>> &
  Readonly<Record<(typeof VOID_FUNCTIONS)[number], CallVoid>> & {
    readonly __indirect_function_table: WasmTable;
    readonly sqlite3_bind_int64: (statement: number, index: number, value: bigint) => number;
    readonly sqlite3_changes64: (database: number) => bigint;
    readonly sqlite3_deserialize: (
      database: number,
      schema: number,
      bytes: number,
      size: bigint,
      capacity: bigint,
      flags: number,
    ) => number;
    readonly sqlite3_last_insert_rowid: (database: number) => bigint;
    readonly sqlite3_result_int64: (context: number, value: bigint) => void;
    readonly sqlite3_set_last_insert_rowid: (database: number, rowid: bigint) => void;
    readonly sqlite3_total_changes64: (database: number) => bigint;
    readonly sqlite3_value_int64: (value: number) => bigint;
  };

/** Throws when the module is not the build of SQLite that the host was written for. */
export function checkExports(exports: Readonly<Record<string, unknown>>): SqliteExports {
  for (const name of [...INTEGER_FUNCTIONS, ...VOID_FUNCTIONS, ...BIGINT_FUNCTIONS]) {
    if (typeof exports[name] !== "function") {
      throw new InvariantError(`sqlite3.wasm exports function: "${name}"`);
    }
  }
  // Every name was checked above; WebAssembly itself checks the types of what crosses.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return exports as unknown as SqliteExports;
}
