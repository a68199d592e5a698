import { expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import { Random } from "../testing/random.ts";
import { type OperationKind, SimulatedCrash } from "../testing/simulated-faults.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { writeIntent } from "./hand-over-intent.ts";
import { partitionStorage } from "./partition-files.ts";
import { adoptHeader, openPartition, openPartitions, type Partitions } from "./partitions.ts";
import { openStore, type Store } from "./store.ts";
import { HEADER_FILE, readHeader, writeHeader } from "./store-header.ts";
import type { StoreOptions } from "./store-options.ts";

const KEY = "07".repeat(32);
const CHANGING: OperationKind[] = [
  "create",
  "write",
  "sync",
  "makeDirectory",
  "rename",
  "delete",
  "syncDirectory",
];
const NEW_KEY = "08".repeat(32);

function memory(storage: SimulatedStorage, more: StoreOptions = {}): StoreOptions {
  return { backend: "memory", storage, environment: {}, ...more };
}

function open(storage: SimulatedStorage, count: number, more: StoreOptions = {}): Partitions {
  return openPartitions("sim", memory(storage, more), { count });
}

/** One partition after another in this thread, as another thread would get it. */
function withPartition<T>(
  partitions: Partitions,
  { index, storage }: { index: number; storage: SimulatedStorage },
  use: (store: Store) => T,
): T {
  const store = openPartition(structuredClone(partitions.partition(index)), { storage });
  try {
    return use(store);
  } finally {
    store.close();
  }
}

function fill(store: Store, name: string): void {
  store.createDatabase(name);
  using connection = store.connect(name);
  connection.exec("CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)");
}

function count(store: Store, revision: string): unknown {
  using connection = store.connect(revision);
  return connection.prepare("SELECT count(*) FROM t").pluck().get();
}

function codeOf(action: () => unknown): string | null {
  try {
    action();
    return null;
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}

test.each([[undefined], [KEY]])("partitions are stores of their own, key %s", (key) => {
  const storage = new SimulatedStorage();
  const more = key === undefined ? {} : { key };
  {
    using partitions = open(storage, 3, more);
    expect(partitions.count).toBe(3);
    for (let index = 0; index < 3; index++)
      withPartition(partitions, { index, storage }, (store) => fill(store, `database${index}`));
  }
  using again = open(storage, 1, more);
  expect(again.count).toBe(3);
  for (let index = 0; index < 3; index++)
    withPartition(again, { index, storage }, (store) => {
      expect(store.databases().map(({ name }) => name)).toEqual([`database${index}`]);
      expect(count(store, `database${index}@2`)).toBe(2);
    });
  expect(() => again.partition(3)).toThrow("Partition 3 is not from 0 to 2");
});

test("a store of before gets partitions and keeps its databases in the first", () => {
  const storage = new SimulatedStorage();
  {
    using store = openStore("sim", memory(storage));
    fill(store, "shop");
  }
  using partitions = open(storage, 2);
  withPartition(partitions, { index: 0, storage }, (store) => expect(count(store, "shop")).toBe(2));
  withPartition(partitions, { index: 1, storage }, (store) =>
    expect(store.databases()).toEqual([]),
  );
});

test("the format version is 2 with partitions, and 1 without", () => {
  const line = (storage: SimulatedStorage): { formatVersion: number; partitions?: number } => {
    const [first = ""] = Buffer.from(readFileSync(storage, HEADER_FILE)).toString().split("\n");
    return JSON.parse(first);
  };
  const storage = new SimulatedStorage();
  open(storage, 1).close();
  expect(line(storage)).toMatchObject({ formatVersion: 1 });
  expect(line(storage)).not.toHaveProperty("partitions");
  open(storage, 2).close();
  expect(line(storage)).toMatchObject({ formatVersion: 2, partitions: 2 });
});

test("one thread has the store with all partitions", () => {
  const storage = new SimulatedStorage();
  using partitions = open(storage, 2);
  expect(partitions.count).toBe(2);
  expect(codeOf(() => open(storage, 2))).toBe("STORE_LOCKED");
  expect(codeOf(() => openStore("sim", memory(storage)))).toBe("STORE_LOCKED");
});

test("a partition is not opened as a store", () => {
  const storage = new SimulatedStorage();
  open(storage, 2).close();
  const partition = partitionStorage(storage, 1);
  expect(codeOf(() => openStore("sim", { ...memory(storage), storage: partition }))).toBe(
    "STORE_IS_PARTITION",
  );
});

test("a partition that is lost, or another's, is no empty one", () => {
  const storage = new SimulatedStorage();
  open(storage, 3).close();
  const second = partitionStorage(storage, 2);
  const marker = readFileSync(second, "partition.json");
  second.deleteSync("partition.json");
  expect(codeOf(() => open(storage, 3))).toBe("CORRUPT_HEADER");
  writeFileAtomicSync(
    second,
    "partition.json",
    readFileSync(storage, "partitions/0001/partition.json"),
  );
  expect(codeOf(() => open(storage, 3))).toBe("CORRUPT_HEADER");
  writeFileAtomicSync(second, "partition.json", marker.subarray(1));
  expect(codeOf(() => open(storage, 3))).toBe("CORRUPT_HEADER");
  writeFileAtomicSync(second, "partition.json", marker);
  expect(codeOf(() => open(storage, 3).close())).toBeNull();
});

test("every single-bit flip of what says which partition it is, or what is handed over, is seen", () => {
  const storage = new SimulatedStorage();
  open(storage, 2).close();
  writeIntent(storage, { database: "shop", from: 0, to: 1, sourceId: 1, targetId: 7 });
  for (const path of ["partitions/0001/partition.json", "hand-over.json"]) {
    const bytes = readFileSync(storage, path);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Uint8Array.from(bytes);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      writeFileAtomicSync(storage, path, damaged);
      expect(
        codeOf(() => open(storage, 2)),
        `${path} ${bit}`,
      ).toBe("CORRUPT_HEADER");
    }
    writeFileAtomicSync(storage, path, bytes);
  }
  // Nothing of it came to partition 1.
  open(storage, 2).close();
  expect(storage.existsSync("hand-over.json")).toBe(false);
});

test("a header that is older than its partitions does not hide their databases", () => {
  const storage = new SimulatedStorage();
  open(storage, 1).close();
  const older = readHeader(storage);
  {
    using partitions = open(storage, 2);
    withPartition(partitions, { index: 1, storage }, (store) => fill(store, "shop"));
  }
  writeHeader(storage, older);
  expect(codeOf(() => openStore("sim", memory(storage)))).toBe("CORRUPT_HEADER");
});

test("adding partitions survives a crash at every change of the disk", () => {
  const prepared = new SimulatedStorage();
  {
    using store = openStore("sim", memory(prepared));
    fill(store, "shop");
  }
  const whole = prepared.copyAfterCrash(new Random(1));
  open(whole, 3).close();
  const changes = whole.countOf(...CHANGING);
  expect(changes).toBeGreaterThan(10);
  const counts = new Set<number>();
  for (let run = 0; run < 4 * changes; run++) {
    const at = 1 + (run % changes);
    const random = new Random(run);
    const storage = prepared.copyAfterCrash(random);
    storage.crashAt({ kinds: CHANGING, count: at });
    expect(() => open(storage, 3)).toThrow(SimulatedCrash);
    const after = storage.copyAfterCrash(random);
    using again = open(after, 1);
    counts.add(again.count);
    withPartition(again, { index: 0, storage: after }, (store) =>
      expect(count(store, "shop"), `crash at ${at}`).toBe(2),
    );
  }
  expect([...counts].sort((left, right) => left - right)).toEqual([1, 3]);
});

test("a new key and a new compression reach the partitions that are open, and those opened later", () => {
  const storage = new SimulatedStorage();
  {
    using partitions = open(storage, 2, { key: KEY });
    const stores = [0, 1].map((index) => openPartition(partitions.partition(index), { storage }));
    stores.forEach((store, index) => fill(store, `database${index}`));
    for (const change of [partitions.rotateKey(NEW_KEY), partitions.setCompression("none")])
      for (const store of stores) adoptHeader(store, structuredClone(change));
    for (const store of stores) expect(store.info()).toMatchObject({ compression: "none" });
    stores.forEach((store, index) => fill(store, `later${index}`));
    for (const store of stores) store.close();
  }
  expect(codeOf(() => open(storage, 2, { key: KEY }))).toBe("KEY_WRONG");
  using again = open(storage, 2, { key: NEW_KEY });
  for (let index = 0; index < 2; index++)
    withPartition(again, { index, storage }, (store) => {
      expect(count(store, `database${index}`)).toBe(2);
      expect(count(store, `later${index}`)).toBe(2);
      expect(store.info()).toMatchObject({ compression: "none" });
    });
});

test("what is uploaded gets no partitions, what has partitions is not uploaded", () => {
  const storage = new SimulatedStorage();
  const remote = "file:///nowhere";
  expect(codeOf(() => open(storage, 2, { remote }))).toBe("PARTITIONED");
  expect(codeOf(() => open(storage, 2, { durability: "remote" }))).toBe("PARTITIONED");
  open(storage, 2).close();
  expect(codeOf(() => open(storage, 1, { remote }))).toBe("PARTITIONED");
  for (const count of [0, 257, 1.5])
    expect(() => open(storage, count)).toThrow(
      `Option "partitions": ${count} is not a whole number from 1 to 256`,
    );
});

test("limits of the store are divided", () => {
  const storage = new SimulatedStorage();
  using partitions = open(storage, 4, {
    cacheBytesMax: 4000,
    connectionBytesMax: 4000,
    scrubBytesPerSecond: 100,
    gc: "off",
  });
  expect(partitions.partition(1).settings).toEqual({
    cacheBytesMax: 1000,
    connectionBytesMax: 1000,
    checkpointBytes: 8 * 1024 * 1024,
    scrubBytesPerSecond: 25,
    gc: "off",
  });
});
