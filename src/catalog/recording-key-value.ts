/**
 * Wraps any key-value backend and numbers the batches that are committed to it, so that each state of the catalog has a name,
 * its mark, under which it goes to object storage.
 *
 *   key [0x00] -> number of the newest batch u64, 8 random bytes; big-endian, sealed (record-codec.ts)
 *
 * N1. Every batch that is committed, but an empty one, puts the mark too: it is part of the state that it names.
 * N2. Numbers go up by 1. Only after a commit that failed can two batches have the same number, and only one of them is ever found
 *     in the store; the random bytes tell them apart.
 * N3. The listener hears of a batch before it is committed, and again only after it is durable. A batch that some backend could
 *     not store is refused before that.
 */
import { randomBytes } from "node:crypto";
import { checkBatch } from "./key-order.ts";
import {
  type KeyValueEntry,
  type KeyValueStore,
  type RangeOptions,
  WriteBatch,
} from "./key-value.ts";
import { ByteReader, ByteWriter, openValue, sealValue } from "./record-codec.ts";
import { type CatalogMark, MARK_NONCE_SIZE } from "./run-format.ts";

export interface BatchListener {
  /**
   * The batch is about to be committed; `operations` has the mark too, and is valid during the call only. `previous` is the
   * mark of the state before it. What this throws refuses the batch.
   */
  onBatch?(
    operations: WriteBatch["operations"],
    mark: CatalogMark,
    previous: CatalogMark | null,
  ): void;
  /** The batch of the last `onBatch` is durable. Must not throw: it cannot be undone. */
  onCommitted?(mark: CatalogMark): void;
}

/** Before all tables of the catalog. */
export const MARK_KEY: Uint8Array = Uint8Array.of(0);

export class RecordingKeyValueStore implements KeyValueStore {
  /** One at a time. */
  listener: BatchListener | null = null;
  readonly #inner: KeyValueStore;
  readonly #markKey: Uint8Array;
  /** Undefined: not known, to be read. */
  #mark: CatalogMark | null | undefined;

  /** `markKey`: another key than [0x00], for tests that use all keys. */
  constructor(inner: KeyValueStore, options: { readonly markKey?: Uint8Array } = {}) {
    this.#inner = inner;
    this.#markKey = options.markKey ?? MARK_KEY;
  }

  get name(): string {
    return this.#inner.name;
  }

  /** Names the state of the store; null when no marked batch was ever committed. */
  mark(): CatalogMark | null {
    if (this.#mark !== undefined) return this.#mark;
    const sealed = this.#inner.get(this.#markKey);
    this.#mark = sealed === undefined ? null : decodeMark(this.#markKey, sealed);
    return this.#mark;
  }

  commit(batch: WriteBatch): void {
    checkBatch(batch);
    if (batch.operations.length === 0) {
      this.#inner.commit(batch);
      return;
    }
    const previous = this.mark();
    const nonce = new Uint8Array(randomBytes(MARK_NONCE_SIZE));
    const mark: CatalogMark = { sequence: (previous?.sequence ?? 0) + 1, nonce };
    const marked = new WriteBatch();
    for (const operation of batch.operations) marked.operations.push(operation);
    marked.put(this.#markKey, encodeMark(this.#markKey, mark));
    this.listener?.onBatch?.(marked.operations, mark, previous);
    // After a failed commit the old state may be there or the new one.
    this.#mark = undefined;
    this.#inner.commit(marked);
    this.#mark = mark;
    this.listener?.onCommitted?.(mark);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.#inner.get(key);
  }

  range(options: RangeOptions): Iterable<KeyValueEntry> {
    return this.#inner.range(options);
  }

  estimatedSize(): number {
    return this.#inner.estimatedSize();
  }

  compact(): void {
    this.#inner.compact();
  }

  close(): void {
    this.#inner.close();
  }
}

function encodeMark(key: Uint8Array, mark: CatalogMark): Uint8Array {
  const value = new ByteWriter(8 + MARK_NONCE_SIZE).u64(mark.sequence).raw(mark.nonce).bytes;
  return sealValue(key, value);
}

/** The value of the row [0x00]; throws CORRUPT_CATALOG. */
export function decodeMark(key: Uint8Array, sealed: Uint8Array): CatalogMark {
  const reader = new ByteReader(openValue(key, sealed, "the mark of the newest batch"));
  return { sequence: reader.u64(), nonce: reader.raw(MARK_NONCE_SIZE) };
}
