/**
 * Memory for the pages that transactions write, used again: a new array per page and commit would be most of the work
 * of the garbage collector.
 *
 * M1. A buffer that was given back is referred to by nobody: not by a frame, a view or an open transaction.
 */
const IDLE_BYTES_MAX = 4 * 1024 * 1024;

export class PageBuffers {
  readonly pageSize: number;
  readonly #idle: Uint8Array[] = [];

  constructor(pageSize: number) {
    this.pageSize = pageSize;
  }

  /** A copy of the page at `pointer`. */
  copy(heap: Uint8Array, pointer: number): Uint8Array {
    const buffer = this.#idle.pop();
    if (buffer === undefined) return heap.slice(pointer, pointer + this.pageSize);
    buffer.set(heap.subarray(pointer, pointer + this.pageSize));
    return buffer;
  }

  /** See M1. */
  give(buffer: Uint8Array): void {
    if (this.#idle.length * this.pageSize < IDLE_BYTES_MAX) this.#idle.push(buffer);
  }

  giveAll(buffers: Iterable<Uint8Array>): void {
    for (const buffer of buffers) this.give(buffer);
  }
}
