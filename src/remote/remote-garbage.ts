/**
 * Deletes what the store in object storage does not need any more:
 *
 *   needed --the catalog, the manifest and the log do without it--> garbage (listed in the manifest) --grace--> deleted
 *
 * X1. Only the writer deletes, and only what the manifest that it has put lists as garbage since `graceMs`. It makes sure
 *     that it is the writer still just before.
 * X2. A reader at work says which manifest it reads by, in the name of an object that it renews. What that manifest may need
 *     is not deleted while the object is fresh. So a reader that stops renewing, or is cut off, has the time of grace.
 * X3. What is needed again by then is taken from the list. Names are never used twice for other contents, so nothing that is
 *     needed can have the name of what is deleted.
 * X4. Whether a reader's object is fresh is said by one clock, the service's.
 * X5. A manifest never lists as garbage what it needs itself: only what the catalog did without when it was the one that the
 *     manifest names. Otherwise whoever reads by that manifest would miss it.
 */
import type { GarbageEntry } from "./manifest.ts";
import type { ListedObject } from "./object-store.ts";
import {
  HISTORY_PREFIX,
  PACK_PREFIX,
  parseReaderKey,
  READER_CLOCK_KEY,
  READER_PREFIX,
  RUN_PREFIX,
  SLICE_PREFIX,
  sliceSequence,
} from "./remote-keys.ts";
import { listObjects, putObject, type RemoteProcedure } from "./remote-steps.ts";
import type { UploadSource } from "./upload-source.ts";
import { FENCE_MS_MIN, paused, type Uploader } from "./uploader.ts";

/** A reader that has not renewed its object for this long is gone. In milliseconds. */
export const READER_EXPIRY_MS: number = 10 * 60 * 1000;

export interface RemoteGarbageReport {
  readonly deletedObjects: number;
  readonly deletedBytes: number;
  /** Listed as garbage and still there. */
  readonly waitingObjects: number;
  readonly waitingBytes: number;
}

const NOTHING: RemoteGarbageReport = {
  deletedObjects: 0,
  deletedBytes: 0,
  waitingObjects: 0,
  waitingBytes: 0,
};

export function* collectRemote(
  uploader: Uploader,
  source: UploadSource,
  graceMs: number,
): RemoteProcedure<RemoteGarbageReport> {
  const { unneeded, isCurrent } = yield* listWhatIsUploaded(uploader, source);
  const { manifest } = uploader;
  if (manifest === null) return NOTHING;
  const number = yield* oldestReader();
  const known = new Map(manifest.garbage.map((entry) => [entry.key, entry]));
  const now = source.now();
  const garbage: GarbageEntry[] = [];
  const expired: ListedObject[] = [];
  let waitingBytes = 0;
  for (const object of unneeded) {
    if (!isCurrent && !known.has(object.key)) continue; // X5
    const entry = known.get(object.key) ?? {
      key: object.key,
      sinceNumber: manifest.number + 1,
      sinceMs: now,
    };
    const isSlice = sliceSequence(object.key) !== null;
    const keptMs = isSlice ? Math.max(graceMs, FENCE_MS_MIN) : graceMs; // I5 in uploader.ts
    if (known.has(entry.key) && now - entry.sinceMs >= keptMs && entry.sinceNumber <= number)
      expired.push(object);
    else {
      garbage.push(entry);
      waitingBytes += object.size;
    }
  }
  if (expired.length > 0) {
    yield* uploader.confirm();
    yield { type: "delete", keys: expired.map(({ key }) => key) };
  }
  for (const { key } of expired) uploader.forgetFile(key);
  const isChanged =
    garbage.length !== manifest.garbage.length || garbage.some(({ key }) => !known.has(key));
  if (isChanged) yield* uploader.replaceGarbage(garbage);
  return {
    deletedObjects: expired.length,
    deletedBytes: expired.reduce((sum, { size }) => sum + size, 0),
    waitingObjects: garbage.length,
    waitingBytes,
  };
}

const ATTEMPTS_MAX = 3;

/** X5: uploads until the catalog stays the same while it is compared with what is there. */
function* listWhatIsUploaded(
  uploader: Uploader,
  source: UploadSource,
): RemoteProcedure<{ unneeded: ListedObject[]; isCurrent: boolean }> {
  let unneeded: ListedObject[] = [];
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    yield* uploader.uploadAll();
    unneeded = yield* listUnneeded(uploader, source);
    if (!uploader.isCheckpointBehind) return { unneeded, isCurrent: true };
  }
  return { unneeded, isCurrent: false };
}

/** Objects that neither the newest manifest nor what will follow it names. */
function* listUnneeded(uploader: Uploader, source: UploadSource): RemoteProcedure<ListedObject[]> {
  const listed: ListedObject[] = [];
  for (const prefix of [PACK_PREFIX, HISTORY_PREFIX, RUN_PREFIX, SLICE_PREFIX])
    listed.push(...(yield* listObjects(prefix)));
  const files = yield* paused(source.neededFiles());
  const needed = new Set<string>();
  const add = (path: string): void => {
    const key = uploader.keyOf(path);
    if (key !== null) needed.add(key);
  };
  for (const number of files.packs) add(`chunks/${String(number).padStart(8, "0")}.pack`);
  for (const number of files.history) add(`history/${String(number).padStart(8, "0")}.hist`);
  // Looked up last, in one turn: what the manifest names now, and what waits to be named by the next one.
  const { manifest } = uploader;
  for (const { key } of manifest?.runs ?? []) needed.add(key);
  for (const { path } of [...source.completePacks(), ...source.historyFiles()]) add(path);
  const logStart = manifest?.logStart ?? 0;
  return listed.filter(({ key }) => {
    const sequence = sliceSequence(key);
    return sequence === null ? !needed.has(key) : sequence < logStart;
  });
}

/** The number of the oldest manifest that a living reader reads by. */
function* oldestReader(): RemoteProcedure<number> {
  let oldest = Infinity;
  const gone: string[] = [];
  yield* putObject(READER_CLOCK_KEY, new TextEncoder().encode("bough writer\n"));
  const objects = yield* listObjects(READER_PREFIX);
  const now = Math.max(...objects.map(({ modifiedMs }) => modifiedMs)); // X4
  for (const { key, modifiedMs } of objects) {
    const reader = parseReaderKey(key);
    if (reader === null) continue;
    if (now - modifiedMs > READER_EXPIRY_MS) gone.push(key);
    else oldest = Math.min(oldest, reader.manifestNumber);
  }
  if (gone.length > 0) yield { type: "delete", keys: gone };
  return oldest;
}
