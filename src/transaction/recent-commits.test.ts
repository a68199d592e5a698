import fc from "fast-check";
import { expect, test } from "vitest";
import { RecentCommits } from "./recent-commits.ts";

/** Each step: a transaction begins, one ends, or a commit changes pages. */
const STEPS = fc.array(
  fc.oneof(
    fc.constant({ kind: "begin" } as const),
    fc.record({ kind: fc.constant("end" as const), which: fc.nat(20) }),
    fc.record({
      kind: fc.constant("commit" as const),
      pages: fc.array(fc.integer({ min: 1, max: 9 })),
    }),
  ),
  { maxLength: 120 },
);

test("every transaction under way finds the pages that were changed since it began, and no others", () => {
  fc.assert(
    fc.property(STEPS, (steps) => {
      const recent = new RecentCommits();
      const running: { snapshotVersion: number; changed: Set<number> }[] = [];
      let version = 0;
      for (const step of steps) {
        if (step.kind === "begin") {
          const transaction = { snapshotVersion: version, changed: new Set<number>() };
          running.push(transaction);
          recent.begin(transaction);
        } else if (step.kind === "commit") {
          recent.add({ version: ++version, pages: [...new Set(step.pages)] });
          for (const { changed } of running) for (const page of step.pages) changed.add(page);
        } else if (running.length > 0) {
          const [ended] = running.splice(step.which % running.length, 1);
          recent.end(ended!);
        }
        for (const { snapshotVersion, changed } of running)
          expect(new Set(recent.changedSince(snapshotVersion))).toEqual(changed);
        if (running.length === 0) expect(recent.pageCount).toBe(0);
      }
    }),
  );
});

test("R2: what a long transaction has to be compared with grows with the pages, not with the commits", () => {
  const recent = new RecentCommits();
  const long = { snapshotVersion: 0 };
  recent.begin(long);
  for (let version = 1; version <= 300_000; version++)
    recent.add({ version, pages: [1, 2 + (version % 50)] });
  expect(recent.pageCount).toBeLessThanOrEqual(65_536 + 2);
  expect(new Set(recent.changedSince(0)).size).toBe(51);
  const late = { snapshotVersion: 299_990 };
  recent.begin(late);
  expect(new Set(recent.changedSince(299_990)).size).toBe(11);
  recent.end(long);
  expect(recent.pageCount).toBe(20);
  recent.end(late);
  expect(recent.pageCount).toBe(0);
});
