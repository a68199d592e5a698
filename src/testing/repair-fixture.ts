/** A store with a bit of everything on a simulated disk, what each of its revisions reads, and repairs of damaged copies of it. */
import { createHash } from "node:crypto";
import { StoreError } from "../errors.ts";
import { CopySource } from "../store/copy-source.ts";
import { type RepairOptions, type RepairReport, repairStore } from "../store/repair-store.ts";
import { headOf, resolveRevision } from "../store/resolve-revision.ts";
import { openStore, type Store } from "../store/store.ts";
import { Random } from "./random.ts";
import { SimulatedStorage } from "./simulated-storage.ts";

export const CATALOG_FILE = "catalog/catalog.kv";
const KEY = new Uint8Array(32).fill(7);

export interface Fixture {
  readonly name: string;
  readonly key: { readonly key?: Uint8Array };
  readonly disk: SimulatedStorage;
  /** What each revision reads: a hash of its pages. */
  readonly whole: ReadonlyMap<string, string>;
}

/** One without a key, one with. */
export async function makeFixtures(): Promise<Fixture[]> {
  return [await makeFixture("plain", {}), await makeFixture("encrypted", { key: KEY })];
}

/** Two databases, branches, a tag, history, a large transaction, an outcome, several log segments and packs. */
async function makeFixture(name: string, key: { readonly key?: Uint8Array }): Promise<Fixture> {
  const building = new SimulatedStorage();
  const options = { ...key, storage: building, backend: "memory" as const, chunkPages: 8 };
  let store = openStore("store", {
    ...options,
    transactionBytesMax: 8192,
    logSegmentBytes: 16_384,
  });
  store.createDatabase("shop", { pageSize: 512 });
  store.createDatabase("books", { pageSize: 1024 });
  run(store, "shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  run(store, "shop", rows("item", 1, 200));
  store.close();
  store = openStore("store", { ...options, transactionBytesMax: 8192, logSegmentBytes: 16_384 });
  for (let id = 1; id < 7; id++)
    run(store, "shop", `UPDATE item SET name = 'v${id}' WHERE id = ${id * 30}`);
  store.database("shop").createTag("early", { at: "shop@4" });
  store.checkpoint();
  const again = store.database("shop");
  again.createBranch("dev");
  again.createBranch("old", { from: "shop@3" });
  for (let id = 1; id < 5; id++) run(store, "shop/dev", `DELETE FROM item WHERE id = ${id * 7}`);
  run(store, "shop/old", "DELETE FROM item WHERE id > 100");
  run(store, "books", "CREATE TABLE book(id INTEGER PRIMARY KEY, title TEXT)");
  await store.transact("books", (tx) => tx.exec("INSERT INTO book VALUES (9999, 'last')"), {
    id: "ab".repeat(16),
  });
  store.checkpoint();
  for (let id = 1; id < 14; id++)
    run(store, "shop/dev", `UPDATE item SET name = name || ' ${id}' WHERE id < ${id + 20}`);
  run(store, "books", rows("book", 1, 600));
  again.createBranch("late");
  const whole = answers(store);
  return { name, key, disk: building.copyAfterCrash(new Random(1)), whole };
}

export function rows(table: string, from: number, to: number): string {
  return `WITH RECURSIVE n(i) AS (VALUES(${from}) UNION ALL SELECT i+1 FROM n WHERE i<${to})
    INSERT INTO ${table} SELECT i, 'item ' || i || ' of a long list of items' FROM n`;
}

export function run(store: Store, revision: string, sql: string): void {
  const connection = store.connect(revision);
  connection.exec(sql);
  connection.close();
}

function answers(store: Store): Map<string, string> {
  const found = new Map<string, string>();
  for (const database of store.databases()) {
    for (const branch of database.branches()) {
      found.set(branch.revision, answer(store, branch.revision));
      try {
        for (const { version } of branch.log()) {
          const revision = `${branch.revision}@${version}`;
          found.set(revision, answer(store, revision));
        }
      } catch (error) {
        found.set(`log of ${branch.revision}`, codeOf(error));
      }
    }
    for (const { name } of database.tags())
      found.set(`${database.name}@${name}`, answer(store, `${database.name}@${name}`));
  }
  return found;
}

export function answer(store: Store, revision: string): string {
  try {
    const { database, branch, snapshot } = resolveRevision(store.engine, revision);
    const pages = snapshot ?? headOf(database, branch);
    const hash = createHash("sha256");
    for (let page = 1; page <= pages.pageCount; page++) hash.update(pages.page(page));
    return hash.digest("hex");
  } catch (error) {
    return codeOf(error);
  }
}

export function codeOf(error: unknown): string {
  if (error instanceof StoreError) return error.code;
  throw error;
}

export function answersOf({ key }: Fixture, disk: SimulatedStorage): Map<string, string> {
  const storage = disk.copyAfterCrash(new Random(2));
  let store: Store;
  try {
    store = openStore("store", { ...key, storage, create: false });
  } catch (error) {
    return new Map([["open", codeOf(error)]]);
  }
  try {
    return answers(store);
  } finally {
    store.engine.state.log.closeSync();
  }
}

export function copyOf(disk: SimulatedStorage): SimulatedStorage {
  return disk.copyAfterCrash(new Random(4));
}

export function sourceOf({ disk }: Fixture): CopySource {
  return CopySource.open("the copy", copyOf(disk));
}

export async function repair(
  { key }: Fixture,
  storage: SimulatedStorage,
  options: RepairOptions = {},
): Promise<RepairReport> {
  return await repairStore("store", { ...key, storage, ...options });
}

export function files(disk: SimulatedStorage, directory: string): string[] {
  return disk.listSync(directory).map((name) => `${directory}/${name}`);
}

export function sizeOf(disk: SimulatedStorage, path: string): number {
  const file = disk.openFileSync(path, { mode: "read" });
  const size = file.sizeSync();
  file.closeSync();
  return size;
}

export function remove(disk: SimulatedStorage, path: string): void {
  disk.deleteSync(path);
  disk.syncDirectorySync(path.slice(0, path.lastIndexOf("/")));
}
