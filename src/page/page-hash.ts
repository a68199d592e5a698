/** The id of a page's content, for deduplication. Why not a CRC: docs/architecture.md, "Addresses, deduplication, checksums". */
import { hash } from "node:crypto";
import type { StoreCipher } from "../encryption/cipher.ts";

/** 16 bytes: SHA-256 of the page cut short, or HMAC-SHA-256 under the store's address key when it is encrypted. */
export function pageHash(page: Uint8Array, cipher: StoreCipher | null): Uint8Array {
  return (cipher === null ? hash("sha256", page, "buffer") : cipher.address(page)).subarray(0, 16);
}
