/** A Unix socket as a file in a directory: where it can be, and what is done to the file around the listening. */
import fs from "node:fs";
import { join, relative } from "node:path";
import { fromSystemError } from "./system-error.ts";

const OWNER_ONLY = 0o600;
/** What systems have room for in an address, without the zero at its end; a longer path would be cut. */
const PATH_BYTES_MAX = process.platform === "linux" ? 107 : 103;

/** The path to listen on or connect to, from the current directory on where that is shorter; null: there is none that fits. */
export function socketPath(directory: string, name: string): string | null {
  if (process.platform === "win32") return null;
  const path = join(directory, name);
  return (
    [path, relative(process.cwd(), path)].find(
      (each) => Buffer.byteLength(each) <= PATH_BYTES_MAX,
    ) ?? null
  );
}

/** What a process that was killed has left. The caller knows that no other one listens there. */
export function removeStaleSocket(path: string): void {
  fs.rmSync(path, { force: true });
}

/**
 * To be called in the turn in which it was made: until then it has the mode that the umask gives, so that it lets nobody in who could
 * not write to other files of the directory.
 */
export function makeSocketPrivate(path: string): void {
  try {
    fs.chmodSync(path, OWNER_ONLY);
  } catch (error) {
    throw fromSystemError("Cannot protect", path, error);
  }
}
