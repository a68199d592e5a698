/**
 * The caller's side of a service (hosted-service.ts) that runs in all threads of a store, each with its partitions.
 *
 * S1. What is asked of a database goes to the thread that has it then. A thing stays with the thread that it was opened in: it is lost
 *     with that, and does not follow its database to another one.
 */
import type { CallLimits } from "../sqlite/async-calls.ts";
import { nextNumber } from "./call-target.ts";
import { Operation } from "./message.ts";
import type { CallRequest, OwnerThread } from "./owner-thread.ts";
import type { Owner } from "./owner.ts";

export type ServiceCall = Pick<CallRequest, "signal" | "onEvent">;

/** Where things are in the store. */
export interface ServicePlaces {
  readonly owners: readonly Owner[];
  /** Resolves when all partitions are open; rejects when the store is closed. */
  readonly ready: () => Promise<void>;
  readonly partitionCount: number;
  readonly ownerOf: (partition: number) => Owner;
  /** Null: there is no such database. */
  readonly find: (
    revision: string,
  ) => Promise<{ readonly partition: number; readonly thread: OwnerThread } | null>;
  /** Does it again when the database was handed over meanwhile. */
  readonly following: <T>(revision: string, ask: () => Promise<T>) => Promise<T>;
  readonly notFound: (database: string) => Error;
}

export class ServiceClient {
  readonly #number: number;
  readonly #places: ServicePlaces;

  constructor(number: number, places: ServicePlaces) {
    this.#number = number;
    this.#places = places;
  }

  /**
   * Opens something of a database, in its partition. Of one that is not there the first partition is asked, which says so in its own
   * words, but for the names of databases: see `notFound`.
   */
  async open(
    revision: string,
    parameters: readonly unknown[],
    signal?: AbortSignal,
  ): Promise<ThingHandle> {
    await this.#places.ready();
    return await this.#places.following(revision, async () => {
      const { partition, thread } = await this.#find(revision);
      const number = nextNumber();
      await thread.call({
        operation: Operation.openThing,
        target: number,
        parameters: [partition, revision, this.#number, ...parameters],
        signal,
      });
      return new ThingHandle(thread, number);
    });
  }

  /** Of the partition of a revision's database, or the first one, as `open`. */
  async ask(
    revision: string,
    parameters: readonly unknown[],
    more: ServiceCall = {},
  ): Promise<unknown> {
    await this.#places.ready();
    return await this.#places.following(revision, async () => {
      const { partition, thread } = await this.#find(revision);
      return await thread.call(this.#request(partition, parameters, more));
    });
  }

  async askPartition(partition: number, parameters: readonly unknown[]): Promise<unknown> {
    await this.#places.ready();
    return await this.#places.ownerOf(partition).call(this.#request(partition, parameters));
  }

  /** The answers of all partitions, or why there is none. */
  async askAll(parameters: readonly unknown[]): Promise<PromiseSettledResult<unknown>[]> {
    await this.#places.ready();
    const { partitionCount, ownerOf } = this.#places;
    const asked = Array.from({ length: partitionCount }, (_, partition) =>
      ownerOf(partition).call(this.#request(partition, parameters)),
    );
    return await Promise.allSettled(asked);
  }

  /** DATABASE_NOT_FOUND, with the names of all partitions in mind. */
  notFound(database: string): Error {
    return this.#places.notFound(database);
  }

  /** Resolves when no thread has it any more. */
  async end(): Promise<void> {
    await Promise.allSettled(this.#places.owners.map((owner) => owner.endService(this.#number)));
  }

  async #find(
    revision: string,
  ): Promise<{ readonly partition: number; readonly thread: OwnerThread }> {
    const found = await this.#places.find(revision);
    if (found !== null) return found;
    return { partition: 0, thread: await this.#places.ownerOf(0).current() };
  }

  #request(partition: number, parameters: readonly unknown[], more: ServiceCall = {}): CallRequest {
    return {
      operation: Operation.service,
      target: partition,
      parameters: [this.#number, ...parameters],
      ...more,
    };
  }
}

/** A thing in the thread of its partition. */
export class ThingHandle {
  readonly #thread: OwnerThread;
  readonly #number: number;

  constructor(thread: OwnerThread, number: number) {
    this.#thread = thread;
    this.#number = number;
  }

  /** Its thread has ended, and it with it. */
  get isLost(): boolean {
    return this.#thread.hasEnded;
  }

  call(
    method: string,
    parameters: readonly unknown[],
    { limits = {}, ...more }: ThingCall = {},
  ): Promise<unknown> {
    return this.#thread.call({
      operation: Operation.thing,
      target: this.#number,
      parameters: [method, ...parameters],
      ...limits,
      ...more,
    });
  }

  interrupt(): void {
    this.#thread.interrupt(this.#number);
  }
}

export interface ThingCall extends Pick<CallRequest, "onEvent" | "transfer" | "isUnbounded"> {
  readonly limits?: CallLimits;
}
