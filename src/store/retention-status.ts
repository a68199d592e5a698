/** What of a branch is readable now, why, and until when: what `bough retention show` prints. */
import { MAIN_BRANCH } from "../branch/refs.ts";
import type { BranchRow } from "../catalog/rows.ts";
import { ownCommits } from "../checkpoint/nearest-commits.ts";
import { timelineOf } from "../checkpoint/snapshot-at.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import { ownerOf } from "../retention/claims.ts";
import { DAY_MS, HOUR_MS } from "../retention/plan.ts";
import { type RetentionPolicy, retentionOf } from "../retention/policy.ts";
import type { CommitPlace } from "../transaction/snapshot.ts";
import type { OpenDatabase, Timeline } from "../transaction/timeline.ts";
import { commitLog } from "./commit-log.ts";
import type { Engine } from "./engine.ts";

export interface KeptVersion {
  readonly version: number;
  readonly timestamp: Date;
  /** "hourly", "daily", "tag NAME", "fork of NAME"; none: the next expiry may take it, or another branch keeps it. */
  readonly reasons: readonly string[];
  /** Null: as long as the reasons are there. At least until then otherwise. */
  readonly until: Date | null;
}

export interface RetentionStatus {
  readonly policy: RetentionPolicy;
  /** Every commit from this one on is readable; null: there are no commits. */
  readonly everyCommitFrom: { readonly version: number; readonly timestamp: Date } | null;
  /** Before that one, newest first. */
  readonly older: readonly KeptVersion[];
  readonly hasExpired: boolean;
  /** Of the whole database. */
  readonly historySegments: number;
  readonly historyBytes: number;
}

export function retentionStatus(
  engine: Engine,
  database: OpenDatabase,
  branch: BranchRow,
): RetentionStatus {
  const { state } = engine;
  const { row } = database.refs;
  const policy = retentionOf(row, branch);
  const chain = chainOf(database, branch);
  const from = completeFrom(state, chain);
  const segments = [...state.catalog.historySegments()].filter(
    ({ databaseId }) => databaseId === row.id,
  );
  return {
    policy,
    everyCommitFrom:
      from === null ? null : { version: from.version, timestamp: new Date(from.timestampMs) },
    older: from === null ? [] : olderVersions(engine, database, branch, from.version),
    hasExpired: chain.some(({ timeline }) => timeline.row.everyCommitFrom !== undefined),
    historySegments: segments.length,
    historyBytes: segments.reduce((sum, { size }) => sum + size, 0),
  };
}

interface Link {
  readonly timeline: Timeline;
  /** Its commits up to here are the branch's. */
  readonly end: number;
}

/** What the branch is made of now, the newest first. */
function chainOf(database: OpenDatabase, branch: BranchRow): Link[] {
  const chain: Link[] = [];
  let timeline = timelineOf(database, branch.history.at(-1)!.timeline);
  let end = Infinity;
  for (;;) {
    chain.push({ timeline, end });
    const { parent } = timeline.row;
    if (parent === null) return chain;
    end = Math.min(end, parent.version);
    timeline = timelineOf(database, parent.timeline);
  }
}

function completeFrom(state: StoreState, chain: readonly Link[]): CommitPlace | null {
  let found: CommitPlace | null = null;
  for (const { timeline, end } of chain) {
    const from = timeline.row.everyCommitFrom ?? 0;
    found = firstOf(ownCommits(state, timeline, { from, to: end, reverse: false })) ?? found;
    if (from === 0) continue;
    // All that is newer has expired but the fork point of what comes after, or there is nothing newer.
    return found ?? firstOf(ownCommits(state, timeline, { from: 0, to: end, reverse: true }));
  }
  return found;
}

function firstOf(commits: Iterable<CommitPlace>): CommitPlace | null {
  for (const commit of commits) return commit;
  return null;
}

function olderVersions(
  engine: Engine,
  database: OpenDatabase,
  branch: BranchRow,
  from: number,
): KeptVersion[] {
  const policy = retentionOf(database.refs.row, branch);
  const hours = new Set<number>();
  const days = new Set<number>();
  const isFirst = (seen: Set<number>, period: number): boolean =>
    !seen.has(period) && seen.add(period).has(period);
  const names = namesOf(database);
  const nowMs = engine.options.now();
  return [...commitLog(engine, database, branch, { before: from - 1 })].map(
    ({ version, timestamp }) => {
      const atMs = timestamp.getTime();
      const reasons = [...(names.get(version) ?? [])];
      const isKept = reasons.length > 0;
      let untilMs = nowMs;
      for (const [name, windowMs, seen, periodMs] of [
        ["hourly", policy.hourlyMs, hours, HOUR_MS],
        ["daily", policy.dailyMs, days, DAY_MS],
      ] as const) {
        if (!isFirst(seen, Math.floor(atMs / periodMs))) continue;
        const endMs = windowMs === null ? Infinity : atMs + windowMs;
        if (endMs <= nowMs) continue;
        reasons.push(name);
        untilMs = Math.max(untilMs, endMs);
      }
      const until = isKept || untilMs === Infinity ? null : new Date(untilMs);
      return { version, timestamp, reasons, until };
    },
  );
}

/** Why versions are kept whatever their age. */
function namesOf({ refs }: OpenDatabase): Map<number, string[]> {
  const names = new Map<number, string[]>();
  const add = (version: number, name: string): void => {
    const known = names.get(version);
    if (known === undefined) names.set(version, [name]);
    else if (!known.includes(name)) known.push(name);
  };
  for (const { name, target } of refs.tags.values()) add(target.version, `tag ${name}`);
  for (const { id, parent } of refs.timelines.values()) {
    if (parent === null) continue;
    const { version } = ownerOf(refs, parent);
    const owner = [...refs.branches.values()].find(({ history }) =>
      history.some(({ timeline }) => timeline === id),
    );
    add(version, `fork of ${owner?.name ?? MAIN_BRANCH}`);
  }
  return names;
}
