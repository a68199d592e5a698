/**
 * A repair source that is a copy of the store's directory: a backup, or what another disk still has. It is opened as a store
 * is, under its own lock, and not written but for what its catalog's backend does at opening.
 */
import { checkCatalogFiles, openBackend } from "../catalog/backends.ts";
import type { KeyValueEntry, KeyValueStore } from "../catalog/key-value.ts";
import { StoreError } from "../errors.ts";
import type { RepairSource, SourceRange } from "../integrity/repair-source.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";
import type { StoreLock } from "../storage/store-lock.ts";
import { lockStore } from "./check-store.ts";
import { readHeader } from "./store-header.ts";

export class CopySource implements RepairSource {
  readonly description: string;
  readonly #storage: Storage;
  readonly #lock: StoreLock;
  /** Null when the copy's is damaged too. */
  readonly #catalog: KeyValueStore | null;

  private constructor(storage: Storage, description: string, lock: StoreLock) {
    this.description = description;
    this.#storage = storage;
    this.#lock = lock;
    this.#catalog = openCatalog(storage);
  }

  /** Throws STORE_NOT_FOUND when there is no store, STORE_LOCKED when a process has it open. */
  static open(path: string, storage: Storage = openNodeStorage(path)): CopySource {
    const lock = lockStore(storage, path);
    try {
      return new CopySource(storage, `"${path}"`, lock);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  read(path: string, range?: SourceRange): Promise<Uint8Array | null> {
    return Promise.resolve(this.#read(path, range));
  }

  #read(path: string, range: SourceRange | undefined): Uint8Array | null {
    if (!this.#storage.existsSync(path)) return null;
    const file = this.#storage.openFileSync(path, { mode: "read" });
    try {
      const { offset, length } = range ?? { offset: 0, length: file.sizeSync() };
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, file.readSync(offset, bytes));
    } finally {
      file.closeSync();
    }
  }

  catalogEntry(key: Uint8Array): Promise<Uint8Array | null> {
    const value = this.#catalog?.get(key);
    return Promise.resolve(value === undefined ? null : Uint8Array.from(value));
  }

  async *catalogEntries(): AsyncGenerator<KeyValueEntry> {
    await Promise.resolve();
    if (this.#catalog !== null)
      yield* this.#catalog.range({ start: Uint8Array.of(0), end: Uint8Array.of(0xff) });
  }

  close(): void {
    this.#catalog?.close();
    this.#lock.release();
  }
}

function openCatalog(storage: Storage): KeyValueStore | null {
  try {
    const { backend } = readHeader(storage);
    checkCatalogFiles(backend, storage);
    return openBackend(backend, storage);
  } catch (error) {
    if (!(error instanceof StoreError) || !error.code.startsWith("CORRUPT")) throw error;
    return null;
  }
}
