/**
 * A pack file, `chunks/<8-digit number>.pack`: chunks one after another. Little-endian.
 *
 *   offset size  field
 *        0    4  magic "BPAK"
 *        4    1  format version, 1; readers refuse others
 *        5    3  reserved, 0; readers refuse others
 *        8   16  store id
 *       24    4  pack number, as in the file's name
 *       28    4  reserved, 0; readers refuse others
 *       32    8  CRC-64/NVME of bytes 0 to 31
 *       40       chunks (chunk-format.ts), each at a multiple of 8; the gaps are zeros and mean nothing
 *
 * The end of a pack may hold chunks that no index entry names: a crash came between writing them and committing.
 */
import { StoreError } from "../errors.ts";
import { crc64Into, crc64Matches } from "../storage/crc64.ts";

export const PACK_DIRECTORY = "chunks";
export const PACK_HEADER_SIZE = 40;
export const PACK_NUMBER_MAX = 99_999_999;

const MAGIC = 0x4b41_5042; // "BPAK"
const FORMAT_VERSION = 1;
const CRC_OFFSET = 32;

export function packPath(number: number): string {
  return `${PACK_DIRECTORY}/${String(number).padStart(8, "0")}.pack`;
}

/** The number in a pack's file name; null for any other name. */
export function packNumber(name: string): number | null {
  return /^\d{8}\.pack$/.test(name) ? Number(name.slice(0, 8)) : null;
}

export interface PackHeader {
  /** 16 bytes. */
  readonly storeId: Uint8Array;
  readonly number: number;
}

export function encodePackHeader({ storeId, number }: PackHeader): Uint8Array {
  const bytes = new Uint8Array(PACK_HEADER_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  bytes[4] = FORMAT_VERSION;
  bytes.set(storeId, 8);
  view.setUint32(24, number, true);
  crc64Into(bytes, 0, CRC_OFFSET, bytes, CRC_OFFSET);
  return bytes;
}

/** Throws CORRUPT_CHUNK when the bytes are not the header of this pack, STORE_FORMAT when a newer bough wrote it. */
export function checkPackHeader(bytes: Uint8Array, { storeId, number }: PackHeader): void {
  const path = packPath(number);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length !== PACK_HEADER_SIZE || !crc64Matches(bytes, 0, CRC_OFFSET, bytes, CRC_OFFSET)) {
    throw corruptPack(path, "its header is damaged");
  }
  if (view.getUint32(0, true) !== MAGIC) throw corruptPack(path, "it is not a pack");
  if (bytes[4] !== FORMAT_VERSION) {
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read pack "${path}": format version ${bytes[4]} is of a newer bough`,
    );
  }
  const reserved = bytes[5]! | bytes[6]! | bytes[7]! | view.getUint32(28, true);
  if (reserved !== 0) throw corruptPack(path, "its header has unknown fields");
  for (const [index, byte] of storeId.entries()) {
    if (bytes[8 + index] !== byte) throw corruptPack(path, "it belongs to another store");
  }
  const found = view.getUint32(24, true);
  if (found !== number) throw corruptPack(path, `it is pack ${found} under another name`);
}

function corruptPack(path: string, what: string): StoreError {
  return new StoreError("CORRUPT_CHUNK", `Cannot read pack "${path}": ${what}`, {
    details: { path },
  });
}
