/**
 * A temporary file of SQLite: its sorter, temporary tables, the rollback journal of VACUUM INTO. It lives in blocks of
 * memory outside of the WASM heap and moves to a real temporary file when it outgrows `memoryBytesMax`.
 */
import { TemporaryFile } from "../storage/temporary-file.ts";
import { SQLITE_IOERR_SHORT_READ, SQLITE_NOTFOUND, SQLITE_OK } from "./constants.ts";
import type { VfsFile } from "./vfs.ts";

const BLOCK_BYTES = 64 * 1024;
const MEMORY_BYTES_MAX = 64 * 1024 * 1024;
const SECTOR_BYTES = 4096;

export interface MemoryFileOptions {
  /** Where the file spills to; null is the system's temporary directory. */
  readonly directory: string | null;
  readonly memoryBytesMax?: number;
}

export class MemoryFile implements VfsFile {
  readonly deviceCharacteristics = 0;
  readonly sectorSize: number = SECTOR_BYTES;
  readonly #directory: string | null;
  readonly #memoryBytesMax: number;
  #blocks: (Uint8Array | undefined)[] = [];
  #size = 0;
  #spilled: TemporaryFile | null = null;

  constructor({ directory, memoryBytesMax = MEMORY_BYTES_MAX }: MemoryFileOptions) {
    this.#directory = directory;
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
    if (this.#spilled === null && end > this.#memoryBytesMax) this.#spill();
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
      this.#blocks.length = Math.min(this.#blocks.length, Math.ceil(size / BLOCK_BYTES));
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
    this.#blocks = [];
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
      const block = (this.#blocks[index] ??= new Uint8Array(BLOCK_BYTES));
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
    this.#blocks = [];
  }
}
