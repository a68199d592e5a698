import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CurrentCipher } from "../encryption/current-cipher.ts";
import { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { StoreError } from "../errors.ts";
import type { StorageFile } from "../storage/storage.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { Codec } from "./compression.ts";
import {
  compareHistoryKeys,
  decodeHistoryReference,
  encodeHistoryReference,
  type HistoryEntry,
  HistoryKind,
} from "./history-format.ts";
import { HistoryReader } from "./history-reader.ts";
import { type HistoryMeta, HistoryWriter, writeHistory } from "./history-writer.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";

const storeId = Uint8Array.from({ length: 16 }, (_, index) => index);
const cipher = KeyRing.create(parseMasterKey(Buffer.alloc(32, 3)));
const meta: HistoryMeta = { storeId, segmentNumber: 5, databaseId: 9, cipher: null };

function newFile(): StorageFile {
  return new SimulatedStorage().openFileSync("segment.history", { mode: "create" });
}

function fileOf(bytes: Uint8Array): StorageFile {
  const file = newFile();
  file.writeSync(0, bytes);
  return file;
}

function write(entries: Iterable<HistoryEntry>, changes: Partial<HistoryMeta> = {}): StorageFile {
  const file = newFile();
  writeHistory(file, { ...meta, ...changes }, entries);
  return file;
}

function contentOf(file: StorageFile): Uint8Array {
  const bytes = new Uint8Array(file.sizeSync());
  file.readSync(0, bytes);
  return bytes;
}

function image(page: number, version: number, payload: Uint8Array, timeline = 1): HistoryEntry {
  return { timeline, page, version, kind: HistoryKind.image, payload };
}

const small: HistoryEntry[] = [
  image(1, 7, Uint8Array.of(1, 2, 3)),
  { timeline: 1, page: 1, version: 8, kind: HistoryKind.delta, payload: Uint8Array.of(0, 1, 9) },
  { timeline: 1, page: 300, version: 8, kind: HistoryKind.zero, payload: new Uint8Array(0) },
  {
    timeline: 2,
    page: 1,
    version: 2 ** 53 - 1,
    kind: HistoryKind.reference,
    payload: encodeHistoryReference(storeId, 63),
  },
];

const payloads: Record<HistoryKind, fc.Arbitrary<Uint8Array>> = {
  [HistoryKind.image]: fc
    .tuple(fc.nat(255), fc.integer({ min: 1, max: 9000 }), fc.uint8Array({ maxLength: 300 }))
    .map(([fill, size, start]) => {
      const bytes = new Uint8Array(size).fill(fill);
      bytes.set(start.subarray(0, size));
      return bytes;
    }),
  [HistoryKind.delta]: fc.uint8Array({ maxLength: 200 }),
  [HistoryKind.zero]: fc.constant(new Uint8Array(0)),
  [HistoryKind.reference]: fc
    .tuple(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(63))
    .map(([id, slot]) => encodeHistoryReference(id, slot)),
};

const anyEntry: fc.Arbitrary<HistoryEntry> = fc
  .constantFrom(...Object.values(HistoryKind))
  .chain((kind) =>
    fc.record({
      timeline: fc.oneof(fc.nat(2), fc.constant(0xffff_ffff)),
      page: fc.oneof(fc.nat(5), fc.constant(0xffff_ffff)),
      version: fc.oneof(fc.nat(50), fc.maxSafeNat()),
      kind: fc.constant(kind),
      payload: payloads[kind],
    }),
  );

const anyEntries = fc.array(anyEntry, { maxLength: 120 }).map((entries) => {
  const sorted = entries.toSorted(compareHistoryKeys);
  return sorted.filter((entry, at) => at === 0 || compareHistoryKeys(sorted[at - 1]!, entry) < 0);
});

describe("history segment", () => {
  test("golden bytes", () => {
    const file = write(small, { codec: Codec.raw });
    expect(Buffer.from(contentOf(file)).toString("hex")).toBe(
      "4248535401000000000102030405060708090a0b0c0d0e0f050000000900000000000000000000000000000000000000000000000000000000000000000000000000000000000000" +
        "68e3e1d15d88aac2" +
        "33000000330000000001000000000000" +
        "0101070003010203" +
        "0101080103000109" +
        "01ac02080200" +
        "0201ffffffffffffff0f0311000102030405060708090a0b0c0d0e0f3f" +
        "b7940357ef21c247" +
        "05000000050000000002000000000000" +
        "010107504b" +
        "5def85910f3f11be" +
        "424853460100000004000000000000009b000000000000001d00000000000000" +
        "1d1dde96f4c59a64",
    );
    expect([...HistoryReader.open(file, { storeId, cipher: null }).entries()]).toEqual(small);
  });

  test("round trip: everything, and the versions of each page up to any version", () => {
    fc.assert(
      fc.property(anyEntries, fc.boolean(), fc.nat(60), (entries, isEncrypted, maxVersion) => {
        const options = { storeId, cipher: isEncrypted ? cipher : null, cacheBytesMax: 40_000 };
        const reader = HistoryReader.open(write(entries, { cipher: options.cipher }), options);
        expect(reader.header).toMatchObject({ segmentNumber: 5, databaseId: 9 });
        expect([...reader.entries()]).toEqual(entries);
        for (const { timeline, page } of entries) {
          const isWanted = (entry: HistoryEntry): boolean =>
            entry.timeline === timeline && entry.page === page && entry.version <= maxVersion;
          expect(reader.versions(timeline, page, maxVersion)).toEqual(entries.filter(isWanted));
        }
        expect(reader.versions(1, 77, maxVersion)).toEqual([]);
      }),
      { numRuns: isLong ? 600 : 20 },
    );
  });

  test("the versions of one page run across blocks, and a read loads only their blocks", () => {
    const entries: HistoryEntry[] = [];
    for (let page = 1; page <= 40; page++) {
      for (let version = 1; version <= 60; version++) {
        entries.push(image(page, version, new Uint8Array(4096).fill(page + version)));
      }
    }
    const file = newFile();
    const { size, entryCount, blockCount } = writeHistory(file, meta, entries);
    expect({ size, entryCount }).toEqual({ size: file.sizeSync(), entryCount: 2400 });
    expect(blockCount).toBe(150);
    let reads = 0;
    const counting: StorageFile = Object.create(file);
    counting.readSync = (offset, target) => {
      reads++;
      return file.readSync(offset, target);
    };
    const reader = HistoryReader.open(counting, { storeId, cipher: null });
    reads = 0;
    expect(reader.versions(1, 20, 33)).toEqual(entries.slice(19 * 60, 19 * 60 + 33));
    expect(reads).toBeLessThanOrEqual(4);
    const readsBefore = reads;
    reader.versions(1, 20, 33);
    expect(reads).toBe(readsBefore);
  });

  test("an empty segment has no versions", () => {
    const reader = HistoryReader.open(write([]), { storeId, cipher: null });
    expect([...reader.entries()]).toEqual([]);
    expect(reader.versions(1, 1, 100)).toEqual([]);
  });

  test("a reference survives its payload", () => {
    expect(decodeHistoryReference(encodeHistoryReference(storeId, 63))).toEqual({
      chunkId: storeId,
      slot: 63,
    });
  });

  test("entries out of order, twice or malformed are refused", () => {
    const [first, second] = [image(1, 1, Uint8Array.of(1)), image(1, 2, Uint8Array.of(1))];
    expect(() => write([second, first])).toThrow(/ascend/);
    expect(() => write([first, first])).toThrow(/ascend/);
    expect(() => write([{ ...first, kind: HistoryKind.zero }])).toThrow(/well formed/);
    expect(() => write([{ ...first, kind: HistoryKind.reference }])).toThrow(/well formed/);
    expect(() => write([{ ...first, page: 2 ** 32 }])).toThrow(/well formed/);
    expect(() => write([{ ...first, version: -1 }])).toThrow(RangeError);
  });

  test("an encrypted segment does not open without its key or with another ring", () => {
    const file = write(small, { cipher });
    const stranger = KeyRing.create(parseMasterKey(Buffer.alloc(32, 3)));
    expect(() => HistoryReader.open(file, { storeId, cipher: null })).toThrow(
      expect.objectContaining({ code: "KEY_REQUIRED" }),
    );
    expect(() => HistoryReader.open(file, { storeId, cipher: stranger })).toThrow(
      expect.objectContaining({ code: "CORRUPT_HISTORY" }),
    );
    expect(Buffer.from(contentOf(file)).includes(Buffer.from(storeId.subarray(0, 16)), 80)).toBe(
      false,
    );
  });

  test("a key that is rotated while a segment is written leaves it readable", () => {
    const before = KeyRing.create(parseMasterKey(Buffer.alloc(32, 3)));
    const current = new CurrentCipher(before);
    const file = newFile();
    const writer = new HistoryWriter(file, { ...meta, cipher: current });
    const noise = Uint8Array.from({ length: 60_000 }, (_, index) => (index * index) >> 7);
    const entries = [1, 2, 3, 4, 5].map((version) => image(1, version, noise));
    for (const [index, entry] of entries.entries()) {
      writer.add(entry);
      if (index === 2) current.ring = before.rotate(parseMasterKey(Buffer.alloc(32, 4)));
    }
    expect(writer.finish().blockCount).toBeGreaterThan(2);
    const reader = HistoryReader.open(file, { storeId, cipher: current });
    expect(reader.header.keyNumber).toBe(1);
    expect([...reader.entries()]).toEqual(entries);
  });

  test("a segment without encryption is refused in a store that is encrypted", () => {
    expect(() => HistoryReader.open(write(small), { storeId, cipher })).toThrow(
      expect.objectContaining({ code: "CORRUPT_HISTORY" }),
    );
  });
});

describe("damaged history segments", () => {
  function expectCorrupt(bytes: Uint8Array, isEncrypted: boolean, note: string): void {
    let caught: unknown = null;
    try {
      const reader = HistoryReader.open(fileOf(bytes), {
        storeId,
        cipher: isEncrypted ? cipher : null,
      });
      for (const entry of reader.entries()) expect(entry.page).toBeGreaterThan(0);
    } catch (error) {
      caught = error;
    }
    expect(caught, note).toBeInstanceOf(StoreError);
    expect(caught, note).toMatchObject({
      code: "CORRUPT_HISTORY",
      message: expect.stringMatching(/^Cannot read history "segment.history" at \d+: /),
    });
  }

  test.each([false, true])(
    "every single-bit flip and every truncation is found, encrypted: %s",
    (isEncrypted) => {
      const bytes = contentOf(write(small, { cipher: isEncrypted ? cipher : null }));
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const damaged = bytes.slice();
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        expectCorrupt(damaged, isEncrypted, `bit ${bit}`);
      }
      for (let size = 0; size < bytes.length; size++) {
        expectCorrupt(bytes.subarray(0, size), isEncrypted, `size ${size}`);
      }
    },
  );

  test("a segment of another store is refused", () => {
    const file = write(small);
    expect(() => HistoryReader.open(file, { storeId: new Uint8Array(16), cipher: null })).toThrow(
      /another store/,
    );
  });
});
