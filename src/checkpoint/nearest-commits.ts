/** The readable commits next to a version on one timeline, for messages about what has expired. */
import type { CommitPlace } from "../transaction/snapshot.ts";
import type { Timeline } from "../transaction/timeline.ts";
import { isReadable } from "./snapshot-at.ts";
import type { StoreParts } from "./store-state.ts";

/** Own commits of the timeline that have a row or are in memory, readable or not; the newest first when `reverse`. */
export function* ownCommits(
  parts: StoreParts,
  timeline: Timeline,
  range: { readonly from: number; readonly to: number; readonly reverse: boolean },
): Generator<CommitPlace & { readonly changedPages: number }> {
  const { row, view } = timeline;
  const { to, reverse } = range;
  const from = Math.max(range.from, (row.parent?.version ?? 0) + 1);
  const recent = view.layers
    .filter(({ layer }) => layer.timelineId === row.id)
    .flatMap(({ layer }) => layer.commits.toReversed())
    .filter(({ version }) => version >= from && version <= to);
  if (reverse) yield* recent;
  const stored = Math.min(to, Math.max(view.floor.version, (row.everyCommitFrom ?? 0) - 1));
  yield* parts.catalog.commits(row.databaseId, row.id, { from, to: stored, reverse });
  if (!reverse) yield* recent.toReversed();
}

/** The newest readable commit up to `version`, the oldest after it up to `end`; null when there is none. */
export function nearestReadable(
  parts: StoreParts,
  timeline: Timeline,
  { version, end }: { readonly version: number; readonly end: number },
): { readonly before: CommitPlace | null; readonly after: CommitPlace | null } {
  const first = (range: { from: number; to: number; reverse: boolean }): CommitPlace | null => {
    for (const commit of ownCommits(parts, timeline, range))
      if (isReadable(parts, timeline, commit.version)) return commit;
    return null;
  };
  return {
    before: first({ from: 0, to: Math.min(version, end), reverse: true }),
    after: first({ from: version + 1, to: end, reverse: false }),
  };
}
