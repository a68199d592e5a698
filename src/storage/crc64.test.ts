import { createCRC64 } from "hash-wasm";
import { expect, test } from "vitest";

import { Random } from "../testing/random.ts";
import { Crc64, crc64Into, crc64Matches } from "./crc64.ts";

function crc64Hex(bytes: Uint8Array, start = 0, end = bytes.byteLength): string {
  const target = new Uint8Array(8);
  crc64Into(bytes, start, end, target, 0);
  return Buffer.from(target.reverse()).toString("hex");
}

test("the check value of CRC-64/NVME comes out", () => {
  expect(crc64Hex(Buffer.from("123456789"))).toBe("ae8b14860a799888");
});

test("the CRC of nothing is zero", () => {
  expect(crc64Hex(new Uint8Array(0))).toBe("0000000000000000");
});

test("random inputs of all lengths and alignments agree with hash-wasm", async () => {
  const reference = await createCRC64("9a6c9329ac4bc9b5");
  const random = new Random(64);
  for (let length = 0; length <= 300; length++) {
    const bytes = random.bytes(length + 16);
    const start = random.integer(0, 15);
    const expected = reference
      .init()
      .update(bytes.subarray(start, start + length))
      .digest("hex");
    expect(crc64Hex(bytes, start, start + length), `length ${length}`).toBe(expected);
  }
  for (const length of [4096, 65535, 65536, 65537, 262143, 262144, 262145, 600001]) {
    const bytes = random.bytes(length);
    expect(crc64Hex(bytes), `length ${length}`).toBe(reference.init().update(bytes).digest("hex"));
  }
});

test("pieces give the same value as the whole, and a digest does not end the run", () => {
  const random = new Random(7);
  const bytes = random.bytes(10_000);
  const incremental = new Crc64();
  const digest = new Uint8Array(8);
  for (let position = 0; position < bytes.byteLength;) {
    const next = Math.min(bytes.byteLength, position + random.integer(0, 700));
    incremental.update(bytes.subarray(position, next));
    position = next;
    incremental.digestInto(digest, 0);
    expect(crc64Matches(bytes, 0, position, digest, 0)).toBe(true);
  }
});

test("two interleaved runs do not disturb each other", () => {
  const left = new Crc64().update(Buffer.from("12345"));
  const right = new Crc64().update(Buffer.from("other"));
  left.update(Buffer.from("6789"));
  right.update(Buffer.from(" bytes"));
  const digest = new Uint8Array(8);
  left.digestInto(digest, 0);
  expect(Buffer.from(digest.reverse()).toString("hex")).toBe("ae8b14860a799888");
});

test("every single-bit flip is noticed, in the bytes and in the checksum", () => {
  const bytes = new Random(1).bytes(64);
  const sealed = new Uint8Array(72);
  sealed.set(bytes);
  crc64Into(sealed, 0, 64, sealed, 64);
  expect(crc64Matches(sealed, 0, 64, sealed, 64)).toBe(true);
  for (let bit = 0; bit < sealed.byteLength * 8; bit++) {
    const damaged = sealed.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    expect(crc64Matches(damaged, 0, 64, damaged, 64), `bit ${bit}`).toBe(false);
  }
});

test("ranges outside of the buffers are refused", () => {
  const bytes = new Uint8Array(16);
  expect(() => crc64Into(bytes, 0, 17, bytes, 0)).toThrow(RangeError);
  expect(() => crc64Into(bytes, 9, 8, bytes, 0)).toThrow(RangeError);
  expect(() => crc64Into(bytes, -1, 8, bytes, 0)).toThrow(RangeError);
  expect(() => crc64Into(bytes, 0, 8, bytes, 9)).toThrow(RangeError);
  expect(crc64Matches(bytes, 0, 8, bytes, 9)).toBe(false);
});
