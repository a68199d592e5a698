/**
 * Small files read and replaced as a whole.
 *
 * W1. `writeFileAtomicSync` leaves either the old file or the new one, complete, at every moment and after any crash;
 *     when it returns the new one is durable. Order: write the temporary file, sync it, rename, sync the directory.
 * W2. The temporary name is `<path>.new`. One left by a crash is overwritten by the next write; it is never read.
 */
import { invariant, StoreError } from "../errors.ts";
import type { Storage } from "./storage.ts";

const TEMPORARY_SUFFIX = ".new";

/** All bytes of the file, a buffer of the caller's own. A missing file is a StoreError with code FILE_NOT_FOUND. */
export function readFileSync(storage: Storage, path: string): Uint8Array {
  const file = storage.openFileSync(path, { mode: "read" });
  try {
    const bytes = new Uint8Array(file.sizeSync());
    const count = file.readSync(0, bytes);
    if (count !== bytes.byteLength) {
      throw new StoreError(
        "FILE_TRUNCATED",
        `Cannot read "${path}": ${count} bytes of ${bytes.byteLength} are there, the file shrank meanwhile`,
      );
    }
    return bytes;
  } finally {
    file.closeSync();
  }
}

/** Replaces or creates the file; see W1. Its directory must exist. */
export function writeFileAtomicSync(storage: Storage, path: string, bytes: Uint8Array): void {
  const temporary = path + TEMPORARY_SUFFIX;
  if (storage.existsSync(temporary)) storage.deleteSync(temporary);
  const file = storage.openFileSync(temporary, { mode: "create" });
  try {
    file.writeSync(0, bytes);
    file.syncSync();
  } finally {
    file.closeSync();
  }
  storage.renameSync(temporary, path);
  storage.syncDirectorySync(directoryOf(path));
}

/** The directory part of a storage path, "" for a file in the store's own directory. */
export function directoryOf(path: string): string {
  invariant(path !== "", "A path of a file: it is empty");
  const slash = path.lastIndexOf("/");
  return slash === -1 ? "" : path.slice(0, slash);
}
