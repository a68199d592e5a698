/** Runs SQL text of any number of statements, without parameters. */
import type { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import { SQLITE_OK, SQLITE_ROW } from "./constants.ts";
import { replaceConcurrent } from "./begin-concurrent.ts";
import { isBlank } from "./sql-tail.ts";
import { readValue, type SqliteValue } from "./row-reader.ts";
import type { SqliteRuntime } from "./runtime.ts";
import { isTrap } from "./trap.ts";

export interface ScriptOptions {
  /** Called for each row of each statement. */
  readonly onRow?: (row: SqliteValue[]) => void;
  /** Called before each statement runs. */
  readonly onStatement?: (statement: number) => void;
  /** Called after each statement that ended without error. */
  readonly afterStatement?: () => void;
}

/** Stops at the first error. The connection is ready before and after. */
export function runScript(state: ConnectionState, sql: string, options: ScriptOptions = {}): void {
  const { runtime } = state;
  const { exports, heap } = runtime;
  const text = heap.allocateText(sql);
  try {
    for (let next = text; next !== 0;) next = runFirst(state, skipBlank(heap.u8, next), options);
  } finally {
    if (state.status !== ConnectionStatus.failed) exports.sqlite3_free(text);
  }
}

/** The text that `verbose` gets begins with the statement. */
function skipBlank(u8: Uint8Array, start: number): number {
  let position = start;
  while (isBlank(u8[position]!)) position++;
  return position;
}

/** Runs the first statement at `text`; returns where the next begins, 0 at the end. */
function runFirst(state: ConnectionState, text: number, options: ScriptOptions): number {
  const { exports, heap, vfs } = state.runtime;
  const isConcurrent = vfs.setConcurrent !== undefined && replaceConcurrent(heap.u8, text);
  state.enter();
  try {
    const prepared = exports.sqlite3_prepare_v3(
      state.pointer,
      text,
      -1,
      0,
      heap.scratch,
      heap.scratch + 4,
    );
    state.check(prepared);
    const statement = heap.i32[heap.scratch >> 2]!;
    const tail = heap.i32[(heap.scratch + 4) >> 2]!;
    if (statement === 0) return 0;
    try {
      options.onStatement?.(statement);
      while (exports.sqlite3_step(statement) === SQLITE_ROW) {
        if (options.onRow !== undefined) options.onRow(readRow(state.runtime, statement));
      }
    } catch (error) {
      if (!isTrap(error)) exports.sqlite3_finalize(statement);
      throw error;
    }
    const code = exports.sqlite3_finalize(statement);
    if (code !== SQLITE_OK) throw state.failure();
    state.leave();
    if (isConcurrent) state.beganConcurrent();
    options.afterStatement?.();
    return tail;
  } catch (error) {
    if (isTrap(error)) throw state.runtime.fail(error);
    throw error;
  } finally {
    state.leave();
  }
}

/** The current row of a statement. */
export function readRow(runtime: SqliteRuntime, statement: number): SqliteValue[] {
  const { exports } = runtime;
  const row: SqliteValue[] = [];
  for (let index = 0; index < exports.sqlite3_column_count(statement); index++) {
    row.push(readValue(runtime, exports.sqlite3_column_value(statement, index)));
  }
  return row;
}
