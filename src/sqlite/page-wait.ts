/**
 * What the bridge does when SQLite asks for a page whose bytes are in object storage (not-local.ts): it brings them here
 * and reads again. On the thread's time, or, where the call into SQLite can be suspended (suspension.ts), on that call's.
 *
 * G1. Nothing here runs for a page that is local.
 * G2. A fetch that fails ends the statement with its error, as a failed read of a disk does: SQLite rolls the transaction
 *     back, the connection goes on.
 * G3. All waits of one call of the user together last as long as the connection's or the call's time limit, no longer.
 */
import { StoreError } from "../errors.ts";
import { type FetchOptions, NotLocalError } from "../storage/not-local.ts";
import type { ConnectionState } from "./connection-state.ts";

/** Null `state`: a file that no connection opened. */
export function readWaitingFor<T>(
  state: ConnectionState | null,
  missing: NotLocalError,
  read: () => T,
): T {
  for (let { pending } = missing; ;) {
    pending.fetchSync(limitsOf(state));
    try {
      return read();
    } catch (error) {
      if (!(error instanceof NotLocalError)) throw error;
      ({ pending } = error);
    }
  }
}

/** The same while the call is suspended. The call's signal and `interrupt` end the wait. */
export async function readFetchingFor<T>(
  state: ConnectionState,
  missing: NotLocalError,
  read: () => T,
): Promise<T> {
  const wait = new AbortController();
  const { signal } = state;
  const onAbort = (): void => wait.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort);
  state.wait = wait;
  try {
    for (let { pending } = missing; ;) {
      signal?.throwIfAborted();
      await pending.fetch({ ...limitsOf(state), signal: wait.signal });
      try {
        return read();
      } catch (error) {
        if (!(error instanceof NotLocalError)) throw error;
        ({ pending } = error);
      }
    }
  } finally {
    state.wait = null;
    signal?.removeEventListener("abort", onAbort);
  }
}

/** What is left of the time that this call of the user may wait. */
function limitsOf(state: ConnectionState | null): FetchOptions {
  const timeoutMs = state?.fetchTimeoutMs ?? Infinity;
  if (state === null || timeoutMs === Infinity) return {};
  const now = performance.now();
  if (state.waitsUntil === 0) state.waitsUntil = now + timeoutMs;
  const left = Math.ceil(state.waitsUntil - now);
  if (left > 0) return { timeoutMs: left };
  throw new StoreError(
    "TIMEOUT",
    `Cannot read from object storage: the statement has waited for ${timeoutMs} ms; repeat it, or give it more time`,
    { retryable: true, details: { timeoutMs } },
  );
}
