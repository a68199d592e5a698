/**
 * Who writes next on a timeline: connections whose calls are awaited wait here while another transaction holds the write lock.
 *
 *   waiting --lock is free, first in the queue--> next --has tried (done)--> gone
 *   waiting --time is over, signal--> gone
 *
 * Q1. First come, first served: while one is `next` no other awaited connection takes the lock. Synchronous connections, which
 *     cannot wait, may take it in between; the one that was `next` then waits again, as the first.
 * Q2. Whoever was woken says `done`, whatever came of it: the queue never waits for one that has gone.
 */
export interface WaitLimits {
  readonly signal: AbortSignal | null;
  readonly timeoutMs: number;
}

interface Waiter {
  readonly owner: object;
  readonly wake: () => void;
}

export class WriterQueue {
  readonly #isFree: () => boolean;
  readonly #waiting: Waiter[] = [];
  #next: object | null = null;

  constructor(isFree: () => boolean) {
    this.#isFree = isFree;
  }

  /** Whether another awaited connection comes first (Q1). */
  isBefore(owner: object): boolean {
    return this.#next !== null && this.#next !== owner;
  }

  /**
   * Resolves true when `owner` is next: it tries, and says `done`. False when the time is over. Rejects with the signal's reason.
   * `isFirst`: it was next before, and somebody came in between.
   */
  wait(owner: object, { signal, timeoutMs }: WaitLimits, isFirst: boolean): Promise<boolean> {
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        if (timer !== null) clearTimeout(timer);
        signal?.removeEventListener("abort", giveUp);
        const index = this.#waiting.indexOf(waiter);
        if (index >= 0) this.#waiting.splice(index, 1);
      };
      const waiter: Waiter = {
        owner,
        wake: () => {
          leave();
          resolve(true);
        },
      };
      const giveUp = (): void => {
        leave();
        // As `throwIfAborted` throws it.
        // oxlint-disable-next-line typescript/prefer-promise-reject-errors
        reject(signal?.reason);
      };
      const timer =
        timeoutMs < TIMER_MS_MAX
          ? setTimeout(() => {
              leave();
              resolve(false);
            }, timeoutMs)
          : null;
      signal?.addEventListener("abort", giveUp);
      if (isFirst) this.#waiting.unshift(waiter);
      else this.#waiting.push(waiter);
      this.advance();
    });
  }

  /** Q2. */
  done(owner: object): void {
    if (this.#next !== owner) return;
    this.#next = null;
    this.advance();
  }

  /** The lock may be free. */
  advance(): void {
    if (this.#next !== null || !this.#isFree()) return;
    const first = this.#waiting[0];
    if (first === undefined) return;
    this.#next = first.owner;
    first.wake();
  }
}

/** A longer timer would fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;
