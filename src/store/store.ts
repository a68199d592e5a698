/** The library's entrance: a directory with databases, their branches and versions. */
import { createDatabaseChange, undeleteDatabaseChange } from "../branch/ref-operations.ts";
import { MAIN_BRANCH } from "../branch/refs.ts";
import { requireText } from "../branch/names.ts";
import { parseRevision } from "../branch/revision.ts";
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
import { holdState } from "./hold-state.ts";
import { checkHeads } from "./check-heads.ts";
import type { Compression } from "./compression-option.ts";
import { Database } from "./database.ts";
import { Engine, requireUploads } from "./engine.ts";
import type { FollowerStatus } from "./follower.ts";
import type { RemoteGarbageReport } from "../remote/remote-garbage.ts";
import type { UploadStatus } from "./upload-service.ts";
import { expireStore, expireStoreAsync } from "./expire.ts";
import {
  type ExportOptions,
  type ExportResult,
  exportSnapshot,
  refuseInsideStore,
} from "./export-file.ts";
import { importFile, type ImportOptions, type ImportResult } from "./import-file.ts";
import {
  collectGarbage,
  collectGarbageAsync,
  type GarbageAsyncOptions,
  type GarbageOptions,
} from "./garbage.ts";
import { type HeldSpace, heldSpace } from "./garbage-holders.ts";
import { findRevision, headOf, openDatabaseNamed, resolveRevision } from "./resolve-revision.ts";
import { isRemoteUrl, openRemoteEngine } from "./open-remote.ts";
import { type Outcome, outcomeOf, type OutcomeRequest, parseTransactionId } from "./outcome.ts";
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
import { storeInfo, type StoreInfo } from "./store-info.ts";
import type { StoreOptions } from "./store-options.ts";
import { StoreVfs } from "./store-vfs.ts";

export interface CreateDatabaseOptions {
  /** Bytes, a power of two from 512 to 65536; 4096 by default. */
  readonly pageSize?: number;
}

/**
 * Opens the store in a directory, and makes it when there is none (unless `create: false`). One process holds a store at
 * a time: STORE_LOCKED names the one that has it.
 */
export function openStore(path: string, options: StoreOptions = {}): Store {
  requireText("The path of a store", path);
  const engine = isRemoteUrl(path) ? openRemoteEngine(path, options) : Engine.open(path, options);
  return new Store(path, engine);
}

/** The twin of `openStore` for callers that await: recovery of a long log happens before it resolves. */
export async function openStoreAsync(path: string, options: StoreOptions = {}): Promise<Store> {
  await Promise.resolve();
  return openStore(path, options);
}

export class Store {
  /** As given to `openStore`. */
  readonly path: string;
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
    this.path = path;
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

  /** @internal For the parts of src/store that work on the engine. */
  get engine(): Engine {
    return this.#engine;
  }

  /** By name. */
  databases(): Database[] {
    this.#engine.assertOpen();
    this.#engine.expireBranches();
    return [...this.#engine.state.databases.values()]
      .filter(({ refs }) => refs.row.deletedAtMs === null)
      .sort((left, right) => (left.refs.row.name < right.refs.row.name ? -1 : 1))
      .map((database) => new Database(this.#engine, database));
  }

  /** Throws DATABASE_NOT_FOUND. */
  database(name: string): Database {
    this.#engine.assertOpen();
    return new Database(this.#engine, openDatabaseNamed(this.#engine, name));
  }

  /** Makes an empty database with the branch "main". Throws DATABASE_EXISTS. */
  createDatabase(name: string, options: CreateDatabaseOptions = {}): Database {
    const engine = this.#engine;
    engine.assertOpen();
    const atMs = engine.options.now();
    engine.change(createDatabaseChange(engine.state.refs, { name, atMs, ...options }));
    return this.database(name);
  }

  /** Brings back the database of that name that was deleted last. */
  undeleteDatabase(name: string): Database {
    this.#engine.assertOpen();
    this.#engine.change(undeleteDatabaseChange(this.#engine.state.refs, { name }));
    return this.database(name);
  }

  /** A connection on a revision: "shop", "shop/dev", "shop@120", "shop/dev@-5m". */
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
  async open(
    revision: string,
    options: ConnectOptions & { readonly signal?: AbortSignal } = {},
  ): Promise<AsyncConnection> {
    return (await this.#openAwaited(revision, options)).connection;
  }

  /**
   * Runs `body` in a transaction of its own and commits; resolves with what it returned once the commit is durable. When another
   * transaction came in between, all of it is run again. See docs/async-connection.md.
   */
  transact<T>(
    revision: string,
    body: (transaction: Transaction) => Promise<T> | T,
    options: TransactOptions = {},
  ): Promise<T> {
    return this.#transactor.run(revision, body, options);
  }

  /** Whether the transaction of `transact` with this id has committed: for a client that lost the answer. */
  outcome(id: string, request: OutcomeRequest = {}): Outcome {
    const parsed = parseTransactionId(id);
    const isRunning = this.#transactor.isRunning(parsed);
    return outcomeOf(this.#engine, parsed, { ...request, isRunning });
  }

  async #openAwaited(
    revision: string,
    { signal, ...options }: ConnectOptions & { readonly signal?: AbortSignal },
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

  /** @internal For classes that extend Connection by themselves. */
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

  /**
   * Makes a plain SQLite file, with the committed part of its write-ahead log, the content of a branch: "shop", "shop/dev".
   * One commit; a missing database or branch is created. See import-file.ts for what it refuses.
   */
  async importFile(
    path: string,
    revision: string,
    options: ImportOptions = {},
  ): Promise<ImportResult> {
    const { database, branch } = requireBranchRevision(revision);
    return await importFile(
      this.#engine,
      path,
      { database, branch: branch ?? MAIN_BRANCH },
      options,
    );
  }

  /** Writes a revision as a plain SQLite file that any SQLite opens. */
  async exportFile(
    revision: string,
    path: string,
    options: ExportOptions = {},
  ): Promise<ExportResult> {
    const { database, branch, snapshot } = resolveRevision(this.#engine, revision);
    refuseInsideStore(path, this.#engine.state.storage.directory);
    return await exportSnapshot(snapshot ?? headOf(database, branch), path, options);
  }

  /** What one database, or all, hold and what they cost; see statistics.ts for the words. */
  stat(database?: string): StoreStatistics {
    return waiting(() => storeStatistics(this.#engine, database));
  }

  /** The sizes of the store's files, in bytes. */
  diskUse(): DiskStatistics {
    this.#engine.assertOpen();
    return diskStatistics(this.#engine);
  }

  /**
   * Reads everything that the store keeps and says what is damaged, and which revisions that touches. For a store that does
   * not open there is `checkStore`. A follower shows nothing new meanwhile.
   */
  async check(options: CheckOptions = {}): Promise<CheckReport> {
    this.#engine.assertOpen();
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

  /**
   * Reads all chunks and history on disk again, past the cache, at a set rate, while the store goes on. A store does so by itself
   * with the option `scrubBytesPerSecond`.
   */
  async scrub(options: ScrubOptions = {}): Promise<ScrubReport> {
    this.#engine.assertOpen();
    const { bytesPerSecond = SCRUB_BYTES_PER_SECOND } = options;
    const pace = new Pace(bytesPerSecond, systemClock(true));
    const { state } = this.#engine;
    using _ = holdState(state);
    return await waitingAsync(() => scrubParts(state, { ...options, pace }));
  }

  /** Frees what no branch, tag or kept version leads to any more; returns when done. See docs/garbage-collection.md. */
  gc(options: GarbageOptions = {}): GarbageReport {
    this.#engine.assertOpen();
    return collectGarbage(this.#engine, options);
  }

  /** Which branches, tags and old versions hold how much that nothing else does; blocks while it walks them. */
  heldSpace(): HeldSpace {
    this.#engine.assertWritable();
    return waiting(() => heldSpace(this.#engine));
  }

  /** The twin of `gc` for callers that await: the event loop goes on meanwhile. */
  async gcAsync(options: GarbageAsyncOptions = {}): Promise<GarbageReport> {
    this.#engine.assertOpen();
    return await collectGarbageAsync(this.#engine, options);
  }

  /** Lets go of versions that retention does not keep any more; garbage collection does it first. See docs/retention.md. */
  expire(): ExpiryReport {
    this.#engine.assertOpen();
    return expireStore(this.#engine);
  }

  /** The twin of `expire` for callers that await: the event loop goes on meanwhile. */
  expireAsync(): Promise<ExpiryReport> {
    this.#engine.assertOpen();
    return expireStoreAsync(this.#engine);
  }

  /** How far the upload to object storage is; null for a store that is not uploaded. */
  get uploadStatus(): UploadStatus | null {
    return this.#engine.uploads?.status ?? null;
  }

  /** Once the store is closed: why not all of it is in object storage; null when it is, or when the store is not uploaded. */
  get uploadFailure(): StoreError | null {
    return this.#engine.uploadFailure;
  }

  /** Resolves when all that is durable here is in object storage. Throws REMOTE_NOT_FOUND for a store that is not uploaded. */
  async upload(): Promise<void> {
    this.#engine.assertWritable();
    await requireUploads(this.#engine).flush();
  }

  /** Deletes from object storage what nothing there needs any more, once readers have had their time; see docs/remote.md. */
  async collectRemote(): Promise<RemoteGarbageReport> {
    this.#engine.assertWritable();
    return await requireUploads(this.#engine).collect();
  }

  /** What a store that follows another one shows; null for one that does not. */
  get followerStatus(): FollowerStatus | null {
    return this.#engine.follower?.status ?? null;
  }

  /** Shows what the writer has uploaded by now; a follower does so by itself from time to time. */
  async refresh(): Promise<void> {
    this.#engine.assertOpen();
    await this.#engine.follower?.refresh();
  }

  /** Moves every commit so far from the log into chunks. Happens by itself; for tests and before a copy. */
  checkpoint(): void {
    this.#engine.checkpoint();
  }

  /** The twin of `checkpoint` for callers that await: the event loop goes on meanwhile. */
  checkpointAsync(): Promise<void> {
    return this.#engine.checkpointAsync();
  }

  /** Seals everything written from now on with a new key, and lets only the new master key open the store. */
  rotateKey(key: Uint8Array | string): void {
    this.#engine.rotateKey(key);
  }

  /** The store's id, backend and compression. */
  info(): StoreInfo {
    return storeInfo(this.#engine);
  }

  /** Gives unused space of the catalog back to the system, where the backend can. Sizes in bytes. */
  compactCatalog(): { readonly bytesBefore: number; readonly bytesAfter: number } {
    this.#engine.assertWritable();
    const catalog = this.#engine.state.catalog.store;
    const bytesBefore = catalog.estimatedSize();
    catalog.compact();
    return { bytesBefore, bytesAfter: catalog.estimatedSize() };
  }

  /** What chunks and history are compressed with from now on; see `StoreOptions.compression`. The store records it. */
  setCompression(compression: Compression): void {
    this.#engine.setCompression(compression);
  }

  /** Closes the connections, checkpoints, and lets another process have the store. */
  close(): void {
    if (!this.#engine.isOpen) return;
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
    this.#stopScrub();
    this.#engine.close();
  }

  /** The twin of `close` for callers that await: the checkpoint happens in slices before the rest. */
  async closeAsync(): Promise<void> {
    if (!this.#engine.isOpen) return;
    this.#transactor.close();
    for (const { asyncConnection } of this.#sessions) await asyncConnection?.close();
    try {
      // A store that follows another one has nothing to write.
      const { readOnlyReason, fenced } = this.#engine;
      if (readOnlyReason === null && fenced === null) await this.#engine.checkpointAsync();
    } finally {
      this.close();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.closeAsync();
  }

  #sqlite(): SqliteRuntime {
    // A trap inside WebAssembly ends that instance only: its connections fail, later ones get a new instance.
    if (this.#runtime === null || this.#runtime.hasFailed) {
      this.#runtime = new SqliteRuntime({ vfs: this.#vfs, now: this.#engine.options.now });
    }
    return this.#runtime;
  }
}

/** "database/branch" of a revision that names no fixed commit; REVISION_INVALID otherwise. */
export function requireBranchRevision(text: string): { database: string; branch: string | null } {
  const { database, branch, at } = parseRevision(text);
  if (at === null) return { database, branch };
  throw new StoreError(
    "REVISION_INVALID",
    `Cannot use revision "${text}" here: it names a fixed commit, a branch is needed`,
  );
}
