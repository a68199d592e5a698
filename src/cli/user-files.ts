/** Small files of the user, outside of the store. */
import { basename, dirname } from "node:path";
import { openNodeStorage } from "../storage/node-storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";

/** Throws StoreError: FILE_NOT_FOUND, PERMISSION, IO. */
export function readUserFile(path: string): Uint8Array {
  return readFileSync(openNodeStorage(dirname(path)), basename(path));
}

/** Replaces or creates the file; its directory must exist. */
export function writeUserFile(path: string, text: string): void {
  writeFileAtomicSync(openNodeStorage(dirname(path)), basename(path), Buffer.from(text));
}
