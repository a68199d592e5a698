/** A repair source made from a copy of a store's directory, taken while the store was whole. */
import { openBackend } from "../catalog/backends.ts";
import type { KeyValueStore } from "../catalog/key-value.ts";
import type { RepairSource, SourceRange } from "../integrity/repair-source.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync } from "../storage/whole-file.ts";
import { readHeader } from "../store/store-header.ts";

export class DirectorySource implements RepairSource {
  readonly description = "the copy";
  /** Paths that were read. */
  readonly reads: string[] = [];
  readonly #storage: Storage;
  readonly #catalog: KeyValueStore;

  constructor(storage: Storage) {
    this.#storage = storage;
    this.#catalog = openBackend(readHeader(storage).backend, storage);
  }

  async read(path: string, range?: SourceRange): Promise<Uint8Array | null> {
    await Promise.resolve();
    this.reads.push(path);
    if (!this.#storage.existsSync(path)) return null;
    const bytes = readFileSync(this.#storage, path);
    return range === undefined ? bytes : bytes.slice(range.offset, range.offset + range.length);
  }

  async catalogEntry(key: Uint8Array): Promise<Uint8Array | null> {
    await Promise.resolve();
    const value = this.#catalog.get(key);
    return value === undefined ? null : Uint8Array.from(value);
  }

  async *catalogEntries(): AsyncGenerator<{ key: Uint8Array; value: Uint8Array }> {
    await Promise.resolve();
    yield* this.#catalog.range({ start: Uint8Array.of(0), end: Uint8Array.of(0xff) });
  }

  close(): void {
    this.#catalog.close();
  }
}
