import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { StoreError } from "../errors.ts";
import { Crc64, CRC64_SIZE } from "../storage/crc64.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { HEADER_FILE, readHeader, type StoreHeader, writeHeader } from "./store-header.ts";

const storeId = Uint8Array.from({ length: 16 }, (_, index) => index);
const header: StoreHeader = {
  storeId,
  createdAt: "2026-11-20T10:00:00.000Z",
  backend: "lmdb",
  encryption: null,
};
const LINE =
  '{"bough":"store","formatVersion":1,"storeId":"000102030405060708090a0b0c0d0e0f",' +
  '"createdAt":"2026-11-20T10:00:00.000Z","backend":"lmdb","encryption":null}';

function written(value: StoreHeader): Uint8Array {
  const storage = new SimulatedStorage();
  writeHeader(storage, value);
  return readFileSync(storage, HEADER_FILE);
}

function read(bytes: Uint8Array): StoreHeader {
  const storage = new SimulatedStorage();
  writeFileAtomicSync(storage, HEADER_FILE, bytes);
  return readHeader(storage);
}

/** A header with a good checksum and this first line. */
function withLine(line: string): Uint8Array {
  const crc = new Crc64();
  crc.update(Buffer.from(line));
  const check = Buffer.alloc(CRC64_SIZE);
  crc.digestInto(check, 0);
  return Buffer.from(`${line}\ncrc64nvme ${check.reverse().toString("hex")}\n`);
}

describe("store.json", () => {
  test("golden text", () => {
    expect(Buffer.from(written(header)).toString()).toBe(`${LINE}\ncrc64nvme 86e4f7edb17a796f\n`);
    expect(read(Buffer.from(`${LINE}\ncrc64nvme 86e4f7edb17a796f\n`))).toEqual(header);
  });

  test("golden text with a compression", () => {
    const line = LINE.replace("null}", 'null,"compression":"zstd:3"}');
    const value: StoreHeader = { ...header, compression: "zstd:3" };
    expect(Buffer.from(written(value))).toEqual(withLine(line));
    expect(read(withLine(line))).toEqual(value);
  });

  test("golden text with partitions, which is format version 2", () => {
    const line = LINE.replace('"formatVersion":1', '"formatVersion":2').replace(
      "null}",
      'null,"partitions":4}',
    );
    const value: StoreHeader = { ...header, partitions: 4 };
    expect(Buffer.from(written(value))).toEqual(withLine(line));
    expect(read(withLine(line))).toEqual(value);
  });

  test("every single-bit flip is CORRUPT_HEADER", () => {
    const encryption = KeyRing.create(parseMasterKey("05".repeat(32), "key")).toJSON();
    for (const bytes of [written(header), written({ ...header, encryption })]) {
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const damaged = new Uint8Array(bytes);
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        expect(() => read(damaged), `bit ${bit}`).toThrow(
          expect.objectContaining({ code: "CORRUPT_HEADER" }),
        );
      }
    }
  });

  test("every truncation is CORRUPT_HEADER, and so is text after the end", () => {
    const bytes = written(header);
    for (let size = 0; size < bytes.length; size++)
      expect(() => read(bytes.subarray(0, size)), `size ${size}`).toThrow(
        expect.objectContaining({ code: "CORRUPT_HEADER" }),
      );
    expect(() => read(Buffer.concat([bytes, Buffer.from("x")]))).toThrow(StoreError);
    expect(() => read(Buffer.concat([bytes, Buffer.from("\n")]))).toThrow(StoreError);
  });

  test("any header is read as it was written", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.constantFrom("lmdb" as const, "leveldb" as const, "memory" as const),
        fc.date({ noInvalidDate: true }),
        (id, backend, created) => {
          const value = { ...header, storeId: id, backend, createdAt: created.toISOString() };
          expect(read(written(value))).toEqual(value);
        },
      ),
      { numRuns: 50 },
    );
  });

  test("a format version from the future is STORE_FORMAT", () => {
    expect(() => read(withLine(LINE.replace('"formatVersion":1', '"formatVersion":3')))).toThrow(
      expect.objectContaining({
        code: "STORE_FORMAT",
        message:
          "Cannot open the store: its format version is 3, this bough reads up to 2; use a newer bough",
      }),
    );
  });

  test.each([
    ["no JSON", "{"],
    ["null", "null"],
    ["another file", LINE.replace('"store"', '"other"')],
    ["no format version", LINE.replace('"formatVersion":1,', "")],
    ["partitions in format version 1", LINE.replace("null}", 'null,"partitions":2}')],
    ["no partitions in format version 2", LINE.replace('"formatVersion":1', '"formatVersion":2')],
    ...["1", "257", "2.5", '"2"', "null"].map((partitions): [string, string] => [
      `partitions that are ${partitions}`,
      LINE.replace('"formatVersion":1', '"formatVersion":2').replace(
        "null}",
        `null,"partitions":${partitions}}`,
      ),
    ]),
    ["format version 0", LINE.replace('"formatVersion":1', '"formatVersion":0')],
    ["a broken format version", LINE.replace('"formatVersion":1', '"formatVersion":1.5')],
    ["a short store id", LINE.replace("0001", "")],
    ["an unknown compression", LINE.replace("null}", 'null,"compression":"zstd:0"}')],
    ["an unknown backend", LINE.replace("lmdb", "rocks")],
  ])("%s under a good checksum is CORRUPT_HEADER", (_what, line) => {
    expect(() => read(withLine(line))).toThrow(expect.objectContaining({ code: "CORRUPT_HEADER" }));
  });
});
