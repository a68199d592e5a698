/** The checkpoint roots of a timeline as the catalog has them, with the times that decide what becomes of them. */
import type { Catalog, RootRow } from "../catalog/catalog.ts";
import type { CommitRow } from "../catalog/commit-run.ts";
import type { TimelineRow } from "../catalog/rows.ts";
import { StoreError } from "../errors.ts";
import type { RootFacts } from "./plan.ts";

export interface KnownRoot extends RootFacts {
  readonly row: RootRow;
}

/** Ascending by version. Throws CORRUPT_CATALOG. */
export function rootsOfTimeline(catalog: Catalog, row: TimelineRow): KnownRoot[] {
  const roots: KnownRoot[] = [];
  let before = row.parent?.version ?? 0;
  for (const root of catalog.roots(row.databaseId, row.id, { from: 0, to: Infinity })) {
    const { version, historySegment } = root;
    // The commit of the root itself, and the newest one before it in the segment.
    const [own, between] = newestCommits(catalog, row, {
      from: before + 1,
      to: version,
      limit: historySegment === 0 ? 1 : 2,
    });
    if (own?.version !== version)
      throw new StoreError(
        "CORRUPT_CATALOG",
        `Cannot read the catalog: the commit of checkpoint ${version} of timeline ${row.id} is missing`,
        { details: { version, timeline: row.id } },
      );
    roots.push({
      row: root,
      version,
      timestampMs: own.timestampMs,
      historySegment,
      newestBetweenMs: historySegment === 0 ? null : (between?.timestampMs ?? own.timestampMs),
    });
    before = version;
  }
  return roots;
}

function newestCommits(
  catalog: Catalog,
  row: TimelineRow,
  range: { from: number; to: number; limit: number },
): CommitRow[] {
  return [...catalog.commits(row.databaseId, row.id, { ...range, reverse: true })];
}
