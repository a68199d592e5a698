import { expect, test } from "vitest";
import { files, remove, rows, run } from "../testing/repair-fixture.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { checkStore } from "./check-store.ts";
import { repairStore } from "./repair-store.ts";
import { openStore, type Store } from "./store.ts";

const COUNT = "SELECT count(*) FROM item";

/** Two databases; the packs of the first are gone, and the log with them in it too. */
async function makeLoss(): Promise<{ storage: SimulatedStorage; open: () => Store }> {
  const storage = new SimulatedStorage();
  const open = (): Store => openStore("store", { storage, backend: "memory", gc: "off" });
  let store = open();
  store.createDatabase("shop", { pageSize: 512 });
  run(store, "shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  run(store, "shop", rows("item", 1, 300));
  store.database("shop").createTag("full");
  store.close();
  const lost = files(storage, "chunks");
  store = open();
  store.createDatabase("books", { pageSize: 512 });
  run(store, "books", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  run(store, "books", rows("item", 500, 900));
  store.close();
  for (const path of lost) remove(storage, path);
  for (const path of files(storage, "log").filter((name) => name.includes("spare")))
    remove(storage, path);
  const { report } = await repairStore("store", { storage, backend: "memory" });
  expect(report.ok).toBe(false);
  return { storage, open };
}

function read(store: Store, revision: string): unknown {
  try {
    const connection = store.connect(revision);
    try {
      return connection.prepare(COUNT).pluck().get();
    } finally {
      connection.close();
    }
  } catch (error) {
    return error instanceof Error && "code" in error ? error.code : error;
  }
}

test("after a loss the rest goes on: reads, writes, checkpoints, branches, garbage collection", async () => {
  const { storage, open } = await makeLoss();
  const store = open();
  expect(read(store, "shop")).toBe("CORRUPT_CHUNK");
  expect(read(store, "books")).toBe(401);
  run(store, "books", rows("item", 1, 100));
  store.database("books").createBranch("dev");
  run(store, "books/dev", "DELETE FROM item WHERE id < 50");
  store.database("shop").createBranch("late");
  store.checkpoint();
  store.gc();
  store.gc();
  expect(read(store, "books/dev")).toBe(452);
  expect(read(store, "books")).toBe(501);
  expect(read(store, "shop")).toBe("CORRUPT_CHUNK");
  const { problems } = await store.check({ deep: true });
  expect(problems.length).toBeGreaterThan(0);
  for (const { revisions } of problems)
    expect(revisions.filter((name) => !name.startsWith("shop"))).toEqual([]);
  store.close();
  expect(read(open(), "books")).toBe(501);
  expect(storage.isCrashed).toBe(false);
});

test("the same bytes written again heal every revision that reads them", async () => {
  const { storage, open } = await makeLoss();
  let store = open();
  store.createDatabase("again", { pageSize: 512 });
  // The same statements make the same pages, which are cut into the same chunk.
  run(store, "again", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  run(store, "again", rows("item", 1, 300));
  expect(read(store, "again")).toBe(300);
  store.close();
  store = open();
  expect(read(store, "shop")).toBe(300);
  expect(read(store, "shop@full")).toBe(300);
  store.close();
  const { problems } = await checkStore("store", { storage, backend: "memory", deep: true });
  expect(problems.map(({ message }) => message)).toEqual([]);
});

test("changes in the log to a page that is lost do not stop checkpoints: the page stays lost", async () => {
  const building = new SimulatedStorage();
  const options = { backend: "memory", gc: "off" } as const;
  let store = openStore("store", { ...options, storage: building });
  for (const name of ["shop", "books"]) {
    store.createDatabase(name, { pageSize: 512 });
    run(store, name, "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
    const from = name === "shop" ? 1 : 1000;
    run(store, name, `CREATE TABLE ${name}(id)`); // No page is the same in both.
    run(store, name, rows("item", from, from + 299));
    store.checkpoint();
  }
  store.close();
  const [pack = ""] = files(building, "chunks");
  store = openStore("store", { ...options, storage: building });
  run(store, "shop", "UPDATE item SET name = 'x' WHERE id = 2");
  run(store, "shop", "UPDATE item SET name = 'y' WHERE id = 2");
  run(store, "books", "UPDATE item SET name = 'x' WHERE id = 1002");
  const storage = building.copyAfterCrash(new Random(3));
  store.close();
  // The first chunk is of the first database.
  for (let offset = 50; offset < 900; offset += 30) storage.flipBit(pack, offset * 8);
  store = openStore("store", { ...options, storage });
  expect(() => store.checkpoint()).toThrow("checksum");
  store.close();
  const { report } = await repairStore("store", { ...options, storage });
  expect(report.ok).toBe(false);
  store = openStore("store", { ...options, storage });
  run(store, "books", "DELETE FROM item WHERE id >= 1100");
  store.checkpoint();
  expect(read(store, "shop")).toBe("CORRUPT_CHUNK");
  expect(read(store, "books")).toBe(100);
  store.close();
  store = openStore("store", { ...options, storage });
  expect(read(store, "shop")).toBe("CORRUPT_CHUNK");
  const { problems } = await store.check();
  expect(problems.flatMap(({ revisions }) => revisions)).toContain("shop");
  expect(problems.flatMap(({ revisions }) => revisions)).not.toContain("books");
  store.gc();
  expect(read(store, "books")).toBe(100);
  store.close();
});
