/**
 * A store in object storage, read by somebody else than its writer.
 *
 *   manifest -> runs of the catalog, read lazily    slices since -> log segments in the directory -> records applied
 *   every `pollIntervalMs`: new slices are applied; with a new manifest the state is made anew and takes the place of the old
 *
 * W1. A state consists of one manifest and the slices after it. A transaction reads from the state that it began with, to its
 *     end, and so one version of everything; later ones read from the newest.
 * W2. What the follower shows is what the writer had at some moment, and never goes back.
 * W3. A reader's object in object storage names the oldest manifest that is in use here; what that names is not deleted.
 */
import { randomBytes } from "node:crypto";
import { RunReader } from "../catalog/run-reader.ts";
import { RunsKeyValueStore } from "../catalog/run-key-value.ts";
import { applyRecord } from "../checkpoint/recovery.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import type { CurrentCipher } from "../encryption/current-cipher.ts";
import { InvariantError, StoreError } from "../errors.ts";
import { writeEmptySegment } from "../log/empty-segment.ts";
import { type LogPosition, LogTail } from "../log/log-tail.ts";
import { LOG_DIRECTORY, listSegments } from "../log/segment-files.ts";
import { readManifest } from "../remote/claim.ts";
import { LogAssembly, readSlices } from "../remote/download.ts";
import type { LogSlice } from "../remote/log-slice.ts";
import type { Manifest } from "../remote/manifest.ts";
import type { RemoteConnection } from "../remote/remote-connection.ts";
import { HISTORY_PREFIX, PACK_PREFIX, readerKey } from "../remote/remote-keys.ts";
import {
  listObjects,
  putObject,
  type RemoteProcedure,
  runAsync,
  runSync,
} from "../remote/remote-steps.ts";
import { readFetching, waiting } from "../storage/not-local.ts";
import type { Storage } from "../storage/storage.ts";
import type { PageHolder } from "../transaction/tracer.ts";
import { endsBefore } from "./fill-directory.ts";
import type { LazyStoreStorage } from "./lazy-store.ts";
import { openState } from "./open-state.ts";
import { remoteNotFound, type RemoteFile, remoteFiles, RemoteObjects } from "./remote-objects.ts";
import type { StoreHeader } from "./store-header.ts";
import type { ResolvedOptions } from "./store-options.ts";

/** How often the reader's object is renewed, in milliseconds; it counts for ten minutes. */
const RENEWAL_MS = 60_000;

export interface FollowerStatus {
  readonly url: string;
  readonly manifestNumber: number;
  /** The last record that is shown. */
  readonly lsn: number;
  /** When object storage was last asked; everything that was there by then is shown. */
  readonly checkedAt: Date;
  /** Milliseconds since then: no change older than this is missing. */
  readonly lagMs: number;
  /** Null: the last time was answered. */
  readonly lastError: string | null;
  /** Of object storage, since the store was opened. */
  readonly requests: number;
  /** Of packs, history and catalog, since then. */
  readonly fetchedBytes: number;
}

/** What object storage has: read in one go, then made a state without asking again but for pages. */
interface Image {
  readonly manifest: Manifest;
  readonly files: readonly RemoteFile[];
  readonly slices: readonly LogSlice[];
}

export interface FollowerOptions {
  readonly url: string;
  readonly client: RemoteConnection;
  readonly local: Storage;
  readonly lazy: LazyStoreStorage;
  readonly header: StoreHeader;
  readonly cipher: CurrentCipher | null;
  /** The keys in the text of a header, with the master key that was given. */
  readonly openKeys: (header: string) => CurrentCipher | null;
  readonly resolved: ResolvedOptions;
}

interface FollowedState {
  readonly state: StoreState;
  readonly manifest: Manifest;
}

export class Follower {
  readonly #options: FollowerOptions;
  readonly #reader = randomBytes(8).toString("hex");
  #current: FollowedState | null = null;
  /** States that transactions may still read from. */
  #older: FollowedState[] = [];
  #position: LogPosition = { segment: 1, offset: 0 };
  #nextSequence = 1;
  #lsn = 0;
  #checkedMs = 0;
  #renewedMs = -Infinity;
  #renewedNumber = 0;
  #lastError: Error | null = null;
  #refreshing: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  /** The slices end before the checkpoint: what follows them is put together from all of them again. */
  #isDetached = false;
  readonly #holders: Set<PageHolder> = new Set();
  #lastFiles: readonly RemoteFile[] = [];
  #shown: readonly RemoteFile[] = [];
  readonly #abort = new AbortController();
  #pauses = 0;
  /** The text whose keys the cipher has. */
  #header: string | null = null;
  /** Gets each new state. */
  onState: (state: StoreState) => void = () => {};

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  get status(): FollowerStatus {
    const { url, resolved } = this.#options;
    return {
      url,
      manifestNumber: this.#require().manifest.number,
      lsn: this.#lsn,
      checkedAt: new Date(this.#checkedMs),
      lagMs: Math.max(0, resolved.now() - this.#checkedMs),
      lastError: this.#lastError?.message ?? null,
      requests: this.#options.client.requestCount,
      fetchedBytes: this.#options.lazy.storage.statistics().bytes,
    };
  }

  /** The first state; the thread waits. */
  openSync(timeoutMs: number): StoreState {
    const { client, resolved } = this.#options;
    const startMs = resolved.now();
    const image = runSync(this.#readImage(), client, { timeoutMs });
    const state = waiting(() => this.#makeState(image), { timeoutMs });
    this.#adopt(image, state);
    this.#checkedMs = startMs;
    this.#schedule();
    return state;
  }

  /** Shows what is in object storage now. */
  async refresh(): Promise<void> {
    // One that runs already has perhaps asked before what the caller knows of was stored.
    if (this.#refreshing !== null) await this.#refreshing.catch(() => {});
    this.#refreshing ??= this.#tryRefresh();
    await this.#refreshing;
  }

  async #tryRefresh(): Promise<void> {
    try {
      await this.#refresh();
      this.#lastError = null;
    } catch (error) {
      this.#lastError = error instanceof Error ? error : new Error(String(error));
      throw error;
    } finally {
      this.#refreshing = null;
    }
  }

  /**
   * Goes on showing the state of now until the result is disposed of, for work that needs long for all of it, such as a check. What it
   * reads is kept in object storage meanwhile (W3).
   */
  async pause(): Promise<Disposable> {
    this.#pauses++;
    let isPaused = true;
    // One that is under way ends first.
    await this.#refreshing?.catch(() => {});
    return {
      [Symbol.dispose]: () => {
        if (isPaused) this.#pauses--;
        isPaused = false;
      },
    };
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#abort.abort(new StoreError("STORE_CLOSED", "Cannot follow: the store is closed"));
    this.#refreshing?.catch(() => {});
  }

  #schedule(): void {
    if (this.#abort.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.refresh()
        .catch(() => {}) // Kept as `lastError`; tried again.
        .finally(() => this.#schedule());
    }, this.#options.resolved.pollIntervalMs);
    this.#timer.unref();
  }

  async #refresh(): Promise<void> {
    const { client, resolved } = this.#options;
    const { signal } = this.#abort;
    const startMs = resolved.now();
    if (this.#pauses > 0) return await this.#tryRenew();
    const { manifest } = this.#require();
    const stored = await runAsync(readManifest(), client, signal);
    if (stored === null) throw remoteNotFound(this.#options.url);
    const isSame = sameRuns(stored.manifest, manifest);
    if (isSame) this.#showManifest(stored.manifest);
    const slices = isSame ? await runAsync(readSlices(this.#nextSequence), client, signal) : [];
    const mustRead = !isSame || (this.#isDetached && slices.length > 0);
    if (mustRead || !(await this.#applySlices(slices))) {
      const image = await runAsync(this.#readImage(), client, signal);
      const state = await readFetching(() => this.#makeState(image), { signal });
      if (signal.aborted) throw signal.reason;
      this.#adopt(image, state);
      this.onState(state);
    }
    this.#checkedMs = startMs;
    await this.#tryRenew();
  }

  async #tryRenew(): Promise<void> {
    await runAsync(this.#renew(), this.#options.client, this.#abort.signal).catch(
      (error: unknown) => {
        // Who may only read has the time of grace.
        if (!(error instanceof StoreError && error.code === "REMOTE_DENIED")) throw error;
      },
    );
  }

  /** Of the same catalog: what an older one named and this does not is not needed here either (W3). */
  #showManifest(manifest: Manifest): void {
    this.#takeKeys(manifest);
    this.#current = { ...this.#require(), manifest };
  }

  /** Records and runs may be sealed with keys that were made since. Throws KEY_WRONG when the master key has been changed. */
  #takeKeys({ header }: Manifest): void {
    if (header === this.#header) return;
    const { cipher, openKeys } = this.#options;
    const fresh = openKeys(header);
    if (cipher !== null && fresh !== null) cipher.ring = fresh.ring;
    this.#header = header;
  }

  /** The slices from `logStart` on are those of this manifest: with one that came meanwhile they may begin or go on elsewhere. */
  *#readImage(): RemoteProcedure<Image> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const stored = yield* readManifest();
      if (stored === null) throw remoteNotFound(this.#options.url);
      const { manifest } = stored;
      const listed = new Map<string, number>();
      const slices = yield* readSlices(manifest.logStart);
      // After the slices: their records refer to packs that were stored before them.
      for (const prefix of [PACK_PREFIX, HISTORY_PREFIX])
        for (const { key, size } of yield* listObjects(prefix)) listed.set(key, size);
      const after = yield* readManifest();
      if (after?.manifest.logStart === manifest.logStart)
        return { manifest, files: remoteFiles(manifest, listed), slices };
    }
    throw unsettled(this.#options.url);
  }

  /** May be repeated: it begins from nothing each time. */
  #makeState({ manifest, files, slices }: Image): StoreState {
    const { local, lazy, header, cipher, resolved } = this.#options;
    const { storage } = lazy;
    this.#takeKeys(manifest);
    this.#setObjects(manifest, files);
    const runs = manifest.runs.map(({ key }) =>
      RunReader.open(storage.openFileSync(key, { mode: "read" }), {
        storeId: header.storeId,
        cipher,
      }),
    );
    for (const name of local.listSync(LOG_DIRECTORY)) local.deleteSync(`${LOG_DIRECTORY}/${name}`);
    const { checkpointLsn } = manifest;
    const isBehind = endsBefore(slices, checkpointLsn);
    this.#isDetached = isBehind;
    const log = new LogAssembly(local);
    if (!isBehind) for (const slice of slices) log.add(slice);
    log.finish();
    const hasSegments = !isBehind && slices.some(({ pieces }) => pieces.length > 0);
    if (!hasSegments && checkpointLsn > 0)
      writeEmptySegment(local, {
        storeId: header.storeId,
        lsn: checkpointLsn,
        now: resolved.now(),
      });
    const catalog = new RunsKeyValueStore(runs);
    const holders = this.#holders;
    return openState({ storage, header, cipher, resolved, catalog, holders }).state;
  }

  #adopt({ manifest, slices }: Image, state: StoreState): void {
    if (this.#current !== null) this.#older.push(this.#current);
    this.#current = { state, manifest };
    this.#lsn = state.log.lastLsn;
    this.#nextSequence = (slices.at(-1)?.sequence ?? manifest.logStart - 1) + 1;
    const tail = this.#tail();
    // Where the records end that the state has been made of.
    const first = listSegments(this.#options.local)[0]?.number ?? 1;
    this.#position = { segment: first, offset: 0 };
    for (const _ of this.#records(tail)) continue;
  }

  /** False: the log goes on elsewhere, after a checkpoint that the next manifest has. */
  async #applySlices(slices: readonly LogSlice[]): Promise<boolean> {
    if (slices.length === 0) return true;
    const firstLsn = slices.find((slice) => slice.firstLsn > 0)?.firstLsn ?? 0;
    if (firstLsn > this.#lsn + 1) return false;
    await this.#showNewPacks();
    const log = new LogAssembly(this.#options.local);
    for (const slice of slices) log.add(slice);
    log.finish();
    this.#nextSequence = slices.at(-1)!.sequence + 1;
    const { state } = this.#require();
    // In one turn: queries see all of it or nothing.
    for (const { lsn, kind, payload } of this.#records(this.#tail())) {
      if (lsn <= this.#lsn) continue;
      if (lsn !== this.#lsn + 1) return false;
      waiting(() => applyRecord(state, lsn, kind, payload));
      this.#lsn = lsn;
    }
    return slices.every(({ lastLsn }) => lastLsn <= this.#lsn);
  }

  /** Records may refer to packs that were stored since. */
  async #showNewPacks(): Promise<void> {
    const { client } = this.#options;
    const { manifest } = this.#require();
    const { signal } = this.#abort;
    const listed = new Map<string, number>();
    for (const prefix of [PACK_PREFIX, HISTORY_PREFIX])
      for (const { key, size } of await runAsync(listObjects(prefix), client, signal))
        listed.set(key, size);
    this.#setObjects(manifest, remoteFiles(manifest, listed));
  }

  /** Those of older states stay while these are read from. */
  #setObjects(manifest: Manifest, files: readonly RemoteFile[]): void {
    if (this.#older.length === 0) this.#shown = this.#current === null ? [] : this.#lastFiles;
    const runs = manifest.runs.map(({ key, size }) => ({ path: key, key, size }));
    this.#lastFiles = [...files, ...runs];
    // The newest first: a writer that was fenced off may have stored others of the same numbers.
    const objects = new RemoteObjects([...this.#lastFiles, ...this.#shown]);
    this.#shown = objects.files(); // Without those that newer ones hide: a state may be read from for days.
    this.#options.lazy.storage.setObjects(objects);
  }

  #tail(): LogTail {
    const { local, header, cipher } = this.#options;
    return new LogTail({ storage: local, storeId: header.storeId, cipher });
  }

  /** The records after the position, which moves past them. */
  *#records(tail: LogTail): ReturnType<LogTail["records"]> {
    return (this.#position = yield* tail.records(this.#position));
  }

  /** W3. */
  *#renew(): RemoteProcedure<void> {
    const { resolved } = this.#options;
    this.#older = this.#older.filter(isInUse);
    const number = (this.#older[0] ?? this.#require()).manifest.number;
    const isFresh = resolved.now() - this.#renewedMs < RENEWAL_MS;
    if (isFresh && number === this.#renewedNumber) return;
    yield* putObject(readerKey(this.#reader, number), new TextEncoder().encode("bough reader\n"));
    if (this.#renewedNumber !== 0 && this.#renewedNumber !== number)
      yield { type: "delete", keys: [readerKey(this.#reader, this.#renewedNumber)] };
    this.#renewedMs = resolved.now();
    this.#renewedNumber = number;
  }

  #require(): FollowedState {
    if (this.#current === null) throw new InvariantError("A follower has a state");
    return this.#current;
  }
}

const ATTEMPTS_MAX = 10;

function unsettled(url: string): StoreError {
  return new StoreError(
    "REMOTE_UNAVAILABLE",
    `Cannot read "${url}": its writer stored checkpoints faster than they were read, ${ATTEMPTS_MAX} times; try again`,
    { retryable: true },
  );
}

/** Whether both name the same catalog: then only the log has gone on. */
function sameRuns(left: Manifest, right: Manifest): boolean {
  return (
    left.writer.epoch === right.writer.epoch &&
    left.checkpointLsn === right.checkpointLsn &&
    left.runs.length === right.runs.length &&
    left.runs.every(({ key }, index) => key === right.runs[index]!.key)
  );
}

/** Whether a transaction, or a connection on a fixed version, reads from the state. */
function isInUse({ state }: FollowedState): boolean {
  const contexts = new Set([...state.databases.values()].map(({ context }) => context));
  for (const holder of state.holders) if (holds(holder, contexts)) return true;
  return false;
}

function holds(holder: PageHolder, contexts: ReadonlySet<object>): boolean {
  const context = holder.heldContext?.();
  return context != null && contexts.has(context);
}
