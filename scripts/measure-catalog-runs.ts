/**
 * What catalog runs cost: `npx tsx scripts/measure-catalog-runs.ts`. The catalog is that of a database of 1 GiB (4,096 leaf nodes, 4,096
 * chunks, 262,144 page hashes), in lmdb in a temporary directory; then what recording adds to the batch of a checkpoint.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CatalogBatch } from "../src/catalog/catalog.ts";
import type { KeyValueStore } from "../src/catalog/key-value.ts";
import { openLmdb } from "../src/catalog/lmdb-key-value.ts";
import { RecordingKeyValueStore } from "../src/catalog/recording-key-value.ts";
import { writeBaseRun, writeBatchRun } from "../src/catalog/run-compaction.ts";
import type { CatalogMark } from "../src/catalog/run-format.ts";
import { RunsKeyValueStore } from "../src/catalog/run-key-value.ts";
import { loadRuns } from "../src/catalog/run-load.ts";
import { RunReader } from "../src/catalog/run-reader.ts";
import type { StoreCipher } from "../src/encryption/cipher.ts";
import { KeyRing } from "../src/encryption/key-ring.ts";
import { parseMasterKey } from "../src/encryption/master-key.ts";
import { openNodeStorage } from "../src/storage/node-storage.ts";
import { LazyFile } from "../src/testing/lazy-file.ts";
import { Random } from "../src/testing/random.ts";

const LEAVES = 4096;
const CHUNKS = 4096;
const PAGES = 262_144;
const random = new Random(1);
const storeId: Uint8Array = random.bytes(16);
const directory = mkdtempSync(join(tmpdir(), "bough-runs-"));
const storage = openNodeStorage(directory);

function print(what: string, value: string): void {
  process.stdout.write(`${what.padEnd(52)} ${value}\n`);
}

function timed<T>(what: string, body: () => T): T {
  const start = performance.now();
  const result = body();
  print(what, `${(performance.now() - start).toFixed(1)} ms`);
  return result;
}

function perCall(what: string, rounds: number, body: (round: number) => void): void {
  const start = performance.now();
  for (let round = 0; round < rounds; round++) body(round);
  print(what, `${((1000 * (performance.now() - start)) / rounds).toFixed(2)} us`);
}

/** A leaf of 64 pages in one chunk or a few. */
function putRows(batch: CatalogBatch, leaves: number, chunks: number, pages: number): Uint8Array[] {
  const nodes: Uint8Array[] = [];
  for (let count = 0; count < leaves; count++) {
    const id = random.bytes(16);
    batch.putNode(id, random.bytes(4 + 16 + 2 * 64));
    nodes.push(id);
  }
  const chunkIds = Array.from({ length: chunks }, () => random.bytes(16));
  for (const [index, id] of chunkIds.entries())
    batch.putChunk(id, {
      pack: 1 + (index >> 6),
      offset: index * 90_000,
      length: 90_000,
      slotCount: 64,
    });
  for (let count = 0; count < pages; count++)
    batch.putPage(random.bytes(16), { chunkId: chunkIds[count % chunks]!, slot: count & 63 });
  return nodes;
}

function nodeKey(id: Uint8Array): Uint8Array {
  return Uint8Array.of(8, ...id);
}

function measureBase(catalog: KeyValueStore, ids: Uint8Array[], cipher: StoreCipher | null): void {
  const name = cipher === null ? "plain" : "encrypted";
  print(`--- ${name}`, "");
  const file = storage.openFileSync(`${name}.run`, { mode: "create" });
  let slowest = 0;
  const size = timed("write the base", () => {
    const steps = writeBaseRun(catalog, file, { storeId, cipher });
    for (;;) {
      const start = performance.now();
      const step = steps.next();
      if (step.done === true) return step.value;
      slowest = Math.max(slowest, performance.now() - start);
    }
  });
  print("  its slowest slice", `${slowest.toFixed(2)} ms`);
  print("  size, blocks, entries", `${size.size}, ${size.blockCount}, ${size.entryCount}`);
  const counted = new LazyFile(file, { localChance: 1, random });
  const reader = timed("open", () => RunReader.open(counted, { storeId, cipher }));
  print("  read", `${counted.readBytes} bytes in ${counted.readCount}`);
  const store = new RunsKeyValueStore([reader]);
  timed("first node", () => store.get(nodeKey(ids[0]!)));
  print("  read with the open", `${counted.readBytes} bytes in ${counted.readCount}`);
  const keys = ids.map(nodeKey);
  for (const key of keys) store.get(key);
  perCall("get of a node, warm", 200_000, (round) => store.get(keys[round % keys.length]!));
  const missing = Array.from({ length: 1000 }, () => nodeKey(random.bytes(16)));
  perCall("get of a node that is not there", 200_000, (round) => store.get(missing[round % 1000]!));
  timed("read all entries in order", () => {
    const entries = store.range({ start: new Uint8Array(0), end: Uint8Array.of(0xff) });
    let count = 0;
    for (const { key } of entries) count += key.length;
    return count;
  });
  const target = openLmdb(storage, `${name}.mdb`);
  const start = performance.now();
  for (const step of loadRuns([reader], target)) void step;
  print("load into lmdb", `${(performance.now() - start).toFixed(0)} ms`);
  target.close();
  file.closeSync();
}

/** Batches as a checkpoint of `pages` makes them, on the plain backend and on the recording one by turns. */
function measureRecording(
  catalog: RecordingKeyValueStore,
  inner: KeyValueStore,
  pages: number,
): void {
  const samples: Record<string, number[]> = {
    plain: [],
    recorded: [],
    "with a run of the batch": [],
  };
  let number = 0;
  let bytes = 0;
  const listener = {
    onBatch: (
      operations: Parameters<typeof writeBatchRun>[1]["operations"],
      mark: CatalogMark,
      previous: CatalogMark | null,
    ) => {
      const file = storage.openFileSync(`batch-${pages}-${number++}.run`, { mode: "create" });
      bytes = writeBatchRun(file, { operations, mark, previous }, { storeId, cipher: null }).size;
      file.closeSync();
    },
  };
  for (let round = 0; round < 45; round++) {
    const batch = new CatalogBatch();
    putRows(batch, Math.ceil(pages / 64) + 3, Math.ceil(pages / 64), pages);
    const kind = Object.keys(samples)[round % 3]!;
    catalog.listener = kind === "with a run of the batch" ? listener : null;
    const start = performance.now();
    batch.commit(kind === "plain" ? inner : catalog);
    samples[kind]!.push(performance.now() - start);
  }
  catalog.listener = null;
  for (const [kind, times] of Object.entries(samples)) {
    const median = times.toSorted((left, right) => left - right)[times.length >> 1]!;
    print(`checkpoint of ${pages} pages, ${kind}`, `${median.toFixed(3)} ms`);
  }
  print("  size of the run", String(bytes));
}

try {
  const inner = openLmdb(storage, "catalog");
  const catalog = new RecordingKeyValueStore(inner);
  const batch = new CatalogBatch();
  const ids = putRows(batch, LEAVES, CHUNKS, PAGES);
  timed("put the catalog of 1 GiB into lmdb", () => batch.commit(catalog));
  print("  size", String(catalog.estimatedSize()));
  measureBase(catalog, ids, null);
  measureBase(catalog, ids, KeyRing.create(parseMasterKey(random.bytes(32))));
  print("--- recording", "");
  for (const pages of [1, 100, 8192]) measureRecording(catalog, inner, pages);
  catalog.close();
} finally {
  rmSync(directory, { recursive: true });
}
