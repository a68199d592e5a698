/**
 * A store with several partitions, all of them in this thread.
 *
 * Q1. A name belongs to at most one living database over all partitions, and every call on it goes to its partition.
 * Q2. What is said of the whole store is the sum over its partitions, asked in order. A failure of one is that of the call.
 * Q3. All partitions are open, or none. Connections are all idle before the first partition is closed.
 */
import { requireOptions } from "../branch/option-names.ts";
import { databaseNotFound } from "../branch/ref-operations.ts";
import { parseRevision } from "../branch/revision.ts";
import { InvariantError, type StoreError } from "../errors.ts";
import type { CheckOptions, CheckReport } from "../integrity/report.ts";
import type { ScrubOptions, ScrubReport } from "../integrity/scrub.ts";
import type { RemoteGarbageReport } from "../remote/remote-garbage.ts";
import type { ExpiryReport } from "../retention/expiry.ts";
import type { GarbageReport } from "../retention/garbage-cycle.ts";
import type { AsyncConnection } from "../sqlite/async-connection.ts";
import { type CreateDatabaseOptions, type OpenOptions, Store } from "./abstract-store.ts";
import {
  CREATE_DATABASE_OPTIONS,
  IMPORT_OPTIONS,
  SCRUB_OPTIONS,
  TRANSACT_OPTIONS,
} from "./call-options.ts";
import type { Compression } from "./compression-option.ts";
import type { Database } from "./database.ts";
import type { Engine } from "./engine.ts";
import { type ExportOptions, type ExportResult, refuseInsideStore } from "./export-file.ts";
import type { ExpireOptions } from "./expire.ts";
import type { GarbageAsyncOptions, GarbageOptions } from "./garbage.ts";
import type { HeldSpace } from "./garbage-holders.ts";
import { handOver, type HandOverOptions } from "./hand-over.ts";
import { HandOverSource } from "./hand-over-source.ts";
import { HandOverTarget } from "./hand-over-target.ts";
import type { ImportOptions, ImportResult } from "./import-file.ts";
import {
  type Outcome,
  type OutcomeRequest,
  parseTransactionId,
  requireNewTransaction,
} from "./outcome.ts";
import {
  sumOf,
  wholeCheck,
  wholeHeldSpace,
  wholeOutcome,
  wholeStatistics,
} from "./partition-reports.ts";
import { adoptHeader, type HeaderChange, openPartition, type Partitions } from "./partitions.ts";
import { scrubPartitions } from "./scrub-partitions.ts";
import type { ConnectOptions, Session } from "./session.ts";
import type { SingleStore } from "./single-store.ts";
import type { DiskStatistics, StoreStatistics } from "./statistics.ts";
import type { StoreConnection } from "./store-connection.ts";
import { type StoreCounters, wholeCounters } from "./store-counters.ts";
import type { StoreInfo } from "./store-info.ts";
import type { TransactOptions } from "./transact.ts";
import type { Transaction } from "./transaction.ts";

export class PartitionedStore extends Store {
  readonly #partitions: Partitions;
  readonly #stores: readonly SingleStore[];
  /** The last one that was asked for. */
  #handingOver: Promise<void> = Promise.resolve();

  /** @internal Takes the partitions over. */
  constructor(partitions: Partitions) {
    super(partitions.path);
    this.#partitions = partitions;
    const stores: SingleStore[] = [];
    this.#stores = stores;
    try {
      for (let index = 0; index < partitions.count; index++)
        stores.push(
          openPartition(partitions.partition(index), {
            ...partitions.surroundings,
            store: this,
            otherPartitionOf: (name) => this.#indexOf(name, index),
          }),
        );
    } catch (error) {
      for (const store of stores) store.close();
      throw error;
    }
  }

  get isOpen(): boolean {
    return this.#stores.every(({ isOpen }) => isOpen);
  }

  get engine(): Engine {
    throw new InvariantError("A store with several partitions has several engines");
  }

  get engines(): readonly Engine[] {
    return this.#stores.map(({ engine }) => engine);
  }

  databases(): Database[] {
    return this.#stores
      .flatMap((store) => store.databases())
      .sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  database(name: string): Database {
    return this.#of(name).database(name);
  }

  createDatabase(name: string, options: CreateDatabaseOptions = {}): Database {
    requireOptions("createDatabase", options, CREATE_DATABASE_OPTIONS);
    const { partition } = options;
    const store = partition === undefined ? this.#emptiest() : this.#require(partition);
    return store.createDatabase(name, options);
  }

  undeleteDatabase(name: string): Database {
    let newest = this.#stores[0]!;
    let newestMs = -Infinity;
    for (const store of this.#stores)
      for (const { row } of store.engine.state.refs.databases.values()) {
        if (row.name !== name || row.deletedAtMs === null || row.deletedAtMs <= newestMs) continue;
        newest = store;
        newestMs = row.deletedAtMs;
      }
    return newest.undeleteDatabase(name);
  }

  /** One after another. */
  async handOver(name: string, { partition }: HandOverOptions): Promise<void> {
    const before = this.#handingOver;
    const run = (async () => {
      await before.catch(() => {}); // Its caller was told.
      await this.#handOver(name, partition);
    })();
    this.#handingOver = run;
    await run;
  }

  async #handOver(name: string, to: number): Promise<void> {
    const source = this.#of(name).engine;
    const target = this.#require(to).engine;
    if (source === target) return;
    await handOver({
      root: this.#partitions.storage,
      database: name,
      from: this.#stores.findIndex(({ engine }) => engine === source),
      to,
      beginSource: () => HandOverSource.begin(source, name, to),
      beginTarget: () => HandOverTarget.begin(target),
    });
  }

  connect(revision: string, options: ConnectOptions = {}): StoreConnection {
    return this.#ofRevision(revision).connect(revision, options);
  }

  async open(revision: string, options: OpenOptions = {}): Promise<AsyncConnection> {
    return await this.#ofRevision(revision).open(revision, options);
  }

  async transact<T>(
    revision: string,
    body: (transaction: Transaction) => Promise<T> | T,
    options: TransactOptions = {},
  ): Promise<T> {
    requireOptions("transact", options, TRANSACT_OPTIONS);
    const store = this.#ofRevision(revision);
    const { id } = options;
    if (id !== undefined)
      for (const { engine } of this.#stores)
        await requireNewTransaction(engine, parseTransactionId(id));
    return await store.transact(revision, body, options);
  }

  outcome(id: string, request: OutcomeRequest = {}): Outcome {
    return wholeOutcome(this.#stores.map((store) => store.outcome(id, request)));
  }

  openSession(revision: string, options: ConnectOptions): Session {
    return this.#ofRevision(revision).openSession(revision, options);
  }

  async importFile(
    path: string,
    revision: string,
    options: ImportOptions = {},
  ): Promise<ImportResult> {
    requireOptions("importFile", options, IMPORT_OPTIONS);
    const { database } = parseRevision(revision);
    const index = this.#indexOf(database);
    const store = index === null ? this.#emptiest() : this.#stores[index]!;
    return await store.importFile(path, revision, options);
  }

  async exportFile(
    revision: string,
    path: string,
    options: ExportOptions = {},
  ): Promise<ExportResult> {
    const store = this.#ofRevision(revision);
    refuseInsideStore(path, this.#partitions.storage.directory);
    return await store.exportFile(revision, path, options);
  }

  stat(database?: string): StoreStatistics {
    const stores = database === undefined ? this.#stores : [this.#of(database)];
    const reports = stores.map((store) => store.stat(database));
    return wholeStatistics(reports, this.diskUse());
  }

  counters(): StoreCounters {
    return wholeCounters(this.#stores.map((store) => store.counters()));
  }

  diskUse(): DiskStatistics {
    return sumOf(this.#stores.map((store) => store.diskUse()));
  }

  async check(options: CheckOptions = {}): Promise<CheckReport> {
    const reports: CheckReport[] = [];
    for (const store of this.#stores) reports.push(await store.check(options));
    return wholeCheck(reports);
  }

  async scrub(options: ScrubOptions = {}): Promise<ScrubReport> {
    requireOptions("scrub", options, SCRUB_OPTIONS);
    const stores = this.#stores;
    return await scrubPartitions(stores.length, options, (index, given) =>
      stores[index]!.scrub(given),
    );
  }

  gc(options: GarbageOptions = {}): GarbageReport {
    return sumOf(this.#stores.map((store) => store.gc(options)));
  }

  async gcAsync(options: GarbageAsyncOptions = {}): Promise<GarbageReport> {
    const reports: GarbageReport[] = [];
    for (const store of this.#stores) reports.push(await store.gcAsync(options));
    return sumOf(reports);
  }

  heldSpace(): HeldSpace {
    return wholeHeldSpace(this.#stores.map((store) => store.heldSpace()));
  }

  expire(): ExpiryReport {
    return sumOf(this.#stores.map((store) => store.expire()));
  }

  async expireAsync(options: ExpireOptions = {}): Promise<ExpiryReport> {
    const reports: ExpiryReport[] = [];
    for (const store of this.#stores) reports.push(await store.expireAsync(options));
    return sumOf(reports);
  }

  get uploadStatus(): null {
    return null;
  }

  get uploadFailure(): StoreError | null {
    return null;
  }

  /** Throws REMOTE_NOT_FOUND. */
  async upload(): Promise<void> {
    await this.#stores[0]!.upload();
  }

  /** Throws REMOTE_NOT_FOUND. */
  async collectRemote(): Promise<RemoteGarbageReport> {
    return await this.#stores[0]!.collectRemote();
  }

  get followerStatus(): null {
    return null;
  }

  async refresh(): Promise<void> {
    for (const store of this.#stores) await store.refresh();
  }

  checkpoint(): void {
    for (const store of this.#stores) store.checkpoint();
  }

  async checkpointAsync(): Promise<void> {
    for (const store of this.#stores) await store.checkpointAsync();
  }

  rotateKey(key: Uint8Array | string): void {
    this.#changeHeader(() => this.#partitions.rotateKey(key));
  }

  setCompression(compression: Compression): void {
    this.#changeHeader(() => this.#partitions.setCompression(compression));
  }

  #changeHeader(change: () => HeaderChange): void {
    for (const { engine } of this.#stores) engine.assertWritable();
    const changed = change();
    for (const store of this.#stores) adoptHeader(store, changed);
  }

  info(): StoreInfo {
    const infos = this.#stores.map((store) => store.info());
    const catalogBytes = infos.reduce((sum, info) => sum + info.catalogBytes, 0);
    return { ...infos[0]!, catalogBytes };
  }

  compactCatalog(): { readonly bytesBefore: number; readonly bytesAfter: number } {
    return sumOf(this.#stores.map((store) => store.compactCatalog()));
  }

  /** Q3. */
  close(): void {
    for (const store of this.#stores) store.closeConnections();
    this.#closeAll();
  }

  async closeAsync(): Promise<void> {
    try {
      await this.#handingOver.catch(() => {});
      for (const store of this.#stores) await store.settleAsync();
    } finally {
      this.close();
    }
  }

  /** Also those after one that fails; the lock goes last. */
  #closeAll(): void {
    const errors: unknown[] = [];
    for (const part of [...this.#stores, this.#partitions]) {
      try {
        part.close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /** Q1. Throws DATABASE_NOT_FOUND. */
  #of(name: string): SingleStore {
    for (const { engine } of this.#stores) engine.assertOpen();
    const index = this.#indexOf(name);
    if (index !== null) return this.#stores[index]!;
    throw databaseNotFound(
      name,
      this.databases().map((database) => database.name),
    );
  }

  #ofRevision(revision: string): SingleStore {
    return this.#of(parseRevision(revision).database);
  }

  /** The partition with a living database of that name, but for one; null: none. */
  #indexOf(name: string, exceptIndex = -1): number | null {
    const index = this.#stores.findIndex(
      ({ engine }, at) => at !== exceptIndex && engine.state.refs.databaseIds.has(name),
    );
    return index === -1 ? null : index;
  }

  /** With the fewest living databases; the first of those. */
  #emptiest(): SingleStore {
    const sizeOf = ({ engine }: SingleStore): number => engine.state.refs.databaseIds.size;
    return this.#stores.reduce((best, store) => (sizeOf(store) < sizeOf(best) ? store : best));
  }

  #require(partition: number): SingleStore {
    const store = this.#stores[partition];
    if (store !== undefined) return store;
    throw new RangeError(`Partition ${partition} is not from 0 to ${this.#stores.length - 1}`);
  }
}
