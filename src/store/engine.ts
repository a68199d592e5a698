/**
 * An open store without its public face: opening and closing, changes of names, commits, checkpoints.
 *
 *   open --failed write, sync or checkpoint--> failed (reads go on, writes are refused)      open, failed --close--> closed
 *
 * E1. Every change, of data or of names, is one log record, and visible only after the record is in the log.
 * E2. Checkpoints run when checkpoint-schedule.ts says.
 */
import { hostname } from "node:os";
import { currentTimelineId, livingBranches, type RefChange } from "../branch/refs.ts";
import { expireStoreAsync } from "./expire.ts";
import type { Follower } from "./follower.ts";
import { fencedBy } from "../remote/claim.ts";
import type { Claim } from "../remote/claim.ts";
import { CATALOG_FORMAT_VERSION, type CatalogState } from "../catalog/catalog.ts";
import { RecordingKeyValueStore } from "../catalog/recording-key-value.ts";
import type { BranchRow } from "../catalog/rows.ts";
import { applyChange } from "../checkpoint/recovery.ts";
import { newPageWriter, type StoreState } from "../checkpoint/store-state.ts";
import type { CurrentCipher } from "../encryption/current-cipher.ts";
import type { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { invariant, StoreError } from "../errors.ts";
import { type ChunkReference } from "../page/chunk-handle.ts";
import { type BeginOptions, GarbageCollector } from "../retention/garbage-collector.ts";
import type { GarbageCycle, GarbageReport } from "../retention/garbage-cycle.ts";
import { waiting } from "../storage/not-local.ts";
import { type StoreLock } from "../storage/store-lock.ts";
import { CommitPipeline } from "../transaction/commit-pipeline.ts";
import { encodeRefChange, RecordKind } from "../transaction/commit-record.ts";
import type { PageStager } from "../transaction/revision-file.ts";
import { type OpenDatabase, refuseMoving } from "../transaction/timeline.ts";
import { codecOf, type Compression, requireCompression } from "./compression-option.ts";
import { headerText, type StoreHeader, writeHeader } from "./store-header.ts";
import { CheckpointSchedule } from "./checkpoint-schedule.ts";
import {
  openDirectory,
  type OpenedStore,
  type OpenRemote,
  type PartitionPlace,
} from "./open-directory.ts";
import { type ResolvedOptions, type StoreOptions } from "./store-options.ts";
import { UploadFiles } from "./upload-files.ts";
import { UploadService } from "./upload-service.ts";

/** When a full disk or the like has kept an expired branch from being deleted. */
const EXPIRY_RETRY_MS = 1000;

type Phase =
  | { readonly name: "open" }
  | { readonly name: "failed"; readonly cause: unknown }
  | { readonly name: "closed" };

export class Engine implements PageStager {
  readonly description: string;
  readonly options: ResolvedOptions;
  /** A follower replaces it. */
  state: StoreState;
  /** Set for a store that follows one in object storage. */
  readonly follower: Follower | null;
  /** Null for a store that has one. */
  readonly partition: PartitionPlace | null;
  readonly pipeline: CommitPipeline;
  readonly collector: GarbageCollector;
  #isCollectionDue = false;
  /** By id, databases that were here when the store was opened, and where they are now. */
  readonly handedOver: Map<number, { readonly name: string; readonly partition: number }> =
    new Map();
  readonly #lock: StoreLock;
  #header: StoreHeader;
  readonly #cipher: CurrentCipher | null;
  /** Null when the store is not uploaded. */
  uploads: UploadService | null = null;
  #uploadFiles: UploadFiles | null = null;
  /** To be closed in the reverse order. */
  readonly #opened: readonly { close(): void }[];
  #phase: Phase = { name: "open" };
  /** No branch expires before this time. */
  #nextExpiryMs = 0;
  /** The time of some has come, but their children live. */
  #hasKeptBranches = false;
  readonly #checkpoints: CheckpointSchedule;

  /** Takes over everything that was opened. */
  constructor(parts: OpenedStore) {
    this.description = parts.description;
    this.options = parts.options;
    this.state = parts.state;
    this.#lock = parts.lock;
    this.#header = parts.header;
    this.#cipher = parts.cipher;
    this.#checkpoints = new CheckpointSchedule({
      state: parts.state,
      checkpointBytes: parts.options.checkpointBytes,
      checkpointIntervalMs: parts.options.checkpointIntervalMs,
      nextHistorySegment: parts.nextHistorySegment,
      isOpen: () => this.#phase.name === "open" && parts.follower === null,
      onFailure: (cause) => this.#fail(cause),
      background: {
        needsTime: () => this.collector.needsTime,
        run: (sliceMs) => this.#tryCollect(sliceMs),
        checkpointed: () => this.#collectWhenDue(),
      },
    });
    this.collector = new GarbageCollector({
      state: parts.state,
      nextHistorySegment: () => this.#checkpoints.nextHistorySegment,
      ratio: parts.options.gcRatio,
    });
    this.pipeline = new CommitPipeline({
      log: parts.state.log,
      now: parts.options.now,
      onPublished: (databaseIds, bytes) => this.#onPublished(databaseIds, bytes),
      assertWritable: () => this.assertWritable(),
      syncChunks: () => {
        this.#uploadFiles?.noteStaged();
        this.orFail(() => parts.state.chunks.syncSync());
      },
      barrier: parts.state.barrier,
      outcomes: parts.state.outcomes,
    });
    this.#opened = parts.opened;
    const { backend, remote, claim } = parts;
    if (remote !== null && backend !== null) this.#openUploads(backend, remote, claim);
    this.follower = parts.follower;
    this.partition = parts.partition;
  }

  /** `claim`: of the place in object storage that the directory was filled from. */
  static open(path: string, options: StoreOptions, claim: Claim | null = null): Engine {
    return new Engine(openDirectory(path, options, claim));
  }

  get isOpen(): boolean {
    return this.#phase.name !== "closed";
  }

  /** A write has failed: what is committed can be read, nothing is committed any more. */
  get hasFailed(): boolean {
    return this.#phase.name === "failed" || this.state.log.failure !== null;
  }

  get checkpoints(): Pick<CheckpointSchedule, "counters" | "oldestMs"> {
    return this.#checkpoints;
  }

  get header(): StoreHeader {
    return this.#header;
  }

  assertOpen(): void {
    if (this.#phase.name === "closed")
      throw new StoreError("STORE_CLOSED", `Cannot use store "${this.description}": it is closed`);
  }

  /** Why nobody can write; null when one can. The end of a message. */
  get readOnlyReason(): string | null {
    return this.follower === null
      ? null
      : "it follows a store in object storage; open it as the writer there";
  }

  assertWritable(): void {
    this.assertOpen();
    const { readOnlyReason } = this;
    if (readOnlyReason !== null)
      throw new StoreError(
        "READ_ONLY",
        `Cannot write to store "${this.description}": ${readOnlyReason}`,
      );
    const { failure } = this.state.log;
    if (this.#phase.name === "open" && failure !== null) this.#fail(failure);
    const { fenced } = this;
    if (fenced !== null) throw fenced;
    if (this.#phase.name === "failed") throw this.#failed(this.#phase.cause);
  }

  #failed(cause: unknown): StoreError {
    return new StoreError(
      "STORE_FAILED",
      `Cannot write to store "${this.description}": an earlier write failed; open the store again`,
      { cause },
    );
  }

  /** G3 in upload-service.ts. */
  fenced: StoreError | null = null;
  /** Set by `close`: why not everything is in object storage. */
  uploadFailure: StoreError | null = null;

  #openUploads(
    catalog: RecordingKeyValueStore,
    { client, options, replica, local }: OpenRemote,
    claim: Claim | null,
  ): void {
    const files = new UploadFiles({
      state: this.state,
      local,
      catalog,
      replica,
      header: () => headerText(this.#header),
      now: this.options.now,
    });
    this.#uploadFiles = files;
    catalog.listener = files;
    this.uploads = new UploadService({
      client,
      files,
      options,
      writerName: `process ${process.pid} on "${hostname()}"`,
      claim,
      onFenced: (error) => this.#onFenced(error),
    });
    const { fencedBy: by } = this.#header.remote ?? {};
    if (by === undefined) this.uploads.notify();
    else this.fenced = fencedBy(by);
  }

  /** No commit follows, also not after the store was opened again: what is written here goes nowhere any more. */
  #onFenced(error: StoreError): void {
    if (this.fenced !== null) return;
    this.fenced = error;
    const { remote } = this.#header;
    const { writer, epoch } = error.details;
    if (error.code !== "FENCED" || remote === undefined) return;
    const by = { name: String(writer), epoch: Number(epoch) };
    const header = { ...this.#header, remote: { ...remote, fencedBy: by } };
    try {
      writeHeader(this.state.storage, header);
      this.#header = header;
    } catch (cause) {
      // Then the next opening finds out by itself.
      if (!(cause instanceof StoreError)) throw cause;
    }
  }

  /** Makes a change of names durable and applies it. */
  change(change: RefChange): void {
    this.assertWritable();
    const database = this.state.databases.get(change.databaseId);
    if (database !== undefined) refuseMoving(database);
    this.#refuseTakenName(change);
    this.#log(change);
    if (this.options.isRemoteDurable) this.uploads?.waitSync(this.state.log.lastLsn);
  }

  #log(change: RefChange): void {
    this.#noteExpiry(change);
    const { log } = this.state;
    // A log that has no room refuses the record and goes on; one that failed refuses all that follow by itself.
    log.append(RecordKind.refChange, encodeRefChange(change));
    log.flushSync("full");
    try {
      waiting(() => applyChange(this.state, change));
    } catch (error) {
      this.#fail(error);
      throw error;
    }
    this.uploads?.notify();
  }

  /** The database is in another partition: it goes from here at once. Who has it open is told where it is. */
  forgetDatabase(database: OpenDatabase): void {
    const { id, name } = database.refs.row;
    invariant(database.movingTo !== undefined, `Database ${id} is being handed over`);
    this.handedOver.set(id, { name, partition: database.movingTo });
    this.state.refs.databaseIds.delete(name); // Also when the rest fails: the other one has the name.
    this.assertWritable();
    this.#checkpoints.finish();
    this.#log({ type: "delete-database", databaseId: id, atMs: this.options.now() });
    this.#log({ type: "purge-database", databaseId: id });
  }

  /** A database has come into the catalog: its branches may expire. */
  databaseCame(): void {
    this.#nextExpiryMs = 0;
  }

  /** Names of databases are unique over all partitions. */
  #refuseTakenName(change: RefChange): void {
    if (this.partition === null || !("name" in change) || !change.type.endsWith("-database"))
      return;
    const { name } = change;
    const partition = this.partition.otherPartitionOf(name);
    if (partition === null) return;
    throw new StoreError(
      "DATABASE_EXISTS",
      `Cannot use the name "${name}" for a database: there is one in partition ${partition}; choose another name`,
      { details: { database: name, partition } },
    );
  }

  /** Deletes the branches whose time has come; children keep theirs alive. */
  expireBranches(): void {
    const nowMs = this.options.now();
    if (nowMs < this.#nextExpiryMs || this.#phase.name !== "open") return;
    if (this.follower !== null) return; // The writer does that.
    const due: { databaseId: number; branchId: number }[] = [];
    let next = Infinity;
    let hasKept = false;
    for (const { refs: database, movingTo } of this.state.databases.values()) {
      if (movingTo !== undefined) continue; // They go where it goes.
      let parents: ReadonlySet<number | null> | null = null;
      for (const branch of database.branches.values()) {
        const { id, expiresAtMs } = branch;
        if (expiresAtMs === null || branch.deletedAtMs !== null) continue;
        if (expiresAtMs > nowMs) {
          next = Math.min(next, expiresAtMs);
          continue;
        }
        parents ??= new Set(livingBranches(database).map((row) => row.parentBranchId));
        if (parents.has(id)) hasKept = true;
        else if (this.#isWritten(branch)) next = Math.min(next, nowMs);
        else due.push({ databaseId: database.row.id, branchId: id });
      }
    }
    this.#nextExpiryMs = next;
    this.#hasKeptBranches = hasKept;
    if (due.length === 0) return;
    try {
      for (const branch of due) this.change({ type: "delete-branch", ...branch, atMs: nowMs });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      // Nothing can be written: the branches go later, and what the caller wants to read now is still there.
      this.#nextExpiryMs = nowMs + EXPIRY_RETRY_MS;
      return;
    }
    this.expireBranches(); // their parents may be free now
  }

  /** All branches are looked at again only when that can find something: there may be many thousands. */
  #noteExpiry(change: RefChange): void {
    if (change.type === "create-branch" || change.type === "set-branch")
      this.#nextExpiryMs = Math.min(this.#nextExpiryMs, change.expiresAtMs ?? Infinity);
    else if (change.type.endsWith("-branch") && this.#hasKeptBranches) this.#nextExpiryMs = 0;
  }

  #isWritten(branch: BranchRow): boolean {
    const database = this.state.databases.get(branch.databaseId);
    return database?.timelines.get(currentTimelineId(branch))?.writer != null;
  }

  /** Puts the pages of a large transaction into chunks; they are durable when the commit's record is. */
  stage(pages: ReadonlyMap<number, Uint8Array>, pageSize: number): Map<number, ChunkReference> {
    this.assertWritable();
    const staged = new Map<number, ChunkReference>();
    const writer = newPageWriter(this.state, pageSize);
    this.orFail(() => {
      for (const page of [...pages.keys()].sort((left, right) => left - right)) {
        const isFull = writer.add(pages.get(page)!, (reference) => staged.set(page, reference));
        if (isFull) writer.flushSync();
      }
      writer.flushSync();
    });
    return staged;
  }

  /** Moves all commits so far out of the log; returns when done. */
  checkpoint(): void {
    this.assertWritable();
    this.#checkpoints.run();
  }

  /** Like `checkpoint`, in slices between which the event loop runs. */
  async checkpointAsync(): Promise<void> {
    this.assertWritable();
    await this.#checkpoints.runAsync(() => this.assertWritable());
  }

  /** The number of a history segment that somebody else than a checkpoint writes. */
  takeHistorySegment(): number {
    return this.#checkpoints.takeHistorySegment();
  }

  /** The catalog's own state with what has changed since in names and history. */
  catalogState(): CatalogState {
    const { catalog, refs } = this.state;
    const stored = catalog.state();
    return {
      ...(stored ?? { formatVersion: CATALOG_FORMAT_VERSION, checkpointLsn: 0 }),
      nextDatabaseId: refs.nextDatabaseId,
      nextHistorySegment: this.#checkpoints.nextHistorySegment,
    };
  }

  /**
   * A step of background work on what checkpoints leave: none is under way meanwhile. Failing leaves the store failed. Reads wait
   * for what is not local.
   */
  maintain<T>(step: () => T): T {
    this.assertWritable();
    this.#checkpoints.finish();
    return this.orFail(step);
  }

  /** Goes on with a checkpoint for about so long; begins one when there is something to move. */
  stepCheckpoint(sliceMs: number): void {
    this.assertWritable();
    this.#checkpoints.step(sliceMs);
  }

  /** Begins a cycle of garbage collection; `collect` goes on with it. A checkpoint that runs is ended first. */
  beginCollection(options: BeginOptions): GarbageCycle {
    this.assertWritable();
    this.#checkpoints.finish();
    return this.collector.begin(options);
  }

  /** The report when the cycle is done. Damage that it meets ends it, and nothing else; a failed write fails the store. */
  collect(sliceMs: number): GarbageReport | null {
    try {
      return waiting(() => this.collector.step(sliceMs));
    } catch (error) {
      if (!(error instanceof StoreError && error.code.startsWith("CORRUPT"))) this.#fail(error);
      throw error;
    }
  }

  /** What has expired goes first; then a cycle that nobody waits for. */
  #collectWhenDue(): void {
    if (this.#isCollectionDue || !this.collector.isDue()) return;
    this.#isCollectionDue = true;
    const collect = async (): Promise<void> => {
      if (this.#phase.name !== "open") return;
      await expireStoreAsync(this);
      this.beginCollection({ isDryRun: false, isBlocking: false, isAwaited: false });
      this.#checkpoints.wake();
    };
    setImmediate(() => {
      collect()
        .catch(() => {}) // Tried again after the next checkpoint; a store that failed says so at the next write.
        .finally(() => (this.#isCollectionDue = false));
    });
  }

  /** Of a cycle that nobody waits for. */
  #tryCollect(sliceMs: number): void {
    try {
      this.collect(sliceMs);
    } catch {
      // What is damaged the next read reports, or a check; a store that failed says so at the next write.
    }
  }

  /** New data is sealed with a new data key from now on, all keys are wrapped with the new master key. */
  rotateKey(key: Uint8Array | string): void {
    this.assertWritable();
    if (this.#cipher === null)
      throw new StoreError(
        "KEY_REQUIRED",
        `Cannot rotate the key of store "${this.description}": it is not encrypted; a store is encrypted when it is made`,
      );
    const ring = this.#cipher.ring.rotate(parseMasterKey(key, "new key"));
    this.#replaceHeader({ ...this.#header, encryption: ring.toJSON() });
    this.#adoptRing(ring);
  }

  /** Of chunks and history made from now on, also after the store is opened again. Others are not touched. */
  setCompression(compression: Compression): void {
    this.assertWritable();
    requireCompression("Compression", compression);
    this.#replaceHeader({ ...this.#header, compression });
    this.state.codec = codecOf(compression);
  }

  /** The header of all partitions, which whoever has the store has replaced; `ring` when its keys have changed. */
  adoptHeader(header: StoreHeader, ring: KeyRing | null): void {
    this.assertWritable();
    this.#header = header;
    this.state.codec = codecOf(header.compression ?? "lz4");
    if (ring !== null) this.#adoptRing(ring);
  }

  #replaceHeader(header: StoreHeader): void {
    invariant(this.partition === null, "Who has all partitions writes their header");
    writeHeader(this.state.storage, header);
    this.#header = header;
  }

  #adoptRing(ring: KeyRing): void {
    invariant(this.#cipher !== null, "A store with keys has a cipher");
    this.#cipher.ring = ring;
    this.state.log.rotate();
  }

  /** A checkpoint, then everything is closed and the lock is given back; also when something fails on the way. */
  close(): void {
    if (this.#phase.name === "closed") return;
    const steps: (() => void)[] = [
      () => {
        if (this.#phase.name === "open" && this.follower === null) this.#checkpointAtClose();
      },
      () => this.collector.abandon(),
      () => this.#uploadAtClose(),
      () => this.state.log.closeSync(),
      () => this.state.history.close(),
      () => this.state.chunks.close(),
      ...this.#opened.toReversed().map((part) => () => part.close()),
      () => this.#lock.release(),
    ];
    const errors: unknown[] = [];
    for (const step of steps) {
      try {
        step();
      } catch (error) {
        errors.push(error);
      }
    }
    this.#checkpoints.stop();
    this.#phase = { name: "closed" };
    if (errors.length > 0) throw errors[0];
  }

  /** What cannot go up in time, or at all, goes up when the store is opened again. */
  #uploadAtClose(): void {
    const { uploads } = this;
    if (uploads === null) return;
    this.uploadFailure = this.fenced;
    if (this.#phase.name === "failed") this.uploadFailure ??= this.#failed(this.#phase.cause);
    try {
      if (this.#phase.name === "open" && this.fenced === null) uploads.flushSync();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.uploadFailure = error;
    } finally {
      uploads.close();
    }
  }

  /** So that opening again is quick. When it fails, on a full disk say, nothing is lost: the log has every commit. */
  #checkpointAtClose(): void {
    try {
      this.checkpoint();
      this.state.log.restart(this.state.catalog.state()?.checkpointLsn ?? 0);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }

  #fail(cause: unknown): void {
    if (this.#phase.name === "open") this.#phase = { name: "failed", cause };
  }

  /** Something that is written. Chunks are not written any more after a failure, so nothing else is either. */
  orFail<T>(write: () => T): T {
    try {
      return waiting(write);
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  #onPublished(databaseIds: readonly number[], bytes: number): void {
    const { changedRefs, refs } = this.state;
    let timestampMs = 0;
    for (const id of databaseIds) {
      changedRefs.databases.add(id);
      timestampMs = Math.max(timestampMs, refs.databases.get(id)?.row.lastTimestampMs ?? 0);
    }
    this.uploads?.notify();
    this.#checkpoints.onCommitted(bytes, timestampMs);
  }
}

/** Throws when the store is not uploaded. */
export function requireUploads({ uploads, description }: Engine): UploadService {
  if (uploads !== null) return uploads;
  throw new StoreError(
    "REMOTE_NOT_FOUND",
    `Cannot wait for object storage: store "${description}" is not uploaded; open it with "remote", or use "bough remote set"`,
  );
}
