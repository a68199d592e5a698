/**
 * Brings a catalog from its runs into a backend that can be written, on a machine that takes over as the writer.
 *
 * I1. The mark is put with the last batch: a backend without it was not loaded to its end, and is thrown away.
 * I2. Entries are counted where they are read (each run has what its footer says) and where they have gone.
 */
import { invariant, StoreError } from "../errors.ts";
import { NotLocalError, type PendingFetch } from "../storage/not-local.ts";
import { compareKeys, KEY_SIZE_MAX } from "./key-order.ts";
import {
  type KeyValueEntry,
  type KeyValueStore,
  type RangeOptions,
  WriteBatch,
} from "./key-value.ts";
import { MARK_KEY } from "./recording-key-value.ts";
import { corruptRun } from "./run-format.ts";
import { type MergedEntry, RunMerge, WHOLE_RUN } from "./run-merge.ts";
import { checkRunOrder } from "./run-order.ts";
import type { RunReader } from "./run-reader.ts";

export interface LoadProgress {
  /** Of all runs, tombstones and hidden entries among them. */
  readonly entriesRead: number;
  readonly entriesTotal: number;
  /** That the backend has now. */
  readonly entriesPut: number;
}

export interface LoadOptions {
  /** What a batch takes at most, about. */
  readonly batchBytes?: number;
}

const BATCH_BYTES_DEFAULT = 4 * 1024 * 1024;
const ENTRY_OVERHEAD = 100;
const ALL: RangeOptions = {
  start: new Uint8Array(0),
  end: new Uint8Array(KEY_SIZE_MAX).fill(0xff),
};

/**
 * Puts all entries of `runs`, a whole catalog from old to new, into `target`, which is empty and not a recording one. Yields after each
 * batch, and what must be fetched before the next step.
 */
export function* loadRuns(
  runs: readonly RunReader[],
  target: KeyValueStore,
  options: LoadOptions = {},
): Generator<LoadProgress | PendingFetch, LoadProgress> {
  checkRunOrder(runs);
  for (const { key } of target.range({ ...ALL, limit: 1 }))
    invariant(false, `an empty catalog to load into: it has 0x${Buffer.from(key).toString("hex")}`);
  const { batchBytes = BATCH_BYTES_DEFAULT } = options;
  const read = { entries: 0, tombstones: 0 };
  const merge = new RunMerge(runs, WHOLE_RUN, (reader, number) => {
    const block = reader.readBlock(number);
    read.entries += block.count;
    read.tombstones += block.tombstoneCount;
    return block;
  });
  const entriesTotal = runs.reduce((sum, { entryCount }) => sum + entryCount, 0);
  let mark: KeyValueEntry | null = null;
  let batch = new WriteBatch();
  let bytes = 0;
  let entriesPut = 0;
  const progress = (): LoadProgress => ({ entriesRead: read.entries, entriesTotal, entriesPut });
  for (;;) {
    let entry: MergedEntry | null;
    try {
      entry = merge.next();
    } catch (error) {
      if (!(error instanceof NotLocalError)) throw error;
      yield error.pending;
      continue;
    }
    if (entry === null) break;
    const { key, value } = entry;
    if (value === null) continue;
    entriesPut++;
    if (compareKeys(key, MARK_KEY) === 0) {
      mark = { key, value };
      continue;
    }
    batch.put(key, value);
    bytes += key.length + value.length + ENTRY_OVERHEAD;
    if (bytes < batchBytes) continue;
    target.commit(batch);
    batch = new WriteBatch();
    bytes = 0;
    yield progress();
  }
  checkRead(runs, read);
  if (mark !== null) batch.put(mark.key, mark.value);
  target.commit(batch);
  checkTarget(target, entriesPut);
  return progress();
}

function checkRead(
  runs: readonly RunReader[],
  read: { readonly entries: number; readonly tombstones: number },
): void {
  const entries = runs.reduce((sum, { entryCount }) => sum + entryCount, 0);
  const tombstones = runs.reduce((sum, { tombstoneCount }) => sum + tombstoneCount, 0);
  if (read.entries === entries && read.tombstones === tombstones) return;
  const what = `the runs up to it have ${read.entries} entries, ${read.tombstones} of them tombstones, instead of ${entries} and ${tombstones}`;
  throw corruptRun(runs.at(-1)!.path, 0, what);
}

function checkTarget(target: KeyValueStore, expected: number): void {
  let count = 0;
  for (const entry of target.range(ALL)) if (entry.key.length > 0) count++;
  if (count !== expected)
    throw new StoreError(
      "CORRUPT_CATALOG",
      `Cannot load the catalog: ${expected} entries were put and ${count} are there; load it again into an empty store`,
    );
}
