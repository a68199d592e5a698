/**
 * What the catalog asks of a key-value backend: ordered keys, and batches that are atomic and durable.
 *
 * K1. `commit` applies all of a batch or none of it, also across a crash; when it returns the batch is durable.
 * K2. Keys are ordered as unsigned bytes, shorter first where one is a prefix of the other.
 * K3. Reads see the last commit. A range being iterated stays valid, and unchanged, while commits go on.
 */
export interface KeyValueStore {
  /** For `bough stat` and messages: "lmdb", "memory". */
  readonly name: string;
  /** A copy, or a view that stays valid until the next call into this store; undefined when there is none. */
  get(key: Uint8Array): Uint8Array | undefined;
  /** Entries with `start` <= key < `end`, in order, or backwards from the greatest when `reverse`. */
  range(options: RangeOptions): Iterable<KeyValueEntry>;
  commit(batch: WriteBatch): void;
  /** Bytes on disk, an estimate. */
  estimatedSize(): number;
  /** Gives unused space back to the system where the backend can. */
  compact(): void;
  close(): void;
}

export interface RangeOptions {
  readonly start: Uint8Array;
  readonly end: Uint8Array;
  readonly reverse?: boolean;
  readonly limit?: number;
}

export interface KeyValueEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Puts and deletes to be applied together; a later one of the same key wins. */
export class WriteBatch {
  readonly operations: { key: Uint8Array; value: Uint8Array | null }[] = [];

  put(key: Uint8Array, value: Uint8Array): void {
    this.operations.push({ key, value });
  }

  delete(key: Uint8Array): void {
    this.operations.push({ key, value: null });
  }
}
