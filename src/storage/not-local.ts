/**
 * The one way in which a synchronous read says that its bytes are in object storage and not on this machine yet.
 *
 *   read --bytes are here--> answer
 *        --they are not----> NotLocalError --fetch--> the same read again
 *
 * Whoever can wait (the bridge under SQLite, an export, a check) fetches and repeats the whole read. A read may meet several in
 * turn: a page-map node, the chunk index, the chunk. Everybody else lets it pass.
 *
 * M1. A read that throws this has changed nothing: repeating it is always right.
 * M2. After `fetch` the same bytes are there at least until the next read of them, however small the cache is.
 * M3. It is thrown only by reads of files that are known to exist in object storage. What is damaged or gone there comes out
 *     of `fetch` as a StoreError.
 * M4. Work that cannot be repeated (a slice of a checkpoint, a change of names) runs in `waiting`: in there reads wait
 *     where they would throw. So readers say what is missing with `requireLocal`, never with `throw`.
 */
import { AsyncLocalStorage } from "node:async_hooks";

export interface FetchOptions {
  readonly signal?: AbortSignal;
  /** In milliseconds; then TIMEOUT. */
  readonly timeoutMs?: number;
}

export interface PendingFetch {
  /** Brings the bytes here. Requests for the same bytes are one, with all who wait for it. */
  fetch(options?: FetchOptions): Promise<void>;
  /** The same while the calling thread waits. */
  fetchSync(options?: FetchOptions): void;
}

export class NotLocalError extends Error {
  override readonly name = "NotLocalError";
  readonly pending: PendingFetch;

  constructor(what: string, pending: PendingFetch) {
    super(`Not on this machine yet: ${what}`);
    this.pending = pending;
  }
}

/** Runs a read to its end, fetching on the calling thread's time what it asks for. */
export function readWaiting<T>(read: () => T, options: FetchOptions = {}): T {
  for (;;) {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof NotLocalError)) throw error;
      error.pending.fetchSync(options);
    }
  }
}

/** The same, leaving the thread to others meanwhile. `read` must not depend on what others change in between. */
export async function readFetching<T>(read: () => T, options: FetchOptions = {}): Promise<T> {
  for (;;) {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof NotLocalError)) throw error;
      await error.pending.fetch(options);
    }
  }
}

/** Set while `waiting` runs: the limits of the waits inside of it. */
let waitingWith: FetchOptions | null = null;

/** Runs `body`, which does not await: reads inside of it wait for bytes that are not local, and never throw NotLocalError (M4). */
export function waiting<T>(body: () => T, options: FetchOptions = {}): T {
  const outer = waitingWith;
  waitingWith = outer ?? options;
  try {
    return body();
  } finally {
    waitingWith = outer;
  }
}

const waitingTasks = new AsyncLocalStorage<FetchOptions>();
let waitingCount = 0;

/** The same for a body that awaits: in all that it does, while others who run in between go on as they are. */
export async function waitingAsync<T>(
  body: () => Promise<T>,
  options: FetchOptions = {},
): Promise<T> {
  waitingCount++;
  try {
    return await waitingTasks.run(options, body);
  } finally {
    // On Node 20 every promise of the process costs twice as much as long as there is something to carry along.
    if (--waitingCount === 0) waitingTasks.disable();
  }
}

/** Throws NotLocalError; within `waiting` it returns once the bytes are here, for the reader to look again. */
export function requireLocal(what: string, pending: PendingFetch): void {
  const options = waitingWith ?? waitingTasks.getStore();
  if (options === undefined) throw new NotLocalError(what, pending);
  pending.fetchSync(options);
}
