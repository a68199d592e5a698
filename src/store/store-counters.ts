/**
 * What an open store has counted, and how far it is: plain numbers that are there anyway, so that asking often costs nothing. What has
 * to be walked or looked up on disk is in statistics.ts.
 */
import type { Engine } from "./engine.ts";
import { sumOf } from "./partition-reports.ts";
import type { RuntimePool } from "./runtime-pool.ts";
import type { Session } from "./session.ts";

export interface StoreCounters {
  readonly partitions: number;
  /** Those where a write has failed: they take no commits until they are opened again. */
  readonly failedPartitions: number;
  /** Since the store was opened. */
  readonly commits: number;
  readonly checkpoints: number;
  readonly log: {
    /** Of all files. */
    readonly bytes: number;
    /** Records that are not durable yet. */
    readonly pendingRecords: number;
    /** What no checkpoint has moved out of the log yet. */
    readonly bytesSinceCheckpoint: number;
    readonly recordsSinceCheckpoint: number;
  };
  /** When the oldest commit was made that waits for a checkpoint, in milliseconds since 1970; null: none does. */
  readonly oldestCommitMs: number | null;
  readonly cache: {
    readonly hits: number;
    readonly misses: number;
    readonly bytes: number;
    readonly bytesMax: number;
  };
  /** Since the store was opened. */
  readonly chunks: {
    /** Compressed, by whoever writes chunks. */
    readonly bytesWritten: number;
    /** By checkpoints: pages that were not in any chunk yet, and pages that were. */
    readonly pagesWritten: number;
    readonly pagesShared: number;
  };
  readonly connections: {
    readonly open: number;
    /** Awaited ones that have given their instance of SQLite back. */
    readonly parked: number;
    /** Of awaited connections. */
    readonly instances: number;
    readonly instanceBytes: number;
  };
  /** Those that took commits since the store was opened, and how many. */
  readonly databases: readonly (readonly [name: string, commits: number])[];
}

export function storeCounters(
  engine: Engine,
  {
    sessions,
    runtimes,
  }: { readonly sessions: ReadonlySet<Session>; readonly runtimes: RuntimePool },
): StoreCounters {
  const { log, catalog, chunks, databases } = engine.state;
  const checkpointLsn = catalog.state()?.checkpointLsn ?? 0;
  const { checkpoints, pagesWritten, pagesShared } = engine.checkpoints.counters;
  const { hits, misses, bytes, bytesMax } = chunks.statistics();
  let awaited = 0;
  for (const session of sessions) if (session.asyncConnection !== null) awaited++;
  return {
    partitions: 1,
    failedPartitions: engine.hasFailed ? 1 : 0,
    commits: engine.pipeline.commits,
    checkpoints,
    log: {
      bytes: log.sizeBytes,
      pendingRecords: log.lastLsn - log.durableLsn,
      bytesSinceCheckpoint: log.bytesSince(checkpointLsn),
      recordsSinceCheckpoint: Math.max(0, log.lastLsn - checkpointLsn),
    },
    oldestCommitMs: engine.checkpoints.oldestMs,
    cache: { hits, misses, bytes, bytesMax },
    chunks: { bytesWritten: chunks.appendedBytes, pagesWritten, pagesShared },
    connections: {
      open: sessions.size,
      parked: Math.max(0, awaited - (runtimes.count - runtimes.spareCount)),
      instances: runtimes.count,
      instanceBytes: runtimes.bytes,
    },
    databases: [...databases.values()]
      .filter(({ refs, commits }) => commits > 0 && refs.row.deletedAtMs === null)
      .map(({ refs, commits }) => [refs.row.name, commits]),
  };
}

/** Of partitions; a database is in one of them. */
export function wholeCounters(counters: readonly StoreCounters[]): StoreCounters {
  const sums = sumOf(
    counters.map(({ oldestCommitMs: _oldest, databases: _databases, ...numbers }) => numbers),
  );
  const oldest = counters.flatMap(({ oldestCommitMs }) => oldestCommitMs ?? []);
  return {
    ...sums,
    oldestCommitMs: oldest.length === 0 ? null : Math.min(...oldest),
    databases: counters.flatMap(({ databases }) => databases),
  };
}
