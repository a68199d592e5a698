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
  async run<T>(call: () => Promise<T>, signal?: AbortSignal | null): Promise<T> {
    signal?.throwIfAborted();
    if (this.#isBusy) await this.#turn(signal ?? null);
    else this.#isBusy = true;
    try {
      return await call();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#isBusy = false;
      else next(); // It stays busy: nobody comes in between.
    }
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
