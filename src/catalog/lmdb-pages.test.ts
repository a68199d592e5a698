import { spawn } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { openNodeStorage } from "../storage/node-storage.ts";
import { openStore } from "../store/store.ts";
import { Random } from "../testing/random.ts";
import { WriteBatch } from "./key-value.ts";
import { openLmdb } from "./lmdb-key-value.ts";
import { findLmdbDamage } from "./lmdb-pages.ts";
import { testProgram } from "../testing/test-program.ts";

const FLIPPER = testProgram(new URL("../testing/damaged-catalog-process.ts", import.meta.url));
const PAGE = 4096;

let directory = "";

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-lmdb-pages-"));
});

afterEach(() => {
  fs.rmSync(directory, { recursive: true });
});

function damage(levels?: number): string | null {
  const storage = openNodeStorage(directory);
  return findLmdbDamage(storage, "catalog", levels === undefined ? {} : { levels });
}

function key(number: number): Buffer {
  return Buffer.from(`key ${number} ${"k".repeat((number * 7919) % 60)}`);
}

describe("an undamaged file is found undamaged", () => {
  test.each([
    ["empty", 0, 0],
    ["of 10 entries", 10, 100],
    ["of 10,000 entries", 10_000, 90],
    ["of values in overflow pages", 300, 20_000],
    ["above what is read at once", 6000, 3000],
  ])("%s, then half deleted, written again, compacted and emptied", (_, count, size) => {
    const store = openLmdb(openNodeStorage(directory), "catalog");
    expect(damage()).toBeNull();
    const change = (keys: (number: number) => boolean, value: Uint8Array | null): void => {
      const batch = new WriteBatch();
      for (let number = 0; number < count; number++) {
        if (!keys(number)) continue;
        if (value === null) batch.delete(key(number));
        else batch.put(key(number), value);
      }
      store.commit(batch);
      expect(damage()).toBeNull();
      expect(damage(2)).toBeNull();
    };
    change(() => true, new Uint8Array(size));
    change((number) => number % 2 === 0, null);
    change((number) => number % 3 === 0, new Uint8Array(size / 2));
    store.compact();
    expect(damage()).toBeNull();
    change((number) => number % 10 !== 0, null);
    store.compact();
    expect(damage()).toBeNull();
    change(() => true, null);
    store.close();
    expect(damage()).toBeNull();
    openLmdb(openNodeStorage(directory), "catalog").close();
  });

  test("after each of many random batches", () => {
    const random = new Random(5);
    const storage = openNodeStorage(directory);
    let store = openLmdb(storage, "catalog");
    for (let round = 0; round < 150; round++) {
      const batch = new WriteBatch();
      const first = random.integer(0, 3000);
      const count = random.integer(1, 400);
      for (let number = first; number < first + count; number++) {
        if (round % 3 === 2) batch.delete(key(number));
        else batch.put(key(number), new Uint8Array(random.integer(0, 40) === 0 ? 12_000 : 70));
      }
      store.commit(batch);
      expect(damage(), `round ${round}`).toBeNull();
      if (round % 7 !== 0) continue;
      store.close();
      store = openLmdb(storage, "catalog");
    }
    store.close();
  });
});

/** Several trees' worth of rows, commits and free pages. */
function writeStore(): Buffer {
  const store = openStore(directory);
  store.createDatabase("shop", { pageSize: 512 });
  using connection = store.connect("shop");
  connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  for (let round = 0; round < 12; round++) {
    connection.exec(
      `INSERT INTO item(name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150)
       SELECT hex(randomblob(20)) FROM n`,
    );
    store.checkpoint();
  }
  connection.close();
  store.close();
  return fs.readFileSync(join(directory, "catalog", "data.mdb"));
}

/** Positions where a wrong bit misleads lmdb most: meta pages, headers and offsets of pages, headers of nodes. */
function sampleFlips(bytes: Buffer, count: number): string[] {
  const random = new Random(77);
  const flips = new Set<string>(["53.5", "45109.0", "61470.2"]);
  const pages = bytes.length / PAGE;
  const used = Array.from({ length: pages }, (_, page) => page).filter(
    (page) => page >= 2 && [1, 2].includes(bytes.readUInt16LE(page * PAGE + 18)),
  );
  while (flips.size < count) {
    const page = used[random.integer(0, used.length - 1)]! * PAGE;
    const entries = bytes.readUInt16LE(page + 20) / 2;
    const offset = bytes.readUInt16LE(page + 24 + 2 * random.integer(0, Math.max(entries - 1, 0)));
    const byte = [
      random.integer(0, 1) * PAGE + random.integer(24, 167),
      page + random.integer(0, 23),
      page + 24 + random.integer(0, Math.max(2 * entries - 1, 0)),
      page + 24 + offset + random.integer(0, 31),
      random.integer(0, bytes.length - 1),
    ][random.integer(0, 4)]!;
    if (byte < bytes.length) flips.add(`${byte}.${random.integer(0, 7)}`);
  }
  return [...flips].filter((flip) => Number(flip.split(".")[0]) < bytes.length);
}

interface Flipped {
  readonly signal: string | null;
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

async function flipAll(flips: readonly string[]): Promise<Flipped> {
  const child = spawn(process.execPath, [FLIPPER, directory, ...flips], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let errors = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  return new Promise((resolve) => {
    child.on("close", (code, signal) => resolve({ code, signal, output, errors }));
  });
}

test("a flipped bit of a store's catalog is an error or harmless, never the end of the process", async () => {
  const bytes = writeStore();
  const count = process.env["BOUGH_TEST_LONG"] === "1" ? 2000 : 80;
  const flips = sampleFlips(bytes, count);
  expect(flips.length).toBeGreaterThan(count * 0.8);
  let found = 0;
  for (let first = 0; first < flips.length; first += 125) {
    const { code, signal, output, errors } = await flipAll(flips.slice(first, first + 125));
    const lines = output.trimEnd().split("\n");
    expect({ code, signal }, `${lines.at(-1)}: ${errors}`).toEqual({ code: 0, signal: null });
    expect(lines).toHaveLength(Math.min(125, flips.length - first));
    found += lines.filter((line) => line.includes("CORRUPT_CATALOG CORRUPT_CATALOG")).length;
  }
  expect(found).toBeGreaterThan(count / 10);
}, 120_000);
