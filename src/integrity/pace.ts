/** Slows work down to a rate, however fast or slow the work itself is: no time is made up for later than a second after. */
export interface PaceClock {
  /** In milliseconds, from any start. */
  now(): number;
  /** Resolves after this time, or when `signal` is aborted. */
  sleep(ms: number, signal: AbortSignal | undefined): Promise<void>;
}

const ARREARS_MAX_MS = 1000;

export class Pace {
  readonly #bytesPerSecond: number;
  readonly #clock: PaceClock;
  /** When everything so far should have been done. */
  #dueMs: number;

  /** Infinity: other work goes on in between, and that is all. */
  constructor(bytesPerSecond: number, clock: PaceClock) {
    if (!(bytesPerSecond > 0))
      throw new RangeError(`Option "bytesPerSecond": ${bytesPerSecond} is not a number above 0`);
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
    this.#dueMs = clock.now();
  }

  /** Call it after reading so many bytes. */
  async spend(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = this.#clock.now();
    this.#dueMs =
      Math.max(this.#dueMs, now - ARREARS_MAX_MS) + (bytes / this.#bytesPerSecond) * 1000;
    await this.#clock.sleep(Math.max(0, this.#dueMs - now), signal);
  }
}

/** `keepsAlive`: the program does not end while it sleeps. */
export function systemClock(keepsAlive: boolean): PaceClock {
  return {
    now: () => performance.now(),
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (ms < 1 || signal?.aborted === true) {
          setImmediate(resolve);
          return;
        }
        const finish = (): void => {
          clearTimeout(timer);
          signal?.removeEventListener("abort", finish);
          resolve();
        };
        const timer = setTimeout(finish, ms);
        if (!keepsAlive) timer.unref();
        signal?.addEventListener("abort", finish, { once: true });
      }),
  };
}
