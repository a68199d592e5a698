/** Copies a database page by page into another connection's, in slices between which the event loop runs. */
import type { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import { SQLITE_DONE, SQLITE_OK } from "./constants.ts";
import { resultCodeName, SqliteError } from "./sqlite-error.ts";

export interface BackupProgress {
  totalPages: number;
  remainingPages: number;
}

export interface BackupOptions {
  /** The schema to copy; "main" by default. */
  readonly attached?: string;
  /** Called after each slice; returns the number of pages of the next one, 100 by default. */
  readonly progress?: (progress: BackupProgress) => number | undefined | void;
}

const PAGES_PER_SLICE = 100;
const SQLITE_BUSY = 5;

/** Both connections stay open. */
export async function copyDatabase(
  source: ConnectionState,
  target: ConnectionState,
  { attached, progress }: { attached: string; progress: BackupOptions["progress"] | null },
): Promise<BackupProgress> {
  const backup = startBackup(source, target, attached);
  let failed = false;
  try {
    let pages = 0;
    for (let first = true; ; first = false) {
      await nextTurn();
      const done = stepBackup(source, target, backup, pages);
      if (done.remainingPages === 0) return done;
      if (first) pages = PAGES_PER_SLICE;
      const wanted = progress?.(done);
      if (wanted !== undefined) {
        if (typeof wanted !== "number" || Number.isNaN(wanted)) {
          throw new TypeError("Expected progress callback to return a number or undefined");
        }
        pages = Math.max(0, Math.min(0x7fffffff, Math.round(wanted)));
      }
    }
  } catch (error) {
    failed = true;
    throw error;
  } finally {
    const code = finishBackup(source, target, backup);
    if (!failed && code !== SQLITE_OK) failBackup(target, code);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function startBackup(source: ConnectionState, target: ConnectionState, schema: string): number {
  const { exports, heap } = source.runtime;
  const from = heap.allocateText(schema);
  const to = heap.allocateText("main");
  source.enter();
  target.enter();
  try {
    const backup = exports.sqlite3_backup_init(target.pointer, to, source.pointer, from);
    if (backup === 0) throw target.failure();
    return backup;
  } finally {
    source.leave();
    target.leave();
    exports.sqlite3_free(from);
    exports.sqlite3_free(to);
  }
}

function stepBackup(
  source: ConnectionState,
  target: ConnectionState,
  backup: number,
  pages: number,
): BackupProgress {
  const { exports } = source.runtime;
  if (source.status === ConnectionStatus.failed) source.requireOpen();
  if (source.status === ConnectionStatus.closed) {
    throw new TypeError("The database connection is not open");
  }
  source.keptError = null;
  target.enter();
  let code: number;
  try {
    code = exports.sqlite3_backup_step(backup, pages);
  } catch (error) {
    throw source.runtime.fail(error);
  } finally {
    target.leave();
  }
  if (code !== SQLITE_OK && code !== SQLITE_DONE && (code & 0xff) !== SQLITE_BUSY) {
    const kept = source.keptError ?? target.keptError;
    if (kept !== null) throw kept.error;
    failBackup(target, code);
  }
  return {
    totalPages: exports.sqlite3_backup_pagecount(backup),
    remainingPages: exports.sqlite3_backup_remaining(backup),
  };
}

function failBackup({ runtime }: ConnectionState, code: number): never {
  const { exports, heap } = runtime;
  throw new SqliteError(heap.requireCString(exports.sqlite3_errstr(code)), resultCodeName(code));
}

/** A source that was closed meanwhile lives on inside SQLite (sqlite3_close_v2) until this. */
function finishBackup(source: ConnectionState, target: ConnectionState, backup: number): number {
  if (target.status === ConnectionStatus.failed) return SQLITE_OK;
  target.enter();
  try {
    return source.runtime.exports.sqlite3_backup_finish(backup);
  } catch (error) {
    throw source.runtime.fail(error);
  } finally {
    target.leave();
  }
}
