/**
 * Moves the catalog of a store into another key-value backend, while nobody has the store open.
 *
 *   old in force --copy, verify--> old in force, new complete --store.json replaced--> new in force --delete old--> done
 *
 * C1. store.json says which backend is in force, and is replaced at once: a crash before leaves the old catalog as it was,
 *     a crash after it the new one. Both are complete at that moment.
 *     Of a store with partitions all catalogs are complete at that moment.
 * C2. What a crash leaves of the other catalog is deleted at the next open or conversion.
 * C3. The new catalog is opened again and read as a whole before it is in force: as many entries, the same checksum.
 */
import { requireOptions } from "../branch/option-names.ts";
import {
  type Backend,
  BACKENDS,
  checkCatalogFiles,
  deleteCatalog,
  isCatalogThere,
  openBackend,
} from "../catalog/backends.ts";
import { type CatalogDigest, copyCatalog, digestCatalog } from "../catalog/copy-catalog.ts";
import type { KeyValueStore } from "../catalog/key-value.ts";
import { StoreError } from "../errors.ts";
import { PACK_DIRECTORY } from "../page/pack-format.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import { acquireStoreLock } from "../storage/store-lock.ts";
import { CONVERT_OPTIONS } from "./call-options.ts";
import { type Compression, requireCompression } from "./compression-option.ts";
import { checkPartitions, partitionStorage } from "./partition-files.ts";
import { sumOf } from "./partition-reports.ts";
import { listStore } from "./store-directory.ts";
import {
  HEADER_FILE,
  partitionCount,
  readHeader,
  type StoreHeader,
  writeHeader,
} from "./store-header.ts";
import { storeNotFound } from "./store-options.ts";

export interface ConvertOptions {
  /** Where the catalog is to be kept. */
  readonly backend: Backend;
  /** What new chunks and history are compressed with from now on; those that are there stay as they are. */
  readonly compression?: Compression;
  /** Instead of a directory: for tests on a simulated disk. */
  readonly storage?: Storage;
}

export interface ConvertResult {
  readonly from: Backend;
  readonly to: Backend;
  /** Entries copied; 0 when the store had the backend already. */
  readonly entryCount: number;
  /** Size of the catalog on disk, before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

/**
 * Converts a store that is not open. Throws STORE_NOT_FOUND, STORE_LOCKED, CORRUPT_HEADER, CORRUPT_CATALOG; the store is then
 * as it was. Needs no key: what the catalog holds is copied as it is.
 */
export function convertStore(path: string, options: ConvertOptions): ConvertResult {
  requireOptions("convertStore", options, CONVERT_OPTIONS);
  const { backend, compression } = options;
  if (!BACKENDS.includes(backend))
    throw new TypeError(`Option "backend": "${backend}" is not one of ${BACKENDS.join(", ")}`);
  if (compression !== undefined) requireCompression('Option "compression"', compression);
  const storage = options.storage ?? openNodeStorage(path);
  const description = options.storage?.description ?? path;
  if (!listStore(storage, description).includes(HEADER_FILE)) throw storeNotFound(description);
  const lock = acquireStoreLock(storage, { description });
  try {
    const header = readHeader(storage);
    checkPartitions(storage, header);
    const wanted = compression === undefined ? header : { ...header, compression };
    return convertCatalog(storage, wanted, backend);
  } finally {
    lock.release();
  }
}

/** What converting needs of backends, so that a test can run it where only one of them works. */
export interface CatalogPlaces {
  open(backend: Backend, storage: Storage): KeyValueStore;
  checkFiles(backend: Backend, storage: Storage): void;
  delete(backend: Backend, storage: Storage): void;
}

const PLACES: CatalogPlaces = {
  open: openBackend,
  checkFiles: checkCatalogFiles,
  delete: deleteCatalog,
};

/** Under the store's lock. `header` is written as given, with the new backend. All partitions are converted before. */
export function convertCatalog(
  storage: Storage,
  header: StoreHeader,
  to: Backend,
  places: CatalogPlaces = PLACES,
): ConvertResult {
  const from = header.backend;
  const partitions = Array.from({ length: partitionCount(header) }, (_, index) =>
    partitionStorage(storage, index),
  );
  const results: ConvertResult[] = [];
  try {
    for (const partition of partitions) results.push(convertOne(partition, { from, to, places }));
  } catch (error) {
    // What was copied is of no use; what is there is in force.
    if (from !== to)
      for (const partition of partitions) deleteAfterFailure(() => places.delete(to, partition));
    throw error;
  }
  writeHeader(storage, { ...header, backend: to });
  if (from !== to) for (const partition of partitions) places.delete(from, partition);
  return sumOf(results);
}

/** Makes the other catalog, beside the one that is in force. */
function convertOne(
  storage: Storage,
  { from, to, places }: { from: Backend; to: Backend; places: CatalogPlaces },
): ConvertResult {
  refuseMissing(storage, from);
  for (const other of BACKENDS) if (other !== from) places.delete(other, storage);
  places.checkFiles(from, storage);
  const source = places.open(from, storage);
  let copied: CatalogDigest | null = null;
  let bytesBefore: number;
  try {
    if (from !== to) copied = copyTo(source, () => places.open(to, storage));
    bytesBefore = source.estimatedSize();
  } finally {
    source.close();
  }
  if (copied === null) return { from, to, entryCount: 0, bytesBefore, bytesAfter: bytesBefore };
  const bytesAfter = verify(places, storage, to, copied);
  return { from, to, entryCount: copied.entryCount, bytesBefore, bytesAfter };
}

/** An empty catalog must not take the place of one that is lost. */
function refuseMissing(storage: Storage, backend: Backend): void {
  if (isCatalogThere(backend, storage) || storage.listSync(PACK_DIRECTORY).length === 0) return;
  throw new StoreError(
    "CORRUPT_CATALOG",
    `Cannot convert the catalog: its files for "${backend}" are missing; run "bough check"`,
  );
}

function copyTo(source: KeyValueStore, open: () => KeyValueStore): CatalogDigest {
  const target = open();
  try {
    return copyCatalog(source, target);
  } finally {
    target.close();
  }
}

/** Opens the copy again and reads all of it (C3); returns its size on disk. */
function verify(
  places: CatalogPlaces,
  storage: Storage,
  backend: Backend,
  copied: CatalogDigest,
): number {
  const target = places.open(backend, storage);
  try {
    const read = digestCatalog(target);
    if (read.entryCount === copied.entryCount && read.checksum === copied.checksum)
      return target.estimatedSize();
    throw new StoreError(
      "CORRUPT_CATALOG",
      `Cannot convert the catalog: the copy for "${backend}" has ${read.entryCount} entries with checksum ${read.checksum} ` +
        `instead of ${copied.entryCount} with ${copied.checksum}; the store is as it was, check the disk`,
    );
  } finally {
    target.close();
  }
}

/** The failure that led here is the one to report. */
function deleteAfterFailure(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
  }
}
