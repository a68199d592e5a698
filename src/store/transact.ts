/**
 * `store.transact`: a function in a transaction, run again when another transaction came in between.
 *
 *   waiting for a connection --> running the function --COMMIT--> in the log --group flush--> durable: resolves
 *                 ^                    |  function, statement or signal: rolled back, rejects
 *                 +---- back-off ------+  conflict or busy: rolled back, run again
 *
 * X1. What is run again has not committed: once COMMIT has put the record into the log nothing is repeated, whatever happens then.
 * X2. The pause before run n is random from 0 to min(PAUSE_MS_MAX, PAUSE_MS * 2^(n-2)) ("full jitter"), so that those who met do
 *     not meet again. After a conflict with a plain writer there is none: the function is run again when that one is done.
 * X3. A function that does not settle is left when the signal or the time limit ends it: its transaction is rolled back, and
 *     what it calls later is refused. Without them it keeps its connection, and the snapshot that it reads.
 * X4. No transaction within another one's function: it would wait for what waits for it, and be committed when the outer one is
 *     rolled back.
 * X5. An id commits once: it is refused before the function runs, and again at COMMIT, where it is put into the record.
 * X6. Neither the value nor what the function throws is told before what the transaction saw, and wrote, is durable.
 * X7. After OPTIMISTIC_MAX conflicts it waits for the write lock, first come, first served, and holds it while the function runs: on the
 *     newest head, with nobody who could come in between. So of many who change one row each is run at most once more, whatever
 *     the others do. All other writers of the branch wait meanwhile: a function that takes longer than LOCKED_MS_MAX is left (X3), rolled
 *     back, and run again without the lock, for good. So is one that was refused while it held the lock: it may have waited for
 *     itself, on another connection. One that has waited for the lock in vain waits again.
 */
import { requireOptions, showOption } from "../branch/option-names.ts";
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { StoreError } from "../errors.ts";
import type { TransactionOptions } from "../sqlite/async-connection.ts";
import { requireTimeout } from "../sqlite/options.ts";
import { SqliteError } from "../sqlite/sqlite-error.ts";
import { readFetching } from "../storage/not-local.ts";
import { ConflictError } from "../transaction/conflict.ts";
import { TRANSACT_OPTIONS } from "./call-options.ts";
import { ConnectionPool, type OpenedConnection, type PooledConnection } from "./connection-pool.ts";
import type { Engine } from "./engine.ts";
import { parseTransactionId, requireNewTransaction } from "./outcome.ts";
import { findRevision } from "./resolve-revision.ts";
import type { ConnectOptions } from "./session.ts";
import { Transaction } from "./transaction.ts";

export interface TransactOptions extends Pick<ConnectOptions, "readonly" | "durability"> {
  /** "concurrent" by default: it takes no lock, and is compared at its commit with what others have committed meanwhile. */
  readonly mode?: TransactionOptions["mode"];
  /**
   * What `store.outcome` will know this transaction by: 32 hexadecimal digits or a UUID, random by default. Once it has committed
   * another one with this id is refused with ALREADY_COMMITTED.
   */
  readonly id?: string;
  /** How often the function is run again at most; 10 by default. */
  readonly retries?: number;
  /** Ends it with the signal's reason, as long as it has not committed. */
  readonly signal?: AbortSignal;
  /** How long all of it may take until it commits, in milliseconds; then TIMEOUT. Without end by default. */
  readonly timeoutMs?: number;
}

const RETRIES = 10;
const PAUSE_MS = 1;
const PAUSE_MS_MAX = 100;
/** Runs without a lock: of those that meet by chance few meet that often. */
const OPTIMISTIC_MAX = 3;
const LOCKED_MS_MAX = 1000;

/** A transaction(...) whose function runs: what is called from there finds it. */
interface Running {
  readonly transactor: Transactor;
  readonly outer: Running | undefined;
  isOver: boolean;
}

const running = new AsyncLocalStorage<Running>();

type Open = (
  revision: string,
  options: ConnectOptions & { readonly signal?: AbortSignal },
) => Promise<OpenedConnection>;

export class Transactor {
  readonly #engine: Engine;
  readonly #open: Open;
  readonly #pool: ConnectionPool;
  /** The same for all partitions of a store. */
  readonly #store: object;
  /** Ids of transactions that have not ended, with how many there are. */
  readonly #running: Map<string, number> = new Map();

  constructor(engine: Engine, open: Open) {
    this.#engine = engine;
    this.#open = open;
    this.#pool = new ConnectionPool(engine.description);
    this.#store = engine.partition?.store ?? engine;
  }

  async run<T>(
    revision: string,
    body: (transaction: Transaction) => Promise<T> | T,
    options: TransactOptions,
  ): Promise<T> {
    if (typeof body !== "function")
      throw new TypeError("Expected second argument to be a function");
    requireOptions("transact", options, TRANSACT_OPTIONS);
    const { retries = RETRIES } = options;
    if (!Number.isSafeInteger(retries) || retries < 0)
      throw new RangeError(`Option "retries": ${showOption(retries)} is not a number of times`);
    this.#refuseNested();
    const id =
      options.id === undefined ? randomBytes(16).toString("hex") : parseTransactionId(options.id);
    if (options.id !== undefined) await requireNewTransaction(this.#engine, id);
    const limit = limitOf(options);
    this.#running.set(id, (this.#running.get(id) ?? 0) + 1);
    try {
      const pooled = await this.#take(revision, options, limit.signal);
      let isTold = true;
      let settled: Promise<void> | null = null;
      try {
        pooled.session.transactionId = id;
        return await this.#untilCommitted(pooled, body, { ...options, id, retries, limit });
      } catch (error) {
        if (isCommitted(error)) await requireNewTransaction(this.#engine, id);
        isTold = limit.signal?.aborted !== true && !isRetryable(error);
        throw error;
      } finally {
        pooled.session.transactionId = null;
        if (isTold) settled = pooled.connection.settled();
        settled?.catch(() => {}); // Awaited below.
        await this.#pool.give(pooled);
        if (settled !== null) await settled; // X6. The connection serves others meanwhile.
      }
    } finally {
      limit.end();
      const others = (this.#running.get(id) ?? 1) - 1;
      if (others === 0) this.#running.delete(id);
      else this.#running.set(id, others);
    }
  }

  /** Whether a transaction with this id has not ended. */
  isRunning(id: string): boolean {
    return this.#running.has(id);
  }

  /** No more begin. */
  close(): void {
    this.#pool.close();
  }

  async #untilCommitted<T>(
    pooled: PooledConnection,
    body: (transaction: Transaction) => Promise<T> | T,
    options: TransactOptions & {
      readonly id: string;
      readonly retries: number;
      readonly limit: Limit;
    },
  ): Promise<T> {
    const { id, retries, limit } = options;
    const { mode = "concurrent" } = options;
    let mayLock = mode === "concurrent" || mode === "deferred";
    let isLocked = false;
    for (let attempt = 1; ; attempt++) {
      const timed = new TimedBody(body, this.#engine.options.now);
      try {
        return await this.#attempt(pooled, timed, { id, attempt, mode, limit, isLocked });
      } catch (error) {
        limit.signal?.throwIfAborted();
        if (!isRetryable(error)) throw error;
        if (attempt > retries) throw attempt === 1 ? error : triedError(error, attempt);
      }
      const wasHeld: boolean = isLocked && timed.hasBegun;
      mayLock &&= !wasHeld && timed.tookMs <= LOCKED_MS_MAX;
      isLocked = mayLock && attempt >= OPTIMISTIC_MAX;
      if (isLocked) continue; // X7: it waits at BEGIN.
      if (await pooled.connection.writerIsGone(limit.signal)) continue;
      await pause(Math.random() * Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** (attempt - 1)), limit);
    }
  }

  async #attempt<T>(
    pooled: PooledConnection,
    body: TimedBody<T>,
    {
      limit,
      mode: asked,
      isLocked,
      ...rest
    }: {
      readonly id: string;
      readonly attempt: number;
      readonly mode: NonNullable<TransactOptions["mode"]>;
      readonly limit: Limit;
      /** X7. */
      readonly isLocked: boolean;
    },
  ): Promise<T> {
    // Made when it is needed: without limits nobody may ever ask for it, and it takes longer than the rest of this function.
    const hasEnd = limit.signal !== null || isLocked;
    let ended: AbortController | null = hasEnd ? new AbortController() : null;
    const mode = isLocked ? "immediate" : asked;
    let timer: NodeJS.Timeout | null = null;
    const signal = (): AbortSignal => (ended ??= new AbortController()).signal;
    const unlink = limit.onAbort((reason) => ended?.abort(reason));
    const scope: Running = { transactor: this, outer: running.getStore(), isOver: false };
    try {
      return await pooled.connection.attempt(
        async () => {
          const transaction = new Transaction(pooled, { ...rest, signal });
          if (isLocked) timer = setTimeout(() => ended?.abort(heldError()), LOCKED_MS_MAX);
          try {
            const settled = running.run(scope, async () => await body.run(transaction));
            return await (ended === null ? settled : untilAborted(settled, ended.signal));
          } finally {
            if (timer !== null) clearTimeout(timer);
            transaction.end();
          }
        },
        ended === null ? { mode } : { mode, signal: ended.signal },
      );
    } finally {
      scope.isOver = true;
      unlink();
      ended?.abort(new TypeError("Cannot use the statement: its transaction has ended"));
    }
  }

  async #take(
    revision: string,
    { readonly, durability }: TransactOptions,
    signal: AbortSignal | null,
  ): Promise<PooledConnection> {
    const limits = signal === null ? {} : { signal };
    const found = await readFetching(() => findRevision(this.#engine, revision), limits);
    const { database, branch, snapshot } = found;
    const options = {
      ...limits,
      ...(readonly === undefined ? {} : { readonly }),
      ...(durability === undefined ? {} : { durability }),
    };
    const kind = `${readonly ?? false} ${durability ?? ""}`;
    // O2. One on a fixed version is not kept: it would hold on to that.
    const key = snapshot === null ? `${database.refs.row.id}/${branch.id} ${kind}` : null;
    return await this.#pool.take({ key, signal }, () => this.#open(revision, options));
  }

  /** X4. */
  #refuseNested(): void {
    for (let scope = running.getStore(); scope !== undefined; scope = scope.outer)
      if (scope.transactor.#store === this.#store && !scope.isOver)
        throw new TypeError(
          "Cannot run a transaction within the function of another one: use that one, or await it first",
        );
  }
}

/** The function, and how long it took. */
class TimedBody<T> {
  readonly #body: (transaction: Transaction) => Promise<T> | T;
  readonly #now: () => number;
  /** 0: it has not ended. */
  tookMs = 0;
  hasBegun = false;

  constructor(body: (transaction: Transaction) => Promise<T> | T, now: () => number) {
    this.#body = body;
    this.#now = now;
  }

  async run(transaction: Transaction): Promise<T> {
    const began = this.#now();
    this.hasBegun = true;
    try {
      return await this.#body(transaction);
    } finally {
      this.tookMs = this.#now() - began;
    }
  }
}

/** The caller's signal and time limit as one. */
interface Limit {
  /** Null: there is none. */
  readonly signal: AbortSignal | null;
  /** Returns how to take it back. */
  readonly onAbort: (act: (reason: unknown) => void) => () => void;
  readonly end: () => void;
}

function limitOf({ signal, timeoutMs }: TransactOptions): Limit {
  if (timeoutMs !== undefined) requireTimeout(timeoutMs);
  const hasTimer = timeoutMs !== undefined && timeoutMs < 2 ** 31; // A longer timer would fire at once.
  if (!hasTimer) return { signal: signal ?? null, onAbort: listenTo(signal), end: () => {} };
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(timeoutError(timeoutMs)), timeoutMs);
  const unlink = listenTo(signal)((reason) => controller.abort(reason));
  const end = (): void => {
    clearTimeout(timer);
    unlink();
  };
  return { signal: controller.signal, onAbort: listenTo(controller.signal), end };
}

function listenTo(signal: AbortSignal | undefined): Limit["onAbort"] {
  return (act) => {
    if (signal === undefined) return () => {};
    const onAbort = (): void => act(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    return () => signal.removeEventListener("abort", onAbort);
  };
}

/** X3. */
function untilAborted<T>(settled: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    // As `throwIfAborted` throws it.
    // oxlint-disable-next-line typescript/prefer-promise-reject-errors
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    settled.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

function pause(ms: number, { signal, onAbort }: Limit): Promise<void> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      unlink();
      resolve();
    }, ms);
    const unlink = onAbort((reason) => {
      clearTimeout(timer);
      // oxlint-disable-next-line typescript/prefer-promise-reject-errors
      reject(reason);
    });
  });
}

function isRetryable(error: unknown): error is SqliteError {
  return error instanceof SqliteError && error.retryable;
}

function isCommitted(error: unknown): boolean {
  return error instanceof StoreError && error.code === "ALREADY_COMMITTED";
}

function triedError(error: SqliteError, attempts: number): SqliteError {
  const message = `${error.message} (tried ${attempts} times)`;
  const tried =
    error instanceof ConflictError
      ? new ConflictError(message, error.object)
      : new SqliteError(message, error.code);
  return Object.assign(tried, { cause: error, attempts });
}

/** X7: it is run again. */
function heldError(): SqliteError {
  return new SqliteError(
    `Cannot go on with the transaction: its function has held the write lock for ${LOCKED_MS_MAX} ms`,
    "SQLITE_BUSY",
  );
}

function timeoutError(timeoutMs: number): StoreError {
  return new StoreError(
    "TIMEOUT",
    `Cannot commit the transaction: its time limit of ${timeoutMs} ms has passed; it was rolled back`,
    { retryable: true, details: { timeoutMs } },
  );
}
