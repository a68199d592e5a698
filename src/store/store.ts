/** The library's entrance: a directory with databases, their branches and versions. */
import { requireText } from "../branch/names.ts";
import { requireOptions } from "../branch/option-names.ts";
import { StoreError } from "../errors.ts";
import { Store } from "./abstract-store.ts";
import { Engine } from "./engine.ts";
import { openParts, openRoot } from "./open-directory.ts";
import { isRemoteUrl, openRemoteEngine } from "./open-remote.ts";
import { PartitionedStore } from "./partitioned-store.ts";
import { partitionsOf, requirePartitionCount } from "./partitions.ts";
import { SingleStore } from "./single-store.ts";
import { partitionCount } from "./store-header.ts";
import { STORE_OPTIONS, type StoreOptions } from "./store-options.ts";

export { Store };

/**
 * Opens the store in a directory, and makes it when there is none (unless `create: false`). One process holds a store at
 * a time: STORE_LOCKED names the one that has it.
 */
export function openStore(path: string, options: StoreOptions = {}): Store {
  requireText("The path of a store", path);
  requireOptions("openStore", options, STORE_OPTIONS);
  const { partitions: count = 1 } = options;
  requirePartitionCount(count);
  if (isRemoteUrl(path)) {
    if (count > 1)
      throw new StoreError(
        "PARTITIONED",
        `Cannot open "${path}" with ${count} partitions: a store in object storage has one`,
      );
    return new SingleStore(path, openRemoteEngine(path, options));
  }
  const root = openRoot(path, options);
  try {
    if (partitionCount(root.header) === 1 && count === 1)
      return new SingleStore(
        path,
        new Engine(openParts({ ...root, claim: null, partition: null })),
      );
    return new PartitionedStore(partitionsOf(path, root, count));
  } catch (error) {
    root.lock.release();
    throw error;
  }
}

/** The twin of `openStore` for callers that await: recovery of a long log happens before it resolves. */
export async function openStoreAsync(path: string, options: StoreOptions = {}): Promise<Store> {
  await Promise.resolve();
  return openStore(path, options);
}
