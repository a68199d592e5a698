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
import type { MasterKey } from "../encryption/master-key.ts";
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
import { checkPartitions, refusePartitionDirectory } from "./partition-files.ts";
import { readRemoteObjects, REMOTE_OBJECTS_FILE } from "./remote-objects.ts";
import { type ResolvedRemote, resolveRemote } from "./remote-options.ts";
import { listStore } from "./store-directory.ts";
import {
  HEADER_FILE,
  partitionCount,
  readHeader,
  type StoreHeader,
  writeHeader,
} from "./store-header.ts";
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
  readonly partition: PartitionPlace | null;
  /** To be closed in the reverse order. */
  readonly opened: readonly { close(): void }[];
  readonly state: StoreState;
  readonly nextHistorySegment: number;
}

/** `claim`: of the place in object storage that the directory was filled from. For a store with one partition. */
export function openDirectory(
  path: string,
  options: StoreOptions,
  claim: Claim | null,
): OpenedStore {
  const root = openRoot(path, options);
  try {
    refusePartitioned(root.header, `open store "${root.description}" this way`);
    return openParts({ ...root, claim, partition: null });
  } catch (error) {
    root.lock.release();
    throw error;
  }
}

/** A store as far as all its partitions share it. */
export interface OpenedRoot {
  readonly description: string;
  readonly local: Storage;
  readonly lock: StoreLock;
  readonly header: StoreHeader;
  readonly master: MasterKey | null;
  readonly cipher: CurrentCipher | null;
  readonly options: StoreOptions;
}

/** Takes the lock, reads the header or makes the store, and tries the key. */
export function openRoot(path: string, options: StoreOptions): OpenedRoot {
  const resolved = resolveOptions(options);
  const local = options.storage ?? openNodeStorage(path);
  const description = options.storage?.description ?? path;
  prepareDirectory(local, description, resolved.create);
  const lock = acquireStoreLock(local, { description });
  try {
    const master = givenMasterKey(options);
    // Asked under the lock: another process may have made the store meanwhile.
    const header = local.listSync("").includes(HEADER_FILE)
      ? readHeader(local)
      : makeHeader(local, resolved, master);
    checkPartitions(local, header);
    const cipher = openCipher(header, master, options);
    return { description, local, lock, header, master, cipher, options };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function makeHeader(
  storage: Storage,
  resolved: ResolvedOptions,
  master: MasterKey | null,
): StoreHeader {
  const header: StoreHeader = {
    storeId: Uint8Array.from(randomBytes(16)),
    createdAt: new Date(resolved.now()).toISOString(),
    backend: resolved.backend,
    encryption: master === null ? null : KeyRing.create(master).toJSON(),
    ...(resolved.compression === null ? {} : { compression: resolved.compression }),
  };
  writeHeader(storage, header);
  return header;
}

/** Which of a store's partitions an engine is; null: the only one. */
export interface PartitionPlace {
  readonly index: number;
  readonly count: number;
  /** The same object for all partitions of a store in this thread. */
  readonly store: object;
  /** The other partition that has a living database of that name; null: none. */
  readonly otherPartitionOf: (name: string) => number | null;
}

/** What an engine needs of its directory. The lock is the caller's until it returns. */
export function openParts(
  given: Omit<OpenedRoot, "master"> & {
    readonly claim: Claim | null;
    readonly partition: PartitionPlace | null;
  },
): OpenedStore {
  const { description, local, lock, cipher, options, claim, partition } = given;
  let resolved = resolveOptions(options);
  let storage = local;
  const opened: { close(): void }[] = [];
  try {
    const header = withRemote(given.header, resolved.remote, storage);
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
      partition,
      opened,
      ...state,
    };
  } catch (error) {
    for (const part of opened.reverse()) part.close();
    throw error;
  }
}

/** `action` is how the message goes on after "Cannot". */
export function refusePartitioned(header: StoreHeader, action: string): void {
  const count = partitionCount(header);
  if (count === 1) return;
  throw new StoreError("PARTITIONED", `Cannot ${action}: it has ${count} partitions`, {
    details: { partitions: count },
  });
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
  const names = listStore(storage, description);
  if (names.includes(HEADER_FILE)) return;
  refusePartitionDirectory(storage, names);
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
