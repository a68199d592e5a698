/**
 * One store with threads for all tests of a file that want one: its threads begin slowly. What a test has made in it goes with `clear`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Store } from "../src/store/store.ts";
import { openStoreAsync } from "../src/threads/open-store.ts";
import { ThreadedStore } from "../src/threads/threaded-store.ts";

export class SharedThreads implements AsyncDisposable {
  readonly store: ThreadedStore;
  readonly #directory: string;

  private constructor(store: ThreadedStore, directory: string) {
    this.store = store;
    this.#directory = directory;
  }

  static async open(): Promise<SharedThreads> {
    const directory = mkdtempSync(join(tmpdir(), "bough-threads-"));
    const store = await openStoreAsync(join(directory, "store"), { threads: 2 });
    return new SharedThreads(store, directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export async function clear(store: ThreadedStore): Promise<void> {
  for (const database of await store.databases()) await database.delete();
}

/** Runs statements on a store of either kind. */
export async function execOn(
  store: Store | ThreadedStore,
  revision: string,
  sql: string,
): Promise<void> {
  const connection = await store.open(revision);
  try {
    await connection.exec(sql);
  } finally {
    await connection.close();
  }
}
