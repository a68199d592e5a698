/** Snappy's block format, decompression only: what leveldb compresses its blocks with. */

/** Null for bytes that are not snappy's, or would take more than `sizeMax`. */
export function decompressSnappy(bytes: Uint8Array, sizeMax: number): Uint8Array | null {
  let offset = 0;
  let size = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[offset++];
    if (byte === undefined || shift > 28) return null;
    size += (byte & 127) * 2 ** shift;
    if (byte < 128) break;
  }
  if (size > sizeMax) return null;
  const result = new Uint8Array(size);
  let filled = 0;
  while (offset < bytes.length) {
    const tag = bytes[offset++]!;
    const kind = tag & 3;
    let length = (tag >> 2) + 1;
    if (kind === 0) {
      if (length > 60) {
        const count = length - 60;
        length = littleEndian(bytes, offset, count) + 1;
        offset += count;
      }
      if (offset + length > bytes.length || filled + length > size) return null;
      result.set(bytes.subarray(offset, offset + length), filled);
      offset += length;
      filled += length;
      continue;
    }
    let distance: number;
    if (kind === 1) {
      length = ((tag >> 2) & 7) + 4;
      distance = ((tag >> 5) << 8) | (bytes[offset] ?? 0);
      offset += 1;
    } else {
      const count = kind === 2 ? 2 : 4;
      distance = littleEndian(bytes, offset, count);
      offset += count;
    }
    if (offset > bytes.length || distance === 0 || distance > filled || filled + length > size) {
      return null;
    }
    // The two may overlap: what is copied may be part of what is copied from.
    for (const end = filled + length; filled < end; filled++) {
      result[filled] = result[filled - distance]!;
    }
  }
  return filled === size ? result : null;
}

function littleEndian(bytes: Uint8Array, offset: number, count: number): number {
  let value = 0;
  for (let index = 0; index < count; index++) value += (bytes[offset + index] ?? 0) * 256 ** index;
  return value;
}
