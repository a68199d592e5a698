import fs from "node:fs";
import { dirname } from "node:path";
import { fromSystemError } from "./system-error.ts";

const OWNER_ONLY = 0o600;

/**
 * Makes a file that only its owner may read and write, durable when it returns. Throws FILE_EXISTS when the name is taken: a
 * secret is never written over another, nor into a file that others have open.
 */
export function createPrivateFileSync(path: string, bytes: Uint8Array): void {
  try {
    const fd = fs.openSync(path, "wx", OWNER_ONLY);
    try {
      fs.writeFileSync(fd, bytes);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    if (process.platform === "win32") return;
    const directory = fs.openSync(dirname(path), "r");
    try {
      fs.fsyncSync(directory);
    } finally {
      fs.closeSync(directory);
    }
  } catch (error) {
    throw fromSystemError("Cannot create", path, error);
  }
}
