import fc from "fast-check";
import { expect, test } from "vitest";
import { VarintError, VarintReader, writeVarint } from "./varint.ts";

test("golden bytes", () => {
  const target = new Uint8Array(20);
  let end = writeVarint(target, 0, 127);
  end = writeVarint(target, end, 128);
  end = writeVarint(target, end, Number.MAX_SAFE_INTEGER);
  expect(Buffer.from(target.subarray(0, end)).toString("hex")).toBe("7f8001ffffffffffffff0f");
});

test("round trip", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(300), fc.maxSafeNat())), (values) => {
      const target = new Uint8Array(values.length * 8);
      let end = 0;
      for (const value of values) end = writeVarint(target, end, value);
      const reader = new VarintReader(target.subarray(0, end));
      expect(values.map(() => reader.next())).toEqual(values);
      expect(reader.isAtEnd).toBe(true);
    }),
  );
});

test.each([
  [[]],
  [[0x80]],
  [[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10]],
  [Array(9).fill(0x80)],
])("%j is no varint", (bytes) => {
  expect(() => new VarintReader(Uint8Array.from(bytes)).next()).toThrow(VarintError);
});

test.each([-1, 1.5, 2 ** 53, Number.NaN])("%s cannot be written", (value) => {
  expect(() => writeVarint(new Uint8Array(9), 0, value)).toThrow(RangeError);
});
