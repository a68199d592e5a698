import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { InvariantError } from "../errors.ts";
import {
  canCompressZstd,
  Codec,
  type CodecChoice,
  compress,
  CompressionError,
  compressSync,
  decompressSync,
} from "./compression.ts";

const compressible = Uint8Array.from({ length: 2000 }, (_, index) => index >> 5);

/** `compressible` as Node 24 compresses it. */
const ZSTD_BODY: Uint8Array = Buffer.from(
  "28b52ffd60d006bd0400040400000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f10009d34d7b0469a6b5823cd35ac91e61ad648730d6ba4b98635d25cc31a69ae618d34d7b0469a6b5823cd35ac91e61ad648730d6ba4b98635d25cc31a69ae618d34d7b0469a6b5823cd35ac91e61ad64873452c",
  "hex",
);

const CHOICES: readonly CodecChoice[] = canCompressZstd()
  ? [Codec.lz4, Codec.zstd, { codec: Codec.zstd, level: 1 }, { codec: Codec.zstd, level: 19 }]
  : [Codec.lz4];

/** Bodies of both codecs for `compressible`, on every Node. */
const BODIES: readonly (readonly [string, Codec, Uint8Array])[] = [
  ["lz4", Codec.lz4, compressSync(compressible, Codec.lz4).body],
  ["zstd", Codec.zstd, ZSTD_BODY],
];

describe("compression", () => {
  test.each(CHOICES)("round trip with %j, sync and async alike", async (choice) => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 3000 }),
        fc.integer({ min: 1, max: 9 }),
        async (bytes, times) => {
          const plaintext = Buffer.concat(Array.from({ length: times }, () => bytes));
          const { codec, body } = compressSync(plaintext, choice);
          expect(await compress(plaintext, choice)).toEqual({ codec, body });
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

  test("golden bytes of zstd decode for ever, also where the runtime has no zstd", () => {
    expect(decompressSync(ZSTD_BODY, Codec.zstd, 2000)).toEqual(compressible);
    const zeros = Buffer.from("28b52ffd206445000010000001003f012c", "hex");
    expect(decompressSync(zeros, Codec.zstd, 100)).toEqual(new Uint8Array(100));
  });

  test("levels of zstd are those asked for", () => {
    if (!canCompressZstd()) {
      expect(() => compressSync(compressible, Codec.zstd)).toThrow(InvariantError);
      return;
    }
    const text = Buffer.from(
      Array.from(
        { length: 20_000 },
        (_, index) => `row ${(index * 7919) % 10_007} of ${index & 63}`,
      ).join(),
    );
    const [fast, best] = [1, 19].map(
      (level) => compressSync(text, { codec: Codec.zstd, level }).body.length,
    );
    expect(best).toBeLessThan((fast ?? 0) * 0.95);
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

  test("a zstd body that states another size, or none, is refused before anything is allocated", () => {
    for (const size of [0, 1999, 2001, 2 ** 32 - 1])
      expect(() => decompressSync(ZSTD_BODY, Codec.zstd, size)).toThrow(/claims 2000 bytes/);
    const huge = Buffer.concat([
      Buffer.from("28b52ffda0f0ffffff", "hex"), // a single segment of 4 GiB
      ZSTD_BODY.subarray(7),
    ]);
    expect(() => decompressSync(huge, Codec.zstd, 2000)).toThrow(/claims 4294967280 bytes/);
    const unsaid = Buffer.from("28b52ffd0058" + "010000", "hex");
    expect(() => decompressSync(unsaid, Codec.zstd, 0)).toThrow(/claims no bytes/);
  });

  test.each(BODIES)("every truncation of %s is refused", (_, codec, body) => {
    for (let size = 0; size < body.length; size++) {
      expect(() => decompressSync(body.subarray(0, size), codec, 2000), `size ${size}`).toThrow(
        CompressionError,
      );
    }
  });

  test.each(BODIES)(
    "a flipped bit of %s gives as many bytes or a CompressionError, never a crash",
    (_, codec, body) => {
      for (let bit = 0; bit < body.length * 8; bit++) {
        const damaged = new Uint8Array(body);
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        try {
          expect(decompressSync(damaged, codec, 2000)).toHaveLength(2000);
        } catch (error) {
          expect(error, `bit ${bit}`).toBeInstanceOf(CompressionError);
        }
      }
    },
  );
});
