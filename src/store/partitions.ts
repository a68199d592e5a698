/**
 * A store's partitions, for whoever opens them, in one thread or in several. One thread has the store: it takes the lock and writes
 * the header. Each partition is then opened from plain data that can be sent to another thread.
 *
 *   openPartitions --lock, header, more partitions, settle--> Partitions --partition(i)--> PartitionOptions --openPartition--> Store
 *
 * P1. `Partitions.close()` comes after every partition was closed: it gives the lock back.
 * P2. The header changes in one place: it is durable before any partition works by it. A partition that a crash keeps from learning
 *     of a new key goes on with the one before, which stays in the ring.
 * P3. Limits that are meant for the whole store are divided among the partitions (partitionSettings). Others hold for each.
 */
import { showOption } from "../branch/option-names.ts";
import { KeyRing } from "../encryption/key-ring.ts";
import { type MasterKey, parseMasterKey } from "../encryption/master-key.ts";
import { StoreError } from "../errors.ts";
import type { CheckProblem } from "../integrity/report.ts";
import { CurrentCipher } from "../encryption/current-cipher.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import type { StoreLock } from "../storage/store-lock.ts";
import { type Compression, requireCompression } from "./compression-option.ts";
import { Engine } from "./engine.ts";
import { settleHandOver } from "./hand-over.ts";
import { openParts, openRoot, type OpenedRoot } from "./open-directory.ts";
import { makePartition, partitionStorage } from "./partition-files.ts";
import { SingleStore } from "./single-store.ts";
import {
  headerText,
  parseHeader,
  partitionCount,
  PARTITIONS_MAX,
  type StoreHeader,
  writeHeader,
} from "./store-header.ts";
import { resolveOptions, type StoreOptions } from "./store-options.ts";

/** Plain data: what it takes to open one partition, in any thread. Holds the key of an encrypted store. */
export interface PartitionOptions {
  /** Of the store. */
  readonly path: string;
  readonly index: number;
  readonly count: number;
  /** The contents of store.json. */
  readonly header: string;
  /** The master key; null for a store that is not encrypted. */
  readonly key: Uint8Array | null;
  readonly settings: PartitionSettings;
}

/** Options of the store that are plain data and concern each partition, P3 done. */
export type PartitionSettings = Pick<
  StoreOptions,
  | "durability"
  | "compression"
  | "outcomeWindowMs"
  | "outcomesMax"
  | "cacheBytesMax"
  | "connectionBytesMax"
  | "checkpointBytes"
  | "checkpointIntervalMs"
  | "transactionBytesMax"
  | "logSegmentBytes"
  | "chunkPages"
  | "gc"
  | "gcRatio"
  | "scrubBytesPerSecond"
>;

/** Every one, so that the compiler misses none here. */
const SETTINGS: Readonly<Record<keyof PartitionSettings, true>> = {
  durability: true,
  compression: true,
  outcomeWindowMs: true,
  outcomesMax: true,
  cacheBytesMax: true,
  connectionBytesMax: true,
  checkpointBytes: true,
  checkpointIntervalMs: true,
  transactionBytesMax: true,
  logSegmentBytes: true,
  chunkPages: true,
  gc: true,
  gcRatio: true,
  scrubBytesPerSecond: true,
};

/** A checkpoint of less costs more than it frees. */
const CHECKPOINT_BYTES_MIN = 1024 * 1024;

/** What cannot be sent to another thread, and is given where the partition is opened. */
export interface PartitionSurroundings {
  readonly now?: () => number;
  readonly onDamage?: (problem: CheckProblem) => void;
  /** Of the store, for tests on a simulated disk. */
  readonly storage?: Storage;
  /** The same object for all partitions of a store in this thread: no transaction runs within another one's function. */
  readonly store?: object;
  /** The other partition that has a living database of that name; null: none. Asked when one is made, renamed or not found. */
  readonly otherPartitionOf?: (name: string) => number | null;
}

/** What partitions are told when the header has changed. Plain data. */
export interface HeaderChange {
  readonly header: string;
  /** The new master key; null when the keys are as before. */
  readonly key: Uint8Array | null;
}

/**
 * Takes the lock of the store, makes it when there is none (unless `create: false`), and adds empty partitions until there are
 * `count`. Throws PARTITIONED for a store that is, or would be, uploaded.
 */
export function openPartitions(
  path: string,
  options: StoreOptions,
  { count }: { readonly count: number },
): Partitions {
  requirePartitionCount(count);
  const root = openRoot(path, options);
  try {
    return partitionsOf(path, root, count);
  } catch (error) {
    root.lock.release();
    throw error;
  }
}

/** The lock of the root is the caller's until it returns. */
export function partitionsOf(path: string, root: OpenedRoot, count: number): Partitions {
  const header = withPartitions(root, count);
  const partitions = new Partitions(path, { ...root, header });
  partitions.settleHandOver();
  return partitions;
}

export function requirePartitionCount(count: number): void {
  if (Number.isSafeInteger(count) && count >= 1 && count <= PARTITIONS_MAX) return;
  throw new RangeError(
    `Option "partitions": ${showOption(count)} is not a whole number from 1 to ${PARTITIONS_MAX}`,
  );
}

/** F1 in partition-files.ts. */
function withPartitions(
  { local, header, description, options }: OpenedRoot,
  count: number,
): StoreHeader {
  const before = partitionCount(header);
  if (Math.max(before, count) > 1) {
    const isUploaded = header.remote !== undefined && header.remote.url !== null;
    if (isUploaded || options.remote != null || options.durability === "remote")
      throw new StoreError(
        "PARTITIONED",
        `Cannot upload store "${description}" to object storage: it has more than one partition, or would get them; open it without "threads" and "remote", or end the upload`,
        { details: { partitions: Math.max(before, count) } },
      );
  }
  if (count <= before) return header;
  for (let index = before; index < count; index++) makePartition(local, header, index);
  const raised = { ...header, partitions: count };
  writeHeader(local, raised);
  return raised;
}

export class Partitions {
  readonly path: string;
  readonly description: string;
  readonly #storage: Storage;
  readonly #lock: StoreLock;
  readonly #options: StoreOptions;
  #header: StoreHeader;
  #master: MasterKey | null;
  #ring: KeyRing | null;

  /** @internal */
  constructor(path: string, root: OpenedRoot) {
    this.path = path;
    this.description = root.description;
    this.#storage = root.local;
    this.#lock = root.lock;
    this.#options = root.options;
    this.#header = root.header;
    this.#master = root.header.encryption === null ? null : root.master;
    this.#ring = root.cipher?.ring ?? null;
  }

  get count(): number {
    return partitionCount(this.#header);
  }

  get header(): StoreHeader {
    return this.#header;
  }

  /** The store's own directory. */
  get storage(): Storage {
    return this.#storage;
  }

  /** What partitions of this thread are opened with. */
  get surroundings(): PartitionSurroundings {
    const { now, onDamage, storage } = this.#options;
    return {
      ...(now === undefined ? {} : { now }),
      ...(onDamage === undefined ? {} : { onDamage }),
      ...(storage === undefined ? {} : { storage }),
    };
  }

  /** As of now: one that is opened later, or again, needs the header of then. */
  partition(index: number): PartitionOptions {
    const { count } = this;
    if (!Number.isSafeInteger(index) || index < 0 || index >= count)
      throw new RangeError(`Partition ${index} is not from 0 to ${count - 1}`);
    return {
      path: this.path,
      index,
      count,
      header: headerText(this.#header),
      key: this.#master?.bytes ?? null,
      settings: partitionSettings(this.#options, count),
    };
  }

  /** What every open partition must then be told with `adoptHeader`. */
  rotateKey(key: Uint8Array | string): HeaderChange {
    if (this.#ring === null)
      throw new StoreError(
        "KEY_REQUIRED",
        `Cannot rotate the key of store "${this.description}": it is not encrypted; a store is encrypted when it is made`,
      );
    const master = parseMasterKey(key, "new key");
    const ring = this.#ring.rotate(master);
    this.#replaceHeader({ ...this.#header, encryption: ring.toJSON() });
    this.#ring = ring;
    this.#master = master;
    return { header: headerText(this.#header), key: master.bytes };
  }

  /** What every open partition must then be told with `adoptHeader`. */
  setCompression(compression: Compression): HeaderChange {
    requireCompression("Compression", compression);
    this.#replaceHeader({ ...this.#header, compression });
    return { header: headerText(this.#header), key: null };
  }

  /** Of a hand-over that a failure left. Neither of its partitions is open anywhere. True: the target has the database. */
  settleHandOver(): boolean {
    return settleHandOver(this.#storage, (index) =>
      openPartition(this.partition(index), this.surroundings),
    );
  }

  /** P1. */
  close(): void {
    this.#lock.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** P2. */
  #replaceHeader(header: StoreHeader): void {
    writeHeader(this.#storage, header);
    this.#header = header;
  }
}

/** P3. */
function partitionSettings(options: StoreOptions, count: number): PartitionSettings {
  const given = Object.entries(options).filter(
    ([name, value]) => Object.hasOwn(SETTINGS, name) && value !== undefined,
  );
  const { cacheBytesMax, connectionBytesMax, checkpointBytes, scrubBytesPerSecond } =
    resolveOptions(options);
  const checkpointBytesMin = Math.min(checkpointBytes, CHECKPOINT_BYTES_MIN);
  return {
    ...Object.fromEntries(given),
    cacheBytesMax: Math.floor(cacheBytesMax / count),
    connectionBytesMax: Math.floor(connectionBytesMax / count),
    checkpointBytes: Math.max(Math.floor(checkpointBytes / count), checkpointBytesMin),
    ...(scrubBytesPerSecond === null ? {} : { scrubBytesPerSecond: scrubBytesPerSecond / count }),
  };
}

/**
 * Opens one partition in this thread, as a store of its own. The lock is that of `openPartitions`, which must stay open longer.
 * `setCompression` and `rotateKey` are those of `Partitions`.
 */
export function openPartition(
  given: PartitionOptions,
  surroundings: PartitionSurroundings = {},
): SingleStore {
  const { path, index, count, key } = given;
  const { storage: _storage, store: _store, otherPartitionOf, ...functions } = surroundings;
  const storage = surroundings.storage ?? openNodeStorage(path);
  const header = parseHeader(given.header);
  const ring = header.encryption === null ? null : openRing(header, key);
  const local = partitionStorage(storage, index);
  const description = index === 0 ? (surroundings.storage?.description ?? path) : local.description;
  const parts = openParts({
    description,
    local,
    lock: HELD_BY_OWNER,
    header,
    cipher: ring === null ? null : new CurrentCipher(ring),
    options: { ...given.settings, ...functions },
    claim: null,
    partition: {
      index,
      count,
      store: surroundings.store ?? surroundings,
      otherPartitionOf: otherPartitionOf ?? (() => null),
    },
  });
  return new SingleStore(path, new Engine(parts));
}

/** Tells a partition of this thread what `rotateKey` or `setCompression` of `Partitions` gave. */
export function adoptHeader(partition: SingleStore, { header: text, key }: HeaderChange): void {
  const header = parseHeader(text);
  partition.engine.adoptHeader(header, key === null ? null : openRing(header, key));
}

function openRing(header: StoreHeader, key: Uint8Array | null): KeyRing {
  return KeyRing.open(header.encryption, key === null ? null : parseMasterKey(key));
}

const HELD_BY_OWNER: StoreLock = { isHeld: () => true, release: () => {} };
