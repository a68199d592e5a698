/**
 * Makes catalog runs: of one batch, of several runs, of the whole catalog.
 *
 * The generators yield after each block that they wrote, so that whoever drives them can let others work in between. When they yield
 * a PendingFetch, bytes of a run are in object storage only: fetch them before the next step.
 *
 * O1. A base is the catalog at one moment, whatever is committed meanwhile (K3), under the mark that it has at that moment.
 * O2. Merging changes no answer: the merged run in the place of the runs gives what those gave.
 * O3. Only a base leaves tombstones out, for nothing older is left for them to hide.
 */
import { invariant } from "../errors.ts";
import { NotLocalError, type PendingFetch } from "../storage/not-local.ts";
import type { StorageFile } from "../storage/storage.ts";
import { compareKeys, KEY_SIZE_MAX, sortedOperations } from "./key-order.ts";
import type { KeyValueStore, WriteBatch } from "./key-value.ts";
import { decodeMark, MARK_KEY } from "./recording-key-value.ts";
import { type CatalogMark, NO_MARK } from "./run-format.ts";
import { type MergedEntry, RunMerge, WHOLE_RUN } from "./run-merge.ts";
import { checkRunsFollow } from "./run-order.ts";
import type { RunReader } from "./run-reader.ts";
import { type RunSize, RunWriter, type RunWriterOptions } from "./run-writer.ts";

/** Undefined: a slice of work is done. */
export type RunStep = PendingFetch | undefined;

export interface MakeRunOptions extends RunWriterOptions {
  /** 16 bytes. */
  readonly storeId: Uint8Array;
}

/** A run of one batch, as a BatchListener gets it, into an empty file. */
export function writeBatchRun(
  file: StorageFile,
  batch: {
    readonly operations: WriteBatch["operations"];
    readonly mark: CatalogMark;
    readonly previous: CatalogMark | null;
  },
  options: MakeRunOptions,
): RunSize {
  const { mark, previous } = batch;
  const scope = {
    storeId: options.storeId,
    isBase: false,
    previous: previous ?? NO_MARK,
    mark,
  };
  const writer = new RunWriter(file, scope, options);
  for (const { key, value } of sortedOperations(batch.operations)) writer.add(key, value);
  return writer.finish();
}

/** The whole catalog as one run (O1), into an empty file. */
export function* writeBaseRun(
  store: KeyValueStore,
  file: StorageFile,
  options: MakeRunOptions,
): Generator<undefined, RunSize> {
  const end = new Uint8Array(KEY_SIZE_MAX).fill(0xff);
  let writer: RunWriter | null = null;
  const newWriter = (mark: CatalogMark): RunWriter =>
    new RunWriter(
      file,
      { storeId: options.storeId, isBase: true, previous: NO_MARK, mark },
      options,
    );
  for (const { key, value } of store.range({ start: new Uint8Array(0), end })) {
    // The mark's key is before all others.
    writer ??= newWriter(compareKeys(key, MARK_KEY) === 0 ? decodeMark(key, value) : NO_MARK);
    if (writer.add(key, value)) yield;
  }
  writer ??= newWriter(NO_MARK);
  return writer.finish();
}

/**
 * Several runs that follow each other, from old to new, as one, into an empty file: a base when the first of them is one,
 * otherwise a run with their tombstones. Throws CORRUPT_CATALOG when one of them does not follow the one before.
 */
export function* mergeRuns(
  runs: readonly RunReader[],
  file: StorageFile,
  options: RunWriterOptions,
): Generator<RunStep, RunSize> {
  const first = runs[0];
  const last = runs.at(-1);
  invariant(first !== undefined && last !== undefined, "runs to merge: there are none");
  checkRunsFollow(runs);
  const { isBase, previous, storeId } = first.scope;
  const scope = { storeId, isBase, previous, mark: last.scope.mark };
  const writer = new RunWriter(file, scope, options);
  const merge = new RunMerge(runs, WHOLE_RUN, (reader, number) => reader.readBlock(number));
  for (;;) {
    let entry: MergedEntry | null;
    try {
      entry = merge.next();
    } catch (error) {
      if (!(error instanceof NotLocalError)) throw error;
      yield error.pending;
      continue;
    }
    if (entry === null) return writer.finish();
    if (entry.value === null && isBase) continue;
    if (writer.add(entry.key, entry.value)) yield;
  }
}
