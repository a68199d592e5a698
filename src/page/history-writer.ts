/** Writes a history segment (history-format.ts) in one pass; memory is bounded by one block and the index. */
import { randomFillSync } from "node:crypto";
import type { StoreCipher } from "../encryption/cipher.ts";
import { InvariantError, invariant } from "../errors.ts";
import type { StorageFile } from "../storage/storage.ts";
import { Codec, type CodecChoice } from "./compression.ts";
import {
  BlockKind,
  type BlockSealing,
  compareHistoryKeys,
  encodeBlock,
  encodeHistoryFooter,
  encodeHistoryHeader,
  HISTORY_FOOTER_SIZE,
  HISTORY_HEADER_SIZE,
  HISTORY_SALT_SIZE,
  type HistoryEntry,
  type HistoryKey,
  HistoryKind,
  isPayloadValid,
} from "./history-format.ts";
import { VARINT_SIZE_MAX, writeVarint } from "./varint.ts";

/** A block is closed when it holds this much. */
const BLOCK_SIZE = 64 * 1024;
const ENTRY_OVERHEAD_MAX = 5 * VARINT_SIZE_MAX;
const INDEX_ENTRY_SIZE_MAX = 5 * VARINT_SIZE_MAX;
const UINT32_MAX = 0xffff_ffff;
/** Below this many bytes a loop copies faster than `set` with a view made for it. */
const SHORT_COPY = 64;

export interface HistoryMeta {
  /** 16 bytes. */
  readonly storeId: Uint8Array;
  readonly segmentNumber: number;
  readonly databaseId: number;
  readonly cipher: StoreCipher | null;
  /** lz4 unless given. */
  readonly codec?: CodecChoice;
  /** For tests of the format; random otherwise. */
  readonly salt?: Uint8Array;
}

export interface HistorySize {
  /** Of the file, in bytes. */
  readonly size: number;
  readonly entryCount: number;
  readonly blockCount: number;
  /** Entries that refer to pages in chunks. */
  readonly references: number;
}

/**
 * Writes all entries, which ascend by (timeline, page, version), to an empty file. Neither syncs the file nor its
 * directory: the segment counts once both are done and the catalog names it.
 */
export function writeHistory(
  file: StorageFile,
  meta: HistoryMeta,
  entries: Iterable<HistoryEntry>,
): HistorySize {
  const writer = new HistoryWriter(file, meta);
  for (const entry of entries) writer.add(entry);
  return writer.finish();
}

/** The same in steps, for a checkpoint that works in slices. */
export class HistoryWriter {
  readonly #file: StorageFile;
  readonly #sealing: BlockSealing;
  readonly #codec: CodecChoice;
  #end = 0;
  #block: Uint8Array = new Uint8Array(BLOCK_SIZE + 65_536 + ENTRY_OVERHEAD_MAX);
  #blockSize = 0;
  readonly #blockFirst: MutableKey = newKey();
  #index: Uint8Array = new Uint8Array(4096);
  #indexSize = 0;
  readonly #last: MutableKey = newKey();
  #entryCount = 0;
  #blockCount = 0;
  #references = 0;

  constructor(file: StorageFile, meta: HistoryMeta) {
    const { storeId, segmentNumber, databaseId, cipher } = meta;
    const salt = meta.salt ?? newSalt(cipher);
    const keyNumber = cipher?.activeKeyNumber ?? 0;
    const header = encodeHistoryHeader({ storeId, segmentNumber, databaseId, keyNumber, salt });
    this.#file = file;
    this.#codec = meta.codec ?? Codec.lz4;
    this.#sealing = { cipher, keyNumber, salt, header };
    this.#append(header);
  }

  /** Copies the entry. */
  add(entry: HistoryEntry): void {
    const { kind, payload } = entry;
    invariant(isPayloadValid(kind, payload), notWellFormed(entry, kind, payload.length));
    if (kind === HistoryKind.reference) this.#references++;
    this.#put(entry, kind, payload, 0, payload.length);
  }

  /** The same for a delta in bytes [start, end), without any allocation: a checkpoint adds one per page and commit. */
  addDelta(key: HistoryKey, delta: Uint8Array, start: number, end: number): void {
    this.#put(key, HistoryKind.delta, delta, start, end);
  }

  #put(key: HistoryKey, kind: HistoryKind, source: Uint8Array, from: number, to: number): void {
    const { timeline, page, version } = key;
    const size = to - from;
    const last = this.#last;
    if (this.#entryCount > 0 && compareHistoryKeys(last, key) >= 0)
      throw new InvariantError(
        `history entries ascend: ${timeline} ${page} ${version} is not after the one before`,
      );
    if (timeline > UINT32_MAX || page > UINT32_MAX)
      throw new InvariantError(notWellFormed(key, kind, size));
    if (this.#blockSize + size + ENTRY_OVERHEAD_MAX > this.#block.length)
      this.#block = withRoom(this.#block, this.#blockSize, size + ENTRY_OVERHEAD_MAX);
    const block = this.#block;
    if (this.#blockSize === 0) setKey(this.#blockFirst, key);
    let end = writeVarint(block, this.#blockSize, timeline);
    end = writeVarint(block, end, page);
    end = writeVarint(block, end, version);
    end = writeVarint(block, end, kind);
    end = writeVarint(block, end, size);
    if (size < SHORT_COPY) {
      const shift = end - from;
      for (let index = from; index < to; index++) block[index + shift] = source[index]!;
    } else if (size === source.length) block.set(source, end);
    else block.set(source.subarray(from, to), end);
    this.#blockSize = end + size;
    setKey(last, key);
    this.#entryCount++;
    if (this.#blockSize >= BLOCK_SIZE) this.#flush();
  }

  /** Writes what is left, the index and the footer. */
  finish(): HistorySize {
    this.#flush();
    const indexOffset = this.#end;
    const indexLength = this.#appendBlock(
      this.#index.subarray(0, this.#indexSize),
      BlockKind.index,
    );
    const entryCount = this.#entryCount;
    const blockCount = this.#blockCount;
    this.#append(encodeHistoryFooter({ blockCount, entryCount, indexOffset, indexLength }));
    const size = this.#end;
    invariant(size >= HISTORY_HEADER_SIZE + HISTORY_FOOTER_SIZE, "a segment has header and footer");
    return { size, entryCount, blockCount, references: this.#references };
  }

  #flush(): void {
    const first = this.#blockFirst;
    if (this.#blockSize === 0) return;
    const offset = this.#end;
    const length = this.#appendBlock(this.#block.subarray(0, this.#blockSize), BlockKind.entries);
    this.#index = withRoom(this.#index, this.#indexSize, INDEX_ENTRY_SIZE_MAX);
    for (const value of [first.timeline, first.page, first.version, offset, length]) {
      this.#indexSize = writeVarint(this.#index, this.#indexSize, value);
    }
    this.#blockSize = 0;
    this.#blockCount++;
  }

  #appendBlock(plaintext: Uint8Array, kind: BlockKind): number {
    const place = { kind, offset: this.#end };
    const bytes = encodeBlock(plaintext, place, { codec: this.#codec, sealing: this.#sealing });
    this.#append(bytes);
    return bytes.length;
  }

  #append(bytes: Uint8Array): void {
    this.#file.writeSync(this.#end, bytes);
    this.#end += bytes.length;
  }
}

interface MutableKey {
  timeline: number;
  page: number;
  version: number;
}

function newKey(): MutableKey {
  return { timeline: 0, page: 0, version: 0 };
}

function setKey(target: MutableKey, { timeline, page, version }: HistoryKey): void {
  target.timeline = timeline;
  target.page = page;
  target.version = version;
}

function notWellFormed(key: HistoryKey, kind: HistoryKind, size: number): string {
  return `a history entry is well formed: ${key.timeline} ${key.page} ${key.version} of kind ${kind} has ${size} bytes`;
}

function newSalt(cipher: StoreCipher | null): Uint8Array {
  const salt = new Uint8Array(HISTORY_SALT_SIZE);
  return cipher === null ? salt : randomFillSync(salt);
}

/** The same buffer, or a larger one with its first `size` bytes. */
function withRoom(buffer: Uint8Array, size: number, wanted: number): Uint8Array {
  if (size + wanted <= buffer.length) return buffer;
  const larger = new Uint8Array(Math.max(buffer.length * 2, size + wanted));
  larger.set(buffer.subarray(0, size));
  return larger;
}
