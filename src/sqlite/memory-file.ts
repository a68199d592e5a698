/**
 * A temporary file of SQLite: its sorter, temporary tables, the rollback journal of VACUUM INTO. It lives in blocks of
 * memory outside of the WASM heap and moves to a real temporary file when it outgrows `memoryBytesMax`, or when all of them together
 * have outgrown theirs.
 */
import { TemporaryFile } from "../storage/temporary-file.ts";
import { SQLITE_IOERR_SHORT_READ, SQLITE_NOTFOUND, SQLITE_OK } from "./constants.ts";
import type { VfsFile } from "./vfs.ts";

const BLOCK_BYTES = 64 * 1024;
const MEMORY_BYTES_MAX = 64 * 1024 * 1024;
const ALL_BYTES_MAX = 4 * MEMORY_BYTES_MAX;
const SECTOR_BYTES = 4096;

/** What files share that are bounded together. */
export interface TemporaryMemory {
  /** Of their blocks. */
  bytes: number;
  readonly bytesMax: number;
}

/** Of this thread: many connections may each have a few of them. */
const THREAD_MEMORY: TemporaryMemory = { bytes: 0, bytesMax: ALL_BYTES_MAX };

export interface MemoryFileOptions {
  /** Where the file spills to; null is the system's temporary directory. */
  readonly directory: string | null;
  readonly memoryBytesMax?: number;
  readonly shared?: TemporaryMemory;
}

export class MemoryFile implements VfsFile {
  readonly deviceCharacteristics = 0;
  readonly sectorSize: number = SECTOR_BYTES;
  readonly #directory: string | null;
  readonly #memoryBytesMax: number;
  readonly #shared: TemporaryMemory;
  #blocks: (Uint8Array | undefined)[] = [];
  #blockBytes = 0;
  #size = 0;
  #spilled: TemporaryFile | null = null;

  constructor({
    directory,
    memoryBytesMax = MEMORY_BYTES_MAX,
    shared = THREAD_MEMORY,
  }: MemoryFileOptions) {
    this.#directory = directory;
    this.#shared = shared;
    this.#memoryBytesMax = memoryBytesMax;
  }

  /** Whether the contents have moved to disk. */
  get spilled(): boolean {
    return this.#spilled !== null;
  }

  read(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    const available = Math.max(0, Math.min(length, this.#size - offset));
    if (this.#spilled !== null) {
      const done = this.#spilled.read(offset, heap.subarray(pointer, pointer + available));
      heap.fill(0, pointer + done, pointer + length);
    } else {
      this.#readBlocks(heap, pointer, available, offset);
      heap.fill(0, pointer + available, pointer + length);
    }
    return available < length ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
  }

  write(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    const end = offset + length;
    if (this.#spilled === null && this.#isTooLarge(offset, end)) this.#spill();
    if (this.#spilled !== null) {
      this.#spilled.write(offset, heap.subarray(pointer, pointer + length));
    } else {
      this.#writeBlocks(heap, pointer, length, offset);
    }
    this.#size = Math.max(this.#size, end);
    return SQLITE_OK;
  }

  truncate(size: number): number {
    if (size < this.#size) {
      if (this.#spilled !== null) this.#spilled.truncate(size);
      for (const block of this.#blocks.splice(Math.ceil(size / BLOCK_BYTES)))
        if (block !== undefined) this.#noteBlocks(-BLOCK_BYTES);
      // What a later write leaves as a gap reads as zeros.
      this.#blocks[Math.floor(size / BLOCK_BYTES)]?.fill(0, size % BLOCK_BYTES);
    }
    this.#size = size;
    return SQLITE_OK;
  }

  sync(): number {
    return SQLITE_OK;
  }

  size(): number {
    return this.#size;
  }

  lock(): number {
    return SQLITE_OK;
  }

  unlock(): number {
    return SQLITE_OK;
  }

  isReserved(): boolean {
    return false;
  }

  prepareCommit(): number {
    return SQLITE_NOTFOUND;
  }

  commitPhaseTwo(): number {
    return SQLITE_NOTFOUND;
  }

  pragma(): string | null {
    return null;
  }

  close(): void {
    this.#dropBlocks();
    this.#spilled?.close();
    this.#spilled = null;
  }

  #readBlocks(heap: Uint8Array, pointer: number, length: number, offset: number): void {
    for (let done = 0; done < length;) {
      const start = (offset + done) % BLOCK_BYTES;
      const count = Math.min(length - done, BLOCK_BYTES - start);
      const block = this.#blocks[Math.floor((offset + done) / BLOCK_BYTES)];
      if (block === undefined) heap.fill(0, pointer + done, pointer + done + count);
      else heap.set(block.subarray(start, start + count), pointer + done);
      done += count;
    }
  }

  #writeBlocks(heap: Uint8Array, pointer: number, length: number, offset: number): void {
    for (let done = 0; done < length;) {
      const index = Math.floor((offset + done) / BLOCK_BYTES);
      const start = (offset + done) % BLOCK_BYTES;
      const count = Math.min(length - done, BLOCK_BYTES - start);
      const block = this.#blocks[index] ?? this.#addBlock(index);
      block.set(heap.subarray(pointer + done, pointer + done + count), start);
      done += count;
    }
  }

  #spill(): void {
    const file = new TemporaryFile(this.#directory);
    try {
      for (const [index, block] of this.#blocks.entries()) {
        if (block !== undefined) file.write(index * BLOCK_BYTES, block);
      }
    } catch (error) {
      file.close();
      throw error;
    }
    this.#spilled = file;
    this.#dropBlocks();
  }

  /** With the blocks that a write there would add. */
  #isTooLarge(offset: number, end: number): boolean {
    if (end > this.#memoryBytesMax) return true;
    let added = 0;
    for (let index = Math.floor(offset / BLOCK_BYTES); index * BLOCK_BYTES < end; index++)
      if (this.#blocks[index] === undefined) added += BLOCK_BYTES;
    return added > 0 && this.#shared.bytes + added > this.#shared.bytesMax;
  }

  #addBlock(index: number): Uint8Array {
    this.#noteBlocks(BLOCK_BYTES);
    return (this.#blocks[index] = new Uint8Array(BLOCK_BYTES));
  }

  #dropBlocks(): void {
    this.#blocks = [];
    this.#noteBlocks(-this.#blockBytes);
  }

  #noteBlocks(bytes: number): void {
    this.#blockBytes += bytes;
    this.#shared.bytes += bytes;
  }
}
