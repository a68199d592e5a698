import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import {
  Catalog,
  CATALOG_FORMAT_VERSION,
  CatalogBatch,
  type CheckpointedTimeline,
  hasSlot,
  type StoredRoot,
} from "./catalog.ts";
import { type KeyValueStore, WriteBatch } from "./key-value.ts";
import { openMemoryKeyValue } from "./memory-key-value.ts";
import type { BranchRow, DatabaseRow, TagRow } from "./rows.ts";

let store: KeyValueStore;
let catalog: Catalog;

beforeEach(() => {
  store = openMemoryKeyValue(new SimulatedStorage(), "catalog");
  catalog = new Catalog(store);
});
afterEach(() => store.close());

function put(fill: (batch: CatalogBatch) => void): void {
  const batch = new CatalogBatch();
  fill(batch);
  batch.commit(store);
}

/** Every record, as "key value" in hex. */
function records(): string[] {
  const all = store.range({ start: new Uint8Array(0), end: Uint8Array.of(255) });
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  return Array.from(all, ({ key, value }) => `${hex(key)} ${hex(value)}`);
}

const database: DatabaseRow = {
  id: 1,
  name: "shop",
  pageSize: 4096,
  createdAtMs: 10,
  deletedAtMs: null,
  nextVersion: 121,
  nextBranchId: 3,
  nextTimelineId: 4,
  lastTimestampMs: 99,
};
const branch: BranchRow = {
  id: 2,
  databaseId: 1,
  name: "feature/ä",
  parentBranchId: 1,
  createdAtMs: 11,
  deletedAtMs: 12,
  isProtected: true,
  expiresAtMs: 13,
  history: [
    { timeline: 2, afterVersion: 0, atMs: 0 },
    { timeline: 3, afterVersion: 120, atMs: 50 },
  ],
};
const tag: TagRow = {
  databaseId: 1,
  name: "v1",
  target: { timeline: 2, version: 7 },
  createdAtMs: 14,
};
const nodeId = Uint8Array.from({ length: 16 }, (_, index) => 0xf0 + index);
const root: StoredRoot = { nodeId, levels: 3, pageCount: 5000 };
const timeline: CheckpointedTimeline = {
  row: { id: 3, databaseId: 1, parent: { timeline: 1, version: 6 }, createdAtMs: 15 },
  headVersion: 120,
  headTimestampMs: 16,
  root,
};

describe("catalog records", () => {
  test("golden keys and values of every table", () => {
    put((batch) => {
      batch.setState({
        formatVersion: 1,
        checkpointLsn: 8,
        nextDatabaseId: 2,
        nextHistorySegment: 5,
      });
      batch.putDatabase(database);
      batch.putBranch(branch);
      batch.putTimeline(timeline);
      batch.putTag(tag);
      batch.putCommit(1, 3, {
        version: 2 ** 33 + 1,
        timestampMs: 2 ** 40,
        pageCount: 9,
        changedPages: 2,
      });
      batch.putRoot(1, 3, { version: 120, root, historySegment: 4 });
      batch.putNode(nodeId, Uint8Array.of(1, 2, 3));
      batch.putChunk(nodeId, { pack: 7, offset: 2 ** 33, length: 4711 });
      batch.putPage(nodeId, { chunkId: nodeId, slot: 63 });
      batch.putHistory({ segment: 4, databaseId: 1, size: 2 ** 34 });
    });
    const id = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";
    const json = (value: object): string => Buffer.from(JSON.stringify(value)).toString("hex");
    const expected = [
      [
        "01",
        json({ formatVersion: 1, checkpointLsn: 8, nextDatabaseId: 2, nextHistorySegment: 5 }),
      ],
      ["02" + "00000001", json(database)],
      ["03" + "00000001" + "00000002", json(branch)],
      ["04" + "00000001" + "00000003", json({ ...timeline, root: { ...root, nodeId: id } })],
      ["05" + "00000001" + "7631", json(tag)],
      [
        "06" + "00000001" + "00000003" + "0000000200000001",
        "0000010000000000" + "00000009" + "00000002",
      ],
      [
        "07" + "00000001" + "00000003" + "0000000000000078",
        "00001388" + "03" + "01" + id + "00000004",
      ],
      ["08" + id, "010203"],
      ["09" + id, "00000007" + "0000000200000000" + "00001267"],
      ["0a" + id, id + "3f"],
      ["0b" + "00000004", "00000001" + "0000000400000000"],
    ];
    const withoutCheck = records().map((record) => {
      const [key = "", value = ""] = record.split(" ");
      return [key, key.startsWith("08") ? value : value.slice(0, -16)];
    });
    expect(withoutCheck).toEqual(expected);
  });

  test("a chunk's slots and holes, and a segment's references, follow what older rows have", () => {
    const place = { pack: 7, offset: 2 ** 33, length: 4711 };
    const other = Uint8Array.from(nodeId, (byte) => byte ^ 0xff);
    const holes = { ...place, slotCount: 64, present: (1n << 63n) | 2n };
    put((batch) => {
      batch.putChunk(nodeId, { ...place, slotCount: 12 });
      batch.putChunk(other, holes);
      batch.putHistory({ segment: 4, databaseId: 1, size: 2 ** 34, references: 9 });
    });
    const values = records().map((record) => (record.split(" ")[1] ?? "").slice(0, -16));
    expect(values).toEqual([
      "00000007" + "0000000200000000" + "00001267" + "40" + "8000000000000002",
      "00000007" + "0000000200000000" + "00001267" + "0c",
      "00000001" + "0000000400000000" + "00000009",
    ]);
    expect(catalog.chunk(nodeId)).toEqual({ ...place, slotCount: 12 });
    expect(catalog.chunk(other)).toEqual(holes);
    expect([0, 1, 62, 63].map((slot) => hasSlot(holes, slot))).toEqual([false, true, false, true]);
    expect(hasSlot(place, 5)).toBe(true);
    expect([...catalog.historySegments()]).toEqual([
      { segment: 4, databaseId: 1, size: 2 ** 34, references: 9 },
    ]);
  });

  test("rows are read as they were written", () => {
    put((batch) => {
      batch.putDatabase(database);
      batch.putBranch(branch);
      batch.putTimeline(timeline);
      batch.putTimeline({ ...timeline, row: { ...timeline.row, id: 4 }, root: null });
      const empty = { nodeId: null, levels: 0, pageCount: 0 };
      batch.putTimeline({ ...timeline, row: { ...timeline.row, id: 5 }, root: empty });
      batch.putTag(tag);
      batch.putTag({ ...tag, name: "v2" });
      batch.putHistory({ segment: 4, databaseId: 1, size: 2 ** 34 });
    });
    expect(catalog.databases()).toEqual([database]);
    expect(catalog.branches()).toEqual([branch]);
    expect(catalog.timelines().map((row) => row.root)).toEqual([
      root,
      null,
      { nodeId: null, levels: 0, pageCount: 0 },
    ]);
    expect(catalog.timelines()[0]).toEqual(timeline);
    expect(catalog.tags().map(({ name }) => name)).toEqual(["v1", "v2"]);
    expect([...catalog.historySegments()]).toEqual([{ segment: 4, databaseId: 1, size: 2 ** 34 }]);
    put((batch) => batch.deleteTag(1, "v1"));
    expect(catalog.tags().map(({ name }) => name)).toEqual(["v2"]);
  });

  test("any commit, root, chunk and page is read as it was written", () => {
    const u32 = fc.nat(0xffff_ffff);
    const id = fc.uint8Array({ minLength: 16, maxLength: 16 });
    const version = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER - 1 });
    fc.assert(
      fc.property(u32, u32, version, fc.maxSafeNat(), u32, id, fc.boolean(), (...values) => {
        const [databaseId, timelineId, number, large, small, bytes, isEmpty] = values;
        const commit = {
          version: number,
          timestampMs: large,
          pageCount: small,
          changedPages: small,
        };
        const rootRow = {
          version: number,
          root: { nodeId: isEmpty ? null : bytes, levels: small % 7, pageCount: small },
          historySegment: small,
        };
        const place = { pack: small, offset: large, length: small };
        put((batch) => {
          batch.putCommit(databaseId, timelineId, commit);
          batch.putRoot(databaseId, timelineId, rootRow);
          batch.putChunk(bytes, place);
          batch.putPage(bytes, { chunkId: bytes, slot: small % 64 });
        });
        const range = { from: number, to: number };
        expect([...catalog.commits(databaseId, timelineId, range)]).toEqual([commit]);
        expect([...catalog.roots(databaseId, timelineId, range)]).toEqual([rootRow]);
        expect(catalog.chunk(bytes)).toEqual(place);
        expect(catalog.page(bytes)).toEqual({ chunkId: bytes, slot: small % 64 });
      }),
    );
  });

  test("commits of one timeline come in order, within their range, and none of another", () => {
    put((batch) => {
      for (const version of [1, 2, 255, 256, 300])
        for (const [databaseId, timelineId] of [
          [1, 1],
          [1, 2],
          [2, 1],
        ] as const)
          batch.putCommit(databaseId, timelineId, {
            version,
            timestampMs: databaseId * 10 + timelineId,
            pageCount: 1,
            changedPages: 1,
          });
    });
    const versions = (range: { from: number; to: number; reverse?: boolean; limit?: number }) =>
      Array.from(catalog.commits(1, 2, range), ({ version, timestampMs }) => {
        expect(timestampMs).toBe(12);
        return version;
      });
    expect(versions({ from: 0, to: Infinity })).toEqual([1, 2, 255, 256, 300]);
    expect(versions({ from: 2, to: 256 })).toEqual([2, 255, 256]);
    expect(versions({ from: 2, to: 256, reverse: true })).toEqual([256, 255, 2]);
    expect(versions({ from: 0, to: 299, reverse: true, limit: 1 })).toEqual([256]);
    expect(versions({ from: 3, to: 254 })).toEqual([]);
    expect(versions({ from: 5, to: 4 })).toEqual([]);
  });

  test("every single-bit flip in any sealed record is an error wherever it is read", () => {
    put((batch) => {
      batch.setState({
        formatVersion: 1,
        checkpointLsn: 8,
        nextDatabaseId: 2,
        nextHistorySegment: 5,
      });
      batch.putDatabase(database);
      batch.putBranch(branch);
      batch.putTimeline(timeline);
      batch.putTag(tag);
      batch.putCommit(1, 3, { version: 5, timestampMs: 6, pageCount: 9, changedPages: 2 });
      batch.putRoot(1, 3, { version: 5, root, historySegment: 4 });
      batch.putChunk(nodeId, { pack: 7, offset: 2 ** 33, length: 4711 });
      batch.putPage(nodeId, { chunkId: nodeId, slot: 63 });
      batch.putHistory({ segment: 4, databaseId: 1, size: 2 ** 34 });
    });
    const all = [...store.range({ start: new Uint8Array(0), end: Uint8Array.of(255) })].map(
      ({ key, value }) => ({ key: new Uint8Array(key), value: new Uint8Array(value) }),
    );
    expect(all).toHaveLength(10);
    for (const { key, value } of all) {
      for (let bit = 0; bit < value.length * 8; bit += 3) {
        const damaged = value.slice();
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        replace(key, damaged);
        expect(readEverything, `table ${key[0]} bit ${bit}`).toThrow(
          expect.objectContaining({ code: "CORRUPT_CATALOG" }),
        );
      }
      replace(key, value);
    }
    expect(readEverything).not.toThrow();
  });

  test("a format version from the future is refused", () => {
    put((batch) =>
      batch.setState({
        formatVersion: CATALOG_FORMAT_VERSION + 1,
        checkpointLsn: 0,
        nextDatabaseId: 1,
        nextHistorySegment: 1,
      }),
    );
    expect(() => catalog.state()).toThrow(
      expect.objectContaining({
        code: "STORE_FORMAT",
        message:
          "Cannot open the catalog: its format version is 2, this bough reads up to 1; use a newer bough",
      }),
    );
  });

  test("what is not there is undefined, and no state is null", () => {
    expect(catalog.state()).toBeNull();
    expect(catalog.chunk(nodeId)).toBeUndefined();
    expect(catalog.page(nodeId)).toBeUndefined();
    expect(catalog.node(nodeId)).toBeUndefined();
  });
});

function replace(key: Uint8Array, value: Uint8Array): void {
  const batch = new WriteBatch();
  batch.put(key, value);
  store.commit(batch);
}

function readEverything(): void {
  catalog.state();
  catalog.databases();
  catalog.branches();
  catalog.timelines();
  catalog.tags();
  for (const row of catalog.commits(1, 3, { from: 0, to: Infinity })) void row;
  for (const row of catalog.roots(1, 3, { from: 0, to: Infinity })) void row;
  catalog.chunk(nodeId);
  catalog.page(nodeId);
  for (const row of catalog.historySegments()) void row;
}
