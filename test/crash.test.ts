/**
 * Power loss at every write, sync and rename of a workload on the simulated disk.
 *
 * After each one the store opens; what was acknowledged is there; the step under way happened as a whole or not at all;
 * every revision reads the rows that it had when it was made; work goes on, and crashes again.
 * With durability "normal" what is left is the state after one of the transactions since the last sync.
 */
import { describe, expect, test } from "vitest";
import { StoreError } from "../src/errors.ts";
import { Random } from "../src/testing/random.ts";
import { type OperationKind, SimulatedCrash } from "../src/testing/simulated-faults.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SMALL_STORE, Workload } from "./store-workload.ts";
import { verifyContents } from "./verify-store.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
/** Added to every seed: another run with other work. */
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const CHANGING: readonly OperationKind[] = [
  "create",
  "write",
  "sync",
  "truncate",
  "makeDirectory",
  "rename",
  "delete",
  "syncDirectory",
];
const KEY = "ab".repeat(32);

interface Machine {
  disk: SimulatedStorage;
  clock: number;
}

function newWorkload(machine: Machine, { seed, key, durability = "full" }: Case): Workload {
  return new Workload({
    random: new Random(seed),
    key,
    durability,
    open: (current) => ({
      ...SMALL_STORE,
      durability,
      storage: machine.disk,
      now: () => (machine.clock += 10),
      ...(current === null ? {} : { key: current }),
    }),
  });
}

/** True when the disk crashed before the steps were done. */
function crashesWithin(machine: Machine, steps: () => void): boolean {
  try {
    steps();
  } catch (error) {
    if (!machine.disk.isCrashed) throw error;
    expect(isCausedByCrash(error), String(error)).toBe(true);
  }
  return machine.disk.isCrashed;
}

function isCausedByCrash(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause)
    if (
      cause instanceof SimulatedCrash ||
      (cause instanceof StoreError && cause.code === "STORE_FAILED")
    )
      return true;
  return false;
}

/** Opens the store again; everything that it holds is as it should be. */
function reopen(workload: Workload, random: Random): void {
  workload.recover((store, model) =>
    verifyContents(store, model, random, { integrityShare: isLong ? 0.3 : 0.05 }),
  );
}

interface Case {
  readonly seed: number;
  readonly key: string | null;
  readonly steps: number;
  readonly durability?: "full" | "normal";
}

function countOperations(work: Case): number {
  const { seed, steps } = work;
  const machine = { disk: new SimulatedStorage({ seed }), clock: 1_000_000 };
  const workload = newWorkload(machine, work);
  workload.start();
  for (let step = 0; step < steps; step++) workload.step();
  workload.store.close();
  return machine.disk.countOf(...CHANGING);
}

function crashAtOperation(work: Case, operation: number): void {
  const { seed, steps } = work;
  const machine = { disk: new SimulatedStorage({ seed }), clock: 1_000_000 };
  const random = new Random(seed * 100_003 + operation);
  const workload = newWorkload(machine, work);
  machine.disk.crashAt({ kinds: CHANGING, count: operation });
  const crashed = crashesWithin(machine, () => {
    workload.start();
    for (let step = 0; step < steps; step++) workload.step();
    workload.store.close();
  });
  if (!crashed) return; // Slices of checkpoints depend on time, so this run had fewer operations.
  // Twice more: a crash during recovery or soon after it.
  for (const next of [random.integer(1, 12), random.integer(1, 60)]) {
    machine.disk = machine.disk.copyAfterCrash(random);
    const label = `seed ${seed}, crash at ${operation}, ${workload.done.length}: ${workload.done.at(-1)}`;
    try {
      reopen(workload, random);
    } catch (error) {
      throw new Error(`After ${label}: ${String(error)}`, { cause: error });
    }
    machine.disk.crashAt({ kinds: CHANGING, count: next });
    crashesWithin(machine, () => {
      for (let step = 0; step < 8; step++) workload.step();
    });
  }
  machine.disk = machine.disk.copyAfterCrash(random);
  reopen(workload, random);
  workload.store.close();
}

/** All of them, or about `limit` spread evenly. */
function sample(count: number, limit: number, offset: number): number[] {
  const stride = isLong ? 1 : Math.max(1, count / limit);
  const operations: number[] = [];
  for (let at = 1 + (offset % stride); at <= count; at += stride) operations.push(Math.floor(at));
  return operations;
}

describe("power loss", () => {
  const cases: readonly (readonly [string, Case])[] = [
    ["a plain store", { seed: 11, key: null, steps: 70 }],
    ["an encrypted store", { seed: 12, key: KEY, steps: 60 }],
    ['a store with durability "normal"', { seed: 13, key: null, steps: 60, durability: "normal" }],
  ];
  for (const [name, crash] of cases) {
    test(`at any operation of a workload leaves ${name} whole`, { timeout: 3_600_000 }, () => {
      const work = { ...crash, seed: crash.seed + seedOffset };
      const count = countOperations(work);
      expect(count).toBeGreaterThan(150);
      for (const operation of sample(count, 16, work.seed)) crashAtOperation(work, operation);
    });
  }
});
