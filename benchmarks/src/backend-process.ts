/**
 * Works on one catalog backend alone, so that memory is its own, and prints what that cost. Arguments: backend, directory,
 * nodes, "load" or "work"; the load comes first, in another process. Rows as the catalog has them: nodes of about 1 KiB under 17 bytes, ten page hashes of 25 bytes to each node.
 */
import fs from "node:fs";
import path from "node:path";
import { BACKENDS, openBackend } from "../../src/catalog/backends.ts";
import { type KeyValueStore, WriteBatch } from "../../src/catalog/key-value.ts";
import { openNodeStorage } from "../../src/storage/node-storage.ts";
import { Random } from "../../src/testing/random.ts";

export interface LoadCosts {
  readonly loadRowsPerSecond: number;
  readonly diskBytes: number;
}

export interface WorkCosts {
  readonly openMs: number;
  readonly getUs: number;
  readonly missUs: number;
  readonly scanRowsPerSecond: number;
  readonly rangeUs: number;
  readonly commitOneMs: number;
  readonly commitHundredMs: number;
  readonly diskBytesCompact: number;
  readonly memoryBytes: number;
}

const NODE = 4;
const PAGE = 6;
const PAGES_PER_NODE = 10;
const BATCH_ROWS = 2000;

const [, , name = "", directory = "", nodesText = "", phase = ""] = process.argv;
const backend = BACKENDS.find((known) => known === name)!;
const nodeCount = Number(nodesText);
const storage = openNodeStorage(directory);
const random = new Random(1);

/** A key of table `table` that the same number always gives. */
function key(table: number, number: number): Uint8Array {
  return Uint8Array.of(table, ...new Random(number * 16 + table).bytes(16));
}

/** Half of it repeats, as child references and page numbers do. */
function node(): Uint8Array {
  const bytes = random.bytes(random.integer(800, 1250));
  return bytes.fill(7, bytes.length >> 1);
}

function load(store: KeyValueStore): number {
  const rows: [Uint8Array, Uint8Array][] = [];
  for (let number = 0; number < nodeCount; number++) {
    rows.push([key(NODE, number), node()]);
    for (let page = 0; page < PAGES_PER_NODE; page++)
      rows.push([key(PAGE, number * PAGES_PER_NODE + page), random.bytes(25)]);
  }
  const start = performance.now();
  const step = backend === "memory" ? rows.length : BATCH_ROWS;
  for (let first = 0; first < rows.length; first += step) {
    const batch = new WriteBatch();
    for (const [rowKey, value] of rows.slice(first, first + step)) batch.put(rowKey, value);
    store.commit(batch);
  }
  return (rows.length / (performance.now() - start)) * 1000;
}

function timePer(count: number, body: (index: number) => void): number {
  const start = performance.now();
  for (let index = 0; index < count; index++) body(index);
  return (performance.now() - start) / count;
}

function commitMs(store: KeyValueStore, rows: number): number {
  const batches = Array.from({ length: backend === "memory" ? 5 : 100 }, () => {
    const batch = new WriteBatch();
    for (let row = 0; row < rows; row++)
      batch.put(key(PAGE, random.integer(1e8, 2e8)), random.bytes(25));
    return batch;
  });
  return timePer(batches.length, (index) => store.commit(batches[index]!));
}

function sizeOf(place: string): number {
  const stat = fs.statSync(place);
  if (!stat.isDirectory()) return stat.size;
  return fs.readdirSync(place).reduce((sum, child) => sum + sizeOf(path.join(place, child)), 0);
}

function runLoad(): LoadCosts {
  const store = openBackend(backend, storage);
  const loadRowsPerSecond = load(store);
  store.close();
  return { loadRowsPerSecond, diskBytes: sizeOf(directory) };
}

function runWork(): WorkCosts {
  globalThis.gc?.();
  const rssBefore = process.memoryUsage().rss;
  const openStart = performance.now();
  const store = openBackend(backend, storage);
  store.get(key(NODE, 0));
  const openMs = performance.now() - openStart;

  const keys = Array.from({ length: 10_000 }, () => key(NODE, random.integer(0, nodeCount - 1)));
  const missing = Array.from({ length: 10_000 }, (_, index) => key(PAGE, 3e8 + index));
  for (const known of keys.slice(0, 1000)) store.get(known);
  const getUs = timePer(keys.length, (index) => store.get(keys[index]!)) * 1000;
  const missUs = timePer(missing.length, (index) => store.get(missing[index]!)) * 1000;
  let rows = 0;
  const scanStart = performance.now();
  for (const _ of store.range({ start: Uint8Array.of(0), end: Uint8Array.of(255) })) rows++;
  const scanRowsPerSecond = (rows / (performance.now() - scanStart)) * 1000;
  const end = Uint8Array.of(255);
  const rangeUs =
    1000 *
    timePer(500, (index) => {
      for (const _ of store.range({ start: missing[index]!, end, limit: 100 })) rows++;
    });
  const commitOneMs = commitMs(store, 1);
  const commitHundredMs = commitMs(store, 100);
  globalThis.gc?.();
  const memoryBytes = process.memoryUsage().rss - rssBefore;
  store.compact();
  store.close();
  return {
    openMs,
    getUs,
    missUs,
    scanRowsPerSecond,
    rangeUs,
    commitOneMs,
    commitHundredMs,
    diskBytesCompact: sizeOf(directory),
    memoryBytes,
  };
}

process.stdout.write(JSON.stringify(phase === "load" ? runLoad() : runWork()));
