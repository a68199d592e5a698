/**
 * CRC-64/NVME, the checksum that S3 verifies too: polynomial 0xad93d23594c93659, reflected (0x9a6c9329ac4bc9b5),
 * initial value and final xor all ones; of "123456789" it is 0xae8b14860a799888. Stored as 8 bytes, little-endian.
 *
 * An integrity check, never an address: anyone can make bytes with a given CRC.
 *
 * Slicing by 8: table k holds the CRC of a byte followed by k zero bytes, so that one step takes 8 bytes with 8
 * independent look-ups. Values are kept as two 32-bit halves, since a BigInt per step would cost 100 times more.
 */
const POLYNOMIAL_LOW = 0xac4bc9b5 | 0;
const POLYNOMIAL_HIGH = 0x9a6c9329 | 0;
const SLICES = 8;

export const CRC64_SIZE = 8;

const LOW = new Int32Array(SLICES * 256);
const HIGH = new Int32Array(SLICES * 256);
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
  LOW[byte] = low;
  HIGH[byte] = high;
}
for (let index = 256; index < SLICES * 256; index++) {
  const low = LOW[index - 256] ?? 0;
  const high = HIGH[index - 256] ?? 0;
  const byte = low & 0xff;
  LOW[index] = ((low >>> 8) | (high << 24)) ^ (LOW[byte] ?? 0);
  HIGH[index] = (high >>> 8) ^ (HIGH[byte] ?? 0);
}

let stateLow = 0;
let stateHigh = 0;

/** Advances (stateLow, stateHigh) over bytes[start, end). */
function advance(bytes: Uint8Array, start: number, end: number): void {
  let low = stateLow;
  let high = stateHigh;
  let position = start;
  for (const last = end - 8; position <= last; position += 8) {
    low ^=
      bytes[position]! |
      (bytes[position + 1]! << 8) |
      (bytes[position + 2]! << 16) |
      (bytes[position + 3]! << 24);
    high ^=
      bytes[position + 4]! |
      (bytes[position + 5]! << 8) |
      (bytes[position + 6]! << 16) |
      (bytes[position + 7]! << 24);
    const i0 = 0x700 | (low & 0xff);
    const i1 = 0x600 | ((low >>> 8) & 0xff);
    const i2 = 0x500 | ((low >>> 16) & 0xff);
    const i3 = 0x400 | (low >>> 24);
    const i4 = 0x300 | (high & 0xff);
    const i5 = 0x200 | ((high >>> 8) & 0xff);
    const i6 = 0x100 | ((high >>> 16) & 0xff);
    const i7 = high >>> 24;
    low = LOW[i0]! ^ LOW[i1]! ^ LOW[i2]! ^ LOW[i3]! ^ LOW[i4]! ^ LOW[i5]! ^ LOW[i6]! ^ LOW[i7]!;
    high =
      HIGH[i0]! ^ HIGH[i1]! ^ HIGH[i2]! ^ HIGH[i3]! ^ HIGH[i4]! ^ HIGH[i5]! ^ HIGH[i6]! ^ HIGH[i7]!;
  }
  for (; position < end; position++) {
    const index = (low ^ bytes[position]!) & 0xff;
    low = ((low >>> 8) | (high << 24)) ^ LOW[index]!;
    high = (high >>> 8) ^ HIGH[index]!;
  }
  stateLow = low;
  stateHigh = high;
}

function checkRange(bytes: Uint8Array, start: number, end: number): void {
  if (!(start >= 0 && start <= end && end <= bytes.byteLength)) {
    throw new RangeError(`CRC64 of bytes ${start} to ${end}: the buffer has ${bytes.byteLength}`);
  }
}

function store(low: number, high: number, target: Uint8Array, offset: number): void {
  if (!(offset >= 0 && offset + CRC64_SIZE <= target.byteLength)) {
    throw new RangeError(`CRC64 at offset ${offset}: the buffer has ${target.byteLength} bytes`);
  }
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
  stateLow = -1;
  stateHigh = -1;
  advance(bytes, start, end);
  store(~stateLow, ~stateHigh, target, targetOffset);
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
    stateLow = this.low;
    stateHigh = this.high;
    advance(bytes, 0, bytes.byteLength);
    this.low = stateLow;
    this.high = stateHigh;
    return this;
  }

  /** Writes the CRC of all bytes so far; more may follow. */
  digestInto(target: Uint8Array, targetOffset: number): void {
    store(~this.low, ~this.high, target, targetOffset);
  }
}
