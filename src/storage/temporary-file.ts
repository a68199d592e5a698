/**
 * A real file for what does not fit in memory (SQLite's sorter, temporary tables). It lives in the system's temporary
 * directory and has no name there while it is open, so that nothing is left behind however the process ends. Systems
 * that refuse to unlink an open file (Windows) delete it at close.
 *
 * The disk sees only ciphertext, so that what an encrypted store sorts does not lie there in the clear: AES-256-CTR with
 * a random key that never leaves this object, the counter being the offset in blocks of 16 bytes. There is no
 * authentication, and bytes written again at the same place reuse their key stream: the file is nobody's to read while
 * it lives, and without its key afterwards.
 */
import { createCipheriv, randomBytes } from "node:crypto";
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

const COUNTER_BLOCK = 16;
/** Bytes of a gap that are filled at once. */
const GAP_STEP = 1024 * 1024;

export class TemporaryFile {
  readonly #descriptor: number;
  readonly #key: Uint8Array = randomBytes(32);
  #directory: string | null;
  #size = 0;

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
      target.set(this.#crypt(offset, target.subarray(0, done)));
      return done;
    } catch (cause) {
      throw failure(`Cannot read a temporary file: offset ${offset}`, cause);
    }
  }

  /** What a write leaves as a gap reads as zeros. */
  write(offset: number, source: Uint8Array): void {
    while (this.#size < offset)
      this.write(this.#size, new Uint8Array(Math.min(GAP_STEP, offset - this.#size)));
    const sealed = this.#crypt(offset, source);
    try {
      let done = 0;
      while (done < sealed.byteLength) {
        done += writeSync(this.#descriptor, sealed, done, sealed.byteLength - done, offset + done);
      }
      this.#size = Math.max(this.#size, offset + done);
    } catch (cause) {
      throw failure(`Cannot write a temporary file: offset ${offset}`, cause);
    }
  }

  truncate(size: number): void {
    try {
      if (size >= this.#size) return; // Growing would leave zeros on disk, which are not zeros here.
      ftruncateSync(this.#descriptor, size);
      this.#size = size;
    } catch (cause) {
      throw failure(`Cannot truncate a temporary file: size ${size}`, cause);
    }
  }

  close(): void {
    closeSync(this.#descriptor);
    this.#removeName();
  }

  /** Both ways. */
  #crypt(offset: number, bytes: Uint8Array): Uint8Array {
    const counter = new Uint8Array(COUNTER_BLOCK);
    new DataView(counter.buffer).setBigUint64(8, BigInt(Math.floor(offset / COUNTER_BLOCK)));
    const cipher = createCipheriv("aes-256-ctr", this.#key, counter);
    cipher.update(new Uint8Array(offset % COUNTER_BLOCK));
    return cipher.update(bytes);
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
