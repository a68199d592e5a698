/**
 * The file `store.json`: what a directory must say before anything else in it is read.
 *
 *   line 1   JSON: { "bough": "store", "formatVersion": 1, "storeId": 32 hex characters, "createdAt": RFC 3339,
 *            "backend": "lmdb" | "leveldb" | "memory", "encryption": null | key ring (src/encryption/key-ring.ts),
 *            "compression": "none" | "lz4" | "zstd" | "zstd:1" to "zstd:22", of new chunks and history; may be missing: lz4,
 *            "remote": { "url", "replica": 16 hex characters, "fencedBy" }, where it uploads to; missing, or its url null: nowhere }
 *   line 2   "crc64nvme " and 16 hex characters: CRC64-NVME of line 1, without its newline, as UTF-8
 *
 * H1. The file is replaced as a whole (whole-file.ts), so it is always one complete version.
 * H2. Unknown fields are refused together with unknown format versions: nothing may be lost by writing it back.
 */
import { type Backend, BACKENDS } from "../catalog/backends.ts";
import { StoreError } from "../errors.ts";
import type { KeyRingJson } from "../encryption/key-ring.ts";
import { crc64Into, CRC64_SIZE } from "../storage/crc64.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import { type Compression, isCompression } from "./compression-option.ts";

export const HEADER_FILE = "store.json";
export const STORE_FORMAT_VERSION = 1;

export interface StoreHeader {
  readonly storeId: Uint8Array;
  readonly createdAt: string;
  readonly backend: Backend;
  readonly encryption: KeyRingJson | null;
  /** Not there: what stores without the field have, lz4. */
  readonly compression?: Compression;
  readonly remote?: RemoteHeader;
}

export interface RemoteHeader {
  /** Where the store uploads to; null: nowhere any more. */
  readonly url: string | null;
  /** 16 hex characters, random: this directory among all that were ever opened from there. It stays when the URL changes. */
  readonly replica: string;
  /** The writer that has taken the store over there; missing: none, as far as is known. */
  readonly fencedBy?: { readonly name: string; readonly epoch: number };
}

/** The contents of the file. */
export function headerText(header: StoreHeader): string {
  const line = JSON.stringify({
    bough: "store",
    formatVersion: STORE_FORMAT_VERSION,
    storeId: Buffer.from(header.storeId).toString("hex"),
    createdAt: header.createdAt,
    backend: header.backend,
    encryption: header.encryption,
    // Left out of the text when undefined.
    compression: header.compression,
    remote: header.remote,
  });
  return `${line}\ncrc64nvme ${checksum(line)}\n`;
}

export function writeHeader(storage: Storage, header: StoreHeader): void {
  writeFileAtomicSync(storage, HEADER_FILE, new TextEncoder().encode(headerText(header)));
}

/** Throws CORRUPT_HEADER or STORE_FORMAT. */
export function readHeader(storage: Storage): StoreHeader {
  return parseHeader(Buffer.from(readFileSync(storage, HEADER_FILE)).toString());
}

/** From the contents of the file. */
export function parseHeader(text: string): StoreHeader {
  const [line = "", ...rest] = text.split("\n");
  if (rest.length !== 2 || rest[0] !== `crc64nvme ${checksum(line)}` || rest[1] !== "")
    throw corrupt("its checksum does not fit");
  let json: Partial<Record<string, unknown>> | null;
  try {
    json = JSON.parse(line) as Partial<Record<string, unknown>> | null;
  } catch (cause) {
    throw corrupt("it is not JSON", cause);
  }
  const { bough, formatVersion, storeId, createdAt, backend, encryption, compression, remote } =
    json ?? {};
  if (bough !== "store" || !isFormatVersion(formatVersion)) throw corrupt("it is not a store's");
  if (formatVersion > STORE_FORMAT_VERSION)
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot open the store: its format version is ${formatVersion}, this bough reads up to ${STORE_FORMAT_VERSION}; use a newer bough`,
    );
  const known = BACKENDS.find((name) => name === backend);
  if (typeof storeId !== "string" || !/^[0-9a-f]{32}$/.test(storeId) || known === undefined)
    throw corrupt("a field is missing");
  if (compression !== undefined && !isCompression(compression))
    throw corrupt(`its compression is ${JSON.stringify(compression)}`);
  return {
    storeId: Uint8Array.from(Buffer.from(storeId, "hex")),
    createdAt: String(createdAt),
    backend: known,
    // Checked when the ring is opened.
    encryption: (encryption ?? null) as KeyRingJson | null,
    ...(compression === undefined ? {} : { compression }),
    ...(remote === undefined ? {} : { remote: requireRemote(remote) }),
  };
}

function requireRemote(value: unknown): RemoteHeader {
  const { url, replica, fencedBy } = value as Partial<Record<string, unknown>>;
  const isUrl = url === null || typeof url === "string";
  if (!isUrl || typeof replica !== "string" || !/^[0-9a-f]{16}$/.test(replica))
    throw corrupt("its place in object storage is not one");
  if (fencedBy === undefined) return { url, replica };
  const { name, epoch } = fencedBy as Partial<Record<string, unknown>>;
  return { url, replica, fencedBy: { name: String(name), epoch: Number(epoch) } };
}

function isFormatVersion(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 1;
}

function checksum(line: string): string {
  const bytes = new TextEncoder().encode(line);
  const check = new Uint8Array(CRC64_SIZE);
  crc64Into(bytes, 0, bytes.length, check, 0);
  return Buffer.from(check).reverse().toString("hex");
}

function corrupt(what: string, cause?: unknown): StoreError {
  return new StoreError("CORRUPT_HEADER", `Cannot read "${HEADER_FILE}": ${what}`, { cause });
}
