import fc from "fast-check";
import { expect, test } from "vitest";
import type { Claim } from "./claims.ts";
import { DAY_MS, HOUR_MS, planTimeline, type RootFacts, type TimelinePlan } from "./plan.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";

/** A commit of a timeline; those with a root end a checkpoint. */
interface Commit {
  readonly version: number;
  readonly atMs: number;
  readonly isRoot: boolean;
}

interface Case {
  readonly commits: readonly Commit[];
  readonly claims: readonly Claim[];
  readonly pins: ReadonlySet<number>;
  readonly keepsHead: boolean;
  readonly excess: ReadonlySet<number>;
  readonly nowMs: number;
}

const windows = fc.constantFrom(null, 0, 2 * HOUR_MS, DAY_MS, 3 * DAY_MS);

const cases: fc.Arbitrary<Case> = fc
  .record({
    steps: fc.array(
      fc.record({
        gap: fc.constantFrom(1, 1, 2),
        pauseMs: fc.constantFrom(0, 1, 60_000, HOUR_MS / 2, HOUR_MS, DAY_MS),
        isRoot: fc.boolean(),
      }),
      { minLength: 1, maxLength: 30 },
    ),
    claims: fc.array(
      fc.record({
        upTo: fc.oneof(fc.constant(Infinity), fc.integer({ min: 1, max: 40 })),
        everyCommitMs: windows,
        hourlyMs: windows,
        dailyMs: windows,
      }),
      { maxLength: 3 },
    ),
    pins: fc.array(fc.nat(29), { maxLength: 3 }),
    keepsHead: fc.boolean(),
    excess: fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 3 }),
    laterMs: fc.constantFrom(0, 1, HOUR_MS, DAY_MS, 10 * DAY_MS),
  })
  .map(({ steps, claims, pins, keepsHead, excess, laterMs }) => {
    const commits: Commit[] = [];
    let version = 0;
    let atMs = 100 * DAY_MS;
    for (const [index, { gap, pauseMs, isRoot }] of steps.entries()) {
      version += gap;
      atMs += pauseMs;
      commits.push({ version, atMs, isRoot: isRoot || index === steps.length - 1 });
    }
    return {
      commits,
      claims,
      pins: new Set(pins.filter((at) => at < commits.length).map((at) => commits[at]!.version)),
      keepsHead,
      excess: new Set(excess),
      nowMs: atMs + laterMs,
    };
  });

/** The commits after the root before, up to this one. */
interface Span {
  readonly root: Commit;
  readonly between: readonly Commit[];
}

function spansOf(commits: readonly Commit[]): Span[] {
  const spans: Span[] = [];
  let between: Commit[] = [];
  for (const commit of commits) {
    if (!commit.isRoot) between.push(commit);
    else {
      spans.push({ root: commit, between });
      between = [];
    }
  }
  return spans;
}

/** Segments are numbered by the place of their root. */
function factsOf(commits: readonly Commit[]): RootFacts[] {
  return spansOf(commits).map(({ root, between }, index) => ({
    version: root.version,
    timestampMs: root.atMs,
    historySegment: between.length === 0 ? 0 : index + 1,
    newestBetweenMs: between.at(-1)?.atMs ?? null,
  }));
}

function planOf(given: Case, roots: readonly RootFacts[], changesMax = Infinity): TimelinePlan {
  const { claims, pins, keepsHead, excess, nowMs } = given;
  return planTimeline({
    nowMs,
    startVersion: 0,
    roots,
    claims,
    pins,
    keepsHead,
    excess,
    changesMax,
  });
}

function isWithin(atMs: number, windowMs: number | null, nowMs: number): boolean {
  return windowMs === null || atMs > nowMs - windowMs;
}

/** The rules, read one by one for one root. */
function naivePlan({ commits, claims, pins, keepsHead, excess, nowMs }: Case): {
  segments: boolean[];
  roots: boolean[];
} {
  const spans = spansOf(commits);
  const segments = spans.map(({ between }, index) => {
    const before = spans[index - 1]?.root.version ?? 0;
    const isExcess = excess.has(index + 1);
    return claims.some(
      ({ upTo, everyCommitMs }) =>
        !isExcess &&
        upTo > before &&
        between.some(({ atMs }) => isWithin(atMs, everyCommitMs, nowMs)),
    );
  });
  const isNewest = (root: Commit, upTo: number, periodMs: number): boolean =>
    !spans.some(
      (other) =>
        other.root.version > root.version &&
        !pins.has(other.root.version) &&
        other.root.version <= upTo &&
        Math.floor(other.root.atMs / periodMs) === Math.floor(root.atMs / periodMs),
    );
  const roots = spans.map(
    ({ root }, index) =>
      pins.has(root.version) ||
      (keepsHead && index === spans.length - 1) ||
      segments[index] === true ||
      segments[index + 1] === true ||
      claims.some(
        ({ upTo, everyCommitMs, hourlyMs, dailyMs }) =>
          root.version <= upTo &&
          (isWithin(root.atMs, everyCommitMs, nowMs) ||
            (isWithin(root.atMs, hourlyMs, nowMs) && isNewest(root, upTo, HOUR_MS)) ||
            (isWithin(root.atMs, dailyMs, nowMs) && isNewest(root, upTo, DAY_MS))),
      ),
  );
  return { segments, roots };
}

/** What can be read after a plan was carried out. */
function readable(
  commits: readonly Commit[],
  facts: readonly RootFacts[],
  plan: TimelinePlan,
): Set<number> {
  const kept = new Set<number>(plan.newRoots);
  for (const [index, { version }] of facts.entries()) {
    const before = facts[index - 1]?.version ?? 0;
    if (plan.roots[index]!.stays) kept.add(version);
    if (plan.roots[index]!.segmentStays)
      for (const commit of commits)
        if (commit.version > before && commit.version < version) kept.add(commit.version);
  }
  return kept;
}

test("a plan is what the rules say of each root by itself", () => {
  fc.assert(
    fc.property(cases, (given) => {
      const facts = factsOf(given.commits);
      const plan = planOf(given, facts);
      const expected = naivePlan(given);
      expect(plan.roots.map(({ segmentStays }) => segmentStays)).toEqual(expected.segments);
      expect(plan.roots.map(({ stays }) => stays)).toEqual(expected.roots);
      expect(plan.isComplete).toBe(true);
    }),
    { numRuns: isLong ? 10_000 : 300 },
  );
});

test("every commit in a window, every pin and the head are readable afterwards; a pin gets a root only for need", () => {
  fc.assert(
    fc.property(cases, (given) => {
      const facts = factsOf(given.commits);
      const plan = planOf(given, facts);
      const kept = readable(given.commits, facts, plan);
      const { claims, pins, nowMs, excess } = given;
      for (const version of pins) expect(kept).toContain(version);
      if (given.keepsHead) expect(kept).toContain(given.commits.at(-1)!.version);
      for (const { version, atMs, isRoot } of given.commits) {
        const index = facts.findIndex((root) => root.version >= version);
        const isPromised = claims.some(
          ({ upTo, everyCommitMs }) => version <= upTo && isWithin(atMs, everyCommitMs, nowMs),
        );
        if (isPromised && (isRoot || !excess.has(index + 1))) expect(kept).toContain(version);
        if (!plan.newRoots.includes(version)) continue;
        expect(isRoot || plan.roots[index]!.segmentStays).toBe(false);
        expect(pins).toContain(version);
      }
    }),
    { numRuns: isLong ? 10_000 : 300 },
  );
});

test("carried out a few changes at a time it ends where it does at once, and nothing promised is missing in between", () => {
  fc.assert(
    fc.property(cases, fc.integer({ min: 2, max: 4 }), (given, changesMax) => {
      const { commits } = given;
      let facts = factsOf(commits);
      const whole = planOf(given, facts);
      const promised = readable(commits, facts, whole);
      const segmentsLeft = facts
        .filter((_, index) => whole.roots[index]!.segmentStays)
        .map(({ historySegment }) => historySegment);
      for (let turn = 0; turn < 100; turn++) {
        const plan = planOf(given, facts, changesMax);
        const made = plan.newRoots.map((version) => ({
          version,
          timestampMs: commits.find((commit) => commit.version === version)!.atMs,
          historySegment: 0,
          newestBetweenMs: null,
        }));
        const left = facts.flatMap((root, index): RootFacts[] => {
          const { stays, segmentStays } = plan.roots[index]!;
          if (!stays) return [];
          if (segmentStays && index > 0) expect(plan.roots[index - 1]!.stays).toBe(true);
          return [segmentStays ? root : { ...root, historySegment: 0, newestBetweenMs: null }];
        });
        facts = [...left, ...made].sort((one, other) => one.version - other.version);
        for (const version of promised) {
          const next = facts.find((root) => root.version >= version);
          expect(next?.version === version || next?.historySegment !== 0, `${version}`).toBe(true);
        }
        if (plan.isComplete) break;
        expect(plan.lastChange).toBeGreaterThanOrEqual(0);
      }
      const kept = facts.filter(({ historySegment }) => historySegment !== 0);
      expect(kept.map(({ historySegment }) => historySegment)).toEqual(segmentsLeft);
      expect(planOf(given, facts)).toMatchObject({ lastChange: -1, newRoots: [] });
    }),
    { numRuns: isLong ? 10_000 : 300 },
  );
});
