/** sqlite3*: how one is asked for, set up and closed, for connections that wait and for those that are awaited. */
import type { ConnectionOptions } from "./connection.ts";
import type { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import {
  SQLITE_DBCONFIG_DEFENSIVE,
  SQLITE_DBCONFIG_ENABLE_FKEY,
  SQLITE_OK,
  SQLITE_OPEN_CREATE,
  SQLITE_OPEN_READONLY,
  SQLITE_OPEN_READWRITE,
} from "./constants.ts";
import { requireTimeout } from "./options.ts";
import { resultCodeName, SqliteError } from "./sqlite-error.ts";
import { watchesAll, watchWork } from "./work-limit.ts";

/** V8's longest string on 64-bit systems, the limit for a text or blob that better-sqlite3 sets too. */
const LENGTH_MAX = 536_870_888;
const SQLITE_LIMIT_LENGTH = 0;
const SQLITE_LIMIT_SQL_LENGTH = 1;
const PAGE_BYTES = 4096;
const SETTINGS = "PRAGMA cache_size=-16000; PRAGMA temp_store=FILE";

/** The arguments of sqlite3_open_v2; `release` when it has returned. */
export interface OpenRequest {
  readonly name: number;
  /** Where sqlite3_open_v2 puts the sqlite3*. */
  readonly out: number;
  readonly flags: number;
  readonly vfsName: number;
  release(): void;
}

/** From here on the runtime knows the connection. */
export function openRequest(state: ConnectionState, options: ConnectionOptions): OpenRequest {
  const { runtime } = state;
  const { exports, heap } = runtime;
  const flags =
    options.readonly === true && !options.bytes
      ? SQLITE_OPEN_READONLY
      : SQLITE_OPEN_READWRITE | (options.fileMustExist === true ? 0 : SQLITE_OPEN_CREATE);
  const name = heap.allocateText(options.name);
  const vfsName = options.vfsName === undefined ? 0 : heap.allocateText(options.vfsName);
  const out = heap.allocate(8);
  runtime.connections.add(state);
  const release = (): void => {
    if (state.status === ConnectionStatus.failed) return;
    for (const pointer of [name, vfsName, out]) exports.sqlite3_free(pointer);
  };
  return { name, out, flags, vfsName, release };
}

/** Takes the result of sqlite3_open_v2; throws when it failed: close the database then. */
export function opened(state: ConnectionState, code: number, pointer: number): void {
  state.pointer = pointer;
  if (code === SQLITE_OK) return;
  throw pointer === 0 ? new SqliteError("out of memory", resultCodeName(code)) : state.failure();
}

/** What needs no SQL. */
export function applySettings(
  state: ConnectionState,
  { timeout = 0, statementTimeoutMs = Infinity }: ConnectionOptions,
): void {
  const { exports } = state.runtime;
  exports.sqlite3_extended_result_codes(state.pointer, 1);
  exports.sqlite3_busy_timeout(state.pointer, timeout);
  exports.sqlite3_limit(state.pointer, SQLITE_LIMIT_LENGTH, LENGTH_MAX);
  exports.sqlite3_limit(state.pointer, SQLITE_LIMIT_SQL_LENGTH, LENGTH_MAX);
  setOption(state, SQLITE_DBCONFIG_ENABLE_FKEY, true);
  setOption(state, SQLITE_DBCONFIG_DEFENSIVE, true);
  state.statementTimeoutMs = requireTimeout(statementTimeoutMs);
  watchWork(state, statementTimeoutMs !== Infinity || watchesAll(state.runtime));
}

/**
 * Makes an empty database have pages of that size. SQLite would keep it for VACUUM too, of any database of the connection, as the size
 * that pages are to have: 0 takes that back.
 */
export function pageSizeScript(schema: string, pageSize: number): string {
  return `PRAGMA ${schema}.page_size=${pageSize};PRAGMA ${schema}.page_size=0;`;
}

/** The rest: run it with `internalPragma` set. */
export function settingsScript({
  pageSize = PAGE_BYTES,
  synchronous = 2,
}: ConnectionOptions): string {
  return `${pageSizeScript("main", pageSize)} PRAGMA synchronous=${synchronous}; ${SETTINGS}`;
}

export function setOption(
  { runtime, pointer }: ConnectionState,
  option: number,
  enabled: boolean,
): void {
  runtime.exports.sqlite3__wasm_db_config_ip(pointer, option, enabled ? 1 : 0, 0);
}

/** Finalizes what is left and closes. Never throws SQLite's errors: there is nothing left to do about them. */
export function closeDatabase(state: ConnectionState): void {
  const { runtime, pointer } = state;
  if (state.status !== ConnectionStatus.failed && pointer !== 0) {
    state.enter();
    try {
      state.statements.finalizeAll();
      runtime.exports.sqlite3_close_v2(pointer);
    } catch (error) {
      throw runtime.fail(error);
    }
  }
  state.status = ConnectionStatus.closed;
  state.pointer = 0;
  runtime.connections.delete(state);
  if (runtime.current === state) runtime.current = null;
}
