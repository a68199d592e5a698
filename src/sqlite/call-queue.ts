/**
 * Turns on a connection: one call at a time, in the order in which they were asked for. A transaction is one call, with a
 * queue of its own for the calls made within it.
 *
 *   idle --run--> busy --ends, others wait--> busy (the next one's) --ends, nobody waits--> idle
 */
import { Fifo } from "./fifo.ts";

export class CallQueue {
  readonly #waiting: Fifo<() => void> = new Fifo();
  #isBusy = false;

  /** Nobody has a turn, and nobody waits for one. */
  get isIdle(): boolean {
    return !this.#isBusy;
  }

  /** Runs `call` when all asked for before have ended. Rejects with the signal's reason when that is aborted earlier. */
  async run<T>(call: () => Promise<T>, signal: AbortSignal | null = null): Promise<T> {
    const entering = this.enter(signal);
    if (entering !== null) await entering;
    try {
      return await call();
    } finally {
      this.leave();
    }
  }

  /** The two halves of `run`, for those who cannot afford a promise for each. Null: it is the caller's turn already. */
  enter(signal: AbortSignal | null): Promise<void> | null {
    signal?.throwIfAborted();
    if (this.#isBusy) return this.#turn(signal);
    this.#isBusy = true;
    return null;
  }

  /** To be called by whoever has entered, once. */
  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#isBusy = false;
    else next(); // It stays busy: nobody comes in between.
  }

  #turn(signal: AbortSignal | null): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.remove(go);
        signal?.removeEventListener("abort", leave);
        // As `throwIfAborted` throws it.
        // oxlint-disable-next-line typescript/prefer-promise-reject-errors
        reject(signal?.reason);
      };
      this.#waiting.push(go);
      signal?.addEventListener("abort", leave);
    });
  }
}
