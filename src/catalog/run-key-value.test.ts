import fc from "fast-check";
import { expect, test } from "vitest";
import type { StoreCipher } from "../encryption/cipher.ts";
import { KeyRing } from "../encryption/key-ring.ts";
import { parseMasterKey } from "../encryption/master-key.ts";
import { InvariantError } from "../errors.ts";
import { NotLocalError, readFetching, readWaiting } from "../storage/not-local.ts";
import type { StorageFile } from "../storage/storage.ts";
import { describeKeyValue } from "../testing/key-value-conformance.ts";
import { LazyFile } from "../testing/lazy-file.ts";
import { Random } from "../testing/random.ts";
import { SimulatedCrash } from "../testing/simulated-faults.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { compareKeys, KEY_SIZE_MAX } from "./key-order.ts";
import {
  type KeyValueEntry,
  type KeyValueStore,
  type RangeOptions,
  WriteBatch,
} from "./key-value.ts";
import { openMemoryKeyValue } from "./memory-key-value.ts";
import { MARK_KEY, RecordingKeyValueStore } from "./recording-key-value.ts";
import { RunBlockCache } from "./run-block-cache.ts";
import { mergeRuns, writeBaseRun, writeBatchRun } from "./run-compaction.ts";
import { RunsKeyValueStore } from "./run-key-value.ts";
import { loadRuns } from "./run-load.ts";
import { planRuns } from "./run-plan.ts";
import { RunReader } from "./run-reader.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";

const storeId = new Uint8Array(16).fill(7);
const cipher = KeyRing.create(parseMasterKey(Buffer.alloc(32, 3)));
const ALL: RangeOptions = {
  start: new Uint8Array(0),
  end: new Uint8Array(KEY_SIZE_MAX).fill(0xff),
};
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A catalog whose batches become runs, as an uploader makes them, and what a reader sees of these. */
class Uploaded {
  readonly storage = new SimulatedStorage();
  readonly catalog: RecordingKeyValueStore;
  readonly cache: RunBlockCache;
  readonly cipher: StoreCipher | null;
  readonly lazy: { localChance: number; random: Random } | null;
  runs: RunReader[] = [];
  #count = 0;

  constructor(
    options: {
      cipher?: StoreCipher | null;
      cacheBytes?: number;
      lazy?: { localChance: number; random: Random };
      markKey?: Uint8Array;
    } = {},
  ) {
    this.cipher = options.cipher ?? null;
    this.cache = new RunBlockCache(options.cacheBytes ?? 1 << 20);
    this.lazy = options.lazy ?? null;
    this.catalog = new RecordingKeyValueStore(
      openMemoryKeyValue(this.storage, "catalog"),
      options.markKey === undefined ? {} : { markKey: options.markKey },
    );
    this.base();
    this.catalog.listener = {
      onBatch: (operations, mark, previous) => {
        const file = this.#newFile();
        writeBatchRun(file, { operations, mark, previous }, this.#options);
        this.runs.push(this.#open(file));
      },
    };
  }

  get #options(): { storeId: Uint8Array; cipher: StoreCipher | null } {
    return { storeId, cipher: this.cipher };
  }

  base(): void {
    const file = this.#newFile();
    finish(writeBaseRun(this.catalog, file, this.#options));
    this.runs = [this.#open(file)];
  }

  merge(from: number, to: number): void {
    const file = this.#newFile();
    const parts = this.runs.slice(from, to + 1);
    finish(mergeRuns(parts, file, this.#options));
    this.runs.splice(from, parts.length, this.#open(file));
  }

  store(): RunsKeyValueStore {
    return new RunsKeyValueStore(this.runs);
  }

  #newFile(): StorageFile {
    return this.storage.openFileSync(`run-${this.#count++}`, { mode: "create" });
  }

  #open(file: StorageFile): RunReader {
    const seen = this.lazy === null ? file : new LazyFile(file, this.lazy);
    const { cache } = this;
    return readWaiting(() => RunReader.open(seen, { ...this.#options, cache }));
  }
}

/** Drives a generator of runs to its end. */
function finish<T>(steps: Generator<{ fetchSync(): void } | undefined, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    step.value?.fetchSync();
  }
}

const shown = (entries: Iterable<KeyValueEntry>): string[] =>
  Array.from(
    entries,
    ({ key, value }) =>
      `${Buffer.from(key).toString("hex")}=${value.length}/${Buffer.from(value.subarray(0, 40)).toString("hex")}`,
  );

function batchOf(entries: Iterable<readonly [Uint8Array, Uint8Array | null]>): WriteBatch {
  const batch = new WriteBatch();
  for (const [key, value] of entries) {
    if (value === null) batch.delete(key);
    else batch.put(key, value);
  }
  return batch;
}

/** A key that the conformance suite has in none of its ranges: it uses [0x00] as one of its own. */
const markKey: Uint8Array = new Uint8Array(KEY_SIZE_MAX).fill(0xff);

/** Writes go to a catalog, whose batches become runs; reads come from the runs. Compaction merges all of them. */
class UploadedKeyValue implements KeyValueStore {
  readonly name = "uploaded";
  readonly #uploaded: Uploaded;
  readonly #store: RunsKeyValueStore;

  constructor(uploaded: Uploaded) {
    this.#uploaded = uploaded;
    this.#store = uploaded.store();
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return readWaiting(() => this.#store.get(key));
  }

  range(options: RangeOptions): Iterable<KeyValueEntry> {
    return this.#store.range(options);
  }

  commit(batch: WriteBatch): void {
    this.#store.compact(); // which a closed one refuses
    this.#uploaded.catalog.commit(batch);
    const { runs } = this.#uploaded;
    const plan = planRuns(runs.map(({ size, scope }) => ({ size, isBase: scope.isBase })));
    if (plan !== null) this.#uploaded.merge(plan.from, runs.length - 1);
    this.#store.replaceRuns(this.#uploaded.runs);
  }

  estimatedSize(): number {
    return this.#store.estimatedSize();
  }

  compact(): void {
    this.#store.compact();
    this.#uploaded.merge(0, this.#uploaded.runs.length - 1);
    this.#store.replaceRuns(this.#uploaded.runs);
  }

  close(): void {
    this.#store.close();
  }
}

for (const isEncrypted of [false, true])
  describeKeyValue(`runs, ${isEncrypted ? "encrypted" : "plain"},`, () => {
    const uploaded = new Uploaded({ cipher: isEncrypted ? cipher : null, markKey });
    return { open: () => new UploadedKeyValue(uploaded), cleanUp() {} };
  });

/** Few keys, so that batches meet: short ones, ids of nodes, one page hash. */
const anyKey: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 2, max: 3 }).map((rest) => Uint8Array.of(1, ...rest)),
  fc
    .tuple(fc.constantFrom(8, 9, 10), fc.nat(5))
    .map(([table, seed]) => Uint8Array.of(table, ...new Random(seed).bytes(16))),
);
const anyValue = fc.option(
  fc
    .tuple(fc.nat(255), fc.constantFrom(0, 1, 30, 300, 12_000, 40_000))
    .map(([fill, size]) => new Uint8Array(size).fill(fill)),
  { freq: 3 },
);
const anyBatch = fc.array(fc.tuple(anyKey, anyValue), { minLength: 1, maxLength: 8 });
type Step =
  | { readonly type: "batch"; readonly entries: (readonly [Uint8Array, Uint8Array | null])[] }
  | { readonly type: "merge"; readonly from: number; readonly length: number }
  | { readonly type: "base" };
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: anyBatch.map((entries) => ({ type: "batch" as const, entries })) },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant("merge" as const),
      from: fc.nat(10),
      length: fc.integer({ min: 2, max: 6 }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ type: "base" as const }) },
);

function doStep(uploaded: Uploaded, step: Step): void {
  if (step.type === "batch") uploaded.catalog.commit(batchOf(step.entries));
  else if (step.type === "base") uploaded.base();
  else if (uploaded.runs.length > 1) {
    const from = step.from % (uploaded.runs.length - 1);
    uploaded.merge(from, Math.min(from + step.length, uploaded.runs.length) - 1);
  }
}

/** Everything the runs answer, compared with the catalog that they come from. */
function compare(
  store: KeyValueStore,
  catalog: KeyValueStore,
  given: { keys: readonly Uint8Array[]; limit: number },
): void {
  for (const key of [...given.keys, MARK_KEY, text("missing")]) {
    const found = readWaiting(() => store.get(key));
    const expected = catalog.get(key);
    expect(found === undefined).toBe(expected === undefined);
    if (expected !== undefined) expect(Buffer.compare(found!, expected)).toBe(0);
  }
  const bounds = [ALL.start, ...given.keys.slice(0, 4), ALL.end];
  for (const start of bounds)
    for (const end of bounds)
      for (const reverse of [false, true])
        for (const limit of [undefined, given.limit]) {
          const options = { start, end, reverse, ...(limit === undefined ? {} : { limit }) };
          const found = readWaiting(() => shown(store.range(options)));
          expect(found).toEqual(shown(catalog.range(options)));
        }
}

for (const [name, isEncrypted, localChance] of [
  ["all local", false, 1],
  ["encrypted, half of the reads elsewhere", true, 0.5],
  ["every read elsewhere, a cache of nothing", false, 0],
] as const)
  test(`runs answer as the catalog that they come from, through merges and bases: ${name}`, () => {
    fc.assert(
      fc.property(
        fc.array(anyStep, { minLength: 1, maxLength: 14 }),
        fc.array(anyKey, { minLength: 2, maxLength: 12 }),
        fc.nat(5),
        (steps, keys, limit) => {
          const uploaded = new Uploaded({
            cipher: isEncrypted ? cipher : null,
            cacheBytes: localChance === 0 ? 0 : 100_000,
            lazy: { localChance, random: new Random(steps.length) },
          });
          const store = uploaded.store();
          for (const step of steps) {
            doStep(uploaded, step);
            store.replaceRuns(uploaded.runs);
          }
          compare(store, uploaded.catalog, { keys, limit });
        },
      ),
      { numRuns: isLong ? 400 : 15 },
    );
  });

/** 60 blocks of rows in a base, and changes to them in two runs after it. */
function manyRows(options: ConstructorParameters<typeof Uploaded>[0] = {}): Uploaded {
  const uploaded = new Uploaded(options);
  const random = new Random(11);
  const keys = Array.from({ length: 4000 }, () => Uint8Array.of(10, ...random.bytes(16)));
  const put = (some: readonly Uint8Array[], size: number): void =>
    uploaded.catalog.commit(batchOf(some.map((key) => [key, random.bytes(size)] as const)));
  put(keys, 470);
  uploaded.base();
  put(keys.slice(0, 300), 470);
  uploaded.catalog.commit(batchOf(keys.slice(200, 500).map((key) => [key, null] as const)));
  return uploaded;
}

test("R5: a long range that is repeated whenever a block is missing ends, with a cache for a few blocks of it", async () => {
  const lazy = { localChance: 0, random: new Random(1) };
  const uploaded = manyRows({ lazy, cacheBytes: 0 });
  const store = uploaded.store();
  for (const reverse of [false, true]) {
    let tries = 0;
    const found = await readFetching(() => {
      tries++;
      return shown(store.range({ ...ALL, reverse }));
    });
    expect(found).toEqual(shown(uploaded.catalog.range({ ...ALL, reverse })));
    const blocks = uploaded.runs.reduce((sum, run) => sum + run.blockCount, 0);
    expect(blocks).toBeGreaterThan(60);
    expect(tries).toBeLessThan(2 * blocks);
  }
});

test("R5: a long range with reads within its loop, all repeated whenever a block is missing, ends too", () => {
  const lazy = { localChance: 0, random: new Random(1) };
  const uploaded = manyRows({ lazy, cacheBytes: 0 });
  const store = uploaded.store();
  const rows = shown(uploaded.catalog.range(ALL));
  const [other] = uploaded.catalog.range({ ...ALL, reverse: true, limit: 1 });
  let tries = 0;
  const found = readWaiting(() => {
    expect(tries++).toBeLessThan(400);
    const entries: KeyValueEntry[] = [];
    for (const entry of store.range(ALL)) {
      entries.push(entry);
      if (entries.length % 100 === 0) expect(store.get(other!.key)).toBeDefined();
    }
    return shown(entries);
  });
  expect(found).toEqual(rows);
});

test("R4: an iterator that met NotLocalError goes on with the same next, without reading a block twice", () => {
  const lazy = { localChance: 0, random: new Random(1) };
  const uploaded = manyRows({ lazy, cacheBytes: 0 });
  const store = uploaded.store();
  const iterator = store.range(ALL)[Symbol.iterator]();
  const found: KeyValueEntry[] = [];
  let misses = 0;
  for (;;) {
    let next: IteratorResult<KeyValueEntry>;
    try {
      next = iterator.next();
    } catch (error) {
      if (!(error instanceof NotLocalError)) throw error;
      misses++;
      error.pending.fetchSync();
      continue;
    }
    if (next.done === true) break;
    found.push(next.value);
  }
  expect(shown(found)).toEqual(shown(uploaded.catalog.range(ALL)));
  // The runs of at most 64 KiB were read when they were opened.
  const read = uploaded.runs.filter((run) => run.size > 64 * 1024);
  expect(misses).toBe(read.reduce((sum, run) => sum + run.blockCount, 0));
});

test("a range with a limit reads only the blocks that it needs", () => {
  const uploaded = manyRows();
  const file = uploaded.storage.openFileSync("run-2", { mode: "read" });
  const lazy = new LazyFile(file, { localChance: 1, random: new Random(1) });
  const base = RunReader.open(lazy, { storeId, cipher: null });
  const store = new RunsKeyValueStore([base]);
  for (const reverse of [false, true]) {
    const before = lazy.readCount;
    expect([...store.range({ ...ALL, reverse, limit: 3 })]).toHaveLength(3);
    expect(lazy.readCount - before).toBe(1);
  }
  expect([...store.range({ start: Uint8Array.of(11), end: Uint8Array.of(12) })]).toEqual([]);
});

test("R3, K3: an iterator keeps its runs while they are replaced; calls after it see the new ones", () => {
  const uploaded = manyRows();
  const store = uploaded.store();
  const before = shown(uploaded.catalog.range(ALL));
  const iterator = store.range(ALL)[Symbol.iterator]();
  const found: KeyValueEntry[] = [];
  for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
    found.push(next.value);
    if (found.length % 1000 !== 0) continue;
    uploaded.catalog.commit(
      batchOf([
        [next.value.key, null],
        [Uint8Array.of(11, found.length & 0xff), text("new")],
      ]),
    );
    if (found.length === 2000) uploaded.base();
    store.replaceRuns(uploaded.runs);
    expect(store.get(next.value.key)).toBeUndefined();
  }
  expect(shown(found)).toEqual(before);
  expect(shown(store.range(ALL))).toEqual(shown(uploaded.catalog.range(ALL)));
});

test("replaced runs give their memory back", () => {
  const uploaded = manyRows();
  const store = uploaded.store();
  expect([...store.range(ALL)].length).toBeGreaterThan(3000);
  expect(uploaded.cache.bytes).toBeGreaterThan(500_000);
  uploaded.base();
  store.replaceRuns(uploaded.runs);
  expect(uploaded.cache.bytes).toBe(0);
});

test("I1: after a crash at any operation of loading, a catalog with a mark is whole", () => {
  const uploaded = new Uploaded();
  for (const key of ["a", "b", "c", "d"])
    uploaded.catalog.commit(batchOf([[text(key), new Uint8Array(60_000)]]));
  const expected = shown(uploaded.catalog.range(ALL));
  const outcomes = new Set<string>();
  for (let count = 1; ; count++) {
    const disk = new SimulatedStorage({ seed: count });
    const target = openMemoryKeyValue(disk, "catalog");
    disk.crashAt({ count });
    let isWhole = false;
    try {
      const steps = loadRuns(uploaded.runs, target, { batchBytes: 50_000 });
      for (const progress of steps)
        if ("entriesPut" in progress) expect(progress.entriesPut).toBeGreaterThan(0);
      isWhole = true;
    } catch (error) {
      expect(error).toBeInstanceOf(SimulatedCrash);
    }
    disk.reboot();
    const left = openMemoryKeyValue(disk, "catalog");
    const hasMark = new RecordingKeyValueStore(left).mark() !== null;
    const rows = shown(left.range(ALL));
    if (hasMark || isWhole) expect(rows).toEqual(expected);
    outcomes.add(hasMark ? "whole" : rows.length > 0 ? "part" : "nothing");
    if (isWhole) break;
  }
  expect([...outcomes].sort()).toEqual(["nothing", "part", "whole"]);
});

test("R2, H1, H2: runs that do not follow each other are CORRUPT_CATALOG", () => {
  const uploaded = new Uploaded();
  for (let count = 0; count < 4; count++)
    uploaded.catalog.commit(batchOf([[text("k"), text("v")]]));
  const { runs } = uploaded;
  // The same numbers, of another catalog.
  const other = new Uploaded();
  for (let count = 0; count < 4; count++) other.catalog.commit(batchOf([[text("k"), text("v")]]));
  const corrupt = expect.objectContaining({ code: "CORRUPT_CATALOG" });
  for (const wrong of [
    runs.slice(1),
    [...runs.slice(0, 2), ...runs.slice(3)],
    [runs[0]!, runs[2]!, runs[1]!],
    [runs[0]!, runs[0]!],
    [...runs.slice(0, 3), other.runs[3]!],
  ]) {
    expect(() => new RunsKeyValueStore(wrong)).toThrow(corrupt);
    const target = openMemoryKeyValue(new SimulatedStorage(), "catalog");
    expect(() => loadRuns(wrong, target).next()).toThrow(corrupt);
  }
  const file = uploaded.storage.openFileSync("merged", { mode: "create" });
  const gap = [runs[1]!, runs[3]!];
  expect(() => mergeRuns(gap, file, { cipher: null }).next()).toThrow(corrupt);
  const store = new RunsKeyValueStore(runs);
  expect(() => store.replaceRuns(runs.slice(1))).toThrow(corrupt);
  expect(store.get(text("k"))).toEqual(text("v"));
});

test("it is read-only, and once closed refuses everything", () => {
  const uploaded = manyRows();
  const store = uploaded.store();
  expect(() => store.commit()).toThrow(expect.objectContaining({ code: "READ_ONLY" }));
  expect(store.name).toBe("runs");
  expect(store.estimatedSize()).toBe(uploaded.runs.reduce((sum, run) => sum + run.size, 0));
  expect(() => store.range({ ...ALL, limit: -1 })).toThrow(RangeError);
  const iterator = store.range(ALL)[Symbol.iterator]();
  iterator.next();
  store.close();
  store.close();
  expect(() => iterator.next()).toThrow(InvariantError);
  expect(() => store.get(text("k"))).toThrow(InvariantError);
  expect(() => [...store.range(ALL)]).toThrow(InvariantError);
  expect(() => store.compact()).toThrow(InvariantError);
});

test("damage in a block is an error of the reads that touch it, and of no others", () => {
  const uploaded = manyRows();
  uploaded.storage.flipBit("run-2", 8 * 1000);
  const store = new RunsKeyValueStore(uploaded.runs.slice(0, 1));
  const rows = [...uploaded.catalog.range(ALL)];
  const damaged = rows.filter(({ key }) => {
    try {
      return store.get(key) === undefined && false;
    } catch (error) {
      expect(error).toMatchObject({ code: "CORRUPT_CATALOG", details: { path: "run-2" } });
      return true;
    }
  });
  expect(damaged.length).toBeGreaterThan(30);
  expect(damaged.length).toBeLessThan(100);
  expect(() => [...store.range(ALL)]).toThrow(expect.objectContaining({ code: "CORRUPT_CATALOG" }));
});

test("O1: commits go on while a base is written, which is the catalog as it was when it began", () => {
  const uploaded = manyRows();
  const expected = shown(uploaded.catalog.range(ALL));
  const mark = uploaded.catalog.mark();
  const file = uploaded.storage.openFileSync("base", { mode: "create" });
  const steps = writeBaseRun(uploaded.catalog, file, { storeId, cipher });
  let slices = 0;
  let size = steps.next();
  for (; size.done !== true; size = steps.next()) {
    slices++;
    uploaded.catalog.commit(batchOf([[Uint8Array.of(10, slices), text("later")]]));
  }
  expect(slices).toBeGreaterThan(20);
  expect(size.value.scope.mark).toEqual(mark);
  const base = RunReader.open(file, { storeId, cipher });
  expect(shown(new RunsKeyValueStore([base]).range(ALL))).toEqual(expected);
  // The batches committed meanwhile follow it.
  const later = uploaded.runs.slice(-slices);
  const plain = new Uploaded();
  expect(later[0]!.scope.previous).toEqual(base.scope.mark);
  expect(plain.runs[0]!.scope.mark.sequence).toBe(0);
});

test("loading runs into another backend gives the same catalog, with its mark last", () => {
  for (const localChance of [1, 0]) {
    const lazy = { localChance, random: new Random(2) };
    const uploaded = manyRows({ lazy, cacheBytes: 0, cipher });
    const disk = new SimulatedStorage();
    const target = openMemoryKeyValue(disk, "catalog");
    const seen: boolean[] = [];
    const committed: KeyValueStore = {
      name: "spy",
      get: (key) => target.get(key),
      range: (options) => target.range(options),
      commit: (batch) => {
        target.commit(batch);
        seen.push(target.get(MARK_KEY) !== undefined);
      },
      estimatedSize: () => target.estimatedSize(),
      compact: () => target.compact(),
      close: () => target.close(),
    };
    const steps = loadRuns(uploaded.runs, committed, { batchBytes: 500_000 });
    let last = steps.next();
    let read = 0;
    let fetched = 0;
    for (; last.done !== true; last = steps.next()) {
      if ("fetchSync" in last.value) {
        last.value.fetchSync();
        fetched++;
        continue;
      }
      expect(last.value.entriesRead).toBeGreaterThan(read);
      read = last.value.entriesRead;
    }
    expect(fetched > 0).toBe(localChance === 0);
    const total = uploaded.runs.reduce((sum, run) => sum + run.entryCount, 0);
    const entriesPut = shown(uploaded.catalog.range(ALL)).length;
    expect(last.value).toEqual({ entriesRead: total, entriesTotal: total, entriesPut });
    expect(shown(target.range(ALL))).toEqual(shown(uploaded.catalog.range(ALL)));
    expect(seen.length).toBeGreaterThan(3);
    expect(seen.indexOf(true)).toBe(seen.length - 1);
    expect(new RecordingKeyValueStore(target).mark()).toEqual(uploaded.catalog.mark());
    expect(() => loadRuns(uploaded.runs, target).next()).toThrow(InvariantError);
  }
});

test("rows come in order of their keys as bytes, however many runs have them", () => {
  const uploaded = new Uploaded();
  const random = new Random(8);
  for (let count = 0; count < 12; count++)
    uploaded.catalog.commit(
      batchOf(
        Array.from(
          { length: 50 },
          () => [Uint8Array.of(2, ...random.bytes(2)), text("x")] as const,
        ),
      ),
    );
  const keys = Array.from(uploaded.store().range(ALL), ({ key }) => key);
  expect(keys.length).toBeGreaterThan(500);
  expect(keys).toEqual(keys.toSorted(compareKeys));
});
