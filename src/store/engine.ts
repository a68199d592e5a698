/**
 * An open store without its public face: opening and closing, changes of names, commits, checkpoints.
 *
 *   open --failed write, sync or checkpoint--> failed (reads go on, writes are refused)      open, failed --close--> closed
 *
 * E1. Every change, of data or of names, is one log record, and visible only after the record is in the log.
 * E2. Checkpoints run when checkpoint-schedule.ts says.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import {
  currentTimelineId,
  emptyRefState,
  livingBranches,
  type RefChange,
} from "../branch/refs.ts";
import { deleteOtherCatalogs, openBackend } from "../catalog/backends.ts";
import type { Claim } from "../remote/claim.ts";
import type { RemoteClient } from "../remote/remote-client.ts";
import { Catalog } from "../catalog/catalog.ts";
import { RecordingKeyValueStore } from "../catalog/recording-key-value.ts";
import type { BranchRow } from "../catalog/rows.ts";
import { HistoryFiles } from "../checkpoint/history-files.ts";
import { applyChange, applyRecord, loadCatalog } from "../checkpoint/recovery.ts";
import {
  ChangedRefs,
  locateChunk,
  newPageWriter,
  type StoreParts,
  type StoreState,
} from "../checkpoint/store-state.ts";
import type { CurrentCipher } from "../encryption/current-cipher.ts";
import { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { StoreError } from "../errors.ts";
import { Log } from "../log/log.ts";
import { ChunkHandles, type ChunkReference } from "../page/chunk-handle.ts";
import { ChunkStore } from "../page/chunk-store.ts";
import { PageMap } from "../page/page-map.ts";
import { PendingPages } from "../page/page-writer.ts";
import { WriteBarrier } from "../page/write-barrier.ts";
import { type BeginOptions, GarbageCollector } from "../retention/garbage-collector.ts";
import type { GarbageCycle, GarbageReport } from "../retention/garbage-cycle.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { waiting } from "../storage/not-local.ts";
import type { Storage } from "../storage/storage.ts";
import { acquireStoreLock, type StoreLock } from "../storage/store-lock.ts";
import { CommitPipeline } from "../transaction/commit-pipeline.ts";
import { encodeRefChange, RecordKind } from "../transaction/commit-record.ts";
import type { PageStager } from "../transaction/revision-file.ts";
import { codecOf, type Compression, requireCompression } from "./compression-option.ts";
import {
  HEADER_FILE,
  headerText,
  readHeader,
  type StoreHeader,
  writeHeader,
} from "./store-header.ts";
import { openLazyStorage } from "./lazy-store.ts";
import { readRemoteObjects } from "./remote-objects.ts";
import { type ResolvedRemote, resolveRemote } from "./remote-options.ts";
import { givenMasterKey, openCipher } from "./store-key.ts";
import { CheckpointSchedule } from "./checkpoint-schedule.ts";
import {
  type ResolvedOptions,
  resolveOptions,
  storeNotFound,
  type StoreOptions,
} from "./store-options.ts";
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
  readonly state: StoreState;
  readonly pipeline: CommitPipeline;
  readonly collector: GarbageCollector;
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
  readonly #checkpoints: CheckpointSchedule;

  private constructor(parts: {
    description: string;
    options: ResolvedOptions;
    lock: StoreLock;
    header: StoreHeader;
    cipher: CurrentCipher | null;
    backend: RecordingKeyValueStore;
    claim: Claim | null;
    remote: OpenRemote | null;
    opened: readonly { close(): void }[];
    state: StoreState;
    nextHistorySegment: number;
  }) {
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
      isOpen: () => this.#phase.name === "open",
      onFailure: (cause) => this.#fail(cause),
      background: {
        needsTime: () => this.collector.needsTime,
        run: (sliceMs) => this.#tryCollect(sliceMs),
        checkpointed: () => this.collector.checkpointed(),
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
        this.#orFail(() => parts.state.chunks.syncSync());
      },
      barrier: parts.state.barrier,
    });
    this.#opened = parts.opened;
    if (parts.remote !== null) this.#openUploads(parts.backend, parts.remote, parts.claim);
  }

  /** `claim`: of the place in object storage that the directory was filled from. */
  static open(path: string, options: StoreOptions, claim: Claim | null = null): Engine {
    let resolved = resolveOptions(options);
    const local = options.storage ?? openNodeStorage(path);
    let storage = local;
    const description = options.storage?.description ?? path;
    prepareDirectory(storage, description, resolved.create);
    const lock = acquireStoreLock(storage, { description });
    const opened: { close(): void }[] = [];
    try {
      const master = givenMasterKey(options);
      let header: StoreHeader;
      // Asked under the lock: another process may have made the store meanwhile.
      if (storage.listSync("").includes(HEADER_FILE)) header = readHeader(storage);
      else {
        header = {
          storeId: Uint8Array.from(randomBytes(16)),
          createdAt: new Date(resolved.now()).toISOString(),
          backend: resolved.backend,
          encryption: master === null ? null : KeyRing.create(master).toJSON(),
          ...(resolved.compression === null ? {} : { compression: resolved.compression }),
        };
        writeHeader(storage, header);
      }
      header = withRemote(header, resolved.remote, storage);
      const remote = openRemote(header, resolved);
      if (remote !== null) opened.push(remote.client);
      const objects = remote === null ? null : readRemoteObjects(local);
      if (remote !== null && objects !== null) {
        const cacheBytesMax = resolved.diskCacheBytesMax;
        const lazy = openLazyStorage(local, remote.client, { objects, cacheBytesMax });
        opened.push(lazy);
        ({ storage } = lazy);
      }
      resolved = { ...resolved, compression: resolved.compression ?? header.compression ?? null };
      const cipher = openCipher(header, master, options);
      deleteOtherCatalogs(header.backend, storage);
      const backend = new RecordingKeyValueStore(openBackend(header.backend, storage));
      opened.push(backend);
      const catalog = new Catalog(backend);
      const parts = makeParts({ storage, storeId: header.storeId, cipher, resolved, catalog });
      opened.push(parts.chunks);
      const stored = catalog.state();
      if (stored !== null) parts.refs.nextDatabaseId = stored.nextDatabaseId;
      loadCatalog(parts);
      const log = Log.open({
        storage,
        storeId: header.storeId,
        cipher,
        afterLsn: stored?.checkpointLsn ?? 0,
        segmentSize: resolved.logSegmentBytes,
        onRecord: (lsn, kind, payload) => applyRecord(parts, lsn, kind, payload),
      });
      return new Engine({
        description,
        options: resolved,
        lock,
        header,
        cipher,
        backend,
        claim,
        remote,
        opened,
        state: { ...parts, log },
        nextHistorySegment: Math.max(
          stored?.nextHistorySegment ?? 1,
          parts.history.nextSegmentNumber(),
        ),
      });
    } catch (error) {
      for (const part of opened.reverse()) part.close();
      lock.release();
      throw error;
    }
  }

  get isOpen(): boolean {
    return this.#phase.name !== "closed";
  }

  get header(): StoreHeader {
    return this.#header;
  }

  assertOpen(): void {
    if (this.#phase.name === "closed")
      throw new StoreError("STORE_CLOSED", `Cannot use store "${this.description}": it is closed`);
  }

  assertWritable(): void {
    this.assertOpen();
    const { failure } = this.state.log;
    if (this.#phase.name === "open" && failure !== null) this.#fail(failure);
    const { fenced } = this;
    if (fenced !== null) throw fenced;
    if (this.#phase.name === "failed")
      throw new StoreError(
        "STORE_FAILED",
        `Cannot write to store "${this.description}": an earlier write failed; open the store again`,
        { cause: this.#phase.cause },
      );
  }

  /** G3 in upload-service.ts. */
  fenced: StoreError | null = null;

  #openUploads(
    catalog: RecordingKeyValueStore,
    { client, options, replica }: OpenRemote,
    claim: Claim | null,
  ): void {
    const files = new UploadFiles({
      state: this.state,
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
      onFenced: (error) => (this.fenced ??= error),
    });
    this.uploads.notify();
  }

  /** Makes a change of names durable and applies it. */
  change(change: RefChange): void {
    this.assertWritable();
    if (mayChangeExpiry(change)) this.#nextExpiryMs = 0;
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
    if (this.options.isRemoteDurable) this.uploads?.waitSync(log.lastLsn);
  }

  /** Deletes the branches whose time has come; children keep theirs alive. */
  expireBranches(): void {
    const nowMs = this.options.now();
    if (nowMs < this.#nextExpiryMs || this.#phase.name !== "open") return;
    const due: { databaseId: number; branchId: number }[] = [];
    let next = Infinity;
    for (const database of this.state.refs.databases.values()) {
      const living = livingBranches(database);
      for (const branch of living) {
        const { id, expiresAtMs } = branch;
        if (expiresAtMs === null) continue;
        const isKept = living.some((row) => row.parentBranchId === id) || this.#isWritten(branch);
        if (expiresAtMs > nowMs || isKept) next = Math.min(next, Math.max(expiresAtMs, nowMs));
        else due.push({ databaseId: database.row.id, branchId: id });
      }
    }
    this.#nextExpiryMs = next;
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

  #isWritten(branch: BranchRow): boolean {
    const database = this.state.databases.get(branch.databaseId);
    return database?.timelines.get(currentTimelineId(branch))?.writer != null;
  }

  /** Puts the pages of a large transaction into chunks; they are durable when the commit's record is. */
  stage(pages: ReadonlyMap<number, Uint8Array>, pageSize: number): Map<number, ChunkReference> {
    this.assertWritable();
    const staged = new Map<number, ChunkReference>();
    const writer = newPageWriter(this.state, pageSize);
    this.#orFail(() => {
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

  /**
   * A step of background work on what checkpoints leave: none is under way meanwhile. Failing leaves the store failed. Reads wait
   * for what is not local.
   */
  maintain<T>(step: () => T): T {
    this.assertWritable();
    this.#checkpoints.finish();
    return this.#orFail(step);
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
    const header = { ...this.#header, encryption: ring.toJSON() };
    writeHeader(this.state.storage, header);
    this.#header = header;
    this.#cipher.ring = ring;
    this.state.log.rotate();
  }

  /** Of chunks and history made from now on, also after the store is opened again. Others are not touched. */
  setCompression(compression: Compression): void {
    this.assertWritable();
    requireCompression("Compression", compression);
    const header = { ...this.#header, compression };
    writeHeader(this.state.storage, header);
    this.#header = header;
    this.state.codec = codecOf(compression);
  }

  /** A checkpoint, then everything is closed and the lock is given back; also when something fails on the way. */
  close(): void {
    if (this.#phase.name === "closed") return;
    const steps: (() => void)[] = [
      () => {
        if (this.#phase.name === "open") this.#checkpointAtClose();
      },
      () => this.collector.abandon(),
      () => this.#uploadAtClose(),
      () => this.state.log.closeSync(),
      () => this.state.history.close(),
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
    try {
      if (this.#phase.name === "open" && this.fenced === null) uploads.flushSync();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
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

  /** Chunks are not written any more after a failure, so nothing else is either. */
  #orFail<T>(write: () => T): T {
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

interface OpenRemote {
  readonly client: RemoteClient;
  readonly options: ResolvedRemote;
  readonly replica: string;
}

/** Null when the store is not uploaded. Nothing is asked yet. */
function openRemote({ remote }: StoreHeader, resolved: ResolvedOptions): OpenRemote | null {
  if (remote === undefined) return null;
  const options = resolved.remote ?? resolveRemote(remote.url);
  return { client: options.connect(), options, replica: remote.replica };
}

/** The header with what was asked for, written if it is new. */
function withRemote(
  header: StoreHeader,
  remote: ResolvedRemote | null | undefined,
  storage: Storage,
): StoreHeader {
  if (remote === undefined || remote?.url === header.remote?.url) return header;
  const { remote: _, ...rest } = header;
  const replica = randomBytes(8).toString("hex");
  const changed = remote === null ? rest : { ...rest, remote: { url: remote.url, replica } };
  writeHeader(storage, changed);
  return changed;
}

/** Throws when the store is not uploaded. */
export function requireUploads({ uploads, description }: Engine): UploadService {
  if (uploads !== null) return uploads;
  throw new StoreError(
    "REMOTE_NOT_FOUND",
    `Cannot wait for object storage: store "${description}" is not uploaded; open it with "remote", or use "bough remote set"`,
  );
}

/** Whether a branch may now expire earlier than was known, or be free of the children that kept it. */
function mayChangeExpiry(change: RefChange): boolean {
  if (change.type === "create-branch") return change.expiresAtMs !== null;
  return change.type.endsWith("-branch") && change.type !== "rename-branch";
}

/** Refuses what is no store; creates the directory of a new one when asked to. */
function prepareDirectory(storage: Storage, description: string, create: boolean): void {
  let names: string[];
  try {
    names = storage.listSync("");
  } catch (cause) {
    if (isFile(cause))
      throw new StoreError(
        "STORE_IS_FILE",
        `Cannot open store "${description}": it is a file, a store is a directory; to bring a SQLite file in use "bough import"`,
        { cause },
      );
    throw cause;
  }
  if (names.includes(HEADER_FILE)) return;
  if (!create) throw storeNotFound(description);
  // Another process may be making the store now, or have been killed while it did.
  const foreign = names.filter((name) => !/^(?:lock(?:\..*)?|store\.json\..*)$/.test(name));
  if (foreign.length > 0)
    throw new StoreError(
      "STORE_NOT_FOUND",
      `Cannot open store "${description}": the directory holds other files, "${foreign[0]}" among them, and no "${HEADER_FILE}"`,
    );
  storage.makeDirectorySync("");
}

/** Whether the store's own path is a file, not a directory. */
function isFile(error: unknown): boolean {
  return error instanceof StoreError && error.details["systemCode"] === "ENOTDIR";
}

export function makeParts(given: {
  storage: Storage;
  storeId: Uint8Array;
  cipher: CurrentCipher | null;
  resolved: ResolvedOptions;
  catalog: Catalog;
}): StoreParts {
  const { storage, storeId, cipher, resolved, catalog } = given;
  const handles = new ChunkHandles();
  const chunks = ChunkStore.open({
    storage,
    storeId,
    cipher,
    handles,
    locate: (id) => locateChunk(parts, id),
    cacheBytesMax: resolved.cacheBytesMax,
  });
  const pageMap = new PageMap({
    source: { load: (id) => catalog.node(id) },
    handles,
    cipher,
  });
  const parts: StoreParts = {
    storage,
    storeId,
    cipher,
    codec: codecOf(resolved.compression ?? "lz4"),
    chunkPages: resolved.chunkPages,
    catalog,
    handles,
    chunks,
    pageMap,
    pending: new PendingPages(),
    barrier: new WriteBarrier(),
    holders: new Set(),
    history: new HistoryFiles({ storage, storeId, cipher }),
    refs: emptyRefState(),
    databases: new Map(),
    changedRefs: new ChangedRefs(),
  };
  return parts;
}
