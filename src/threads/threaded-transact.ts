/**
 * `ThreadedStore.transact`: the owner runs its own `store.transact` (transact.ts: retries, back-off, limits), whose attempts
 * are announced to the caller, where the function of the user runs.
 *
 *   asked --attempt n--> function runs --"commit" or its error--> committed: resolves, or the next attempt
 *     ^                                                                   |
 *     +-- the thread ended, and its log says that it has not committed ---+
 *
 * D1. When the thread ends, the outcome of the transaction's id is asked of the next one. Committed is what was asked to commit
 *     here and is in the log: that resolves with the value of the function. Nothing is run again that has committed.
 *     A database that was handed over meanwhile has taken its outcomes with it: the partition of now is asked as well.
 * D2. Runs after the end of a thread count as retries.
 * D3. An id that is given commits once, over all partitions: each is asked before, and that of the database looks again at COMMIT. What a
 *     thread that has failed would say is not waited for.
 * D4. What was refused because the database has been handed over meanwhile has not committed: it is run again where it is now.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { StoreError } from "../errors.ts";
import { SqliteError } from "../sqlite/sqlite-error.ts";
import { type Outcome, parseTransactionId } from "../store/outcome.ts";
import type { TransactOptions } from "../store/transact.ts";
import { carryError } from "./carried-error.ts";
import { nextNumber } from "./call-target.ts";
import { Operation } from "./message.ts";
import { BodyError, type OwnerThread } from "./owner-thread.ts";
import { ThreadedTransaction } from "./threaded-transaction.ts";

const RETRIES = 10;
/** Of one question, when the thread that is asked ends as well. */
const QUESTIONS_MAX = 10;

/** A transaction whose function runs: what is called from there finds it. */
interface Running {
  readonly store: object;
  readonly outer: Running | undefined;
  isOver: boolean;
}

const running = new AsyncLocalStorage<Running>();

export interface TransactPlace {
  /** The store, for the refusal of a transaction within another one's function. */
  readonly store: object;
  /** Where the database is now; rejects when there will be no thread. */
  readonly find: () => Promise<{ readonly partition: number; readonly thread: OwnerThread }>;
  /** D4. */
  readonly hasMoved: (error: unknown, partition: number) => Promise<boolean>;
  /** D3. */
  readonly requireNew: (id: string) => Promise<void>;
  /** D1. Of a transaction that was run in a partition. */
  readonly outcome: (id: string, partition: number) => Promise<Outcome>;
}

type Body<T> = (transaction: ThreadedTransaction) => Promise<T> | T;

/** What became of the runs of the function so far. */
interface Progress<T> {
  attempts: number;
  /** Of the attempt that was asked to commit last. */
  value: { readonly value: T } | null;
  /** What the function threw last. */
  error: unknown;
  /** Where it was run last. */
  partition: number | null;
}

export async function transactThreaded<T>(
  place: TransactPlace,
  revision: string,
  body: Body<T>,
  options: TransactOptions,
): Promise<T> {
  if (typeof body !== "function") throw new TypeError("Expected second argument to be a function");
  const { retries = RETRIES } = options;
  if (!Number.isSafeInteger(retries) || retries < 0)
    throw new RangeError(`Option "retries": ${retries} is not a number of times`);
  refuseNested(place.store);
  const id =
    options.id === undefined ? randomBytes(16).toString("hex") : parseTransactionId(options.id);
  if (options.id !== undefined) await untilAnswered(() => place.requireNew(id));
  const progress: Progress<T> = { attempts: 0, value: null, error: null, partition: null };
  for (;;) {
    const left = Math.max(0, retries - progress.attempts);
    try {
      await runOn(place, { revision, body, progress, options: { ...options, id, retries: left } });
      return progress.value!.value;
    } catch (error) {
      const cause = error instanceof BodyError ? progress.error : error;
      if (progress.partition !== null && (await place.hasMoved(cause, progress.partition))) {
        if (progress.attempts <= retries) continue; // D4
      }
      if (error instanceof BodyError) throw cause;
      if (!isOwnerLost(error) || progress.partition === null) throw error;
      const { partition } = progress;
      const { committed } = await untilAnswered(() => place.outcome(id, partition));
      if (committed === true && progress.value !== null) return progress.value.value; // D1
      options.signal?.throwIfAborted();
      if (committed === null || progress.attempts > retries) throw error;
    }
  }
}

async function untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
  for (let questions = 1; ; questions++) {
    try {
      return await ask();
    } catch (error) {
      if (!isOwnerLost(error) || questions >= QUESTIONS_MAX) throw error;
    }
  }
}

/** One `store.transact` of the owner; resolves when it has committed. */
async function runOn<T>(
  { store, find }: TransactPlace,
  run: {
    readonly revision: string;
    readonly body: Body<T>;
    readonly progress: Progress<T>;
    readonly options: TransactOptions & { readonly id: string };
  },
): Promise<void> {
  const { body, progress } = run;
  const { signal, timeoutMs, mode, id, retries, readonly, durability } = run.options;
  const { partition, thread } = await find();
  progress.partition = partition;
  const number = nextNumber();
  let current: ThreadedTransaction | null = null;
  // The function runs where `transact` was called, not where its answers come.
  const here = AsyncLocalStorage.snapshot();
  const attempt = async (scope: number): Promise<void> => {
    current?.end();
    progress.value = null;
    const attemptNumber = ++progress.attempts;
    const transaction = new ThreadedTransaction(thread, {
      number,
      scope,
      id,
      attempt: attemptNumber,
      signal,
    });
    current = transaction;
    const ended = await runBody(store, () => body(transaction));
    transaction.end();
    if (current !== transaction) return;
    if ("value" in ended) progress.value = ended;
    else progress.error = ended.error;
    const said = "value" in ended ? null : carriedEnd(ended.error);
    await thread.call({
      operation: Operation.endAttempt,
      target: number,
      scope,
      parameters: [said],
    });
  };
  try {
    await thread.call({
      operation: Operation.transact,
      target: number,
      parameters: [partition, run.revision, { mode, id, retries, readonly, durability }],
      signal,
      timeoutMs,
      // The end is told by the answer of the whole.
      onEvent: (scope) => void here(() => attempt(scope as number)).catch(() => {}),
    });
  } finally {
    (current as ThreadedTransaction | null)?.end();
    current = null;
  }
}

async function runBody<T>(
  store: object,
  body: () => Promise<T> | T,
): Promise<{ readonly value: T } | { readonly error: unknown }> {
  const scope: Running = { store, outer: running.getStore(), isOver: false };
  try {
    return { value: await running.run(scope, async () => await body()) };
  } catch (error) {
    return { error };
  } finally {
    scope.isOver = true;
  }
}

/** A conflict goes back to the owner, which runs the function again; other errors end it, and stay here. */
function carriedEnd(error: unknown): unknown {
  return error instanceof SqliteError && error.retryable ? carryError(error) : "failed";
}

function isOwnerLost(error: unknown): boolean {
  return error instanceof StoreError && error.code === "OWNER_LOST";
}

/** As X4 in transact.ts. */
function refuseNested(store: object): void {
  for (let scope = running.getStore(); scope !== undefined; scope = scope.outer)
    if (scope.store === store && !scope.isOver)
      throw new TypeError(
        "Cannot run a transaction within the function of another one: use that one, or await it first",
      );
}
