/**
 * Keeps a store's copy in object storage up to date. What it does are procedures (remote-steps.ts) that a service runs in the
 * background, or a call waits for.
 *
 *   unclaimed --claim--> claimed --slices, packs, runs, manifest--> claimed        claimed --another writer--> fenced
 *
 * I1. A slice goes up after the packs that its records refer to; a manifest after all that it names (N2).
 * I2. `uploadedLsn`: records up to it are in object storage, in slices or in the checkpoint of the manifest, and nobody who
 *     takes over can miss them.
 * I3. Every procedure may end anywhere, by an error or because it is given up, and be run again (S1). What a request that was
 *     given up has done all the same is adopted: it says that this writer did it.
 * I4. The slices from a manifest's `logStart` on have the log from its checkpoint on without a gap. So a position whose segment is
 *     gone is given up: a manifest with a later checkpoint comes first, then the log goes on from the start of a segment.
 * I5. Ownership that was not confirmed for half the time after which fences may be deleted is looked up again: before the
 *     work, and after a slice before anybody relies on it. Whatever grace either of two writers was given, that time is
 *     FENCE_MS_MIN at least.
 * I6. A slice goes up after a manifest with the header (its keys) that its records need.
 */
import { InvariantError, StoreError } from "../errors.ts";
import { type LogPosition, LogTail } from "../log/log-tail.ts";
import { readFileSync } from "../storage/whole-file.ts";
import {
  type Claim,
  claimRemote,
  equal,
  fencedBy,
  isConditionFailed,
  readManifest,
  readSlice,
  replaceManifest,
  type StoredManifest,
} from "./claim.ts";
import { encodeSlice, type LogSlice, type Writer } from "./log-slice.ts";
import { type Manifest, numberedEpoch, type StoredRun } from "./manifest.ts";
import { firstNeededSegment, positionAfter } from "./log-place.ts";
import { numberedFile, numberedKey, RUN_PREFIX, sliceKey } from "./remote-keys.ts";
import { putObject, type RemoteProcedure, type RemoteStep } from "./remote-steps.ts";
import type { LocalFile, UploadSource } from "./upload-source.ts";

/** For so long no slice is deleted that is not needed, in milliseconds: another writer may not know of the fence that it is. */
export const FENCE_MS_MIN: number = 10 * 60 * 1000;
/** About the largest slice, in bytes. */
const SLICE_BYTES_MAX = 8 * 1024 * 1024;
const CHECKPOINT_ATTEMPTS_MAX = 10;

export interface UploaderOptions {
  readonly source: UploadSource;
  readonly writerName: string;
  /** 8 bytes, new for each opening. */
  readonly random: Uint8Array;
  /** A claim made before the store was opened, by who took it over. */
  readonly claim?: Claim;
  /** I5; see RemoteOptions. In milliseconds. */
  readonly graceMs: number;
}

export interface UploadStatistics {
  slices: number;
  manifests: number;
  files: number;
  runs: number;
  bytes: number;
}

export class Uploader {
  readonly #options: UploaderOptions;
  readonly #tail: LogTail;
  readonly statistics: UploadStatistics = { slices: 0, manifests: 0, files: 0, runs: 0, bytes: 0 };
  #writer: Writer | null = null;
  #stored: StoredManifest | null = null;
  #claim: Claim | null = null;
  #files: Map<string, number> = new Map();
  #nextSequence = 1;
  /** Null: not known yet, or I4. */
  #position: LogPosition | null = null;
  /** Packs may be missing that records refer to: until all of them are there, no slice goes up (I1). */
  #isPackMissing = true;
  /** The first slice with the header of a segment. */
  readonly #segmentStarts: Map<number, number> = new Map();
  #uploadedLsn = 0;
  #confirmedMs = 0;
  #fenced: StoreError | null = null;

  constructor(options: UploaderOptions) {
    const { storage, storeId, cipher } = options.source;
    this.#options = options;
    this.#tail = new LogTail({ storage, storeId, cipher });
  }

  /** I2. */
  get uploadedLsn(): number {
    return this.#uploadedLsn;
  }

  get fenced(): StoreError | null {
    return this.#fenced;
  }

  get manifest(): Manifest | null {
    return this.#stored?.manifest ?? null;
  }

  /** Whether there is something that is not in object storage yet. */
  get hasWork(): boolean {
    const { source } = this.#options;
    return (
      source.durableLsn > this.#uploadedLsn || this.isCheckpointBehind || this.#isHeaderBehind()
    );
  }

  /** Brings up the log as far as it is durable here. */
  *uploadLog(): RemoteProcedure<void> {
    yield* this.#connect();
    yield* this.#putFirstManifest();
    yield* this.#uploadSlices();
  }

  /** Brings up everything. */
  *uploadAll(): RemoteProcedure<void> {
    yield* this.#connect();
    yield* this.#putFirstManifest();
    yield* this.#uploadSlices();
    yield* this.#uploadCheckpoint();
    yield* this.#uploadSlices();
  }

  /** Replaces the manifest, to add to its garbage or take from it; the rest stays. False: an earlier one came in between. */
  *replaceGarbage(garbage: Manifest["garbage"]): RemoteProcedure<boolean> {
    const { manifest } = this.#requireStored();
    return yield* this.#putManifest({ ...manifest, garbage });
  }

  /** Whoever deletes has to be the writer still. Throws FENCED. */
  *confirm(): RemoteProcedure<void> {
    const stored = yield* readManifest();
    const writer = this.#requireWriter();
    if (stored === null || stored.manifest.writer.epoch !== writer.epoch)
      throw this.#fence(stored?.manifest.writer ?? { name: "somebody else", epoch: 0 });
    this.#confirmedMs = this.#options.source.now();
  }

  /** The object was deleted, because no manifest needs it. */
  forgetFile(key: string): void {
    this.#files.delete(key);
  }

  keyOf(path: string): string | null {
    const file = numberedFile(path);
    if (file === null) return null;
    return numberedKey(file, numberedEpoch(this.#epochs(file.kind), file.number));
  }

  #epochs(kind: "pack" | "history"): Manifest["packEpochs"] {
    const claim = this.#requireClaim();
    return kind === "pack" ? claim.packEpochs : claim.historyEpochs;
  }

  *#connect(): RemoteProcedure<void> {
    if (this.#fenced !== null) throw this.#fenced;
    if (this.#writer !== null) {
      yield* this.#confirmOwnership();
      return;
    }
    const { source, writerName, random } = this.#options;
    const { storeId, replica } = source;
    const claim =
      this.#options.claim ??
      (yield* this.#orFenced(
        claimRemote({
          storeId,
          replica,
          random,
          writerName,
          takeOver: false,
          now: () => source.now(),
        }),
      ));
    const place = yield* positionAfter(claim, source);
    this.#claim = claim;
    this.#stored = claim.manifest;
    this.#files = new Map(claim.files);
    this.#nextSequence = claim.nextSequence;
    this.#position = place.position;
    this.#uploadedLsn = Math.max(place.lsn, claim.manifest?.manifest.checkpointLsn ?? 0);
    this.#confirmedMs = source.now();
    this.#writer = claim.writer;
  }

  /** I5. */
  *#confirmOwnership(): RemoteProcedure<void> {
    const { source, graceMs } = this.#options;
    if (this.#stored === null) return;
    const trustedMs = Math.min(graceMs, FENCE_MS_MIN) / 2;
    if (Math.abs(source.now() - this.#confirmedMs) >= trustedMs) yield* this.confirm();
  }

  /** Without one nobody could read the slices. */
  *#putFirstManifest(): RemoteProcedure<void> {
    while (this.#stored === null)
      if (this.#options.source.catalogState() !== null) yield* this.#uploadCheckpoint();
      else yield* this.#putManifest(this.#nextManifest([], [], { mark: null, checkpointLsn: 0 }));
  }

  #isHeaderBehind(): boolean {
    const known = this.#stored?.manifest.header;
    return known !== undefined && known !== this.#options.source.header();
  }

  /** I6. */
  *#putHeader(): RemoteProcedure<void> {
    const header = this.#options.source.header();
    yield* this.#putManifest({ ...this.#requireStored().manifest, header });
  }

  *#uploadSlices(): RemoteProcedure<void> {
    const { source } = this.#options;
    for (;;) {
      if (this.#isHeaderBehind()) {
        yield* this.#putHeader();
        continue;
      }
      const maxLsn = source.durableLsn;
      this.#position ??= this.#positionAfterCheckpoint();
      if (this.#position === null) {
        yield* this.#uploadLaterCheckpoint();
        continue;
      }
      const found = this.#tail.pieces(this.#position, maxLsn, SLICE_BYTES_MAX);
      if (found.isGone) {
        this.#position = null; // I4
        continue;
      }
      if (found.pieces.length === 0) return;
      this.#isPackMissing ||= source.hasStagedPacks();
      if (this.#isPackMissing) {
        // What is not here any more no record refers to.
        yield* this.#uploadPacks();
        continue;
      }
      const isAdded = yield* this.#putSlice(found);
      if (isAdded && found.lastLsn >= maxLsn) return;
    }
  }

  /** I4: the log here begins after what the manifest has. */
  *#uploadLaterCheckpoint(): RemoteProcedure<void> {
    const before = this.#requireStored().manifest.checkpointLsn;
    yield* this.#uploadCheckpoint();
    const after = this.#requireStored().manifest.checkpointLsn;
    if (after <= before) throw new InvariantError("The log goes on after a checkpoint");
  }

  /** False: an own slice that was given up is there; the position is after it now. */
  *#putSlice(found: ReturnType<LogTail["pieces"]>): RemoteProcedure<boolean> {
    const { source } = this.#options;
    const slice: LogSlice = {
      sequence: this.#nextSequence,
      storeId: source.storeId,
      writer: this.#requireWriter(),
      isFence: false,
      firstLsn: found.firstLsn,
      lastLsn: found.lastLsn,
      atMs: source.now(),
      pieces: found.pieces,
    };
    const body = encodeSlice(slice);
    try {
      yield* putObject(sliceKey(slice.sequence), body, { absent: true });
    } catch (error) {
      if (!isConditionFailed(error)) throw error;
      const there = yield* readSlice(slice.sequence);
      if (there === null) throw error;
      if (!equal(there.writer.id, slice.writer.id)) throw this.#fence(there.writer);
      yield* this.#confirmOwnership(); // I5
      this.#adopt(there, null); // I3
      return false;
    }
    yield* this.#confirmOwnership();
    this.#adopt(slice, found.next);
    this.statistics.slices++;
    this.statistics.bytes += body.length;
    return true;
  }

  /** `next`: where the log goes on; null when the slice tells. */
  #adopt(slice: LogSlice, next: LogPosition | null): void {
    const { sequence, pieces, lastLsn } = slice;
    const last = pieces.at(-1);
    this.#nextSequence = sequence + 1;
    this.#confirmedMs = this.#options.source.now();
    // I4: what an earlier attempt has put where a manifest that came since wants the start of a segment.
    const isFirst = sequence === this.#requireStored().manifest.logStart;
    if (
      isFirst &&
      !pieces.some(({ segment, offset }) => segment === last?.segment && offset === 0)
    ) {
      this.#position = null;
      return;
    }
    this.#uploadedLsn = Math.max(this.#uploadedLsn, lastLsn);
    for (const piece of pieces)
      if (piece.offset === 0) this.#segmentStarts.set(piece.segment, sequence);
    if (next !== null) this.#position = next;
    else if (last !== undefined)
      this.#position = { segment: last.segment, offset: last.offset + last.bytes.length };
  }

  /** Null: the log here begins later. */
  #positionAfterCheckpoint(): LogPosition | null {
    const { source } = this.#options;
    const segment = firstNeededSegment(source, this.#requireStored().manifest.checkpointLsn);
    return segment === null ? null : { segment, offset: 0 };
  }

  /** Whether the catalog has changed since the manifest was stored. */
  get isCheckpointBehind(): boolean {
    const state = this.#options.source.catalogState();
    if (state === null) return false;
    const known = this.#stored?.manifest.mark;
    return known?.sequence !== state.mark.sequence || known.nonce !== state.mark.nonce;
  }

  /** Brings up the catalog as it is now, with all that it names. */
  *#uploadCheckpoint(): RemoteProcedure<void> {
    const { source } = this.#options;
    for (let attempt = 0; attempt < CHECKPOINT_ATTEMPTS_MAX; attempt++) {
      if (!this.isCheckpointBehind) return;
      const manifest = this.#stored?.manifest ?? null;
      const runs = manifest?.runs ?? [];
      // What the catalog names in the turn in which the run begins: what goes before it was stored makes the run useless.
      this.#isPackMissing = true;
      const named = [...source.completePacks(), ...source.historyFiles()];
      const made = yield* paused(source.makeRun(runs, manifest?.mark ?? null));
      if (made === null) return;
      const isComplete = (yield* this.#uploadPacks()) && (yield* this.#uploadFiles(named));
      if (!isComplete) continue;
      const key = `${RUN_PREFIX}${made.run.path.slice(made.run.path.lastIndexOf("/") + 1)}`;
      const body = (): Uint8Array => readFileSync(source.storage, made.run.path);
      yield { type: "put", key, body, transfer: true };
      this.statistics.runs++;
      this.statistics.bytes += made.run.size;
      const { size, isBase, replaces } = made.run;
      const kept = runs.slice(0, runs.length - replaces);
      const replaced = runs.slice(runs.length - replaces);
      const next = [...kept, { key, size, isBase }];
      if (!(yield* this.#putManifest(this.#nextManifest(next, replaced, made.state)))) continue;
      source.runStored(made, next);
      return;
    }
    throw new StoreError(
      "REMOTE_UNAVAILABLE",
      `Cannot upload a checkpoint: it was out of date before it was complete ${CHECKPOINT_ATTEMPTS_MAX} times`,
      { retryable: true },
    );
  }

  *#uploadPacks(): RemoteProcedure<boolean> {
    this.#isPackMissing = true;
    const isComplete = yield* this.#uploadFiles(this.#options.source.completePacks());
    this.#isPackMissing = false;
    return isComplete;
  }

  #nextManifest(
    runs: readonly StoredRun[],
    replaced: readonly StoredRun[],
    state: { readonly mark: Manifest["mark"]; readonly checkpointLsn: number },
  ): Manifest {
    const { source } = this.#options;
    const { packEpochs, historyEpochs } = this.#requireClaim();
    const writer = this.#requireWriter();
    const before = this.#stored?.manifest ?? null;
    const number = (before?.number ?? 0) + 1;
    const atMs = source.now();
    const garbage = replaced.map(({ key }) => ({ key, sinceNumber: number, sinceMs: atMs }));
    return {
      number,
      storeId: Buffer.from(source.storeId).toString("hex"),
      atMs,
      writer: {
        epoch: writer.epoch,
        id: Buffer.from(writer.id).toString("hex"),
        name: writer.name,
        replica: source.replica,
      },
      header: source.header(),
      checkpointLsn: state.checkpointLsn,
      mark: state.mark,
      runs,
      logStart: this.#logStart(state.checkpointLsn),
      packEpochs,
      historyEpochs,
      garbage: [...(before?.garbage ?? []), ...garbage],
    };
  }

  /** The slice with the start of the segment that recovery begins with; what was before stays if that is not known. */
  #logStart(checkpointLsn: number): number {
    const segment = firstNeededSegment(this.#options.source, checkpointLsn);
    const position = this.#position;
    if (position === null) return this.#nextSequence;
    if (segment === null) return this.#stored?.manifest.logStart ?? this.#nextSequence;
    const isNext = position.segment === segment && position.offset === 0;
    if (position.segment < segment || isNext) return this.#nextSequence;
    const start = this.#segmentStarts.get(segment);
    for (const known of this.#segmentStarts.keys())
      if (known < segment) this.#segmentStarts.delete(known);
    return start ?? this.#stored?.manifest.logStart ?? 1;
  }

  /** False: an own one that was given up had taken effect (I3); it is known now. */
  *#putManifest(manifest: Manifest): RemoteProcedure<boolean> {
    const next = { ...manifest, number: (this.#stored?.manifest.number ?? 0) + 1 };
    const stored = yield* replaceManifest(this.#stored, next);
    if (stored === null) {
      const there = yield* readManifest();
      const writer = this.#requireWriter();
      if (there === null || there.manifest.writer.id !== Buffer.from(writer.id).toString("hex"))
        throw this.#fence(there?.manifest.writer ?? { name: "somebody else", epoch: 0 });
      this.#show(there);
      return false;
    }
    this.#show(stored);
    this.statistics.manifests++;
    return true;
  }

  #show(stored: StoredManifest): void {
    this.#stored = stored;
    this.#confirmedMs = this.#options.source.now();
    this.#uploadedLsn = Math.max(this.#uploadedLsn, stored.manifest.checkpointLsn);
    // I4: from here on the log begins with the next slice, so that begins with a segment.
    if (stored.manifest.logStart >= this.#nextSequence) this.#position = null;
  }

  /** False: one of them is not here any more. */
  *#uploadFiles(files: readonly LocalFile[]): RemoteProcedure<boolean> {
    const { storage } = this.#options.source;
    const missing = files.filter(({ path }) => !this.#files.has(this.keyOf(path)!));
    let isComplete = true;
    // One group at a time: what a group has stored is remembered even if a later one fails.
    for (const files of groupsOf(missing)) {
      const group = files.filter(
        ({ path }) => storage.existsSync(path) || ((isComplete = false), false),
      );
      const steps: RemoteStep[] = group.map(({ path }) => ({
        type: "put",
        key: this.keyOf(path)!,
        body: () => readFileSync(storage, path),
        transfer: true,
      }));
      try {
        yield { type: "all", steps };
      } catch (error) {
        if (!(error instanceof StoreError) || error.code !== "FILE_NOT_FOUND") throw error;
        isComplete = false;
        continue;
      }
      for (const { path, size } of group) {
        this.#files.set(this.keyOf(path)!, size);
        this.statistics.files++;
        this.statistics.bytes += size;
      }
    }
    return isComplete;
  }

  #fence(writer: { readonly name: string; readonly epoch: number }): StoreError {
    return (this.#fenced = fencedBy(writer));
  }

  *#orFenced<T>(procedure: RemoteProcedure<T>): RemoteProcedure<T> {
    try {
      return yield* procedure;
    } catch (error) {
      const isFinal =
        error instanceof StoreError &&
        (error.code === "FENCED" || error.code === "REMOTE_CONFLICT");
      if (isFinal) this.#fenced = error;
      throw error;
    }
  }

  #requireClaim(): Claim {
    if (this.#claim === null) throw new InvariantError("The store in object storage is claimed");
    return this.#claim;
  }

  #requireWriter(): Writer {
    if (this.#writer === null) throw new InvariantError("The store in object storage is claimed");
    return this.#writer;
  }

  #requireStored(): StoredManifest {
    if (this.#stored === null) throw new InvariantError("A manifest has been stored");
    return this.#stored;
  }
}

/** Files of one "all": so many, and no more bytes unless it is one file. They are in memory at once. */
const GROUP_FILES = 4;
const GROUP_BYTES = 16 * 1024 * 1024;

function groupsOf(files: readonly LocalFile[]): LocalFile[][] {
  const groups: LocalFile[][] = [];
  let bytes = 0;
  for (const file of files) {
    const last = groups.at(-1);
    bytes += file.size;
    if (last !== undefined && last.length < GROUP_FILES && bytes <= GROUP_BYTES) last.push(file);
    else {
      groups.push([file]);
      bytes = file.size;
    }
  }
  return groups;
}

/** Local work in slices, others having their turn in between. */
export function* paused<T>(work: Generator<void, T>): RemoteProcedure<T> {
  for (;;) {
    const until = performance.now() + 2;
    let result = work.next();
    while (result.done !== true && performance.now() < until) result = work.next();
    if (result.done === true) return result.value;
    yield { type: "pause" };
  }
}
