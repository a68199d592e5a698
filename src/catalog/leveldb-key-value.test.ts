import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { InvariantError, StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { describeKeyValue } from "../testing/key-value-conformance.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { type CatalogDigest, digestCatalog } from "./copy-catalog.ts";
import { type KeyValueStore, WriteBatch } from "./key-value.ts";
import { checkLevelFiles, prepareLevelFiles } from "./leveldb-files.ts";
import { openLevel } from "./leveldb-key-value.ts";

describeKeyValue("leveldb", () => {
  const place = fs.mkdtempSync(join(tmpdir(), "bough-leveldb-"));
  return {
    open: () => openLevel(openNodeStorage(place), "catalog"),
    cleanUp: () => fs.rmSync(place, { recursive: true }),
  };
});

let directory = "";
const catalog = (): string => join(directory, "catalog");

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-leveldb-"));
});

afterEach(() => {
  fs.rmSync(directory, { recursive: true });
});

function open(): KeyValueStore {
  return openLevel(openNodeStorage(directory), "catalog");
}

/** Tables, and four commits that are only in the log. Returns the digest of what is in tables, then after each commit. */
function writeSome(): CatalogDigest[] {
  const store = open();
  const random = new Random(4);
  const fill = (count: number, size: number): void => {
    const batch = new WriteBatch();
    for (let row = 0; row < count; row++)
      batch.put(Buffer.from(`key${random.integer(0, 2000)}`), random.bytes(size).fill(row, 20));
    store.commit(batch);
  };
  fill(1000, 100);
  store.compact();
  fill(800, 40);
  store.compact();
  const digests = [digestCatalog(store)];
  for (let commit = 0; commit < 4; commit++) {
    fill(20, 30);
    digests.push(digestCatalog(store));
  }
  store.close();
  return digests;
}

/** What opening and reading everything gives. */
function outcome(): CatalogDigest | StoreError {
  try {
    const store = open();
    try {
      return digestCatalog(store);
    } finally {
      store.close();
    }
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
}

function copyOf(from: string): Map<string, Buffer> {
  return new Map(fs.readdirSync(from).map((name) => [name, fs.readFileSync(join(from, name))]));
}

function putBack(files: ReadonlyMap<string, Buffer>): void {
  fs.rmSync(catalog(), { recursive: true });
  fs.mkdirSync(catalog());
  for (const [name, bytes] of files) fs.writeFileSync(join(catalog(), name), bytes);
}

/** Every file that matters: leveldb's own log of what it did, and its lock, do not. */
const isKept = (name: string): boolean => name !== "LOG" && name !== "LOG.old" && name !== "LOCK";

test("a flipped bit anywhere is CORRUPT_CATALOG, or was in bytes that mean nothing, or tears off the last commit", () => {
  const digests = writeSome();
  const files = copyOf(catalog());
  const names = [...files.keys()].filter(isKept);
  expect(names.some((name) => name.endsWith(".ldb"))).toBe(true);
  expect(names.some((name) => name.endsWith(".log"))).toBe(true);
  const random = new Random(6);
  const outcomes = { damage: 0, same: 0, torn: 0 };
  for (const name of names) {
    const bytes = files.get(name) ?? Buffer.alloc(0);
    for (let round = 0; round < 30 && bytes.length > 0; round++) {
      const bit = random.integer(0, bytes.length * 8 - 1);
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      putBack(new Map([...files, [name, damaged]]));
      const found = outcome();
      const note = `bit ${bit} of "${name}"`;
      if (found instanceof StoreError) {
        expect(found.code, note).toBe("CORRUPT_CATALOG");
        outcomes.damage++;
      } else if (found.checksum === digests[4]?.checksum) outcomes.same++;
      else {
        expect(name.endsWith(".log"), note).toBe(true);
        expect(found, note).toEqual(digests[3]);
        outcomes.torn++;
      }
    }
  }
  expect(outcomes.damage).toBeGreaterThan(60);
  expect(outcomes.same).toBeLessThan(5);
});

test("a log cut anywhere gives a prefix of the commits; a table or manifest cut is CORRUPT_CATALOG", () => {
  const digests = writeSome();
  const files = copyOf(catalog());
  const random = new Random(7);
  for (const [name, bytes] of files) {
    if (!isKept(name) || bytes.length === 0) continue;
    for (let round = 0; round < 12; round++) {
      const size = random.integer(0, bytes.length - 1);
      putBack(new Map([...files, [name, bytes.subarray(0, size)]]));
      const found = outcome();
      const note = `"${name}" cut to ${size}`;
      if (name.endsWith(".log") && !(found instanceof StoreError)) {
        expect(digests, note).toContainEqual(found);
        continue;
      }
      // A manifest without its last edit names tables and a log that are gone.
      expect(found, note).toMatchObject({ code: "CORRUPT_CATALOG" });
    }
  }
});

test("a missing file is CORRUPT_CATALOG, never an empty catalog", () => {
  writeSome();
  const files = copyOf(catalog());
  for (const name of [...files.keys()].filter(isKept)) {
    const rest = new Map(files);
    rest.delete(name);
    putBack(rest);
    expect(outcome(), `without "${name}"`).toMatchObject({ code: "CORRUPT_CATALOG" });
  }
  putBack(files);
  expect(outcome()).toMatchObject({ entryCount: expect.any(Number) });
});

test("undamaged files are never called damaged, however much was written, merged and reopened", () => {
  const random = new Random(11);
  for (let round = 0; round < 6; round++) {
    const store = open();
    for (let commit = 0; commit < 12; commit++) {
      const batch = new WriteBatch();
      for (let row = 0; row < 150; row++) {
        const key = Buffer.from(`key${random.integer(0, 5000)}`);
        if (random.chance(0.2)) batch.delete(key);
        // Sizes around the blocks of a log, and text that is compressed.
        else batch.put(key, random.bytes(random.integer(0, 900)).fill(commit, 30));
      }
      batch.put(Buffer.from("block"), random.bytes(32_768 - random.integer(0, 20)));
      store.commit(batch);
    }
    if (round % 2 === 1) store.compact();
    store.close();
    expect(() => checkLevelFiles(openNodeStorage(directory), "catalog")).not.toThrow();
  }
});

test("tables of a large catalog are read by a check, and at the open only their indexes", () => {
  const store = open();
  const random = new Random(12);
  for (let commit = 0; commit < 6; commit++) {
    const batch = new WriteBatch();
    for (let row = 0; row < 2000; row++)
      batch.put(random.bytes(16).fill(1, 0, 1), random.bytes(1000));
    store.commit(batch);
  }
  store.compact();
  store.close();
  const storage = openNodeStorage(directory);
  const name = fs.readdirSync(catalog()).find((file) => file.endsWith(".ldb")) ?? "";
  const bytes = fs.readFileSync(join(catalog(), name));
  bytes[1000]! ^= 1;
  fs.writeFileSync(join(catalog(), name), bytes);
  expect(() => prepareLevelFiles(storage, "catalog")).not.toThrow();
  expect(() => checkLevelFiles(storage, "catalog")).toThrow(
    expect.objectContaining({ code: "CORRUPT_CATALOG" }),
  );
});

test("V6: leveldb's code stays loaded when its worker has ended, since leveldb's own thread goes on", async () => {
  const { report } = process;
  const described = (): { workers: unknown[]; sharedObjects: string[] } =>
    report.getReport() as unknown as { workers: unknown[]; sharedObjects: string[] };
  open().close();
  while (described().workers.length > 0) await new Promise((resolve) => setImmediate(resolve));
  expect(described().sharedObjects.join("\n")).toContain("classic-level");
});

test("a directory that another program holds open is an error that says so", () => {
  const first = open();
  expect(() => open()).toThrow(expect.objectContaining({ code: "IO" }));
  first.close();
  open().close();
});

test("a storage without a directory is refused", () => {
  expect(() => openLevel(new SimulatedStorage(), "catalog")).toThrow(InvariantError);
});
