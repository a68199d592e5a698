/**
 * A list of catalog runs as a key-value store that is only read: what another machine sees of the catalog in object storage.
 *
 * R1. Of a key that several runs have, the newest decides; a tombstone hides what is older.
 * R2. The runs are whole and in order, as run-order.ts says.
 * R3. `replaceRuns` takes effect for calls that come after it; an iterator keeps the runs that it began with (K3).
 * R4. Where a read throws NotLocalError it has changed nothing. An iterator stays where it was: calling its `next` again
 *     after the fetch goes on, so that a long range takes no more memory than a short one.
 * R5. Who repeats a whole read instead gets to its end however small the cache is: from its second try on, the blocks of that read
 *     are held until it ends. Held blocks of reads that were left or given up are dropped from HELD_BYTES_MAX on, oldest first.
 */
import { invariant, StoreError } from "../errors.ts";
import { NotLocalError } from "../storage/not-local.ts";
import { checkRange } from "./key-order.ts";
import type { KeyValueEntry, KeyValueStore, RangeOptions } from "./key-value.ts";
import type { RunBlock } from "./run-block.ts";
import { type ReadRunBlock, RunMerge } from "./run-merge.ts";
import { checkRunOrder } from "./run-order.ts";
import type { RunReader } from "./run-reader.ts";

const HELD_BYTES_MAX = 64 * 1024 * 1024;
const HELD_READS_MAX = 1024;

export class RunsKeyValueStore implements KeyValueStore {
  readonly name = "runs";
  #runs: readonly RunReader[] = [];
  readonly #held = new Map<string, HeldBlocks>();
  #isClosed = false;

  /** From old to new. The files stay the caller's, to be closed when no iterator over them is left. */
  constructor(runs: readonly RunReader[]) {
    this.replaceRuns(runs);
  }

  /** From old to new; see R2 and R3. Throws CORRUPT_CATALOG when a run is missing between two. */
  replaceRuns(runs: readonly RunReader[]): void {
    this.#checkOpen();
    checkRunOrder(runs);
    const kept = new Set(runs);
    for (const reader of this.#runs) if (!kept.has(reader)) reader.release();
    for (const held of this.#held.values()) held.keepOnly(kept);
    this.#runs = [...runs];
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.#checkOpen();
    const held = this.#held.size === 0 ? undefined : this.#held.get(nameOfKey(key));
    const readBlock = held === undefined ? readCached : held.read;
    try {
      const value = find(this.#runs, key, readBlock);
      if (held !== undefined) this.#held.delete(nameOfKey(key));
      return value ?? undefined;
    } catch (error) {
      if (error instanceof NotLocalError) this.#hold(nameOfKey(key), held);
      throw error;
    }
  }

  range(options: RangeOptions): Iterable<KeyValueEntry> {
    checkRange(options);
    return { [Symbol.iterator]: () => this.#iterate(options) };
  }

  commit(): void {
    this.#checkOpen();
    throw new StoreError(
      "READ_ONLY",
      "Cannot write the catalog: it is read from object storage; open the store as its writer",
    );
  }

  estimatedSize(): number {
    return this.#runs.reduce((sum, reader) => sum + reader.size, 0);
  }

  /** There is nothing to give back: the writer merges runs. */
  compact(): void {
    this.#checkOpen();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const reader of this.#runs) reader.release();
    this.#runs = [];
    this.#held.clear();
  }

  /** Not a generator: those end when they throw (R4). */
  #iterate(options: RangeOptions): IterableIterator<KeyValueEntry> {
    const { start, end, reverse = false, limit = Infinity } = options;
    const name = nameOfRange(options);
    const held = this.#held.get(name);
    const readBlock = held === undefined ? readCached : held.read;
    this.#checkOpen();
    const merge = new RunMerge(this.#runs, { start, end, reverse }, readBlock);
    let left = limit;
    const finish = (): IteratorReturnResult<undefined> => {
      left = 0;
      return { done: true, value: undefined };
    };
    return {
      [Symbol.iterator]() {
        return this;
      },
      next: (): IteratorResult<KeyValueEntry, undefined> => {
        this.#checkOpen();
        try {
          while (left > 0) {
            const entry = merge.next();
            if (entry === null) break;
            const { key, value } = entry;
            if (value === null) continue;
            left--;
            return { done: false, value: { key, value } };
          }
        } catch (error) {
          if (error instanceof NotLocalError) this.#hold(name, held);
          throw error;
        }
        this.#held.delete(name);
        return finish();
      },
      // Perhaps because a read within the loop misses its bytes, and all is repeated: what is held stays so.
      return: finish,
    };
  }

  /** Remembers what a read that has to be repeated had read, as the newest. */
  #hold(name: string, held: HeldBlocks | undefined): void {
    this.#held.delete(name);
    this.#held.set(name, held ?? new HeldBlocks());
    let bytes = 0;
    for (const blocks of this.#held.values()) bytes += blocks.bytes;
    for (const [oldest, blocks] of this.#held) {
      if (oldest === name) return;
      if (bytes <= HELD_BYTES_MAX && this.#held.size <= HELD_READS_MAX) return;
      this.#held.delete(oldest);
      bytes -= blocks.bytes;
    }
  }

  #checkOpen(): void {
    invariant(!this.#isClosed, "An open catalog: the one of runs is closed");
  }
}

const readCached: ReadRunBlock = (reader, number) => reader.block(number);

/** The blocks that a repeated read has come across. */
class HeldBlocks {
  readonly #blocks = new Map<RunReader, Map<number, RunBlock>>();
  bytes = 0;

  readonly read: ReadRunBlock = (reader, number) => {
    let blocks = this.#blocks.get(reader);
    const known = blocks?.get(number);
    if (known !== undefined) return known;
    const block = reader.block(number);
    if (blocks === undefined) this.#blocks.set(reader, (blocks = new Map()));
    blocks.set(number, block);
    this.bytes += block.weight;
    return block;
  };

  keepOnly(readers: ReadonlySet<RunReader>): void {
    for (const [reader, blocks] of this.#blocks) {
      if (readers.has(reader)) continue;
      this.#blocks.delete(reader);
      for (const block of blocks.values()) this.bytes -= block.weight;
    }
  }
}

function find(
  runs: readonly RunReader[],
  key: Uint8Array,
  readBlock: ReadRunBlock,
): Uint8Array | null {
  for (let at = runs.length - 1; at >= 0; at--) {
    const reader = runs[at]!;
    if (!reader.mayHave(key)) continue;
    const number = reader.blockOf(key);
    if (number < 0) continue;
    const block = readBlock(reader, number);
    const index = block.lowerBound(key);
    if (index < block.count && block.compareAt(index, key) === 0) return block.valueAt(index);
  }
  return null;
}

function nameOfKey(key: Uint8Array): string {
  return Buffer.from(key).toString("latin1");
}

function nameOfRange({ start, end, reverse = false, limit }: RangeOptions): string {
  return JSON.stringify([nameOfKey(start), nameOfKey(end), reverse, limit ?? null]);
}
