/**
 * What must be checked of an lmdb file before lmdb opens it: lmdb trusts its file and reads it through a memory map, so
 * that a file that is not its own, is cut short or damaged ends the process (SIGSEGV, SIGBUS) instead of giving an
 * error. Every open walks all pages of a file of up to 8 MiB (lmdb-pages.ts); of a larger one only the meta pages and
 * the top two levels of its trees, because opening must stay fast: damage further down is found by `check`, which
 * walks files of any size before lmdb sees them.
 *
 * The two meta pages, of which the one with the greater transaction id is in force, begin the file; little-endian here:
 *
 *   offset  size  field
 *   0       24    page header
 *   24      4     magic 0xbeefc0de
 *   28      4     format version 2
 *   48      4     page size (the second meta page begins there)
 *   144     8     number of the last page
 *   152     8     transaction id
 */
import { StoreError } from "../errors.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { findLmdbDamage, type LmdbWalkOptions } from "./lmdb-pages.ts";

const MAGIC = 0xbeef_c0de;
const FORMAT_VERSION = 2;
const META_SIZE = 160;
const PAGE_SIZE_MIN = 512;
const PAGE_SIZE_MAX = 65_536;

/** Files up to this size are walked at every open, larger ones only down to the second level of their trees. */
const WALKED_AT_OPEN_MAX = 8 * 1024 * 1024;
const LEVELS_AT_OPEN = 2;

/**
 * Throws CORRUPT_CATALOG or STORE_FORMAT when lmdb must not open the file. A missing or empty file is fine: lmdb makes
 * a new database there. A file that ends before its last page is walked whole, since a page in use may be missing, and
 * then filled up with zeros: lmdb maps all of it.
 */
export function prepareLmdbFile(storage: Storage, path: string): void {
  // lmdb ends the process when it cannot open its lock file; opening it here gives the error instead.
  const lock = `${path}-lock`;
  if (storage.existsSync(lock)) storage.openFileSync(lock, { mode: "write" }).closeSync();
  if (!storage.existsSync(path)) return;
  const file = storage.openFileSync(path, { mode: "write" });
  try {
    const size = file.sizeSync();
    if (size === 0) return;
    const needed = neededSize(file, path);
    const isWalked = size <= WALKED_AT_OPEN_MAX || needed > size;
    refuseDamage(storage, path, isWalked ? {} : { levels: LEVELS_AT_OPEN });
    if (needed <= size) return;
    file.truncateSync(needed);
    file.syncSync();
  } finally {
    file.closeSync();
  }
}

/** Reads all of the file's pages, whatever its size, without lmdb. Throws as prepareLmdbFile, and changes nothing. */
export function checkLmdbFile(storage: Storage, path: string): void {
  if (!storage.existsSync(path)) return;
  const file = storage.openFileSync(path, { mode: "read" });
  try {
    if (file.sizeSync() === 0) return;
    neededSize(file, path);
  } finally {
    file.closeSync();
  }
  refuseDamage(storage, path, {});
}

function refuseDamage(storage: Storage, path: string, options: LmdbWalkOptions): void {
  const damage = findLmdbDamage(storage, path, options);
  if (damage !== null) throw damaged(path, damage);
}

function neededSize(file: StorageFile, path: string): number {
  const first = readMeta(file, path, 0);
  const second = readMeta(file, path, first.pageSize);
  if (second.pageSize !== first.pageSize) throw damaged(path, "its two meta pages disagree");
  const { lastPage } = first.transaction > second.transaction ? first : second;
  const needed = (lastPage + 1n) * BigInt(first.pageSize);
  // A terabyte of catalog is beyond anything real; a damaged number must not fill the disk.
  if (needed > 1n << 40n) throw damaged(path, `its last page would be page ${lastPage}`);
  return Number(needed);
}

interface Meta {
  readonly pageSize: number;
  readonly lastPage: bigint;
  readonly transaction: bigint;
}

function readMeta(file: StorageFile, path: string, offset: number): Meta {
  const bytes = new Uint8Array(META_SIZE);
  if (file.readSync(offset, bytes) < META_SIZE)
    throw damaged(path, "it ends within its meta pages");
  const view = new DataView(bytes.buffer);
  if (view.getUint32(24, true) !== MAGIC) throw damaged(path, "it is not an lmdb file");
  const version = view.getUint32(28, true);
  // The upper half says what wrote it, as in lmdb itself.
  if ((version & 0xffff) !== FORMAT_VERSION) {
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot open the catalog "${path}": lmdb format ${version & 0xffff}, this program knows ${FORMAT_VERSION}`,
      { details: { path, version } },
    );
  }
  const pageSize = view.getUint32(48, true);
  const isPowerOfTwo = (pageSize & (pageSize - 1)) === 0;
  if (pageSize < PAGE_SIZE_MIN || pageSize > PAGE_SIZE_MAX || !isPowerOfTwo) {
    throw damaged(path, `its page size is ${pageSize}`);
  }
  return {
    pageSize,
    lastPage: view.getBigUint64(144, true),
    transaction: view.getBigUint64(152, true),
  };
}

function damaged(path: string, what: string): StoreError {
  return new StoreError("CORRUPT_CATALOG", `Cannot open the catalog "${path}": ${what}`, {
    details: { path },
  });
}
