/**
 * What SQL leaves on its connection, beyond the database: settings, temporary tables, attached databases. SQLite itself says so, to
 * the authorizer that it asks while it prepares a statement; so nothing hangs on how the SQL is written.
 *
 * U1. A pragma that may set something counts when it is prepared, whether it is run or not, and a temporary object for as long as
 *     the connection lives, also when it has been dropped.
 * U2. Attached databases count while they are attached: SQLite is asked.
 * U3. The table pragma_data_version counts like the pragma, also where a view reads it.
 * U4. What the host runs itself, and what FTS5 asks while a statement runs, does not count.
 * U5. Who shares a connection with others (`hidesStatements`) does not read the table sqlite_stmt: it has the texts of their statements.
 */
import type { ConnectionState } from "./connection-state.ts";
import type { SqliteRuntime } from "./runtime.ts";

/** To it: CREATE of an index, a table, the same and more with TEMP, a trigger, a view. */
const SQLITE_CREATE_VIEW = 8;
const SQLITE_CREATE_TEMP_INDEX = 3;
const SQLITE_CREATE_TEMP_VIEW = 6;
const SQLITE_PRAGMA = 19;
const SQLITE_READ = 20;
const SQLITE_CREATE_VTABLE = 29;
/** After "main" and "temp". */
const FIRST_ATTACHED = 2;

/** Pragmas that leave nothing on the connection although they have an argument. */
const HARMLESS: ReadonlySet<string> = new Set([
  "application_id",
  "foreign_key_check",
  "foreign_key_list",
  "incremental_vacuum",
  "index_info",
  "index_list",
  "index_xinfo",
  "integrity_check",
  "journal_mode", // The file answers it.
  "optimize",
  "quick_check",
  "schema_version",
  "table_info",
  "table_list",
  "table_xinfo",
  "user_version",
  "wal_checkpoint",
]);
/** Settings of the whole instance. */
const OF_INSTANCE: ReadonlySet<string> = new Set([
  "hard_heap_limit",
  "soft_heap_limit",
  "temp_store_directory",
]);

/** Both have a "_" after so many letters. */
const DATA_VERSION_TABLE = "pragma_data_version";
const STATEMENT_TABLE = "sqlite_stmt";
const PREFIX_LENGTH = 6;
const UNDERSCORE = 0x5f;
const SQLITE_DENY = 1;

/** Once, when the connection is open. */
export function watchTraces({ runtime, pointer }: ConnectionState): void {
  runtime.exports.sqlite3_set_authorizer(pointer, runtime.traceFunction, 0);
}

/** Whether opening the connection again would not give back what it is now. */
export function hasTraces({ runtime, pointer, leavesTraces }: ConnectionState): boolean {
  return leavesTraces || runtime.exports.sqlite3_db_name(pointer, FIRST_ATTACHED) !== 0;
}

/** For SQLite's function table: the authorizer, which allows everything but U5. */
export function makeTraceFunction(runtime: SqliteRuntime): number {
  const callback = (
    _context: number,
    action: number,
    first: number,
    second: number,
    schema: number,
  ): number => {
    const creates = action <= SQLITE_CREATE_VIEW || action === SQLITE_CREATE_VTABLE;
    // For each column that a statement names.
    if (action === SQLITE_READ) {
      if (isTable(runtime, first, STATEMENT_TABLE))
        return runtime.current?.hidesStatements === true ? SQLITE_DENY : 0;
      if (!isTable(runtime, first, DATA_VERSION_TABLE)) return 0;
    } else if (!creates && action !== SQLITE_PRAGMA) return 0;
    const state = runtime.current;
    if (state === null || state.internalPragma) return 0;
    const { heap } = runtime;
    if (action === SQLITE_READ) state.leavesTraces = true;
    else if (action === SQLITE_PRAGMA)
      notePragma(state, heap.requireCString(first).toLowerCase(), second !== 0);
    else if (isTemporary(action) || heap.readCString(schema) === "temp") state.leavesTraces = true;
    return 0;
  };
  return runtime.addCallbacks([{ signature: "iiiiii>i", callback }]);
}

/** Whether a table has that name, in whatever case it was written. */
function isTable({ heap }: SqliteRuntime, table: number, wanted: string): boolean {
  if (table === 0 || heap.u8[table + PREFIX_LENGTH] !== UNDERSCORE) return false;
  const name = heap.requireCString(table);
  return name.length === wanted.length && name.toLowerCase() === wanted;
}

function isTemporary(action: number): boolean {
  return action >= SQLITE_CREATE_TEMP_INDEX && action <= SQLITE_CREATE_TEMP_VIEW;
}

function notePragma(state: ConnectionState, name: string, hasArgument: boolean): void {
  // Without an argument pragmas ask. The answer to this one means something only beside an earlier one.
  if (!hasArgument) {
    if (name === "data_version" && state.isPreparing) state.leavesTraces = true;
    return;
  }
  if (HARMLESS.has(name)) return;
  state.leavesTraces = true;
  if (OF_INSTANCE.has(name)) state.runtime.isReusable = false;
}
