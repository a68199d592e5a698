/**
 * How the catalog's records look as bytes: big-endian keys that sort by meaning, values that carry their own check.
 *
 * C1. Every value ends with a CRC64-NVME over its key and its bytes, so that a value damaged, or found under another
 *     key, is an error and never an answer. (Nodes are exempt: their key is a hash of their bytes.)
 */
import { StoreError } from "../errors.ts";
import { Crc64 } from "../storage/crc64.ts";

const CHECK_SIZE = 8;

export function sealValue(key: Uint8Array, value: Uint8Array): Uint8Array {
  const sealed = new Uint8Array(value.length + CHECK_SIZE);
  sealed.set(value);
  const crc = new Crc64();
  crc.update(key);
  crc.update(value);
  crc.digestInto(sealed, value.length);
  return sealed;
}

/** A view of the value; StoreError CORRUPT_CATALOG when the check does not fit. */
export function openValue(key: Uint8Array, sealed: Uint8Array, what: string): Uint8Array {
  const size = sealed.length - CHECK_SIZE;
  if (size >= 0) {
    const value = sealed.subarray(0, size);
    const crc = new Crc64();
    crc.update(key);
    crc.update(value);
    const check = new Uint8Array(CHECK_SIZE);
    crc.digestInto(check, 0);
    if (check.every((byte, index) => byte === sealed[size + index])) return value;
  }
  throw new StoreError(
    "CORRUPT_CATALOG",
    `Cannot read the catalog: the record of ${what} fails its checksum`,
    { details: { key: Buffer.from(key).toString("hex") } },
  );
}

/**
 * Builds keys and fixed binary values, big-endian. Without a DataView: that would move each of these small arrays out of
 * the JavaScript heap, and a checkpoint makes two per commit.
 */
export class ByteWriter {
  readonly bytes: Uint8Array;
  #offset = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  u8(value: number): this {
    this.#require(1);
    this.bytes[this.#offset++] = value;
    return this;
  }

  u32(value: number): this {
    this.#require(4);
    this.#putUint32(value);
    return this;
  }

  /** A non-negative safe integer. */
  u64(value: number): this {
    this.#require(8);
    this.#putUint32(Math.floor(value / 2 ** 32));
    this.#putUint32(value >>> 0);
    return this;
  }

  #require(size: number): void {
    if (this.#offset + size > this.bytes.length)
      throw new RangeError(
        `Cannot write ${size} bytes at ${this.#offset}: there are ${this.bytes.length}`,
      );
  }

  #putUint32(value: number): void {
    const { bytes } = this;
    const offset = this.#offset;
    bytes[offset] = value >>> 24;
    bytes[offset + 1] = value >>> 16;
    bytes[offset + 2] = value >>> 8;
    bytes[offset + 3] = value;
    this.#offset = offset + 4;
  }

  raw(value: Uint8Array): this {
    this.bytes.set(value, this.#offset);
    this.#offset += value.length;
    return this;
  }
}

export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    // Not a Buffer, whose slice() is a view.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(): number {
    const value = this.#view.getUint8(this.#offset);
    this.#offset += 1;
    return value;
  }

  u32(): number {
    const value = this.#view.getUint32(this.#offset);
    this.#offset += 4;
    return value;
  }

  u64(): number {
    const high = this.#view.getUint32(this.#offset);
    const low = this.#view.getUint32(this.#offset + 4);
    this.#offset += 8;
    return high * 2 ** 32 + low;
  }

  /** A copy. */
  raw(size: number): Uint8Array {
    const value = this.#bytes.slice(this.#offset, this.#offset + size);
    this.#offset += size;
    return value;
  }
}
