/**
 * A storage whose bytes are not local: blocks of packs and history files can be hidden, and reading a hidden one throws
 * NotLocalError until it was fetched. As object storage under a cache that is as small and as forgetful as it may be.
 *
 *   hidden --fetch--> fetched (kept for the next read of it, M2) --that read--> here --hide, chance--> hidden
 *
 * Fetches answer after some turns of the event loop, or when `release` says so; they can fail. Requests for one block are
 * one request.
 */
import { StoreError } from "../errors.ts";
import { type FetchOptions, type PendingFetch, requireLocal } from "../storage/not-local.ts";
import type { OpenFileOptions, Storage, StorageFile } from "../storage/storage.ts";
import type { Random } from "./random.ts";

const BLOCK_BYTES = 4096;
const LAZY_PATH = /^(?:chunks|history)\//;

export interface VanishingOptions {
  readonly random: Random;
  /** How often a block that is here is found to be gone, 0 to 1. */
  readonly vanishChance?: number;
  /** How often a fetch fails with REMOTE_UNAVAILABLE, 0 to 1. */
  readonly failureChance?: number;
  /** Fetches wait for `release`. */
  readonly holdsFetches?: boolean;
}

export class VanishingStorage implements Storage {
  readonly directory: string | null = null;
  /** Fetches that went out: one for all who wait for the same blocks. */
  requests = 0;
  /** Times that a thread waited. */
  waits = 0;
  /** Parts of files that were asked for ahead; they arrive at once. */
  prefetches = 0;
  aborted = 0;
  /** Nothing vanishes and nothing is hidden while it is false. */
  isLazy = false;
  holdsFetches: boolean;
  failureChance: number;
  vanishChance: number;
  /** Of the fetches to come; then they succeed again. */
  failures: Error[] = [];
  readonly #inner: Storage;
  readonly #random: Random;
  readonly #here: Set<string> = new Set();
  readonly #kept: Set<string> = new Set();
  readonly #underWay: Map<string, Promise<void>> = new Map();
  #held: (() => void)[] = [];

  constructor(inner: Storage, options: VanishingOptions) {
    this.#inner = inner;
    this.#random = options.random;
    this.vanishChance = options.vanishChance ?? 0;
    this.failureChance = options.failureChance ?? 0;
    this.holdsFetches = options.holdsFetches ?? false;
  }

  get description(): string {
    return this.#inner.description;
  }

  /** How many fetches wait for `release`. */
  get heldFetches(): number {
    return this.#held.length;
  }

  /** Every block is remote from now on. */
  hideAll(): void {
    this.isLazy = true;
    this.#here.clear();
    this.#kept.clear();
  }

  /** Lets the fetches that wait go on. */
  release(): void {
    const held = this.#held;
    this.#held = [];
    for (const go of held) go();
  }

  openFileSync(path: string, options: OpenFileOptions): StorageFile {
    const file = this.#inner.openFileSync(path, options);
    return options.mode === "read" && LAZY_PATH.test(path) ? new VanishingFile(this, file) : file;
  }

  /** Throws NotLocalError, or waits, when a block of the range is hidden. */
  require(path: string, offset: number, length: number): void {
    if (!this.isLazy || length === 0) return;
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((offset + length - 1) / BLOCK_BYTES);
    const names = Array.from(
      { length: last - first + 1 },
      (_, index) => `${path}:${first + index}`,
    );
    for (;;) {
      const missing = names.filter((name) => !this.#isHere(name));
      if (missing.length === 0) break;
      requireLocal(`${path} at ${offset}`, this.pending(missing));
    }
    for (const name of names) this.#kept.delete(name);
  }

  prefetch(path: string, ranges: readonly { offset: number; length: number }[]): void {
    if (!this.isLazy) return;
    for (const { offset, length } of ranges) {
      this.prefetches++;
      const first = Math.floor(offset / BLOCK_BYTES);
      const last = Math.floor((offset + length - 1) / BLOCK_BYTES);
      for (let block = first; block <= last; block++) this.#here.add(`${path}:${block}`);
    }
  }

  pending(names: readonly string[]): PendingFetch {
    return {
      fetch: (options = {}) => this.#fetch(names, options),
      fetchSync: (options = {}) => {
        this.waits++;
        this.requests++;
        if (this.holdsFetches) {
          if (options.timeoutMs !== undefined) throw timeout(names);
          throw new Error("A thread waits for a fetch that this test holds back");
        }
        this.#answer(names);
      },
    };
  }

  async #fetch(names: readonly string[], { signal, timeoutMs }: FetchOptions): Promise<void> {
    signal?.throwIfAborted();
    const key = names.join();
    let answer = this.#underWay.get(key);
    if (answer === undefined) {
      this.requests++;
      answer = this.#request(names).finally(() => this.#underWay.delete(key));
      this.#underWay.set(key, answer);
      answer.catch(() => undefined); // Everybody who waits hears of it; perhaps nobody does any more.
    }
    let timer: NodeJS.Timeout | undefined;
    let onAbort: (() => void) | undefined;
    const givenUp = new Promise<never>((_, reject) => {
      if (timeoutMs !== undefined) timer = setTimeout(() => reject(timeout(names)), timeoutMs);
      onAbort = () => {
        this.aborted++;
        // oxlint-disable-next-line typescript/prefer-promise-reject-errors
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", onAbort);
    });
    try {
      await Promise.race([answer, givenUp]);
    } finally {
      clearTimeout(timer);
      if (onAbort !== undefined) signal?.removeEventListener("abort", onAbort);
    }
  }

  async #request(names: readonly string[]): Promise<void> {
    if (this.holdsFetches) await new Promise<void>((resolve) => void this.#held.push(resolve));
    for (let turns = this.#random.integer(1, 3); turns > 0; turns--)
      await new Promise((resolve) => setImmediate(resolve));
    this.#answer(names);
  }

  #answer(names: readonly string[]): void {
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    if (this.#random.chance(this.failureChance))
      throw new StoreError("REMOTE_UNAVAILABLE", `Cannot fetch "${names[0]}": no answer`, {
        retryable: true,
      });
    for (const name of names) {
      this.#here.add(name);
      this.#kept.add(name);
    }
  }

  #isHere(name: string): boolean {
    if (this.#kept.has(name)) return true;
    if (!this.#here.has(name)) return false;
    if (!this.#random.chance(this.vanishChance)) return true;
    this.#here.delete(name);
    return false;
  }

  existsSync(path: string): boolean {
    return this.#inner.existsSync(path);
  }

  listSync(path: string): string[] {
    return this.#inner.listSync(path);
  }

  makeDirectorySync(path: string): void {
    this.#inner.makeDirectorySync(path);
  }

  renameSync(from: string, to: string): void {
    this.#inner.renameSync(from, to);
  }

  deleteSync(path: string): void {
    this.#inner.deleteSync(path);
  }

  syncDirectorySync(path: string): void {
    this.#inner.syncDirectorySync(path);
  }
}

class VanishingFile implements StorageFile {
  readonly path: string;
  readonly #storage: VanishingStorage;
  readonly #file: StorageFile;

  constructor(storage: VanishingStorage, file: StorageFile) {
    this.path = file.path;
    this.#storage = storage;
    this.#file = file;
  }

  readSync(offset: number, target: Uint8Array): number {
    this.#storage.require(this.path, offset, target.length);
    return this.#file.readSync(offset, target);
  }

  async read(offset: number, target: Uint8Array): Promise<number> {
    return await this.#file.read(offset, target);
  }

  writeSync(offset: number, source: Uint8Array): void {
    this.#file.writeSync(offset, source);
  }

  write(offset: number, source: Uint8Array): Promise<void> {
    return this.#file.write(offset, source);
  }

  syncSync(): void {
    this.#file.syncSync();
  }

  sync(): Promise<void> {
    return this.#file.sync();
  }

  sizeSync(): number {
    return this.#file.sizeSync();
  }

  changeMarkSync(): string {
    return this.#file.changeMarkSync();
  }

  truncateSync(size: number): void {
    this.#file.truncateSync(size);
  }

  closeSync(): void {
    this.#file.closeSync();
  }
}

function timeout(names: readonly string[]): StoreError {
  return new StoreError("TIMEOUT", `Cannot fetch "${names[0]}": no answer in time`, {
    retryable: true,
  });
}
