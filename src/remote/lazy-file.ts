import { InvariantError, StoreError } from "../errors.ts";
import { readFetching, requireLocal } from "../storage/not-local.ts";
import type { StorageFile } from "../storage/storage.ts";
import { BLOCK_SIZE, type CachedObject } from "./block-cache.ts";
import type { LazyFetch } from "./lazy-fetch.ts";
import type { ReadAhead } from "./lazy-read-ahead.ts";

/** Counted by the files of a storage. */
export interface ReadCounts {
  /** Reads answered from blocks that were here. */
  hits: number;
  /** Reads that had to wait. */
  misses: number;
}

/** A file whose bytes are an object: read through the block cache, never written. */
export class LazyFile implements StorageFile {
  readonly path: string;
  private readonly object: CachedObject;
  private readonly fetch: LazyFetch;
  private readonly readAhead: ReadAhead | null;
  private readonly counts: ReadCounts;
  private isClosed = false;

  constructor(
    path: string,
    object: CachedObject,
    context: {
      readonly fetch: LazyFetch;
      readonly readAhead: ReadAhead | null;
      readonly counts: ReadCounts;
    },
  ) {
    this.path = path;
    this.object = object;
    this.fetch = context.fetch;
    this.readAhead = context.readAhead;
    this.counts = context.counts;
  }

  /** Throws NotLocalError, with `target` as it was, when a block is not here; within `waiting` it waits (M4 there). */
  readSync(offset: number, target: Uint8Array): number {
    this.checkOpen();
    const end = Math.min(offset + target.byteLength, this.object.size);
    if (end <= offset) return 0;
    const first = Math.floor(offset / BLOCK_SIZE);
    const last = Math.floor((end - 1) / BLOCK_SIZE);
    if (first === last) this.readOne(first, offset, target.subarray(0, end - offset));
    else this.readMany(first, last, { offset, target: target.subarray(0, end - offset) });
    this.counts.hits++;
    this.ahead(first, last, false);
    return end - offset;
  }

  read(offset: number, target: Uint8Array): Promise<number> {
    return readFetching(() => this.readSync(offset, target));
  }

  writeSync(): void {
    this.refuse("write");
  }

  async write(): Promise<void> {
    this.refuse("write");
  }

  syncSync(): void {
    this.checkOpen();
  }

  async sync(): Promise<void> {
    this.checkOpen();
  }

  sizeSync(): number {
    this.checkOpen();
    return this.object.size;
  }

  changeMarkSync(): string {
    this.checkOpen();
    return `${this.object.size} ${this.object.key}`;
  }

  truncateSync(): void {
    this.refuse("truncate");
  }

  refetch(offset: number, length: number): boolean {
    this.checkOpen();
    const end = Math.min(offset + length, this.object.size);
    const first = Math.floor(offset / BLOCK_SIZE);
    return this.fetch.refetch(this.object, first, Math.ceil(end / BLOCK_SIZE));
  }

  closeSync(): void {
    this.isClosed = true;
  }

  private readOne(index: number, offset: number, target: Uint8Array): void {
    const bytes = this.fetch.block(this.object, index);
    if (bytes === null) {
      this.requireLocal([index], index, index);
      this.readOne(index, offset, target);
      return;
    }
    const start = offset - index * BLOCK_SIZE;
    target.set(bytes.subarray(start, start + target.byteLength));
    this.fetch.noteRead(this.object, index);
  }

  private readMany(
    first: number,
    last: number,
    { offset, target }: { readonly offset: number; readonly target: Uint8Array },
  ): void {
    const blocks: Uint8Array[] = [];
    const missing: number[] = [];
    for (let index = first; index <= last; index++) {
      const bytes = this.fetch.block(this.object, index);
      if (bytes === null) missing.push(index);
      else blocks.push(bytes);
    }
    if (missing.length > 0) {
      this.requireLocal(missing, first, last);
      this.readMany(first, last, { offset, target });
      return;
    }
    let done = 0;
    for (const bytes of blocks) {
      const start = (offset + done) % BLOCK_SIZE;
      const part = bytes.subarray(start, start + target.byteLength - done);
      target.set(part, done);
      done += part.byteLength;
    }
    for (let index = first; index <= last; index++) this.fetch.noteRead(this.object, index);
  }

  private requireLocal(missing: readonly number[], first: number, last: number): void {
    const { object, fetch } = this;
    this.counts.misses++;
    const begun = (): void => this.ahead(first, last, true);
    requireLocal(`"${this.path}", ${missing.length} blocks from ${missing[0]}`, {
      fetch: (options) => fetch.fetch(object, missing, options, begun),
      fetchSync: (options) => fetch.fetchSync(object, missing, options, begun),
    });
  }

  private ahead(first: number, last: number, isMissing: boolean): void {
    const run = this.readAhead?.read(first, last, isMissing) ?? null;
    if (run !== null) this.fetch.prefetch(this.object, run.first, run.count);
  }

  private refuse(action: string): never {
    this.checkOpen();
    throw new StoreError(
      "IO",
      `Cannot ${action} "${this.path}": it is in object storage, and its file is open for reading only`,
      { details: { path: this.path } },
    );
  }

  private checkOpen(): void {
    if (this.isClosed) throw new InvariantError(`An open file: "${this.path}" is closed`);
  }
}
