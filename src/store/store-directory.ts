/** What is in the place of a store, before it is known to be one. */
import { basename, dirname } from "node:path";
import { StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import { DATABASE_MAGIC } from "./sqlite-file.ts";

/** The names in it; none when it is not there. Throws STORE_IS_FILE. */
export function listStore(storage: Storage, description: string): string[] {
  try {
    return storage.listSync("");
  } catch (cause) {
    // A file has no names, and one in the middle of a path leads nowhere.
    if (!(cause instanceof StoreError) || cause.details["systemCode"] !== "ENOTDIR") throw cause;
    throw new StoreError(
      "STORE_IS_FILE",
      `Cannot open store "${description}": ${whatIsThere(storage.directory, description)}`,
      { cause },
    );
  }
}

function whatIsThere(path: string | null, description: string): string {
  const magic = path === null ? null : firstBytes(path);
  if (magic === null) return "a part of its path is a file, not a directory";
  return magic.equals(DATABASE_MAGIC)
    ? `it is a SQLite database, and a store is a directory; "bough import ${description} NAME" brings it into one`
    : 'it is a file, and a store is a directory, which "bough import" or "bough database create" makes';
}

/** Null: there is no such file. What cannot be read is taken for any other file. */
function firstBytes(path: string): Buffer | null {
  const storage = openNodeStorage(dirname(path));
  const bytes = Buffer.alloc(DATABASE_MAGIC.length);
  try {
    if (!storage.existsSync(basename(path))) return null;
    const file = storage.openFileSync(basename(path), { mode: "read" });
    try {
      return bytes.subarray(0, file.readSync(0, bytes));
    } finally {
      file.closeSync();
    }
  } catch {
    return bytes;
  }
}
