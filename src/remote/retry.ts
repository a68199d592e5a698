/**
 * How often, how long and after which pauses a request to object storage is repeated.
 *
 *   attempt --answer--------------------------------------> done
 *           --failure not worth repeating-----------------> thrown
 *           --failure worth repeating, limits not reached-> pause -> attempt
 *           --the same, a limit reached-------------------> thrown
 *
 * Y1. Only REMOTE_UNAVAILABLE is repeated, where it is `retryable` and was not already repeated up to its limits (an upload
 *     in parts repeats its single requests).
 * Y2. The pause before attempt n is random between 0 and min(pauseMsMax, pauseMs * 2^(n-2)): "full jitter", so that many
 *     clients that failed together do not come back together.
 * Y3. No attempt begins after `attemptsMax` attempts or `totalMs`. An attempt that does not answer within its time is
 *     ended, and is a failure worth repeating.
 * Y4. The caller's signal ends an attempt and a pause at once.
 */
import { StoreError } from "../errors.ts";
import { abortReason, throwIfAborted, unavailable } from "./remote-error.ts";

export interface RetryLimits {
  /** All attempts of one request. */
  readonly attemptsMax?: number;
  /** From the start of a call, in milliseconds. */
  readonly totalMs?: number;
  /** Of one attempt of one request, in milliseconds. */
  readonly attemptMs?: number;
  /** Before the second attempt, at most, in milliseconds. Doubles. */
  readonly pauseMs?: number;
  readonly pauseMsMax?: number;
}

/** What time is made of; tests give their own. */
export interface RetryClock {
  nowMs(): number;
  /** 0 <= value < 1. */
  random(): number;
  /** Calls back after `ms`; the result cancels that. */
  timer(ms: number, callback: () => void): () => void;
}

export const systemClock: RetryClock = {
  nowMs: () => performance.now(),
  random: () => Math.random(),
  timer(ms, callback) {
    const timeout = setTimeout(callback, ms);
    return () => clearTimeout(timeout);
  },
};

const DEFAULT_LIMITS: Required<RetryLimits> = {
  attemptsMax: 10,
  totalMs: 60_000,
  attemptMs: 20_000,
  pauseMs: 50,
  pauseMsMax: 5_000,
};

/** What an attempt is told. */
export interface Attempt {
  /** From 1. */
  readonly number: number;
  /** Aborted when the time of the attempt is over, or by the caller. */
  readonly signal: AbortSignal;
}

export interface RetryOptions {
  /** "put object ...", for messages. */
  readonly action: string;
  readonly signal?: AbortSignal | undefined;
  /** More time, for requests that move much; 1 when left out or less. */
  readonly attemptMsFactor?: number;
}

export class Retry {
  private readonly limits: Required<RetryLimits>;
  private readonly clock: RetryClock;

  constructor(limits: RetryLimits = {}, clock: RetryClock = systemClock) {
    this.limits = { ...DEFAULT_LIMITS, ...limits };
    this.clock = clock;
  }

  async run<T>(options: RetryOptions, request: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { action, signal } = options;
    const { attemptsMax } = this.limits;
    const totalMs = this.limits.totalMs * Math.max(1, options.attemptMsFactor ?? 1);
    const startMs = this.clock.nowMs();
    for (let number = 1; ; number++) {
      throwIfAborted(action, signal);
      try {
        return await this.attempt(number, options, request);
      } catch (error) {
        if (!isWorthRepeating(error)) throw error;
        const pauseMs = this.pauseMs(number);
        const elapsedMs = this.clock.nowMs() - startMs;
        if (number >= attemptsMax || elapsedMs + pauseMs >= totalMs)
          throw gaveUp(error, { attempts: number, elapsedMs });
        await this.pause(pauseMs, options);
      }
    }
  }

  /** One attempt with its time limit. */
  private async attempt<T>(
    number: number,
    options: RetryOptions,
    request: (attempt: Attempt) => Promise<T>,
  ): Promise<T> {
    const { action, signal, attemptMsFactor = 1 } = options;
    const attemptMs =
      Math.min(this.limits.attemptMs, this.limits.totalMs) * Math.max(1, attemptMsFactor);
    const controller = new AbortController();
    const late = unavailable(action, `no answer within ${attemptMs} ms`);
    const cancelTimer = this.clock.timer(attemptMs, () => controller.abort(late));
    const onAbort = (): void => controller.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    try {
      return await raced(request({ number, signal: controller.signal }), controller.signal);
    } catch (error) {
      throwIfAborted(action, signal);
      throw controller.signal.aborted ? late : error;
    } finally {
      cancelTimer();
      signal?.removeEventListener("abort", onAbort);
    }
  }

  private pauseMs(attempts: number): number {
    const { pauseMs, pauseMsMax } = this.limits;
    return this.clock.random() * Math.min(pauseMsMax, pauseMs * 2 ** (attempts - 1));
  }

  private pause(ms: number, options: RetryOptions): Promise<void> {
    const { action, signal } = options;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        cancelTimer();
        if (signal !== undefined) reject(abortReason(action, signal));
      };
      const cancelTimer = this.clock.timer(ms, () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      });
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}

/** The request's outcome, or a rejection once the signal is aborted: a request may fail to notice. */
function raced<T>(request: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort);
    request.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

function isWorthRepeating(error: unknown): error is StoreError {
  return (
    error instanceof StoreError &&
    error.code === "REMOTE_UNAVAILABLE" &&
    error.retryable &&
    error.details["attempts"] === undefined
  );
}

function gaveUp(
  error: StoreError,
  facts: { readonly attempts: number; readonly elapsedMs: number },
): StoreError {
  if (facts.attempts === 1) return error;
  const seconds = (facts.elapsedMs / 1000).toFixed(1);
  return new StoreError(
    error.code,
    `${error.message} (${facts.attempts} attempts in ${seconds} s); check the endpoint and the network, then repeat`,
    { cause: error, retryable: true, details: { ...error.details, attempts: facts.attempts } },
  );
}
