/**
 * Stores that connections open by path, as better-sqlite3's users do: one store per directory and process, opened with
 * the first connection and closed with the last.
 */
import { StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { type ConnectOptions, Session } from "./session.ts";
import { openStore, type Store } from "./store.ts";
import type { StoreOptions } from "./store-options.ts";

interface SharedStore {
  readonly store: Store;
  connections: number;
}

const stores: Map<string, SharedStore> = new Map();

export interface SharedConnectionOptions extends ConnectOptions {
  /** Null: the one database of the store, which is made when the store is. */
  readonly revision: string | null;
  readonly fileMustExist: boolean;
  readonly storeOptions: StoreOptions;
}

/** The name of the database in a store that was made for one. */
const ONLY_DATABASE = "main";

/** A session whose end lets go of the store. */
export function openSharedSession(path: string, options: SharedConnectionOptions): Session {
  const key = openNodeStorage(path).directory ?? path;
  let shared = stores.get(key);
  if (shared === undefined || !shared.store.isOpen) {
    const store = openStore(path, { ...options.storeOptions, create: !options.fileMustExist });
    shared = { store, connections: 0 };
    stores.set(key, shared);
  }
  shared.connections++;
  const release = (): void => {
    if (--shared.connections > 0) return;
    if (stores.get(key) === shared) stores.delete(key);
    shared.store.close();
  };
  try {
    const revision = options.revision ?? onlyDatabase(shared.store, path);
    const { revision: _, fileMustExist: _mustExist, storeOptions: _store, ...connect } = options;
    const session = shared.store.openSession(revision, connect);
    session.onReleased = release;
    return session;
  } catch (error) {
    release();
    throw error;
  }
}

function onlyDatabase(store: Store, path: string): string {
  const databases = store.databases();
  if (databases.length === 0) return store.createDatabase(ONLY_DATABASE).name;
  if (databases.length === 1) return databases[0]!.name;
  throw new StoreError(
    "REVISION_INVALID",
    `Cannot open "${path}" as one database: the store has ${databases.length}; give a revision and { store: ${JSON.stringify(path)} }`,
  );
}
