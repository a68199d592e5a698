/**
 * The key-value backends that a catalog can be kept in, and where each has its files. The header says which one is in
 * force; what others have left, from a conversion that was interrupted, is deleted at the next open.
 *
 *   backend   path in the store
 *   lmdb      catalog/data.mdb, catalog/data.mdb-lock
 *   leveldb   catalog/leveldb/, a directory
 *   memory    catalog/catalog.kv
 */
import type { Storage } from "../storage/storage.ts";
import { directoryOf } from "../storage/whole-file.ts";
import type { KeyValueStore } from "./key-value.ts";
import { checkLevelFiles } from "./leveldb-files.ts";
import { openLevel } from "./leveldb-key-value.ts";
import { checkLmdbFile } from "./lmdb-file.ts";
import { openLmdb } from "./lmdb-key-value.ts";
import { openMemoryKeyValue } from "./memory-key-value.ts";

/** Stored in headers: append only. */
export type Backend = "lmdb" | "leveldb" | "memory";
export const BACKENDS: readonly Backend[] = ["lmdb", "leveldb", "memory"];

const CATALOG_DIRECTORY = "catalog";
const PATHS: Readonly<Record<Backend, string>> = {
  lmdb: `${CATALOG_DIRECTORY}/data.mdb`,
  leveldb: `${CATALOG_DIRECTORY}/leveldb`,
  memory: `${CATALOG_DIRECTORY}/catalog.kv`,
};

/** Opens the catalog, or makes an empty one. */
export function openBackend(backend: Backend, storage: Storage): KeyValueStore {
  storage.makeDirectorySync(CATALOG_DIRECTORY);
  const path = PATHS[backend];
  switch (backend) {
    case "lmdb":
      return openLmdb(storage, path);
    case "leveldb":
      return openLevel(storage, path);
    case "memory":
      return openMemoryKeyValue(storage, path);
  }
}

/** Reads every file of the catalog that a backend would trust. Throws CORRUPT_CATALOG. */
export function checkCatalogFiles(backend: Backend, storage: Storage): void {
  if (backend === "lmdb") checkLmdbFile(storage, PATHS.lmdb);
  if (backend === "leveldb") checkLevelFiles(storage, PATHS.leveldb);
}

/** Whether the backend has any file there. */
export function isCatalogThere(backend: Backend, storage: Storage): boolean {
  return ownedPaths(backend, storage).length > 0;
}

/** Deletes the files of a backend that is not open. */
export function deleteCatalog(backend: Backend, storage: Storage): void {
  const directories = new Set<string>();
  for (const path of ownedPaths(backend, storage)) {
    storage.deleteSync(path);
    directories.add(directoryOf(path));
  }
  for (const directory of directories) storage.syncDirectorySync(directory);
}

/** Deletes what backends other than this one have left behind. */
export function deleteOtherCatalogs(backend: Backend, storage: Storage): void {
  for (const other of BACKENDS) if (other !== backend) deleteCatalog(other, storage);
}

function ownedPaths(backend: Backend, storage: Storage): string[] {
  const directory = backend === "leveldb" ? PATHS.leveldb : CATALOG_DIRECTORY;
  const paths = storage.listSync(directory).map((name) => `${directory}/${name}`);
  return paths.filter((path) => isOwned(backend, path));
}

/** Also the files that a backend makes beside its own: `data.mdb-lock`, `data.mdb.compact`, `catalog.kv.new`. */
function isOwned(backend: Backend, path: string): boolean {
  const own = PATHS[backend];
  if (backend === "leveldb") return directoryOf(path) === own;
  return path === own || path.startsWith(`${own}.`) || path.startsWith(`${own}-`);
}
