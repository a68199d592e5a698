/**
 * The file `store.json`: what a directory must say before anything else in it is read.
 *
 *   line 1   JSON: { "bough": "store", "formatVersion": 1 or 2, "storeId": 32 hex characters, "createdAt": RFC 3339,
 *            "backend": "lmdb" | "leveldb" | "memory", "encryption": null | key ring (src/encryption/key-ring.ts),
 *            "compression": "none" | "lz4" | "zstd" | "zstd:1" to "zstd:22", of new chunks and history; may be missing: lz4,
 *            "remote": { "url", "replica": 16 hex characters, "fencedBy" }, where it uploads to; missing, or its url null: nowhere,
 *            "partitions": 2 to 256, how many there are (partition-files.ts); missing: one, the directory itself }
 *   line 2   its checksum: checked-line.ts
 *
 * H1. The file is replaced as a whole (whole-file.ts), so it is always one complete version.
 * H2. Unknown fields are refused together with unknown format versions: nothing may be lost by writing it back.
 * H3. Format version 2 is that of stores with more than one partition, and of no others: what does not know of partitions refuses
 *     them, and would see only the databases of the first.
 */
import { type Backend, BACKENDS } from "../catalog/backends.ts";
import { StoreError } from "../errors.ts";
import type { KeyRingJson } from "../encryption/key-ring.ts";
import { checkedLine, openCheckedLine } from "../storage/checked-line.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import { type Compression, isCompression } from "./compression-option.ts";

export const HEADER_FILE = "store.json";
export const STORE_FORMAT_VERSION = 2;
/** Bounded, since each has files, threads and caches of its own. */
export const PARTITIONS_MAX = 256;

export interface StoreHeader {
  readonly storeId: Uint8Array;
  readonly createdAt: string;
  readonly backend: Backend;
  readonly encryption: KeyRingJson | null;
  /** Not there: what stores without the field have, lz4. */
  readonly compression?: Compression;
  readonly remote?: RemoteHeader;
  /** 2 or more; not there: one. */
  readonly partitions?: number;
}

export function partitionCount({ partitions = 1 }: StoreHeader): number {
  return partitions;
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
    formatVersion: partitionCount(header) > 1 ? 2 : 1, // H3
    storeId: Buffer.from(header.storeId).toString("hex"),
    createdAt: header.createdAt,
    backend: header.backend,
    encryption: header.encryption,
    // Left out of the text when undefined.
    compression: header.compression,
    remote: header.remote,
    partitions: header.partitions,
  });
  return checkedLine(line);
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
  const line = openCheckedLine(text);
  if (line === null) throw corrupt("its checksum does not fit");
  let json: Partial<Record<string, unknown>> | null;
  try {
    json = JSON.parse(line) as Partial<Record<string, unknown>> | null;
  } catch (cause) {
    throw corrupt("it is not JSON", cause);
  }
  const { bough, formatVersion, storeId, createdAt, backend, encryption } = json ?? {};
  const { compression, remote, partitions } = json ?? {};
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
  if ((formatVersion === 2) !== (partitions !== undefined)) throw corrupt("a field is missing");
  if (partitions !== undefined && !isPartitionCount(partitions))
    throw corrupt(`its number of partitions is ${JSON.stringify(partitions)}`);
  return {
    storeId: Uint8Array.from(Buffer.from(storeId, "hex")),
    createdAt: String(createdAt),
    backend: known,
    // Checked when the ring is opened.
    encryption: (encryption ?? null) as KeyRingJson | null,
    ...(compression === undefined ? {} : { compression }),
    ...(remote === undefined ? {} : { remote: requireRemote(remote) }),
    ...(partitions === undefined ? {} : { partitions }),
  };
}

function isPartitionCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 2 && Number(value) <= PARTITIONS_MAX;
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

function corrupt(what: string, cause?: unknown): StoreError {
  return new StoreError("CORRUPT_HEADER", `Cannot read "${HEADER_FILE}": ${what}`, { cause });
}
