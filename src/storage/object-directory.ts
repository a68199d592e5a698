/**
 * Files of a directory as whole objects, for the object store in a directory.
 *
 *   <root>/<key>               an object
 *   <root>/.writing/<random>   one that is being written; left by a crash, deleted when a day old
 *   <root>/.writing/lock/      held while an object is replaced or deleted (store-lock.ts)
 *
 * O1. A name appears, or changes what it stands for, by one link or rename of a file that is complete and synced: nobody ever
 *     reads a part of one.
 * O2. When a call returns, the names that it made are durable, those of the directories above included.
 * O3. Only a holder of the lock replaces or deletes an object. Creating one needs no lock: link() fails when the name is taken.
 * O4. A holder that stood still and lost the lock changes nothing: it looks again immediately before the change.
 */
import { randomBytes } from "node:crypto";
import type { Dirent } from "node:fs";
import fs from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { StoreError } from "../errors.ts";
import { openNodeStorage } from "./node-storage.ts";
import { acquireStoreLock, LOCK_FILE, type StoreLock } from "./store-lock.ts";
import { fromSystemError, systemErrorName } from "./system-error.ts";

const WRITING = ".writing";
const LOCK = `${WRITING}/lock`;
const LEFTOVER_AGE_MS = 24 * 60 * 60 * 1000;
const LOCK_PAUSE_MS = 5;
const LOOKS_MAX = 50;
/** A directory that others delete again and again while one is being written into it. */
const ROUNDS_MAX = 100;
const LINKS_UNSUPPORTED: ReadonlySet<string | null> = new Set([
  "EPERM",
  "ENOTSUP",
  "EOPNOTSUPP",
  "ENOSYS",
]);

export interface DirectoryEntry {
  readonly name: string;
  readonly isDirectory: boolean;
}

export interface ObjectRange {
  readonly offset: number;
  readonly length: number;
}

export interface ObjectFile {
  readonly bytes: Uint8Array;
  /** Of the whole file. */
  readonly size: number;
  /** Differs once the file has been replaced, nearly always; for comparing parts, nothing more. */
  readonly mark: string;
}

/** Held by `exclusively`: what may change objects that are there. */
export interface ObjectReplacer {
  replace(key: string, temporary: string): Promise<void>;
  /** False when there was none. */
  delete(key: string): Promise<boolean>;
}

export class ObjectDirectory {
  readonly root: string;
  /** Directories whose own names are durable. */
  private readonly durable = new Set<string>();
  private last: Promise<unknown> = Promise.resolve();
  private swept = false;

  constructor(root: string) {
    this.root = resolve(root);
  }

  /** Null when there is no such object. A range comes short at the end of the file. */
  async read(key: string, range?: ObjectRange): Promise<ObjectFile | null> {
    try {
      await using file = await fs.open(join(this.root, key), "r");
      const status = await file.stat({ bigint: true });
      if (status.isDirectory()) return null;
      const size = Number(status.size);
      const offset = Math.min(range?.offset ?? 0, size);
      const bytes = new Uint8Array(Math.min(range?.length ?? size, size - offset));
      for (let count = 0; count < bytes.byteLength;) {
        const { bytesRead } = await file.read(
          bytes,
          count,
          bytes.byteLength - count,
          offset + count,
        );
        if (bytesRead === 0)
          throw new StoreError(
            "IO",
            `Cannot read "${join(this.root, key)}": it ends at ${offset + count} of ${size} bytes`,
          );
        count += bytesRead;
      }
      return { bytes, size, mark: `${status.ino}-${status.size}-${status.mtimeNs}` };
    } catch (error) {
      if (isMissing(error)) return null;
      throw fromSystemError("Cannot read", join(this.root, key), error);
    }
  }

  /** A synced file of its own for `create` or `replace`; give it to `discard` in the end, whatever happened. */
  async write(bytes: Uint8Array): Promise<string> {
    const path = join(this.root, WRITING, randomBytes(12).toString("hex"));
    try {
      await this.makeDirectory(dirname(path));
      await this.sweepOnce();
      await using file = await fs.open(path, "wx");
      await file.writeFile(bytes);
      await file.sync();
      return path;
    } catch (error) {
      await this.discard(path);
      throw fromSystemError("Cannot write", path, error);
    }
  }

  async discard(temporary: string): Promise<void> {
    try {
      await fs.rm(temporary, { force: true });
    } catch (error) {
      // Swept when it is a day old.
      if (systemErrorName(error) === null) throw error;
    }
  }

  /** Gives a written file the name of an object; false when it is taken. */
  async create(key: string, temporary: string): Promise<boolean> {
    const path = join(this.root, key);
    try {
      const made = await this.inDirectoryOf(path, () => this.link(path, temporary));
      return (
        made ??
        (await this.exclusively((replacer) => this.createUnlinked(key, temporary, replacer)))
      );
    } catch (error) {
      throw fromSystemError("Cannot create", path, error);
    }
  }

  /** Runs `body` while nobody else, on any machine, replaces or deletes objects here. */
  async exclusively<T>(
    body: (replacer: ObjectReplacer) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const mine = this.last.then(async () => {
      signal?.throwIfAborted();
      const lock = await this.takeLock(signal);
      try {
        return await body(this.replacer(lock));
      } finally {
        lock.release();
      }
    });
    this.last = mine.catch(() => undefined);
    return mine;
  }

  /** Names in a directory of objects, without those of bough's own files; empty when it is missing. */
  async names(directory: string): Promise<DirectoryEntry[]> {
    const path = join(this.root, directory);
    try {
      const entries: Dirent[] = await fs.readdir(path, { withFileTypes: true });
      return entries
        .filter(({ name }) => !name.startsWith("."))
        .map((entry) => ({ name: entry.name, isDirectory: entry.isDirectory() }));
    } catch (error) {
      if (isMissing(error)) return [];
      throw fromSystemError("Cannot list", path, error);
    }
  }

  /** Null when the file has gone meanwhile. */
  async status(key: string): Promise<{ size: number; modifiedMs: number } | null> {
    const path = join(this.root, key);
    try {
      const { size, mtimeMs } = await fs.stat(path);
      return { size, modifiedMs: mtimeMs };
    } catch (error) {
      if (isMissing(error)) return null;
      throw fromSystemError("Cannot look at", path, error);
    }
  }

  private replacer(lock: StoreLock): ObjectReplacer {
    const check = (): void => {
      if (lock.isHeld()) return;
      throw new StoreError(
        "STORE_LOCKED",
        `Cannot change "${this.root}": the lock was lost meanwhile`,
        {
          retryable: true,
        },
      );
    };
    return {
      replace: async (key, temporary) => {
        const path = join(this.root, key);
        try {
          await this.inDirectoryOf(path, async () => {
            check();
            await fs.rename(temporary, path);
          });
        } catch (error) {
          throw fromSystemError("Cannot replace", path, error);
        }
      },
      delete: async (key) => {
        const path = join(this.root, key);
        try {
          check();
          await fs.unlink(path);
          await syncDirectory(dirname(path));
          await this.removeEmpty(dirname(path));
          return true;
        } catch (error) {
          if (isMissing(error)) return false;
          throw fromSystemError("Cannot delete", path, error);
        }
      },
    };
  }

  /** Null where a file cannot have two names. */
  private async link(path: string, temporary: string): Promise<boolean | null> {
    try {
      await fs.link(temporary, path);
      return true;
    } catch (error) {
      const name = systemErrorName(error);
      if (LINKS_UNSUPPORTED.has(name)) return null;
      if (name !== "EEXIST") throw error;
      // A server of files may do it, lose the answer, and be asked again.
      return (await fs.stat(temporary)).nlink > 1;
    }
  }

  private async createUnlinked(
    key: string,
    temporary: string,
    replacer: ObjectReplacer,
  ): Promise<boolean> {
    if ((await this.status(key)) !== null) return false;
    await replacer.replace(key, temporary);
    return true;
  }

  /** Runs `change` with the directory of `path` there, again when somebody deletes it in between, and syncs it (O2). */
  private async inDirectoryOf<T>(path: string, change: () => Promise<T>): Promise<T> {
    const directory = dirname(path);
    let result: T;
    for (let round = 0; ; round++) {
      try {
        await this.makeDirectory(directory);
        result = await change();
        break;
      } catch (error) {
        if (systemErrorName(error) !== "ENOENT" || round === ROUNDS_MAX) throw error;
        this.durable.clear();
      }
    }
    try {
      await syncDirectory(directory);
    } catch (error) {
      // Somebody has deleted the object since, and its directory.
      if (systemErrorName(error) !== "ENOENT") throw error;
    }
    return result;
  }

  private async makeDirectory(directory: string): Promise<void> {
    if (this.durable.has(directory)) return;
    const first = await fs.mkdir(directory, { recursive: true });
    const outside = dirname(this.root);
    const end = first === undefined || first.length > outside.length ? outside : dirname(first);
    // Somebody else may just have made them, and not have come to the sync.
    for (let made = directory; made !== end; made = dirname(made))
      await syncDirectory(dirname(made));
    this.durable.add(directory);
  }

  private async removeEmpty(directory: string): Promise<void> {
    for (let path = directory; path !== this.root; path = dirname(path)) {
      this.durable.delete(path);
      try {
        await fs.rmdir(path);
      } catch (error) {
        if (systemErrorName(error) === null) throw error;
        return;
      }
    }
  }

  private async takeLock(signal: AbortSignal | undefined): Promise<StoreLock> {
    const storage = openNodeStorage(join(this.root, LOCK));
    await this.makeDirectory(join(this.root, LOCK));
    for (;;) {
      try {
        return acquireStoreLock(storage, { description: this.root });
      } catch (error) {
        if (!(error instanceof StoreError && error.code === "STORE_LOCKED")) throw error;
      }
      // Trying costs a sync; looking does not. Now and then it must be tried: its holder may be dead.
      for (let looks = 0; looks < LOOKS_MAX; looks++) {
        await pause(LOCK_PAUSE_MS);
        if ((await this.status(`${LOCK}/${LOCK_FILE}`)) === null) break;
      }
      signal?.throwIfAborted();
    }
  }

  private async sweepOnce(): Promise<void> {
    if (this.swept) return;
    this.swept = true;
    const directory = join(this.root, WRITING);
    for (const entry of await fs.readdir(directory, { withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(directory, entry.name);
      const modifiedMs = (await this.status(join(WRITING, entry.name)))?.modifiedMs;
      if (modifiedMs !== undefined && Date.now() - modifiedMs > LEFTOVER_AGE_MS)
        await this.discard(path);
    }
  }
}

/** No such name, or one below an object. */
function isMissing(error: unknown): boolean {
  const name = systemErrorName(error);
  return name === "ENOENT" || name === "ENOTDIR";
}

/** Windows has no such call, and needs none: its metadata is journaled. */
async function syncDirectory(path: string): Promise<void> {
  if (process.platform === "win32") return;
  await using directory = await fs.open(path, "r");
  await directory.sync();
}
