/** The table of marks against a map. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Random } from "../testing/random.ts";
import { MarkTable } from "./mark-table.ts";

test("holds the bits of any ids, like a map", () => {
  // Few different bytes, so that ids share parts, places and most of their words.
  const id = fc.array(fc.constantFrom(0, 1, 255), { minLength: 16, maxLength: 16 });
  const bit = fc.nat(63);
  fc.assert(
    fc.property(fc.array(fc.tuple(id, bit), { maxLength: 200 }), (entries) => {
      const table = new MarkTable();
      const model = new Map<string, bigint>();
      for (const [bytes, number] of entries) {
        const key = bytes.join();
        const before = model.get(key) ?? 0n;
        const [low, high] = number < 32 ? [1 << number, 0] : [0, 1 << (number - 32)];
        expect(table.add(Uint8Array.of(7, ...bytes), 1, low >>> 0, high >>> 0)).toBe(before === 0n);
        model.set(key, before | (1n << BigInt(number)));
      }
      expect(table.count).toBe(model.size);
      for (const [bytes, number] of entries) {
        const own = Uint8Array.from(bytes);
        expect(table.bits(own)).toBe(model.get(bytes.join()));
        expect(table.hasBit(own, number)).toBe(true);
        expect(table.hasBit(own, (number + 1) % 64)).toBe(
          ((model.get(bytes.join())! >> BigInt((number + 1) % 64)) & 1n) === 1n,
        );
        const other = own.slice();
        other[15]! ^= 0x40;
        expect(table.has(other)).toBe(false);
      }
    }),
  );
});

test("grows without losing an id", () => {
  const table = new MarkTable();
  const ids = Array.from({ length: 50_000 }, (_, seed) => new Random(seed).bytes(16));
  for (const id of ids) table.add(id, 0, 0, 0x8000_0000);
  expect(table.count).toBe(ids.length);
  for (const id of ids) if (table.bits(id) !== 1n << 63n) expect.fail("an id lost its bits");
});
