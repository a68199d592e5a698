import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { encodeChunk } from "../page/chunk-format.ts";
import { ChunkHandles, type ChunkLocation, idKey } from "../page/chunk-handle.ts";
import { ChunkStore } from "../page/chunk-store.ts";
import { Codec } from "../page/compression.ts";
import { packPath } from "../page/pack-format.ts";
import { readFileSync } from "../storage/whole-file.ts";
import { NotLocalError, readFetching, readWaiting } from "../storage/not-local.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { StoreError } from "../errors.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { readVerified } from "../storage/verified-read.ts";
import { ObjectStoreControl } from "../testing/held-object-store-thread.ts";
import { Random } from "../testing/random.ts";
import { describeStorage } from "../testing/storage-conformance.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { BLOCK_SIZE, BlockCache } from "./block-cache.ts";
import { type LazyObjects, LazyStorage, type LazyStorageOptions } from "./lazy-storage.ts";
import { RemoteClient } from "./remote-client.ts";

const KIB = 1024;
const SEED = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const ROUNDS = process.env["BOUGH_TEST_LONG"] === "1" ? 300 : 12;
/** Of other blocks than those that a test fetches first. */
const NO_READ_AHEAD = { readAheadBytesMax: 0 };

let directory: string;
let client: RemoteClient;
const control = new ObjectStoreControl();
const random = new Random(7);
let fileCount = 0;
let caches: BlockCache[] = [];

beforeAll(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-lazy-"));
  const url = pathToFileURL(join(directory, "objects")).href;
  client = new RemoteClient(url, { url, ...control.program });
});

beforeEach(() => {
  for (const counter of ["requests", "cancelled", "bytes"] as const) control.set(counter, 0);
});

afterEach(() => {
  control.release();
  for (const counter of ["failures", "truncations", "deaths", "corruptions"] as const)
    control.set(counter, 0);
  for (const cache of caches) cache.close();
  caches = [];
});

afterAll(() => {
  client.close();
  fs.rmSync(directory, { recursive: true });
});

class Objects implements LazyObjects {
  readonly contents = new Map<string, { key: string; bytes: Uint8Array }>();

  /** Stores an object and names it. */
  add(path: string, bytes: Uint8Array): Uint8Array {
    const key = `${path}-${fileCount++}`;
    client.putSync(key, bytes);
    this.contents.set(path, { key, bytes });
    control.set("requests", 0);
    return bytes;
  }

  objectFor(path: string): { key: string; size: number } | null {
    const known = this.contents.get(path);
    return known === undefined ? null : { key: known.key, size: known.bytes.byteLength };
  }

  *namesIn(directoryPath: string): Iterable<string> {
    const prefix = directoryPath === "" ? "" : `${directoryPath}/`;
    const names = new Set<string>();
    for (const path of this.contents.keys()) {
      if (path.startsWith(prefix)) names.add(path.slice(prefix.length).split("/")[0] ?? "");
    }
    yield* names;
  }
}

interface Bench {
  readonly objects: Objects;
  readonly storage: LazyStorage;
  readonly local: Storage;
  readonly cache: BlockCache;
  readonly cacheDirectory: string;
}

function openCache(cacheDirectory: string, bytesMax = 1e9, memoryBytesMax = 1e6): BlockCache {
  const cache = new BlockCache(openNodeStorage(cacheDirectory), { bytesMax, memoryBytesMax });
  caches.push(cache);
  return cache;
}

function open(
  options: Partial<LazyStorageOptions> & { bytesMax?: number; memoryBytesMax?: number } = {},
): Bench {
  const place = join(directory, `store-${fileCount++}`);
  const local = openNodeStorage(place);
  local.makeDirectorySync("");
  const objects = new Objects();
  const cacheDirectory = `${place}-cache`;
  const cache = openCache(cacheDirectory, options.bytesMax, options.memoryBytesMax);
  const storage = new LazyStorage({ local, source: client, cache, objects, ...options });
  return { objects, storage, local, cache, cacheDirectory };
}

function read(file: StorageFile, offset: number, length: number): Buffer {
  const target = Buffer.alloc(length);
  return target.subarray(0, file.readSync(offset, target));
}

function pendingOf(action: () => unknown): NotLocalError["pending"] {
  try {
    action();
  } catch (error) {
    if (error instanceof NotLocalError) return error.pending;
    throw error;
  }
  throw new Error("Everything was there");
}

describeStorage("lazy storage without objects", () => ({
  storage: open().storage,
  cleanUp: () => undefined,
}));

describe("files", () => {
  test("a local file is the local storage's own, an object is read block by block", async () => {
    const { objects, storage, local } = open(NO_READ_AHEAD);
    const bytes = objects.add("d/remote", random.bytes(300 * KIB + 5));
    const written = local.openFileSync("here", { mode: "create" });
    const opened = storage.openFileSync("here", { mode: "read" });
    expect(Object.getPrototypeOf(opened)).toBe(Object.getPrototypeOf(written));

    const file = storage.openFileSync("d/remote", { mode: "read" });
    expect(file.sizeSync()).toBe(bytes.byteLength);
    const offset = 64 * KIB - 3;
    const target = new Uint8Array(10);
    await pendingOf(() => file.readSync(offset, target)).fetch();
    expect(target).toEqual(new Uint8Array(10));
    expect(file.readSync(offset, target)).toBe(10);
    expect(target).toEqual(bytes.slice(offset, offset + 10));
    // Two neighbouring blocks were missing: one request, of those alone.
    expect(control.get("requests")).toBe(1);
    expect(control.get("bytes")).toBe(2 * BLOCK_SIZE);
    const tail = await readFetching(() => read(file, bytes.byteLength - 4, 100));
    expect(new Uint8Array(tail)).toEqual(bytes.slice(-4));
    expect(read(file, bytes.byteLength, 10).byteLength).toBe(0);
    const whole = Buffer.alloc(bytes.byteLength);
    expect(await file.read(0, whole)).toBe(bytes.byteLength);
    expect(whole.equals(bytes)).toBe(true);
    expect(storage.statistics()).toMatchObject({ requests: 3, bytes: bytes.byteLength });
  });

  test("names are the local ones and the objects'; what is deleted is hidden, and can be made anew", () => {
    const { objects, storage, local } = open();
    objects.add("d/remote", random.bytes(10));
    objects.add("d/both", random.bytes(10));
    local.makeDirectorySync("d");
    for (const path of ["d/both", "d/local"]) {
      local.openFileSync(path, { mode: "create" }).closeSync();
    }
    expect(storage.listSync("d")).toEqual(["both", "local", "remote"]);
    expect(storage.listSync("")).toEqual(["d"]);
    expect(() => storage.openFileSync("d/remote", { mode: "create" })).toThrow(/already taken/);
    expect(() => storage.openFileSync("d/remote", { mode: "write" })).toThrow(/only/);
    expect(() => storage.openFileSync("d/none", { mode: "read" })).toThrow(
      expect.objectContaining({ code: "FILE_NOT_FOUND" }),
    );
    storage.deleteSync("d/remote");
    storage.deleteSync("d/both");
    expect(storage.listSync("d")).toEqual(["local"]);
    expect(storage.existsSync("d/remote")).toBe(false);
    expect(() => storage.deleteSync("d/remote")).toThrow(/no such file/);
    storage.renameSync("d/local", "d/remote");
    expect(storage.listSync("d")).toEqual(["remote"]);
    storage.setObjects({ objectFor: () => null, namesIn: () => [] });
    storage.setObjects(objects);
    expect(storage.listSync("d")).toEqual(["both", "remote"]);
    expect(control.get("requests")).toBe(0);
  });

  test("a directory that only objects are in takes a new file", () => {
    const { objects, storage, local } = open();
    objects.add("packs/1.pack", random.bytes(10));
    expect(storage.existsSync("packs")).toBe(true);
    storage.openFileSync("packs/2.pack", { mode: "create" }).closeSync();
    storage.syncDirectorySync("packs");
    expect(storage.listSync("packs")).toEqual(["1.pack", "2.pack"]);
    expect(local.listSync("packs")).toEqual(["2.pack"]);
  });

  test("a directory whose objects are all deleted is synced", () => {
    const { objects, storage } = open();
    objects.add("packs/1.pack", random.bytes(10));
    storage.deleteSync("packs/1.pack");
    storage.syncDirectorySync("packs");
    expect(() => storage.syncDirectorySync("others")).toThrow(/no such/);
  });

  test("a file of an object refuses writes, and everything once closed", async () => {
    const { objects, storage } = open();
    objects.add("a", random.bytes(10));
    const file = storage.openFileSync("a", { mode: "read" });
    expect(() => file.writeSync(0, new Uint8Array(1))).toThrow(/for reading only/);
    await expect(file.write(0, new Uint8Array(1))).rejects.toThrow(/for reading only/);
    expect(() => file.truncateSync(0)).toThrow(/for reading only/);
    file.closeSync();
    expect(() => file.readSync(0, new Uint8Array(1))).toThrow(/is closed/);
    await expect(file.read(0, new Uint8Array(1))).rejects.toThrow(/is closed/);
  });

  test("an open file goes on reading its object after the objects are replaced", async () => {
    const { objects, storage } = open();
    const old = objects.add("a", random.bytes(100));
    const file = storage.openFileSync("a", { mode: "read" });
    const other = new Objects();
    const next = other.add("a", random.bytes(120));
    storage.setObjects(other);
    expect(new Uint8Array(await readFetching(() => read(file, 0, 200)))).toEqual(old);
    const again = storage.openFileSync("a", { mode: "read" });
    expect(new Uint8Array(readWaiting(() => read(again, 0, 200)))).toEqual(next);
  });
});

describe("fetching", () => {
  test("a hundred readers of a block make one request, waiting in either way", async () => {
    const { objects, storage } = open(NO_READ_AHEAD);
    const bytes = objects.add("a", random.bytes(100 * KIB));
    control.hold();
    const file = storage.openFileSync("a", { mode: "read" });
    const readings = Array.from({ length: 100 }, () => readFetching(() => read(file, 5, 100)));
    await control.reached("requests", 1);
    // While this one waits on the thread, the others' answer comes.
    const sync = pendingOf(() => read(file, 5, 100));
    control.release();
    sync.fetchSync();
    expect(read(file, 5, 100).equals(bytes.subarray(5, 105))).toBe(true);
    for (const reading of await Promise.all(readings)) {
      expect(reading.equals(bytes.subarray(5, 105))).toBe(true);
    }
    expect(control.get("requests")).toBe(1);
  });

  test("a request is shared by those who want parts of it, and each waits for all of its own", async () => {
    const { objects, storage } = open(NO_READ_AHEAD);
    const bytes = objects.add("a", random.bytes(8 * BLOCK_SIZE));
    const file = storage.openFileSync("a", { mode: "read" });
    control.hold();
    const length = 3 * BLOCK_SIZE;
    const readings = [0, 2, 4].map((block) => ({
      block,
      done: readFetching(() => read(file, block * BLOCK_SIZE, length)),
    }));
    await control.reached("requests", 3);
    control.release();
    for (const { block, done } of readings) {
      const start = block * BLOCK_SIZE;
      expect((await done).equals(bytes.subarray(start, start + length))).toBe(true);
    }
    // Blocks 0-2, 3-4, 5-6: none twice.
    expect(control.get("requests")).toBe(3);
    expect(control.get("bytes")).toBe(7 * BLOCK_SIZE);
  });

  test("a request goes on while anybody waits for it, and is cancelled when the last gives up", async () => {
    const { objects, storage } = open(NO_READ_AHEAD);
    objects.add("a", random.bytes(10));
    const file = storage.openFileSync("a", { mode: "read" });
    control.hold();
    const pending = pendingOf(() => read(file, 0, 10));
    const first = new AbortController();
    const second = new AbortController();
    const waiting = [
      pending.fetch({ signal: first.signal }),
      pending.fetch({ signal: second.signal }),
      pending.fetch({ timeoutMs: 10 }),
    ];
    const outcomes = Promise.allSettled(waiting);
    await control.reached("requests", 1);
    await expect(waiting[2]).rejects.toMatchObject({ code: "TIMEOUT", retryable: true });
    first.abort(new Error("first"));
    await expect(waiting[0]).rejects.toThrow("first");
    expect(() => pending.fetchSync({ timeoutMs: 5 })).toThrow(
      expect.objectContaining({ code: "TIMEOUT" }),
    );
    expect(control.get("cancelled")).toBe(0);
    second.abort(new Error("second"));
    await expect(waiting[1]).rejects.toThrow("second");
    await outcomes;
    await control.reached("cancelled", 1);
    expect(() => pending.fetchSync({ signal: second.signal })).toThrow("second");
    control.release();
    await pending.fetch();
    expect(read(file, 0, 10).byteLength).toBe(10);
  });

  test("failures reach all who wait, and the next attempt asks again", async () => {
    const { objects, storage } = open(NO_READ_AHEAD);
    objects.add("a", random.bytes(10));
    const file = storage.openFileSync("a", { mode: "read" });
    control.failNext(1);
    const pending = pendingOf(() => read(file, 0, 10));
    const outcomes = await Promise.allSettled([pending.fetch(), pending.fetch()]);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "REMOTE_UNAVAILABLE" } });
    }
    control.failNext(1);
    expect(() => pending.fetchSync()).toThrow(
      expect.objectContaining({ code: "REMOTE_UNAVAILABLE" }),
    );
    control.dieNext();
    expect(() => pending.fetchSync()).toThrow(
      expect.objectContaining({ code: "REMOTE_UNAVAILABLE", retryable: true }),
    );
    pending.fetchSync();
    expect(read(file, 0, 10).byteLength).toBe(10);
  });

  test("a truncated answer is asked for again, an object that stays short or is gone is CORRUPT_REMOTE", async () => {
    const { objects, storage } = open(NO_READ_AHEAD);
    const bytes = objects.add("a", random.bytes(70 * KIB));
    const file = storage.openFileSync("a", { mode: "read" });
    control.truncateNext(1);
    expect((await readFetching(() => read(file, 0, 100 * KIB))).equals(bytes)).toBe(true);
    expect(control.get("requests")).toBe(2);

    objects.add("b", random.bytes(10));
    control.truncateNext(2);
    const short = storage.openFileSync("b", { mode: "read" });
    await expect(readFetching(() => read(short, 0, 1))).rejects.toMatchObject({
      code: "CORRUPT_REMOTE",
      message: expect.stringContaining("9 bytes came from offset 0, 10 should be there"),
    });

    objects.contents.set("c", { key: "gone", bytes: new Uint8Array(10) });
    const gone = storage.openFileSync("c", { mode: "read" });
    expect(() => readWaiting(() => read(gone, 0, 1))).toThrow(
      expect.objectContaining({
        code: "CORRUPT_REMOTE",
        message: expect.stringContaining('object "gone" in'),
      }),
    );
  });
});

describe("ahead of readers", () => {
  test("reads that go on are run ahead of, with ever larger requests; a single read is not", async () => {
    const { objects, storage } = open();
    const bytes = objects.add("a", random.bytes(64 * BLOCK_SIZE));
    const file = storage.openFileSync("a", { mode: "read" });
    for (const block of [40, 7, 55]) {
      await readFetching(() => read(file, block * BLOCK_SIZE, 10));
    }
    expect(storage.statistics()).toMatchObject({ requests: 3, prefetchedBlocks: 0 });
    for (let offset = 0; offset < bytes.byteLength; offset += 4 * KIB) {
      const page = await readFetching(() => read(file, offset, 4 * KIB));
      expect(page.equals(bytes.subarray(offset, offset + 4 * KIB))).toBe(true);
    }
    const { requests, prefetchedBlocks, usedPrefetchedBlocks } = storage.statistics();
    expect(requests).toBeLessThan(20);
    expect(prefetchedBlocks).toBeGreaterThan(50);
    expect(usedPrefetchedBlocks).toBe(prefetchedBlocks);
    expect(control.get("bytes")).toBe(bytes.byteLength);
  });

  test("a reader joins a prefetch, and gives up without cancelling it", async () => {
    const { objects, storage } = open(NO_READ_AHEAD);
    objects.add("a", random.bytes(4 * BLOCK_SIZE));
    control.hold();
    storage.prefetch("a", [{ offset: 0, length: 2 * BLOCK_SIZE }]);
    const file = storage.openFileSync("a", { mode: "read" });
    const pending = pendingOf(() => read(file, 0, 10));
    await expect(pending.fetch({ timeoutMs: 1 })).rejects.toMatchObject({ code: "TIMEOUT" });
    control.release();
    pending.fetchSync();
    expect(read(file, BLOCK_SIZE, 10).byteLength).toBe(10);
    expect(control.get("requests")).toBe(1);
    expect(storage.statistics()).toMatchObject({ prefetchedBlocks: 2, usedPrefetchedBlocks: 1 });
  });

  test("prefetches are bounded in flight, behind what readers wait for, and their failures are nobody's", async () => {
    const { objects, storage } = open({ prefetchBytesMax: 2 * BLOCK_SIZE, readAheadBytesMax: 0 });
    const bytes = objects.add("a", random.bytes(20 * BLOCK_SIZE));
    const file = storage.openFileSync("a", { mode: "read" });
    control.hold();
    const ranges = [0, 2, 4, 6, 8].map((block) => ({ offset: block * BLOCK_SIZE, length: 1 }));
    storage.prefetch("a", [...ranges, { offset: 1e9, length: 5 }]);
    storage.prefetch("none", ranges);
    await control.reached("requests", 2);
    // Not fetched ahead yet: fetched at once, though the prefetches are full.
    const reading = readFetching(() => read(file, 8 * BLOCK_SIZE, 10));
    await control.reached("requests", 3);
    expect(control.get("requests")).toBe(3);
    control.release();
    await reading;
    control.failNext(1);
    storage.prefetch("a", [{ offset: 15 * BLOCK_SIZE, length: 1 }]);
    await control.fallen("failures", 0);
    for (let block = 0; block < 20; block++) {
      const page = await readFetching(() => read(file, block * BLOCK_SIZE, 10));
      expect(page.equals(bytes.subarray(block * BLOCK_SIZE, block * BLOCK_SIZE + 10))).toBe(true);
    }
  });
});

describe("the cache under a storage", () => {
  test("what was read is there after a restart: no request", async () => {
    const { objects, storage, local, cache, cacheDirectory } = open();
    const bytes = objects.add("a", random.bytes(1000 * KIB));
    const file = storage.openFileSync("a", { mode: "read" });
    await readFetching(() => read(file, 0, bytes.byteLength));
    cache.close();
    control.set("requests", 0);
    const again = new LazyStorage({
      local,
      source: client,
      cache: openCache(cacheDirectory),
      objects,
    });
    const reopened = again.openFileSync("a", { mode: "read" });
    expect(read(reopened, 0, bytes.byteLength).equals(bytes)).toBe(true);
    expect(control.get("requests")).toBe(0);
    expect(again.statistics()).toMatchObject({ requests: 0, hits: 1, misses: 0 });
  });

  test("a cache too small for one read serves it, whoever else reads meanwhile", async () => {
    const { objects, storage, cache } = open({ bytesMax: 100 * KIB, memoryBytesMax: 0 });
    const bytes = objects.add("a", random.bytes(40 * BLOCK_SIZE));
    const file = storage.openFileSync("a", { mode: "read" });
    const length = 10 * BLOCK_SIZE;
    const readings = Array.from({ length: 30 }, (_, block) =>
      readFetching(() => read(file, block * BLOCK_SIZE, length)),
    );
    for (const [block, reading] of readings.entries()) {
      const start = block * BLOCK_SIZE;
      expect((await reading).equals(bytes.subarray(start, start + length))).toBe(true);
    }
    expect(readWaiting(() => read(file, 0, bytes.byteLength)).equals(bytes)).toBe(true);
    cache.flush();
    expect(cache.statistics()).toMatchObject({ pinnedBlocks: 0, memoryBytes: 0 });
    expect(cache.statistics().diskBytes).toBeLessThanOrEqual(100 * KIB);
  });

  test("blocks that a reader finds damaged are fetched again, alone, and not for ever", async () => {
    const { objects, storage } = open(NO_READ_AHEAD);
    const bytes = objects.add("a", new Uint8Array(3 * BLOCK_SIZE).fill(5));
    const file = storage.openFileSync("a", { mode: "read" });
    await readFetching(() => read(file, 0, bytes.byteLength));
    const place = { offset: BLOCK_SIZE + 5, length: 10 };
    let checks = 0;
    const readChecked = (): Buffer =>
      readVerified(file, place, () => {
        const found = read(file, BLOCK_SIZE, BLOCK_SIZE);
        checks++;
        if (found.some((byte) => byte !== 5)) throw new StoreError("CORRUPT_CHUNK", "Damaged");
        return found;
      });
    expect(file.refetch?.(place.offset, place.length)).toBe(true);
    control.corruptNext(1);
    expect((await readFetching(readChecked)).byteLength).toBe(BLOCK_SIZE);
    expect(checks).toBe(2);
    // The whole file, then block 1 damaged, then block 1 again.
    expect(control.get("bytes")).toBe(5 * BLOCK_SIZE);
    file.refetch?.(place.offset, place.length);
    control.corruptNext(100);
    await expect(readFetching(readChecked)).rejects.toMatchObject({ code: "CORRUPT_CHUNK" });
    expect(control.get("bytes")).toBe(6 * BLOCK_SIZE);
  });
});

test("a chunk whose bytes are damaged on their way is fetched anew; one that is damaged in object storage is CORRUPT_CHUNK", async () => {
  const writing = new SimulatedStorage();
  const storeId = new Uint8Array(16).fill(3);
  const index = new Map<string, ChunkLocation>();
  const openChunks = (storage: Storage): ChunkStore =>
    ChunkStore.open({
      storage,
      storeId,
      cipher: null,
      handles: new ChunkHandles(),
      locate: (id) => index.get(idKey(id)),
      cacheBytesMax: 0,
    });
  const pages = random.bytes(64 * 4096);
  const chunk = encodeChunk({ pages, pageSize: 4096, codec: Codec.raw, cipher: null });
  const chunks = openChunks(writing);
  index.set(idKey(chunk.id), chunks.append(chunk));
  chunks.syncSync();
  chunks.close();
  const location = index.get(idKey(chunk.id))!;
  const path = packPath(location.pack);

  const { objects, storage } = open(NO_READ_AHEAD);
  const stored = objects.add(path, readFileSync(writing, path));
  const lazy = openChunks(storage);
  const load = (): Uint8Array => lazy.readChunk(chunk.id, location).pages;
  // First the pack's header, then the blocks of the chunk.
  control.corruptNext(2);
  expect(Buffer.compare(await readFetching(load), pages)).toBe(0);
  expect(control.get("corruptions")).toBe(0);
  expect(control.get("bytes")).toBeGreaterThan(stored.byteLength);
  lazy.close();

  const damaged = stored.slice();
  damaged[location.offset + 5000]! ^= 1;
  objects.add(path, damaged);
  const other = openChunks(storage);
  const reading = readFetching(() => other.readChunk(chunk.id, location));
  await expect(reading).rejects.toMatchObject({ code: "CORRUPT_CHUNK" });
  expect(() => readWaiting(() => other.readChunk(chunk.id, location))).toThrow(/checksum|CRC/i);
  expect(control.get("requests")).toBeLessThan(12);
  other.close();
});

describe("under faults", () => {
  test("model: random reads of random files equal the true bytes, whatever fails on the way", async () => {
    for (let seed = 1; seed <= ROUNDS; seed++) {
      await readAtRandom(new Random(seed + SEED), `seed ${seed + SEED}`);
    }
  });

  async function readAtRandom(dice: Random, label: string): Promise<void> {
    const { objects, storage, cache } = open({
      bytesMax: dice.integer(0, 12) * BLOCK_SIZE,
      memoryBytesMax: dice.integer(0, 6) * BLOCK_SIZE,
      readAheadBytesMax: dice.integer(0, 8) * BLOCK_SIZE,
      prefetchBytesMax: dice.integer(1, 8) * BLOCK_SIZE,
    });
    const files = Array.from({ length: 3 }, (_, number) => {
      const path = `f${number}`;
      const bytes = objects.add(path, dice.bytes(dice.integer(1, 12 * BLOCK_SIZE)));
      return { path, bytes, file: storage.openFileSync(path, { mode: "read" }) };
    });
    let succeeded = 0;
    let failed = 0;
    const readOne = async (): Promise<void> => {
      const { path, bytes, file } = dice.pick(files);
      const offset = dice.integer(0, bytes.byteLength);
      const length = dice.integer(0, dice.chance(0.2) ? bytes.byteLength : 8192);
      const isWaiting = dice.chance(0.4);
      const limits = dice.chance(0.2) ? { timeoutMs: dice.integer(0, 3) } : {};
      if (dice.chance(0.1)) control.failNext(dice.integer(1, 2));
      if (dice.chance(0.1)) control.truncateNext(1);
      if (dice.chance(0.005)) control.dieNext();
      if (dice.chance(0.1)) storage.prefetch(path, [{ offset, length }]);
      if (dice.chance(0.1)) file.refetch?.(offset, length);
      try {
        const get = (): Buffer => read(file, offset, length);
        const result = isWaiting ? readWaiting(get, limits) : await readFetching(get, limits);
        expect(result.equals(bytes.subarray(offset, offset + length)), label).toBe(true);
        succeeded++;
      } catch (error) {
        expect(error, label).toMatchObject({
          code: expect.stringMatching(/^(REMOTE_UNAVAILABLE|TIMEOUT|CORRUPT_REMOTE)$/),
        });
        failed++;
      }
    };
    for (let batch = 0; batch < 12; batch++) {
      await Promise.all(Array.from({ length: dice.integer(1, 8) }, readOne));
    }
    expect(succeeded, label).toBeGreaterThan(failed);
    for (const counter of ["failures", "truncations", "deaths", "corruptions"] as const)
      control.set(counter, 0);
    for (const { bytes, file } of files) {
      const whole = await readFetching(() => read(file, 0, bytes.byteLength));
      expect(whole.equals(bytes), label).toBe(true);
    }
    cache.close();
  }

  test("the worker killed with many waiting: all fail, whoever repeats has the bytes", async () => {
    const { objects, storage } = open(NO_READ_AHEAD);
    const bytes = objects.add("a", random.bytes(10 * BLOCK_SIZE));
    const file = storage.openFileSync("a", { mode: "read" });
    control.hold();
    const pendings = Array.from({ length: 10 }, (_, block) =>
      pendingOf(() => read(file, block * BLOCK_SIZE, 10)),
    );
    const outcomes = Promise.allSettled(pendings.map((pending) => pending.fetch()));
    await control.reached("requests", 10);
    control.dieNext();
    control.release();
    const rejected = (await outcomes).filter(({ status }) => status === "rejected");
    expect(rejected.length).toBeGreaterThan(0);
    for (const outcome of rejected)
      expect(outcome).toMatchObject({ reason: { code: "REMOTE_UNAVAILABLE", retryable: true } });
    expect(readWaiting(() => read(file, 0, bytes.byteLength)).equals(bytes)).toBe(true);
  });
});
