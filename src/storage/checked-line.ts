/**
 * A small text file that says itself whether it is whole:
 *
 *   line 1   text without line breaks, JSON say
 *   line 2   "crc64nvme " and 16 hex characters: CRC64-NVME of line 1, without its newline, as UTF-8
 */
import { crc64Into, CRC64_SIZE } from "./crc64.ts";

/** The contents of the file. */
export function checkedLine(line: string): string {
  return `${line}\ncrc64nvme ${checksum(line)}\n`;
}

/** The line in the contents of a file; null when they are not whole. */
export function openCheckedLine(contents: string): string | null {
  const [line = "", ...rest] = contents.split("\n");
  const isWhole = rest.length === 2 && rest[0] === `crc64nvme ${checksum(line)}` && rest[1] === "";
  return isWhole ? line : null;
}

function checksum(line: string): string {
  const bytes = new TextEncoder().encode(line);
  const check = new Uint8Array(CRC64_SIZE);
  crc64Into(bytes, 0, bytes.length, check, 0);
  return Buffer.from(check).reverse().toString("hex");
}
