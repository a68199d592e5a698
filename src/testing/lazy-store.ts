/** Stores whose bytes are all in object storage, to be read through connections of every kind. */
import { openStore, type Store } from "../store/store.ts";
import type { StoreOptions } from "../store/store-options.ts";
import { Random } from "./random.ts";
import { SimulatedStorage } from "./simulated-storage.ts";
import { VanishingStorage } from "./vanishing-storage.ts";

export interface LazyStore {
  readonly store: Store;
  readonly storage: VanishingStorage;
}

/** Nothing is kept in memory, unless `cacheBytesMax` says so. */
export function lazyStore(seed: number, options: StoreOptions = {}): LazyStore {
  const storage = new VanishingStorage(new SimulatedStorage({ seed }), {
    random: new Random(seed),
  });
  return { store: openStore("", { cacheBytesMax: 0, ...options, storage }), storage };
}

/** Database "shop" with table "item": ids from 1 to `rows`, names of about 200 bytes. On disk and nowhere else. */
export function filledStore(seed: number, options: StoreOptions = {}, rows = 2000): LazyStore {
  const lazy = lazyStore(seed, options);
  lazy.store.createDatabase("shop");
  const connection = lazy.store.connect("shop");
  connection.exec("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  const insert = connection.prepare("INSERT INTO item VALUES(?, ?)");
  connection.transaction(() => {
    for (let id = 1; id <= rows; id++) insert.run(id, `item ${id} ${"x".repeat(190)}`);
  })();
  connection.close();
  lazy.store.checkpoint();
  lazy.storage.hideAll();
  return lazy;
}

/** Lets fetches that are held back go on until `work` has settled; the most that were held at once. */
export async function releaseUntil(
  storage: VanishingStorage,
  work: Promise<unknown>,
): Promise<number> {
  const progress = { isDone: false, most: 0 };
  const settled = Promise.allSettled([work]).then(() => (progress.isDone = true));
  while (!progress.isDone) {
    await turn();
    progress.most = Math.max(progress.most, storage.heldFetches);
    storage.release();
  }
  await settled;
  return progress.most;
}

/** Until fetches wait to be released. */
export async function untilHeld(storage: VanishingStorage, count = 1): Promise<void> {
  while (storage.heldFetches < count) await turn();
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
