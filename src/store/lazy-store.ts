/** The storage of a store that has part of its files in object storage only. */
import { BlockCache } from "../remote/block-cache.ts";
import { type LazyObjects, LazyStorage } from "../remote/lazy-storage.ts";
import type { RemoteConnection } from "../remote/remote-connection.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage } from "../storage/storage.ts";

/** Blocks of objects, below in a directory for each store: another store under the same URL has other objects of the same names. */
const CACHE_DIRECTORY = "cache";

export interface LazyStoreStorage {
  readonly storage: LazyStorage;
  close(): void;
}

export function openLazyStorage(
  local: Storage,
  client: RemoteConnection,
  options: {
    readonly storeId: Uint8Array;
    readonly objects: LazyObjects;
    readonly cacheBytesMax: number;
  },
): LazyStoreStorage {
  const directory = `${CACHE_DIRECTORY}/${Buffer.from(options.storeId).toString("hex")}`;
  local.makeDirectorySync(directory);
  const cache = new BlockCache(openNodeStorage(`${local.directory}/${directory}`), {
    bytesMax: options.cacheBytesMax,
  });
  const { objects } = options;
  const storage = new LazyStorage({ local, source: client, cache, objects });
  return {
    storage,
    close() {
      storage.close();
      cache.close();
    },
  };
}
