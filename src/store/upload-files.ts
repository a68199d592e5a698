/**
 * What an open store gives to the upload (src/remote/uploader.ts): its log, packs, history segments, and its catalog as runs.
 *
 *   upload/batch-<number>.run   one batch of the catalog, written before the catalog has it; or several from that one on
 *   upload/<name>.run           a run as it is in object storage, under the same name, or about to be
 *   upload/pack-numbers         pack-numbers.ts
 *
 * U1. Batches that follow each other from the mark of the stored manifest to the catalog's are what the stored runs lack. Where
 *     one is missing (a crash, an upload that was off for a while) the whole catalog goes up anew. So these files need no
 *     sync, and losing them loses nothing.
 * U2. A batch that was written and then not committed has a mark that the catalog never had: it follows nothing.
 * U3. Packs that may have been uploaded have numbers that no later pack gets, whatever garbage collection deletes here: the same
 *     name always stands for the same bytes.
 * U4. What waits is bounded: beyond BATCHES_MAX files batches become one, beyond BATCH_BYTES_MAX they go, and the whole catalog
 *     goes up when it can (U1).
 */
import { randomBytes } from "node:crypto";
import type { BatchListener, RecordingKeyValueStore } from "../catalog/recording-key-value.ts";
import { mergeRuns, writeBaseRun, writeBatchRun } from "../catalog/run-compaction.ts";
import { type CatalogMark, isSameMark } from "../catalog/run-format.ts";
import { planRuns } from "../catalog/run-plan.ts";
import { RunReader } from "../catalog/run-reader.ts";
import { HISTORY_DIRECTORY, historyPath } from "../checkpoint/history-files.ts";
import type { StoreState } from "../checkpoint/store-state.ts";
import { invariant, StoreError } from "../errors.ts";
import { PACK_DIRECTORY, packNumber, packPath } from "../page/pack-format.ts";
import type { StoredMark, StoredRun } from "../remote/manifest.ts";
import { RUN_PREFIX } from "../remote/remote-keys.ts";
import { PACK_NUMBERS_PATH, readPackNumbers, writePackNumbers } from "./pack-numbers.ts";
import type { CatalogState, LocalFile, MadeRun, UploadSource } from "../remote/upload-source.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";

const UPLOAD_DIRECTORY = "upload";
const BATCH = /^batch-(\d{16})\.run$/;
const SLICE_ROWS = 1000;
const BATCHES_MAX = 256;
const BATCH_BYTES_MAX = 64 * 1024 * 1024;

export interface UploadFilesOptions {
  readonly state: StoreState;
  /** The directory, without what is in object storage only. */
  readonly local: Storage;
  readonly catalog: RecordingKeyValueStore;
  /** Hex. */
  readonly replica: string;
  readonly header: () => string;
  readonly now: () => number;
}

export class UploadFiles implements UploadSource, BatchListener {
  readonly storage: Storage;
  readonly replica: string;
  readonly #options: UploadFilesOptions;
  readonly #sizes: Map<string, number> = new Map();
  /** Chunks were put into packs by transactions since `completePacks` was asked. At first nobody knows. */
  #hasStaged = true;
  /** U3: as the file has it. */
  #reservedPacks: number;
  #batchCount: number;
  /** The state that the last run was made of: batches up to it and after it stay apart. */
  #runSequence = 0;

  constructor(options: UploadFilesOptions) {
    this.#options = options;
    this.storage = options.local;
    this.replica = options.replica;
    this.storage.makeDirectorySync(UPLOAD_DIRECTORY);
    this.#batchCount = this.#batchNumbers().length;
    this.#reservedPacks = readPackNumbers(this.storage);
    options.state.chunks.reservePackNumbers(this.#reservedPacks);
  }

  get storeId(): Uint8Array {
    return this.#options.state.storeId;
  }

  get cipher(): UploadSource["cipher"] {
    return this.#options.state.cipher;
  }

  get durableLsn(): number {
    return this.#options.state.log.durableLsn;
  }

  get lastLsn(): number {
    return this.#options.state.log.lastLsn;
  }

  header(): string {
    return this.#options.header();
  }

  now(): number {
    return this.#options.now();
  }

  /** A transaction has put pages into chunks that its record will refer to. */
  noteStaged(): void {
    this.#hasStaged = true;
  }

  hasStagedPacks(): boolean {
    return this.#hasStaged;
  }

  catalogState(): CatalogState | null {
    const mark = this.#options.catalog.mark();
    if (mark === null) return null;
    const checkpointLsn = this.#options.state.catalog.state()?.checkpointLsn ?? 0;
    return { mark: toStored(mark), checkpointLsn };
  }

  completePacks(): readonly LocalFile[] {
    const { chunks } = this.#options.state;
    chunks.finishPack();
    // A pack that a power loss takes away gives its number to another: it must not be in object storage by then.
    chunks.syncSync();
    if (chunks.nextPackNumber > this.#reservedPacks) {
      this.#reservedPacks = chunks.nextPackNumber;
      writePackNumbers(this.storage, this.#reservedPacks);
    }
    this.#hasStaged = false;
    const files: LocalFile[] = [];
    for (const name of this.storage.listSync(PACK_DIRECTORY)) {
      const number = packNumber(name);
      if (number === null || number >= chunks.nextPackNumber) continue;
      const path = packPath(number);
      files.push({ path, number, size: this.#sizeOf(path) });
    }
    return files;
  }

  historyFiles(): readonly LocalFile[] {
    const local = new Set(this.storage.listSync(HISTORY_DIRECTORY));
    const files: LocalFile[] = [];
    for (const { segment, size } of this.#options.state.catalog.historySegments()) {
      const path = historyPath(segment);
      if (local.has(path.slice(HISTORY_DIRECTORY.length + 1)))
        files.push({ path, number: segment, size });
    }
    return files;
  }

  *neededFiles(): Generator<void, { packs: ReadonlySet<number>; history: ReadonlySet<number> }> {
    const { catalog, pending } = this.#options.state;
    const packs = new Set<number>();
    let count = 0;
    for (const { place } of catalog.chunks()) {
      packs.add(place.pack);
      if (++count % SLICE_ROWS === 0) yield;
    }
    for (const { location } of pending.chunks.values())
      if (location !== null) packs.add(location.pack);
    const history = new Set<number>();
    for (const { segment } of catalog.historySegments()) history.add(segment);
    return { packs, history };
  }

  onBatch(
    operations: Parameters<typeof writeBatchRun>[1]["operations"],
    mark: CatalogMark,
    previous: CatalogMark | null,
  ): void {
    const path = batchPath(mark.sequence);
    if (++this.#batchCount > BATCHES_MAX) this.#mergeBatches(mark.sequence);
    this.#deleteIfThere(path);
    const file = this.storage.openFileSync(path, { mode: "create" });
    try {
      const { storeId, cipher } = this;
      writeBatchRun(file, { operations, mark, previous }, { storeId, cipher });
    } finally {
      file.closeSync();
    }
  }

  *makeRun(runs: readonly StoredRun[], mark: StoredMark | null): Generator<void, MadeRun | null> {
    const state = this.catalogState();
    if (state === null || (mark !== null && isEqual(mark, state.mark))) return null;
    this.#deleteRuns(runs); // What an attempt has left that failed.
    this.#runSequence = state.mark.sequence;
    const name = randomBytes(12).toString("hex");
    const path = `${UPLOAD_DIRECTORY}/${name}.run`;
    const opened: StorageFile[] = [];
    try {
      const batches = mark === null ? null : this.#batchesFrom(mark, state.mark, opened);
      const stored = batches === null ? null : this.#toReplace(runs, batches, opened);
      const file = this.storage.openFileSync(path, { mode: "create" });
      opened.push(file);
      const options = { storeId: this.storeId, cipher: this.cipher };
      if (batches === null || stored === null) {
        const { size } = yield* writeBaseRun(this.#options.catalog, file, options);
        return { run: { path, size, isBase: true, replaces: runs.length }, state };
      }
      const merging = mergeRuns([...stored, ...batches], file, options);
      for (;;) {
        const step = merging.next();
        if (step.done === true) {
          const run = { path, size: step.value.size, isBase: false, replaces: stored.length };
          return { run, state };
        }
        invariant(step.value === undefined, "The runs to merge are on this machine");
        yield;
      }
    } finally {
      for (const file of opened) file.closeSync();
    }
  }

  runStored({ state }: MadeRun, runs: readonly StoredRun[]): void {
    this.#deleteRuns(runs);
    const numbers = this.#batchNumbers();
    const stored = numbers.filter((number) => number <= state.mark.sequence);
    for (const number of stored) this.storage.deleteSync(batchPath(number));
    this.#batchCount = numbers.length - stored.length;
  }

  #batchNumbers(): number[] {
    return this.storage
      .listSync(UPLOAD_DIRECTORY)
      .map((name) => Number(BATCH.exec(name)?.[1] ?? 0))
      .filter((number) => number > 0)
      .sort((left, right) => left - right);
  }

  /** U4: those before `sequence`. */
  #mergeBatches(sequence: number): void {
    const numbers = this.#batchNumbers().filter((number) => number < sequence);
    const groups = [
      numbers.filter((number) => number <= this.#runSequence),
      numbers.filter((number) => number > this.#runSequence),
    ];
    for (const group of groups) if (group.length > 1) this.#mergeGroup(group);
    this.#batchCount = this.#batchNumbers().length + 1;
  }

  #mergeGroup(numbers: readonly number[]): void {
    const opened: StorageFile[] = [];
    const temporary = `${UPLOAD_DIRECTORY}/merging.run`;
    let isMerged = false;
    try {
      const runs: RunReader[] = [];
      for (const number of numbers) {
        const run = this.#openRun(batchPath(number), opened);
        const before = runs.at(-1);
        const previous = run?.scope.previous ?? null;
        const follows =
          before === undefined || (previous !== null && isSameMark(previous, before.scope.mark));
        if (run === null || !follows) runs.length = 0; // U2: what was before follows nothing.
        if (run !== null) runs.push(run);
      }
      const size = runs.reduce((sum, run) => sum + run.size, 0);
      if (runs.length === numbers.length && size <= BATCH_BYTES_MAX) {
        this.#deleteIfThere(temporary);
        const file = this.storage.openFileSync(temporary, { mode: "create" });
        opened.push(file);
        const merging = mergeRuns(runs, file, { cipher: this.cipher });
        while (merging.next().done !== true) continue;
        isMerged = true;
      }
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== "CORRUPT_CATALOG") throw error;
    } finally {
      for (const file of opened) file.closeSync();
    }
    for (const number of numbers) this.storage.deleteSync(batchPath(number));
    if (isMerged) this.storage.renameSync(temporary, batchPath(numbers[0]!));
  }

  /** All but those that are stored and may be merged with others. */
  #deleteRuns(stored: readonly StoredRun[]): void {
    const kept = new Set(stored.filter(({ isBase }) => !isBase).map(({ key }) => fileOf(key)));
    for (const name of this.storage.listSync(UPLOAD_DIRECTORY)) {
      const path = `${UPLOAD_DIRECTORY}/${name}`;
      const isRun = !BATCH.test(name) && path !== PACK_NUMBERS_PATH;
      if (isRun && !kept.has(path)) this.storage.deleteSync(path);
    }
  }

  /** U1. Null where one is missing. */
  #batchesFrom(from: StoredMark, to: StoredMark, opened: StorageFile[]): RunReader[] | null {
    const readers: RunReader[] = [];
    let mark = toMark(from);
    const end = toMark(to);
    while (!isSameMark(mark, end)) {
      const reader = this.#openRun(batchPath(mark.sequence + 1), opened);
      if (reader === null || !isSameMark(reader.scope.previous, mark)) return null;
      mark = reader.scope.mark;
      readers.push(reader);
    }
    return readers;
  }

  /** The newest stored runs that are to be merged with the batches; null: all of them, with the base. */
  #toReplace(
    runs: readonly StoredRun[],
    batches: readonly RunReader[],
    opened: StorageFile[],
  ): RunReader[] | null {
    const size = batches.reduce((sum, batch) => sum + batch.size, 0);
    const plan = planRuns([...runs, { size, isBase: false }]);
    if (plan === null) return [];
    if (plan.from === 0 && (runs[0]?.isBase ?? true)) return null;
    const readers: RunReader[] = [];
    for (const { key } of runs.slice(plan.from)) {
      const reader = this.#openRun(fileOf(key), opened);
      if (reader === null) return null;
      readers.push(reader);
    }
    return readers;
  }

  /** Null when it is missing or damaged: nothing depends on it (U1). */
  #openRun(path: string, opened: StorageFile[]): RunReader | null {
    if (!this.storage.existsSync(path)) return null;
    const file = this.storage.openFileSync(path, { mode: "read" });
    opened.push(file);
    try {
      return RunReader.open(file, { storeId: this.storeId, cipher: this.cipher });
    } catch (error) {
      if (error instanceof StoreError && error.code === "CORRUPT_CATALOG") return null;
      throw error;
    }
  }

  #sizeOf(path: string): number {
    let size = this.#sizes.get(path);
    if (size !== undefined) return size;
    const file = this.storage.openFileSync(path, { mode: "read" });
    try {
      size = file.sizeSync();
    } finally {
      file.closeSync();
    }
    this.#sizes.set(path, size);
    return size;
  }

  #deleteIfThere(path: string): void {
    if (this.storage.existsSync(path)) this.storage.deleteSync(path);
  }
}

function batchPath(number: number): string {
  return `${UPLOAD_DIRECTORY}/batch-${String(number).padStart(16, "0")}.run`;
}

/** Where a stored run is on this machine, if it is. */
function fileOf(key: string): string {
  return `${UPLOAD_DIRECTORY}/${key.slice(RUN_PREFIX.length)}`;
}

function toStored({ sequence, nonce }: CatalogMark): StoredMark {
  return { sequence, nonce: Buffer.from(nonce).toString("hex") };
}

function toMark({ sequence, nonce }: StoredMark): CatalogMark {
  return { sequence, nonce: Uint8Array.from(Buffer.from(nonce, "hex")) };
}

function isEqual(left: StoredMark, right: StoredMark): boolean {
  return left.sequence === right.sequence && left.nonce === right.nonce;
}
