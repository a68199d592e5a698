/** Writes a catalog run (run-format.ts) in one pass; memory is bounded by one block, the index and 8 bytes per filtered key. */
import { randomFillSync } from "node:crypto";
import type { StoreCipher } from "../encryption/cipher.ts";
import { invariant } from "../errors.ts";
import type { StorageFile } from "../storage/storage.ts";
import { RunBlockBuilder } from "./run-block.ts";
import { RunFilterBuilder } from "./run-filter.ts";
import {
  encodeRunBlock,
  encodeRunFooter,
  encodeRunIdentity,
  RUN_SALT_SIZE,
  RunBlockKind,
  type RunScope,
  type RunSealing,
} from "./run-format.ts";

/** A block is closed when it holds this much. */
const BLOCK_SIZE = 32 * 1024;

export interface RunWriterOptions {
  readonly cipher: StoreCipher | null;
  /** For tests of the format; random otherwise. */
  readonly salt?: Uint8Array;
}

export interface RunSize {
  readonly scope: RunScope;
  /** Of the file, in bytes. */
  readonly size: number;
  readonly entryCount: number;
  readonly tombstoneCount: number;
  readonly blockCount: number;
}

export class RunWriter {
  readonly #file: StorageFile;
  readonly #scope: RunScope;
  readonly #sealing: RunSealing;
  readonly #block: RunBlockBuilder = new RunBlockBuilder();
  readonly #index: RunBlockBuilder = new RunBlockBuilder();
  readonly #filter: RunFilterBuilder = new RunFilterBuilder();
  #end = 0;
  #entryCount = 0;
  #tombstoneCount = 0;

  /** `file` is empty. It is neither synced nor closed here, nor is its directory synced. */
  constructor(file: StorageFile, scope: RunScope, options: RunWriterOptions) {
    const { previous, mark, isBase } = scope;
    const isInOrder = isBase ? previous.sequence === 0 : previous.sequence < mark.sequence;
    invariant(isInOrder, `a run goes forward: from ${previous.sequence} to ${mark.sequence}`);
    const { cipher } = options;
    const salt = options.salt ?? newSalt(cipher);
    const keyNumber = cipher?.activeKeyNumber ?? 0;
    const identity = encodeRunIdentity(scope, keyNumber, salt);
    this.#file = file;
    this.#scope = scope;
    this.#sealing = { cipher, keyNumber, salt, identity };
  }

  /** Adds an entry, or a tombstone (null), whose key is after all before. Copies both. True when a block went to the file. */
  add(key: Uint8Array, value: Uint8Array | null): boolean {
    invariant(value !== null || !this.#scope.isBase, "a base has no tombstones");
    this.#block.add(key, value);
    this.#filter.add(key);
    this.#entryCount++;
    if (value === null) this.#tombstoneCount++;
    if (this.#block.size < BLOCK_SIZE) return false;
    this.#flush();
    return true;
  }

  /** Writes what is left, the index, the filter and the footer. */
  finish(): RunSize {
    if (this.#block.count > 0) this.#flush();
    const indexOffset = this.#end;
    const blockCount = this.#index.count;
    const indexLength = this.#append(this.#index.take(), RunBlockKind.index);
    const filterLength = this.#append(this.#filter.encode(), RunBlockKind.filter);
    const entryCount = this.#entryCount;
    const tombstoneCount = this.#tombstoneCount;
    const footer = encodeRunFooter(this.#sealing.identity, {
      entryCount,
      tombstoneCount,
      blockCount,
      indexOffset,
      indexLength,
      filterLength,
    });
    this.#file.writeSync(this.#end, footer);
    const size = this.#end + footer.length;
    return { scope: this.#scope, size, entryCount, tombstoneCount, blockCount };
  }

  #flush(): void {
    const { firstKey, count } = this.#block;
    const value = new Uint8Array(16);
    const view = new DataView(value.buffer);
    view.setBigUint64(0, BigInt(this.#end), true);
    view.setUint32(8, this.#append(this.#block.take(), RunBlockKind.entries), true);
    view.setUint32(12, count, true);
    this.#index.add(firstKey, value);
  }

  #append(plaintext: Uint8Array, kind: RunBlockKind): number {
    const bytes = encodeRunBlock(plaintext, { kind, offset: this.#end }, this.#sealing);
    this.#file.writeSync(this.#end, bytes);
    this.#end += bytes.length;
    return bytes.length;
  }
}

function newSalt(cipher: StoreCipher | null): Uint8Array {
  const salt = new Uint8Array(RUN_SALT_SIZE);
  return cipher === null ? salt : randomFillSync(salt);
}
