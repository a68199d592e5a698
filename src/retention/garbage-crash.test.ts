/** Power loss at the writes, syncs and deletions of a garbage collection: the store opens, and holds what it held. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { CatalogBatch } from "../catalog/catalog.ts";
import { type DecodedChunk, encodeChunk } from "../page/chunk-format.ts";
import { Codec } from "../page/compression.ts";
import { openStore, type Store } from "../store/store.ts";
import { Random } from "../testing/random.ts";
import type { OperationKind } from "../testing/simulated-faults.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const CHANGING: readonly OperationKind[] = [
  "create",
  "write",
  "sync",
  "truncate",
  "rename",
  "delete",
  "syncDirectory",
];
const DAY_MS = 24 * 3_600_000;
const OUTCOMES = isLong ? 4 : 1;

interface Prepared {
  readonly disk: SimulatedStorage;
  readonly clock: number;
  /** By revision, of what the policy keeps for ever. */
  readonly kept: ReadonlyMap<string, string>;
}

function open(disk: SimulatedStorage, clock: { now: number }, key: string | null): Store {
  return openStore("", {
    backend: "memory",
    storage: disk,
    checkpointBytes: 1 << 30,
    logSegmentBytes: 32 * 1024,
    transactionBytesMax: 8 * 512,
    chunkPages: 4,
    gc: "off",
    now: () => (clock.now += 10),
    ...(key === null ? {} : { key }),
  });
}

function hashOf(store: Store, revision: string): string {
  using connection = store.connect(revision);
  return createHash("sha256").update(connection.serialize()).digest("hex");
}

/** A store in which a collection deletes rows, nodes, packs and history, and moves chunks, some with holes. */
function prepare(key: string | null): Prepared {
  const disk = new SimulatedStorage();
  const clock = { now: 1_000_000_000_000 };
  let store = open(disk, clock, key);
  const random = new Random(5);
  store.createDatabase("shop", { pageSize: 512 });
  const revisions = ["shop"];
  const write = (revision: string, ids: readonly number[]): void => {
    using connection = store.connect(revision);
    connection.exec("BEGIN; CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, value)");
    const insert = connection.prepare("INSERT OR REPLACE INTO t VALUES (?, ?)");
    for (const id of ids) insert.run(id, random.bytes(300));
    connection.exec("COMMIT");
  };
  const all = Array.from({ length: 40 }, (_, index) => index + 1);
  write("shop", all);
  store.checkpoint();
  for (let round = 0; round < 4; round++) {
    write(
      "shop",
      all.filter((id) => id % 3 !== round % 3),
    );
    write("shop", [1, 2]);
    store.close(); // The next one writes to another pack.
    store = open(disk, clock, key);
    if (round === 1) {
      store.database("shop").createTag("half");
      revisions.push("shop@half");
    }
  }
  const shop = store.database("shop");
  shop.createBranch("gone");
  write("shop/gone", all);
  store.checkpoint();
  shop.branch("gone").delete();
  clock.now += 100 * DAY_MS;
  write("shop", [3, 4, 5]);
  store.checkpoint();
  write("shop", [6]);
  const kept = new Map(revisions.map((revision) => [revision, hashOf(store, revision)]));
  return { disk: disk.copyAfterCrash(random), clock: clock.now, kept };
}

function expectKept(store: Store, kept: ReadonlyMap<string, string>, label: string): void {
  for (const [revision, hash] of kept)
    expect(hashOf(store, revision), `${revision}, ${label}`).toBe(hash);
}

describe("power loss in a collection", () => {
  for (const [name, key, stride] of [
    ["a plain store", null, 1],
    ["an encrypted store", "ab".repeat(32), isLong ? 1 : 4],
  ] as const) {
    test(`leaves ${name} whole at any operation`, { timeout: 600_000 }, async () => {
      const prepared = prepare(key);
      const whole = prepared.disk.copyAfterCrash(new Random(1));
      const clock = { now: prepared.clock };
      const store = open(whole, clock, key);
      whole.clearTrace();
      const report = store.gc();
      expect(report.packs.count).toBeGreaterThan(2);
      expect(report.packs.holes).toBeGreaterThan(0);
      expect(report.nodes.count).toBeGreaterThan(0);
      expectKept(store, prepared.kept, "without a crash");
      const count = whole.countOf(...CHANGING);
      store.close();
      expect(count).toBeGreaterThan(20);
      for (let operation = 1; operation <= count; operation += stride) {
        for (let outcome = 0; outcome < OUTCOMES; outcome++)
          await crashAt(prepared, { key, operation, outcome });
      }
    });
  }
});

async function crashAt(
  prepared: Prepared,
  { key, operation, outcome }: { key: string | null; operation: number; outcome: number },
): Promise<void> {
  const label = `crash at ${operation}, outcome ${outcome}`;
  const random = new Random(operation * 1009 + outcome);
  const clock = { now: prepared.clock };
  let disk = prepared.disk.copyAfterCrash(random);
  const crashing = open(disk, clock, key);
  disk.crashAt({ kinds: CHANGING, count: operation });
  expect(() => crashing.gc(), label).toThrow();
  disk = disk.copyAfterCrash(random);
  const store = open(disk, clock, key);
  expectKept(store, prepared.kept, label);
  const { ok, problems } = await store.check({ deep: isLong });
  expect({ ok, problems }, label).toEqual({ ok: true, problems: [] });
  store.gc();
  expectKept(store, prepared.kept, `${label}, collected again`);
  expect(store.gc().freedBytes, label).toBe(0);
  store.close();
}

describe("a record in the log that refers to chunks", () => {
  for (const [name, present] of [
    ["has moved", undefined],
    ["has holes there, and is whole where the record says (V2)", 1n],
  ] as const) {
    test(`is replayed when the catalog knows that a chunk ${name}`, async () => {
      const clock = { now: 1_000_000_000_000 };
      const disk = new SimulatedStorage();
      const store = open(disk, clock, null);
      store.createDatabase("shop", { pageSize: 512 });
      const random = new Random(7);
      using connection = store.connect("shop");
      connection.pragma("cache_size=4");
      connection.exec("BEGIN; CREATE TABLE t(id INTEGER PRIMARY KEY, value)");
      const insert = connection.prepare("INSERT INTO t VALUES (?, ?)");
      for (let id = 1; id <= 30; id++) insert.run(id, random.bytes(300));
      connection.exec("COMMIT");
      const hash = hashOf(store, "shop");
      const { state } = store.engine;
      expect(state.pending.chunks.size).toBeGreaterThan(5);
      const batch = new CatalogBatch();
      for (const { id, location } of state.pending.chunks.values()) {
        const { slotCount, page, pageSize } = shapeOf(state.chunks.readChunk(id, location!));
        const encoded =
          present === undefined
            ? { id, bytes: Uint8Array.from(state.chunks.readStored(id, location!)) }
            : encodeChunk({
                pages: page,
                pageSize,
                codec: Codec.lz4,
                cipher: null,
                holes: { id, slotCount, present },
              });
        const place = { ...state.chunks.append(encoded), slotCount };
        batch.putChunk(id, present === undefined ? place : { ...place, present });
      }
      state.chunks.syncSync();
      batch.commit(state.catalog.store);
      const again = open(disk.copyAfterCrash(random), clock, null);
      expect(hashOf(again, "shop")).toBe(hash);
      expect(again.engine.state.pending.chunks.size > 0).toBe(present !== undefined);
      again.gc();
      expect(hashOf(again, "shop")).toBe(hash);
      const { problems } = await again.check({ deep: true });
      expect(problems).toEqual([]);
      again.close();
    });
  }
});

function shapeOf(chunk: DecodedChunk): { slotCount: number; page: Uint8Array; pageSize: number } {
  return { slotCount: chunk.slotCount, page: chunk.page(0)!, pageSize: chunk.pageSize };
}
