/** All files of a store that nobody has open: those in its directory, and those that are in object storage only. */
import { StoreError } from "../errors.ts";
import type { Storage } from "../storage/storage.ts";
import { openLazyStorage } from "./lazy-store.ts";
import { readRemoteObjects } from "./remote-objects.ts";
import { resolveRemote } from "./remote-options.ts";
import { HEADER_FILE, readHeader, type StoreHeader } from "./store-header.ts";
import { resolveOptions, type StoreOptions } from "./store-options.ts";

export interface ClosedStorage extends Disposable {
  readonly storage: Storage;
}

/** Reads wait for what is not local only within `waitingAsync`. Without a header that says where the rest is, it is what is here. */
export function openClosedStorage(local: Storage, options: StoreOptions): ClosedStorage {
  const here: ClosedStorage = { storage: local, [Symbol.dispose]: () => {} };
  const header = wholeHeader(local);
  const url = header?.remote?.url ?? null;
  const objects = readRemoteObjects(local);
  if (header === null || url === null || objects === null) return here;
  const { diskCacheBytesMax: cacheBytesMax } = resolveOptions(options);
  const given = typeof options.remote === "object" ? options.remote : null;
  const client = resolveRemote({ ...given, url }).connect();
  const lazy = openLazyStorage(local, client, { storeId: header.storeId, objects, cacheBytesMax });
  return {
    storage: lazy.storage,
    [Symbol.dispose]: () => {
      lazy.close();
      client.close();
    },
  };
}

function wholeHeader(storage: Storage): StoreHeader | null {
  if (!storage.existsSync(HEADER_FILE)) return null;
  try {
    return readHeader(storage);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "CORRUPT_HEADER") throw error;
    return null;
  }
}
