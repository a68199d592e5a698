/** What users of a store see, whether its databases are in one partition (single-store.ts) or in several (partitioned-store.ts). */
import { parseRevision } from "../branch/revision.ts";
import { StoreError } from "../errors.ts";
import type { CheckOptions, CheckReport } from "../integrity/report.ts";
import type { ScrubOptions, ScrubReport } from "../integrity/scrub.ts";
import type { RemoteGarbageReport } from "../remote/remote-garbage.ts";
import type { ExpiryReport } from "../retention/expiry.ts";
import type { GarbageReport } from "../retention/garbage-cycle.ts";
import type { AsyncConnection } from "../sqlite/async-connection.ts";
import type { Compression } from "./compression-option.ts";
import type { Database } from "./database.ts";
import type { Engine } from "./engine.ts";
import type { ExportOptions, ExportResult } from "./export-file.ts";
import type { FollowerStatus } from "./follower.ts";
import type { ExpireOptions } from "./expire.ts";
import type { GarbageAsyncOptions, GarbageOptions } from "./garbage.ts";
import type { HeldSpace } from "./garbage-holders.ts";
import type { HandOverOptions } from "./hand-over.ts";
import type { ImportOptions, ImportResult } from "./import-file.ts";
import type { Outcome, OutcomeRequest } from "./outcome.ts";
import type { ConnectOptions, Session } from "./session.ts";
import type { DiskStatistics, StoreStatistics } from "./statistics.ts";
import type { StoreConnection } from "./store-connection.ts";
import type { StoreCounters } from "./store-counters.ts";
import type { StoreInfo } from "./store-info.ts";
import type { TransactOptions } from "./transact.ts";
import type { Transaction } from "./transaction.ts";
import type { UploadOptions, UploadStatus } from "./upload-service.ts";

export interface CreateDatabaseOptions {
  /** Bytes, a power of two from 512 to 65536; 4096 by default. */
  readonly pageSize?: number;
  /** From 0; by default the one with the fewest databases. */
  readonly partition?: number;
}

/** The signal ends the opening, not the connection. */
export type OpenOptions = ConnectOptions & { readonly signal?: AbortSignal };

export abstract class Store {
  /** As given to `openStore`. */
  readonly path: string;

  /** @internal */
  constructor(path: string) {
    this.path = path;
  }

  abstract get isOpen(): boolean;

  /** @internal For the parts of src/store that work on the only engine: a bug where there are several. */
  abstract get engine(): Engine;

  /** @internal One engine each. */
  abstract get engines(): readonly Engine[];

  /** By name. */
  abstract databases(): Database[];

  /** Throws DATABASE_NOT_FOUND. */
  abstract database(name: string): Database;

  /** Makes an empty database with the branch "main". Throws DATABASE_EXISTS. */
  abstract createDatabase(name: string, options?: CreateDatabaseOptions): Database;

  /** Brings back the database of that name that was deleted last. */
  abstract undeleteDatabase(name: string): Database;

  /** Moves a database with all that belongs to it to another partition. See docs/partitions.md. */
  abstract handOver(database: string, options: HandOverOptions): Promise<void>;

  /** A connection on a revision: "shop", "shop/dev", "shop@120", "shop/dev@-5m". */
  abstract connect(revision: string, options?: ConnectOptions): StoreConnection;

  /**
   * A connection whose calls are awaited: one that waits for a page in object storage leaves the thread to others (from Node
   * 24 on).
   */
  abstract open(revision: string, options?: OpenOptions): Promise<AsyncConnection>;

  /**
   * Runs `body` in a transaction of its own and commits; resolves with what it returned once the commit is durable. When another
   * transaction came in between, all of it is run again. See docs/async-connection.md.
   */
  abstract transact<T>(
    revision: string,
    body: (transaction: Transaction) => Promise<T> | T,
    options?: TransactOptions,
  ): Promise<T>;

  /** Whether the transaction of `transact` with this id has committed: for a client that lost the answer. */
  abstract outcome(id: string, request?: OutcomeRequest): Outcome;

  /** @internal For classes that extend Connection by themselves. */
  abstract openSession(revision: string, options: ConnectOptions): Session;

  /**
   * Makes a plain SQLite file, with the committed part of its write-ahead log, the content of a branch: "shop", "shop/dev".
   * One commit; a missing database or branch is created. See import-file.ts for what it refuses.
   */
  abstract importFile(
    path: string,
    revision: string,
    options?: ImportOptions,
  ): Promise<ImportResult>;

  /** Writes a revision as a plain SQLite file that any SQLite opens. */
  abstract exportFile(
    revision: string,
    path: string,
    options?: ExportOptions,
  ): Promise<ExportResult>;

  /** What one database, or all, hold and what they cost; see statistics.ts for the words. */
  abstract stat(database?: string): StoreStatistics;

  /** What has been counted since the store was opened, and how far it is; nothing is read or walked for it. */
  abstract counters(): StoreCounters;

  /** The sizes of the store's files, in bytes. */
  abstract diskUse(): DiskStatistics;

  /**
   * Reads everything that the store keeps and says what is damaged, and which revisions that touches. For a store that does
   * not open there is `checkStore`. A follower shows nothing new meanwhile.
   */
  abstract check(options?: CheckOptions): Promise<CheckReport>;

  /**
   * Reads all chunks and history on disk again, past the cache, at a set rate, while the store goes on. A store does so by itself
   * with the option `scrubBytesPerSecond`.
   */
  abstract scrub(options?: ScrubOptions): Promise<ScrubReport>;

  /** Frees what no branch, tag or kept version leads to any more; returns when done. See docs/garbage-collection.md. */
  abstract gc(options?: GarbageOptions): GarbageReport;

  /** Which branches, tags and old versions hold how much that nothing else does; blocks while it walks them. */
  abstract heldSpace(): HeldSpace;

  /** The twin of `gc` for callers that await: the event loop goes on meanwhile. */
  abstract gcAsync(options?: GarbageAsyncOptions): Promise<GarbageReport>;

  /** Lets go of versions that retention does not keep any more; garbage collection does it first. See docs/retention.md. */
  abstract expire(): ExpiryReport;

  /** The twin of `expire` for callers that await: the event loop goes on meanwhile. */
  abstract expireAsync(options?: ExpireOptions): Promise<ExpiryReport>;

  /** How far the upload to object storage is; null for a store that is not uploaded. */
  abstract get uploadStatus(): UploadStatus | null;

  /** Once the store is closed: why not all of it is in object storage; null when it is, or when the store is not uploaded. */
  abstract get uploadFailure(): StoreError | null;

  /** Resolves when all that is durable here is in object storage. Throws REMOTE_NOT_FOUND for a store that is not uploaded. */
  abstract upload(options?: UploadOptions): Promise<void>;

  /** Deletes from object storage what nothing there needs any more, once readers have had their time; see docs/remote.md. */
  abstract collectRemote(options?: UploadOptions): Promise<RemoteGarbageReport>;

  /** What a store that follows another one shows; null for one that does not. */
  abstract get followerStatus(): FollowerStatus | null;

  /** Shows what the writer has uploaded by now; a follower does so by itself from time to time. */
  abstract refresh(): Promise<void>;

  /** Moves every commit so far from the log into chunks. Happens by itself; for tests and before a copy. */
  abstract checkpoint(): void;

  /** The twin of `checkpoint` for callers that await: the event loop goes on meanwhile. */
  abstract checkpointAsync(): Promise<void>;

  /** Seals everything written from now on with a new key, and lets only the new master key open the store. */
  abstract rotateKey(key: Uint8Array | string): void;

  /** The store's id, backend, compression and partitions. */
  abstract info(): StoreInfo;

  /** Gives unused space of the catalog back to the system, where the backend can. Sizes in bytes. */
  abstract compactCatalog(): { readonly bytesBefore: number; readonly bytesAfter: number };

  /** What chunks and history are compressed with from now on; see `StoreOptions.compression`. The store records it. */
  abstract setCompression(compression: Compression): void;

  /** Closes the connections, checkpoints, and lets another process have the store. */
  abstract close(): void;

  /** The twin of `close` for callers that await: the checkpoint happens in slices before the rest. */
  abstract closeAsync(): Promise<void>;

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.closeAsync();
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
