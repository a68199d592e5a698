/**
 * Uploads an open store in the background, and lets callers wait for it.
 *
 *   idle --something is durable here and not there--> pumping --all is there--> idle
 *   pumping --object storage fails--> waiting, longer each time--> pumping        any --another writer--> fenced
 *
 * G1. Commits wait only with durability "remote". A failure of object storage delays uploads, nothing else.
 * G2. One procedure at a time works on the uploader. A call that waits on its thread ends the one in the background first,
 *     which loses nothing (I3 in uploader.ts).
 * G3. A store that another writer has taken over takes no more commits.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { StoreError } from "../errors.ts";
import type { Claim } from "../remote/claim.ts";
import { collectRemote, type RemoteGarbageReport } from "../remote/remote-garbage.ts";
import {
  type RemoteAccess,
  type RemoteProcedure,
  runAsync,
  runSync,
} from "../remote/remote-steps.ts";
import { Uploader, type UploadStatistics } from "../remote/uploader.ts";
import type { ResolvedRemote } from "./remote-options.ts";
import type { UploadFiles } from "./upload-files.ts";

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 30_000;
/** What is not needed any more is looked for after a checkpoint, when the last time is so long ago, or a quarter of the grace. */
const COLLECTION_MS_MIN = 10 * 60_000;

export interface UploadStatus {
  readonly url: string;
  readonly state: "idle" | "uploading" | "failing" | "fenced";
  /** Records up to this LSN are in object storage, of how many that are durable here. */
  readonly uploadedLsn: number;
  readonly durableLsn: number;
  /** Null: nothing has been stored, or nothing asked yet. */
  readonly manifestNumber: number | null;
  readonly lastError: string | null;
  readonly statistics: Readonly<UploadStatistics>;
}

export interface UploadOptions {
  /** Ends it with the signal's reason; what has gone up, or was deleted, stays so. */
  readonly signal?: AbortSignal | undefined;
}

export class UploadService {
  readonly #client: RemoteAccess;
  readonly #files: UploadFiles;
  readonly #uploader: Uploader;
  readonly #options: ResolvedRemote;
  readonly #onFenced: (error: StoreError) => void;
  #timer: NodeJS.Timeout | null = null;
  #running: { readonly promise: Promise<void>; readonly abort: AbortController } | null = null;
  #lastError: Error | null = null;
  #retryMs = 0;
  #lastCheckpointMs = 0;
  #uploadedCheckpointLsn = 0;
  #lastCollectionMs: number = performance.now();
  #isClosed = false;

  constructor(given: {
    client: RemoteAccess;
    files: UploadFiles;
    options: ResolvedRemote;
    writerName: string;
    claim: Claim | null;
    onFenced: (error: StoreError) => void;
  }) {
    const { options, files, claim } = given;
    this.#client = given.client;
    this.#files = files;
    this.#options = options;
    this.#onFenced = given.onFenced;
    this.#uploader = new Uploader({
      source: files,
      writerName: given.writerName,
      random: Uint8Array.from(randomBytes(8)),
      graceMs: options.graceMs,
      ...(claim === null ? {} : { claim }),
    });
  }

  get status(): UploadStatus {
    const { uploadedLsn, fenced, statistics, manifest } = this.#uploader;
    const failing = this.#lastError === null ? "idle" : "failing";
    return {
      url: this.#options.url,
      state: fenced !== null ? "fenced" : this.#running !== null ? "uploading" : failing,
      uploadedLsn,
      durableLsn: this.#files.durableLsn,
      manifestNumber: manifest?.number ?? null,
      lastError: this.#lastError?.message ?? null,
      statistics,
    };
  }

  /** Something may have to go up: within the interval it will. */
  notify(): void {
    if (this.#timer !== null || this.#running !== null || this.#isClosed) return;
    if (this.#uploader.fenced !== null) return;
    const delay = Math.max(this.#options.flushIntervalMs, this.#retryMs);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#pump().catch(() => {}); // Kept as `lastError`; tried again.
    }, delay);
    this.#timer.unref();
  }

  /** Resolves when the record is in object storage. */
  async wait(lsn: number): Promise<void> {
    const until = performance.now() + this.#options.timeoutMs;
    while (this.#uploader.uploadedLsn < lsn) {
      if (this.#isClosed) throw closed();
      try {
        await this.#pump();
      } catch (error) {
        if (error instanceof GivenUp) continue;
        const isRetryable = error instanceof StoreError && error.retryable;
        const leftMs = until - performance.now();
        if (!isRetryable || leftMs <= 0) throw error;
        await pause(Math.min(this.#retryMs, leftMs));
      }
    }
  }

  /** The same while the thread waits. */
  waitSync(lsn: number): void {
    if (this.#uploader.uploadedLsn < lsn) this.#runSync(this.#uploader.uploadLog());
  }

  /** Brings up everything that is durable here. */
  async flush({ signal }: UploadOptions = {}): Promise<void> {
    await this.#take((uploader) => uploader.uploadAll(), signal);
  }

  flushSync(timeoutMs?: number): void {
    this.#runSync(this.#uploader.uploadAll(), timeoutMs);
  }

  /** Deletes objects that are not needed any more; see remote-garbage.ts. */
  async collect({
    graceMs = this.#options.graceMs,
    signal,
  }: UploadOptions & { readonly graceMs?: number } = {}): Promise<RemoteGarbageReport> {
    return await this.#take((uploader) => collectRemote(uploader, this.#files, graceMs), signal);
  }

  collectSync(): RemoteGarbageReport {
    return this.#runSync(collectRemote(this.#uploader, this.#files, this.#options.graceMs));
  }

  /** Ends the work in the background. What is not uploaded stays here, and goes up when the store is opened again. */
  close(): void {
    this.#isClosed = true;
    this.#stop();
  }

  #isCheckpointDue(): boolean {
    const state = this.#files.catalogState();
    if (state === null || !this.#uploader.hasWork) return false;
    if (state.checkpointLsn !== this.#uploadedCheckpointLsn) return true;
    return performance.now() - this.#lastCheckpointMs > this.#options.manifestIntervalMs;
  }

  #pump(): Promise<void> {
    if (this.#running !== null) return this.#running.promise;
    const isDue = this.#isCheckpointDue();
    return this.#start(isDue ? this.#uploadAll() : this.#uploader.uploadLog());
  }

  *#uploadAll(): RemoteProcedure<void> {
    const checkpointLsn = this.#files.catalogState()?.checkpointLsn ?? 0;
    yield* this.#uploader.uploadAll();
    this.#uploadedCheckpointLsn = checkpointLsn;
    this.#lastCheckpointMs = performance.now();
    // A checkpoint is what leaves something behind.
    const { graceMs } = this.#options;
    if (performance.now() - this.#lastCollectionMs < Math.max(graceMs / 4, COLLECTION_MS_MIN))
      return;
    yield* collectRemote(this.#uploader, this.#files, graceMs);
    this.#lastCollectionMs = performance.now();
  }

  #start(procedure: RemoteProcedure<void>): Promise<void> {
    const abort = new AbortController();
    const promise = runAsync(procedure, this.#client, abort.signal).then(
      () => this.#ended(abort, null),
      (error: unknown) => {
        this.#ended(abort, error);
        throw error;
      },
    );
    this.#running = { promise, abort };
    return promise;
  }

  #ended(abort: AbortController, error: unknown): void {
    if (this.#running?.abort !== abort) return;
    this.#running = null;
    this.#settle(error);
    if (error !== null || this.#hasNew()) this.notify();
  }

  /** Whether there is more than what waits for its time. */
  #hasNew(): boolean {
    return this.#files.durableLsn > this.#uploader.uploadedLsn || this.#isCheckpointDue();
  }

  #settle(error: unknown): void {
    this.#lastError = error instanceof Error ? error : null;
    this.#retryMs =
      error === null ? 0 : Math.min(RETRY_MS_MAX, Math.max(RETRY_MS_MIN, this.#retryMs * 2));
    const { fenced } = this.#uploader;
    if (fenced !== null) this.#onFenced(fenced);
  }

  /** Waits for the one at work, then runs another; again when a call that could not wait has ended it. */
  async #take<T>(
    make: (uploader: Uploader) => RemoteProcedure<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    for (;;) {
      while (this.#running !== null) await untilEnded(this.#running.promise, signal);
      signal?.throwIfAborted();
      if (this.#isClosed) throw closed();
      const results: T[] = [];
      const procedure = make(this.#uploader);
      try {
        await this.#start(untilAborted(procedure, signal, (result) => results.push(result)));
        if (results.length === 0) signal?.throwIfAborted();
        return results[0]!;
      } catch (error) {
        if (!(error instanceof GivenUp)) throw error;
      }
    }
  }

  #runSync<T>(procedure: RemoteProcedure<T>, timeoutMs: number = this.#options.timeoutMs): T {
    if (this.#isClosed) throw closed();
    this.#stop();
    try {
      const result = runSync(procedure, this.#client, { timeoutMs });
      this.#settle(null);
      return result;
    } catch (error) {
      this.#settle(error);
      throw error;
    } finally {
      if (this.#uploader.fenced === null && this.#hasNew()) this.notify();
    }
  }

  #stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const running = this.#running;
    this.#running = null;
    running?.promise.catch(() => {});
    running?.abort.abort(new GivenUp());
  }
}

/** Ends between two requests when the signal is aborted, without a result: that is no failure of the upload, which goes on in the background. */
function* untilAborted<T>(
  procedure: RemoteProcedure<T>,
  signal: AbortSignal | undefined,
  take: (result: T) => void,
): RemoteProcedure<void> {
  try {
    let step = procedure.next();
    while (step.done !== true) {
      let answer: unknown;
      try {
        answer = yield step.value;
      } catch (error) {
        if (signal?.aborted === true && !(error instanceof GivenUp)) return;
        step = procedure.throw(error);
        continue;
      }
      if (signal?.aborted === true) return;
      step = procedure.next(answer);
    }
    take(step.value);
  } finally {
    procedure.return(undefined as never); // It closes what it has open.
  }
}

/** However it ended; throws the signal's reason when that is aborted earlier. */
async function untilEnded(promise: Promise<void>, signal?: AbortSignal): Promise<void> {
  const ended = promise.catch(() => {});
  if (signal === undefined) return await ended;
  signal.throwIfAborted();
  let leave = (): void => {};
  const aborted = new Promise<void>((resolve) => {
    leave = resolve;
    signal.addEventListener("abort", leave);
  });
  await Promise.race([ended, aborted]);
  signal.removeEventListener("abort", leave);
}

/** Ends work in the background; nobody outside gets to see it. */
class GivenUp extends Error {
  override readonly name = "GivenUp";

  constructor() {
    super("The upload was given up for another call");
  }
}

function closed(): StoreError {
  return new StoreError("STORE_CLOSED", "Cannot upload: the store is closed");
}
