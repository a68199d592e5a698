/**
 * Parking: an awaited connection that nobody uses gives its instance of SQLite back, and takes one again for its next call. So
 * thousands of open connections cost little.
 *
 *   ready --park(), nothing forbids it--> parked --the next call, in its turn--> ready
 *   parked --close()--> closed
 *
 * N1. Only between calls: none runs or waits, no transaction and no iterator is open.
 * N2. Not with what opening again would not give back: see traces.ts.
 * N3. Opened again a connection has its functions, aggregates and tables, in the order in which they were registered, and what
 *     last_insert_rowid(), changes() and total_changes() said. Statements are prepared again when they are used (Y3).
 * N4. It is on what it was on, whatever the names that it was opened with mean by then: `CallHooks.parking` sees to that.
 * N5. When opening again fails, the call gets the error and the connection stays parked: the next call tries again.
 */
import type { AsyncCalls } from "./async-calls.ts";
import { type ChangeCounters, readCounters, setCounters } from "./change-counters.ts";
import type { ConnectionOptions } from "./connection.ts";
import type { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import {
  applySettings,
  closeDatabase,
  opened,
  openRequest,
  settingsScript,
} from "./database-handle.ts";
import type { SqliteRuntime } from "./runtime.ts";
import { hasTraces, watchTraces } from "./traces.ts";

/** Where awaited connections have their instances of SQLite from. */
export interface RuntimeSource {
  /** One without a connection. */
  take(): SqliteRuntime;
  /** Nobody uses it any more. */
  give(runtime: SqliteRuntime): void;
  /** No call runs or waits: from now on the connection may be parked. */
  idle(parking: Parking): void;
  /** Not any more. */
  busy(parking: Parking): void;
}

interface Kept {
  readonly lastInsertRowid: bigint;
  readonly counters: ChangeCounters;
}

interface Registration {
  readonly safeIntegers: boolean;
  readonly register: (state: ConnectionState) => string;
}

export class Parking {
  readonly #calls: AsyncCalls;
  readonly #options: ConnectionOptions;
  readonly #source: RuntimeSource;
  /** By what a later one would replace. */
  readonly #registered: Map<string, Registration> = new Map();
  #kept: Kept | null = null;

  constructor(calls: AsyncCalls, options: ConnectionOptions, source: RuntimeSource) {
    this.#calls = calls;
    this.#options = options;
    this.#source = source;
  }

  /** Of a connection that is not parked. */
  get runtime(): SqliteRuntime {
    return this.#calls.runtime;
  }

  /** Whether a connection that is open could be opened again as it is now (N2). */
  get isClean(): boolean {
    return !hasTraces(this.#calls.state);
  }

  /** Registers now and whenever the connection is opened again; `register` says what it replaces. */
  register(register: (state: ConnectionState) => string): void {
    const { state } = this.#calls;
    const { safeIntegers } = state;
    const key = register(state);
    this.#registered.delete(key);
    this.#registered.set(key, { safeIntegers, register });
  }

  /** A call has ended and none waits. */
  idle(): void {
    if (this.#calls.state.status === ConnectionStatus.ready) this.#source.idle(this);
  }

  busy(): void {
    this.#source.busy(this);
  }

  /** What its counters say of those who used it is not for who uses it next. Between calls. */
  forgetUse(): void {
    this.#kept = null;
    const { state } = this.#calls;
    if (state.status === ConnectionStatus.parked) return;
    state.runtime.exports.sqlite3_set_last_insert_rowid(state.pointer, 0n);
    setCounters(state, { changes: 0n, totalChanges: 0n });
  }

  /** Gives the instance back, unless something forbids it. */
  park(): void {
    const { state, hooks, isIdle } = this.#calls;
    if (state.status !== ConnectionStatus.ready || !isIdle || state.iterators > 0) return;
    const { runtime, pointer } = state;
    if (runtime.exports.sqlite3_get_autocommit(pointer) === 0 || hasTraces(state)) return;
    this.#kept = {
      lastInsertRowid: runtime.exports.sqlite3_last_insert_rowid(pointer),
      counters: readCounters(state),
    };
    hooks?.parking();
    try {
      this.#close();
    } catch {
      // A trap: the connection has failed, and its next call says so.
    }
    this.#source.give(runtime);
  }

  /** In a turn, within the call's limits. */
  async unpark(): Promise<void> {
    const { state, hooks } = this.#calls;
    const runtime = this.#source.take();
    const { statementTimeoutMs } = state;
    try {
      state.attach(runtime);
      await openDatabase(this.#calls, this.#options);
      this.#restore();
    } catch (error) {
      if (state.status !== ConnectionStatus.failed) this.#close();
      this.#source.give(runtime);
      throw error;
    } finally {
      state.statementTimeoutMs = statementTimeoutMs; // Of the call, not of the connection.
    }
    hooks?.unparked();
  }

  /** For good. */
  close(): void {
    const { state } = this.#calls;
    this.#source.busy(this);
    if (state.status === ConnectionStatus.parked) {
      state.status = ConnectionStatus.closed;
      return;
    }
    const { runtime } = state;
    try {
      closeDatabase(state);
    } finally {
      this.#source.give(runtime);
    }
  }

  #close(): void {
    const { state } = this.#calls;
    closeDatabase(state);
    state.detach();
    this.#calls.forgetInstance();
  }

  #restore(): void {
    const { state } = this.#calls;
    const { safeIntegers } = state;
    for (const registration of this.#registered.values()) {
      state.safeIntegers = registration.safeIntegers;
      try {
        registration.register(state);
      } finally {
        state.safeIntegers = safeIntegers;
      }
    }
    const kept = this.#kept;
    if (kept === null) return;
    state.runtime.exports.sqlite3_set_last_insert_rowid(state.pointer, kept.lastInsertRowid);
    const { counters } = kept;
    if (counters.totalChanges > 0n || counters.changes > 0n) setCounters(state, counters);
  }
}

/** On failure: close the database. */
export async function openDatabase(calls: AsyncCalls, options: ConnectionOptions): Promise<void> {
  const { state } = calls;
  const request = openRequest(state, options);
  try {
    const { code, pointer } = await calls.open(request.name, request.flags, request.vfsName);
    opened(state, code, pointer);
  } finally {
    request.release();
  }
  applySettings(state, options);
  state.internalPragma = true;
  try {
    await calls.script(settingsScript(options));
  } finally {
    state.internalPragma = false;
  }
  if (state.fileOpened) await calls.settleAttachedFiles();
  watchTraces(state);
}
