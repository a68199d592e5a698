import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openNodeStorage } from "../storage/node-storage.ts";
import { describeKeyValue } from "../testing/key-value-conformance.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { CatalogBatch } from "./catalog.ts";
import { scanCatalog } from "./catalog-scan.ts";
import { KEY_SIZE_MAX } from "./key-order.ts";
import { WriteBatch } from "./key-value.ts";
import { openLmdb } from "./lmdb-key-value.ts";
import { openMemoryKeyValue } from "./memory-key-value.ts";
import { MARK_KEY, RecordingKeyValueStore } from "./recording-key-value.ts";
import type { CatalogMark } from "./run-format.ts";

/** A key that the suite has in none of its ranges: it uses [0x00] as one of its own. */
const markKey: Uint8Array = new Uint8Array(KEY_SIZE_MAX).fill(0xff);

describeKeyValue("recording, over memory,", () => {
  const storage = new SimulatedStorage();
  const open = (): RecordingKeyValueStore =>
    new RecordingKeyValueStore(openMemoryKeyValue(storage, "catalog"), { markKey });
  return { open, cleanUp() {} };
});

describeKeyValue("recording, over lmdb,", () => {
  const directory = fs.mkdtempSync(join(tmpdir(), "bough-recording-"));
  const storage = openNodeStorage(directory);
  return {
    open: () => new RecordingKeyValueStore(openLmdb(storage, "catalog"), { markKey }),
    cleanUp: () => fs.rmSync(directory, { recursive: true }),
  };
});

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function putting(key: string, value = "x"): WriteBatch {
  const batch = new WriteBatch();
  batch.put(text(key), text(value));
  return batch;
}

test("N1, N2: every batch has a number, one more than the one before, and is found under it after reopening", () => {
  const storage = new SimulatedStorage();
  let store = new RecordingKeyValueStore(openMemoryKeyValue(storage, "catalog"));
  expect(store.mark()).toBeNull();
  const nonces = new Set<string>();
  for (let sequence = 1; sequence <= 6; sequence++) {
    store.commit(putting("a"));
    const mark = store.mark();
    expect(mark?.sequence).toBe(sequence);
    nonces.add(Buffer.from(mark?.nonce ?? []).toString("hex"));
    if (sequence === 3) {
      store = new RecordingKeyValueStore(openMemoryKeyValue(storage, "catalog"));
      expect(store.mark()).toEqual(mark);
    }
    store.commit(new WriteBatch());
    expect(store.mark()).toEqual(mark);
  }
  expect(nonces.size).toBe(6);
});

test("the row of the mark is [0x00] with number, random bytes and checksum; damage is CORRUPT_CATALOG", () => {
  const storage = new SimulatedStorage();
  const inner = openMemoryKeyValue(storage, "catalog");
  const store = new RecordingKeyValueStore(inner);
  store.commit(putting("a"));
  const row = inner.get(Uint8Array.of(0))!;
  expect(row).toHaveLength(24);
  expect(Buffer.from(row.subarray(0, 8)).toString("hex")).toBe("0000000000000001");
  expect(row.subarray(8, 16)).toEqual(store.mark()?.nonce);
  for (let bit = 0; bit < row.length * 8; bit++) {
    const damaged = new Uint8Array(row);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    const batch = new WriteBatch();
    batch.put(MARK_KEY, damaged);
    inner.commit(batch);
    expect(() => new RecordingKeyValueStore(inner).mark(), `bit ${bit}`).toThrow(
      expect.objectContaining({ code: "CORRUPT_CATALOG" }),
    );
  }
});

test("N3: the listener hears of a batch with its mark before it is committed, and again after", () => {
  const inner = openMemoryKeyValue(new SimulatedStorage(), "catalog");
  const store = new RecordingKeyValueStore(inner);
  const heard: string[] = [];
  let before: CatalogMark | null = null;
  store.listener = {
    onBatch: (operations, mark, previous) => {
      expect(previous).toEqual(before);
      const keys = operations.map(({ key }) => Buffer.from(key).toString("hex"));
      heard.push(`${keys.join()} ${mark.sequence} ${inner.get(text("a")) === undefined}`);
    },
    onCommitted: (mark) => {
      heard.push(`committed ${mark.sequence} ${inner.get(text("a")) === undefined}`);
      before = mark;
    },
  };
  const batch = putting("a");
  store.commit(batch);
  expect(batch.operations).toHaveLength(1);
  store.commit(putting("b"));
  expect(() => store.commit(putting("x".repeat(KEY_SIZE_MAX + 1)))).toThrow(RangeError);
  expect(heard).toEqual([
    "61,00 1 true",
    "committed 1 false",
    "62,00 2 false",
    "committed 2 false",
  ]);
});

test("what onBatch throws refuses the batch; the next one has its number", () => {
  const store = new RecordingKeyValueStore(openMemoryKeyValue(new SimulatedStorage(), "catalog"));
  store.commit(putting("a"));
  store.listener = {
    onBatch: () => {
      throw new Error("no room");
    },
  };
  expect(() => store.commit(putting("b"))).toThrow("no room");
  store.listener = null;
  expect(store.get(text("b"))).toBeUndefined();
  store.commit(putting("c"));
  expect(store.mark()?.sequence).toBe(2);
});

test("N2: after a commit that failed, the mark is the one that the store has", () => {
  const kinds = ["write", "sync", "rename", "syncDirectory"] as const;
  for (const kind of kinds) {
    const disk = new SimulatedStorage();
    const store = new RecordingKeyValueStore(openMemoryKeyValue(disk, "catalog"));
    store.commit(putting("a", "1"));
    const first = store.mark();
    let lost: CatalogMark | null = null;
    const committed: number[] = [];
    store.listener = {
      onBatch: (_, mark) => (lost = mark),
      onCommitted: ({ sequence }) => committed.push(sequence),
    };
    disk.failAt({ kinds: [kind], count: 1, systemCode: "EIO" });
    expect(() => store.commit(putting("a", "2")), kind).toThrow(
      expect.objectContaining({ code: "IO" }),
    );
    expect(committed).toEqual([]);
    expect(store.mark()).toEqual(first);
    const reopened = new RecordingKeyValueStore(openMemoryKeyValue(disk, "catalog"));
    const isNew = Buffer.from(reopened.get(text("a")) ?? []).toString() === "2";
    expect(reopened.mark()).toEqual(isNew ? lost : first);
    if (isNew) continue;
    reopened.commit(putting("a", "3"));
    expect(reopened.mark()?.sequence).toBe(2);
    expect(reopened.mark()).not.toEqual(lost);
  }
});

test("a scan of the catalog checks the mark, and reports it when it is damaged", () => {
  const inner = openMemoryKeyValue(new SimulatedStorage(), "catalog");
  const store = new RecordingKeyValueStore(inner);
  const batch = new CatalogBatch();
  batch.putTag({
    databaseId: 1,
    name: "v1",
    target: { timeline: 1, version: 3 },
    createdAtMs: 0,
  });
  batch.commit(store);
  const kinds = (): string[] => Array.from(scanCatalog(store), (row) => row.kind);
  expect(kinds()).toEqual(["tag"]);
  const damaged = new WriteBatch();
  damaged.put(MARK_KEY, new Uint8Array(24));
  inner.commit(damaged);
  expect(kinds()).toEqual(["damaged", "tag"]);
});
