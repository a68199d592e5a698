import { expect, test } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { Log } from "./log.ts";
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  SEGMENT_HEADER_SIZE,
  type SegmentHeader,
} from "./segment-format.ts";
import { crc64Into } from "../storage/crc64.ts";

const HEADER: SegmentHeader = {
  storeId: Uint8Array.from({ length: 16 }, (_, index) => 0xa0 + index),
  number: 3,
  firstLsn: 0x1_0000_0007,
  fileSize: 16384,
  createdMs: 1_700_000_000_000,
  keyNumber: 0,
  salt: Uint8Array.from({ length: 16 }, (_, index) => 0x10 + index),
  previousChain: Uint8Array.from({ length: 8 }, (_, index) => 0xc0 + index),
  previousClosed: true,
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("a segment header keeps its golden bytes", () => {
  const bytes = encodeSegmentHeader(HEADER);
  expect(hex(bytes.subarray(0, 96))).toBe(
    "57414c5301000000" + // magic, version
      "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" + // store id
      "0300000000000000" + // number
      "0700000001000000" + // first LSN
      "0040000000000000" + // file size
      "0068e5cf8b010000" + // created
      "0000000001000000" + // key number, flags
      "101112131415161718191a1b1c1d1e1f" + // salt
      "c0c1c2c3c4c5c6c7" + // chain before
      "0000000000000000",
  );
  expect(bytes.subarray(96, 4088).every((byte) => byte === 0)).toBe(true);
  expect(hex(bytes.subarray(4088))).toMatchInlineSnapshot(`"67fd2e67fc3d997d"`);
  expect(decodeSegmentHeader(bytes)).toEqual(HEADER);
});

test("records and the end record keep their golden bytes", () => {
  const storage = new SimulatedStorage();
  const log = Log.open({
    storage,
    storeId: HEADER.storeId,
    cipher: null,
    afterLsn: 0,
    onRecord: () => undefined,
    segmentSize: 8192,
    random: (size) => HEADER.salt.slice(0, size),
    now: () => HEADER.createdMs,
  });
  log.append(1, Uint8Array.of(0xde, 0xad, 0xbe, 0xef));
  log.flushSync("full");
  log.append(0x7f, [Uint8Array.of(1, 2, 3, 4, 5), Uint8Array.of(6, 7, 8)]);
  log.closeSync();
  const file = storage.openFileSync("log/0000000001.wal", { mode: "read" });
  const bytes = new Uint8Array(8192);
  file.readSync(0, bytes);
  expect(hex(bytes.subarray(4096, 4096 + 48))).toMatchInlineSnapshot(
    `"0400000001000000010000000000000000000000000000001001121314151617deadbeef00000000b69c827d5b6c0489"`,
  );
  expect(hex(bytes.subarray(4144, 4144 + 48))).toMatchInlineSnapshot(
    `"080000007f0000000200000000000000010000000000000020011213141516170102030405060708f544ac9b6c2e20cd"`,
  );
  expect(hex(bytes.subarray(4192, 4192 + 56))).toMatchInlineSnapshot(
    `"1000000000000000020000000000000002000000000000007001121314151617020000000000000034b69d05179e4bfd26c5f95009774b36"`,
  );
  expect(bytes.subarray(4248).every((byte) => byte === 0)).toBe(true);
});

test("decodeSegmentHeader rejects every single-bit flip and every truncation", () => {
  const bytes = encodeSegmentHeader(HEADER);
  for (let bit = 0; bit < SEGMENT_HEADER_SIZE * 8; bit++) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    expect("problem" in decodeSegmentHeader(bytes), `bit ${bit}`).toBe(true);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
  for (let size = 0; size < SEGMENT_HEADER_SIZE; size++) {
    expect("problem" in decodeSegmentHeader(bytes.subarray(0, size)), `size ${size}`).toBe(true);
  }
});

test("a whole header of an unknown format version is told from a damaged one", () => {
  const bytes = encodeSegmentHeader(HEADER);
  bytes[4] = 2;
  expect(decodeSegmentHeader(bytes)).toMatchObject({ problem: "checksum" });
  crc64Into(bytes, 0, 4088, bytes, 4088);
  expect(decodeSegmentHeader(bytes)).toEqual({ problem: "version", version: 2 });
});
