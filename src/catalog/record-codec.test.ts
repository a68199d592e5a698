import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ByteReader, ByteWriter, openValue, sealValue } from "./record-codec.ts";

const key = Uint8Array.of(6, 0, 0, 0, 1);
const value = Uint8Array.from({ length: 16 }, (_, index) => index * 11);
const isDamage = expect.objectContaining({
  code: "CORRUPT_CATALOG",
  message: "Cannot read the catalog: the record of a commit fails its checksum",
});

describe("sealed value", () => {
  test("golden bytes", () => {
    const sealed = sealValue(key, value);
    expect(Buffer.from(sealed).toString("hex")).toBe(
      "000b16212c37424d58636e79848f9aa5" + "cfb4f3178a493699",
    );
    expect(openValue(key, sealed, "a commit")).toEqual(value);
  });

  test("every single-bit flip of value or key is found", () => {
    const sealed = sealValue(key, value);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const damaged = sealed.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => openValue(key, damaged, "a commit"), `bit ${bit}`).toThrow(isDamage);
    }
    for (let bit = 0; bit < key.length * 8; bit++) {
      const other = key.slice();
      other[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => openValue(other, sealed, "a commit"), `key bit ${bit}`).toThrow(isDamage);
    }
  });

  test("every truncation is found, and a value that grew", () => {
    const sealed = sealValue(key, value);
    for (let size = 0; size < sealed.length; size++)
      expect(() => openValue(key, sealed.subarray(0, size), "a commit"), `size ${size}`).toThrow(
        isDamage,
      );
    const longer = new Uint8Array(sealed.length + 1);
    longer.set(sealed);
    expect(() => openValue(key, longer, "a commit")).toThrow(isDamage);
  });

  test("any value is opened under its key, and under no other", () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 64 });
    fc.assert(
      fc.property(bytes, fc.uint8Array({ maxLength: 200 }), bytes, (name, content, other) => {
        const sealed = sealValue(name, content);
        expect(openValue(name, sealed, "a commit")).toEqual(content);
        if (Buffer.compare(name, other) !== 0)
          expect(() => openValue(other, sealed, "a commit")).toThrow(isDamage);
      }),
    );
  });
});

describe("key and value fields", () => {
  test("any numbers and bytes are read as they were written", () => {
    const raw = fc.uint8Array({ minLength: 16, maxLength: 16 });
    fc.assert(
      fc.property(
        fc.nat(255),
        fc.nat(0xffff_ffff),
        fc.maxSafeNat(),
        raw,
        (small, middle, large, id) => {
          const { bytes } = new ByteWriter(29).u8(small).u32(middle).u64(large).raw(id);
          const reader = new ByteReader(Buffer.from(bytes));
          const read = [reader.u8(), reader.u32(), reader.u64(), reader.raw(16)];
          expect(read).toEqual([small, middle, large, id]);
        },
      ),
    );
  });

  test("keys sort as their numbers do", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (left, right) => {
        const order = Buffer.compare(
          new ByteWriter(8).u64(left).bytes,
          new ByteWriter(8).u64(right).bytes,
        );
        expect(order).toBe(Math.sign(left - right));
      }),
    );
  });

  test("a value that is too short is an error, not a number", () => {
    expect(() => new ByteReader(Uint8Array.of(1, 2, 3)).u32()).toThrow(RangeError);
  });
});
