import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { StoreCipher } from "../encryption/cipher.ts";
import { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { InvariantError, StoreError } from "../errors.ts";
import { crc64Into } from "../storage/crc64.ts";
import type { StorageFile } from "../storage/storage.ts";
import { LazyFile } from "../testing/lazy-file.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { compareKeys } from "./key-order.ts";
import { NO_MARK, RUN_FOOTER_SIZE, type RunScope } from "./run-format.ts";
import { RunMerge, WHOLE_RUN } from "./run-merge.ts";
import { RunReader } from "./run-reader.ts";
import { RunWriter } from "./run-writer.ts";

const storeId = Uint8Array.from({ length: 16 }, (_, index) => index);
const cipher = KeyRing.create(parseMasterKey(Buffer.alloc(32, 3)));
const scope: RunScope = {
  storeId,
  isBase: false,
  previous: { sequence: 4, nonce: new Uint8Array(8).fill(0x44) },
  mark: { sequence: 7, nonce: new Uint8Array(8).fill(0x77) },
};
type Entry = readonly [key: Uint8Array, value: Uint8Array | null];
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function newFile(): StorageFile {
  return new SimulatedStorage().openFileSync("run-7", { mode: "create" });
}

function fileOf(bytes: Uint8Array): StorageFile {
  const file = newFile();
  file.writeSync(0, bytes);
  return file;
}

function write(entries: Iterable<Entry>, given: StoreCipher | null = null): StorageFile {
  const file = newFile();
  const writer = new RunWriter(file, scope, { cipher: given });
  for (const [key, value] of entries) writer.add(key, value);
  writer.finish();
  return file;
}

function contentOf(file: StorageFile): Uint8Array {
  const bytes = new Uint8Array(file.sizeSync());
  file.readSync(0, bytes);
  return bytes;
}

function readAll(file: StorageFile, given: StoreCipher | null = null): Entry[] {
  const reader = RunReader.open(file, { storeId, cipher: given });
  const merge = new RunMerge([reader], WHOLE_RUN, (run, number) => run.readBlock(number));
  const entries: Entry[] = [];
  for (let entry = merge.next(); entry !== null; entry = merge.next())
    entries.push([entry.key, entry.value]);
  return entries;
}

const shown = (entries: readonly Entry[]): string[] =>
  entries.map(
    ([key, value]) =>
      `${Buffer.from(key).toString("hex")}=${value === null ? "-" : Buffer.from(value).toString("hex")}`,
  );

const nodeKey = Uint8Array.from([8, ...Array.from({ length: 16 }, (_, index) => 16 * index)]);
const small: Entry[] = [
  [Uint8Array.of(1), text("state")],
  [Uint8Array.of(5, 0, 1), null],
  [Uint8Array.of(5, 0, 1, 9), text("")],
  [nodeKey, text("node")],
];

const GOLDEN = [
  "2b0000002b0000000001000000000000", // entries block: sizes, codec, kind
  "000106017374617465", // key 01, value of 5 bytes
  "000300050001", // key 050001, a tombstone
  "03010109", // key 05000109: 3 bytes shared, an empty value
  "0011050800102030405060708090a0b0c0d0e0f06e6f6465", // the node
  "33fe2ea72ac9c6ff", // CRC
  "14000000140000000002000000000000", // index block
  "00011101", // key 01, value of 16 bytes
  "00000000000000004300000004000000", // offset, length, entries
  "2ae98396d89c2f99", // CRC
  "10000000100000000003000000000000", // filter block
  "0700000040000000", // probes, bits
  "7f00000000000000", // the bits
  "c9353a207f16902d", // CRC
  "000102030405060708090a0b0c0d0e0f", // footer: store id
  "04000000000000004444444444444444", // previous mark
  "07000000000000007777777777777777", // mark
  "0000000000000000", // flags, key number
  "0000000000000000000000000000000000000000000000000000000000000000", // salt
  "00000000000000000000000000000000", // reserved
  "04000000000000000100000000000000", // entries, tombstones
  "0100000000000000", // blocks
  "43000000000000002c000000000000002800000000000000", // index offset, lengths of index and filter
  "010000004252554e", // format version, magic
  "b437bcef0f4681d2", // CRC
];

test("format version 1, byte for byte", () => {
  const storage = new SimulatedStorage();
  const file = storage.openFileSync("run", { mode: "create" });
  const writer = new RunWriter(file, scope, { cipher: null });
  for (const [key, value] of small) writer.add(key, value);
  expect(writer.finish()).toEqual({
    scope,
    size: contentOf(file).length,
    entryCount: 4,
    tombstoneCount: 1,
    blockCount: 1,
  });
  expect(Buffer.from(contentOf(file)).toString("hex")).toBe(GOLDEN.join(""));
});

test("what is written comes back, also encrypted; nothing of it is in the clear then", () => {
  expect(shown(readAll(write(small)))).toEqual(shown(small));
  const sealed = write(small, cipher);
  expect(shown(readAll(sealed, cipher))).toEqual(shown(small));
  const bytes = Buffer.from(contentOf(sealed));
  for (const part of [text("state"), nodeKey.subarray(0, 8)])
    expect(bytes.includes(Buffer.from(part))).toBe(false);
  expect(Buffer.from(contentOf(write(small))).includes("state")).toBe(true);
});

test("random entries of many sizes come back, and each is found", () => {
  const anyEntries = fc
    .uniqueArray(
      fc.tuple(
        fc.uint8Array({ minLength: 1, maxLength: 40 }),
        fc.option(
          fc
            .tuple(fc.nat(255), fc.constantFrom(0, 1, 40, 127, 128, 9000, 40_000))
            .map(([fill, size]) => new Uint8Array(size).fill(fill)),
        ),
      ),
      { selector: ([key]) => Buffer.from(key).toString("hex"), maxLength: 60 },
    )
    .map((entries) => entries.toSorted(([left], [right]) => compareKeys(left, right)));
  fc.assert(
    fc.property(anyEntries, fc.boolean(), (entries, isEncrypted) => {
      const given = isEncrypted ? cipher : null;
      const file = write(entries, given);
      expect(shown(readAll(file, given))).toEqual(shown(entries));
      const reader = RunReader.open(file, { storeId, cipher: given });
      expect(reader.entryCount).toBe(entries.length);
      for (const [key, value] of entries) {
        expect(reader.mayHave(key)).toBe(true);
        const block = reader.block(reader.blockOf(key));
        const found = block.valueAt(block.lowerBound(key));
        expect(Buffer.compare(found ?? text("none"), value ?? text("none"))).toBe(0);
      }
    }),
    { numRuns: 150 },
  );
});

test("every single-bit flip and every truncation is CORRUPT_CATALOG and names the file", () => {
  for (const given of [null, cipher]) {
    const bytes = contentOf(write(small, given));
    const attempt = (damaged: Uint8Array): unknown => {
      try {
        readAll(fileOf(damaged), given);
        return "read";
      } catch (error) {
        return error instanceof StoreError
          ? `${error.code} ${error.message.includes('"run-7"')}`
          : error;
      }
    };
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = bytes.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      expect(attempt(damaged), `bit ${bit}`).toBe("CORRUPT_CATALOG true");
    }
    for (let size = 0; size < bytes.length; size++)
      expect(attempt(bytes.subarray(0, size)), `size ${size}`).toBe("CORRUPT_CATALOG true");
  }
});

describe("forged footers with a good checksum", () => {
  const footerWith = (change: (view: DataView) => void): StorageFile => {
    const bytes = contentOf(write(small));
    const start = bytes.length - RUN_FOOTER_SIZE;
    change(new DataView(bytes.buffer, start));
    crc64Into(bytes, start, bytes.length - 8, bytes, bytes.length - 8);
    return fileOf(bytes);
  };

  test.each<[string, (view: DataView) => void]>([
    ["another store", (view) => view.setUint8(0, 9)],
    ["unknown flags", (view) => view.setUint32(48, 2, true)],
    ["a base with tombstones", (view) => view.setUint32(48, 1, true)],
    ["a mark before the previous", (view) => view.setBigUint64(32, 3n, true)],
    ["reserved bytes", (view) => view.setUint8(95, 1)],
    ["reserved bytes at 124", (view) => view.setUint8(124, 1)],
    ["more tombstones than entries", (view) => view.setBigUint64(112, 5n, true)],
    ["fewer entries", (view) => view.setBigUint64(104, 3n, true)],
    ["more blocks than fit", (view) => view.setUint32(120, 0xffff_ffff, true)],
    ["fewer blocks", (view) => view.setUint32(120, 0, true)],
    ["an index far away", (view) => view.setBigUint64(128, 2n ** 60n, true)],
    ["a long filter", (view) => view.setBigUint64(144, 2n ** 63n, true)],
    ["no magic", (view) => view.setUint32(156, 0, true)],
  ])("%s is CORRUPT_CATALOG", (_, change) => {
    expect(() => readAll(footerWith(change))).toThrow(
      expect.objectContaining({ code: "CORRUPT_CATALOG" }),
    );
  });

  test("a newer format version is STORE_FORMAT", () => {
    expect(() => readAll(footerWith((view) => view.setUint32(152, 2, true)))).toThrow(
      expect.objectContaining({ code: "STORE_FORMAT" }),
    );
  });
});

test("F4: a run needs the key that sealed it, and in a store with a key every run is sealed", () => {
  const other = KeyRing.create(parseMasterKey(Buffer.alloc(32, 3)));
  expect(() => readAll(write(small, cipher))).toThrow(
    expect.objectContaining({ code: "KEY_REQUIRED" }),
  );
  for (const file of [write(small), write(small, other)])
    expect(() => readAll(file, cipher)).toThrow(
      expect.objectContaining({ code: "CORRUPT_CATALOG" }),
    );
});

test("a run that was sealed before a rotation of the key opens after it", () => {
  const file = write(small, cipher);
  const rotated = cipher.rotate(parseMasterKey(Buffer.alloc(32, 9)));
  expect(shown(readAll(file, rotated))).toEqual(shown(small));
});

test("blocks of one sealed run do not open in another of the same place and size", () => {
  const [first, second] = [write(small, cipher), write(small, cipher)].map(contentOf);
  const mixed = first!.slice();
  const blockSize = new DataView(mixed.buffer).getUint32(4, true) + 24;
  mixed.set(second!.subarray(0, blockSize));
  expect(() => readAll(fileOf(mixed), cipher)).toThrow(/does not open/);
});

test("F1: keys that do not ascend are refused, also across blocks; a base takes no tombstone", () => {
  const large = new Uint8Array(40_000);
  for (const value of [text(""), large]) {
    const writer = new RunWriter(newFile(), scope, { cipher: null });
    writer.add(text("b"), value);
    expect(() => writer.add(text("a"), value)).toThrow(InvariantError);
    expect(() => writer.add(text("b"), value)).toThrow(InvariantError);
  }
  const base = { ...scope, isBase: true, previous: NO_MARK };
  const writer = new RunWriter(newFile(), base, { cipher: null });
  expect(() => writer.add(text("a"), null)).toThrow(InvariantError);
  expect(
    () => new RunWriter(newFile(), { ...scope, mark: scope.previous }, { cipher: null }),
  ).toThrow(InvariantError);
});

/** Rows as those of page hashes, and nodes of 2000 bytes. */
function manyEntries(nodes: number, hashes: number): Entry[] {
  const random = new Random(5);
  const rows = (table: number, count: number, size: number): Entry[] =>
    Array.from({ length: count }, () => [
      Uint8Array.from([table, ...random.bytes(16)]),
      random.bytes(size),
    ]);
  return [...rows(8, nodes, 200), ...rows(10, hashes, 25)].sort(([left], [right]) =>
    compareKeys(left, right),
  );
}

test("Q1, Q2: opening reads the end once, finding an entry one block, and a missing id none", () => {
  const entries = manyEntries(2000, 2000);
  const random = new Random(1);
  const file = new LazyFile(write(entries), { localChance: 1, random });
  const reader = RunReader.open(file, { storeId, cipher: null });
  expect([file.readCount, file.readBytes]).toEqual([1, 64 * 1024]);
  const [key] = entries[1000]!;
  const block = reader.block(reader.blockOf(key));
  expect(block.compareAt(block.lowerBound(key), key)).toBe(0);
  expect(file.readCount).toBe(2);
  expect(file.readBytes).toBeLessThan(64 * 1024 + 40 * 1024);
  reader.block(reader.blockOf(key));
  expect(file.readCount).toBe(2);
  const missing = Array.from({ length: 2000 }, () => Uint8Array.from([8, ...random.bytes(16)]));
  const claimed = missing.filter((id) => reader.mayHave(id)).length;
  // 10 bits per key and 7 probes: 0.8 % of them.
  expect(claimed).toBeGreaterThan(0);
  expect(claimed).toBeLessThan(50);
});

test("a run of 64 KiB is read once and whole; one with a long index takes a second read", () => {
  const random = new Random(1);
  const short = new LazyFile(write(small), { localChance: 1, random });
  expect(shown(readAll(short))).toEqual(shown(small));
  expect(short.readCount).toBe(1);
  const keys = Array.from({ length: 50 }, (_, index) => new Uint8Array(1900).fill(index + 1));
  const long: Entry[] = keys.map((key) => [key, new Uint8Array(33_000)]);
  const file = new LazyFile(write(long), { localChance: 1, random });
  const reader = RunReader.open(file, { storeId, cipher: null });
  expect([file.readCount, reader.blockCount]).toEqual([2, 50]);
  expect(shown(readAll(file))).toEqual(shown(long));
});

describe("forged blocks with a good checksum", () => {
  const large = new Uint8Array(33_000);
  const entries: Entry[] = [
    [Uint8Array.of(1), text("one")],
    [Uint8Array.of(4), large],
    [Uint8Array.of(7), text("next block")],
  ];
  /** In the first block: 3 varints, key 01, value of 3; varints of 1, 1 and 3 bytes, key 04. */
  const FIRST_KEY = 16 + 3;
  const SECOND_KEY = FIRST_KEY + 4 + 5;

  test.each([
    ["as the index says", FIRST_KEY, 1, "read"],
    ["a first key that is not the one of the index", FIRST_KEY, 2, "index says"],
    ["keys that do not ascend", SECOND_KEY, 1, "not after"],
    ["a last key that belongs into the next block", SECOND_KEY, 7, "index says"],
  ])("%s", (_, offset, byte, expected) => {
    const bytes = contentOf(write(entries));
    expect(bytes[SECOND_KEY]).toBe(4);
    bytes[offset] = byte;
    const end = 16 + new DataView(bytes.buffer).getUint32(4, true);
    crc64Into(bytes, 0, end, bytes, end);
    if (expected === "read") expect(readAll(fileOf(bytes))).toHaveLength(3);
    else expect(() => readAll(fileOf(bytes))).toThrow(expected);
  });
});

test("G2: a range reads no block that only begins where it ends, nor one that ends before it begins", () => {
  const entries = manyEntries(0, 4000);
  const probe = RunReader.open(write(entries), { storeId, cipher: null });
  expect(probe.blockCount).toBeGreaterThan(3);
  const bound = probe.block(2).keyAt(0);
  const at = entries.findIndex(([key]) => compareKeys(key, bound) === 0);
  const readsOf = (start: number, end: number, reverse: boolean): string => {
    const lazy = new LazyFile(write(entries), { localChance: 1, random: new Random(1) });
    const reader = RunReader.open(lazy, { storeId, cipher: null });
    const before = lazy.readCount;
    const range = { start: entries[start]![0], end: entries[end]![0], reverse };
    const merge = new RunMerge([reader], range, (run, number) => run.block(number));
    let count = 0;
    while (merge.next() !== null) count++;
    return `${count} entries, ${lazy.readCount - before} blocks`;
  };
  for (const reverse of [false, true]) {
    expect(readsOf(at - 5, at + 5, reverse)).toBe("10 entries, 2 blocks");
    expect(readsOf(at, at + 5, reverse)).toBe("5 entries, 1 blocks");
    expect(readsOf(at - 5, at, reverse)).toBe("5 entries, 1 blocks");
  }
});
