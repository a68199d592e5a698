/**
 * The file `upload/pack-numbers`: packs from this number on have never been uploaded by this directory. Two lines: the decimal
 * number, then "crc64nvme " and 16 hex characters, the CRC-64/NVME of the first line.
 *
 * J1. It is durable before a pack with a lower number goes up. Without it (nothing went up yet) all numbers are free.
 */
import { StoreError } from "../errors.ts";
import { crc64Into, CRC64_SIZE } from "../storage/crc64.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";

export const PACK_NUMBERS_PATH = "upload/pack-numbers";

/** Throws CORRUPT_HEADER. */
export function readPackNumbers(storage: Storage): number {
  if (!storage.existsSync(PACK_NUMBERS_PATH)) return 1;
  const text = Buffer.from(readFileSync(storage, PACK_NUMBERS_PATH)).toString();
  const [line = "", check] = text.split("\n");
  if (check === `crc64nvme ${checksum(line)}` && /^[1-9]\d*$/.test(line)) return Number(line);
  throw new StoreError(
    "CORRUPT_HEADER",
    `Cannot read "${PACK_NUMBERS_PATH}": its checksum does not fit; open the store from object storage into another directory`,
  );
}

export function writePackNumbers(storage: Storage, next: number): void {
  const line = String(next);
  const text = `${line}\ncrc64nvme ${checksum(line)}\n`;
  writeFileAtomicSync(storage, PACK_NUMBERS_PATH, new TextEncoder().encode(text));
}

function checksum(line: string): string {
  const bytes = new TextEncoder().encode(line);
  const check = new Uint8Array(CRC64_SIZE);
  crc64Into(bytes, 0, bytes.length, check, 0);
  return Buffer.from(check).reverse().toString("hex");
}
