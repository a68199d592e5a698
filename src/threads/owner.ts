/**
 * The owner of some partitions: a worker at a time, and the next one when it has ended.
 *
 *   opening --partitions are open--> serving --the worker ends--> opening       opening, serving --close--> closed
 *      +---- cannot be opened, or ended DEATHS_MAX times without an answer ----> failed
 *
 * W1. The next worker starts when the one before is gone (T3 in owner-thread.ts). It recovers the partitions from their logs.
 * W2. Calls made while it opens them wait for that.
 * W3. Between `hold` and `release` no next worker starts: somebody may open the partitions elsewhere. Calls made after the end of
 *     the worker wait for the release.
 */
import { invariant, StoreError } from "../errors.ts";
import type { CheckProblem } from "../integrity/report.ts";
import { Operation, type OwnerSetup, type ToldNames } from "./message.ts";
import { type CallRequest, OwnerThread, type WorkerChoice } from "./owner-thread.ts";
import type { DatabaseFacts, ServedStore, StoreMethod } from "./served-store.ts";

/** Workers that end one after the other before any of them has answered a call. */
const DEATHS_MAX = 5;

export interface OwnerOptions {
  /** For messages: "thread 1 of store ...". */
  readonly description: string;
  /** As of now: keys may have changed. */
  readonly setup: () => OwnerSetup["partitions"];
  readonly choice: WorkerChoice;
  /** Does not throw. */
  readonly onOpened: (partitions: readonly OpenedPartition[]) => void;
  readonly onDamage: (problem: CheckProblem) => void;
}

export interface OpenedPartition {
  readonly index: number;
  readonly databases: readonly DatabaseFacts[];
}

export interface ThreadLoad {
  /** How long the present worker's event loop has been at work. */
  readonly busyMs: number;
  /** Workers that have ended, and were replaced or not. */
  readonly ends: number;
}

/** A service that each worker is to have (hosted-service.ts). */
export interface ServiceChoice {
  readonly url: string;
  /** Can be cloned. */
  readonly options: unknown;
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
  #ends = 0;
  #isClosing = false;
  /** Every worker has them, by number. */
  readonly #services: Map<number, ServiceChoice> = new Map();
  /** W3. */
  #hold: { readonly released: Promise<void>; readonly markReleased: () => void } | null = null;
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

  /** What has been counted of its workers. */
  get load(): ThreadLoad {
    return { busyMs: this.#thread.busyMs, ends: this.#ends };
  }

  /** A method of a partition. */
  async ask<M extends StoreMethod>(
    partition: number,
    method: M,
    parameters: Rest<M>,
    more: Pick<CallRequest, "signal" | "onEvent"> = {},
  ): Promise<Asked<M>> {
    const request = { target: partition, parameters: [method, ...parameters], ...more };
    return (await this.call({ operation: Operation.store, ...request })) as Asked<M>;
  }

  async call(request: CallRequest): Promise<unknown> {
    const thread = this.#isAwaited ? await this.current() : this.thread;
    return await thread.call(request);
  }

  /** From now on every worker has the service. */
  addService(number: number, choice: ServiceChoice): void {
    this.#services.set(number, choice);
    if (this.#failure === null && !this.#thread.hasEnded) load(this.#thread, number, choice);
  }

  /** After all calls that were made; the workers to come do not have it. */
  async endService(number: number): Promise<void> {
    this.#services.delete(number);
    if (this.#failure !== null || this.#thread.hasEnded) return;
    await this.#thread.call({
      operation: Operation.endService,
      target: number,
      parameters: [],
      isUnbounded: true,
    });
  }

  /** The thread of now, or the next one when it is held and has ended (W3). Rejects when there will be none any more. */
  async current(): Promise<OwnerThread> {
    while (this.#isAwaited) await this.#hold?.released;
    return this.thread;
  }

  /** Resolves when no worker is about to open the partitions: one has, or none will. */
  async settled(): Promise<void> {
    while (this.#failure === null && !this.#isClosing) {
      const thread = this.#thread;
      await thread.opened.catch(() => {});
      if (thread === this.#thread && !thread.hasEnded) return;
      await thread.ended;
    }
  }

  /** All names of databases. What gets lost on the way the next worker is told when it has opened the partitions. */
  tell(names: ToldNames): void {
    if (this.#failure !== null || this.#thread.hasEnded) return;
    const request = {
      operation: Operation.names,
      target: 0,
      parameters: [names],
      isUnbounded: true,
    };
    this.#thread.call(request).catch(() => {});
  }

  /** W3. */
  hold(): void {
    invariant(this.#hold === null, `${this.#options.description} is held once`);
    const hold = { markReleased: (): void => {} };
    const released = new Promise<void>((resolve) => (hold.markReleased = resolve));
    this.#hold = Object.assign(hold, { released });
  }

  /** The next worker starts, when the present one has ended. */
  release(): void {
    const hold = this.#hold;
    this.#hold = null;
    if (this.#thread.hasEnded) this.#onEnded(this.#thread);
    hold?.markReleased();
  }

  /** Ends the worker wherever it is; resolves when it is gone. */
  async terminate(): Promise<void> {
    await this.#thread.terminate();
  }

  /** None will open the partitions any more. */
  fail(reason: string, cause: unknown): void {
    if (this.#failure !== null) return;
    this.#failure = new StoreError(
      "STORE_FAILED",
      `Cannot use ${this.#options.description}: ${reason}; open the store again once the cause is gone`,
      { cause },
    );
    this.#settleOpened.reject(this.#failure);
  }

  /** Closes the partitions after all calls that were made. */
  async close(): Promise<void> {
    this.#isClosing = true;
    const thread = this.#thread;
    try {
      if (this.#failure === null)
        await thread.call({
          operation: Operation.closeStores,
          target: 0,
          parameters: [],
          isUnbounded: true,
        });
    } catch (error) {
      // What its log holds is there when the store is opened again.
      if (!(error instanceof StoreError && error.code === "OWNER_LOST")) throw error;
    } finally {
      await thread.disconnect();
    }
  }

  /** Calls wait for the next worker. */
  get #isAwaited(): boolean {
    return this.#hold !== null && this.#failure === null && this.#thread.hasEnded;
  }

  #start(): OwnerThread {
    const { setup, description, choice, onDamage } = this.#options;
    const thread = new OwnerThread(setup(), { description, choice, onDamage });
    for (const [number, service] of this.#services) load(thread, number, service);
    void this.#awaitOpening(thread);
    void thread.ended.then(() => this.#onEnded(thread));
    return thread;
  }

  async #awaitOpening(thread: OwnerThread): Promise<void> {
    let opened: readonly OpenedPartition[];
    try {
      opened = (await thread.opened) as OpenedPartition[];
    } catch (error) {
      if (thread.hasEnded) return; // The next one tries.
      this.#settleOpened.reject(error);
      this.fail("its partitions cannot be opened again", error);
      return;
    }
    this.#options.onOpened(opened);
    this.#settleOpened.resolve();
  }

  /** W1. */
  #onEnded(thread: OwnerThread): void {
    if (this.#isClosing || this.#failure !== null || this.#hold !== null) return;
    if (thread !== this.#thread) return;
    this.#ends++;
    this.#deaths = thread.answeredCount > 0 ? 1 : this.#deaths + 1;
    if (this.#deaths <= DEATHS_MAX) this.#thread = this.#start();
    else {
      const reason = `the thread has ended ${this.#deaths} times without answering a call`;
      this.fail(reason, thread.cause);
    }
  }
}

/** What goes wrong with it is the answer to calls on the service. */
function load(thread: OwnerThread, number: number, { url, options }: ServiceChoice): void {
  const request = { operation: Operation.loadService, target: number, parameters: [url, options] };
  thread.call({ ...request, isUnbounded: true }).catch(() => {});
}
