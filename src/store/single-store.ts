/** A store with one partition, or one partition of a store: one engine, and what of it users see. */
import { requireBoolean, requireOptions } from "../branch/option-names.ts";
import { createDatabaseChange, undeleteDatabaseChange } from "../branch/ref-operations.ts";
import { MAIN_BRANCH } from "../branch/refs.ts";
import { StoreError } from "../errors.ts";
import { checkParts } from "../integrity/check.ts";
import { Pace, systemClock } from "../integrity/pace.ts";
import { type CheckOptions, type CheckReport, Findings } from "../integrity/report.ts";
import {
  SCRUB_BYTES_PER_SECOND,
  type ScrubOptions,
  scrubParts,
  type ScrubReport,
} from "../integrity/scrub.ts";
import type { ExpiryReport } from "../retention/expiry.ts";
import type { GarbageReport } from "../retention/garbage-cycle.ts";
import { AsyncConnection } from "../sqlite/async-connection.ts";
import { SqliteRuntime } from "../sqlite/runtime.ts";
import { readFetching, waiting, waitingAsync } from "../storage/not-local.ts";
import { startBackgroundScrub } from "./background-scrub.ts";
import {
  CHECK_OPTIONS,
  CREATE_DATABASE_OPTIONS,
  EXPORT_OPTIONS,
  EXPIRE_OPTIONS,
  GARBAGE_ASYNC_OPTIONS,
  GARBAGE_OPTIONS,
  IMPORT_OPTIONS,
  OUTCOME_OPTIONS,
  SCRUB_OPTIONS,
  UPLOAD_OPTIONS,
} from "./call-options.ts";
import { holdState } from "./hold-state.ts";
import { checkHeads } from "./check-heads.ts";
import type { Compression } from "./compression-option.ts";
import { Database } from "./database.ts";
import { Engine, requireUploads } from "./engine.ts";
import type { FollowerStatus } from "./follower.ts";
import type { RemoteGarbageReport } from "../remote/remote-garbage.ts";
import type { UploadOptions, UploadStatus } from "./upload-service.ts";
import { type ExpireOptions, expireStore, expireStoreAsync } from "./expire.ts";
import {
  type ExportOptions,
  type ExportResult,
  exportSnapshot,
  refuseInsideStore,
} from "./export-file.ts";
import type { HandOverOptions } from "./hand-over.ts";
import { importFile, type ImportOptions, type ImportResult } from "./import-file.ts";
import {
  collectGarbage,
  collectGarbageAsync,
  type GarbageAsyncOptions,
  type GarbageOptions,
} from "./garbage.ts";
import { type HeldSpace, heldSpace } from "./garbage-holders.ts";
import { findRevision, headOf, openDatabaseNamed, resolveRevision } from "./resolve-revision.ts";
import { type Outcome, outcomeOf, type OutcomeRequest, parseTransactionId } from "./outcome.ts";
import {
  type CreateDatabaseOptions,
  type OpenOptions,
  requireBranchRevision,
  Store,
} from "./abstract-store.ts";
import { type ConnectOptions, Session } from "./session.ts";
import { Transactor, type TransactOptions } from "./transact.ts";
import type { Transaction } from "./transaction.ts";
import { RuntimePool } from "./runtime-pool.ts";
import {
  diskStatistics,
  type DiskStatistics,
  storeStatistics,
  type StoreStatistics,
} from "./statistics.ts";
import { StoreConnection } from "./store-connection.ts";
import { type StoreCounters, storeCounters } from "./store-counters.ts";
import { storeInfo, type StoreInfo } from "./store-info.ts";
import { StoreVfs } from "./store-vfs.ts";

export class SingleStore extends Store {
  readonly #engine: Engine;
  readonly #vfs: StoreVfs;
  readonly #sessions: Set<Session> = new Set();
  readonly #runtimes: RuntimePool;
  readonly #transactor: Transactor;
  #runtime: SqliteRuntime | null = null;
  /** Ends the scrub in the background. */
  #stopScrub: () => void = () => {};

  /** @internal */
  constructor(path: string, engine: Engine) {
    super(path);
    this.#engine = engine;
    this.#vfs = new StoreVfs(engine);
    const { now, connectionBytesMax: bytesMax } = engine.options;
    this.#runtimes = new RuntimePool({ vfs: this.#vfs, now, bytesMax });
    this.#transactor = new Transactor(engine, (revision, options) =>
      this.#openAwaited(revision, options),
    );
    const { scrubBytesPerSecond: bytesPerSecond, onDamage } = engine.options;
    if (bytesPerSecond !== null)
      this.#stopScrub = startBackgroundScrub(() => engine.state, { bytesPerSecond, onDamage });
  }

  get isOpen(): boolean {
    return this.#engine.isOpen;
  }

  /** @internal Instances of SQLite of awaited connections. */
  get runtimes(): RuntimePool {
    return this.#runtimes;
  }

  get engine(): Engine {
    return this.#engine;
  }

  get engines(): readonly Engine[] {
    return [this.#engine];
  }

  databases(): Database[] {
    this.#engine.assertOpen();
    this.#engine.expireBranches();
    return [...this.#engine.state.databases.values()]
      .filter(({ refs }) => refs.row.deletedAtMs === null)
      .sort((left, right) => (left.refs.row.name < right.refs.row.name ? -1 : 1))
      .map((database) => new Database(this.#engine, database));
  }

  database(name: string): Database {
    this.#engine.assertOpen();
    return new Database(this.#engine, openDatabaseNamed(this.#engine, name));
  }

  createDatabase(name: string, options: CreateDatabaseOptions = {}): Database {
    const engine = this.#engine;
    engine.assertOpen();
    requireOptions("createDatabase", options, CREATE_DATABASE_OPTIONS);
    const { partition: asked, ...request } = options;
    this.#requireOwn(asked);
    const atMs = engine.options.now();
    engine.change(createDatabaseChange(engine.state.refs, { name, atMs, ...request }));
    return this.database(name);
  }

  undeleteDatabase(name: string): Database {
    this.#engine.assertOpen();
    this.#engine.change(undeleteDatabaseChange(this.#engine.state.refs, { name }));
    return this.database(name);
  }

  #requireOwn(partition: number | undefined): void {
    const { index, count } = this.#engine.partition ?? { index: 0, count: 1 };
    if (partition === undefined || partition === index) return;
    throw new RangeError(
      count === 1
        ? `Partition ${partition} is not there: the store has one, number 0`
        : `Partition ${partition} is not this one, ${index} of ${count}`,
    );
  }

  /** Only to where it is. */
  async handOver(name: string, { partition }: HandOverOptions): Promise<void> {
    this.database(name);
    this.#requireOwn(partition);
    await Promise.resolve();
  }

  connect(revision: string, options: ConnectOptions = {}): StoreConnection {
    const session = this.openSession(revision, options);
    try {
      return new StoreConnection(session);
    } catch (error) {
      session.release();
      throw error;
    }
  }

  /**
   * A connection whose calls are awaited: one that waits for a page in object storage leaves the thread to others (from Node
   * 24 on). The signal ends the opening, not the connection.
   */
  async open(revision: string, options: OpenOptions = {}): Promise<AsyncConnection> {
    return (await this.#openAwaited(revision, options)).connection;
  }

  transact<T>(
    revision: string,
    body: (transaction: Transaction) => Promise<T> | T,
    options: TransactOptions = {},
  ): Promise<T> {
    return this.#transactor.run(revision, body, options);
  }

  outcome(id: string, request: OutcomeRequest = {}): Outcome {
    requireOptions("outcome", request, OUTCOME_OPTIONS);
    const parsed = parseTransactionId(id);
    const isRunning = this.#transactor.isRunning(parsed);
    return outcomeOf(this.#engine, parsed, { ...request, isRunning });
  }

  async #openAwaited(
    revision: string,
    { signal, ...options }: OpenOptions,
  ): Promise<{ readonly session: Session; readonly connection: AsyncConnection }> {
    const limits = signal === undefined ? {} : { signal };
    await readFetching(() => findRevision(this.#engine, revision), limits);
    const session = this.openSession(revision, options);
    try {
      const { hooks, connectionOptions } = session;
      const given = { hooks, limits };
      const connection = await AsyncConnection.open(this.#runtimes, connectionOptions, given);
      await session.attachAsync(connection);
      return { session, connection };
    } catch (error) {
      session.asyncConnection?.closeIdle();
      session.release();
      throw error;
    }
  }

  openSession(revision: string, options: ConnectOptions): Session {
    const engine = this.#engine;
    const { database } = resolveRevision(engine, revision);
    const session = new Session({
      engine,
      runtime: () => this.#sqlite(),
      revision,
      pageSize: database.refs.row.pageSize,
      connect: options,
      onRelease: (released) => this.#sessions.delete(released),
    });
    this.#sessions.add(session);
    return session;
  }

  async importFile(
    path: string,
    revision: string,
    options: ImportOptions = {},
  ): Promise<ImportResult> {
    requireOptions("importFile", options, IMPORT_OPTIONS);
    const { database, branch } = requireBranchRevision(revision);
    return await importFile(
      this.#engine,
      path,
      { database, branch: branch ?? MAIN_BRANCH },
      options,
    );
  }

  async exportFile(
    revision: string,
    path: string,
    options: ExportOptions = {},
  ): Promise<ExportResult> {
    requireOptions("exportFile", options, EXPORT_OPTIONS);
    requireBoolean("overwrite", options.overwrite);
    const { database, branch, snapshot } = resolveRevision(this.#engine, revision);
    refuseInsideStore(path, this.#engine.state.storage.directory);
    return await exportSnapshot(snapshot ?? headOf(database, branch), path, options);
  }

  stat(database?: string): StoreStatistics {
    return waiting(() => storeStatistics(this.#engine, database));
  }

  counters(): StoreCounters {
    this.#engine.assertOpen();
    return storeCounters(this.#engine, { sessions: this.#sessions, runtimes: this.#runtimes });
  }

  diskUse(): DiskStatistics {
    this.#engine.assertOpen();
    return diskStatistics(this.#engine);
  }

  async check(options: CheckOptions = {}): Promise<CheckReport> {
    this.#engine.assertOpen();
    requireOptions("check", options, CHECK_OPTIONS);
    requireBoolean("deep", options.deep);
    const findings = new Findings();
    using _ = this.#engine.collector.hold();
    using _paused = (await this.#engine.follower?.pause()) ?? null;
    this.#engine.assertOpen();
    await waitingAsync(async () => {
      await checkParts(this.#engine.state, findings, { ...options, isOpen: true });
      if (options.deep === true) await checkHeads(this, findings, options);
    });
    return findings.report();
  }

  async scrub(options: ScrubOptions = {}): Promise<ScrubReport> {
    this.#engine.assertOpen();
    requireOptions("scrub", options, SCRUB_OPTIONS);
    const { bytesPerSecond = SCRUB_BYTES_PER_SECOND } = options;
    const pace = new Pace(bytesPerSecond, systemClock(true));
    const { state } = this.#engine;
    using _ = holdState(state);
    return await waitingAsync(() => scrubParts(state, { ...options, pace }));
  }

  gc(options: GarbageOptions = {}): GarbageReport {
    this.#engine.assertOpen();
    requireOptions("gc", options, GARBAGE_OPTIONS);
    requireBoolean("dryRun", options.dryRun);
    return collectGarbage(this.#engine, options);
  }

  heldSpace(): HeldSpace {
    this.#engine.assertWritable();
    return waiting(() => heldSpace(this.#engine));
  }

  async gcAsync(options: GarbageAsyncOptions = {}): Promise<GarbageReport> {
    this.#engine.assertOpen();
    requireOptions("gcAsync", options, GARBAGE_ASYNC_OPTIONS);
    requireBoolean("dryRun", options.dryRun);
    return await collectGarbageAsync(this.#engine, options);
  }

  expire(): ExpiryReport {
    this.#engine.assertOpen();
    return expireStore(this.#engine);
  }

  async expireAsync(options: ExpireOptions = {}): Promise<ExpiryReport> {
    this.#engine.assertOpen();
    requireOptions("expireAsync", options, EXPIRE_OPTIONS);
    return await expireStoreAsync(this.#engine, options);
  }

  get uploadStatus(): UploadStatus | null {
    return this.#engine.uploads?.status ?? null;
  }

  get uploadFailure(): StoreError | null {
    return this.#engine.uploadFailure;
  }

  async upload(options: UploadOptions = {}): Promise<void> {
    this.#engine.assertWritable();
    requireOptions("upload", options, UPLOAD_OPTIONS);
    await requireUploads(this.#engine).flush(options);
  }

  async collectRemote(options: UploadOptions = {}): Promise<RemoteGarbageReport> {
    this.#engine.assertWritable();
    requireOptions("collectRemote", options, UPLOAD_OPTIONS);
    return await requireUploads(this.#engine).collect({ signal: options.signal });
  }

  get followerStatus(): FollowerStatus | null {
    return this.#engine.follower?.status ?? null;
  }

  async refresh(): Promise<void> {
    this.#engine.assertOpen();
    await this.#engine.follower?.refresh();
  }

  checkpoint(): void {
    this.#engine.checkpoint();
  }

  checkpointAsync(): Promise<void> {
    return this.#engine.checkpointAsync();
  }

  rotateKey(key: Uint8Array | string): void {
    this.#engine.rotateKey(key);
  }

  /** The store's id, backend and compression. */
  info(): StoreInfo {
    return storeInfo(this.#engine);
  }

  compactCatalog(): { readonly bytesBefore: number; readonly bytesAfter: number } {
    this.#engine.assertWritable();
    const catalog = this.#engine.state.catalog.store;
    const bytesBefore = catalog.estimatedSize();
    catalog.compact();
    return { bytesBefore, bytesAfter: catalog.estimatedSize() };
  }

  setCompression(compression: Compression): void {
    this.#engine.setCompression(compression);
  }

  close(): void {
    if (!this.#engine.isOpen) return;
    this.closeConnections();
    this.#stopScrub();
    this.#engine.close();
  }

  /** @internal The first half of `close`, after which the other does not meet a connection in use. */
  closeConnections(): void {
    this.#transactor.close();
    for (const { asyncConnection } of this.#sessions) {
      if (asyncConnection === null || asyncConnection.closeIdle()) continue;
      throw new StoreError(
        "BRANCH_BUSY",
        `Cannot close store "${this.path}": connection "${asyncConnection.name}" is running a statement; await closeAsync(), or close the connection first`,
        { retryable: true },
      );
    }
    for (const { connection } of this.#sessions) {
      try {
        connection?.close();
      } catch (cause) {
        throw new StoreError(
          "BRANCH_BUSY",
          `Cannot close store "${this.path}": connection "${connection?.name}" is running a statement`,
          { cause, retryable: true },
        );
      }
    }
  }

  async closeAsync(): Promise<void> {
    try {
      await this.settleAsync();
    } finally {
      this.close();
    }
  }

  /** @internal What `closeAsync` does before it closes: connections are closed, what is in the log is checkpointed. */
  async settleAsync(): Promise<void> {
    if (!this.#engine.isOpen) return;
    this.#transactor.close();
    for (const { asyncConnection } of this.#sessions) await asyncConnection?.close();
    // A store that follows another one has nothing to write.
    const { readOnlyReason, fenced } = this.#engine;
    if (readOnlyReason === null && fenced === null) await this.#engine.checkpointAsync();
  }

  #sqlite(): SqliteRuntime {
    // A trap inside WebAssembly ends that instance only: its connections fail, later ones get a new instance.
    if (this.#runtime === null || this.#runtime.hasFailed) {
      this.#runtime = new SqliteRuntime({ vfs: this.#vfs, now: this.#engine.options.now });
    }
    return this.#runtime;
  }
}
