/**
 * What an AsyncConnection and its statements share: turns, time limits, and the calls into SQLite that can be suspended.
 *
 * Y1. One call of the user at a time is inside of SQLite: every use of the connection is in a turn (call-queue.ts).
 * Y2. Text and blobs are copied when they are bound, and SQLite's results go to memory of the call: the heap's arena and
 *     scratch words, which belong to whoever runs now, are left before a call can be suspended.
 * Y3. A statement's handle is borrowed for one turn, or locked for an iterator. One that is not cached is finalized in the
 *     turn that ends its use: garbage collection never enters SQLite here, where a call may be suspended.
 * Y4. No answer is given before the commits that it tells of are durable: those of the call, and those that it was shown,
 *     whether it is rows or an error. Within a transaction the answer is the end of the transaction.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { settingsOfFile } from "./attached-files.ts";
import { replaceConcurrent } from "./begin-concurrent.ts";
import { StoreError } from "../errors.ts";
import { CallQueue } from "./call-queue.ts";
import type { ConnectionState } from "./connection-state.ts";
import { ConnectionStatus } from "./connection-status.ts";
import { SQLITE_OK, SQLITE_PREPARE_PERSISTENT } from "./constants.ts";
import { requireTimeout } from "./options.ts";
import type { SqliteRuntime } from "./runtime.ts";
import type { Parking } from "./parking.ts";
import { readRow } from "./script.ts";
import { SqliteError } from "./sqlite-error.ts";
import { isBlank, NO_STATEMENT, requireSingleStatement } from "./sql-tail.ts";
import { sqlForSqlite, type StatementHandle } from "./statement-cache.ts";
import type { StatementState } from "./statement-state.ts";
import type { Suspendable } from "./suspendable-calls.ts";
import { watchWork } from "./work-limit.ts";

/** Limits of one call. */
export interface CallLimits {
  /** Ends the call with the signal's reason while it waits: for its turn or for pages. Its transaction is rolled back. */
  readonly signal?: AbortSignal;
  /**
   * How long the call may wait for pages from object storage, and how long its statement may run, in milliseconds; then TIMEOUT.
   */
  readonly timeoutMs?: number;
}

/** What a store does around the calls of its connections. */
export interface CallHooks {
  /** Before each call. */
  readonly enter: () => void;
  /**
   * After a call: resolves when what it committed is as durable as the connection asks, and, with `isBetween`, when no
   * transaction is open, also what it was shown. Null: there is nothing to wait for.
   */
  readonly settled: (isBetween: boolean) => Promise<void> | null;
  /**
   * After SQLITE_BUSY: resolves when it is this connection's turn to write, with what to call once it has
   * tried. Null: the time is over, or waiting would not help.
   */
  readonly contended: (limits: ContentionLimits) => Promise<(() => void) | null>;
  /** The connection is about to be parked (parking.ts): names may mean something else when it is opened again. */
  readonly parking: () => void;
  readonly unparked: () => void;
  readonly closed: () => void;
}

export interface ContentionLimits {
  readonly signal: AbortSignal | null;
  readonly timeoutMs: number;
  /** It was its turn before, and somebody came in between. */
  readonly isAgain: boolean;
}

/** A transaction(...) that runs: calls from within its function find it. */
interface Scope {
  readonly calls: AsyncCalls;
  readonly queue: CallQueue;
  readonly outer: Scope | undefined;
  /** Calls that come now are not part of it. */
  isOver: boolean;
}

const scopes = new AsyncLocalStorage<Scope>();

/** What a call waits for after its turn. */
interface Settling {
  promise: Promise<void> | null;
}

const noRow = (): boolean => false;

export class AsyncCalls {
  readonly state: ConnectionState;
  readonly hooks: CallHooks | null;
  /** Set when the connection is made; null: it keeps its instance. */
  parking: Parking | null = null;
  readonly #queue: CallQueue = new CallQueue();
  /** Of statements that are used again; they belong to the instance that the connection has now. */
  #statements: WeakMap<object, StatementState> = new WeakMap();
  readonly #takeRow = (): number => this.#rowTaken();
  #onRow: () => boolean = noRow;
  #rowError: { readonly error: unknown } | null = null;
  /** How often `interrupt` was called: a script that runs compares. */
  #interruptCount = 0;
  /** A call waits for its turn to write. */
  #isContended = false;
  /** Ends that. Used until it is aborted: making one costs more than a statement. */
  #contention: AbortController | null = null;

  constructor(state: ConnectionState, hooks: CallHooks | null) {
    this.state = state;
    this.hooks = hooks;
  }

  /** Of a connection that is not parked. */
  get runtime(): SqliteRuntime {
    return this.state.runtime;
  }

  get isIdle(): boolean {
    return this.#queue.isIdle;
  }

  /** What `key` has kept for this instance, or what it makes. */
  statementOf(key: object, make: () => StatementState): StatementState {
    const known = this.#statements.get(key);
    if (known !== undefined) return known;
    const made = make();
    this.#statements.set(key, made);
    return made;
  }

  /** The connection has no instance any more: nothing here may keep that in memory. */
  forgetInstance(): void {
    this.#statements = new WeakMap();
    this.#onRow = noRow;
  }

  /** Ends the call that is running with SQLITE_INTERRUPT: its statement, what that waits for, and what would run after it. */
  interrupt(): void {
    const { state } = this;
    this.#interruptCount++;
    if (this.#isContended) {
      this.#contention?.abort(interrupted());
      this.#contention = null;
    }
    if (state.status !== ConnectionStatus.busy) return;
    state.runtime.exports.sqlite3_interrupt(state.pointer);
    state.wait?.abort(interrupted());
  }

  /** Runs `call` in its turn (Y1). */
  turn<T>(limits: CallLimits, call: () => Promise<T>): Promise<T> {
    return this.#turn(limits, call, null);
  }

  /**
   * The same for calls that give an answer: it resolves, or rejects with what the database refused, when all that this was made
   * from is durable (Y4). Others have their turns meanwhile.
   */
  async turnDurably<T>(limits: CallLimits, call: () => Promise<T>): Promise<T> {
    const after: Settling = { promise: null };
    try {
      return await this.#turn(limits, call, after);
    } finally {
      if (after.promise !== null) await after.promise;
    }
  }

  async #turn<T>(limits: CallLimits, call: () => Promise<T>, after: Settling | null): Promise<T> {
    const { signal = null, timeoutMs } = limits;
    const limit = timeoutMs === undefined ? null : requireTimeout(timeoutMs);
    const scope = this.#scope();
    const queue = scope ?? this.#queue;
    const entering = queue.enter(signal);
    if (entering !== null) await entering;
    const { state } = this;
    const { signal: outerSignal, fetchTimeoutMs, statementTimeoutMs } = state;
    let { isWatched: wasWatched } = state;
    try {
      state.requireReady();
      state.signal = signal ?? outerSignal;
      state.fetchTimeoutMs = limit ?? fetchTimeoutMs;
      state.statementTimeoutMs = limit ?? statementTimeoutMs;
      state.waitsUntil = 0;
      state.worksUntil = 0;
      if (scope === null) this.parking?.busy();
      this.hooks?.enter();
      try {
        state.signal?.throwIfAborted();
        if (state.status === ConnectionStatus.parked) await this.parking?.unpark();
        wasWatched = state.isWatched;
        if (limit !== null) watchWork(state, true);
        const result = await call();
        if (after !== null) this.#settle(after);
        return result;
      } catch (error) {
        // Who gave up, or is to try again, is told nothing of what is in the database.
        const isTold = state.signal?.aborted !== true && !isRetryable(error);
        if (after !== null && isTold) this.#settle(after);
        throw error;
      } finally {
        state.signal = outerSignal;
        state.fetchTimeoutMs = fetchTimeoutMs;
        state.statementTimeoutMs = statementTimeoutMs;
        if (limit !== null && state.pointer !== 0 && !this.runtime.hasFailed)
          watchWork(state, wasWatched);
      }
    } finally {
      queue.leave();
      if (scope === null && queue.isIdle) this.parking?.idle();
    }
  }

  /** Within the turn: the next call may begin a transaction. */
  #settle(after: Settling): void {
    after.promise = this.hooks?.settled(this.isAutocommit) ?? null;
    after.promise?.catch(() => {}); // Awaited when the turn is over.
  }

  /** A turn after all calls that were made, for closing. */
  async last(call: () => void): Promise<void> {
    await this.#queue.run(async () => {
      await Promise.resolve();
      call();
    });
  }

  /**
   * Runs a statement that may write. While another transaction keeps it from that, it waits for its turn and runs it again: a
   * statement that is a transaction by itself, or begins or commits one, has done nothing yet when it is refused.
   */
  async untilWritable<T>(body: () => Promise<T>): Promise<T> {
    const { hooks, state } = this;
    if (hooks === null || state.busyTimeoutMs === 0) return await body();
    let until = 0;
    let turn: (() => void) | null = null;
    try {
      for (;;) {
        const isAlone = this.isAutocommit;
        try {
          return await body();
        } catch (error) {
          const isStale = hasCode(error, "SQLITE_BUSY_SNAPSHOT");
          const now = performance.now();
          if (until === 0) until = now + state.busyTimeoutMs;
          if (!(isStale ? isAlone : hasCode(error, "SQLITE_BUSY")) || now >= until) throw error;
          if (isStale) continue; // Somebody else has committed: the next try begins from there.
          const isAgain = turn !== null;
          turn?.();
          turn = await this.#contended(hooks, { timeoutMs: until - now, isAgain });
          if (turn === null) throw error;
        }
      }
    } finally {
      turn?.();
    }
  }

  async #contended(
    hooks: CallHooks,
    limits: Omit<ContentionLimits, "signal">,
  ): Promise<(() => void) | null> {
    const { signal } = this.state;
    const own = (this.#contention ??= new AbortController()).signal;
    this.#isContended = true;
    const interrupts = this.#interruptCount;
    try {
      const either = signal === null ? own : AbortSignal.any([signal, own]);
      const turn = await hooks.contended({ ...limits, signal: either });
      if (interrupts === this.#interruptCount) return turn;
      turn?.(); // It was granted just before.
      throw interrupted();
    } finally {
      this.#isContended = false;
    }
  }

  get isAutocommit(): boolean {
    const { state } = this;
    if (state.status === ConnectionStatus.parked) return true;
    return (
      state.status !== ConnectionStatus.failed &&
      state.pointer !== 0 &&
      state.runtime.exports.sqlite3_get_autocommit(state.pointer) !== 0
    );
  }

  /** Runs `body` with a queue of its own. `end` has its turn after all calls that `body` made, the last of this queue. */
  async nest<T>(body: () => Promise<T>, end: (failed: boolean) => Promise<void>): Promise<T> {
    const scope: Scope = {
      calls: this,
      queue: new CallQueue(),
      outer: scopes.getStore(),
      isOver: false,
    };
    let result: T;
    try {
      result = await scopes.run(scope, body);
    } catch (error) {
      scope.isOver = true;
      await scope.queue.run(() => end(true));
      throw error;
    }
    scope.isOver = true;
    await scope.queue.run(() => end(false));
    return result;
  }

  /** Whether the caller is in the function of a transaction of this connection. */
  get isWithinTransaction(): boolean {
    return this.#scope() !== null;
  }

  #scope(): CallQueue | null {
    for (let scope = scopes.getStore(); scope !== undefined; scope = scope.outer)
      if (scope.calls === this && !scope.isOver) return scope.queue;
    return null;
  }

  open(name: number, flags: number, vfsName: number): Promise<{ code: number; pointer: number }> {
    return this.#inside(async () => {
      const { suspendable, heap } = this.runtime;
      const { out } = suspendable;
      const code = await this.#call(suspendable.open, name, out, flags, vfsName);
      return { code, pointer: heap.i32[out >> 2]! };
    });
  }

  /** A handle for this turn; `release` it. No promise for what is prepared already. */
  acquire(sql: string): StatementHandle | Promise<StatementHandle> {
    return this.state.statements.find(sql) ?? this.#acquireNew(sql);
  }

  async #acquireNew(sql: string): Promise<StatementHandle> {
    const pointer = await this.#prepareStatement(sql, SQLITE_PREPARE_PERSISTENT);
    return this.state.statements.add(sql, pointer);
  }

  /** See Y3. */
  release(handle: StatementHandle): void {
    if (!handle.cached) this.state.statements.finalize(handle);
  }

  /** Steps until `onRow` returns true, or to the end; returns the last step's code. */
  steps(statement: number, onRow: () => boolean): number | Promise<number> {
    this.#onRow = onRow;
    this.#rowError = null;
    const { suspendable } = this.runtime;
    suspendable.onRow = this.#takeRow;
    const code = this.#call(suspendable.steps, statement);
    return typeof code === "number" ? this.#stepped(code) : this.#suspendedSteps(code);
  }

  async #suspendedSteps(code: Promise<number>): Promise<number> {
    return this.#stepped(await code);
  }

  #stepped(code: number): number {
    const failed = this.#rowError;
    if (failed !== null) throw failed.error;
    return code;
  }

  /** Gives the code of the step; the results are at the address `out` of the suspendable calls (fused-run.ts). */
  run(statement: number): number | Promise<number> {
    const { run, out } = this.runtime.suspendable;
    return this.#call(run, statement, this.state.pointer, out);
  }

  /** Runs SQL text of any number of statements; as script.ts. */
  async script(
    sql: string,
    options: {
      readonly onStatement?: (statement: number) => void;
      readonly afterStatement?: () => Promise<void>;
      readonly onRow?: (statement: number) => void;
    } = {},
  ): Promise<void> {
    const { exports, heap } = this.runtime;
    const text = heap.allocateText(sql);
    const interruptCount = this.#interruptCount;
    try {
      for (let next = text; next !== 0;) {
        // Nothing runs between two statements, which SQLite could interrupt.
        if (this.#interruptCount !== interruptCount) throw interrupted();
        while (isBlank(heap.u8[next]!)) next++;
        next = await this.#runFirst(next, options);
      }
    } finally {
      if (!this.runtime.hasFailed) exports.sqlite3_free(text);
    }
  }

  /** Runs one statement without parameters and rows, which stays prepared: BEGIN, COMMIT. */
  async command(sql: string): Promise<void> {
    const { state, runtime } = this;
    const handle = await this.untilWritable(async () => {
      const found = await this.acquire(sql);
      this.enter();
      try {
        await this.#call(runtime.suspendable.steps, found.pointer);
        if (runtime.exports.sqlite3_reset(found.pointer) !== SQLITE_OK) throw state.failure();
      } finally {
        state.leave();
        this.release(found);
      }
      return found;
    });
    if (handle.beginsConcurrent) state.beganConcurrent();
  }

  async #runFirst(
    text: number,
    options: Parameters<AsyncCalls["script"]>[1] = {},
  ): Promise<number> {
    const { heap, vfs } = this.runtime;
    const isConcurrent = vfs.setConcurrent !== undefined && replaceConcurrent(heap.u8, text);
    const tail = await this.untilWritable(() => this.#runStatement(text, options));
    if (isConcurrent) this.state.beganConcurrent();
    if (tail !== 0) await options.afterStatement?.();
    return tail;
  }

  /** Returns where the text goes on; 0 at its end. */
  #runStatement(
    text: number,
    options: NonNullable<Parameters<AsyncCalls["script"]>[1]>,
  ): Promise<number> {
    const { exports, heap } = this.runtime;
    return this.#inside(async () => {
      const { state } = this;
      state.check(await this.#prepare(text, 0));
      const { out } = this.runtime.suspendable;
      const statement = heap.i32[out >> 2]!;
      const next = heap.i32[(out + 4) >> 2]!;
      if (statement === 0) return 0;
      try {
        options.onStatement?.(statement);
        await this.steps(statement, () => {
          options.onRow?.(statement);
          return false;
        });
      } catch (error) {
        if (!this.runtime.hasFailed) exports.sqlite3_finalize(statement);
        throw error;
      }
      if (exports.sqlite3_finalize(statement) !== SQLITE_OK) throw state.failure();
      return next;
    });
  }

  /** Ends a run by `end`; what ATTACH has opened gets its journal mode, as in attached-files.ts. */
  finish(end: () => void): Promise<void> | null {
    const { state } = this;
    const { fileOpened } = state;
    state.fileOpened = false;
    end();
    return fileOpened ? this.settleAttachedFiles() : null;
  }

  /** See attached-files.ts. */
  async settleAttachedFiles(): Promise<void> {
    const { state, runtime } = this;
    state.fileOpened = false;
    const scripts: string[] = [];
    state.internalPragma = true;
    try {
      await this.script("PRAGMA database_list", {
        onRow: (statement) => {
          const [, schema, file] = readRow(runtime, statement);
          const script = settingsOfFile(state, String(schema), String(file));
          if (script !== null) scripts.push(script);
        },
      });
      for (const script of scripts) await this.script(script);
    } finally {
      state.internalPragma = false;
    }
  }

  async #prepareStatement(sql: string, flags: number): Promise<number> {
    const { state, runtime } = this;
    const { exports, heap } = runtime;
    const text = heap.allocateText(sqlForSqlite(state, sql));
    state.answeredPragma = null;
    try {
      return await this.#inside(async () => {
        state.check(await this.#prepare(text, flags));
        const { out } = runtime.suspendable;
        const pointer = heap.i32[out >> 2]!;
        if (pointer === 0) throw new RangeError(NO_STATEMENT);
        try {
          requireSingleStatement(heap.u8, heap.i32[(out + 4) >> 2]!);
        } catch (error) {
          exports.sqlite3_finalize(pointer);
          throw error;
        }
        return pointer;
      });
    } finally {
      if (!runtime.hasFailed) exports.sqlite3_free(text);
    }
  }

  /** Of the first statement of the text: the results are at the address `out`, as of sqlite3_prepare_v3. */
  async #prepare(text: number, flags: number): Promise<number> {
    const { state } = this;
    const { prepare, out } = this.runtime.suspendable;
    state.isPreparing = true;
    try {
      return await this.#call(prepare, state.pointer, text, -1, flags, out, out + 4);
    } finally {
      state.isPreparing = false;
    }
  }

  /** For a single use: `release` it. */
  async acquireTemporary(sql: string): Promise<StatementHandle> {
    const { statements } = this.state;
    return statements.addTemporary(await this.#prepareStatement(sql, 0));
  }

  /** Marks the connection busy while `body` is inside of SQLite. The time that the call has waited goes on counting. */
  async #inside<T>(body: () => Promise<T>): Promise<T> {
    this.enter();
    try {
      return await body();
    } finally {
      this.state.leave();
    }
  }

  enter(): void {
    const { state } = this;
    const { waitsUntil, worksUntil } = state;
    state.enter();
    state.waitsUntil = waitsUntil;
    state.worksUntil = worksUntil;
  }

  /** No promise where the call cannot be suspended: a statement makes several of these calls, and each await costs as much as some of them. */
  #call(target: Suspendable, ...parameters: number[]): number | Promise<number> {
    const { runtime } = this;
    runtime.isSuspendable = runtime.suspends;
    let code: number | Promise<number>;
    try {
      code = target(...parameters);
    } catch (error) {
      runtime.isSuspendable = false;
      throw runtime.fail(error);
    }
    if (typeof code !== "number") return this.#suspended(code);
    runtime.isSuspendable = false;
    return code;
  }

  async #suspended(code: Promise<number>): Promise<number> {
    const { runtime } = this;
    try {
      return await code;
    } catch (error) {
      throw runtime.fail(error);
    } finally {
      runtime.isSuspendable = false;
    }
  }

  /** C2: nothing may be thrown through WebAssembly. */
  #rowTaken(): number {
    try {
      return this.#onRow() ? 1 : 0;
    } catch (error) {
      this.#rowError = { error };
      return 1;
    }
  }
}

function interrupted(): SqliteError {
  return new SqliteError("interrupted", "SQLITE_INTERRUPT");
}

function isRetryable(error: unknown): boolean {
  return (error instanceof SqliteError || error instanceof StoreError) && error.retryable;
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof SqliteError && error.code === code;
}
