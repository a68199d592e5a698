/**
 * GET /metrics: what is counted, as Prometheus reads it. Loaded with its library when it is first asked for.
 *
 * Z1. Nothing is measured for it: numbers that are there are read. What has to be looked up on disk is as old as DISK_MS at most.
 *     The sizes of databases are known to be those of their heads: what they share with others and what old versions take is walked for
 *     by the admin API, not here.
 * Z2. A database keeps its series for as long as the server runs (Y1 in server-counters.ts), so that its counters never go down;
 *     commits are the store's count, and begin anew with the database, or with the thread that has it.
 */
import { collectDefaultMetrics, Counter, Gauge, type Metric, Registry } from "prom-client";
import type { DiskStatistics } from "../../store/statistics.ts";
import type { StoreCounters } from "../../store/store-counters.ts";
import type { ThreadLoad } from "../../threads/owner.ts";
import type { ServedStore } from "../served-store.ts";
import { BOUNDS_MS, type Latencies } from "./latencies.ts";
import type { DatabaseCounters, ServerCounters } from "./server-counters.ts";

const DISK_MS = 60_000;

export interface MetricsOptions {
  readonly counters: ServerCounters;
  readonly store: ServedStore;
  /** Open now. */
  readonly open: () => { readonly streams: number; readonly webSockets: number };
  /** Milliseconds; only differences count. */
  readonly now: () => number;
}

export interface MetricsPage {
  readonly contentType: string;
  read(): Promise<string>;
}

type Labels = Readonly<Record<string, string>>;
type Value = readonly [number, Labels?];
type HeadBytes = Awaited<ReturnType<ServedStore["headBytes"]>>;
type Sizes = readonly [disk: DiskStatistics, heads: HeadBytes];

export function makeMetricsPage({ counters, store, open, now }: MetricsOptions): MetricsPage {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const page = new Page(registry);
  let sizes: Promise<Sizes> | null = null;
  let sizesAt = -Infinity;
  const readSizes = (): Promise<Sizes> => {
    if (sizes !== null && now() - sizesAt < DISK_MS) return sizes;
    sizesAt = now();
    const names = [...counters.databases.keys()];
    const reading = Promise.all([store.diskUse(), store.headBytes(names)]);
    reading.catch(() => (sizes = null));
    return (sizes = reading);
  };
  return {
    contentType: registry.contentType,
    read: async () => {
      const [storeNow, [disk, heads]] = await Promise.all([store.counters(), readSizes()]);
      addRequests(page, counters);
      addStatements(page, counters);
      addDatabases(page, counters, { store: storeNow, heads });
      addOpen(page, { ...open(), ...storeNow.connections });
      addStore(page, storeNow);
      addDisk(page, disk);
      addThreads(page, store.loads);
      return await registry.metrics();
    },
  };
}

/** Metrics by name; each is made when it is first set. */
class Page {
  readonly #registry: Registry;
  readonly #known: Map<string, Metric> = new Map();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  counter(name: string, help: string, values: readonly Value[]): void {
    const make = (labelNames: string[]): Counter =>
      new Counter({ name, help, labelNames, registers: [this.#registry] });
    const counter = this.#find(name, values, make);
    counter.reset();
    for (const [value, labels = {}] of values) counter.inc(labels, value);
  }

  gauge(name: string, help: string, values: readonly Value[]): void {
    const make = (labelNames: string[]): Gauge =>
      new Gauge({ name, help, labelNames, registers: [this.#registry] });
    const gauge = this.#find(name, values, make);
    gauge.reset();
    for (const [value, labels = {}] of values) gauge.set(labels, value);
  }

  /** The library's own histogram counts by itself, and cannot take what was counted. */
  histogram(name: string, help: string, series: readonly (readonly [Latencies, Labels?])[]): void {
    const values = series.flatMap(([latencies, labels = {}]) => [
      ...latencies.cumulated.map((value, index) => ({
        metricName: `${name}_bucket`,
        labels: { ...labels, le: String(BOUNDS_MS[index]! / 1000) },
        value,
      })),
      {
        metricName: `${name}_bucket`,
        labels: { ...labels, le: "+Inf" },
        value: latencies.count,
      },
      { metricName: `${name}_sum`, labels, value: latencies.sumMs / 1000 },
      { metricName: `${name}_count`, labels, value: latencies.count },
    ]);
    const metric = {
      name,
      help,
      type: "histogram",
      get: () => ({ name, help, type: "histogram", values }),
    };
    this.#registry.removeSingleMetric(name);
    // All that a registry asks of a metric that is to be printed.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    this.#registry.registerMetric(metric as unknown as Metric);
  }

  #find<M extends Metric>(
    name: string,
    values: readonly Value[],
    make: (labelNames: string[]) => M,
  ): M {
    // Of one kind under one name.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const known = this.#known.get(name) as M | undefined;
    if (known !== undefined) return known;
    const metric = make(Object.keys(values[0]?.[1] ?? {}));
    if (values.length > 0) this.#known.set(name, metric);
    else this.#registry.removeSingleMetric(name); // Its labels are not known yet.
    return metric;
  }
}

function addRequests(page: Page, { requests, requestFailures, bugs }: ServerCounters): void {
  page.histogram(
    "bough_request_seconds",
    "Time from a request to its answer; failed: those that were refused",
    [...requests].map(([kind, latencies]) => [latencies, { kind }]),
  );
  page.counter(
    "bough_request_failures_total",
    "Requests that were refused, by code",
    [...requestFailures].map(([code, count]) => [count, { code }]),
  );
  page.counter("bough_bugs_total", "Failures that the log calls bugs", [[bugs]]);
}

function addStatements(page: Page, counters: ServerCounters): void {
  const { statements, statementFailures, durableWaits, total } = counters;
  page.histogram(
    "bough_statement_seconds",
    "Time that statements took, waiting for writers included",
    [[statements]],
  );
  page.counter(
    "bough_statement_failures_total",
    "Statements that failed, by code",
    [...statementFailures].map(([code, count]) => [count, { code }]),
  );
  page.histogram(
    "bough_commit_wait_seconds",
    "Time that answers waited until the commits that they tell of were durable",
    [[durableWaits]],
  );
  page.counter("bough_conflicts_total", "Statements that failed with SQLITE_BUSY_SNAPSHOT", [
    [total.conflicts],
  ]);
  page.counter("bough_rows_read_total", "Rows that statements returned", [[total.rowsRead]]);
  page.counter("bough_rows_written_total", "Rows that statements changed", [[total.rowsWritten]]);
}

/** Z2. */
function addDatabases(
  page: Page,
  { databases }: ServerCounters,
  { store, heads }: { readonly store: StoreCounters; readonly heads: HeadBytes },
): void {
  const add = (name: string, help: string, read: (counters: DatabaseCounters) => number): void =>
    page.counter(
      `bough_database_${name}_total`,
      `${help}, by database`,
      [...databases].map(([database, counters]) => [read(counters), { database }]),
    );
  add("statements", "Statements", ({ statements }) => statements);
  add("statement_seconds", "Time that statements took", ({ statementMs }) => statementMs / 1000);
  add("statement_failures", "Statements that failed", ({ failures }) => failures);
  add(
    "conflicts",
    "Statements that failed with SQLITE_BUSY_SNAPSHOT",
    ({ conflicts }) => conflicts,
  );
  add("rows_read", "Rows that statements returned", ({ rowsRead }) => rowsRead);
  add("rows_written", "Rows that statements changed", ({ rowsWritten }) => rowsWritten);
  page.counter(
    "bough_database_commits_total",
    "Commits, by database",
    store.databases
      .filter(([database]) => databases.has(database))
      .map(([database, commits]) => [commits, { database }]),
  );
  page.gauge(
    "bough_database_streams",
    "Open streams, by database",
    [...databases].map(([database, { streams }]) => [streams, { database }]),
  );
  page.gauge(
    "bough_database_head_bytes",
    "What the heads of a database would take as SQLite files",
    heads.map(([database, bytes]) => [bytes, { database }]),
  );
}

function addOpen(
  page: Page,
  counts: StoreCounters["connections"] & { readonly streams: number; readonly webSockets: number },
): void {
  page.gauge("bough_streams", "Open streams", [[counts.streams]]);
  page.gauge("bough_websockets", "Open WebSockets", [[counts.webSockets]]);
  page.gauge(
    "bough_connections",
    "Connections to the store: parked ones cost no memory of SQLite",
    [
      [counts.open - counts.parked, { state: "open" }],
      [counts.parked, { state: "parked" }],
    ],
  );
  page.gauge("bough_sqlite_instances", "Instances of SQLite", [[counts.instances]]);
  page.gauge("bough_sqlite_instance_bytes", "Memory of instances of SQLite", [
    [counts.instanceBytes],
  ]);
}

function addStore(page: Page, store: StoreCounters): void {
  const { log, cache, chunks, oldestCommitMs } = store;
  page.counter("bough_commits_total", "Commits", [[store.commits]]);
  page.counter("bough_checkpoints_total", "Checkpoints", [[store.checkpoints]]);
  page.gauge("bough_partitions", "Partitions of the store", [[store.partitions]]);
  page.gauge("bough_partitions_failed", "Partitions that take no commits: a write has failed", [
    [store.failedPartitions],
  ]);
  page.gauge("bough_log_pending_records", "Records of the log that are not durable yet", [
    [log.pendingRecords],
  ]);
  page.gauge("bough_checkpoint_lag_bytes", "Bytes in the log that no checkpoint has moved", [
    [log.bytesSinceCheckpoint],
  ]);
  page.gauge("bough_checkpoint_lag_records", "Records in the log that no checkpoint has moved", [
    [log.recordsSinceCheckpoint],
  ]);
  page.gauge(
    "bough_checkpoint_lag_seconds",
    "Age of the oldest commit that waits for a checkpoint",
    [[oldestCommitMs === null ? 0 : Math.max(0, Date.now() - oldestCommitMs) / 1000]],
  );
  page.counter("bough_cache_hits_total", "Pages read that the cache had", [[cache.hits]]);
  page.counter("bough_cache_misses_total", "Pages read that it had not", [[cache.misses]]);
  page.gauge("bough_cache_bytes", "Memory of the page cache", [[cache.bytes]]);
  page.gauge("bough_cache_max_bytes", "Limit of the page cache", [[cache.bytesMax]]);
  page.counter("bough_chunk_written_bytes_total", "Bytes of chunks that were written", [
    [chunks.bytesWritten],
  ]);
  page.counter("bough_checkpoint_pages_total", "Pages that checkpoints found in chunks, or wrote", [
    [chunks.pagesShared, { state: "shared" }],
    [chunks.pagesWritten, { state: "written" }],
  ]);
}

/** Series that begin anew with their thread: counters may. */
function addThreads(page: Page, loads: readonly ThreadLoad[]): void {
  if (loads.length === 0) return;
  page.counter(
    "bough_thread_busy_seconds_total",
    "How long the event loop of a thread was at work",
    loads.map(({ busyMs }, thread) => [busyMs / 1000, { thread: String(thread) }]),
  );
  page.counter(
    "bough_thread_ends_total",
    "Threads that have ended and were to be replaced",
    loads.map(({ ends }, thread) => [ends, { thread: String(thread) }]),
  );
}

function addDisk(page: Page, disk: DiskStatistics): void {
  page.gauge("bough_disk_bytes", "Sizes of the store's files", [
    [disk.chunkBytes, { files: "chunks" }],
    [disk.historyBytes, { files: "history" }],
    [disk.logBytes, { files: "log" }],
    [disk.catalogBytes, { files: "catalog" }],
  ]);
}
