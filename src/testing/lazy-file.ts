/**
 * A file whose bytes are elsewhere, with the smallest cache that M2 of not-local.ts allows: what was fetched is here for one
 * read. It counts reads and bytes.
 */
import { NotLocalError } from "../storage/not-local.ts";
import type { StorageFile } from "../storage/storage.ts";
import type { Random } from "./random.ts";

export interface LazyFileOptions {
  /** Reads that find their bytes by luck, 0 to 1. */
  readonly localChance: number;
  readonly random: Random;
}

export class LazyFile implements StorageFile {
  readonly path: string;
  fetchCount = 0;
  readCount = 0;
  readBytes = 0;
  readonly #file: StorageFile;
  readonly #options: LazyFileOptions;
  readonly #fetched = new Set<string>();

  constructor(file: StorageFile, options: LazyFileOptions) {
    this.path = file.path;
    this.#file = file;
    this.#options = options;
  }

  readSync(offset: number, target: Uint8Array): number {
    const { localChance, random } = this.#options;
    const what = `${offset}+${target.length}`;
    if (!this.#fetched.delete(what) && !random.chance(localChance)) {
      const fetchSync = (): void => {
        this.fetchCount++;
        this.#fetched.add(what);
      };
      const fetch = async (): Promise<void> => {
        await Promise.resolve();
        fetchSync();
      };
      throw new NotLocalError(`${this.path} ${what}`, { fetch, fetchSync });
    }
    this.readCount++;
    this.readBytes += target.length;
    return this.#file.readSync(offset, target);
  }

  async read(offset: number, target: Uint8Array): Promise<number> {
    return await this.#file.read(offset, target);
  }

  sizeSync(): number {
    return this.#file.sizeSync();
  }

  changeMarkSync(): string {
    return this.#file.changeMarkSync();
  }

  closeSync(): void {
    this.#file.closeSync();
  }

  writeSync(): void {
    throw new Error("A lazy file is only read");
  }

  write(): Promise<void> {
    return Promise.reject(new Error("A lazy file is only read"));
  }

  syncSync(): void {
    throw new Error("A lazy file is only read");
  }

  sync(): Promise<void> {
    return Promise.reject(new Error("A lazy file is only read"));
  }

  truncateSync(): void {
    throw new Error("A lazy file is only read");
  }
}
