import { StoreError } from "../errors.ts";
import type { StorageFile } from "./storage.ts";

/**
 * Runs a read that verifies what it has read. What turns out damaged and is only a copy of what is elsewhere is fetched once
 * more before it counts as damage: the bytes may have been hurt on their way or in the cache. `range` may be as much as the
 * whole file; files that are local do not have `refetch`, and damage is damage at once.
 */
export function readVerified<T>(
  file: StorageFile,
  range: { readonly offset: number; readonly length: number },
  read: () => T,
): T {
  try {
    return read();
  } catch (error) {
    const isDamage = error instanceof StoreError && error.code.startsWith("CORRUPT_");
    if (!isDamage || file.refetch?.(range.offset, range.length) !== true) throw error;
    return read();
  }
}
