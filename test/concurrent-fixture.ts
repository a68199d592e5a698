/** Two connections on one branch, with what tests of BEGIN CONCURRENT ask of them. */
import { expect } from "vitest";
import { ConflictError } from "../src/transaction/conflict.ts";
import type { Database } from "../src/store/database.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { Random } from "../src/testing/random.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SMALL_STORE } from "./store-workload.ts";

/** Enough rows that each table has an interior page and many leaves. */
const SCHEMA = `
  CREATE TABLE a(id INTEGER PRIMARY KEY, v INTEGER, note TEXT);
  CREATE TABLE b(id INTEGER PRIMARY KEY, v INTEGER, note TEXT);
  CREATE INDEX a_v ON a(v);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
    INSERT INTO a SELECT i, i, printf('%0100d', i) FROM n;
  INSERT INTO b SELECT * FROM a`;

export interface Pair {
  readonly store: Store;
  readonly shop: Database;
  readonly one: StoreConnection;
  readonly two: StoreConnection;
}

const disks = new WeakMap<Store, SimulatedStorage>();

/** `setup` is SQL that runs before anything is made. */
export function openPair(options: StoreOptions = {}, setup = "", pageSize = 4096): Pair {
  const storage = new SimulatedStorage();
  const store = openStore("", {
    ...SMALL_STORE,
    transactionBytesMax: 4 * 1024 * 1024,
    storage,
    ...options,
  });
  disks.set(store, storage);
  const shop = store.createDatabase("shop", { pageSize });
  store.connect("shop").exec(`${setup};${SCHEMA}`).close();
  return { store, shop, one: store.connect("shop"), two: store.connect("shop") };
}

export function begin(...connections: StoreConnection[]): void {
  for (const connection of connections) connection.exec("BEGIN CONCURRENT");
}

export function value(connection: StoreConnection, sql: string): unknown {
  return connection.prepare(sql).pluck().get();
}

export function values(connection: StoreConnection, sql: string): unknown[] {
  return connection.prepare(sql).pluck().all();
}

export function expectConflict(connection: StoreConnection, object?: string): void {
  let error: unknown = null;
  try {
    connection.exec("COMMIT");
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(ConflictError);
  expect(error).toMatchObject({ code: "SQLITE_BUSY_SNAPSHOT", retryable: true });
  if (object !== undefined) {
    expect(error).toMatchObject({ object });
    expect(String(error)).toContain(`"${object}"`);
  }
  expect(connection.inTransaction).toBe(false);
  // The connection goes on, on the head.
  connection.exec("BEGIN CONCURRENT; SELECT count(*) FROM sqlite_schema; COMMIT");
}

const CONTENT: readonly string[] = ["SELECT * FROM a ORDER BY id", "SELECT * FROM b ORDER BY id"];

/** Every page of the file is in its place, and the log holds the same as memory. */
export async function expectSound(store: Store): Promise<void> {
  expect((await store.check()).problems).toEqual([]);
  const disk = disks.get(store)!.copyAfterCrash(new Random(1));
  const replayed = openStore("", { ...SMALL_STORE, storage: disk });
  const [here, there] = [store, replayed].map((each) => {
    const check = each.connect("shop");
    expect(check.pragma("integrity_check")).toEqual([{ integrity_check: "ok" }]);
    const content = CONTENT.map((sql) => check.prepare(sql).raw().all());
    check.close();
    return content;
  });
  replayed.close();
  expect(there).toEqual(here);
}
