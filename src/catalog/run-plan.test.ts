import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random } from "../testing/random.ts";
import { planRuns } from "./run-plan.ts";

interface Load {
  /** Sizes in bytes; `batches` of them come, one after another. */
  readonly base: number;
  readonly batches: number;
  readonly batch: (random: Random) => number;
  /** The part of a batch that the next one overwrites (0 to 1). */
  readonly hot: number;
  /** The part of what is left that replaces rows of the base. */
  readonly replaced: number;
}

const KB = 1000;
const MB = 1000 * KB;

/** What a catalog of 1 GiB of database has, and 600 KB for a checkpoint of 8,192 pages. */
const loads: Readonly<Record<string, Load>> = {
  "1 GiB, large checkpoints, new rows": {
    base: 12 * MB,
    batches: 400,
    batch: () => 600 * KB,
    hot: 0.05,
    replaced: 0,
  },
  "1 GiB, large checkpoints, rows replaced": {
    base: 12 * MB,
    batches: 400,
    batch: () => 600 * KB,
    hot: 0.05,
    replaced: 1,
  },
  "1 GiB, small checkpoints": {
    base: 12 * MB,
    batches: 3000,
    batch: () => 20 * KB,
    hot: 0.2,
    replaced: 0.5,
  },
  "small store, one row over and over": {
    base: 100 * KB,
    batches: 3000,
    batch: () => 2 * KB,
    hot: 0.8,
    replaced: 0,
  },
  "growing from nothing": {
    base: 10 * KB,
    batches: 1000,
    batch: () => 600 * KB,
    hot: 0.02,
    replaced: 0,
  },
  "mixed sizes": {
    base: 5 * MB,
    batches: 2000,
    batch: (random) => 2 * KB * 2 ** random.integer(0, 7),
    hot: 0.1,
    replaced: 0.3,
  },
};

interface SimulatedRun {
  readonly size: number;
  readonly hot: number;
  readonly isBase: boolean;
}

function merged(parts: readonly SimulatedRun[], replaced: number): SimulatedRun {
  const hot = Math.max(...parts.map((run) => run.hot));
  const [first, ...rest] = parts;
  const colds = rest.reduce((sum, run) => sum + run.size - run.hot, 0);
  if (first!.isBase)
    return { size: first!.size + colds * (1 - replaced), hot: first!.hot, isBase: true };
  return { size: first!.size - first!.hot + colds + hot, hot, isBase: false };
}

/** Carries out the plans of a load: bytes written for each byte changed, runs read per lookup. */
function simulate(load: Load): { amplification: number; runsMax: number; spaceMax: number } {
  const random = new Random(1);
  let runs: SimulatedRun[] = [{ size: load.base, hot: 0, isBase: true }];
  let written = 0;
  let changed = 0;
  let runsMax = 0;
  let spaceMax = 0;
  for (let count = 0; count < load.batches; count++) {
    const size = load.batch(random);
    changed += size;
    runs.push({ size, hot: size * load.hot, isBase: false });
    const from = planRuns(runs)?.from ?? runs.length - 1;
    runs = [...runs.slice(0, from), merged(runs.slice(from), load.replaced)];
    written += runs.at(-1)!.size;
    runsMax = Math.max(runsMax, runs.length);
    spaceMax = Math.max(spaceMax, runs.reduce((sum, run) => sum + run.size, 0) / runs[0]!.size);
  }
  return { amplification: written / changed, runsMax, spaceMax };
}

describe("V1: runs stay few, and bytes written near bytes changed", () => {
  test.each(Object.entries(loads))("%s", (name, load) => {
    const { amplification, runsMax, spaceMax } = simulate(load);
    console.log(
      `${name}: ${amplification.toFixed(2)} bytes written for each byte changed, ${runsMax} runs at most, up to ${spaceMax.toFixed(1)} times the base`,
    );
    expect(runsMax).toBeLessThanOrEqual(12);
    expect(amplification).toBeLessThan(4.1);
  });
});

test("V1: a plan after each run that is added keeps at most 12, whatever their sizes", () => {
  const sizes = fc.array(fc.nat(2 ** 40), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(sizes, fc.boolean(), (added, hasBase) => {
      let runs: { size: number; isBase: boolean }[] = [];
      for (const [index, size] of added.entries()) {
        runs.push({ size, isBase: hasBase && index === 0 });
        const plan = planRuns(runs);
        if (plan !== null) {
          expect(plan.from).toBeLessThan(runs.length - 1);
          const parts = runs.slice(plan.from);
          const total = parts.reduce((sum, run) => sum + run.size, 0);
          runs = [...runs.slice(0, plan.from), { size: total, isBase: parts[0]!.isBase }];
        }
        expect(runs.length).toBeLessThanOrEqual(12);
      }
    }),
  );
});
