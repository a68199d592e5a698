/**
 * The program of a worker that owns partitions: each is a Store of its own here, and all that is asked of it comes as
 * messages.
 *
 *   a message --> its calls wait for a turn (turns.ts) --> under way --> answered, with all others that end in the same turn
 *
 * An urgent message is seen between turns, and by statements that run (work-limit.ts).
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { invariant } from "../errors.ts";
import { pollWhileWorking } from "../sqlite/work-limit.ts";
import { openPartition } from "../store/partitions.ts";
import type { SingleStore } from "../store/single-store.ts";
import { type CarriedError, carryError } from "./carried-error.ts";
import { HostedServices, ServedThing } from "./hosted-service.ts";
import {
  type Answer,
  type Call,
  Operation,
  type OwnerSetup,
  Status,
  type ToldNames,
  Urgent,
  type UrgentMessage,
} from "./message.ts";
import type { CallContext, Served } from "./served.ts";
import { ServedConnection } from "./served-connection.ts";
import { ServedStore } from "./served-store.ts";
import { isFromBody, ServedTransaction } from "./served-transaction.ts";
import { Turns } from "./turns.ts";

/** What begins something that has a number, and is of a database. */
const OPENINGS: ReadonlySet<number> = new Set([
  Operation.open,
  Operation.transact,
  Operation.openThing,
]);
/** Where calls wait that are of no database. */
const NO_DATABASE = "";

class OwnerProgram {
  readonly #setup: OwnerSetup;
  readonly #stores: Map<number, ServedStore> = new Map();
  readonly #served: Map<number, Served> = new Map();
  readonly #services: HostedServices = new HostedServices();
  readonly #turns: Turns<Call> = new Turns((call) => this.#begin(call));
  readonly #cancellers: Map<number, AbortController> = new Map();
  /** M2: cancelled before they came. */
  readonly #cancelledEarly: Set<number> = new Set();
  /** Ends of calls that are under way, for closing. */
  readonly #underWay: Set<Promise<void>> = new Set();
  /** Of databases in all partitions, as far as the caller has said. */
  readonly #names: Map<string, number> = new Map();
  /** Calls whose signal goes on after the answer. */
  readonly #keptSignals: Set<number> = new Set();
  /** Why the partitions are not open: the answer to all calls. */
  #failure: CarriedError | null = null;
  #newestId = 0;
  #seenSignals = 0;
  #answers: Answer[] = [];
  #transfer: ArrayBuffer[] = [];
  #isPostDue = false;

  constructor(setup: OwnerSetup) {
    this.#setup = setup;
    setup.port.on("message", (calls: readonly Call[]) => this.#take(calls));
    setup.port.on("close", () => setup.urgent.close());
    setup.urgent.on("message", (message: UrgentMessage) => this.#urgent(message));
    pollWhileWorking(() => this.#poll());
  }

  open(): void {
    const opened: SingleStore[] = [];
    try {
      for (const partition of this.#setup.partitions) {
        const { index } = partition;
        const store = openPartition(partition, {
          otherPartitionOf: (name) => this.#otherPartitionOf(name, index),
          onDamage: (problem) => this.#post([0, Status.event, problem]),
        });
        opened.push(store);
        const onLeaving = (name: string, to: number): void => void this.#names.set(name, to);
        this.#stores.set(index, new ServedStore(store, onLeaving));
      }
      const facts = [...this.#stores].map(([index, store]) => ({
        index,
        databases: store.databases(),
      }));
      this.#post([0, 0, facts]);
    } catch (error) {
      for (const store of opened) store.close();
      this.#failure = carryError(error);
      this.#post([0, Status.failed, this.#failure]);
    }
  }

  #otherPartitionOf(name: string, index: number): number | null {
    const partition = this.#names.get(name) ?? null;
    return partition === index ? null : partition;
  }

  #take(calls: readonly Call[]): void {
    for (const call of calls) {
      const [id, operation, target, , limits, parameters] = call;
      this.#newestId = id;
      if (this.#failure !== null) {
        this.#post([id, Status.failed, this.#failure]);
        continue;
      }
      if (operation === Operation.names) {
        this.#name(parameters); // No turn: whatever was sent later knows them.
        this.#post([id, 0, null]);
        continue;
      }
      if (operation === Operation.loadService) {
        const [url, options] = parameters as [string, unknown];
        this.#services.load(target, url, options); // Likewise.
        this.#post([id, 0, null]);
        continue;
      }
      if (limits?.hasSignal === true) this.#expectCancel(id);
      this.#turns.add(this.#groupOf(call), target, call);
      if (OPENINGS.has(operation)) this.#serve(call);
    }
  }

  #groupOf([, operation, target, , , parameters]: Call): string {
    if (OPENINGS.has(operation)) return databaseOf(parameters);
    return this.#served.get(target)?.group ?? NO_DATABASE;
  }

  #serve([, operation, target, , , parameters]: Call): void {
    const [partition] = parameters as [number];
    const store = this.#stores.get(partition)?.store;
    invariant(store !== undefined, `Partition ${partition} is of this thread`);
    const group = databaseOf(parameters);
    const onClosed = (): void => void this.#served.delete(target);
    let served: Served;
    if (operation === Operation.open) served = new ServedConnection(store, group, onClosed);
    else if (operation === Operation.transact)
      served = new ServedTransaction(store, group, onClosed);
    else served = new ServedThing(this.#services, store, { group, onClosed });
    this.#served.set(target, served);
  }

  /** In a turn. */
  #begin(call: Call): void {
    const ended = this.#answer(call).finally(() => this.#underWay.delete(ended));
    this.#underWay.add(ended);
  }

  async #answer(call: Call): Promise<void> {
    const [id, , target] = call;
    const served = this.#served.get(target);
    const context = this.#contextOf(call);
    const { transfer } = context;
    try {
      const value = await this.#run(call, served, context);
      const status = served?.inTransaction === true ? Status.inTransaction : 0;
      this.#post([id, context.hasBlobs ? status | Status.hasBlobs : status, value], transfer);
    } catch (error) {
      const status = served?.inTransaction === true ? Status.inTransaction : 0;
      this.#post([id, status | Status.failed, this.#carried(error)]);
    }
  }

  #run(call: Call, served: Served | undefined, context: CallContext): Promise<unknown> {
    const [, operation, target, , , parameters] = call;
    if (operation === Operation.closeStores) return this.#close();
    if (operation === Operation.endService) return this.#services.end(target);
    if (operation === Operation.store || operation === Operation.service) {
      const store = this.#stores.get(target);
      invariant(store !== undefined, `Partition ${target} is of this thread`);
      if (operation === Operation.store) return store.answer(parameters, context);
      return this.#askService(store.store, parameters, context);
    }
    if (served === undefined) throw new TypeError("The database connection is not open");
    return served.answer(call, context);
  }

  async #askService(
    partition: SingleStore,
    [number, ...parameters]: readonly unknown[],
    context: CallContext,
  ): Promise<unknown> {
    const service = await this.#services.find(number as number);
    return await service.answer(partition, parameters, context);
  }

  #contextOf([id, , , , limits]: Call): CallContext {
    const signal = this.#cancellers.get(id)?.signal;
    const timeoutMs = limits?.timeoutMs;
    return {
      limits: {
        ...(signal === undefined ? {} : { signal }),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      },
      transfer: [],
      event: (value, transfer) => this.#post([id, Status.event, value], transfer),
      carry: (error) => this.#carried(error),
      keepSignal: () => {
        this.#keptSignals.add(id);
        return () => {
          this.#keptSignals.delete(id);
          this.#cancellers.delete(id);
        };
      },
      hasBlobs: false,
    };
  }

  #name([names]: Call[5]): void {
    const told = names as ToldNames;
    const isAll = "all" in told;
    if (isAll) this.#names.clear();
    for (const [name, partition] of isAll ? told.all : told.changed)
      if (partition === null) this.#names.delete(name);
      else this.#names.set(name, partition);
  }

  /** After all that was asked before has begun. One that fails keeps no other from closing: its calls are to be answered. */
  async #close(): Promise<void> {
    await this.#turns.allBegun();
    const failures: unknown[] = [];
    for (const { store } of this.#stores.values())
      await store.closeAsync().catch((error: unknown) => failures.push(error));
    if (failures.length > 0) throw failures[0];
  }

  #expectCancel(id: number): void {
    const controller = new AbortController();
    this.#cancellers.set(id, controller);
    if (this.#cancelledEarly.delete(id)) controller.abort(new CancelledError());
  }

  #carried(error: unknown): CarriedError {
    if (error instanceof CancelledError) return { kind: "cancelled", name: "Error", message: "" };
    return isFromBody(error) ? { kind: "body", name: "Error", message: "" } : carryError(error);
  }

  /** For statements that run. */
  #poll(): void {
    const signals = Atomics.load(this.#setup.signals, 0);
    if (signals === this.#seenSignals) return;
    this.#seenSignals = signals;
    for (;;) {
      const received = receiveMessageOnPort(this.#setup.urgent);
      if (received === undefined) return;
      this.#urgent(received.message as UrgentMessage);
    }
  }

  #urgent([kind, number]: UrgentMessage): void {
    switch (kind) {
      case Urgent.cancel:
        if (number > this.#newestId) this.#cancelledEarly.add(number);
        else this.#cancellers.get(number)?.abort(new CancelledError());
        break;
      case Urgent.interrupt: {
        this.#served.get(number)?.interrupt?.();
        break;
      }
    }
  }

  #post(answer: Answer, transfer: readonly ArrayBuffer[] = []): void {
    const [id, status] = answer;
    if ((status & Status.event) === 0 && !this.#keptSignals.has(id)) this.#cancellers.delete(id);
    this.#answers.push(answer);
    for (const buffer of transfer) this.#transfer.push(buffer);
    if (this.#isPostDue) return;
    this.#isPostDue = true;
    // After the microtasks, in which other calls of the turn end.
    process.nextTick(() => {
      this.#isPostDue = false;
      const answers = this.#answers;
      const buffers = this.#transfer;
      this.#answers = [];
      this.#transfer = [];
      this.#setup.port.postMessage(answers, buffers);
    });
  }
}

class CancelledError extends Error {}

/** Of a call whose second parameter is a revision. */
function databaseOf(parameters: readonly unknown[]): string {
  const [database = NO_DATABASE] = String(parameters[1]).split(/[/@]/, 1);
  return database;
}

invariant(parentPort !== null, "A worker thread: this program runs in the main one");
new OwnerProgram(workerData as OwnerSetup).open();
