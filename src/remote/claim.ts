/**
 * Becoming the writer of a prefix. One writer at a time; the newest wins, and the others find out at their next request.
 *
 *   read manifest, find the end of the log --put a fence there--> fenced --replace the manifest--> claimed
 *
 * A1. The fence takes the number that the earlier writer's next slice would have: that writer can add nothing to the log.
 * A2. The manifest is replaced as it was read: what the earlier writer stored in between is read again, and kept.
 * A3. The same directory may claim again (a new process of it). Another one only when it is told to take over.
 * A4. The new writer's packs and history segments have names that no other writer uses: they have its epoch from the number on that
 *     its directory counts on from, which is the one after the last file of the manifest's own.
 */
import { StoreError } from "../errors.ts";
import { decodeSlice, encodeSlice, type LogSlice, type Writer } from "./log-slice.ts";
import {
  decodeManifest,
  encodeManifest,
  type EpochStart,
  type Manifest,
  numberedEpoch,
} from "./manifest.ts";
import type { ListedObject } from "./object-store.ts";
import {
  HISTORY_PREFIX,
  MANIFEST_KEY,
  PACK_PREFIX,
  parseNumberedKey,
  SLICE_PREFIX,
  sliceKey,
  sliceSequence,
} from "./remote-keys.ts";
import { getObject, listObjects, putObject, type RemoteProcedure } from "./remote-steps.ts";

const ATTEMPTS_MAX = 20;
const REPLICA_SIZE = 8;

export interface ClaimOptions {
  /** Null: whatever store is there. */
  readonly storeId: Uint8Array | null;
  /** Hex, 8 bytes. */
  readonly replica: string;
  /** 8 bytes, new for each opening. */
  readonly random: Uint8Array;
  readonly writerName: string;
  readonly takeOver: boolean;
  readonly now: () => number;
}

export interface Claim {
  readonly writer: Writer;
  /** Null: nothing has been stored under the prefix yet. */
  readonly manifest: StoredManifest | null;
  /** The number of the next slice. */
  readonly nextSequence: number;
  /** The slices from the manifest's `logStart` on, fences among them. */
  readonly slices: readonly ListedObject[];
  /** Packs and history segments that are there, by key. */
  readonly files: ReadonlyMap<string, number>;
  readonly packEpochs: readonly EpochStart[];
  readonly historyEpochs: readonly EpochStart[];
}

export interface StoredManifest {
  readonly manifest: Manifest;
  readonly etag: string;
}

export function* readManifest(): RemoteProcedure<StoredManifest | null> {
  const object = yield* getObject(MANIFEST_KEY);
  return object === null ? null : { manifest: decodeManifest(object.body), etag: object.etag };
}

export function* readSlice(sequence: number): RemoteProcedure<LogSlice | null> {
  const key = sliceKey(sequence);
  const object = yield* getObject(key);
  return object === null ? null : decodeSlice(object.body, key);
}

/** Throws FENCED, REMOTE_CONFLICT. */
export function* claimRemote(options: ClaimOptions): RemoteProcedure<Claim> {
  const { replica, random } = options;
  const id = Uint8Array.from(Buffer.concat([Buffer.from(replica, "hex"), random]));
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const stored = yield* readManifest();
    checkOwner(stored?.manifest ?? null, options);
    const logStart = stored?.manifest.logStart ?? 1;
    const slices = (yield* listObjects(SLICE_PREFIX, sliceKey(logStart - 1))).filter(
      ({ key }) => sliceSequence(key) !== null,
    );
    const lastSequence = slices.length === 0 ? logStart - 1 : sliceSequence(slices.at(-1)!.key)!;
    const last = slices.length === 0 ? null : yield* readSlice(lastSequence);
    if (last !== null) checkSlice(last, options);
    const epoch = Math.max(stored?.manifest.writer.epoch ?? 0, last?.writer.epoch ?? 0);
    const isOurs = last !== null && equal(last.writer.id, id);
    const writer: Writer = { epoch: isOurs ? epoch : epoch + 1, id, name: options.writerName };
    const storeId = options.storeId ?? Buffer.from(stored?.manifest.storeId ?? "", "hex");
    if (!isOurs && !(yield* putFence(lastSequence + 1, writer, storeId, options))) continue;
    const nextSequence = isOurs ? lastSequence + 1 : lastSequence + 2;
    const files = yield* listFiles();
    const isNew = stored === null || stored.manifest.writer.replica !== replica;
    const packEpochs = epochs(stored?.manifest.packEpochs, isNew, "pack", files, epoch + 1);
    const historyEpochs = epochs(
      stored?.manifest.historyEpochs,
      isNew,
      "history",
      files,
      epoch + 1,
    );
    const common = { writer, nextSequence, slices, files, packEpochs, historyEpochs };
    if (stored === null) return { ...common, manifest: null };
    const claimed = yield* replaceManifest(stored, {
      ...stored.manifest,
      packEpochs,
      historyEpochs,
      number: stored.manifest.number + 1,
      atMs: options.now(),
      writer: {
        epoch: writer.epoch,
        id: Buffer.from(id).toString("hex"),
        name: writer.name,
        replica,
      },
    });
    if (claimed !== null) return { ...common, manifest: claimed };
  }
  throw new StoreError(
    "REMOTE_UNAVAILABLE",
    `Cannot become the writer of the store in object storage: others were faster ${ATTEMPTS_MAX} times`,
    { retryable: true },
  );
}

/**
 * Puts `manifest` in the place of what `stored` was read from (null: of nothing). Null: somebody else has replaced it. A lost
 * answer to an own put is found out by its writer and number.
 */
export function* replaceManifest(
  stored: StoredManifest | null,
  manifest: Manifest,
): RemoteProcedure<StoredManifest | null> {
  try {
    const condition = stored === null ? ({ absent: true } as const) : { etag: stored.etag };
    const { etag } = yield* putObject(MANIFEST_KEY, encodeManifest(manifest), condition);
    return { manifest, etag };
  } catch (error) {
    if (!isConditionFailed(error)) throw error;
  }
  const now = yield* readManifest();
  const isOwn = now !== null && now.manifest.writer.id === manifest.writer.id;
  return isOwn && now.manifest.number === manifest.number ? now : null;
}

export function isConditionFailed(error: unknown): boolean {
  return error instanceof StoreError && error.code === "CONDITION_FAILED";
}

/** FENCED by that writer. */
export function fencedBy(writer: { readonly name: string; readonly epoch: number }): StoreError {
  return new StoreError(
    "FENCED",
    `Cannot write to the store in object storage: ${writer.name} has taken it over; close this store and open it from object storage`,
    { details: { writer: writer.name, epoch: writer.epoch } },
  );
}

function* putFence(
  sequence: number,
  writer: Writer,
  storeId: Uint8Array,
  { now }: ClaimOptions,
): RemoteProcedure<boolean> {
  const fence: LogSlice = {
    sequence,
    storeId,
    writer,
    isFence: true,
    firstLsn: 0,
    lastLsn: 0,
    atMs: now(),
    pieces: [],
  };
  try {
    yield* putObject(sliceKey(sequence), encodeSlice(fence), { absent: true });
    return true;
  } catch (error) {
    if (isConditionFailed(error)) return false; // Perhaps by an own put whose answer was lost: the next attempt sees it.
    throw error;
  }
}

function* listFiles(): RemoteProcedure<Map<string, number>> {
  const files = new Map<string, number>();
  for (const prefix of [PACK_PREFIX, HISTORY_PREFIX])
    for (const { key, size } of yield* listObjects(prefix)) files.set(key, size);
  return files;
}

function checkOwner(manifest: Manifest | null, { storeId, replica, takeOver }: ClaimOptions): void {
  if (manifest === null) return;
  if (storeId !== null && manifest.storeId !== Buffer.from(storeId).toString("hex"))
    throw new StoreError(
      "REMOTE_CONFLICT",
      `Cannot upload: the place in object storage holds another store (${manifest.storeId}); choose another prefix`,
    );
  if (!takeOver && manifest.writer.replica !== replica) throw fencedBy(manifest.writer);
}

function checkSlice(slice: LogSlice, { storeId, replica, takeOver }: ClaimOptions): void {
  if (storeId !== null && !equal(slice.storeId, storeId))
    throw new StoreError(
      "REMOTE_CONFLICT",
      "Cannot upload: the place in object storage holds the log of another store; choose another prefix",
    );
  const owner = Buffer.from(slice.writer.id.subarray(0, REPLICA_SIZE)).toString("hex");
  if (!takeOver && owner !== replica) throw fencedBy(slice.writer);
}

function epochs(
  known: readonly EpochStart[] | undefined,
  isNew: boolean,
  kind: "pack" | "history",
  files: ReadonlyMap<string, number>,
  epoch: number,
): readonly EpochStart[] {
  if (known !== undefined && !isNew) return known;
  // A4: files that a fenced writer goes on storing are not among those that the new one counts on from.
  let from = 0;
  for (const key of files.keys()) {
    const file = parseNumberedKey(key);
    if (file?.kind !== kind || file.epoch !== numberedEpoch(known ?? [], file.number)) continue;
    from = Math.max(from, file.number + 1);
  }
  return [...(known ?? []), { from, epoch }];
}

export function equal(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index]);
}
