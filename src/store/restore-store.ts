/**
 * A full copy of a store out of object storage, on this machine and without ties to where it came from.
 *
 *   read the manifest --catalog, log, packs, history--> directory --store.json--> a store --verify--> done
 *
 * Y1. The writer there goes on undisturbed. A reader's object keeps what the copy needs from being deleted meanwhile.
 * Y2. The copy is checked as a whole before it is said to be good: every chunk, node and history block, and SQLite's own check
 *     of every head and tag.
 */
import { requireBoolean, requireOptions } from "../branch/option-names.ts";
import { randomBytes } from "node:crypto";
import { StoreError } from "../errors.ts";
import type { CheckProgress, CheckReport } from "../integrity/report.ts";
import { readManifest } from "../remote/claim.ts";
import { downloadFile } from "../remote/download.ts";
import type { RemoteConnection } from "../remote/remote-connection.ts";
import type { LogSlice } from "../remote/log-slice.ts";
import type { Manifest } from "../remote/manifest.ts";
import { HISTORY_PREFIX, PACK_PREFIX, readerKey } from "../remote/remote-keys.ts";
import { listObjects, putObject, type RemoteProcedure, runAsync } from "../remote/remote-steps.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import { acquireStoreLock, type StoreLock } from "../storage/store-lock.ts";
import { RESTORE_STORE_OPTIONS } from "./call-options.ts";
import { Engine } from "./engine.ts";
import { fillCatalog, fillLog } from "./fill-directory.ts";
import type { ByteProgress } from "./progress.ts";
import { type RemoteFile, remoteFiles, remoteNotFound } from "./remote-objects.ts";
import { type RemoteOptions, resolveRemote } from "./remote-options.ts";
import { moveBranches } from "./restore-to.ts";
import { SingleStore } from "./single-store.ts";
import { listStore } from "./store-directory.ts";
import { HEADER_FILE, parseHeader, type StoreHeader, writeHeader } from "./store-header.ts";
import { givenMasterKey, openCipher } from "./store-key.ts";
import type { StoreOptions } from "./store-options.ts";

export interface RestoreStoreOptions extends Pick<
  StoreOptions,
  "key" | "keyFile" | "environment" | "now"
> {
  /** How to reach object storage, where the URL does not say it all. */
  readonly remote?: Omit<RemoteOptions, "url">;
  /** Every database and branch becomes what it was at this time; or one branch what a revision was ("shop@120"). */
  readonly to?: Date | string;
  /** Skips Y2: the copy is only as good as what was read. True by default. */
  readonly verify?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ByteProgress) => void;
  readonly onCheckProgress?: (progress: CheckProgress) => void;
}

export interface RestoreStoreResult {
  readonly url: string;
  readonly directory: string;
  readonly databases: number;
  readonly files: number;
  readonly bytes: number;
  /** The last log record of the copy, and when its writer last stored something. */
  readonly lsn: number;
  readonly uploadedAt: Date;
  /** Branches that `to` has moved, and databases that it has brought back or deleted. */
  readonly moved: readonly string[];
  /** Null when it was not asked for. */
  readonly check: CheckReport | null;
}

const RENEWAL_MS = 60_000;
const ATTEMPTS_MAX = 10;
const FILES_AT_ONCE = 4;

/** Throws REMOTE_NOT_FOUND, FILE_EXISTS, KEY_*. A copy that fails its check is left for inspection; see the result. */
export async function restoreStore(
  url: string,
  directory: string,
  options: RestoreStoreOptions = {},
): Promise<RestoreStoreResult> {
  requireOptions("restoreStore", options, RESTORE_STORE_OPTIONS);
  requireBoolean("verify", options.verify);
  const storage = openNodeStorage(directory);
  const taken = listStore(storage, directory).find((name) => !name.startsWith("lock"));
  if (taken !== undefined)
    throw new StoreError(
      "FILE_EXISTS",
      `Cannot restore into "${directory}": it is not empty ("${taken}" is there); choose a new directory`,
    );
  // A URL that is none leaves no directory.
  const client = resolveRemote({ ...options.remote, url }).connect();
  let lock: StoreLock | null = null;
  let copied: Copied;
  try {
    storage.makeDirectorySync("");
    lock = acquireStoreLock(storage, { description: directory });
    const signal = options.signal ?? new AbortController().signal;
    copied = await new StoreCopy(storage, client, url, options, signal).run();
  } finally {
    client.close();
    lock?.release();
  }
  const { key, keyFile, environment, now } = options;
  const opening = { create: false, key, keyFile, environment, now };
  const given = Object.entries(opening).filter(([, value]) => value !== undefined);
  const store = new SingleStore(directory, Engine.open(directory, Object.fromEntries(given)));
  try {
    const lsn = store.engine.state.log.lastLsn;
    const moved = options.to === undefined ? [] : moveOrForget(store, storage, options.to);
    const { onCheckProgress } = options;
    const check =
      options.verify === false
        ? null
        : await store.check({
            deep: true,
            ...(onCheckProgress === undefined ? {} : { onProgress: onCheckProgress }),
          });
    const databases = store.databases().length;
    return { url, directory, databases, ...copied, lsn, moved, check };
  } finally {
    store.close();
  }
}

/** A copy that could not be taken back to where it was wanted is not left as if it had been. */
function moveOrForget(store: SingleStore, storage: Storage, to: Date | string): string[] {
  try {
    return moveBranches(store, to);
  } catch (error) {
    storage.deleteSync(HEADER_FILE);
    storage.syncDirectorySync("");
    throw error;
  }
}

interface Copied {
  readonly files: number;
  readonly bytes: number;
  readonly uploadedAt: Date;
}

class StoreCopy {
  readonly #storage: Storage;
  readonly #client: RemoteConnection;
  readonly #url: string;
  readonly #options: RestoreStoreOptions;
  readonly #signal: AbortSignal;
  readonly #reader = randomBytes(8).toString("hex");
  #renewedMs = -Infinity;
  #renewedNumber = 0;

  constructor(
    storage: Storage,
    client: RemoteConnection,
    url: string,
    options: RestoreStoreOptions,
    signal: AbortSignal,
  ) {
    this.#storage = storage;
    this.#client = client;
    this.#url = url;
    this.#options = options;
    this.#signal = signal;
  }

  async run(): Promise<Copied> {
    const storage = this.#storage;
    const { now = Date.now, remote: _remote, to: _to, ...keys } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const manifest = await this.#readManifest();
      const { remote: _, ...header } = parseHeader(manifest.header);
      const cipher = openCipher(header, givenMasterKey(keys), keys);
      await this.#renew(manifest.number);
      const filling = { storage, manifest, header, cipher, now };
      const slices = await this.#ask(fillLog(filling));
      // With a manifest that came meanwhile the log may begin or go on elsewhere.
      if ((await this.#readManifest()).logStart !== manifest.logStart) continue;
      await this.#ask(fillCatalog(filling));
      return await this.#copyFiles(manifest, header, slices);
    }
    throw new StoreError(
      "REMOTE_UNAVAILABLE",
      `Cannot restore "${this.#url}": its writer stored checkpoints faster than they were read, ${ATTEMPTS_MAX} times; try again`,
      { retryable: true },
    );
  }

  async #readManifest(): Promise<Manifest> {
    const stored = await this.#ask(readManifest());
    if (stored === null) throw remoteNotFound(this.#url);
    return stored.manifest;
  }

  async #copyFiles(
    manifest: Manifest,
    header: StoreHeader,
    slices: readonly LogSlice[],
  ): Promise<Copied> {
    const listed = new Map<string, number>();
    for (const prefix of [PACK_PREFIX, HISTORY_PREFIX])
      for (const { key, size } of await this.#ask(listObjects(prefix))) listed.set(key, size);
    for (const { key } of manifest.garbage) listed.delete(key);
    const files = remoteFiles(manifest, listed);
    const bytes = await this.#download(files, manifest.number);
    writeHeader(this.#storage, header);
    const uploadedAt = new Date(Math.max(manifest.atMs, slices.at(-1)?.atMs ?? 0));
    await this.#try(deleteObject(readerKey(this.#reader, manifest.number)));
    return { files: files.length, bytes, uploadedAt };
  }

  async #download(files: readonly RemoteFile[], manifestNumber: number): Promise<number> {
    const totalBytes = files.reduce((sum, { size }) => sum + size, 0);
    let bytes = 0;
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < files.length) {
        const { key, path, size } = files[next++]!;
        await this.#ask(downloadFile(this.#storage, key, path));
        bytes += size;
        this.#options.onProgress?.({ bytes, totalBytes });
        await this.#renew(manifestNumber);
      }
    };
    await Promise.all(Array.from({ length: FILES_AT_ONCE }, work));
    return totalBytes;
  }

  /** Y1. Who may only read has the time of grace. */
  async #renew(manifestNumber: number): Promise<void> {
    const isFresh = performance.now() - this.#renewedMs < RENEWAL_MS;
    if (isFresh && manifestNumber === this.#renewedNumber) return;
    this.#renewedMs = performance.now();
    this.#renewedNumber = manifestNumber;
    const body = new TextEncoder().encode("bough reader\n");
    await this.#try(putObject(readerKey(this.#reader, manifestNumber), body));
  }

  #ask<T>(procedure: RemoteProcedure<T>): Promise<T> {
    return runAsync(procedure, this.#client, this.#signal);
  }

  /** For what only helps: who may only read does without. */
  async #try(procedure: RemoteProcedure<unknown>): Promise<void> {
    try {
      await this.#ask(procedure);
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== "REMOTE_DENIED") throw error;
    }
  }
}

function* deleteObject(key: string): RemoteProcedure<void> {
  yield { type: "delete", keys: [key] };
}
