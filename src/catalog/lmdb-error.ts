import { getSystemErrorName } from "node:util";

import { StoreError, type StoreErrorCode } from "../errors.ts";
import { explainSystemError } from "../storage/system-error.ts";

/** lmdb's own codes (lmdb.h); all others are error numbers of the system. */
const LMDB_CODES: ReadonlyMap<number, StoreErrorCode> = new Map([
  [-30797, "CORRUPT_CATALOG"], // MDB_PAGE_NOTFOUND
  [-30796, "CORRUPT_CATALOG"], // MDB_CORRUPTED
  [-30795, "IO"], // MDB_PANIC: an earlier write of the meta page failed
  [-30794, "STORE_FORMAT"], // MDB_VERSION_MISMATCH
  [-30793, "CORRUPT_CATALOG"], // MDB_INVALID
  [-30792, "LIMIT"], // MDB_MAP_FULL
  [-30790, "LIMIT"], // MDB_READERS_FULL
]);

/** Turns what lmdb throws into a StoreError; anything that is not an error of lmdb or the system passes unchanged. */
export function fromLmdbError(action: string, path: string, error: unknown): unknown {
  if (error instanceof StoreError || !(error instanceof Error) || !("code" in error)) return error;
  const { code } = error;
  if (typeof code !== "number") return error;
  const own = LMDB_CODES.get(code);
  if (own !== undefined) {
    return new StoreError(own, `${action} "${path}": ${error.message}`, {
      cause: error,
      details: { path, lmdbCode: code },
    });
  }
  const name = code > 0 ? getSystemErrorName(-code) : `lmdb error ${code}`;
  return explainSystemError({ action, path, name, cause: error });
}
