import fc from "fast-check";
import { expect, test } from "vitest";
import { type CacheEntry, ClockCache } from "./clock-cache.ts";

interface TestEntry extends CacheEntry {
  readonly key: string;
}

function entry(key: string, weight = 1): TestEntry {
  return { key, weight, referenced: false };
}

test("random use keeps the limit, the weight and one eviction per entry", () => {
  const operation = fc.record({
    kind: fc.constantFrom(
      "get" as const,
      "set" as const,
      "set" as const,
      "delete" as const,
      "clear" as const,
    ),
    key: fc.nat(30).map(String),
    weight: fc.integer({ min: 0, max: 40 }),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 300 }), (operations) => {
      const model = new Map<string, TestEntry>();
      const cache = new ClockCache<TestEntry>(100, (evicted) => {
        expect(model.get(evicted.key)).toBe(evicted);
        model.delete(evicted.key);
      });
      for (const { kind, key, weight } of operations) {
        if (kind === "get") expect(cache.get(key)).toBe(model.get(key));
        else if (kind === "delete") cache.delete(key);
        else if (kind === "clear") cache.clear();
        else {
          const added = entry(key, weight);
          cache.set(key, added);
          model.set(key, added);
        }
        const total = [...model.values()].reduce((sum, held) => sum + held.weight, 0);
        expect(cache.weight).toBe(total);
        expect(cache.count).toBe(model.size);
        expect(total).toBeLessThanOrEqual(100);
      }
    }),
  );
});

test("an entry in use outlives those that are not", () => {
  const cache = new ClockCache<TestEntry>(10);
  cache.set("hot", entry("hot"));
  for (let index = 0; index < 1000; index++) {
    cache.set(String(index), entry(String(index)));
    expect(cache.get("hot")?.key).toBe("hot");
  }
  expect(cache.count).toBe(10);
});

test("an entry heavier than the limit stays alone", () => {
  const cache = new ClockCache<TestEntry>(10);
  cache.set("a", entry("a", 5));
  cache.set("b", entry("b", 50));
  expect([cache.get("a"), cache.get("b")?.key]).toEqual([undefined, "b"]);
});

test("a limit that is no number is refused", () => {
  expect(() => new ClockCache<TestEntry>(Number.NaN)).toThrow(RangeError);
});
