/** Many small pieces of bytes in few blocks; a block lives as long as anything refers to it. */
const BLOCK_SIZE = 64 * 1024;
/** Below this many bytes a loop copies faster than `set` with a view made for it. */
const SHORT_COPY = 64;

export class ByteArena {
  /** Has the piece that was put last, in the bytes before `end`. */
  block: Uint8Array = new Uint8Array(BLOCK_SIZE);
  end = 0;

  /** Copies `source`[start, end). */
  put(source: Uint8Array, start: number, end: number): void {
    const size = end - start;
    if (this.end + size > this.block.length) {
      this.block = new Uint8Array(Math.max(BLOCK_SIZE, size));
      this.end = 0;
    }
    const { block } = this;
    if (size < SHORT_COPY) {
      const shift = this.end - start;
      for (let index = start; index < end; index++) block[index + shift] = source[index]!;
    } else block.set(source.subarray(start, end), this.end);
    this.end += size;
  }
}
