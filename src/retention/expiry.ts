/**
 * Lets go of what the retention policy no longer keeps, one timeline and one catalog transaction at a time:
 *
 *   plan      what stays of the timeline (plan.ts), from the names and the catalog as they are now
 *   make      pins in a segment that is to go get a page map of their own, in slices; then the plan is made again
 *   commit    roots, references to segments and commits go, new roots come, in one transaction of the catalog
 *   segments  rows of history segments that no root names any more
 *   files     history files that no row names and nobody reads
 *
 * G1. A plan is carried out in the turn in which it is made: names that change meanwhile are seen, or come after it.
 * G2. Each transaction leaves a state that reads right, and from which the next expiry goes on. A file goes after its row.
 * G3. What is in the log only is newer than all that goes. Names in the log were checkpointed before (retain.ts): replaying
 *     what is newer needs nothing that goes.
 * G4. The caller does not go on while a checkpoint is under way: its batch holds rows as they were.
 */
import { CatalogBatch, type HistoryRow } from "../catalog/catalog.ts";
import { HISTORY_DIRECTORY, historySegmentNumber } from "../checkpoint/history-files.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import { type DatabaseClaims, claimsOf } from "./claims.ts";
import { commitPlan } from "./commit-plan.ts";
import { historyInUse } from "./history-in-use.ts";
import { type MadeRoot, makeRoot } from "./make-root.ts";
import { planTimeline } from "./plan.ts";
import { retentionOf } from "./policy.ts";
import { rootsOfTimeline } from "./timeline-facts.ts";

export interface ExpiryOptions {
  readonly nowMs: number;
}

export interface ExpiryReport {
  /** Versions that cannot be read any more. */
  expiredVersions: number;
  /** Versions between two checkpoints that were kept by making a page map of their own. */
  rootsMade: number;
  historySegments: number;
  /** Bytes of the history files that were deleted. */
  historyBytes: number;
}

/** Roots of one timeline that change in one transaction. */
const CHANGES_MAX = 4;
const NO_SEGMENTS: ReadonlySet<number> = new Set();

interface Run {
  readonly state: StoreState;
  readonly nowMs: number;
  readonly report: ExpiryReport;
  readonly claims: Map<OpenDatabase, { readonly lsn: number; readonly claims: DatabaseClaims }>;
}

/** Call `next()` until it is done, each time with no checkpoint under way (G4). */
export function* expire(
  state: StoreState,
  { nowMs }: ExpiryOptions,
): Generator<void, ExpiryReport> {
  const report = { expiredVersions: 0, rootsMade: 0, historySegments: 0, historyBytes: 0 };
  const run: Run = { state, nowMs, report, claims: new Map() };
  for (const database of state.databases.values()) {
    yield* expireDatabase(run, database, NO_SEGMENTS);
    const kept = yield* dropSegments(run, database);
    const excess = excessSegments(database, kept);
    if (excess.size === 0) continue;
    yield* expireDatabase(run, database, excess);
    yield* dropSegments(run, database);
  }
  yield* deleteFiles(run);
  return report;
}

function* expireDatabase(
  run: Run,
  database: OpenDatabase,
  excess: ReadonlySet<number>,
): Generator<void> {
  for (const id of database.timelines.keys()) {
    yield* expireTimeline(run, database, { id, excess });
    yield;
  }
}

function* expireTimeline(
  run: Run,
  database: OpenDatabase,
  { id, excess }: { readonly id: number; readonly excess: ReadonlySet<number> },
): Generator<void> {
  const { state, nowMs, report } = run;
  const made = new Map<number, MadeRoot>();
  try {
    for (;;) {
      const timeline = database.timelines.get(id);
      if (timeline === undefined || !isOpen(run, database)) return;
      const roots = rootsOfTimeline(state.catalog, timeline.row);
      const { claims, pins, current } = claimsNow(run, database);
      const hasNewer = timeline.head.version > timeline.view.floor.version;
      const plan = planTimeline({
        nowMs,
        startVersion: timeline.row.parent?.version ?? 0,
        roots,
        claims: claims.get(id) ?? [],
        pins: pins.get(id) ?? NO_SEGMENTS,
        keepsHead: current.has(id) || hasNewer || timeline.writer !== null,
        excess,
        changesMax: CHANGES_MAX,
      });
      if (plan.lastChange < 0) return;
      const missing = plan.newRoots.filter((version) => !made.has(version));
      if (missing.length === 0) {
        report.expiredVersions += commitPlan(state, { timeline, roots, plan, made });
        report.rootsMade += plan.newRoots.length;
        if (plan.isComplete) return;
      }
      for (const version of missing)
        made.set(version, yield* makeRoot(state, database, { timeline: id, version }));
      yield;
    }
  } finally {
    for (const root of made.values()) root.release();
  }
}

/** One that is being handed over to another partition is left out: what is kept of it is sent there. */
function isOpen({ state }: Run, database: OpenDatabase): boolean {
  return database.movingTo === undefined && state.databases.get(database.refs.row.id) === database;
}

/** What the names ask for, as of now (G1): every change of names is a log record. */
function claimsNow(run: Run, database: OpenDatabase): DatabaseClaims {
  const lsn = run.state.log.lastLsn;
  const known = run.claims.get(database);
  if (known !== undefined && known.lsn === lsn) return known.claims;
  const claims = claimsOf(database.refs);
  run.claims.set(database, { lsn, claims });
  return claims;
}

/** Returns the segments that roots of the database still name, oldest first. */
function* dropSegments(run: Run, database: OpenDatabase): Generator<void, HistoryRow[]> {
  const { state, report } = run;
  const { catalog } = state;
  const databaseId = database.refs.row.id;
  // Segments that come while this looks are newer, and named by roots that it may have passed already.
  const rows = [...catalog.historySegments()].filter((row) => row.databaseId === databaseId);
  const named = new Set<number>();
  for (const id of database.timelines.keys()) {
    for (const root of catalog.roots(databaseId, id, { from: 0, to: Infinity }))
      named.add(root.historySegment);
    yield;
  }
  const batch = new CatalogBatch();
  const unused = rows.filter(({ segment }) => !named.has(segment));
  if (unused.length === 0 || !isOpen(run, database)) return rows;
  for (const { segment } of unused) batch.deleteHistory(segment);
  batch.commit(catalog.store);
  report.historySegments += unused.length;
  yield;
  return rows.filter(({ segment }) => named.has(segment));
}

/** The oldest, until the rest is within the bound (W6). */
function excessSegments(database: OpenDatabase, kept: readonly HistoryRow[]): Set<number> {
  const { historyBytesMax } = retentionOf(database.refs.row, null);
  const excess = new Set<number>();
  if (historyBytesMax === null) return excess;
  let bytes = kept.reduce((sum, { size }) => sum + size, 0);
  for (const { segment, size } of kept) {
    if (bytes <= historyBytesMax) break;
    excess.add(segment);
    bytes -= size;
  }
  return excess;
}

/** Also those that a crash left, before their row came or after it went. */
function* deleteFiles({ state, report }: Run): Generator<void> {
  const { storage, history, catalog } = state;
  // Nobody names or begins to read a segment again that nothing names now.
  const named = new Set([...catalog.historySegments()].map(({ segment }) => segment));
  const inUse = historyInUse(state);
  for (const name of storage.listSync(HISTORY_DIRECTORY)) {
    const segment = historySegmentNumber(name);
    if (segment === null || named.has(segment) || inUse.has(segment)) continue;
    report.historyBytes += history.remove(segment);
    yield;
  }
}
