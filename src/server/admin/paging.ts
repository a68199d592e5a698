/** Lists, a page at a time: in the order of a key, the next page beginning after the last key of the one before. */
import { StoreError, type StoreErrorCode } from "../../errors.ts";
import { invalid } from "./request.ts";

export interface PageRequest {
  readonly limit: number;
  readonly cursor?: string | undefined;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly next: string | null;
}

/** The key after which a page begins; null: at the beginning. Throws REQUEST_INVALID. */
export function afterKey({ cursor }: PageRequest): string | null {
  if (cursor === undefined) return null;
  const key = Buffer.from(cursor, "base64url").toString("utf8");
  if (key === "" || cursorOf(key) !== cursor)
    throw invalid("query", [{ path: "cursor", message: "it is not one of this list" }]);
  return key;
}

export function cursorOf(key: string): string {
  return Buffer.from(key, "utf8").toString("base64url");
}

/** Of sorted names. `load` gives what is shown of one; null: it has gone meanwhile, or is not to be seen. */
export async function pageOfNames<T>(
  names: readonly string[],
  request: PageRequest,
  load: (name: string) => Promise<T | null>,
): Promise<Page<T>> {
  const after = afterKey(request);
  const items: T[] = [];
  let last = "";
  for (const name of names) {
    if (after !== null && name <= after) continue;
    const item = await load(name);
    if (item === null) continue;
    if (items.length === request.limit) return { items, next: cursorOf(last) };
    items.push(item);
    last = name;
  }
  return { items, next: null };
}

/** Null for what has gone since its name was listed. */
export async function skipMissing<T>(
  code: StoreErrorCode,
  load: () => Promise<T | null>,
): Promise<T | null> {
  try {
    return await load();
  } catch (error) {
    if (error instanceof StoreError && error.code === code) return null;
    throw error;
  }
}
