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
import type { KeyValueStore, WriteBatch } from "./key-value.ts";
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
  return openAt(backend, storage, PATHS[backend]);
}

function openAt(backend: Backend, storage: Storage, path: string): KeyValueStore {
  storage.makeDirectorySync(CATALOG_DIRECTORY);
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

/**
 * Puts a catalog with these entries in place of one that is not open. It is made beside the old one, so that what a crash
 * leaves is the old one or the new one (leveldb, which has many files: or none, which is reported as damage).
 */
export function replaceCatalog(backend: Backend, storage: Storage, entries: WriteBatch): void {
  const made = `${CATALOG_DIRECTORY}/replacement`;
  const files = (): string[] =>
    backend === "leveldb"
      ? storage.listSync(made)
      : storage.listSync(CATALOG_DIRECTORY).filter((name) => name.startsWith("replacement"));
  const directory = backend === "leveldb" ? made : CATALOG_DIRECTORY;
  for (const name of files()) storage.deleteSync(`${directory}/${name}`);
  const store = openAt(backend, storage, made);
  try {
    store.commit(entries);
  } finally {
    store.close();
  }
  if (backend === "leveldb") {
    deleteCatalog(backend, storage);
    storage.makeDirectorySync(PATHS.leveldb);
    // The file "CURRENT" makes the others count.
    const names = files().sort((name) => (name === "CURRENT" ? 1 : -1));
    for (const name of names) storage.renameSync(`${made}/${name}`, `${PATHS.leveldb}/${name}`);
    storage.syncDirectorySync(PATHS.leveldb);
    return;
  }
  storage.renameSync(made, PATHS[backend]);
  for (const name of files()) storage.deleteSync(`${CATALOG_DIRECTORY}/${name}`);
  storage.syncDirectorySync(CATALOG_DIRECTORY);
}

/** The files of a catalog, by their paths in the store. */
export function catalogFiles(backend: Backend, storage: Storage): string[] {
  return ownedPaths(backend, storage);
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
