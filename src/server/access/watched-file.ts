import { StoreError } from "../../errors.ts";
import type { Storage } from "../../storage/storage.ts";
import { readFileSync } from "../../storage/whole-file.ts";

export interface WatchedFileOptions<T> {
  readonly storage: Storage;
  /** In the storage. */
  readonly path: string;
  readonly bytesMax: number;
  /** `bytes` is null when there is no file. Throws for what cannot be used. */
  readonly parse: (bytes: Uint8Array | null) => T;
  readonly now: () => number;
}

const LOOK_INTERVAL_MS = 1000;

/** What a file says, read again when it has changed: seen at the latest a second after. */
export class WatchedFile<T> {
  readonly #options: WatchedFileOptions<T>;
  #lookedAtMs: number;
  #mark: string | null;
  #state: { readonly value: T } | { readonly failure: unknown };

  /** Never throws: what is wrong with the file is thrown by `value`. */
  constructor(options: WatchedFileOptions<T>) {
    this.#options = options;
    this.#lookedAtMs = options.now();
    const { mark, state } = this.#read();
    this.#mark = mark;
    this.#state = state;
  }

  /** The same object as long as the file is the same. Throws what `parse` threw, or why the file cannot be read. */
  value(): T {
    const nowMs = this.#options.now();
    // A clock that was set back must not stop the looking.
    if (Math.abs(nowMs - this.#lookedAtMs) >= LOOK_INTERVAL_MS) {
      this.#lookedAtMs = nowMs;
      this.#look();
    }
    if ("failure" in this.#state) throw this.#state.failure;
    return this.#state.value;
  }

  #look(): void {
    if (!("failure" in this.#state) && this.#markNow() === this.#mark) return;
    const { mark, state } = this.#read();
    this.#mark = mark;
    this.#state = state;
  }

  /** Null: there is no file, or why is to be found out by reading it. */
  #markNow(): string | null {
    try {
      return this.#markOfFile();
    } catch {
      return "unknown";
    }
  }

  #markOfFile(): string | null {
    const { storage, path, bytesMax } = this.#options;
    if (!storage.existsSync(path)) return null;
    const file = storage.openFileSync(path, { mode: "read" });
    try {
      const size = file.sizeSync();
      if (size > bytesMax)
        throw new StoreError(
          "LIMIT",
          `Cannot read "${path}": it has ${size} bytes, at most ${bytesMax} are allowed`,
        );
      return file.changeMarkSync();
    } finally {
      file.closeSync();
    }
  }

  /** The mark is taken first: a change during the reading is seen by the next look. */
  #read(): { mark: string | null; state: { value: T } | { failure: unknown } } {
    const { storage, path, parse } = this.#options;
    try {
      const mark = this.#markOfFile();
      const bytes = mark === null ? null : readFileSync(storage, path);
      return { mark, state: { value: parse(bytes) } };
    } catch (failure) {
      return { mark: null, state: { failure } };
    }
  }
}
