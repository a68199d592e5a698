import fc from "fast-check";
import { expect, test } from "vitest";

import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import {
  BLOCK_SIZE,
  BlockCache,
  type BlockCacheOptions,
  type CachedObject,
} from "./block-cache.ts";

const CRC_SIZE = 8;
const GOLDEN_PATH = "9/9/99a9b081869438340e36f195977b9e46-1.3";
const GOLDEN_BYTES = "01020313599eac4fde2f20";
const FILE_SIZE = BLOCK_SIZE + CRC_SIZE;

function open(storage: SimulatedStorage, options: Partial<BlockCacheOptions> = {}): BlockCache {
  return new BlockCache(storage, { bytesMax: 1e9, memoryBytesMax: 0, ...options });
}

/** What block `index` of the object holds. */
function contents(object: CachedObject, index: number): Uint8Array {
  const size = Math.min(BLOCK_SIZE, object.size - index * BLOCK_SIZE);
  return new Uint8Array(size).fill((object.key.length * 31 + index * 7 + 1) & 0xff);
}

function insert(cache: BlockCache, object: CachedObject, ...indexes: number[]): void {
  for (const index of indexes) cache.insert(object, index, contents(object, index));
  cache.flush();
}

function blocks(cache: BlockCache, object: CachedObject, count: number): number[] {
  return Array.from({ length: count }, (_, index) => index).filter(
    (index) => cache.block(object, index) !== null,
  );
}

function pathsOf(storage: SimulatedStorage): string[] {
  const paths: string[] = [];
  for (const first of storage.listSync("")) {
    for (const second of storage.listSync(first)) {
      for (const name of storage.listSync(`${first}/${second}`)) {
        paths.push(`${first}/${second}/${name}`);
      }
    }
  }
  return paths;
}

test("a block is one file, named and checksummed as the table says (golden)", () => {
  const storage = new SimulatedStorage();
  const cache = open(storage);
  const object = cache.object("packs/1", BLOCK_SIZE + 3);
  cache.insert(object, 1, Uint8Array.of(1, 2, 3));
  cache.flush();
  expect(pathsOf(storage)).toEqual([GOLDEN_PATH]);
  const file = storage.openFileSync(GOLDEN_PATH, { mode: "read" });
  const bytes = Buffer.alloc(20);
  const count = file.readSync(0, bytes);
  expect(bytes.subarray(0, count).toString("hex")).toBe(GOLDEN_BYTES);
});

test("blocks are there after a restart, without a look at any file but those that are read", () => {
  const storage = new SimulatedStorage();
  const first = open(storage);
  const object = first.object("a", 5 * BLOCK_SIZE + 1);
  for (const index of [0, 1, 5]) first.insert(object, index, contents(object, index));
  first.close();
  storage.clearTrace();
  const cache = open(storage);
  expect(storage.trace).toEqual([]);
  expect(blocks(cache, object, 6)).toEqual([0, 1, 5]);
  expect(cache.block(object, 5)).toEqual(contents(object, 5));
  // One listing, and a file for each block that is there.
  expect(storage.countOf("list")).toBe(1);
  expect(storage.countOf("open")).toBe(4);
  expect(storage.countOf("size", "exists")).toBe(0);
  expect(cache.statistics().diskBytes).toBe(2 * FILE_SIZE + 1 + CRC_SIZE);
});

test("every flipped bit, every truncation and another block's file count as missing and are dropped", () => {
  const storage = new SimulatedStorage();
  const object = open(storage).object("a", BLOCK_SIZE + 20);
  const write = (): string => {
    const cache = open(storage);
    insert(cache, object, 1);
    return pathsOf(storage)[0] ?? "";
  };
  const path = write();
  for (let bit = 0; bit < (20 + CRC_SIZE) * 8; bit++) {
    storage.flipBit(path, bit);
    const cache = open(storage);
    expect(cache.block(object, 1), `bit ${bit}`).toBeNull();
    expect(cache.statistics()).toMatchObject({ damagedFiles: 1, diskBytes: 0 });
    expect(storage.existsSync(path)).toBe(false);
    write();
  }
  for (let size = 0; size < 20 + CRC_SIZE; size++) {
    storage.truncateFile(path, size);
    expect(open(storage).block(object, 1), `size ${size}`).toBeNull();
    write();
  }
  const other = open(storage).object("b", BLOCK_SIZE + 20);
  const cache = open(storage);
  insert(cache, other, 1);
  const otherPath = pathsOf(storage).find((name) => name !== path) ?? "";
  storage.renameSync(path, otherPath);
  expect(open(storage).block(other, 1)).toBeNull();
});

test("files that no longer open, and files of other names, harm nobody", () => {
  const storage = new SimulatedStorage();
  const cache = open(storage);
  const object = cache.object("a", 3 * BLOCK_SIZE);
  insert(cache, object, 0, 1);
  const [path = ""] = pathsOf(storage);
  const directory = path.slice(0, 3);
  storage.openFileSync(`${directory}/notes.txt`, { mode: "create" }).closeSync();
  storage.deleteSync(path);
  storage.failAt({ kinds: ["read"], count: 1, systemCode: "EIO" });
  expect(blocks(cache, object, 3)).toEqual([]);
  const again = open(storage);
  insert(again, object, 2);
  expect(blocks(again, object, 3)).toEqual([2]);
  expect(storage.existsSync(`${directory}/notes.txt`)).toBe(true);
});

test("the disk keeps to its limit, and what is read stays longer than what is not", () => {
  const storage = new SimulatedStorage();
  const bytesMax = 10 * FILE_SIZE + 100;
  const cache = open(storage, { bytesMax });
  const object = cache.object("a", 200 * BLOCK_SIZE);
  for (let index = 0; index < 200; index++) {
    insert(cache, object, index);
    if (index >= 3) expect(cache.block(object, 3), `after block ${index}`).not.toBeNull();
    expect(cache.statistics().diskBytes).toBeLessThanOrEqual(bytesMax);
  }
  expect(pathsOf(storage).length).toBe(10);
  expect(cache.statistics().evictions).toBe(190);
  // A restart with a lower limit comes down to it as it learns what is there.
  const smaller = open(storage, { bytesMax: 4 * FILE_SIZE });
  for (let index = 0; index < 130; index++) insert(smaller, object, index);
  expect(pathsOf(storage).length).toBe(4);
  const tiny = open(new SimulatedStorage(), { bytesMax: 10 });
  insert(tiny, object, 0);
  expect(tiny.statistics()).toMatchObject({ diskBytes: 0, evictions: 0 });
});

test("pinned blocks stay until they have been read, or nobody can be waiting any more", () => {
  let nowMs = 0;
  const cache = open(new SimulatedStorage(), { bytesMax: 0, nowMs: () => nowMs });
  const object = cache.object("a", 100 * BLOCK_SIZE);
  insert(cache, object, 0, 1);
  expect(blocks(cache, object, 2)).toEqual([]);
  for (const index of [0, 1, 2]) {
    cache.insert(object, index, contents(object, index));
    expect(cache.pin(object, index)).toBe(true);
  }
  expect(cache.pin(object, 0)).toBe(true);
  expect(cache.pin(object, 50)).toBe(false);
  insert(cache, object, 3, 4, 5);
  expect(blocks(cache, object, 6)).toEqual([0, 1, 2]);
  cache.release(object, 0);
  cache.release(object, 1);
  cache.release(object, 1);
  expect(blocks(cache, object, 6)).toEqual([0, 2]);
  cache.release(object, 0);
  expect(blocks(cache, object, 6)).toEqual([2]);
  nowMs = 61_000;
  cache.insert(object, 7, contents(object, 7));
  cache.pin(object, 7);
  cache.flush();
  expect(blocks(cache, object, 8)).toEqual([7]);
});

test("blocks are written a little later, without waiting for it, and before too many wait", async () => {
  const storage = new SimulatedStorage();
  const cache = open(storage, { memoryBytesMax: 2 * BLOCK_SIZE });
  const object = cache.object("a", 1000 * BLOCK_SIZE);
  for (let index = 0; index < 3; index++) cache.insert(object, index, contents(object, index));
  expect(storage.countOf("write")).toBe(0);
  while (storage.countOf("write") < 3) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
  for (let index = 3; index < 203; index++) cache.insert(object, index, contents(object, index));
  expect(storage.countOf("write")).toBe(203 - 128);
  expect(blocks(cache, object, 203).length).toBe(203);
  expect(cache.statistics().memoryBytes).toBe(2 * BLOCK_SIZE);
  cache.close();
  expect(pathsOf(storage).length).toBe(203);
  // An answer that comes after that is nobody's.
  cache.insert(object, 500, contents(object, 500));
  cache.flush();
  expect(pathsOf(storage).length).toBe(203);
});

test("a full or broken disk is no error: writing pauses, and goes on later", () => {
  let nowMs = 0;
  for (const systemCode of ["ENOSPC", "EIO"] as const) {
    const storage = new SimulatedStorage();
    const cache = open(storage, { nowMs: () => nowMs });
    const object = cache.object("a", 100 * BLOCK_SIZE);
    storage.failAt({ kinds: ["write"], count: 1, systemCode });
    insert(cache, object, 0, 1);
    expect(pathsOf(storage)).toEqual([]);
    expect(cache.statistics().diskBytes).toBe(0);
    nowMs += 11_000;
    insert(cache, object, 2);
    expect(blocks(cache, object, 3)).toEqual([2]);
    for (const kind of ["create", "makeDirectory", "delete", "list"] as const) {
      storage.failAt({ kinds: [kind], count: 1, systemCode: "EIO" });
    }
    const again = open(storage, { nowMs: () => nowMs, bytesMax: FILE_SIZE });
    nowMs += 11_000;
    for (let index = 0; index < 40; index++) insert(again, object, index);
    nowMs += 11_000;
    insert(again, object, 41);
    expect(blocks(again, object, 42)).toContain(41);
  }
});

test("power lost at any operation leaves only blocks that are what they were (K1)", () => {
  const run = (storage: SimulatedStorage): void => {
    const cache = open(storage, { bytesMax: 3 * FILE_SIZE });
    const object = cache.object("a", 20 * BLOCK_SIZE);
    for (let index = 0; index < 8; index++) insert(cache, object, index);
  };
  const counting = new SimulatedStorage();
  run(counting);
  let survivors = 0;
  for (let operation = 1; operation <= counting.trace.length; operation += 3) {
    const storage = new SimulatedStorage({ seed: operation });
    storage.crashAt({ count: operation });
    expect(() => run(storage)).toThrow(/Power failure|down/);
    storage.reboot();
    const cache = open(storage);
    const object = cache.object("a", 20 * BLOCK_SIZE);
    for (let index = 0; index < 8; index++) {
      const bytes = cache.block(object, index);
      if (bytes === null) continue;
      survivors++;
      expect(Buffer.compare(bytes, contents(object, index)), `crash at ${operation}`).toBe(0);
    }
  }
  expect(survivors).toBeGreaterThan(0);
});

test("model: whatever is inserted, pinned, dropped and restarted, a block is right or missing, and pinned ones are there", () => {
  const steps = fc.array(
    fc.record({
      kind: fc.constantFrom("insert", "read", "pin", "release", "drop", "restart", "damage"),
      object: fc.nat(2),
      index: fc.nat(5),
    }),
    { maxLength: 80 },
  );
  fc.assert(
    fc.property(
      steps,
      fc.integer({ min: 0, max: 6 }),
      fc.integer({ min: 0, max: 3 }),
      (all, disk, memory) => {
        const storage = new SimulatedStorage();
        const random = new Random(1);
        const reopen = (): BlockCache =>
          open(storage, { bytesMax: disk * FILE_SIZE, memoryBytesMax: memory * BLOCK_SIZE });
        let cache = reopen();
        const pins = new Map<string, number>();
        for (const { kind, object: number, index } of all) {
          const object = cache.object("k".repeat(number + 1), 5 * BLOCK_SIZE + 9);
          const id = `${number}-${index}`;
          if (kind === "insert") insert(cache, object, index);
          if (kind === "pin" && cache.pin(object, index)) pins.set(id, (pins.get(id) ?? 0) + 1);
          if (kind === "release") {
            cache.release(object, index);
            if (pins.has(id)) pins.set(id, (pins.get(id) ?? 0) - 1);
          }
          if (kind === "drop") {
            cache.drop(object, index);
            pins.delete(id);
          }
          if (kind === "restart") {
            cache.close();
            cache = reopen();
            pins.clear();
          }
          if (kind === "damage" && pathsOf(storage).length > 0) {
            storage.flipBit(random.pick(pathsOf(storage)), random.integer(0, 71));
          }
          const bytes = cache.block(object, index);
          if (bytes !== null) expect(Buffer.compare(bytes, contents(object, index))).toBe(0);
          if ((pins.get(id) ?? 0) > 0) expect(bytes).not.toBeNull();
          if (kind === "drop") expect(bytes).toBeNull();
          expect(cache.statistics().memoryBytes).toBeLessThanOrEqual(memory * BLOCK_SIZE);
          expect(cache.statistics().diskBytes).toBeLessThanOrEqual(disk * FILE_SIZE);
        }
      },
    ),
    {
      numRuns: 60,
      examples: [
        [
          [
            { kind: "insert", object: 0, index: 0 },
            { kind: "restart", object: 1, index: 0 },
            { kind: "insert", object: 1, index: 0 },
            { kind: "insert", object: 0, index: 0 },
          ],
          1,
          0,
        ],
      ],
    },
  );
});
