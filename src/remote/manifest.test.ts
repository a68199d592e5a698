import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { crc64Into, CRC64_SIZE } from "../storage/crc64.ts";
import { decodeManifest, encodeManifest, keyOfFile, type Manifest } from "./manifest.ts";

const MANIFEST: Manifest = {
  number: 12,
  storeId: "00112233445566778899aabbccddeeff",
  atMs: 1_700_000_000_000,
  writer: { epoch: 3, id: "aa".repeat(16), name: 'process 1 on "hüte"', replica: "bb".repeat(8) },
  header: '{"bough":"store"}\ncrc64nvme 0123456789abcdef\n',
  checkpointLsn: 40,
  mark: { sequence: 5, nonce: "0102030405060708" },
  runs: [{ key: "catalog/aa.run", size: 100, isBase: true }],
  logStart: 9,
  packEpochs: [
    { from: 0, epoch: 1 },
    { from: 7, epoch: 2 },
    { from: 7, epoch: 3 },
  ],
  historyEpochs: [{ from: 0, epoch: 1 }],
  garbage: [{ key: "catalog/bb.run", sinceNumber: 11, sinceMs: 1_600_000_000_000 }],
};

const GOLDEN: string =
  '{"bough":"manifest","formatVersion":1,"number":12,"storeId":"00112233445566778899aab' +
  'bccddeeff","atMs":1700000000000,"writer":{"epoch":3,"id":"aaaaaaaaaaaaaaaaaaaaaaaaaa' +
  'aaaaaa","name":"process 1 on \\"hüte\\"","replica":"bbbbbbbbbbbbbbbb"},"header":"{\\"bo' +
  'ugh\\":\\"store\\"}\\ncrc64nvme 0123456789abcdef\\n","checkpointLsn":40,"mark":{"sequence' +
  '":5,"nonce":"0102030405060708"},"runs":[{"key":"catalog/aa.run","size":100,"isBase":' +
  'true}],"logStart":9,"packEpochs":[{"from":0,"epoch":1},{"from":7,"epoch":2},{"from":' +
  '7,"epoch":3}],"historyEpochs":[{"from":0,"epoch":1}],"garbage":[{"key":"catalog/bb.r' +
  'un","sinceNumber":11,"sinceMs":1600000000000}]}' +
  "\ncrc64nvme 4189b556defb2676\n";

function codeOf(body: Uint8Array): string {
  try {
    decodeManifest(body);
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
  return "none";
}

/** Any first line, with a checksum that fits. */
function sealed(line: string): Uint8Array {
  const bytes = new TextEncoder().encode(line);
  const check = new Uint8Array(CRC64_SIZE);
  crc64Into(bytes, 0, bytes.length, check, 0);
  const hex = Buffer.from(check).reverse().toString("hex");
  return new TextEncoder().encode(`${line}\ncrc64nvme ${hex}\n`);
}

describe("manifest format", () => {
  test("golden text", () => {
    expect(Buffer.from(encodeManifest(MANIFEST)).toString()).toBe(GOLDEN);
  });

  test("decodes what it encodes", () => {
    expect(decodeManifest(encodeManifest(MANIFEST))).toMatchObject(MANIFEST);
    const names = fc.string({ unit: "grapheme" });
    fc.assert(
      fc.property(names, fc.maxSafeNat(), (name, number) => {
        const manifest = { ...MANIFEST, number, writer: { ...MANIFEST.writer, name } };
        expect(decodeManifest(encodeManifest(manifest))).toMatchObject(manifest);
      }),
    );
  });

  test("every single-bit flip is found", () => {
    const body = encodeManifest(MANIFEST);
    for (let bit = 0; bit < body.length * 8; bit++) {
      const damaged = body.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      expect(codeOf(damaged), `bit ${bit}`).toBe("CORRUPT_REMOTE");
    }
  });

  test("every truncation is found", () => {
    const body = encodeManifest(MANIFEST);
    for (let size = 0; size < body.length; size++)
      expect(codeOf(body.subarray(0, size)), `${size} bytes`).toBe("CORRUPT_REMOTE");
  });

  test("another version of the format says that it is one, something else that it is none", () => {
    expect(codeOf(sealed('{"bough":"manifest","formatVersion":2}'))).toBe("STORE_FORMAT");
    expect(codeOf(sealed('{"bough":"store","formatVersion":1}'))).toBe("CORRUPT_REMOTE");
  });

  test("a file's name has the epoch of the last writer that counted on from a number up to its own", () => {
    expect(keyOfFile(MANIFEST, { kind: "pack", number: 6 })).toBe("chunks/00000006.1.pack");
    expect(keyOfFile(MANIFEST, { kind: "pack", number: 7 })).toBe("chunks/00000007.3.pack");
    expect(keyOfFile(MANIFEST, { kind: "history", number: 7 })).toBe("history/00000007.1.hist");
  });
});
