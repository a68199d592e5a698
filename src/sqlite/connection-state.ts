/**
 * What a connection's parts share: the Connection itself, its statements and iterators, its functions and the VFS
 * bridge.
 *
 * C1. While `status` is busy, SQLite is on the stack for this connection: nothing else may use it.
 * C2. An exception never crosses WebAssembly. It is kept here, SQLite gets a result code, and the call that the user
 *     made throws the kept error in place of SQLite's own.
 */
import { InvariantError } from "../errors.ts";
import { ConnectionStatus } from "./connection-status.ts";
import { SQLITE_OK, SQLITE_READONLY } from "./constants.ts";
import { resultCodeName, SqliteError } from "./sqlite-error.ts";
import { StatementCache } from "./statement-cache.ts";
import type { SqliteRuntime } from "./runtime.ts";
import type { VfsFile } from "./vfs.ts";

export class ConnectionState {
  readonly owner: object;
  /** Null while the connection is parked. */
  #runtime: SqliteRuntime | null;
  /** sqlite3*, 0 before it is open, after it is closed, and while it is parked. */
  pointer = 0;
  status: ConnectionStatus = ConnectionStatus.ready;
  iterators = 0;
  safeIntegers = false;
  unsafe = false;
  verbose: ((...parameters: unknown[]) => unknown) | null = null;
  keptError: { readonly error: unknown } | null = null;
  /** Set while the host itself runs a pragma, which the VfsFile is then not asked about. */
  internalPragma = false;
  /** See StatementHandle: set while a statement is prepared. */
  answeredPragma: string | null = null;
  /** A statement of the user is being prepared, not one that runs. */
  isPreparing = false;
  /** The connection may be what opening it again would not give: see traces.ts. */
  leavesTraces = false;
  /** Who uses it does not see what statements others have prepared on it (traces.ts). */
  hidesStatements = false;
  /** The bridge opened a database file: after ATTACH, its journal mode is not set yet. */
  fileOpened = false;
  /** Of the databases that were opened, by the names that they were opened with: see VfsFile.pageSize. */
  readonly pageSizes: Map<string, number> = new Map();
  /** The schema changed, and the transaction that did it may still be rolled back. */
  schemaChanged = false;
  /** Open files that can never be written; see VfsFile.readOnlyError. */
  readonly readOnlyFiles: Set<VfsFile> = new Set();
  readonly statements: StatementCache = new StatementCache(this);
  /** A transaction that BEGIN CONCURRENT has begun is open. */
  isConcurrent = false;
  /** How long one call may wait for pages from object storage, all together. */
  fetchTimeoutMs: number = Infinity;
  /** When that is over for the call that is running, as performance.now says; 0: it has not waited yet. */
  waitsUntil = 0;
  /** How long an awaited statement may wait for the write lock, in milliseconds; 0: not at all. */
  busyTimeoutMs = 0;
  /** How long a statement may compute, in milliseconds; see work-limit.ts. */
  statementTimeoutMs: number = Infinity;
  isWatched = false;
  /** When the time of the call that is running is over, as performance.now says; 0: it has not been asked yet. */
  worksUntil = 0;
  yieldsAt = 0;
  /** The call that is running has committed. */
  hasCommitted = false;
  /** Ends the waits of the call that is running. */
  signal: AbortSignal | null = null;
  /** The wait for which the call is suspended now. */
  wait: AbortController | null = null;

  constructor(runtime: SqliteRuntime, owner: object) {
    this.#runtime = runtime;
    this.owner = owner;
  }

  get runtime(): SqliteRuntime {
    const runtime = this.#runtime;
    if (runtime === null) throw new InvariantError("A parked connection is not used");
    return runtime;
  }

  /** A connection that was closed is parked from now on: nothing of the instance is kept. */
  detach(): void {
    this.#runtime = null;
    this.status = ConnectionStatus.parked;
    this.isWatched = false;
    this.schemaChanged = false;
    this.fileOpened = false;
    this.keptError = null;
  }

  /** To be opened again. */
  attach(runtime: SqliteRuntime): void {
    this.#runtime = runtime;
    this.status = ConnectionStatus.ready;
  }

  /** The first error of a call is its cause; what follows while SQLite unwinds is not. */
  keep(error: unknown): void {
    this.keptError ??= { error };
  }

  requireOpen(): void {
    if (this.status === ConnectionStatus.failed) throw this.runtime.failureError();
    if (this.status === ConnectionStatus.closed)
      throw new TypeError("The database connection is not open");
  }

  requireReady(): void {
    this.requireOpen();
    this.requireNotBusy();
  }

  requireNotBusy(): void {
    if (this.status === ConnectionStatus.failed) throw this.runtime.failureError();
    if (this.status === ConnectionStatus.busy) throw busyError();
  }

  requireNoIterators(): void {
    if (this.iterators > 0) throw busyError();
  }

  requireNoIteratorsUnlessUnsafe(): void {
    if (!this.unsafe) this.requireNoIterators();
  }

  /** Marks the connection busy and makes it the one that opens files. Every `enter` is followed by a `leave`. */
  enter(): void {
    this.keptError = null;
    this.waitsUntil = 0;
    this.worksUntil = 0;
    this.hasCommitted = false;
    this.status = ConnectionStatus.busy;
    this.runtime.current = this;
  }

  leave(): void {
    if (this.status === ConnectionStatus.busy) this.status = ConnectionStatus.ready;
    if (this.isConcurrent) this.#settleConcurrent();
  }

  /** BEGIN CONCURRENT has been run. */
  beganConcurrent(): void {
    this.isConcurrent = true;
    this.runtime.vfs.setConcurrent?.(this.owner, true);
  }

  #settleConcurrent(): void {
    const { exports } = this.runtime;
    if (
      this.status === ConnectionStatus.ready &&
      exports.sqlite3_get_autocommit(this.pointer) === 0
    )
      return;
    this.isConcurrent = false;
    this.runtime.vfs.setConcurrent?.(this.owner, false);
  }

  /** The error of the call that just failed: the kept one, else SQLite's. */
  failure(): unknown {
    const error = this.#takeError();
    // SQLite may have rolled back a change of schema: see P3 in statement-cache.ts.
    if (this.schemaChanged) {
      this.schemaChanged = false;
      this.statements.clear();
    }
    return error;
  }

  #takeError(): unknown {
    const kept = this.keptError;
    if (kept !== null) {
      this.keptError = null;
      return kept.error;
    }
    const { exports, heap } = this.runtime;
    const code = exports.sqlite3_extended_errcode(this.pointer);
    if (code === SQLITE_READONLY) {
      const [file] = this.readOnlyFiles;
      if (file !== undefined && file.readOnlyError) return file.readOnlyError;
    }
    const message = heap.requireCString(exports.sqlite3_errmsg(this.pointer));
    return new SqliteError(message, resultCodeName(code));
  }

  /** After a statement that may have changed the schema, or taken such a change back. */
  schemaMayHaveChanged(): void {
    this.statements.clear();
    this.schemaChanged = true;
  }

  check(code: number): void {
    if (code !== SQLITE_OK) throw this.failure();
  }
}

function busyError(): TypeError {
  return new TypeError("This database connection is busy executing a query");
}
