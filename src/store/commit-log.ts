/** The commits of a branch, newest first, through all that it grew from. */
import type { BranchRow } from "../catalog/rows.ts";
import { ownCommits } from "../checkpoint/nearest-commits.ts";
import { isReadable, timelineOf } from "../checkpoint/snapshot-at.ts";
import type { OpenDatabase, Timeline } from "../transaction/timeline.ts";
import type { Engine } from "./engine.ts";
import { timelineAtVersion } from "./resolve-revision.ts";

export interface Commit {
  readonly version: number;
  readonly timestamp: Date;
  /** Pages of the database after the commit. */
  readonly pageCount: number;
  /** Pages that the commit wrote. */
  readonly changedPages: number;
  /** The branch that the commit was made on, by its name now. */
  readonly branch: string;
  /** The version it changed; null for the first, and where that has expired. */
  readonly parent: number | null;
}

export interface LogOptions {
  /** At most this many commits. */
  readonly limit?: number;
  /** Only versions up to this one. */
  readonly before?: number;
}

export function* commitLog(
  engine: Engine,
  database: OpenDatabase,
  branch: BranchRow,
  options: LogOptions,
): Generator<Commit> {
  const { state } = engine;
  let remaining = options.limit ?? Infinity;
  let pending: Omit<Commit, "parent"> | null = null;
  let maxVersion = options.before ?? Infinity;
  let timeline: Timeline | null = timelineOf(database, branch.history.at(-1)!.timeline);
  while (timeline !== null && remaining > 0) {
    const nameOf = branchNames(database, timeline.row.id, branch.name);
    for (const commit of ownCommits(state, timeline, { from: 0, to: maxVersion, reverse: true })) {
      const isKept = isReadable(state, timeline, commit.version);
      if (pending !== null) {
        yield { ...pending, parent: isKept ? commit.version : null };
        pending = null;
        if (--remaining <= 0) return;
      }
      if (!isKept) continue;
      pending = {
        version: commit.version,
        timestamp: new Date(commit.timestampMs),
        pageCount: commit.pageCount,
        changedPages: commit.changedPages,
        branch: nameOf(commit.version),
      };
    }
    const parent: Timeline["row"]["parent"] = timeline.row.parent;
    maxVersion = Math.min(maxVersion, parent?.version ?? 0);
    timeline = parent === null ? null : timelineOf(database, parent.timeline);
  }
  if (pending !== null && remaining > 0) yield { ...pending, parent: null };
}

/**
 * Who made a commit of a timeline: the branch that named it then. After a restore two do, the branch and its backup; the
 * older one, living or not, made what is from before.
 */
function branchNames(
  database: OpenDatabase,
  timeline: number,
  fallback: string,
): (version: number) => string {
  const rows = [...database.refs.branches.values()].filter((row) =>
    row.history.some((entry) => entry.timeline === timeline),
  );
  return (version) =>
    rows.find((row) => timelineAtVersion(row, version) === timeline)?.name ?? fallback;
}
