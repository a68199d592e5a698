/**
 * Changes a small file that several processes may change at the same time.
 *
 * U1. No change is lost: reading, changing and replacing happen under the exclusive file `<path>.lock` (exclusive-file.ts), which a
 *     process that died in the middle does not keep.
 * U2. Readers take no lock, and see the file before or after a change, complete (W1 of whole-file.ts).
 */
import { basename, dirname, resolve } from "node:path";
import { StoreError } from "../errors.ts";
import {
  type ExclusiveContent,
  type ExclusiveFileOptions,
  releaseExclusiveFile,
  removeLeftovers,
  takeExclusiveFile,
} from "./exclusive-file.ts";
import { openNodeStorage } from "./node-storage.ts";
import {
  currentProcessIdentity,
  isAlive,
  type ProcessIdentity,
  sharesProcessNumbers,
} from "./process-identity.ts";
import { fromSystemError } from "./system-error.ts";
import { readFileSync, writeFileAtomicSync } from "./whole-file.ts";

interface Holder extends ProcessIdentity, ExclusiveContent {}

/** A change takes milliseconds: a file that cannot be understood, or is of another machine, is left over after this. */
const ABANDONED_MS = 60_000;
const ROUNDS_MAX = 400;
const ROUND_MS = 5;

/**
 * `change` gets the bytes, null when there is no file, and gives the new ones; null: leave it. Its directory must exist. Waits for other
 * processes up to two seconds, then throws FILE_BUSY.
 */
export function updateFileSync(
  path: string,
  change: (bytes: Uint8Array | null) => Uint8Array | null,
): void {
  const lock = exclusiveFile(`${resolve(path)}.lock`);
  const held = whileNamed(path, () => takeWhenFree(path, lock));
  try {
    removeLeftovers(lock, held);
    const storage = openNodeStorage(dirname(path));
    const name = basename(path);
    const changed = change(storage.existsSync(name) ? readFileSync(storage, name) : null);
    if (changed !== null) writeFileAtomicSync(storage, name, changed);
  } finally {
    releaseExclusiveFile(lock.path, held, parseHolder);
  }
}

/** What the system says of the lock concerns the file. */
function whileNamed<T>(path: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw fromSystemError("Cannot change", path, error);
  }
}

function exclusiveFile(path: string): ExclusiveFileOptions<Holder> {
  const here = currentProcessIdentity();
  return {
    path,
    describe: (nonce) => ({ nonce, ...here }),
    parse: parseHolder,
    isAbandoned: (holder, modifiedMs) =>
      holder !== null && sharesProcessNumbers(here, holder)
        ? !isAlive(holder)
        : Date.now() - modifiedMs > ABANDONED_MS,
  };
}

function takeWhenFree(path: string, lock: ExclusiveFileOptions<Holder>): Holder {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const result = takeExclusiveFile(lock);
    if (result.taken) return result.content;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ROUND_MS);
  }
  throw new StoreError(
    "FILE_BUSY",
    `Cannot change "${path}": another process has been at it for too long; see "${lock.path}"`,
    { retryable: true, details: { path } },
  );
}

function parseHolder(text: string): Holder | null {
  try {
    const value: unknown = JSON.parse(text);
    const isHolder =
      typeof value === "object" &&
      value !== null &&
      "nonce" in value &&
      typeof value.nonce === "string" &&
      "pid" in value &&
      typeof value.pid === "number";
    return isHolder ? (value as Holder) : null;
  } catch {
    return null;
  }
}
