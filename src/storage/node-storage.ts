/**
 * The real disk: `Storage` (see storage.ts for its rules S1-S4) over node:fs.
 *
 * N1. A file that failed a write or a sync is poisoned: it refuses every later write and sync (S4). What the kernel
 *     kept of the failed bytes is unknown, and a second fsync would report success without having written them.
 * N2. The descriptor is closed only after the last asynchronous operation on it: a number that the system hands to
 *     another file meanwhile would let a late write land there.
 * N3. `makeDirectorySync` syncs the parent of every directory that it made, up to outside of the store.
 */
import fs from "node:fs";
import { dirname, join, resolve, sep } from "node:path";

import { InvariantError, invariant, StoreError } from "../errors.ts";
import type { OpenFileOptions, Storage, StorageFile } from "./storage.ts";
import { fromSystemError, systemErrorName } from "./system-error.ts";

/** Linux only: elsewhere O_DSYNC is missing or does not reach the platter, and each durable write is followed by a sync. */
const SYNCHRONOUS_WRITES: number | null =
  process.platform === "linux" ? fs.constants.O_DSYNC : null;

class NodeFile implements StorageFile {
  readonly path: string;
  private readonly fullPath: string;
  private readonly syncEachWrite: boolean;
  private fd: number;
  private pendingCount = 0;
  private closed = false;
  private failure: StoreError | null = null;

  constructor(fd: number, options: { path: string; fullPath: string; syncEachWrite: boolean }) {
    this.fd = fd;
    this.path = options.path;
    this.fullPath = options.fullPath;
    this.syncEachWrite = options.syncEachWrite;
  }

  readSync(offset: number, target: Uint8Array): number {
    const length = target.byteLength;
    let count = 0;
    try {
      while (count < length) {
        const read = fs.readSync(this.fd, target, count, length - count, offset + count);
        if (read === 0) break;
        count += read;
      }
    } catch (error) {
      throw this.explain("Cannot read", error);
    }
    return count;
  }

  async read(offset: number, target: Uint8Array): Promise<number> {
    const length = target.byteLength;
    let count = 0;
    this.begin();
    try {
      while (count < length) {
        const read = await readAsync(this.fd, target.subarray(count), offset + count);
        if (read === 0) break;
        count += read;
      }
    } catch (error) {
      throw this.explain("Cannot read", error);
    } finally {
      this.end();
    }
    return count;
  }

  writeSync(offset: number, source: Uint8Array): void {
    if (this.failure !== null) throw this.poisoned("write");
    const length = source.byteLength;
    try {
      let count = fs.writeSync(this.fd, source, 0, length, offset);
      while (count < length) {
        count += fs.writeSync(this.fd, source, count, length - count, offset + count);
      }
      if (this.syncEachWrite) fs.fdatasyncSync(this.fd);
    } catch (error) {
      throw this.fail("Cannot write", error);
    }
  }

  async write(offset: number, source: Uint8Array): Promise<void> {
    if (this.failure !== null) throw this.poisoned("write");
    const length = source.byteLength;
    this.begin();
    try {
      let count = 0;
      while (count < length) {
        count += await writeAsync(this.fd, source.subarray(count), offset + count);
      }
      if (this.syncEachWrite) await fdatasyncAsync(this.fd);
    } catch (error) {
      throw this.fail("Cannot write", error);
    } finally {
      this.end();
    }
  }

  syncSync(): void {
    if (this.failure !== null) throw this.poisoned("sync");
    try {
      fs.fdatasyncSync(this.fd);
    } catch (error) {
      throw this.fail("Cannot sync", error);
    }
  }

  async sync(): Promise<void> {
    if (this.failure !== null) throw this.poisoned("sync");
    this.begin();
    try {
      await fdatasyncAsync(this.fd);
    } catch (error) {
      throw this.fail("Cannot sync", error);
    } finally {
      this.end();
    }
  }

  sizeSync(): number {
    try {
      return fs.fstatSync(this.fd).size;
    } catch (error) {
      throw this.explain("Cannot read the size of", error);
    }
  }

  changeMarkSync(): string {
    try {
      const { size, mtimeNs } = fs.fstatSync(this.fd, { bigint: true });
      return `${size} ${mtimeNs}`;
    } catch (error) {
      throw this.explain("Cannot read the time of change of", error);
    }
  }

  truncateSync(size: number): void {
    if (this.failure !== null) throw this.poisoned("truncate");
    try {
      fs.ftruncateSync(this.fd, size);
      if (this.syncEachWrite) fs.fdatasyncSync(this.fd);
    } catch (error) {
      throw this.fail("Cannot truncate", error);
    }
  }

  closeSync(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.pendingCount === 0) this.closeDescriptor();
  }

  private begin(): void {
    invariant(!this.closed, `An open file: "${this.fullPath}" is closed`);
    this.pendingCount++;
  }

  private end(): void {
    this.pendingCount--;
    if (this.closed && this.pendingCount === 0) this.closeDescriptor();
  }

  private closeDescriptor(): void {
    const fd = this.fd;
    this.fd = -1;
    try {
      fs.closeSync(fd);
    } catch (error) {
      throw fromSystemError("Cannot close", this.fullPath, error);
    }
  }

  private explain(action: string, error: unknown): unknown {
    if (this.fd === -1) return new InvariantError(`An open file: "${this.fullPath}" is closed`);
    return fromSystemError(action, this.fullPath, error);
  }

  private fail(action: string, error: unknown): unknown {
    const explained = this.explain(action, error);
    if (explained instanceof StoreError) this.failure ??= explained;
    return explained;
  }

  private poisoned(action: string): StoreError {
    return new StoreError(
      "IO",
      `Cannot ${action} "${this.fullPath}": an earlier write or sync failed, open the store again`,
      { cause: this.failure, details: { path: this.fullPath } },
    );
  }
}

function readAsync(fd: number, target: Uint8Array, offset: number): Promise<number> {
  return new Promise((resolvePromise, reject) => {
    fs.read(fd, target, 0, target.byteLength, offset, (error, count) => {
      if (error === null) resolvePromise(count);
      else reject(error);
    });
  });
}

function writeAsync(fd: number, source: Uint8Array, offset: number): Promise<number> {
  return new Promise((resolvePromise, reject) => {
    fs.write(fd, source, 0, source.byteLength, offset, (error, count) => {
      if (error === null) resolvePromise(count);
      else reject(error);
    });
  });
}

function fdatasyncAsync(fd: number): Promise<void> {
  return new Promise((resolvePromise, reject) => {
    fs.fdatasync(fd, (error) => {
      if (error === null) resolvePromise();
      else reject(error);
    });
  });
}

function openFlags(options: OpenFileOptions): number {
  const { O_CREAT, O_EXCL, O_RDONLY, O_RDWR } = fs.constants;
  if (options.mode === "read") return O_RDONLY;
  const flags = options.mode === "create" ? O_RDWR | O_CREAT | O_EXCL : O_RDWR;
  return options.durableWrites === true && SYNCHRONOUS_WRITES !== null
    ? flags | SYNCHRONOUS_WRITES
    : flags;
}

/** Makes the names in a directory durable. Windows has no such call, and needs none: its metadata is journaled. */
function syncDirectory(fullPath: string): void {
  if (process.platform === "win32") return;
  const fd = fs.openSync(fullPath, fs.constants.O_RDONLY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

class NodeStorage implements Storage {
  readonly description: string;
  readonly directory: string;

  constructor(directory: string) {
    this.description = directory;
    this.directory = resolve(directory);
  }

  openFileSync(path: string, options: OpenFileOptions): StorageFile {
    const fullPath = this.resolvePath(path);
    try {
      const fd = fs.openSync(fullPath, openFlags(options), 0o666);
      const syncEachWrite = options.durableWrites === true && SYNCHRONOUS_WRITES === null;
      return new NodeFile(fd, { path, fullPath, syncEachWrite });
    } catch (error) {
      throw fromSystemError(
        options.mode === "create" ? "Cannot create" : "Cannot open",
        fullPath,
        error,
      );
    }
  }

  existsSync(path: string): boolean {
    const fullPath = this.resolvePath(path);
    try {
      return fs.statSync(fullPath, { throwIfNoEntry: false }) !== undefined;
    } catch (error) {
      if (systemErrorName(error) === "ENOTDIR") return false;
      throw fromSystemError("Cannot look for", fullPath, error);
    }
  }

  listSync(path: string): string[] {
    const fullPath = this.resolvePath(path);
    try {
      return fs.readdirSync(fullPath).sort();
    } catch (error) {
      const explained = fromSystemError("Cannot list", fullPath, error);
      if (explained instanceof StoreError && explained.code === "FILE_NOT_FOUND") return [];
      throw explained;
    }
  }

  makeDirectorySync(path: string): void {
    const fullPath = this.resolvePath(path);
    try {
      const first = fs.mkdirSync(fullPath, { recursive: true });
      if (first === undefined) return;
      const outside = dirname(first);
      for (let made = fullPath; made !== outside; made = dirname(made))
        syncDirectory(dirname(made));
    } catch (error) {
      throw fromSystemError("Cannot create the directory", fullPath, error);
    }
  }

  renameSync(from: string, to: string): void {
    const fullPath = this.resolvePath(from);
    const target = this.resolvePath(to);
    try {
      fs.renameSync(fullPath, target);
    } catch (error) {
      throw fromSystemError(`Cannot rename to "${to}"`, fullPath, error);
    }
  }

  deleteSync(path: string): void {
    const fullPath = this.resolvePath(path);
    try {
      fs.unlinkSync(fullPath);
    } catch (error) {
      throw fromSystemError("Cannot delete", fullPath, error);
    }
  }

  syncDirectorySync(path: string): void {
    const fullPath = this.resolvePath(path);
    try {
      syncDirectory(fullPath);
    } catch (error) {
      throw fromSystemError("Cannot sync the directory", fullPath, error);
    }
  }

  private resolvePath(path: string): string {
    const fullPath = join(this.directory, path);
    const inside =
      fullPath === this.directory || fullPath.startsWith(withSeparator(this.directory));
    invariant(inside, `A path inside the store: "${path}" leaves "${this.directory}"`);
    return fullPath;
  }
}

function withSeparator(directory: string): string {
  return directory.endsWith(sep) ? directory : directory + sep;
}

/** A disk rooted at `directory`, which need not exist yet: `makeDirectorySync("")` creates it. */
export function openNodeStorage(directory: string): Storage {
  return new NodeStorage(directory);
}
