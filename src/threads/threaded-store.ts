/**
 * A store whose databases are spread over threads: each partition belongs to one worker, which alone opens its files, and calls
 * go to the thread of their database. This object is the only one that knows all of them.
 *
 *   opening --all partitions are open--> open --close()--> closing --all calls are done--> closed
 *
 * H1. Names of databases change one at a time, over all partitions: each name is in one of them, and `places` says in which.
 * H2. Thread t owns the partitions i with i mod n = t.
 * H3. The lock of the store is given back after the last thread has ended.
 */
import { parseRevision } from "../branch/revision.ts";
import { requireText } from "../branch/names.ts";
import { type OptionNames, requireOptions, showOption } from "../branch/option-names.ts";
import { StoreError } from "../errors.ts";
import { CallQueue } from "../sqlite/call-queue.ts";
import {
  CONNECT_OPTIONS,
  CREATE_DATABASE_OPTIONS,
  EXPORT_OPTIONS,
  IMPORT_OPTIONS,
  TRANSACT_OPTIONS,
} from "../store/call-options.ts";
import type { Compression } from "../store/compression-option.ts";
import { type ExportOptions, type ExportResult, refuseInsideStore } from "../store/export-file.ts";
import type { ImportOptions, ImportResult } from "../store/import-file.ts";
import type { Outcome, OutcomeRequest } from "../store/outcome.ts";
import { wholeOutcome } from "../store/partition-reports.ts";
import { openPartitions, type Partitions } from "../store/partitions.ts";
import type { ConnectOptions } from "../store/session.ts";
import type { CreateDatabaseOptions } from "../store/abstract-store.ts";
import type { ByteProgress } from "../store/progress.ts";
import { STORE_OPTIONS, type StoreOptions, warnOfDamage } from "../store/store-options.ts";
import type { TransactOptions } from "../store/transact.ts";
import { nextNumber } from "./call-target.ts";
import { Operation, type ToldNames } from "./message.ts";
import { type Asked, Owner, type Rest, type ServiceChoice, type ThreadLoad } from "./owner.ts";
import type { WorkerChoice } from "./owner-thread.ts";
import { type Place, Places } from "./places.ts";
import { Routes } from "./routes.ts";
import type { DatabaseFacts, StoreMethod } from "./served-store.ts";
import { ServiceClient } from "./service-client.ts";
import { type EverywhereOptions, StoreService } from "./store-service.ts";
import { ThreadedConnection } from "./threaded-connection.ts";
import { type DatabaseHome, type Located, ThreadedDatabase } from "./threaded-database.ts";
import { handOverThreaded } from "./threaded-hand-over.ts";
import { ThreadedImports } from "./threaded-imports.ts";
import { transactThreaded } from "./threaded-transact.ts";
import type { ThreadedTransaction } from "./threaded-transaction.ts";

export const THREADS_MAX = 64;

/** Their values cannot be sent to another thread, or are not for stores with several partitions. */
const REFUSED = ["now", "storage", "remote", "mode", "directory", "pollIntervalMs"] as const;

export interface ThreadedStoreOptions extends StoreOptions {
  /** How many worker threads own the databases, 1 to 64. See docs/threads.md. */
  readonly threads: number;
}

export const THREADED_STORE_OPTIONS: OptionNames<ThreadedStoreOptions> = {
  ...STORE_OPTIONS,
  threads: true,
};

/** Where a database is to go: a thread by number from 0, which puts it where it has the fewest, or a partition. */
export type HandOverTo = { readonly thread: number } | { readonly partition: number };

export class ThreadedStore extends StoreService implements DatabaseHome {
  /** As given to `openStore`. */
  readonly path: string;
  readonly threads: number;
  readonly #partitions: Partitions;
  readonly #owners: readonly Owner[];
  readonly #places: Places = new Places();
  /** H1. */
  readonly #names: CallQueue = new CallQueue();
  readonly #routes: Routes;
  readonly #imports: ThreadedImports;
  readonly #opened: Promise<void>;
  #closing: Promise<void> | null = null;

  private constructor(partitions: Partitions, options: ThreadedStoreOptions, choice: WorkerChoice) {
    super();
    const { threads, onDamage } = options;
    this.path = partitions.path;
    this.threads = threads;
    this.#partitions = partitions;
    this.#owners = Array.from({ length: threads }, (_, thread) => {
      return new Owner({
        description: `thread ${thread} of store "${this.path}"`,
        setup: () => this.#owned(thread).map((index) => partitions.partition(index)),
        choice,
        onOpened: (opened) => {
          for (const { index, databases } of opened) this.#places.replace(index, databases);
          this.#tellAll();
        },
        onDamage: onDamage ?? warnOfDamage,
      });
    });
    this.#opened = this.#allOpened();
    this.#opened.catch(() => {}); // Told to every call.
    this.#routes = new Routes(this.#places, {
      opened: this.#opened,
      ownerOf: (partition) => this.#ownerOf(partition),
    });
    this.#imports = new ThreadedImports({
      find: (database) => this.#places.find(database)?.partition,
      emptiest: () => this.#places.emptiest(this.#all()),
      changeNames: (change) => this.#changeNames(change),
      following: (revision, ask) => this.#routes.following(revision, ask),
      notFound: (database) => this.#routes.notFound(database),
      ask: (partition, ...asked) => this.#ask(partition, ...asked),
      settle: (partition, database) => void this.#settle(partition, database),
      lookAgain: (partition) => this.#lookAgain(partition),
      tell: (names) => this.#tell(names),
    });
  }

  /** @internal `choice` is for tests. */
  static open(
    path: string,
    options: ThreadedStoreOptions,
    choice: WorkerChoice = {},
  ): ThreadedStore {
    requireText("The path of a store", path);
    const { threads, ...plain } = options;
    if (!Number.isSafeInteger(threads) || threads < 1 || threads > THREADS_MAX)
      throw new RangeError(
        `Option "threads": ${showOption(threads)} is not a whole number from 1 to ${THREADS_MAX}`,
      );
    for (const name of REFUSED)
      if (options[name] != null)
        throw new TypeError(`Option "${name}" is not for a store with "threads"`);
    const partitions = openPartitions(path, plain, { count: threads });
    try {
      return new ThreadedStore(partitions, options, choice);
    } catch (error) {
      partitions.close();
      throw error;
    }
  }

  get isOpen(): boolean {
    return this.#closing === null;
  }

  /** Resolves once all partitions are open; calls wait for that by themselves. */
  get opened(): Promise<void> {
    return this.#opened;
  }

  /** By name. */
  async databases(): Promise<ThreadedDatabase[]> {
    await this.#ready();
    return this.#places.living().map((place) => new ThreadedDatabase(this, place));
  }

  /** Rejects with DATABASE_NOT_FOUND. */
  async database(name: string): Promise<ThreadedDatabase> {
    await this.#ready();
    const place = this.#places.find(name);
    if (place === undefined) throw this.#routes.notFound(name);
    return new ThreadedDatabase(this, place);
  }

  /** Makes an empty database with the branch "main". Rejects with DATABASE_EXISTS. */
  async createDatabase(
    name: string,
    options: CreateDatabaseOptions = {},
  ): Promise<ThreadedDatabase> {
    requireOptions("createDatabase", options, CREATE_DATABASE_OPTIONS);
    return await this.#changeNames(async () => {
      const partition = options.partition ?? this.#places.emptiest(this.#all());
      this.#requirePartition(partition);
      const facts = await this.#ownerOf(partition).ask(partition, "createDatabase", [
        name,
        options,
      ]);
      return new ThreadedDatabase(this, this.#settle(partition, facts));
    });
  }

  /** Brings back the database of that name that was deleted last. */
  async undeleteDatabase(name: string): Promise<ThreadedDatabase> {
    return await this.#changeNames(async () => {
      const times = await this.#askAll("deletedAt", [name]);
      const latest = times.reduce<number>((best, time, partition) => {
        return time !== null && time >= (times[best] ?? 0) ? partition : best;
      }, 0);
      const facts = await this.#ownerOf(latest).ask(latest, "undeleteDatabase", [name]);
      return new ThreadedDatabase(this, this.#settle(latest, facts));
    });
  }

  /**
   * Moves a database with all that belongs to it to another thread, or to a partition. It takes no commits meanwhile, and its
   * connections are told to be opened again; other databases go on.
   */
  async handOver(name: string, to: HandOverTo): Promise<void> {
    await this.#changeNames(async () => {
      const place = this.#places.find(name);
      if (place === undefined) throw this.#routes.notFound(name);
      const partition = this.#partitionOf(to);
      if (
        partition === place.partition ||
        ("thread" in to && place.partition % this.threads === to.thread)
      )
        return;
      const places = {
        partitions: this.#partitions,
        ownerOf: (index: number): Owner => this.#ownerOf(index),
        onMoved: (id: number): void => {
          this.#places.move(place, partition, id);
          this.#tell({ changed: [[name, partition]] });
        },
      };
      const moving = handOverThreaded(places, place, partition);
      this.#routes.handingOver = moving.catch(() => {}); // Its caller is told.
      await moving;
    });
  }

  /** A connection on a revision: "shop", "shop/dev", "shop@120", "shop/dev@-5m". The signal ends the opening. */
  async open(
    revision: string,
    options: ConnectOptions & { readonly signal?: AbortSignal } = {},
  ): Promise<ThreadedConnection> {
    const { signal, verbose, ...rest } = options;
    requireOptions("a connection", rest, CONNECT_OPTIONS);
    if (verbose != null)
      throw new TypeError('Option "verbose" is not for a store with "threads": it is a function');
    await this.#ready();
    return await this.#routes.there(revision, async ({ partition, thread }) => {
      const number = nextNumber();
      await thread.call({
        operation: Operation.open,
        target: number,
        parameters: [partition, revision, rest],
        signal,
      });
      const facts = { name: revision, readonly: options.readonly ?? false };
      return new ThreadedConnection(thread, number, facts);
    });
  }

  /**
   * Runs `body`, in this thread, in a transaction of its own and commits; resolves with what it returned once the commit is
   * durable. When another transaction came in between, all of it is run again; also when the thread of the database has ended, and
   * the transaction has not committed.
   */
  async transact<T>(
    revision: string,
    body: (transaction: ThreadedTransaction) => Promise<T> | T,
    options: TransactOptions = {},
  ): Promise<T> {
    requireOptions("transact", options, TRANSACT_OPTIONS);
    await this.#ready();
    const place = {
      store: this,
      find: () => this.#routes.findThread(revision),
      hasMoved: (error: unknown, partition: number) =>
        this.#routes.hasMoved(revision, error, partition),
      requireNew: (id: string) => this.#requireNew(id),
      outcome: (id: string, partition: number) => this.#outcomeOf(revision, id, partition),
    };
    return await transactThreaded(place, revision, body, options);
  }

  /** Rejects with ALREADY_COMMITTED. */
  async #requireNew(id: string): Promise<void> {
    const ask = async (index: number): Promise<void> => {
      try {
        await this.#ownerOf(index).ask(index, "requireNewTransaction", [id]);
      } catch (error) {
        if (!(error instanceof StoreError && error.code === "STORE_FAILED")) throw error;
      }
    };
    await Promise.all(this.#all().map(ask));
  }

  /** Of a transaction on a database that was in that partition. */
  async #outcomeOf(revision: string, id: string, partition: number): Promise<Outcome> {
    const before = await this.#ownerOf(partition).ask(partition, "outcome", [id, {}]);
    if (before.committed !== true) await this.#routes.handingOver;
    const now = this.#places.find(parseRevision(revision).database)?.partition ?? partition;
    if (now === partition) return before;
    return wholeOutcome([before, await this.#ownerOf(now).ask(now, "outcome", [id, {}])]);
  }

  /** Whether the transaction of `transact` with this id has committed: for a client that lost the answer. */
  async outcome(id: string, request: OutcomeRequest = {}): Promise<Outcome> {
    const outcomes = await this.everywhere("outcome", [id, request]);
    return wholeOutcome(outcomes);
  }

  /** As Store.importFile. A database that is not there yet is made where the fewest are. */
  async importFile(
    path: string,
    revision: string,
    options: ImportOptions = {},
  ): Promise<ImportResult> {
    requireOptions("importFile", options, IMPORT_OPTIONS);
    await this.#ready();
    return await this.#imports.run(path, revision, options);
  }

  /** Writes a revision as a plain SQLite file that any SQLite opens. */
  async exportFile(
    revision: string,
    path: string,
    options: ExportOptions = {},
  ): Promise<ExportResult> {
    requireOptions("exportFile", options, EXPORT_OPTIONS);
    const { overwrite, signal, onProgress } = options;
    await this.#ready();
    parseRevision(revision);
    refuseInsideStore(path, this.#partitions.storage.directory);
    const onEvent = (progress: unknown): void => onProgress?.(progress as ByteProgress);
    const parameters: [string, string, boolean | undefined] = [revision, path, overwrite];
    return await this.#routes.there(revision, ({ partition, owner }) =>
      owner.ask(partition, "exportFile", parameters, { signal, onEvent }),
    );
  }

  /** Seals everything written from now on with a new key, and lets only the new master key open the store. */
  async rotateKey(key: Uint8Array | string): Promise<void> {
    await this.#ready();
    await this.everywhere("adoptHeader", [this.#partitions.rotateKey(key)]);
  }

  /** What chunks and history are compressed with from now on. The store records it. */
  async setCompression(compression: Compression): Promise<void> {
    await this.#ready();
    await this.everywhere("adoptHeader", [this.#partitions.setCompression(compression)]);
  }

  /** Resolves when all calls made before are done, the threads have ended, and another process can have the store. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal */
  async locate(place: Place): Promise<Located> {
    await this.#ready();
    for (;;) {
      const { partition, id } = place;
      const owner = this.#ownerOf(partition);
      await owner.current();
      // It may have waited for the end of a hand-over of that database.
      if (place.partition === partition) return { owner, partition, id };
    }
  }

  /** @internal */
  async rename(place: Place, to: string): Promise<void> {
    await this.#changeNames(async () => {
      const { partition, id } = place;
      await this.#ownerOf(partition).ask(partition, "renameDatabase", [id, to]);
      this.#forget(place);
      const { pageSize, createdAt } = place;
      this.#settle(partition, { id, name: to, pageSize, createdAt });
    });
  }

  /** @internal */
  async deleteDatabase(place: Place): Promise<void> {
    await this.#changeNames(async () => {
      const { partition, id } = place;
      await this.#ownerOf(partition).ask(partition, "deleteDatabase", [id]);
      this.#forget(place);
    });
  }

  /** @internal Has a service (hosted-service.ts) run beside the partitions, in all threads. */
  host(choice: ServiceChoice): ServiceClient {
    this.#requireOpen();
    const number = nextNumber();
    for (const owner of this.#owners) owner.addService(number, choice);
    return new ServiceClient(number, {
      owners: this.#owners,
      ready: () => this.#ready(),
      partitionCount: this.#partitions.count,
      ownerOf: (partition) => this.#ownerOf(partition),
      find: (revision) => this.#routes.find(revision),
      following: (revision, ask) => this.#routes.following(revision, ask),
      notFound: (database) => this.#routes.notFound(database),
    });
  }

  /** @internal Of each thread, in their order. */
  get loads(): readonly ThreadLoad[] {
    return this.#owners.map(({ load }) => load);
  }

  /** @internal Of the store's own files; null: they are not on disk. */
  get directory(): string | null {
    return this.#partitions.storage.directory;
  }

  /** @internal For tests. */
  owner(thread: number): Owner {
    const owner = this.#owners[thread];
    if (owner === undefined) throw new RangeError(`There is no thread ${thread}`);
    return owner;
  }

  protected async everywhere<M extends StoreMethod>(
    method: M,
    parameters: Rest<M>,
    more: EverywhereOptions = {},
  ): Promise<Asked<M>[]> {
    await this.#ready();
    return await this.#askAll(method, parameters, more);
  }

  protected async askPartition<M extends StoreMethod>(
    partition: number,
    method: M,
    parameters: Rest<M>,
    more: EverywhereOptions = {},
  ): Promise<Asked<M>> {
    await this.#ready();
    return await this.#ask(partition, method, parameters, more);
  }

  protected get partitionCount(): number {
    return this.#partitions.count;
  }

  protected async askOf<M extends StoreMethod>(
    database: string,
    method: M,
    parameters: Rest<M>,
  ): Promise<Asked<M>> {
    await this.#ready();
    return await this.#routes.there(database, ({ partition, owner }) =>
      owner.ask(partition, method, parameters),
    );
  }

  async #close(): Promise<void> {
    try {
      await this.#opened.catch(() => {}); // Told to every call.
      await this.#names.run(async () => {});
      await this.#imports.allEnded();
      await new Promise((resolve) => setImmediate(resolve)); // Calls made before are with their threads then.
      const ends = await Promise.allSettled(this.#owners.map((owner) => owner.close()));
      for (const end of ends) if (end.status === "rejected") throw end.reason;
    } finally {
      this.#partitions.close(); // H3
    }
  }

  async #allOpened(): Promise<void> {
    await Promise.all(this.#owners.map(({ opened }) => opened));
  }

  async #ready(): Promise<void> {
    this.#requireOpen();
    await this.#opened;
  }

  #requireOpen(): void {
    if (this.#closing !== null)
      throw new StoreError("STORE_CLOSED", `Cannot use store "${this.path}": it is closed`);
  }

  #ownerOf(partition: number): Owner {
    return this.#owners[partition % this.threads]!; // H2
  }

  #owned(thread: number): number[] {
    return this.#all().filter((index) => index % this.threads === thread);
  }

  #all(): number[] {
    return Array.from({ length: this.#partitions.count }, (_, index) => index);
  }

  #partitionOf(to: HandOverTo): number {
    if ("partition" in to) {
      this.#requirePartition(to.partition);
      return to.partition;
    }
    const { thread } = to;
    if (!Number.isSafeInteger(thread) || thread < 0 || thread >= this.threads)
      throw new RangeError(`Thread ${thread} is not from 0 to ${this.threads - 1}`);
    return this.#places.emptiest(this.#owned(thread));
  }

  #requirePartition(partition: number): void {
    if (!this.#all().includes(partition))
      throw new RangeError(`Partition ${partition} is not from 0 to ${this.#partitions.count - 1}`);
  }

  /** H1. Of databases whose thread is being replaced it is known again where they are. */
  async #changeNames<T>(change: () => Promise<T>): Promise<T> {
    this.#requireOpen();
    return await this.#names.run(async () => {
      await this.#opened;
      await Promise.all(this.#owners.map((owner) => owner.settled()));
      return await change();
    });
  }

  async #askAll<M extends StoreMethod>(
    method: M,
    parameters: Rest<M>,
    more: EverywhereOptions = {},
  ): Promise<Asked<M>[]> {
    return await Promise.all(
      this.#all().map((index) => this.#ask(index, method, parameters, more)),
    );
  }

  async #ask<M extends StoreMethod>(
    partition: number,
    method: M,
    parameters: Rest<M>,
    { signal, onEvent }: EverywhereOptions,
  ): Promise<Asked<M>> {
    return await this.#ownerOf(partition).ask(partition, method, parameters, {
      signal,
      onEvent: (value) => onEvent?.(value, partition),
    });
  }

  /** For a database that a failed call may have made. A thread that has ended says by itself what it has when it begins again. */
  async #lookAgain(partition: number): Promise<void> {
    await this.#changeNames(async () => {
      const facts = await this.#ownerOf(partition).ask(partition, "databases", []);
      for (const each of facts)
        if (this.#places.find(each.name) === undefined) this.#settle(partition, each);
    });
  }

  #settle(partition: number, facts: DatabaseFacts): Place {
    const place = this.#places.set(partition, facts);
    this.#tell({ changed: [[facts.name, partition]] });
    return place;
  }

  #forget(place: Place): void {
    this.#places.remove(place);
    this.#tell({ changed: [[place.name, null]] });
  }

  /** After a thread has begun, which knows its own names only; others know some whose change lost its answer. */
  #tellAll(): void {
    const living = this.#places.living().map(({ name, partition }) => [name, partition] as const);
    this.#tell({ all: [...this.#imports.awaited, ...living] });
  }

  #tell(names: ToldNames): void {
    for (const owner of this.#owners) owner.tell(names);
  }
}
