/** CRC-32C (Castagnoli) as leveldb's files have it: eight bytes a step, by tables. */
const POLYNOMIAL = 0x82f6_3b78;
const MASK_DELTA = 0xa282_ead8;

let tables: readonly Int32Array[] | null = null;

/** tables[n][b]: what byte b does to the checksum when n more bytes follow it. */
function makeTables(): readonly Int32Array[] {
  const first = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let rest = byte;
    for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ POLYNOMIAL : rest >>> 1;
    first[byte] = rest;
  }
  const made = [first];
  for (let index = 1; index < 8; index++) {
    const before = made[index - 1]!;
    made.push(first.map((_, byte) => (before[byte]! >>> 8) ^ first[before[byte]! & 255]!));
  }
  return made;
}

function crc32c(bytes: Uint8Array, start: number, end: number): number {
  tables ??= makeTables();
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  let crc = -1;
  let index = start;
  for (; index + 8 <= end; index += 8) {
    crc =
      t7[(crc ^ bytes[index]!) & 255]! ^
      t6[((crc >>> 8) ^ bytes[index + 1]!) & 255]! ^
      t5[((crc >>> 16) ^ bytes[index + 2]!) & 255]! ^
      t4[(crc >>> 24) ^ bytes[index + 3]!]! ^
      t3[bytes[index + 4]!]! ^
      t2[bytes[index + 5]!]! ^
      t1[bytes[index + 6]!]! ^
      t0[bytes[index + 7]!]!;
  }
  for (; index < end; index++) crc = t0[(crc ^ bytes[index]!) & 255]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** leveldb stores checksums rotated and shifted, so that a checksum over checksums means something. */
export function matchesMaskedCrc32c(
  masked: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): boolean {
  const crc = crc32c(bytes, start, end);
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0 === masked;
}
