/**
 * A real file for what does not fit in memory (SQLite's sorter, temporary tables). It lives in the system's temporary
 * directory and has no name there while it is open, so that nothing is left behind however the process ends. Systems
 * that refuse to unlink an open file (Windows) delete it at close.
 */
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StoreError } from "../errors.ts";

export class TemporaryFile {
  readonly #descriptor: number;
  #directory: string | null;

  /** `directory` is where the file is made; null means the system's temporary directory. */
  constructor(directory: string | null = null) {
    const parent = directory ?? tmpdir();
    try {
      this.#directory = mkdtempSync(join(parent, "bough-"));
      this.#descriptor = openSync(join(this.#directory, "temporary"), "wx+", 0o600);
    } catch (cause) {
      throw failure(`Cannot create a temporary file: directory "${parent}"`, cause);
    }
    this.#removeName();
  }

  /** Returns the bytes read: fewer than asked only at the end of the file. */
  read(offset: number, target: Uint8Array): number {
    try {
      let done = 0;
      while (done < target.byteLength) {
        const count = readSync(
          this.#descriptor,
          target,
          done,
          target.byteLength - done,
          offset + done,
        );
        if (count === 0) break;
        done += count;
      }
      return done;
    } catch (cause) {
      throw failure(`Cannot read a temporary file: offset ${offset}`, cause);
    }
  }

  write(offset: number, source: Uint8Array): void {
    try {
      let done = 0;
      while (done < source.byteLength) {
        done += writeSync(this.#descriptor, source, done, source.byteLength - done, offset + done);
      }
    } catch (cause) {
      throw failure(`Cannot write a temporary file: offset ${offset}`, cause);
    }
  }

  truncate(size: number): void {
    try {
      ftruncateSync(this.#descriptor, size);
    } catch (cause) {
      throw failure(`Cannot truncate a temporary file: size ${size}`, cause);
    }
  }

  close(): void {
    closeSync(this.#descriptor);
    this.#removeName();
  }

  #removeName(): void {
    if (this.#directory === null) return;
    try {
      rmSync(this.#directory, { recursive: true });
      this.#directory = null;
    } catch {
      // An open file cannot be removed here: close() comes back to it.
    }
  }
}

function failure(message: string, cause: unknown): StoreError {
  const systemCode = cause instanceof Error && "code" in cause ? cause.code : undefined;
  const code =
    systemCode === "ENOSPC" || systemCode === "EDQUOT"
      ? "DISK_FULL"
      : systemCode === "EACCES" || systemCode === "EPERM" || systemCode === "EROFS"
        ? "PERMISSION"
        : "IO";
  return new StoreError(code, message, { cause });
}
