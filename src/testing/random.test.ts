import { expect, test } from "vitest";

import { Random } from "./random.ts";

function numbers(random: Random, count: number): number[] {
  return Array.from({ length: count }, () => random.nextUint32());
}

test("a seed gives the same numbers again, another seed others", () => {
  expect(numbers(new Random(1), 20)).toEqual(numbers(new Random(1), 20));
  const firsts = Array.from({ length: 1000 }, (_, seed) => new Random(seed).nextUint32());
  expect(new Set(firsts).size).toBe(1000);
  expect(new Random(2 ** 40).nextUint32()).not.toBe(new Random(0).nextUint32());
});

test("integers cover their range evenly, ends included", () => {
  const random = new Random(5);
  const counts = new Map<number, number>();
  for (let step = 0; step < 60_000; step++) {
    const value = random.integer(-2, 3);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  expect([...counts.keys()].sort((left, right) => left - right)).toEqual([-2, -1, 0, 1, 2, 3]);
  for (const count of counts.values()) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  expect(random.integer(7, 7)).toBe(7);
  expect(Number.isSafeInteger(random.integer(0, Number.MAX_SAFE_INTEGER))).toBe(true);
  expect(() => random.integer(2, 1)).toThrow(RangeError);
});

test("chances happen as often as they should, never at 0 and always at 1", () => {
  const random = new Random(6);
  const count = (probability: number): number =>
    Array.from({ length: 10_000 }, () => random.chance(probability)).filter(Boolean).length;
  expect(count(0)).toBe(0);
  expect(count(1)).toBe(10_000);
  expect(Math.abs(count(0.25) - 2500)).toBeLessThan(250);
});

test("a shuffle keeps the items and reaches every order", () => {
  const random = new Random(7);
  const orders = new Set<string>();
  for (let step = 0; step < 500; step++) orders.add(random.shuffle(["a", "b", "c"]).join(""));
  expect([...orders].sort()).toEqual(["abc", "acb", "bac", "bca", "cab", "cba"]);
});

test("a fork is repeatable and independent of how much its parent is used later", () => {
  const parent = new Random(8);
  const fork = parent.fork();
  numbers(parent, 100);
  expect(numbers(fork, 5)).toEqual(numbers(new Random(8).fork(), 5));
});
