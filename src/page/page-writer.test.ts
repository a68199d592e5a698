import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { encodeChunk } from "./chunk-format.ts";
import { ChunkHandles, type ChunkLocation, type ChunkReference, idKey } from "./chunk-handle.ts";
import { ChunkStore } from "./chunk-store.ts";
import { Codec } from "./compression.ts";
import { pageHash } from "./page-hash.ts";
import { PageWriter, type PageWriterOptions, PendingPages } from "./page-writer.ts";
import { WriteBarrier } from "./write-barrier.ts";

const PAGE_SIZE = 512;

/** A chunk store with an index in memory. */
class World {
  readonly storage = new SimulatedStorage();
  readonly handles = new ChunkHandles();
  readonly pending = new PendingPages();
  readonly pages = new Map<string, { chunkId: Uint8Array; slot: number }>();
  readonly places = new Map<string, ChunkLocation>();
  readonly chunks = ChunkStore.open({
    storage: this.storage,
    storeId: new Uint8Array(16),
    cipher: null,
    handles: this.handles,
    locate: (id) => this.locate(id),
    cacheBytesMax: 0,
  });

  locate(id: Uint8Array): ChunkLocation | undefined {
    return this.handles.intern(id).location ?? this.places.get(idKey(id));
  }

  writer(changes: Partial<PageWriterOptions> = {}): PageWriter {
    return new PageWriter({
      chunks: this.chunks,
      handles: this.handles,
      pending: this.pending,
      barrier: new WriteBarrier(),
      index: { find: (hash) => this.pages.get(idKey(hash)) },
      locate: (id) => this.locate(id),
      cipher: null,
      codec: Codec.lz4,
      pageSize: PAGE_SIZE,
      chunkPages: 4,
      ...changes,
    });
  }

  /** What a checkpoint does. */
  index(): void {
    for (const [key, handle] of this.pending.chunks) this.places.set(key, handle.location!);
    for (const [key, { chunk, slot }] of this.pending.pages)
      this.pages.set(key, { chunkId: chunk.id, slot });
    this.pending.clear();
  }

  read(reference: ChunkReference): Uint8Array {
    return this.chunks.readPage(reference, PAGE_SIZE);
  }
}

function pageOf(seed: number): Uint8Array {
  return new Random(seed).bytes(PAGE_SIZE);
}

describe("page writer", () => {
  test("any pages are read from where it says, each distinct one stored once", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(20), { maxLength: 60 }),
        fc.integer({ min: 1, max: 64 }),
        (seeds, chunkPages) => {
          const world = new World();
          const writer = world.writer({ chunkPages });
          const found: (ChunkReference | undefined)[] = seeds.map(() => undefined);
          for (const [index, seed] of seeds.entries()) {
            const isFull = writer.add(pageOf(seed), (reference) => (found[index] = reference));
            if (isFull) writer.flushSync();
          }
          writer.flushSync();
          const distinct = new Set(seeds).size;
          expect([writer.pagesWritten, writer.pagesShared]).toEqual([
            distinct,
            seeds.length - distinct,
          ]);
          expect(world.pending.pages.size).toBe(distinct);
          for (const [index, seed] of seeds.entries())
            expect(Buffer.compare(world.read(found[index]!), pageOf(seed))).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("asynchronously it stores the same, and finish waits for all", async () => {
    const world = new World();
    const writer = world.writer();
    const found = new Map<number, ChunkReference>();
    for (let seed = 0; seed < 101; seed++)
      if (writer.add(pageOf(seed % 90), (reference) => found.set(seed, reference)))
        await writer.flush();
    await writer.finish();
    expect(found.size).toBe(101);
    expect(writer.pagesWritten).toBe(90);
    for (const [seed, reference] of found)
      expect(Buffer.compare(world.read(reference), pageOf(seed % 90))).toBe(0);
  });

  test("a chunk that has holes by now is stored again, whole, when another writer ends up with the same (W4)", () => {
    const world = new World();
    const writers = [world.writer(), world.writer()];
    const found = new Map<number, ChunkReference>();
    for (const writer of writers)
      for (const seed of [1, 2, 3])
        writer.add(pageOf(seed), (reference) => found.set(seed, reference));
    writers[0]!.flushSync();
    world.index();
    const { chunk } = found.get(1)!;
    const holes = { id: chunk.id, slotCount: 3, present: 0b010n };
    const options = { pageSize: PAGE_SIZE, codec: Codec.lz4, cipher: null, holes };
    const encoded = encodeChunk({ ...options, pages: pageOf(2) });
    const place = { ...world.chunks.append(encoded), slotCount: 3, present: holes.present };
    world.places.set(chunk.key, place);
    world.chunks.relocate(chunk, place);
    expect(() => world.read(found.get(1)!)).toThrow("is a hole");
    writers[1]!.flushSync();
    expect(world.pending.chunks.get(chunk.key)).toBe(chunk);
    expect(chunk.location).toMatchObject({ slotCount: 3 });
    expect(chunk.location?.present).toBeUndefined();
    for (const seed of [1, 2, 3])
      expect(Buffer.compare(world.read(found.get(seed)!), pageOf(seed))).toBe(0);
  });

  test("tells the write barrier of every reference before it hands it out", () => {
    const world = new World();
    const barrier = new WriteBarrier();
    const told = new Set<string>();
    barrier.marks = {
      page: (id, slot) => void told.add(`${idKey(id)}/${slot}`),
      chunk: (id) => {
        for (let slot = 0; slot < 64; slot++) told.add(`${idKey(id)}/${slot}`);
      },
      node: () => expect.fail("a writer of pages makes no nodes"),
    };
    const receive = ({ chunk, slot }: ChunkReference): void =>
      expect(told.has(`${chunk.key}/${slot}`)).toBe(true);
    world.writer({ barrier }).add(pageOf(0), receive);
    for (let round = 0; round < 3; round++) {
      const writer = world.writer({ barrier });
      for (let seed = 0; seed < 10; seed++)
        if (writer.add(pageOf(seed), receive)) writer.flushSync();
      writer.flushSync();
      if (round === 1) world.index();
      told.clear(); // A new cycle: what is found in the index, or among what is pending, is told again.
    }
    expect.assertions(31 - 1);
  });

  test("copies the pages it is given", () => {
    const world = new World();
    const writer = world.writer();
    const page = pageOf(1);
    let found: ChunkReference | undefined;
    writer.add(page, (reference) => (found = reference));
    page.fill(0);
    writer.flushSync();
    expect(world.read(found!)).toEqual(pageOf(1));
  });

  test("finds pages of earlier runs, with the place of their chunk", () => {
    const world = new World();
    const first = world.writer();
    first.add(pageOf(1), () => {});
    first.flushSync();
    world.index();
    // As after a reopen: nobody knows where the chunk is but the index.
    const reopened = new ChunkHandles();
    const found: ChunkReference[] = [];
    const second = world.writer({
      handles: reopened,
      locate: (id) => world.places.get(idKey(id)),
    });
    second.add(pageOf(1), (reference) => found.push(reference));
    expect(second.pagesShared).toBe(1);
    expect(found[0]!.chunk.location).not.toBeNull();
  });

  test("stores a page again whose chunk the index does not know", () => {
    const world = new World();
    const hash = pageHash(pageOf(1), null);
    world.pages.set(idKey(hash), { chunkId: new Uint8Array(16).fill(9), slot: 0 });
    const writer = world.writer();
    let found: ChunkReference | undefined;
    writer.add(pageOf(1), (reference) => (found = reference));
    writer.flushSync();
    expect(world.read(found!)).toEqual(pageOf(1));
  });

  test("leaves the place that another writer gave a page meanwhile", () => {
    const world = new World();
    const one = world.writer();
    const other = world.writer();
    one.add(pageOf(1), () => {});
    other.add(pageOf(2), () => {});
    other.add(pageOf(1), () => {});
    one.flushSync();
    const key = idKey(pageHash(pageOf(1), null));
    const first = world.pending.pages.get(key)!;
    other.flushSync();
    expect(world.pending.pages.get(key)).toBe(first);
  });

  test("a failed write is thrown where it is awaited, and ends no process", async () => {
    const world = new World();
    const writer = world.writer();
    for (let seed = 0; seed < 4; seed++) writer.add(pageOf(seed), () => {});
    world.storage.failAt({ kinds: ["write"], count: 1, systemCode: "ENOSPC", forever: true });
    await writer.flush();
    // Long enough for the failure to happen while nobody waits for it.
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    await expect(writer.finish()).rejects.toMatchObject({ code: "DISK_FULL" });
  });

  test("a chunk holds at most 64 pages", () => {
    expect(() => new World().writer({ chunkPages: 65 })).toThrow("A chunk has at most 64 pages");
  });
});
