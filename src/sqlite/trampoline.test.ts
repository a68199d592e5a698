import { expect, test } from "vitest";
import { wrapCallbacks, wrapExports } from "./trampoline.ts";
import { instantiateSqlite } from "./wasm-host.ts";

test("T1: a callback gets 64-bit parameters as numbers", () => {
  const seen: number[][] = [];
  const [wrapped] = wrapCallbacks([
    { signature: "iiij>i", callback: (...parameters) => (seen.push(parameters), 7) },
  ]);
  const call = wrapped as unknown as (a: number, b: number, c: number, d: bigint) => number;
  expect(call(1, -2, 3, 2n ** 53n - 1n)).toBe(7);
  expect(call(1, -2, 3, -5n)).toBe(7);
  expect(seen).toEqual([
    [1, -2, 3, Number.MAX_SAFE_INTEGER],
    [1, -2, 3, -5],
  ]);
});

test("T1: a callback without result may return nothing", () => {
  let sum = 0;
  const [wrapped] = wrapCallbacks([{ signature: "ij>", callback: (a, b) => void (sum += a + b) }]);
  (wrapped as unknown as (a: number, b: bigint) => void)(3, 4n);
  expect(sum).toBe(7);
});

test("T3: callbacks without 64-bit parameters keep their order beside those with them", () => {
  const wrapped = wrapCallbacks([
    { signature: "i>i", callback: (a) => a + 1 },
    { signature: "j>i", callback: (a) => a + 2 },
    { signature: "i>i", callback: (a) => a + 3 },
    { signature: "j>i", callback: (a) => a + 4 },
  ]) as unknown as ((a: number | bigint) => number)[];
  expect([wrapped[0]!(0), wrapped[1]!(0n), wrapped[2]!(0), wrapped[3]!(0n)]).toEqual([1, 2, 3, 4]);
});

test("T2: a wrapped export takes and returns 64-bit integers as numbers", () => {
  const { exports } = instantiateSqlite({
    now: Date.now,
    onGrow: () => undefined,
    memoryBytesMax: 2 ** 31,
  });
  const target: unknown = Reflect.get(exports, "sqlite3__wasm_test_int64_times2");
  const [wrapped] = wrapExports([
    { signature: "j>j", target: target as (value: bigint) => bigint },
  ]) as unknown as ((value: number) => number)[];
  expect(wrapped!(21)).toBe(42);
  expect(wrapped!(-(2 ** 40))).toBe(-(2 ** 41));
});
