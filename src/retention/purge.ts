/**
 * What is forgotten for good: deleted branches and databases whose time to come back is over, and timelines on which nothing
 * is kept. Changes of names, to be logged and applied like all others.
 *
 * U1. A timeline goes when no branch names it now or has named it within the time in which it keeps every commit, no tag is on
 *     it, nothing that stays grew from it, and its policies keep none of its versions. (One without commits of its own still
 *     says what the branch was meanwhile.)
 */
import type { DatabaseRefs, RefChange } from "../branch/refs.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import type { OpenDatabase, Timeline } from "../transaction/timeline.ts";
import { type Claim, claimsOf, withAncestors } from "./claims.ts";
import { planTimeline } from "./plan.ts";
import { retentionOf, windowStart } from "./policy.ts";
import { rootsOfTimeline } from "./timeline-facts.ts";

/** Branches and databases that cannot come back any more. */
export function overdueDeletions(state: StoreState, nowMs: number): RefChange[] {
  const changes: RefChange[] = [];
  for (const { refs, movingTo } of state.databases.values()) {
    if (movingTo !== undefined) continue;
    const { row, branches } = refs;
    const databaseId = row.id;
    if (isOverdue(row.deletedAtMs, nowMs, retentionOf(row, null).undeleteMs)) {
      changes.push({ type: "purge-database", databaseId });
      continue;
    }
    for (const branch of branches.values())
      if (isOverdue(branch.deletedAtMs, nowMs, retentionOf(row, branch).undeleteMs))
        changes.push({ type: "purge-branch", databaseId, branchId: branch.id });
  }
  return changes;
}

function isOverdue(deletedAtMs: number | null, nowMs: number, undeleteMs: number | null): boolean {
  return deletedAtMs !== null && deletedAtMs <= windowStart(nowMs, undeleteMs);
}

/** U1, of what the catalog has: call it after a checkpoint. */
export function unneededTimelines(state: StoreState, nowMs: number): RefChange[] {
  const changes: RefChange[] = [];
  for (const database of state.databases.values()) {
    if (database.movingTo !== undefined) continue;
    const timelineIds = unneededIn(state, database, nowMs);
    const databaseId = database.refs.row.id;
    if (timelineIds.length > 0) changes.push({ type: "purge-timelines", databaseId, timelineIds });
  }
  return changes;
}

function unneededIn(state: StoreState, database: OpenDatabase, nowMs: number): number[] {
  const { refs, timelines } = database;
  const { claims, current, tagged } = claimsOf(refs);
  const needed = withAncestors(refs, [...current, ...tagged, ...recentlyNamed(refs, nowMs)]);
  const kept = [...timelines.values()].filter(
    (timeline) =>
      !needed.has(timeline.row.id) &&
      keepsVersions(state, timeline, claims.get(timeline.row.id) ?? [], nowMs),
  );
  for (const id of withAncestors(
    refs,
    kept.map(({ row }) => row.id),
  ))
    needed.add(id);
  return [...timelines.keys()].filter((id) => !needed.has(id));
}

/** Timelines that branches named within the time in which they keep every commit. */
function recentlyNamed({ row, branches }: DatabaseRefs, nowMs: number): number[] {
  return [...branches.values()].flatMap((branch) => {
    const start = windowStart(nowMs, retentionOf(row, branch).everyCommitMs);
    return branch.history
      .filter((_, index) => (branch.history[index + 1]?.atMs ?? Infinity) > start)
      .map(({ timeline }) => timeline);
  });
}

function keepsVersions(
  state: StoreState,
  timeline: Timeline,
  claims: readonly Claim[],
  nowMs: number,
): boolean {
  const isBusy = timeline.writer !== null || timeline.head.version > timeline.view.floor.version;
  if (isBusy || claims.length === 0) return isBusy;
  const { roots } = planTimeline({
    nowMs,
    startVersion: timeline.row.parent?.version ?? 0,
    roots: rootsOfTimeline(state.catalog, timeline.row),
    claims,
    pins: new Set(),
    keepsHead: false,
    excess: new Set(),
    changesMax: Infinity,
  });
  return roots.some(({ stays }) => stays);
}
