import * as fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { Random } from "../testing/random.ts";
import {
  answersOf,
  copyOf,
  files,
  type Fixture,
  makeFixtures,
  remove,
  repair,
  sizeOf,
  sourceOf,
} from "../testing/repair-fixture.ts";
import { type OperationKind, SimulatedCrash } from "../testing/simulated-faults.ts";
import type { SimulatedStorage } from "../testing/simulated-storage.ts";

const IS_LONG = process.env["BOUGH_TEST_LONG"] === "1";
const fixtures: Fixture[] = [];

beforeAll(async () => {
  fixtures.push(...(await makeFixtures()));
});

/** Every revision reads what it did, or an error of damage; "open" when the store does not open. */
function expectNoOtherBytes(fixture: Fixture, disk: SimulatedStorage, name: string): void {
  const now = answersOf(fixture, disk);
  if (now.has("open")) {
    expect(now.get("open"), name).toMatch(/^CORRUPT/);
    return;
  }
  for (const [revision, before] of fixture.whole) {
    const after = now.get(revision) ?? "missing";
    if (after !== before) expect(after, `${name}: ${revision}`).toMatch(/^(CORRUPT|missing)/);
  }
}

function segments(disk: SimulatedStorage): string[] {
  return files(disk, "log").filter((path) => path.endsWith(".wal"));
}

/** In the middle of the records of the first segment that is needed. */
function damageLog(disk: SimulatedStorage): void {
  disk.flipBit(segments(disk).at(-2)!, (4096 + 700) * 8);
}

describe("a damaged log", () => {
  test("has several segments to be damaged", () => {
    for (const { disk } of fixtures) expect(segments(disk).length).toBeGreaterThan(2);
  });

  test("is mended with the source's segment: middle, header, cut, missing, and two at once", async () => {
    for (const fixture of fixtures) {
      const [, second = ""] = segments(fixture.disk);
      const last = segments(fixture.disk).at(-1)!;
      const damages: ((disk: SimulatedStorage) => void)[] = [
        damageLog,
        (disk) => disk.flipBit(second, 30 * 8),
        (disk) => disk.truncateFile(second, 5000),
        (disk) => remove(disk, second),
        (disk) => disk.flipBit(last, 30 * 8),
        (disk) => {
          damageLog(disk);
          disk.flipBit(second, (4096 + 100) * 8);
        },
      ];
      for (const [index, damage] of damages.entries()) {
        const name = `${fixture.name} ${index}`;
        const damaged = copyOf(fixture.disk);
        damage(damaged);
        const { before, report } = await repair(fixture, damaged, { source: sourceOf(fixture) });
        expect(before.ok, name).toBe(false);
        expect(report.problems, name).toEqual([]);
        expect(answersOf(fixture, damaged), name).toEqual(fixture.whole);
      }
    }
  });

  test("without a source is refused, with what it would cost; nothing changes", async () => {
    for (const fixture of fixtures) {
      const damaged = copyOf(fixture.disk);
      damageLog(damaged);
      const { steps, refusals, report } = await repair(fixture, damaged);
      expect(steps).toEqual([]);
      expect(refusals).toEqual([
        expect.stringMatching(/give up every commit after LSN \d+, up to/),
      ]);
      expect(report.problems.map(({ code }) => code)).toContain("CORRUPT_LOG");
      expect(answersOf(fixture, damaged).get("open")).toBe("CORRUPT_LOG");
    }
  });

  test("is cut off when asked for: older commits stay, what is given up is kept aside", async () => {
    for (const fixture of fixtures) {
      const [first = ""] = segments(fixture.disk);
      const damages: ((disk: SimulatedStorage) => void)[] = [
        damageLog,
        (disk) => disk.flipBit(first, (4096 + 40) * 8),
        (disk) => disk.flipBit(first, 30 * 8),
        (disk) => segments(disk).forEach((path) => remove(disk, path)),
      ];
      for (const [index, damage] of damages.entries()) {
        const name = `${fixture.name} ${index}`;
        const damaged = copyOf(fixture.disk);
        damage(damaged);
        const { report, steps } = await repair(fixture, damaged, { truncateLog: true });
        expect(report.problems, name).toEqual([]);
        expect(steps.length, name).toBeGreaterThan(0);
        const aside = files(damaged, "log").filter((path) => path.includes(".damaged"));
        expect(aside.length > 0 || index === 3, name).toBe(true);
        const now = answersOf(fixture, damaged);
        expect(now.get("shop"), name).toBe(fixture.whole.get("shop"));
        expect(now.get("shop@5"), name).toBe(fixture.whole.get("shop@5"));
        for (const [revision, answer] of now)
          // A head that lost commits reads an older one.
          expect([...fixture.whole.values(), expect.anything()], `${name} ${revision}`).toContain(
            answer,
          );
        expect(await repair(fixture, damaged), name).toMatchObject({ before: { ok: true } });
      }
    }
  });
});

const CHANGES: readonly OperationKind[] = [
  "create",
  "write",
  "sync",
  "rename",
  "delete",
  "truncate",
];

describe("power is lost during a repair", () => {
  /** Every kind of thing at once. */
  function damageMuch(disk: SimulatedStorage): void {
    disk.flipBit(files(disk, "chunks")[0]!, 12 * 8);
    disk.flipBit(files(disk, "chunks")[0]!, (40 + 100) * 8);
    disk.flipBit(files(disk, "history")[0]!, 100 * 8);
    disk.flipBit("catalog/catalog.kv", 5000);
    disk.flipBit("store.json", 80);
    damageLog(disk);
  }

  test("nothing gets worse, and the repair can be run again", async () => {
    for (const fixture of fixtures) {
      const counted = copyOf(fixture.disk);
      damageMuch(counted);
      counted.clearTrace();
      await repair(fixture, counted, { source: sourceOf(fixture) });
      const total = counted.countOf(...CHANGES);
      const step = IS_LONG ? 1 : Math.ceil(total / 5);
      for (let count = 1; count <= total; count += step) {
        const name = `${fixture.name}: crash at change ${count} of ${total}`;
        const damaged = copyOf(fixture.disk);
        damageMuch(damaged);
        damaged.crashAt({ kinds: CHANGES, count });
        const source = sourceOf(fixture);
        await expect(repair(fixture, damaged, { source }), name).rejects.toThrow(SimulatedCrash);
        damaged.crash(new Random(count));
        expectNoOtherBytes(fixture, damaged, name);
        const { report } = await repair(fixture, damaged, { source: sourceOf(fixture) });
        expect(report.problems, name).toEqual([]);
        expect(answersOf(fixture, damaged), name).toEqual(fixture.whole);
      }
    }
  });

  test("cutting off the log can be repeated", async () => {
    for (const fixture of fixtures) {
      const counted = copyOf(fixture.disk);
      damageLog(counted);
      counted.clearTrace();
      await repair(fixture, counted, { truncateLog: true });
      const total = counted.countOf(...CHANGES);
      const expected = answersOf(fixture, counted);
      const step = IS_LONG ? 1 : Math.ceil(total / 4);
      for (let count = 1; count <= total; count += step) {
        const damaged = copyOf(fixture.disk);
        damageLog(damaged);
        damaged.crashAt({ kinds: CHANGES, count });
        await repair(fixture, damaged, { truncateLog: true }).catch((error: unknown) => {
          if (!(error instanceof SimulatedCrash)) throw error;
        });
        damaged.crash(new Random(count));
        await repair(fixture, damaged, { truncateLog: true });
        const name = `${fixture.name}: crash at change ${count} of ${total}`;
        expect(answersOf(fixture, damaged).get("shop/dev"), name).toBe(expected.get("shop/dev"));
      }
    }
  });
});

test("random damage to random files: a full source brings everything back, and nothing ever reads other bytes", async () => {
  const spot = fc.record({ file: fc.nat(1000), at: fc.double({ min: 0, max: 1, noNaN: true }) });
  await fc.assert(
    fc.asyncProperty(
      fc.nat(1),
      fc.array(spot, { minLength: 1, maxLength: 12 }),
      async (which, spots) => {
        const fixture = fixtures[which]!;
        const damaged = copyOf(fixture.disk);
        const all = ["chunks", "history", "log", "catalog"].flatMap((name) => files(damaged, name));
        const named = [...all, "store.json"].filter(
          (path) => !/spare|tmp$/.test(path) && sizeOf(damaged, path) > 0,
        );
        for (const { file, at } of spots) {
          const path = named[file % named.length]!;
          damaged.flipBit(path, Math.floor(at * (sizeOf(damaged, path) * 8 - 1)));
        }
        // The end of the log may be lost without a trace: no later byte vouches for it.
        const lastLog = segments(damaged).at(-1)!;
        const isTail = spots.some(({ file }) => named[file % named.length] === lastLog);
        const { report } = await repair(fixture, damaged, { source: sourceOf(fixture) });
        expect(report.problems).toEqual([]);
        if (isTail) return;
        expect(answersOf(fixture, damaged)).toEqual(fixture.whole);
      },
    ),
    { numRuns: IS_LONG ? 300 : 10, seed: 7 },
  );
});
