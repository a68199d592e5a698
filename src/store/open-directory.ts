/**
 * Opens what a store consists of, in a directory: lock, header, key, catalog, log. What a crash or an earlier failure left behind
 * is settled here.
 */
import { randomBytes } from "node:crypto";
import {
  type Backend,
  deleteOtherCatalogs,
  isCatalogThere,
  openBackend,
} from "../catalog/backends.ts";
import { RecordingKeyValueStore } from "../catalog/recording-key-value.ts";
import type { CurrentCipher } from "../encryption/current-cipher.ts";
import { KeyRing } from "../encryption/key-ring.ts";
import { StoreError } from "../errors.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import type { Claim } from "../remote/claim.ts";
import type { RemoteConnection } from "../remote/remote-connection.ts";
import { PACK_DIRECTORY } from "../page/pack-format.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import { acquireStoreLock, type StoreLock } from "../storage/store-lock.ts";
import type { Follower } from "./follower.ts";
import { openLazyStorage } from "./lazy-store.ts";
import { openState } from "./open-state.ts";
import { readRemoteObjects, REMOTE_OBJECTS_FILE } from "./remote-objects.ts";
import { type ResolvedRemote, resolveRemote } from "./remote-options.ts";
import { HEADER_FILE, readHeader, type StoreHeader, writeHeader } from "./store-header.ts";
import { givenMasterKey, openCipher } from "./store-key.ts";
import {
  type ResolvedOptions,
  resolveOptions,
  storeNotFound,
  type StoreOptions,
} from "./store-options.ts";

export interface OpenedStore {
  readonly description: string;
  readonly options: ResolvedOptions;
  readonly lock: StoreLock;
  readonly header: StoreHeader;
  readonly cipher: CurrentCipher | null;
  /** Null for a follower. */
  readonly backend: RecordingKeyValueStore | null;
  readonly follower: Follower | null;
  readonly claim: Claim | null;
  readonly remote: OpenRemote | null;
  /** To be closed in the reverse order. */
  readonly opened: readonly { close(): void }[];
  readonly state: StoreState;
  readonly nextHistorySegment: number;
}

/** `claim`: of the place in object storage that the directory was filled from. */
export function openDirectory(
  path: string,
  options: StoreOptions,
  claim: Claim | null,
): OpenedStore {
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
    const remote = openRemote(header, resolved, local);
    if (remote !== null) opened.push(remote.client);
    const objects = remote === null ? null : readRemoteObjects(local);
    if (remote !== null && objects !== null) {
      const cacheBytesMax = resolved.diskCacheBytesMax;
      const lazy = openLazyStorage(local, remote.client, {
        storeId: header.storeId,
        objects,
        cacheBytesMax,
      });
      opened.push(lazy);
      ({ storage } = lazy);
    }
    resolved = { ...resolved, compression: resolved.compression ?? header.compression ?? null };
    const cipher = openCipher(header, master, options);
    refuseLostCatalog(header.backend, local);
    deleteOtherCatalogs(header.backend, storage);
    const backend = new RecordingKeyValueStore(openBackend(header.backend, storage));
    opened.push(backend);
    const state = openState({ storage, header, cipher, resolved, catalog: backend });
    return {
      description,
      options: resolved,
      lock,
      header,
      cipher,
      backend,
      follower: null,
      claim,
      remote,
      opened,
      ...state,
    };
  } catch (error) {
    for (const part of opened.reverse()) part.close();
    lock.release();
    throw error;
  }
}

export interface OpenRemote {
  readonly client: RemoteConnection;
  readonly options: ResolvedRemote;
  readonly replica: string;
  /** Without what is in object storage only. */
  readonly local: Storage;
}

/** Null when the store is not uploaded. Nothing is asked yet. */
function openRemote(
  { remote }: StoreHeader,
  resolved: ResolvedOptions,
  local: Storage,
): OpenRemote | null {
  if (remote === undefined || remote.url === null) return null;
  const options = resolved.remote ?? resolveRemote(remote.url);
  return { client: options.connect(), options, replica: remote.replica, local };
}

/**
 * The header with what was asked for, written if it is new. The replica stays: a store whose upload was ended goes on at the same
 * place later.
 */
function withRemote(
  header: StoreHeader,
  remote: ResolvedRemote | null | undefined,
  storage: Storage,
): StoreHeader {
  const known = header.remote?.url ?? null;
  const url = remote === undefined ? known : (remote?.url ?? null);
  if (url === known) return header;
  if (storage.existsSync(REMOTE_OBJECTS_FILE))
    throw new StoreError(
      "REMOTE_CONFLICT",
      `Cannot change where the store uploads to: it has pages that are in "${known}" only; make a full copy with "bough restore-store"`,
    );
  const replica = header.remote?.replica ?? randomBytes(8).toString("hex");
  const changed = { ...header, remote: { url, replica } };
  writeHeader(storage, changed);
  return changed;
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

/**
 * An empty catalog must not take the place of one that is lost: all that the packs hold would count as garbage. The file of
 * the memory backend is made by the first checkpoint only, the others before the first pack.
 */
function refuseLostCatalog(backend: Backend, storage: Storage): void {
  if (backend === "memory" || isCatalogThere(backend, storage)) return;
  if (storage.listSync(PACK_DIRECTORY).length === 0) return;
  throw new StoreError(
    "CORRUPT_CATALOG",
    `Cannot open the catalog: its files for "${backend}" are missing; run "bough check", or restore a copy`,
  );
}
