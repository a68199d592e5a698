/**
 * Statements that compute for long: every OPERATIONS steps of its virtual machine SQLite asks whether to go on (its progress
 * handler, which is set only where something can come of it).
 *
 *   running --time limit, signal--> ends with that error, SQLite rolls back what it must
 *   running --TURN_MS at a time, where calls can be suspended--> suspended --event loop--> running
 *
 * W1. A statement that has committed is not ended any more: the answer to it would be wrong.
 * W2. An awaited statement leaves the thread to others every TURN_MS, where the runtime has JSPI (suspension.ts); else, and on
 *     connections that are not awaited, it runs on.
 */
import { StoreError } from "../errors.ts";
import type { ConnectionState } from "./connection-state.ts";
import type { SqliteRuntime } from "./runtime.ts";
import { SUSPEND, suspendingProgress } from "./suspension.ts";

const OPERATIONS = 4000;
const TURN_MS = 10;

let poll: (() => void) | null = null;

/** What this thread has to look at while a statement runs, whose event loop does not: from now on all statements are watched. */
export function pollWhileWorking(look: () => void): void {
  poll = look;
}

/** Whether statements are watched that have no limits. */
export function watchesAll(runtime: SqliteRuntime): boolean {
  return runtime.suspends || poll !== null;
}

/** Asks from now on, or not any more. */
export function watchWork(state: ConnectionState, isWatched: boolean): void {
  const { runtime, pointer } = state;
  if (state.isWatched === isWatched) return;
  state.isWatched = isWatched;
  const [operations, callback] = isWatched ? [OPERATIONS, runtime.progressFunction] : [0, 0];
  runtime.exports.sqlite3_progress_handler(pointer, operations, callback, 0);
}

/** For SQLite's function table. */
export function makeProgressFunction(runtime: SqliteRuntime): number {
  const check = (): number => checkWork(runtime);
  if (!runtime.suspends) return runtime.addCallbacks([{ signature: "i>i", callback: check }]);
  return runtime.addFunctions([suspendingProgress(check, () => nextTurn(runtime))]);
}

/** Returns what the progress handler does; not 0: the statement ends. */
function checkWork(runtime: SqliteRuntime): number {
  const state = runtime.current;
  if (state === null || state.hasCommitted) return 0; // W1
  poll?.();
  const now = performance.now();
  if (state.worksUntil === 0) {
    state.worksUntil = now + state.statementTimeoutMs;
    state.yieldsAt = now + TURN_MS;
  }
  if (state.signal?.aborted === true) {
    state.keep(state.signal.reason);
    return 1;
  }
  if (now >= state.worksUntil) {
    state.keep(timeoutError(state.statementTimeoutMs));
    return 1;
  }
  return runtime.isSuspendable && now >= state.yieldsAt ? SUSPEND : 0;
}

/** W2. */
async function nextTurn(runtime: SqliteRuntime): Promise<number> {
  const state = runtime.current;
  await new Promise((resolve) => setImmediate(resolve));
  runtime.current = state;
  if (state === null) return 0;
  state.yieldsAt = performance.now() + TURN_MS;
  const code = checkWork(runtime);
  return code === SUSPEND ? 0 : code;
}

function timeoutError(timeoutMs: number): StoreError {
  return new StoreError(
    "TIMEOUT",
    `Cannot finish the statement: it has run for ${timeoutMs} ms; give it more time, or an index`,
    { retryable: true, details: { timeoutMs } },
  );
}
