/**
 * A disk that fails: EIO, ENOSPC and failing syncs at every operation of a workload.
 *
 * The step that meets the failure reports it as one StoreError and changes nothing that anyone sees. After it the store
 * either refuses every write (STORE_FAILED) until it is opened again, or goes on as if nothing had been; reads go on in
 * both cases. Nothing acknowledged is lost, also when the power goes right afterwards.
 */
import { describe, expect, test } from "vitest";
import { StoreError, type StoreErrorCode } from "../src/errors.ts";
import { Random } from "../src/testing/random.ts";
import type { Failure, OperationKind } from "../src/testing/simulated-faults.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SMALL_STORE, Workload } from "./store-workload.ts";
import { outlineOf, verifyContents } from "./verify-store.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
/** Added to every seed: another run with other work. */
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const STEPS = 60;
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

interface Machine {
  disk: SimulatedStorage;
  clock: number;
}

function newWorkload(machine: Machine, seed: number): Workload {
  return new Workload({
    random: new Random(seed),
    key: seed % 2 === 0 ? "cd".repeat(32) : null,
    open: (key) => ({
      ...SMALL_STORE,
      storage: machine.disk,
      now: () => (machine.clock += 10),
      ...(key === null ? {} : { key }),
    }),
  });
}

function codeOf(error: unknown): StoreErrorCode | null {
  if (error instanceof StoreError) return error.code;
  throw error;
}

/** The step's code when it failed, null when it did what it should. */
function tryStep(workload: Workload): StoreErrorCode | null {
  try {
    workload.step();
    return null;
  } catch (error) {
    return codeOf(error);
  }
}

/** After the first failure. */
function expectRefusalOrService(workload: Workload): void {
  const possible = workload.inFlight;
  let refused = 0;
  workload.mayReopen = false;
  for (let step = 0; step < 4; step++) {
    const { length } = workload.done;
    const code = tryStep(workload);
    if (workload.done.length === length) continue; // Nothing was tried.
    if (code === "STORE_FAILED" || code === "STORE_CLOSED") refused++;
    else if (!/^(checkpoint|roll back)/.test(workload.done.at(-1) ?? ""))
      expect(refused, `"${workload.done.at(-1)}" after a refusal: ${String(code)}`).toBe(0);
    if (code !== null && refused === 0) return;
    if (refused === 0) possible.length = 0;
  }
  workload.mayReopen = true;
  if (refused > 0) workload.inFlight = possible;
}

function failAt(failure: Failure, seed: number, powerLoss: boolean): boolean {
  const machine = { disk: new SimulatedStorage({ seed }), clock: 1_000_000 };
  const random = new Random(seed * 100_003 + failure.count);
  const workload = newWorkload(machine, seed);
  workload.start();
  machine.disk.failAt(failure);
  let code: StoreErrorCode | null = null;
  for (let step = 0; step < STEPS && code === null; step++) code = tryStep(workload);
  if (code === null) return false;
  expect(["IO", "DISK_FULL", "STORE_FAILED"]).toContain(code);
  if (workload.store.isOpen)
    expect(outlineOf(workload.store)).toBe(workload.acknowledged.outline());
  if (workload.store.isOpen) expectRefusalOrService(workload);
  machine.disk.clearFaults();
  if (powerLoss) machine.disk = machine.disk.copyAfterCrash(random);
  else closeFailed(workload);
  workload.recover((store, model) => verifyContents(store, model, random));
  for (let step = 0; step < 5; step++) workload.step();
  workload.store.close();
  return true;
}

function closeFailed(workload: Workload): void {
  try {
    workload.store.close();
  } catch (error) {
    codeOf(error);
  }
  expect(workload.store.isOpen).toBe(false);
}

function countOperations(seed: number, kinds: readonly OperationKind[]): number {
  const machine = { disk: new SimulatedStorage({ seed }), clock: 1_000_000 };
  const workload = newWorkload(machine, seed);
  workload.start();
  machine.disk.clearTrace();
  for (let step = 0; step < STEPS; step++) workload.step();
  return machine.disk.countOf(...kinds);
}

interface FailureCase {
  readonly what: string;
  readonly seed: number;
  readonly failure: Omit<Failure, "count"> & { readonly kinds: readonly OperationKind[] };
}

const CASES: readonly FailureCase[] = [
  { what: "a failing write", seed: 21, failure: { kinds: CHANGING, systemCode: "EIO" } },
  {
    what: "a full disk for a moment",
    seed: 22,
    failure: { kinds: CHANGING, systemCode: "ENOSPC" },
  },
  {
    what: "a disk that stays full",
    seed: 23,
    failure: { kinds: ["create", "write"], systemCode: "ENOSPC", forever: true },
  },
  {
    what: "a failing sync that loses writes",
    seed: 24,
    failure: { kinds: ["sync"], systemCode: "EIO", dropUnsynced: true },
  },
  { what: "a failing read", seed: 25, failure: { kinds: ["read"], systemCode: "EIO" } },
];

describe("a failing disk", () => {
  for (const { what, seed: baseSeed, failure } of CASES) {
    test(`${what} is one error and loses nothing`, { timeout: 3_600_000 }, () => {
      const seed = baseSeed + seedOffset;
      const count = countOperations(seed, failure.kinds);
      expect(count).toBeGreaterThan(20);
      const stride = isLong ? 1 : Math.max(1, Math.floor(count / 10));
      let failures = 0;
      for (let at = 1 + (seed % stride); at <= count; at += stride) {
        try {
          if (failAt({ ...failure, count: at }, seed, at % 2 === 0)) failures++;
        } catch (error) {
          throw new Error(`Seed ${seed}, failure at ${at}: ${String(error)}`, { cause: error });
        }
      }
      expect(failures).toBeGreaterThan(5);
    });
  }
});
