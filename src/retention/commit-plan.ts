/**
 * Carries out the plan of one timeline in one transaction of the catalog.
 *
 * Q1. Of the commits that are not readable any more the row stays only where a readable one, or the fork point, is just before
 *     (A2 in snapshot-at.ts): it says until when that one was current.
 * Q2. `everyCommitFrom` becomes the version after which nothing has gone, and never goes back.
 * Q3. A timeline whose newest root goes, which no branch names, ends at its newest version that stays; without any, at its
 *     fork point. Its head in memory and in the catalog are that.
 */
import { CatalogBatch } from "../catalog/catalog.ts";
import { COMMIT_RUN_MAX, type CommitRow } from "../catalog/commit-run.ts";
import { putPending } from "../checkpoint/index-pending.ts";
import { openTimeline } from "../checkpoint/snapshot-at.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import { invariant } from "../errors.ts";
import type { PageMapRoot } from "../page/page-map.ts";
import { RootSource } from "../transaction/root-source.ts";
import { type CommitPlace, View } from "../transaction/snapshot.ts";
import { Timeline } from "../transaction/timeline.ts";
import type { MadeRoot } from "./make-root.ts";
import type { TimelinePlan } from "./plan.ts";
import type { KnownRoot } from "./timeline-facts.ts";

export interface PlannedTimeline {
  readonly timeline: Timeline;
  readonly roots: readonly KnownRoot[];
  readonly plan: TimelinePlan;
  /** By version: the plan's new roots, perhaps more. */
  readonly made: ReadonlyMap<number, MadeRoot>;
}

/** Returns how many versions are not readable any more. The plan changes something. */
export function commitPlan(state: StoreState, planned: PlannedTimeline): number {
  const { timeline, plan, made } = planned;
  const { databaseId, id } = timeline.row;
  const batch = new CatalogBatch();
  putRoots(planned, batch);
  for (const version of plan.newRoots) {
    const { root, newNodes } = made.get(version)!;
    for (const node of newNodes) {
      state.barrier.marks?.node(node.id);
      batch.putNode(node.id, node.bytes);
    }
    batch.putRoot(databaseId, id, { version, root, historySegment: 0 });
  }
  const dropped = dropCommits(state, planned, batch);
  const end = newEnd(planned);
  const { view, row } = timeline;
  const head = end ?? { place: view.floor, root: rootOf(timeline) };
  const everyCommitFrom = completeFrom(planned);
  batch.putTimeline({
    row: { ...row, everyCommitFrom },
    headVersion: head.place.version,
    headTimestampMs: head.place.timestampMs,
    root: head.root,
  });
  if (plan.newRoots.length > 0) {
    state.chunks.syncSync();
    putPending(state, batch);
  }
  batch.commit(state.catalog.store);
  if (plan.newRoots.length > 0) state.pending.clear();
  row.everyCommitFrom = everyCommitFrom;
  if (end !== null) shorten(state, timeline, end);
  return dropped;
}

function putRoots({ timeline, roots, plan }: PlannedTimeline, batch: CatalogBatch): void {
  const { databaseId, id } = timeline.row;
  for (const [index, { row }] of roots.entries()) {
    const { stays, segmentStays } = plan.roots[index]!;
    if (!stays) batch.deleteRoot(databaseId, id, row.version);
    else if (row.historySegment !== 0 && !segmentStays)
      batch.putRoot(databaseId, id, { ...row, historySegment: 0 });
  }
}

/** Q2. */
function completeFrom({ timeline, roots, plan }: PlannedTimeline): number {
  const { lastChange } = plan;
  const last = plan.roots[lastChange]!.stays ? roots[lastChange] : roots[lastChange + 1];
  const from = last?.version ?? timeline.head.version + 1;
  return Math.max(timeline.row.everyCommitFrom ?? 0, from);
}

interface End {
  readonly place: CommitPlace;
  /** Null: the timeline has no commit of its own any more. */
  readonly root: PageMapRoot | null;
}

/** Q3; null: the head stays. */
function newEnd({ timeline, roots, plan, made }: PlannedTimeline): End | null {
  if (plan.roots.at(-1)!.stays) return null;
  const index = plan.roots.findLastIndex(({ stays }) => stays);
  const kept = roots[index];
  const version = Math.max(kept?.version ?? 0, plan.newRoots.at(-1) ?? 0);
  if (version === 0) {
    const { parent, createdAtMs } = timeline.row;
    const place = { version: parent?.version ?? 0, pageCount: 0, timestampMs: createdAtMs };
    return { place, root: null };
  }
  const { root, timestampMs } =
    kept?.version === version
      ? { root: kept.row.root, timestampMs: kept.timestampMs }
      : made.get(version)!;
  return { place: { version, pageCount: root.pageCount, timestampMs }, root };
}

function rootOf({ view, row }: Timeline): PageMapRoot {
  const { base } = view;
  invariant(base instanceof RootSource, `Timeline ${row.id} rests on a checkpoint`);
  return base.root;
}

function shorten(state: StoreState, timeline: Timeline, { place, root }: End): void {
  const { database, row, view } = timeline;
  if (root === null) {
    database.timelines.set(row.id, openTimeline(state, database, row.id));
    return;
  }
  const { pageMap, chunks } = state;
  const base = new RootSource(root, { pageMap, chunks, pageSize: database.refs.row.pageSize });
  const shorter = new View(view.context, [Timeline.topLayer(row.id)], base, place);
  database.timelines.set(row.id, new Timeline(database, row, shorter, place));
}

/** Q1. Looks only at the commits around the roots that change. Returns how many are not readable any more. */
function dropCommits(state: StoreState, planned: PlannedTimeline, batch: CatalogBatch): number {
  const { timeline, roots, plan } = planned;
  const { databaseId, id } = timeline.row;
  const firstChange = plan.roots.findIndex(
    ({ stays, segmentStays }, index) =>
      !stays || (roots[index]!.historySegment !== 0 && !segmentStays),
  );
  const from = roots[firstChange - 1]?.version ?? 0;
  const to = roots[plan.lastChange + 1]?.version ?? Infinity;
  const wasReadable = readableBefore(planned);
  const isReadable = readableAfter(planned);
  const kept: CommitRow[] = [];
  const runs: number[] = [];
  let isAfterReadable = true; // The fork point, or the beginning.
  let expired = 0;
  for (const run of state.catalog.commitRuns(databaseId, id, from)) {
    if (run.at(-1)!.version > to) break;
    runs.push(run[0]!.version);
    for (const commit of run.toReversed()) {
      const isRead = isReadable(commit.version);
      if (!isRead && wasReadable(commit.version)) expired++;
      const isOutside = commit.version < from || commit.version > to;
      if (isRead || isAfterReadable || isOutside) kept.push(commit);
      isAfterReadable = isRead;
    }
  }
  const newRuns = new Set<number>();
  for (let end = COMMIT_RUN_MAX; end < kept.length + COMMIT_RUN_MAX; end += COMMIT_RUN_MAX)
    newRuns.add(kept[Math.min(end, kept.length) - 1]!.version);
  for (const version of runs)
    if (!newRuns.has(version)) batch.deleteCommitRun(databaseId, id, version);
  batch.putCommits(databaseId, id, kept);
  return expired;
}

/** Ask for versions that ascend. */
function readableBefore({ roots }: PlannedTimeline): (version: number) => boolean {
  const nextRoot = rootAfter(roots);
  return (version) => {
    const next = roots[nextRoot(version)];
    return next === undefined || next.version === version || next.historySegment !== 0;
  };
}

/** Ask for versions that ascend. */
function readableAfter({ roots, plan }: PlannedTimeline): (version: number) => boolean {
  const made = new Set(plan.newRoots);
  const nextRoot = rootAfter(roots);
  return (version) => {
    if (made.has(version)) return true;
    const index = nextRoot(version);
    const next = plan.roots[index];
    if (next === undefined) return true;
    return roots[index]!.version === version ? next.stays : next.segmentStays;
  };
}

/** The index of the first root at or after a version; versions ascend from call to call. */
function rootAfter(roots: readonly KnownRoot[]): (version: number) => number {
  let index = 0;
  return (version) => {
    while (index < roots.length && roots[index]!.version < version) index++;
    return index;
  };
}
