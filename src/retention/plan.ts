/**
 * What stays of one timeline, as a pure function of what its names ask for, of its checkpoint roots, and of the time.
 *
 *   root 1 ---- root 2 ==segment== root 3 ==segment== root 4
 *
 * A segment belongs to the root after it and holds changes of the root before it.
 *
 * W1. Every commit within a claim's window is readable: it has a root, or its segment stays.
 * W2. A segment stays or goes as a whole: when one of its commits is within a window, all of them stay readable.
 * W3. A segment that stays keeps both roots that it lies between.
 * W4. Of the roots of an hour, or a day, that are within the window for that, the newest up to the claim's end stays. Pins are
 *     left out: what stays for them alone does not stand for an hour.
 * W5. A pin has a root, or lies in a segment that stays, or gets a root.
 * W6. Segments above the bound in bytes go, however new they are. Roots do not.
 * W7. Taking only the oldest changes first (`changesMax`) leaves a state for which all of this holds but what may go.
 */
import type { Claim } from "./claims.ts";
import { windowStart } from "./policy.ts";

export interface RootFacts {
  readonly version: number;
  readonly timestampMs: number;
  /** 0: none. */
  readonly historySegment: number;
  /** Of the newest commit in the segment, which is before this root; null without a segment. */
  readonly newestBetweenMs: number | null;
}

export interface TimelinePlanRequest {
  readonly nowMs: number;
  /** The fork point's version, or 0. */
  readonly startVersion: number;
  /** Ascending by version. */
  readonly roots: readonly RootFacts[];
  readonly claims: readonly Claim[];
  readonly pins: ReadonlySet<number>;
  /** Whether the newest root stays whatever its age. */
  readonly keepsHead: boolean;
  /** Segments that go for the bound in bytes. */
  readonly excess: ReadonlySet<number>;
  /** At most so many roots change; from 2. */
  readonly changesMax: number;
}

export interface RootPlan {
  readonly stays: boolean;
  readonly segmentStays: boolean;
}

export interface TimelinePlan {
  /** One for each root of the request. */
  readonly roots: readonly RootPlan[];
  /** Pins that need a root of their own before the segment that they lie in goes; ascending. */
  readonly newRoots: readonly number[];
  /** Index of the last root that changes; -1: none does. */
  readonly lastChange: number;
  /** False: more is to go than `changesMax` allowed. */
  readonly isComplete: boolean;
}

export const HOUR_MS = 3_600_000;
export const DAY_MS: number = 24 * HOUR_MS;

export function planTimeline(request: TimelinePlanRequest): TimelinePlan {
  const { roots, pins, keepsHead } = request;
  const segmentStays = roots.map((root, index) => isSegmentWanted(request, root, index));
  const stays = roots.map(
    ({ version }, index) => pins.has(version) || (keepsHead && index === roots.length - 1),
  );
  for (const claim of request.claims) {
    keepWithinWindow(request, claim, stays);
    keepNewestOfEach(request, { claim, stays, windowMs: claim.hourlyMs, periodMs: HOUR_MS });
    keepNewestOfEach(request, { claim, stays, windowMs: claim.dailyMs, periodMs: DAY_MS });
  }
  for (const index of roots.keys()) if (segmentStays[index] === true) keepBothEnds(stays, index);
  const changes = [...roots.keys()].filter(
    (index) => stays[index] !== true || isDropped(request, segmentStays, index),
  );
  const isComplete = changes.length <= request.changesMax;
  const lastChange = (isComplete ? changes.at(-1) : changes[request.changesMax - 1]) ?? -1;
  for (let index = lastChange + 1; index < roots.length; index++) {
    stays[index] = true;
    segmentStays[index] = roots[index]!.historySegment !== 0;
    if (segmentStays[index] === true) keepBothEnds(stays, index);
  }
  return {
    roots: roots.map((_, index) => ({
      stays: stays[index] === true,
      segmentStays: segmentStays[index] === true,
    })),
    newRoots: [...pins]
      .filter((version) => needsRoot(request, segmentStays, version))
      .sort((left, right) => left - right),
    lastChange,
    isComplete,
  };
}

function isSegmentWanted(request: TimelinePlanRequest, root: RootFacts, index: number): boolean {
  const { historySegment, newestBetweenMs } = root;
  if (historySegment === 0 || newestBetweenMs === null || request.excess.has(historySegment))
    return false;
  const before = request.roots[index - 1]?.version ?? request.startVersion;
  return request.claims.some(
    ({ upTo, everyCommitMs }) =>
      upTo > before && newestBetweenMs > windowStart(request.nowMs, everyCommitMs),
  );
}

/** W1. */
function keepWithinWindow(request: TimelinePlanRequest, claim: Claim, stays: boolean[]): void {
  const start = windowStart(request.nowMs, claim.everyCommitMs);
  for (const [index, { version, timestampMs }] of request.roots.entries())
    if (version <= claim.upTo && timestampMs > start) stays[index] = true;
}

/** W4. */
function keepNewestOfEach(
  request: TimelinePlanRequest,
  rule: { claim: Claim; stays: boolean[]; windowMs: number | null; periodMs: number },
): void {
  const { claim, stays, windowMs, periodMs } = rule;
  const start = windowStart(request.nowMs, windowMs);
  let period = Infinity;
  for (let index = request.roots.length - 1; index >= 0; index--) {
    const { version, timestampMs } = request.roots[index]!;
    if (version > claim.upTo || request.pins.has(version)) continue;
    const own = Math.floor(timestampMs / periodMs);
    if (own !== period && timestampMs > start) stays[index] = true;
    period = own;
  }
}

/** W3. */
function keepBothEnds(stays: boolean[], index: number): void {
  stays[index] = true;
  if (index > 0) stays[index - 1] = true;
}

function isDropped(
  { roots }: TimelinePlanRequest,
  segmentStays: readonly boolean[],
  index: number,
): boolean {
  return roots[index]!.historySegment !== 0 && segmentStays[index] !== true;
}

/** W5. What is newer than the last root is not in a segment yet. */
function needsRoot(
  request: TimelinePlanRequest,
  segmentStays: readonly boolean[],
  version: number,
): boolean {
  const index = request.roots.findIndex((root) => root.version >= version);
  if (index < 0 || request.roots[index]!.version === version) return false;
  return isDropped(request, segmentStays, index);
}
