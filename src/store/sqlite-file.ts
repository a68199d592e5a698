/**
 * What bough asks of a plain SQLite database file before it reads the pages: the 100-byte header at its start, and
 * whether a rollback journal beside it still has to be played back. Big-endian. The format is SQLite's, described at
 * https://www.sqlite.org/fileformat2.html (sections 1.3 and 3).
 *
 *   offset size  field
 *        0   16  "SQLite format 3" and a zero byte
 *       16    2  page size, a power of two from 512; 1 means 65536
 *       18    1  write version: 1 rollback journal, 2 WAL
 *       19    1  read version, the same; SQLite refuses to open what is greater than 2
 *       20    1  bytes reserved at the end of each page; what is left must be 480 or more
 *       21    3  64, 32, 32; SQLite refuses other values
 *       24    4  change counter
 *       28    4  database size in pages; valid only where offset 92 equals the change counter
 *       56    4  text encoding: 1 UTF-8, 2 and 3 UTF-16, which SQLite in WebAssembly is built without; 0 when empty
 *       92    4  the change counter for which the size is valid
 *
 * J1. A journal is hot when it begins with the journal magic: a finished transaction deletes, truncates or zeroes it.
 */
import { StoreError } from "../errors.ts";
import { pageSizeOf } from "../transaction/page-one.ts";

export const SQLITE_HEADER_SIZE = 100;
/** SQLite's rollback journal begins with this as long as it is needed. */
const JOURNAL_MAGIC: Uint8Array = Uint8Array.of(0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7);
export const DATABASE_MAGIC: Uint8Array = new TextEncoder().encode("SQLite format 3\0");
const WAL_MAGICS: ReadonlySet<number> = new Set([0x377f0682, 0x377f0683]);
const VERSIONS_OFFSET = 18;

export interface SqliteFileHeader {
  readonly pageSize: number;
  /** Null where the header does not know: then the file's size says it. */
  readonly pageCount: number | null;
}

/** `bytes`: the first 100 bytes of the file, or fewer if it has fewer. Throws NOT_A_DATABASE, FILE_TRUNCATED. */
export function parseSqliteHeader(bytes: Uint8Array, path: string): SqliteFileHeader {
  if (bytes.length === 0)
    throw notADatabase(path, 'it is empty; "bough database create" makes an empty database');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length >= 4 && WAL_MAGICS.has(view.getUint32(0)))
    throw notADatabase(
      path,
      "it is a write-ahead log; import the database file that it belongs to, the log is read with it",
    );
  if (!startsWith(bytes, DATABASE_MAGIC.subarray(0, Math.min(16, bytes.length))))
    throw notADatabase(path, 'it does not begin with "SQLite format 3" (or it is encrypted)');
  if (bytes.length < SQLITE_HEADER_SIZE)
    throw new StoreError(
      "FILE_TRUNCATED",
      `Cannot import "${path}": it ends after ${bytes.length} bytes, within SQLite's header`,
      { details: { path } },
    );
  const pageSize = pageSizeOf(bytes);
  if (pageSize < 512 || (pageSize & (pageSize - 1)) !== 0)
    throw notADatabase(path, `its header says page size ${pageSize}`);
  const readVersion = view.getUint8(19);
  if (readVersion > 2)
    throw notADatabase(path, `its read version is ${readVersion}, SQLite knows up to 2`);
  if (pageSize - view.getUint8(20) < 480)
    throw notADatabase(path, `${view.getUint8(20)} of ${pageSize} bytes of each page are reserved`);
  if (view.getUint8(21) !== 64 || view.getUint8(22) !== 32 || view.getUint8(23) !== 32)
    throw notADatabase(path, "its payload fractions are not 64, 32 and 32");
  if (view.getUint32(56) > 1)
    throw notADatabase(
      path,
      'its text is UTF-16, only UTF-8 can be read; convert it with "sqlite3 old.db .dump | sqlite3 new.db"',
    );
  const count = view.getUint32(28);
  const isValid = count > 0 && view.getUint32(24) === view.getUint32(92);
  return { pageSize, pageCount: isValid ? count : null };
}

/** Page 1 as bough keeps it: versions are bough's business, not the journal mode of the file that it came from. */
export function useRollbackVersions(firstPage: Uint8Array): void {
  firstPage.fill(1, VERSIONS_OFFSET, VERSIONS_OFFSET + 2);
}

/** J1; `bytes`: what the journal begins with. */
export function isHotJournal(bytes: Uint8Array): boolean {
  return startsWith(bytes, JOURNAL_MAGIC);
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return bytes.length >= prefix.length && prefix.every((byte, index) => bytes[index] === byte);
}

function notADatabase(path: string, fact: string): StoreError {
  return new StoreError("NOT_A_DATABASE", `Cannot import "${path}" as a SQLite database: ${fact}`, {
    details: { path },
  });
}
