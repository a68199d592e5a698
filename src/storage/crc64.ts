/**
 * CRC-64/NVME, the checksum that S3 verifies too: polynomial 0xad93d23594c93659, reflected (0x9a6c9329ac4bc9b5),
 * initial value and final xor all ones; of "123456789" it is 0xae8b14860a799888. Stored as 8 bytes, little-endian.
 *
 * An integrity check, never an address: anyone can make bytes with a given CRC.
 */
import {
  INPUT_OFFSET,
  INPUT_SIZE,
  instantiateCrc64,
  SLICES,
  STATE_OFFSET,
} from "./crc64-module.ts";

const POLYNOMIAL_LOW = 0xac4bc9b5;
const POLYNOMIAL_HIGH = 0x9a6c9329;

export const CRC64_SIZE = 8;

const { memory, advance } = instantiateCrc64();
const memoryBytes = new Uint8Array(memory);
/** WebAssembly's memory is little-endian on every machine, typed arrays are not. */
const view = new DataView(memory);
fillTables();

function fillTables(): void {
  for (let byte = 0; byte < 256; byte++) {
    let low = byte;
    let high = 0;
    for (let bit = 0; bit < 8; bit++) {
      const carry = low & 1;
      low = (low >>> 1) | (high << 31);
      high >>>= 1;
      if (carry === 1) {
        low ^= POLYNOMIAL_LOW;
        high ^= POLYNOMIAL_HIGH;
      }
    }
    view.setInt32(8 * byte, low, true);
    view.setInt32(8 * byte + 4, high, true);
  }
  for (let index = 256; index < SLICES * 256; index++) {
    const low = view.getInt32(8 * (index - 256), true);
    const high = view.getInt32(8 * (index - 256) + 4, true);
    const byte = low & 0xff;
    const next = ((low >>> 8) | (high << 24)) ^ view.getInt32(8 * byte, true);
    view.setInt32(8 * index, next, true);
    view.setInt32(8 * index + 4, (high >>> 8) ^ view.getInt32(8 * byte + 4, true), true);
  }
}

function setState(low: number, high: number): void {
  view.setInt32(STATE_OFFSET, low, true);
  view.setInt32(STATE_OFFSET + 4, high, true);
}

/** Advances the state over bytes[start, end). */
function takeIn(bytes: Uint8Array, start: number, end: number): void {
  for (let position = start; position < end; position += INPUT_SIZE) {
    const stop = Math.min(end, position + INPUT_SIZE);
    const whole = position === 0 && stop === bytes.byteLength;
    memoryBytes.set(whole ? bytes : bytes.subarray(position, stop), INPUT_OFFSET);
    advance(INPUT_OFFSET, INPUT_OFFSET + stop - position);
  }
}

function checkRange(bytes: Uint8Array, start: number, end: number): void {
  if (!(start >= 0 && start <= end && end <= bytes.byteLength)) {
    throw new RangeError(`CRC64 of bytes ${start} to ${end}: the buffer has ${bytes.byteLength}`);
  }
}

/** Writes the final value of the state. */
function finish(target: Uint8Array, offset: number): void {
  if (!(offset >= 0 && offset + CRC64_SIZE <= target.byteLength)) {
    throw new RangeError(`CRC64 at offset ${offset}: the buffer has ${target.byteLength} bytes`);
  }
  const low = ~view.getInt32(STATE_OFFSET, true);
  const high = ~view.getInt32(STATE_OFFSET + 4, true);
  target[offset] = low;
  target[offset + 1] = low >>> 8;
  target[offset + 2] = low >>> 16;
  target[offset + 3] = low >>> 24;
  target[offset + 4] = high;
  target[offset + 5] = high >>> 8;
  target[offset + 6] = high >>> 16;
  target[offset + 7] = high >>> 24;
}

/** Writes the CRC of bytes[start, end) to `target` at `targetOffset`; the two may be the same buffer. */
export function crc64Into(
  bytes: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  targetOffset: number,
): void {
  checkRange(bytes, start, end);
  setState(-1, -1);
  takeIn(bytes, start, end);
  finish(target, targetOffset);
}

const computed = new Uint8Array(CRC64_SIZE);

/** Whether the 8 bytes of `expected` at `expectedOffset` are the CRC of bytes[start, end). */
export function crc64Matches(
  bytes: Uint8Array,
  start: number,
  end: number,
  expected: Uint8Array,
  expectedOffset: number,
): boolean {
  crc64Into(bytes, start, end, computed, 0);
  for (let index = 0; index < CRC64_SIZE; index++) {
    if (computed[index] !== expected[expectedOffset + index]) return false;
  }
  return true;
}

/** The same over bytes that come in pieces. */
export class Crc64 {
  private low = -1;
  private high = -1;

  update(bytes: Uint8Array): this {
    setState(this.low, this.high);
    takeIn(bytes, 0, bytes.byteLength);
    this.low = view.getInt32(STATE_OFFSET, true);
    this.high = view.getInt32(STATE_OFFSET + 4, true);
    return this;
  }

  /** Writes the CRC of all bytes so far; more may follow. */
  digestInto(target: Uint8Array, targetOffset: number): void {
    setState(this.low, this.high);
    finish(target, targetOffset);
  }
}
