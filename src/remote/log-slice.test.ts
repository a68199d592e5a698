import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { crc64Into, CRC64_SIZE } from "../storage/crc64.ts";
import { decodeSlice, encodeSlice, type LogSlice } from "./log-slice.ts";
import { sliceKey } from "./remote-keys.ts";

const KEY = "log/000000000007.slice";
const SLICE: LogSlice = {
  sequence: 7,
  storeId: Uint8Array.from({ length: 16 }, (_, index) => index),
  writer: { epoch: 3, id: new Uint8Array(16).fill(0xaa), name: "hüte" },
  isFence: false,
  firstLsn: 41,
  lastLsn: 42,
  atMs: 1_700_000_000_000,
  pieces: [
    { segment: 2, offset: 4096, bytes: Uint8Array.of(1, 2, 3) },
    { segment: 3, offset: 0, bytes: Uint8Array.of(9) },
  ],
};
const FENCE: LogSlice = { ...SLICE, isFence: true, firstLsn: 0, lastLsn: 0, pieces: [] };

function codeOf(body: Uint8Array): string {
  try {
    decodeSlice(body, KEY);
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
  return "none";
}

/** With a checksum that fits. */
function sealed(body: Uint8Array): Uint8Array {
  const end = body.length - CRC64_SIZE;
  crc64Into(body, 0, end, body, end);
  return body;
}

describe("slice format", () => {
  test("golden bytes of records", () => {
    expect(Buffer.from(encodeSlice(SLICE)).toString("hex")).toBe(
      "42534c43010102000700000000000000000102030405060708090a0b0c0d0e0f" +
        "0300000000000000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa29000000000000002a00000000000000" +
        "0068e5cf8b010000050000000000000068c3bc7465" +
        "020000000000000000100000000000000300000000000000010203" +
        "030000000000000000000000000000000100000000000000" +
        "09855255d125724da6",
    );
  });

  test("golden bytes of a fence", () => {
    expect(Buffer.from(encodeSlice(FENCE)).toString("hex")).toBe(
      "42534c43010200000700000000000000000102030405060708090a0b0c0d0e0f" +
        "0300000000000000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000000000000000000000" +
        "0068e5cf8b010000050000000000000068c3bc7465fe6a6b9ca349991e",
    );
  });

  test("decodes what it encodes", () => {
    const bytes = (size: number): fc.Arbitrary<Uint8Array> =>
      fc.uint8Array({ minLength: size, maxLength: size });
    const number = fc.maxSafeNat();
    const slices = fc.record({
      sequence: number,
      storeId: bytes(16),
      writer: fc.record({ epoch: number, id: bytes(16), name: fc.string({ unit: "grapheme" }) }),
      isFence: fc.boolean(),
      firstLsn: number,
      lastLsn: number,
      atMs: number,
      pieces: fc.array(
        fc.record({ segment: number, offset: number, bytes: fc.uint8Array({ maxLength: 300 }) }),
        { maxLength: 5 },
      ),
    });
    fc.assert(
      fc.property(slices, (slice) => {
        expect(decodeSlice(encodeSlice(slice), sliceKey(slice.sequence))).toEqual(slice);
      }),
    );
  });

  test("every single-bit flip is found", () => {
    for (const slice of [SLICE, FENCE]) {
      const body = encodeSlice(slice);
      for (let bit = 0; bit < body.length * 8; bit++) {
        const damaged = body.slice();
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        expect(codeOf(damaged), `bit ${bit}`).toBe("CORRUPT_REMOTE");
      }
    }
  });

  test("every truncation and extension is found", () => {
    const body = encodeSlice(SLICE);
    for (let size = 0; size < body.length; size++)
      expect(codeOf(body.subarray(0, size)), `${size} bytes`).toBe("CORRUPT_REMOTE");
    expect(codeOf(Uint8Array.of(...body, 0))).toBe("CORRUPT_REMOTE");
  });

  test("forged lengths and counts with a checksum that fits are refused", () => {
    for (const offset of [6, 80, 109, 136]) {
      for (const value of [0, 1, 4, 200, 0xffff]) {
        const body = encodeSlice(SLICE);
        const view = new DataView(body.buffer);
        if (view.getUint16(offset, true) === value) continue;
        view.setUint16(offset, value, true);
        expect(codeOf(sealed(body)), `${value} at ${offset}`).toBe("CORRUPT_REMOTE");
      }
    }
    const unknownType = encodeSlice(SLICE);
    unknownType[5] = 3;
    expect(codeOf(sealed(unknownType))).toBe("CORRUPT_REMOTE");
  });

  test("a slice under the name of another is refused", () => {
    expect(() => decodeSlice(encodeSlice(SLICE), sliceKey(8))).toThrow("it is slice 7");
  });

  test("another version of the format says that it is one", () => {
    const body = encodeSlice(SLICE);
    body[4] = 2;
    expect(codeOf(sealed(body))).toBe("STORE_FORMAT");
  });
});
