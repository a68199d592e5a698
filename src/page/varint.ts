/**
 * Variable-length integers of the history format: base 128, least significant group first, the top bit set on all bytes
 * but the last. Up to 2^53 - 1, so at most 8 bytes.
 */
export const VARINT_SIZE_MAX = 8;

/** Bytes that are not a varint, or a varint past the largest safe integer. */
export class VarintError extends Error {
  override readonly name = "VarintError";
}

/** Writes `value` at `offset` and returns the offset after it. */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`Cannot write varint: ${value}`);
  let out = offset;
  let rest = value;
  while (rest >= 0x80) {
    target[out++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  target[out++] = rest;
  return out;
}

/** Reads varints one after another. */
export class VarintReader {
  offset: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes;
    this.offset = offset;
  }

  get isAtEnd(): boolean {
    return this.offset === this.#bytes.length;
  }

  next(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < VARINT_SIZE_MAX; count++) {
      const byte = this.#bytes[this.offset];
      if (byte === undefined) throw new VarintError(`no byte at ${this.offset}`);
      this.offset++;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) throw new VarintError(`${value} is too large`);
        return value;
      }
      scale *= 0x80;
    }
    throw new VarintError(`more than ${VARINT_SIZE_MAX} bytes before ${this.offset}`);
  }

  /** A view of the next bytes. */
  bytes(length: number): Uint8Array {
    const end = this.offset + length;
    if (end > this.#bytes.length)
      throw new VarintError(`${length} bytes at ${this.offset} pass the end`);
    const view = this.#bytes.subarray(this.offset, end);
    this.offset = end;
    return view;
  }
}
