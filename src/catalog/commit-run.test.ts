import fc from "fast-check";
import { expect, test } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { Catalog, CatalogBatch } from "./catalog.ts";
import { COMMIT_RUN_MAX, type CommitRow, decodeCommitRun, encodeCommitRun } from "./commit-run.ts";
import { openMemoryKeyValue } from "./memory-key-value.ts";

/** Commits in ascending order, with gaps as other branches leave them. */
const history: fc.Arbitrary<CommitRow[]> = fc
  .array(
    fc.record({
      gap: fc.integer({ min: 1, max: 300 }),
      elapsedMs: fc.nat(2 ** 41),
      pageCount: fc.nat(0xffff_fffe),
      changedPages: fc.nat(0xffff_ffff),
    }),
    { minLength: 1, maxLength: 400, size: "max" },
  )
  .map((steps) => {
    let version = 0;
    let timestampMs = 0;
    return steps.map(({ gap, elapsedMs, pageCount, changedPages }) => {
      version += gap;
      timestampMs += elapsedMs;
      return { version, timestampMs, pageCount, changedPages };
    });
  });

test("any run of commits is read as it was written", () => {
  fc.assert(
    fc.property(history, (commits) => {
      const run = commits.slice(0, COMMIT_RUN_MAX);
      const bytes = encodeCommitRun(run, 0, run.length);
      expect(decodeCommitRun(run.at(-1)!.version, bytes)).toEqual(run.toReversed());
    }),
  );
});

test("a run has the bytes of format version 1", () => {
  const commits = [
    { version: 3, timestampMs: 1000, pageCount: 9, changedPages: 2 },
    { version: 5, timestampMs: 1300, pageCount: 7, changedPages: 1 },
    { version: 6, timestampMs: 1300, pageCount: 8, changedPages: 3 },
  ];
  expect(Buffer.from(encodeCommitRun(commits, 0, 3)).toString("hex")).toBe(
    "0000000000000514" + "00000008" + "00000003" + "01000101" + "02ac020402",
  );
});

test("a commit alone has 16 bytes, one of many about 5", () => {
  const commits = Array.from({ length: COMMIT_RUN_MAX }, (_, index) => ({
    version: index + 1,
    timestampMs: 1_700_000_000_000 + index,
    pageCount: 5000 + (index >> 3),
    changedPages: 2,
  }));
  expect(encodeCommitRun(commits, 0, 1)).toHaveLength(16);
  expect(encodeCommitRun(commits, 0, COMMIT_RUN_MAX).length).toBeLessThan(COMMIT_RUN_MAX * 5);
});

test("a run cut anywhere but between two commits is damage", () => {
  const commits = [1, 200, 4000].map((version) => ({
    version,
    timestampMs: version * 1000,
    pageCount: version,
    changedPages: 200,
  }));
  const bytes = encodeCommitRun(commits, 0, 3);
  const whole = new Set([1, 2, 3].map((count) => encodeCommitRun(commits, 3 - count, 3).length));
  for (let size = 0; size < bytes.length; size++) {
    const cut = (): CommitRow[] => decodeCommitRun(4000, bytes.subarray(0, size));
    if (whole.has(size)) expect(cut().length).toBeLessThan(3);
    else expect(cut, `${size} bytes`).toThrow(expect.objectContaining({ code: "CORRUPT_CATALOG" }));
  }
});

test("commits out of order are refused", () => {
  const commit = (version: number, timestampMs: number): CommitRow => ({
    version,
    timestampMs,
    pageCount: 1,
    changedPages: 1,
  });
  expect(() => encodeCommitRun([commit(2, 1), commit(2, 1)], 0, 2)).toThrow(RangeError);
  expect(() => encodeCommitRun([commit(1, 2), commit(2, 1)], 0, 2)).toThrow(RangeError);
});

test("ranges over runs hold the same commits as over the commits themselves", () => {
  fc.assert(
    fc.property(
      history,
      fc.array(fc.nat(1), { minLength: 1, maxLength: 5 }),
      fc.record({
        from: fc.nat(40_000),
        to: fc.oneof(fc.nat(40_000), fc.constant(Infinity)),
        reverse: fc.boolean(),
        limit: fc.oneof(fc.nat(200), fc.constant(Infinity)),
      }),
      (commits, cuts, range) => {
        const store = openMemoryKeyValue(new SimulatedStorage({ seed: 1 }), "catalog.kv");
        // Several checkpoints put the commits, and those of another timeline beside them.
        let start = 0;
        for (const cut of [...cuts, 1]) {
          const end = cut === 1 ? commits.length : Math.min(commits.length, start + 90);
          const batch = new CatalogBatch();
          batch.putCommits(1, 2, commits.slice(start, end));
          batch.putCommits(1, 3, commits.slice(start, end));
          batch.commit(store);
          start = end;
        }
        const inRange = commits.filter(
          ({ version }) => version >= range.from && version <= range.to,
        );
        if (range.reverse) inRange.reverse();
        const { limit, ...bounds } = range;
        const options = limit === Infinity ? bounds : range;
        expect([...new Catalog(store).commits(1, 2, options)]).toEqual(inRange.slice(0, limit));
      },
    ),
    { numRuns: 60 },
  );
});
