/**
 * Brings parts of a store from object storage into a directory: the log as segments, whole files, the list of what there is.
 *
 * D1. Slices are taken in order, without a gap, up to the last one that is there; fences among them are passed over. What they
 *     hold are whole records, so the log that they make ends as a log does after a crash.
 * D2. A file gets its name when it is complete and synced.
 * D3. Of a segment that begins before the first slice nothing is needed (I4 in uploader.ts): its pieces are left out.
 */
import { InvariantError, StoreError } from "../errors.ts";
import { decodeSegmentHeader, SEGMENT_HEADER_SIZE } from "../log/segment-format.ts";
import { LOG_DIRECTORY, segmentPath } from "../log/segment-files.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { directoryOf } from "../storage/whole-file.ts";
import { decodeSlice, type LogSlice } from "./log-slice.ts";
import { sliceKey } from "./remote-keys.ts";
import { getObject, type RemoteProcedure, type RemoteStep } from "./remote-steps.ts";
import type { StoredObject } from "./object-store.ts";

const PART_SIZE = 8 * 1024 * 1024;
const SLICES_AT_ONCE = 8;
const TEMPORARY_SUFFIX = ".download";

/** Slices from this one on, up to the last that is there. */
export function* readSlices(from: number): RemoteProcedure<LogSlice[]> {
  const slices: LogSlice[] = [];
  // Often there is none, or one: who asks all the time asks for few first.
  let count = 1;
  for (let sequence = from; ; sequence += count, count = Math.min(2 * count, SLICES_AT_ONCE)) {
    const keys = Array.from({ length: count }, (_, index) => sliceKey(sequence + index));
    const steps = keys.map((key): RemoteStep => ({ type: "get", key }));
    const objects = (yield { type: "all", steps }) as (StoredObject | null)[];
    for (const [index, object] of objects.entries()) {
      if (object === null) return slices;
      slices.push(decodeSlice(object.body, keys[index]!));
    }
  }
}

/** Puts the records of slices where they were in the segments of the log. Throws CORRUPT_REMOTE. */
export class LogAssembly {
  readonly #storage: Storage;
  readonly #open: Map<number, StorageFile> = new Map();

  constructor(storage: Storage) {
    this.#storage = storage;
    storage.makeDirectorySync(LOG_DIRECTORY);
  }

  add(slice: LogSlice): void {
    for (const { segment, offset, bytes } of slice.pieces)
      this.#file(slice, segment, offset, bytes)?.writeSync(offset, bytes);
  }

  /** Makes what was added durable, and closes the files. */
  finish(): void {
    for (const file of this.#open.values()) {
      file.syncSync();
      file.closeSync();
    }
    this.#open.clear();
    this.#storage.syncDirectorySync(LOG_DIRECTORY);
  }

  /** Null: D3. */
  #file(slice: LogSlice, segment: number, offset: number, bytes: Uint8Array): StorageFile | null {
    const known = this.#open.get(segment);
    if (known !== undefined) return known;
    const path = segmentPath(segment);
    let file: StorageFile;
    if (this.#storage.existsSync(path)) file = this.#storage.openFileSync(path, { mode: "write" });
    else {
      if (offset > 0 && this.#open.size === 0) return null;
      const header =
        offset === 0 ? decodeSegmentHeader(bytes.subarray(0, SEGMENT_HEADER_SIZE)) : null;
      if (header === null || "problem" in header)
        throw new StoreError(
          "CORRUPT_REMOTE",
          `Cannot put together log segment ${segment}: object "${sliceKey(slice.sequence)}" does not begin it, and an earlier one is missing`,
        );
      file = this.#storage.openFileSync(path, { mode: "create" });
      file.truncateSync(header.fileSize);
    }
    this.#open.set(segment, file);
    return file;
  }
}

/** A whole object as a file; D2. Returns its size in bytes. */
export function* downloadFile(
  storage: Storage,
  key: string,
  path: string,
): RemoteProcedure<number> {
  const temporary = path + TEMPORARY_SUFFIX;
  const directory = directoryOf(path);
  storage.makeDirectorySync(directory);
  if (storage.existsSync(temporary)) storage.deleteSync(temporary);
  const file = storage.openFileSync(temporary, { mode: "create" });
  let size = 0;
  try {
    for (;;) {
      const object = yield* getObject(key, { offset: size, length: PART_SIZE });
      if (object === null) throw missing(key);
      file.writeSync(size, object.body);
      size += object.body.length;
      if (object.body.length < PART_SIZE) break;
      if (object.body.length > PART_SIZE)
        throw new InvariantError("A part is as long as asked for");
    }
    file.syncSync();
  } finally {
    file.closeSync();
  }
  storage.renameSync(temporary, path);
  storage.syncDirectorySync(directory);
  return size;
}

export function missing(key: string): StoreError {
  return new StoreError(
    "CORRUPT_REMOTE",
    `Cannot read object "${key}": it is not there, and the manifest names it; another writer may have gone on meanwhile, so try again`,
    { details: { key } },
  );
}
