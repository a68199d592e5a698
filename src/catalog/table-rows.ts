/**
 * A table of the catalog in pieces, for work that goes on beside everything else: each piece is one short read, so that
 * rows may come and go in between, and no backend has to keep an old state for the reader.
 */
import type { KeyValueStore } from "./key-value.ts";

/**
 * Calls `visit` for up to `limit` rows after the key `after` (null: from the first), in order. Key and value are valid
 * until it returns; it calls nothing of the store. Returns the last key, null when the table ends before `limit`.
 */
export function visitRows(
  store: KeyValueStore,
  table: number,
  { after, limit }: { readonly after: Uint8Array | null; readonly limit: number },
  visit: (key: Uint8Array, value: Uint8Array) => void,
): Uint8Array | null {
  const start = new Uint8Array(after === null ? 1 : after.length + 1);
  if (after === null) start[0] = table;
  else start.set(after); // With a zero at its end: the least key after it.
  let count = 0;
  let last: Uint8Array | null = null;
  for (const { key, value } of store.range({ start, end: Uint8Array.of(table + 1), limit })) {
    visit(key, value);
    if (++count === limit) last = Uint8Array.from(key);
  }
  return last;
}
