/**
 * What the names of a database ask of its timelines: for how long versions are wanted, and which ones for ever.
 *
 *   claim   a branch that is, or can be undeleted, names or named the timeline, or grew from it, up to a version: what its
 *           policy keeps of the commits up to there is kept
 *   pin     one version, whatever its age: the target of a tag, the fork point of a timeline
 *
 * L1. A claim reaches through all parents: what a branch can name is asked for under that branch's policy.
 * L2. A pin is on the timeline whose own commit it is.
 */
import type { DatabaseRefs } from "../branch/refs.ts";
import { currentTimelineId } from "../branch/refs.ts";
import type { CommitPointer } from "../catalog/rows.ts";
import { type RetentionPolicy, retentionOf } from "./policy.ts";

/** Versions up to `upTo`, kept as the windows say. */
export interface Claim extends Pick<RetentionPolicy, "everyCommitMs" | "hourlyMs" | "dailyMs"> {
  readonly upTo: number;
}

export interface DatabaseClaims {
  /** By timeline. */
  readonly claims: ReadonlyMap<number, readonly Claim[]>;
  readonly pins: ReadonlyMap<number, ReadonlySet<number>>;
  /** Timelines that a branch names now: their heads stay. */
  readonly current: ReadonlySet<number>;
  /** Timelines of tags. */
  readonly tagged: ReadonlySet<number>;
}

export function claimsOf(refs: DatabaseRefs): DatabaseClaims {
  const claims = new Map<number, Map<string, Claim>>();
  const current = new Set<number>();
  for (const branch of refs.branches.values()) {
    const { everyCommitMs, hourlyMs, dailyMs } = retentionOf(refs.row, branch);
    const windows = { everyCommitMs, hourlyMs, dailyMs };
    const key = `${everyCommitMs}/${hourlyMs}/${dailyMs}`;
    current.add(currentTimelineId(branch));
    for (const [index, entry] of branch.history.entries()) {
      const upTo = branch.history[index + 1]?.afterVersion ?? Infinity;
      addClaims(refs, claims, { timeline: entry.timeline, key, claim: { ...windows, upTo } });
    }
  }
  const pins = new Map<number, Set<number>>();
  const pin = (at: CommitPointer): void => {
    const { timeline, version } = ownerOf(refs, at);
    if (version === 0) return;
    const versions = pins.get(timeline);
    if (versions === undefined) pins.set(timeline, new Set([version]));
    else versions.add(version);
  };
  for (const tag of refs.tags.values()) pin(tag.target);
  for (const { parent } of refs.timelines.values()) if (parent !== null) pin(parent);
  return {
    claims: new Map([...claims].map(([timeline, own]) => [timeline, [...own.values()]])),
    pins,
    current,
    tagged: new Set([...refs.tags.values()].map(({ target }) => target.timeline)),
  };
}

/** L1. Of claims with the same windows the one that reaches furthest says all. */
function addClaims(
  refs: DatabaseRefs,
  claims: Map<number, Map<string, Claim>>,
  start: { readonly timeline: number; readonly key: string; readonly claim: Claim },
): void {
  let row = refs.timelines.get(start.timeline);
  let { upTo } = start.claim;
  while (row !== undefined) {
    let own = claims.get(row.id);
    if (own === undefined) claims.set(row.id, (own = new Map<string, Claim>()));
    const known = own.get(start.key);
    if (known !== undefined && known.upTo >= upTo) return;
    own.set(start.key, { ...start.claim, upTo });
    if (row.parent === null) return;
    upTo = Math.min(upTo, row.parent.version);
    row = refs.timelines.get(row.parent.timeline);
  }
}

/** L2: where the commit was made. Version 0: before the first commit. */
export function ownerOf(refs: DatabaseRefs, at: CommitPointer): CommitPointer {
  let { timeline } = at;
  for (;;) {
    const parent = refs.timelines.get(timeline)?.parent ?? null;
    if (parent === null || at.version > parent.version) return { timeline, version: at.version };
    timeline = parent.timeline;
  }
}

/** These timelines and all that they grew from. */
export function withAncestors(refs: DatabaseRefs, timelines: Iterable<number>): Set<number> {
  const found = new Set<number>();
  for (const start of timelines) {
    let row = refs.timelines.get(start);
    while (row !== undefined && !found.has(row.id)) {
      found.add(row.id);
      row = row.parent === null ? undefined : refs.timelines.get(row.parent.timeline);
    }
  }
  return found;
}
