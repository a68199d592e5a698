import { describe, expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { encodeChunk, type EncodedChunk } from "./chunk-format.ts";
import { type ChunkHandle, ChunkHandles, type ChunkLocation, idKey } from "./chunk-handle.ts";
import { ChunkStore, type ChunkStoreOptions } from "./chunk-store.ts";
import { Codec } from "./compression.ts";
import { checkPackHeader, encodePackHeader, packNumber, packPath } from "./pack-format.ts";

const storeId = Uint8Array.from({ length: 16 }, (_, index) => index);

/** Two pages that begin with `seed`; a raw chunk of 64 + 1024 + 8 bytes. */
function chunkOf(seed: number): EncodedChunk {
  const pages = new Uint8Array(1024).fill(seed & 0xff);
  new DataView(pages.buffer).setUint32(0, seed);
  return encodeChunk({ pages, pageSize: 512, codec: Codec.raw, cipher: null });
}

class World {
  readonly handles = new ChunkHandles();
  readonly index = new Map<string, ChunkLocation>();
  readonly storage: SimulatedStorage;

  constructor(storage: SimulatedStorage = new SimulatedStorage()) {
    this.storage = storage;
  }

  open(changes: Partial<ChunkStoreOptions> = {}): ChunkStore {
    return ChunkStore.open({
      storage: this.storage,
      storeId,
      cipher: null,
      handles: this.handles,
      locate: (id) => this.index.get(idKey(id)),
      cacheBytesMax: 1_000_000,
      ...changes,
    });
  }

  append(store: ChunkStore, chunk: EncodedChunk): ChunkHandle {
    this.index.set(idKey(chunk.id), store.append(chunk));
    return this.handles.intern(chunk.id);
  }
}

function errorOf(act: () => unknown): StoreError {
  try {
    act();
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
  throw new Error("no error");
}

describe("chunk store", () => {
  test("a chunk reads back at once, after a sync, and by another process", () => {
    const world = new World();
    const store = world.open();
    const handle = world.append(store, chunkOf(1));
    expect(store.readPage({ chunk: handle, slot: 0 }, 512)[3]).toBe(1);
    store.syncSync();
    store.close();
    const second = new World(world.storage);
    for (const [key, location] of world.index) second.index.set(key, location);
    const page = second.open().readPage({ chunk: second.handles.intern(handle.id), slot: 1 }, 512);
    expect(page).toEqual(new Uint8Array(512).fill(1));
  });

  test("chunks stand one after another at multiples of 8; packs rotate at the limit", () => {
    const world = new World();
    const store = world.open({ packSizeMax: 2300 });
    const locations = [1, 2, 3].map((seed) => store.append(chunkOf(seed)));
    expect(locations).toEqual([
      { pack: 1, offset: 40, length: 1096 },
      { pack: 1, offset: 1136, length: 1096 },
      { pack: 2, offset: 40, length: 1096 },
    ]);
    expect(world.storage.listSync("chunks")).toEqual(["00000001.pack", "00000002.pack"]);
  });

  test("a chunk larger than a pack gets one of its own", () => {
    const store = new World().open({ packSizeMax: 100 });
    expect([1, 2].map((seed) => store.append(chunkOf(seed)).pack)).toEqual([1, 2]);
  });

  test("a pack of an earlier process is never appended to", () => {
    const world = new World();
    world.open().append(chunkOf(1));
    expect(world.open().append(chunkOf(2)).pack).toBe(2);
    expect(world.open({ nextPackNumber: 9 }).append(chunkOf(3)).pack).toBe(9);
    expect(world.open({ nextPackNumber: 3 }).append(chunkOf(4)).pack).toBe(10);
  });

  test("opening reads and writes no pack", () => {
    const world = new World();
    world.open();
    expect(world.storage.listSync("chunks")).toEqual([]);
  });

  test("pages are cached up to the limit, and hits cost no read", () => {
    const world = new World();
    const store = world.open({ cacheBytesMax: 10 * (1024 + 2 * 160 + 512) });
    const handles = Array.from({ length: 30 }, (_, seed) => world.append(store, chunkOf(seed)));
    const [first] = handles;
    for (const chunk of handles) {
      expect(store.readPage({ chunk, slot: 0 }, 512)[3]).toBe(
        chunk === first ? 0 : handles.indexOf(chunk),
      );
      expect(store.readPage({ chunk: first!, slot: 1 }, 512)[0]).toBe(0);
    }
    expect(handles.filter((handle) => handle.cached !== null)).toHaveLength(10);
    expect(store.statistics()).toMatchObject({ hits: 30, misses: 30, chunks: 10, bytes: 18_560 });
    expect(store.cachedPage({ chunk: first!, slot: 1 }, 512)?.[0]).toBe(0);
    expect(
      store.cachedPage({ chunk: handles.find((handle) => handle.cached === null)!, slot: 1 }, 512),
    ).toBeNull();
  });

  test("a view of an evicted page keeps its bytes", () => {
    const world = new World();
    const store = world.open({ cacheBytesMax: 1 });
    const handles = [1, 2, 3].map((seed) => world.append(store, chunkOf(seed)));
    const views = handles.map((chunk) => store.readPage({ chunk, slot: 1 }, 512));
    expect(views.map((view) => new Set(view))).toEqual([new Set([1]), new Set([2]), new Set([3])]);
  });

  test("a relocated chunk is read from its new place", () => {
    const world = new World();
    const store = world.open();
    const handle = world.append(store, chunkOf(1));
    const pages = new Uint8Array(512).fill(1);
    expect(store.readPage({ chunk: handle, slot: 0 }, 512)[3]).toBe(1);
    const holes = { id: handle.id, slotCount: 2, present: 2n };
    const rewritten = encodeChunk({ pages, pageSize: 512, codec: Codec.lz4, cipher: null, holes });
    store.relocate(handle, store.append(rewritten));
    expect(store.readPage({ chunk: handle, slot: 1 }, 512)).toEqual(pages);
    expect(errorOf(() => store.readPage({ chunk: handle, slot: 0 }, 512)).message).toContain(
      "slot 0 of 2 is a hole",
    );
  });

  test("a deleted pack is gone, and its number is not used again", () => {
    const world = new World();
    const store = world.open({ packSizeMax: 100 });
    const handle = world.append(store, chunkOf(1));
    store.readPage({ chunk: handle, slot: 0 }, 512);
    store.append(chunkOf(2));
    store.deletePack(1);
    expect(world.storage.listSync("chunks")).toEqual(["00000002.pack"]);
    expect(() => store.deletePack(2)).toThrow(/being written/);
    expect(store.append(chunkOf(3)).pack).toBe(3);
  });

  test("asynchronous appends and syncs interleave", async () => {
    const world = new World();
    const store = world.open({ packSizeMax: 5000 });
    const work: Promise<unknown>[] = [];
    const chunks = Array.from({ length: 40 }, (_, seed) => chunkOf(seed));
    for (const [index, chunk] of chunks.entries()) {
      work.push(
        store.appendAsync(chunk).then((location) => world.index.set(idKey(chunk.id), location)),
      );
      if (index % 3 === 0) work.push(store.sync());
      if (index % 7 === 0) store.syncSync();
    }
    await Promise.all(work);
    await store.sync();
    const copy = new World(world.storage.copyAfterCrash(new Random(1)));
    for (const [key, location] of world.index) copy.index.set(key, location);
    const recovered = copy.open();
    for (const [seed, { id }] of chunks.entries()) {
      expect(recovered.readPage({ chunk: copy.handles.intern(id), slot: 0 }, 512)[3]).toBe(seed);
    }
    store.close();
  });

  test("a sync that finds nothing new still waits for the one that is on its way", async () => {
    const world = new World();
    const storage: Storage = Object.create(world.storage);
    let finishSync = (): void => {};
    storage.openFileSync = (path, options) => {
      const file = world.storage.openFileSync(path, options);
      const slow: StorageFile = Object.create(file);
      slow.writeSync = (offset, source) => file.writeSync(offset, source);
      slow.syncSync = () => file.syncSync();
      slow.sync = () =>
        new Promise((resolve) => {
          finishSync = () => resolve(file.sync());
        });
      return slow;
    };
    const store = world.open({ storage });
    store.append(chunkOf(1));
    const order: string[] = [];
    const first = store.sync().then(() => order.push("first"));
    const second = store.sync().then(() => order.push("second"));
    await new Promise(setImmediate);
    expect([order, world.storage.hasUnsyncedWrites]).toEqual([[], true]);
    // One that blocks cannot wait: it syncs itself what is under way.
    store.syncSync();
    expect(world.storage.hasUnsyncedWrites).toBe(false);
    finishSync();
    await Promise.all([first, second]);
    expect(order).toEqual(["first", "second"]);
  });

  test("what was synced survives any crash, at every operation", () => {
    let crashes = 0;
    for (let point = 1; ; point++) {
      const world = new World(new SimulatedStorage({ seed: point }));
      const durable: EncodedChunk[] = [];
      let crashed = false;
      world.storage.crashAt({ count: point });
      try {
        const store = world.open({ packSizeMax: 3000 });
        for (let seed = 0; seed < 8; seed++) {
          const chunks = [chunkOf(seed), chunkOf(seed + 100)];
          for (const chunk of chunks) world.append(store, chunk);
          store.syncSync();
          durable.push(...chunks);
        }
      } catch {
        crashed = world.storage.isCrashed;
      }
      world.storage.reboot();
      const copy = new World(world.storage);
      for (const { id } of durable) copy.index.set(idKey(id), world.index.get(idKey(id))!);
      const store = copy.open();
      for (const { id, bytes } of durable) {
        const chunk = copy.handles.intern(id);
        expect(store.readPage({ chunk, slot: 0 }, 512)).toEqual(bytes.subarray(64, 576));
      }
      const handle = copy.append(store, chunkOf(77));
      expect(store.readPage({ chunk: handle, slot: 0 }, 512)[3]).toBe(77);
      if (!crashed) break;
      crashes++;
    }
    expect(crashes).toBeGreaterThan(30);
  });

  test.each(["write", "sync"] as const)(
    "after a failed %s nothing is written, reading goes on",
    (kind) => {
      const world = new World();
      const store = world.open();
      const handle = world.append(store, chunkOf(1));
      store.syncSync();
      world.storage.failAt({ kinds: [kind], count: 1, systemCode: "EIO" });
      expect(
        errorOf(() => {
          store.append(chunkOf(2));
          store.syncSync();
        }).code,
      ).toBe("IO");
      world.storage.clearFaults();
      expect(errorOf(() => store.append(chunkOf(3))).code).toBe("STORE_FAILED");
      expect(errorOf(() => store.syncSync()).code).toBe("STORE_FAILED");
      expect(store.readPage({ chunk: handle, slot: 0 }, 512)[3]).toBe(1);
    },
  );

  test("a closed store writes and reads nothing", async () => {
    const store = new World().open();
    store.append(chunkOf(1));
    store.close();
    store.close();
    expect(errorOf(() => store.append(chunkOf(2))).code).toBe("STORE_CLOSED");
    const chunk = new ChunkHandles().intern(chunkOf(1).id);
    chunk.location = { pack: 1, offset: 40, length: 1096 };
    expect(errorOf(() => store.readPage({ chunk, slot: 0 }, 512)).code).toBe("STORE_CLOSED");
    await expect(store.sync()).rejects.toMatchObject({ code: "STORE_CLOSED" });
  });
});

describe("damage in the chunk store", () => {
  function oneChunk(): { world: World; handle: ChunkHandle; location: ChunkLocation } {
    const world = new World();
    const store = world.open();
    const handle = world.append(store, chunkOf(1));
    store.syncSync();
    store.close();
    return { world, handle, location: world.index.get(handle.key)! };
  }

  function expectCorrupt(
    world: World,
    handle: ChunkHandle,
    message: RegExp,
    slot = 0,
    pageSize = 512,
  ): void {
    handle.location = null;
    const error = errorOf(() => world.open().readPage({ chunk: handle, slot }, pageSize));
    expect(error.code).toBe("CORRUPT_CHUNK");
    expect(error.message).toMatch(message);
  }

  test("every flipped bit of a pack is found, but in the padding", () => {
    const { world, handle } = oneChunk();
    for (let bit = 0; bit < (40 + 1096) * 8; bit += 5) {
      world.storage.flipBit("chunks/00000001.pack", bit);
      expectCorrupt(
        world,
        handle,
        /Cannot read (pack "chunks|chunk [0-9a-f]{32} in "chunks)\/00000001.pack/,
      );
      world.storage.flipBit("chunks/00000001.pack", bit);
    }
  });

  test.each([0, 39, 40, 100, 1135])("a pack cut at %i is found", (size) => {
    const { world, handle } = oneChunk();
    world.storage.truncateFile("chunks/00000001.pack", size);
    expectCorrupt(world, handle, /00000001.pack/);
  });

  test("a missing pack, a missing index entry and an impossible length are damage", () => {
    const { world, handle, location } = oneChunk();
    world.index.set(handle.key, { ...location, pack: 5 });
    expectCorrupt(world, handle, /pack "chunks\/00000005.pack" is missing/);
    world.index.set(handle.key, { ...location, length: 2 ** 40 });
    expectCorrupt(world, handle, /its length is/);
    world.index.delete(handle.key);
    expectCorrupt(world, handle, /the chunk index does not have it/);
  });

  test("a slot past the end or of another page size is damage, not an empty page", () => {
    const { world, handle } = oneChunk();
    expectCorrupt(world, handle, /slot 2 of 2 is past its end/, 2);
    expectCorrupt(world, handle, /its pages have 512 bytes instead of 4096/, 0, 4096);
  });
});

describe("pack header", () => {
  const header = { storeId, number: 7 };

  test("golden bytes", () => {
    expect(Buffer.from(encodePackHeader(header)).toString("hex")).toBe(
      "4250414b01000000" +
        "000102030405060708090a0b0c0d0e0f" +
        "0700000000000000" +
        "e6e45fdc80b56216",
    );
    expect(packPath(7)).toBe("chunks/00000007.pack");
    expect([
      packNumber("00000007.pack"),
      packNumber("7.pack"),
      packNumber("00000007.pack.new"),
    ]).toEqual([7, null, null]);
  });

  test("every single-bit flip, every truncation, another store and another number are refused", () => {
    const bytes = encodePackHeader(header);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = bytes.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      expect(errorOf(() => checkPackHeader(damaged, header)).code, `bit ${bit}`).toBe(
        "CORRUPT_CHUNK",
      );
    }
    for (let size = 0; size < bytes.length; size++) {
      expect(errorOf(() => checkPackHeader(bytes.subarray(0, size), header)).code).toBe(
        "CORRUPT_CHUNK",
      );
    }
    expect(errorOf(() => checkPackHeader(bytes, { ...header, number: 8 })).message).toMatch(
      /it is pack 7/,
    );
    expect(
      errorOf(() => checkPackHeader(bytes, { ...header, storeId: new Uint8Array(16) })).message,
    ).toMatch(/another store/);
  });
});

describe("chunk handles", () => {
  test("one handle per id, found by its key, with an id of its own", () => {
    const handles = new ChunkHandles();
    const bytes = Buffer.from("00112233445566778899aabbccddeeff00", "hex");
    const handle = handles.intern(bytes, 1);
    expect(handles.intern(bytes.subarray(1))).toBe(handle);
    expect(handles.find(handle.key)).toBe(handle);
    expect(handles.find("x")).toBeNull();
    bytes.fill(0);
    expect(handle.name).toBe("112233445566778899aabbccddeeff00");
    expect(() => handles.intern(bytes, 2)).toThrow(/16 bytes/);
  });
});
