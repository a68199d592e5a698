/**
 * What a store holds and what it costs. Everything is in bytes unless it says otherwise, and counts branch heads only:
 * older versions that are kept show up in `disk` alone.
 *
 *   logical    what the heads would take as SQLite files of their own
 *   unique     the different pages among them: logical less what branches and equal pages share
 *   stored     what these take in chunks, compressed: unique less what compression saves
 */
import { currentTimelineId, livingBranches, MAIN_BRANCH } from "../branch/refs.ts";
import { HISTORY_DIRECTORY } from "../checkpoint/history-files.ts";
import { timelineOf } from "../checkpoint/snapshot-at.ts";
import { StoreError } from "../errors.ts";
import type { ChunkHandle } from "../page/chunk-handle.ts";
import { PACK_DIRECTORY } from "../page/pack-format.ts";
import type { Storage } from "../storage/storage.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import type { Compression } from "./compression-option.ts";
import type { Engine } from "./engine.ts";
import { PageCensus } from "./page-census.ts";
import { openDatabaseNamed } from "./resolve-revision.ts";

export interface StoreStatistics {
  /** Sums over all databases that were asked for. */
  readonly logicalBytes: number;
  readonly uniqueBytes: number;
  readonly storedBytes: number;
  /** logicalBytes - uniqueBytes: what sharing pages between and within branches and databases saves. */
  readonly dedupSavedBytes: number;
  /** uniqueBytes - storedBytes. */
  readonly compressionSavedBytes: number;
  /** By name. */
  readonly databases: readonly DatabaseStatistics[];
  /** Of the whole store, always. */
  readonly disk: DiskStatistics;
}

export interface DatabaseStatistics {
  readonly name: string;
  readonly pageSize: number;
  readonly logicalBytes: number;
  /** main first, then by name. */
  readonly branches: readonly BranchStatistics[];
}

export interface BranchStatistics {
  readonly name: string;
  /** The head's. */
  readonly version: number;
  /** Pages of the head. */
  readonly pageCount: number;
  /** pageCount times the page size. */
  readonly bytes: number;
  /** Of pages that no other head in the store has, uncompressed. */
  readonly ownBytes: number;
  /** The same as stored. */
  readonly ownStoredBytes: number;
}

/** Sizes of files. */
export interface DiskStatistics {
  readonly chunkBytes: number;
  readonly historyBytes: number;
  readonly logBytes: number;
  readonly catalogBytes: number;
  readonly totalBytes: number;
  /** Of the catalog: "lmdb", "leveldb" or "memory". */
  readonly backend: string;
  /** Of new chunks and history; older ones may have another. */
  readonly compression: Compression;
}

interface Owner {
  readonly database: OpenDatabase;
  readonly branchId: number;
  readonly isAskedFor: boolean;
  ownBytes: number;
  ownStoredBytes: number;
}

/** Of one database, or of all; throws DATABASE_NOT_FOUND. Moves commits into chunks first, so that sizes are final. */
export function storeStatistics(engine: Engine, name?: string): StoreStatistics {
  engine.assertOpen();
  engine.expireBranches();
  const only = name === undefined ? null : openDatabaseNamed(engine, name);
  // A follower shows the sizes of the writer's last checkpoint.
  if (engine.follower === null) engine.checkpoint();
  const { state } = engine;
  const owners: Owner[] = [];
  const census = new PageCensus(state.pageMap);
  for (const database of state.databases.values()) {
    if (database.refs.row.deletedAtMs !== null) continue;
    for (const branch of livingBranches(database.refs)) {
      const isAskedFor = only === null || only === database;
      owners.push({ database, branchId: branch.id, isAskedFor, ownBytes: 0, ownStoredBytes: 0 });
      const timeline = timelineOf(database, currentTimelineId(branch));
      census.add(timeline.head.asSource().origin().root, owners.length);
    }
  }
  const unique = countPages(engine, census, owners, only);
  const databases = [...byDatabase(owners.filter((owner) => owner.isAskedFor))]
    .map(([database, group]) => databaseStatistics(database, group))
    .sort((left, right) => (left.name < right.name ? -1 : 1));
  const logicalBytes = databases.reduce((sum, database) => sum + database.logicalBytes, 0);
  return {
    logicalBytes,
    ...unique,
    dedupSavedBytes: logicalBytes - unique.uniqueBytes,
    compressionSavedBytes: unique.uniqueBytes - unique.storedBytes,
    databases,
    disk: diskStatistics(engine),
  };
}

/** Adds to each owner what it alone has; returns the sums over all pages, or those of one database. */
function countPages(
  engine: Engine,
  census: PageCensus,
  owners: readonly Owner[],
  only: OpenDatabase | null,
): { uniqueBytes: number; storedBytes: number } {
  const counted = only === null ? census : censusOf(engine, owners, only);
  let uniqueBytes = 0;
  let storedBytes = 0;
  for (const [chunk, slots] of counted.chunks()) {
    const { pageBytes, storedPageBytes } = shapeOf(engine, chunk);
    for (const owner of slots) {
      if (owner === 0) continue;
      uniqueBytes += pageBytes;
      storedBytes += storedPageBytes;
    }
  }
  for (const [chunk, slots] of census.chunks()) {
    if (!slots.some((owner) => owner > 0)) continue;
    const { pageBytes, storedPageBytes } = shapeOf(engine, chunk);
    for (const number of slots) {
      const owner = owners[number - 1];
      if (owner === undefined) continue;
      owner.ownBytes += pageBytes;
      owner.ownStoredBytes += storedPageBytes;
    }
  }
  for (const owner of owners) owner.ownStoredBytes = Math.round(owner.ownStoredBytes);
  return { uniqueBytes, storedBytes: Math.round(storedBytes) };
}

/** Of one database alone, whoever else has its pages. */
function censusOf(engine: Engine, owners: readonly Owner[], only: OpenDatabase): PageCensus {
  const census = new PageCensus(engine.state.pageMap);
  for (const { database, branchId } of owners) {
    if (database !== only) continue;
    const branch = database.refs.branches.get(branchId)!;
    const { head } = timelineOf(database, currentTimelineId(branch));
    census.add(head.asSource().origin().root, 1);
  }
  return census;
}

/** A page of the chunk, plain and its part of the chunk as stored. */
function shapeOf(
  { state }: Engine,
  chunk: ChunkHandle,
): { pageBytes: number; storedPageBytes: number } {
  const location = chunk.location ?? state.chunks.locate(chunk.id);
  if (location === null)
    throw new StoreError(
      "CORRUPT_CHUNK",
      `Cannot find chunk ${chunk.name}: the chunk index does not have it`,
    );
  const { pageSize, presentCount } = state.chunks.readShape(chunk.id, location);
  return { pageBytes: pageSize, storedPageBytes: location.length / presentCount };
}

function byDatabase(owners: readonly Owner[]): Map<OpenDatabase, Owner[]> {
  const groups = new Map<OpenDatabase, Owner[]>();
  for (const owner of owners) {
    const group = groups.get(owner.database);
    if (group === undefined) groups.set(owner.database, [owner]);
    else group.push(owner);
  }
  return groups;
}

/** `owners`: the database's. */
function databaseStatistics(database: OpenDatabase, owners: readonly Owner[]): DatabaseStatistics {
  const { name, pageSize } = database.refs.row;
  const branches = owners
    .map(({ branchId, ownBytes, ownStoredBytes }): BranchStatistics => {
      const branch = database.refs.branches.get(branchId)!;
      const { version, pageCount } = timelineOf(database, currentTimelineId(branch)).head;
      const bytes = pageCount * pageSize;
      return { name: branch.name, version, pageCount, bytes, ownBytes, ownStoredBytes };
    })
    .sort(
      (left, right) =>
        Number(right.name === MAIN_BRANCH) - Number(left.name === MAIN_BRANCH) ||
        (left.name < right.name ? -1 : 1),
    );
  const logicalBytes = branches.reduce((sum, branch) => sum + branch.bytes, 0);
  return { name, pageSize, logicalBytes, branches };
}

/** What the heads of a database would take as SQLite files of their own, by what is known of them; null: there is none of that name. */
export function headBytes({ state }: Engine, name: string): number | null {
  const id = state.refs.databaseIds.get(name);
  const database = id === undefined ? undefined : state.databases.get(id);
  if (database === undefined) return null;
  let pageCount = 0;
  for (const branch of livingBranches(database.refs))
    pageCount += timelineOf(database, currentTimelineId(branch)).head.pageCount;
  return pageCount * database.refs.row.pageSize;
}

export function diskStatistics({ state, header }: Engine): DiskStatistics {
  const { storage, catalog } = state;
  const chunkBytes = directorySize(storage, PACK_DIRECTORY);
  const historyBytes = directorySize(storage, HISTORY_DIRECTORY);
  const logBytes = directorySize(storage, "log");
  const catalogBytes = catalog.store.estimatedSize();
  return {
    chunkBytes,
    historyBytes,
    logBytes,
    catalogBytes,
    totalBytes: chunkBytes + historyBytes + logBytes + catalogBytes,
    backend: catalog.store.name,
    compression: header.compression ?? "lz4",
  };
}

function directorySize(storage: Storage, directory: string): number {
  let size = 0;
  for (const name of storage.listSync(directory)) {
    const file = storage.openFileSync(`${directory}/${name}`, { mode: "read" });
    try {
      size += file.sizeSync();
    } finally {
      file.closeSync();
    }
  }
  return size;
}
