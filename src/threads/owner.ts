/**
 * The owner of some partitions: a worker at a time, and the next one when it has ended.
 *
 *   opening --partitions are open--> serving --the worker ends--> opening       opening, serving --close--> closed
 *      +---- cannot be opened, or ended DEATHS_MAX times without an answer ----> failed
 *
 * W1. The next worker starts when the one before is gone (T3 in owner-thread.ts). It recovers the partitions from their logs.
 * W2. Calls made while it opens them wait for that.
 */
import { StoreError } from "../errors.ts";
import type { CheckProblem } from "../integrity/report.ts";
import { type Operation, Operation as Operations, type OwnerSetup } from "./message.ts";
import { type CallRequest, OwnerThread, type WorkerChoice } from "./owner-thread.ts";
import type { DatabaseFacts, ServedStore, StoreMethod } from "./served-store.ts";

/** Workers that end one after the other before any of them has answered a call. */
const DEATHS_MAX = 5;

export interface OwnerOptions {
  /** For messages: "thread 1 of store ...". */
  readonly description: string;
  /** As of now: keys may have changed. */
  readonly setup: () => Pick<OwnerSetup, "partitions" | "moving">;
  readonly choice: WorkerChoice;
  readonly onOpened: (partitions: readonly OpenedPartition[]) => void;
  readonly onDamage: (problem: CheckProblem) => void;
}

export interface OpenedPartition {
  readonly index: number;
  readonly databases: readonly DatabaseFacts[];
}

/** What the caller gives of a method's parameters. */
export type Rest<M extends StoreMethod> = ServedStore[M] extends (
  context: never,
  ...rest: infer R
) => unknown
  ? R
  : never;

export type Asked<M extends StoreMethod> = Awaited<ReturnType<ServedStore[M]>>;

export class Owner {
  readonly #options: OwnerOptions;
  #thread: OwnerThread;
  #failure: StoreError | null = null;
  #deaths = 0;
  #isClosing = false;
  /** Resolves once a worker has opened the partitions; rejects when none will. */
  readonly opened: Promise<void>;
  #settleOpened: { readonly resolve: () => void; readonly reject: (error: unknown) => void };

  constructor(options: OwnerOptions) {
    this.#options = options;
    const settle = { resolve: (): void => {}, reject: (error: unknown): void => void error };
    this.opened = new Promise((resolve, reject) => Object.assign(settle, { resolve, reject }));
    this.opened.catch(() => {}); // Told to every call.
    this.#settleOpened = settle;
    this.#thread = this.#start();
  }

  /** Throws when there will be none any more. */
  get thread(): OwnerThread {
    if (this.#failure !== null) throw this.#failure;
    return this.#thread;
  }

  /** A method of a partition. */
  async ask<M extends StoreMethod>(
    partition: number,
    method: M,
    parameters: Rest<M>,
    more: Pick<CallRequest, "signal" | "onEvent"> = {},
  ): Promise<Asked<M>> {
    const answer = await this.thread.call({
      operation: Operations.store,
      target: partition,
      parameters: [method, ...parameters],
      ...more,
    });
    return answer as Asked<M>;
  }

  /** A call on something of the thread's own. */
  call(operation: Operation, request: Omit<CallRequest, "operation">): Promise<unknown> {
    return this.thread.call({ operation, ...request });
  }

  /** Closes the partitions after all calls that were made. */
  async close(): Promise<void> {
    this.#isClosing = true;
    const thread = this.#thread;
    try {
      if (this.#failure === null)
        await thread.call({ operation: Operations.closeStores, target: 0, parameters: [] });
    } catch (error) {
      // What its log holds is there when the store is opened again.
      if (!(error instanceof StoreError && error.code === "OWNER_LOST")) throw error;
    } finally {
      await thread.disconnect();
    }
  }

  #start(): OwnerThread {
    const { setup, description, choice, onDamage } = this.#options;
    const thread = new OwnerThread(setup(), { description, choice, onDamage });
    void this.#awaitOpening(thread);
    void thread.ended.then(() => this.#onEnded(thread));
    return thread;
  }

  async #awaitOpening(thread: OwnerThread): Promise<void> {
    try {
      this.#options.onOpened((await thread.opened) as OpenedPartition[]);
      this.#settleOpened.resolve();
    } catch (error) {
      if (thread.hasEnded) return; // The next one tries.
      this.#settleOpened.reject(error);
      this.#fail(error);
    }
  }

  /** W1. */
  #onEnded(thread: OwnerThread): void {
    if (this.#isClosing || this.#failure !== null) return;
    this.#deaths = thread.answeredCount > 0 ? 1 : this.#deaths + 1;
    if (this.#deaths > DEATHS_MAX) this.#fail(thread.cause);
    else this.#thread = this.#start();
  }

  #fail(cause: unknown): void {
    if (this.#failure !== null) return;
    const { description } = this.#options;
    const reason =
      this.#deaths > DEATHS_MAX
        ? `the thread has ended ${this.#deaths} times without answering a call`
        : "its partitions cannot be opened again";
    this.#failure = new StoreError(
      "STORE_FAILED",
      `Cannot use ${description}: ${reason}; open the store again once the cause is gone`,
      { cause },
    );
    this.#settleOpened.reject(this.#failure);
  }
}
