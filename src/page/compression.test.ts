import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Codec, compress, CompressionError, compressSync, decompressSync } from "./compression.ts";

const compressible = Uint8Array.from({ length: 2000 }, (_, index) => index >> 5);

describe("compression", () => {
  test("round trip, sync and async alike", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 3000 }),
        fc.integer({ min: 1, max: 9 }),
        async (bytes, times) => {
          const plaintext = Buffer.concat(Array.from({ length: times }, () => bytes));
          const { codec, body } = compressSync(plaintext, Codec.lz4);
          expect(await compress(plaintext, Codec.lz4)).toEqual({ codec, body });
          expect(Buffer.compare(decompressSync(body, codec, plaintext.length), plaintext)).toBe(0);
          expect(body.length).toBeLessThanOrEqual(plaintext.length);
        },
      ),
    );
  });

  test("golden bytes of lz4 decode for ever", () => {
    // 100; a literal 0 and a match of 94 at distance 1; 5 literals.
    const body = Buffer.from("64000000" + "1f0001004b" + "500000000000", "hex");
    expect(decompressSync(body, Codec.lz4, 100)).toEqual(new Uint8Array(100));
  });

  test("raw stays raw", () => {
    expect(compressSync(compressible, Codec.raw)).toEqual({ codec: Codec.raw, body: compressible });
  });

  test("every other size is refused before anything is allocated", () => {
    const { body } = compressSync(compressible, Codec.lz4);
    for (const size of [0, 1999, 2001, 2 ** 32 - 1]) {
      expect(() => decompressSync(body, Codec.lz4, size)).toThrow(CompressionError);
      expect(() => decompressSync(compressible, Codec.raw, size)).toThrow(CompressionError);
    }
    const forged = Buffer.from(body);
    forged.writeUInt32LE(0xffff_fff0);
    expect(() => decompressSync(forged, Codec.lz4, 0xffff_fff0)).toThrow(/cannot hold/);
  });

  test("every truncation is refused", () => {
    const { body } = compressSync(compressible, Codec.lz4);
    for (let size = 0; size < body.length; size++) {
      expect(() => decompressSync(body.subarray(0, size), Codec.lz4, 2000), `size ${size}`).toThrow(
        CompressionError,
      );
    }
  });

  test("a flipped bit gives as many bytes or a CompressionError, never a crash", () => {
    const { body } = compressSync(compressible, Codec.lz4);
    for (let bit = 0; bit < body.length * 8; bit++) {
      const damaged = new Uint8Array(body);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      try {
        expect(decompressSync(damaged, Codec.lz4, 2000)).toHaveLength(2000);
      } catch (error) {
        expect(error, `bit ${bit}`).toBeInstanceOf(CompressionError);
      }
    }
  });
});
