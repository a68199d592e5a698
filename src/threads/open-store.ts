/** The library's entrance for users: with `threads` the databases are owned by worker threads, without they are in this one. */
import { requireOptions } from "../branch/option-names.ts";
import { Store, openStore as openPlainStore } from "../store/store.ts";
import type { StoreOptions } from "../store/store-options.ts";
import {
  THREADED_STORE_OPTIONS,
  ThreadedStore,
  type ThreadedStoreOptions,
} from "./threaded-store.ts";

/**
 * Opens the store in a directory, and makes it when there is none (unless `create: false`). One process holds a store at
 * a time: STORE_LOCKED names the one that has it. With `threads` its methods are promises: docs/threads.md.
 */
export function openStore(path: string, options: ThreadedStoreOptions): ThreadedStore;
export function openStore(path: string, options?: StoreOptions): Store;
export function openStore(
  path: string,
  options: StoreOptions | ThreadedStoreOptions = {},
): Store | ThreadedStore {
  return isThreaded(options)
    ? ThreadedStore.open(path, options)
    : openPlainStore(path, withoutThreads(options));
}

/** The twin of `openStore` for callers that await: recovery of a long log happens before it resolves. */
export function openStoreAsync(path: string, options: ThreadedStoreOptions): Promise<ThreadedStore>;
export function openStoreAsync(path: string, options?: StoreOptions): Promise<Store>;
export async function openStoreAsync(
  path: string,
  options: StoreOptions | ThreadedStoreOptions = {},
): Promise<Store | ThreadedStore> {
  await Promise.resolve();
  if (!isThreaded(options)) return openPlainStore(path, withoutThreads(options));
  const store = ThreadedStore.open(path, options);
  try {
    await store.opened;
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}

function isThreaded(options: StoreOptions | ThreadedStoreOptions): options is ThreadedStoreOptions {
  requireOptions("openStore", options, THREADED_STORE_OPTIONS);
  return "threads" in options && options.threads !== undefined;
}

/** It is there and undefined. */
function withoutThreads(options: StoreOptions & { readonly threads?: undefined }): StoreOptions {
  const { threads: _, ...plain } = options;
  return plain;
}
