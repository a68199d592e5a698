import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { matchesMaskedCrc32c } from "./crc32c.ts";
import { decompressSnappy } from "./snappy.ts";

/** As leveldb stores a checksum. */
function masked(crc: number): number {
  return ((((crc >>> 15) | (crc << 17)) >>> 0) + 0xa282_ead8) >>> 0;
}

describe("CRC-32C", () => {
  test("of the texts that RFC 3720 gives", () => {
    const known: readonly (readonly [Uint8Array, number])[] = [
      [Buffer.from("123456789"), 0xe306_9283],
      [new Uint8Array(32), 0x8a91_36aa],
      [new Uint8Array(32).fill(0xff), 0x62a8_ab43],
      [Uint8Array.from({ length: 32 }, (_, index) => index), 0x46dd_794e],
    ];
    for (const [bytes, crc] of known) {
      expect(matchesMaskedCrc32c(masked(crc), bytes, 0, bytes.length)).toBe(true);
      const within = Buffer.concat([Buffer.from("abc"), bytes, Buffer.from("z")]);
      expect(matchesMaskedCrc32c(masked(crc), within, 3, 3 + bytes.length)).toBe(true);
      within[4]! ^= 1;
      expect(matchesMaskedCrc32c(masked(crc), within, 3, 3 + bytes.length)).toBe(false);
    }
  });
});

describe("snappy", () => {
  const hex = (text: string): Uint8Array => Buffer.from(text, "hex");

  test("golden bytes: literals, copies of each kind, copies that overlap", () => {
    expect(decompressSnappy(hex("00"), 10)).toEqual(new Uint8Array(0));
    // 10 bytes: the literal "ab", a copy of 8 at distance 2 in one byte of offset.
    expect(Buffer.from(decompressSnappy(hex("0a" + "046162" + "1102"), 10) ?? []).toString()).toBe(
      "ababababab",
    );
    // The same with an offset of two bytes, then of four.
    expect(
      Buffer.from(decompressSnappy(hex("0a" + "046162" + "1e0200"), 10) ?? []).toString(),
    ).toBe("ababababab");
    expect(
      Buffer.from(decompressSnappy(hex("0a" + "046162" + "1f02000000"), 10) ?? []).toString(),
    ).toBe("ababababab");
    // A literal of 61 bytes has its length in a byte of its own.
    const long = Buffer.alloc(61, 0x78);
    expect(decompressSnappy(Buffer.concat([hex("3d" + "f03c"), long]), 61)).toEqual(
      new Uint8Array(long),
    );
  });

  test("bytes that are not snappy's are null: too long, cut, or copied from before the start", () => {
    for (const text of [
      "",
      "0a",
      "0a0461",
      "0a04616211",
      "0a04616211ff",
      "02046162" + "0102",
      "ffffffffff01",
    ])
      expect(decompressSnappy(hex(text), 1000), text).toBeNull();
    expect(decompressSnappy(hex("0a0461621102"), 9)).toBeNull();
  });

  test("any bytes give null or what their size says, and no exception", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const result = decompressSnappy(bytes, 5000);
        if (result !== null) expect(result.length).toBeLessThanOrEqual(5000);
      }),
    );
  });
});
