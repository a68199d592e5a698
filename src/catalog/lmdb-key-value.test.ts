import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { InvariantError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { describeKeyValue } from "../testing/key-value-conformance.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { type KeyValueStore, WriteBatch } from "./key-value.ts";
import { openLmdb } from "./lmdb-key-value.ts";

describeKeyValue("lmdb", () => {
  const directory = fs.mkdtempSync(join(tmpdir(), "bough-lmdb-"));
  return {
    open: () => openLmdb(openNodeStorage(directory), "catalog"),
    cleanUp: () => fs.rmSync(directory, { recursive: true }),
  };
});

let directory = "";

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-lmdb-"));
});

afterEach(() => {
  fs.rmSync(directory, { recursive: true });
});

function open(): KeyValueStore {
  return openLmdb(openNodeStorage(directory), "catalog");
}

/** A catalog of several hundred pages, closed. */
function writeSome(): void {
  const store = open();
  const batch = new WriteBatch();
  for (let number = 0; number < 5000; number++) {
    batch.put(Buffer.from(`key${number}`), new Uint8Array(200).fill(number));
  }
  store.commit(batch);
  store.close();
}

test.each([
  ["is not its own", "CORRUPT_CATALOG", (bytes: Buffer) => bytes.fill(0x41)],
  ["is only a few bytes", "CORRUPT_CATALOG", (bytes: Buffer) => bytes.subarray(0, 100)],
  ["ends after its first page", "CORRUPT_CATALOG", (bytes: Buffer) => bytes.subarray(0, 4096)],
  ["ends in the middle", "CORRUPT_CATALOG", (bytes: Buffer) => bytes.subarray(0, 400_000)],
  ["has an impossible page size", "CORRUPT_CATALOG", (bytes: Buffer) => bytes.fill(3, 48, 49)],
  [
    "has an impossible last page",
    "CORRUPT_CATALOG",
    (bytes: Buffer) => bytes.fill(0x7f, 4096 + 144, 4096 + 160),
  ],
  ["has another format version", "STORE_FORMAT", (bytes: Buffer) => bytes.fill(77, 28, 29)],
] as const)("a file that %s is %s, and the process lives on", (_, code, damage) => {
  writeSome();
  const path = join(directory, "catalog");
  fs.writeFileSync(path, damage(fs.readFileSync(path)));
  expect(() => open()).toThrow(expect.objectContaining({ code }));
});

test("a file whose last page was never written opens, since nothing refers to it", () => {
  writeSome();
  const path = join(directory, "catalog");
  const bytes = fs.readFileSync(path);
  for (const meta of [0, 4096]) {
    bytes.writeBigUInt64LE(BigInt(bytes.byteLength / 4096), meta + 144);
  }
  fs.writeFileSync(path, bytes);
  const store = open();
  expect(store.get(Buffer.from("key4999"))).toHaveLength(200);
  store.close();
});

test("damaged pages are CORRUPT_CATALOG at the open, before lmdb meets them", () => {
  writeSome();
  const path = join(directory, "catalog");
  const bytes = fs.readFileSync(path);
  fs.writeFileSync(path, bytes.fill(0, 3 * 4096));
  expect(() => open()).toThrow(expect.objectContaining({ code: "CORRUPT_CATALOG" }));
});

test("a catalog that may not be written is PERMISSION, one that is a directory is IO", () => {
  const path = join(directory, "catalog");
  fs.mkdirSync(path);
  expect(() => open()).toThrow(expect.objectContaining({ code: "IO" }));
  fs.rmdirSync(path);
  if (process.getuid?.() === 0) return;
  writeSome();
  fs.chmodSync(path, 0o400);
  expect(() => open()).toThrow(expect.objectContaining({ code: "PERMISSION" }));
});

test("a lock file of lmdb that cannot be opened is an error, not the end of the process", () => {
  writeSome();
  const lock = join(directory, "catalog-lock");
  fs.rmSync(lock);
  fs.mkdirSync(lock);
  expect(() => open()).toThrow(expect.objectContaining({ code: "IO" }));
});

test("the catalog grows far past its first map while an iterator holds an old snapshot", () => {
  const store = open();
  const big = (number: number): WriteBatch => {
    const batch = new WriteBatch();
    for (let part = 0; part < 40; part++) {
      batch.put(Buffer.from(`big${number}.${part}`), new Uint8Array(1 << 20).fill(number));
    }
    return batch;
  };
  store.commit(big(0));
  const range = { start: Buffer.from("big0."), end: Buffer.from("big0/") };
  const iterator = store.range(range)[Symbol.iterator]();
  iterator.next();
  for (let number = 1; number < 9; number++) store.commit(big(number));
  expect(store.estimatedSize()).toBeGreaterThan(320 * (1 << 20));
  let count = 1;
  for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
    expect(next.value.value[0]).toBe(0);
    count++;
  }
  expect(count).toBe(40);
  expect(store.get(Buffer.from("big8.39"))?.[1000]).toBe(8);
  store.close();
});

test("a storage without a directory is refused", () => {
  expect(() => openLmdb(new SimulatedStorage(), "catalog")).toThrow(InvariantError);
});
