/**
 * Makes the fixture stores of the current format version under test/fixtures/v1. They are made once per format version
 * and then kept: a store that was written once must open for ever. Run it only while a format is not released yet.
 *
 *   npx tsx scripts/make-fixture.ts
 *
 * Each store is copied while it is open, so that the log has a tail that must be replayed.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Backend } from "../src/catalog/backends.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { contentOf, FIXTURE_KEY } from "../test/fixture-content.ts";

const TARGET = join(import.meta.dirname, "../test/fixtures/v1");
const START_MS = Date.UTC(2026, 0, 1);
const MINUTE_MS = 60_000;

function fill(store: Store): void {
  const shop = store.createDatabase("shop");
  const main = store.connect("shop");
  main.exec(`
    CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, photo BLOB);
    CREATE INDEX item_name ON item(name);
    CREATE VIRTUAL TABLE search USING fts5(name)`);
  const insert = main.prepare("INSERT INTO item VALUES (?, ?, ?, ?)");
  for (let id = 1; id <= 12; id++)
    insert.run(id, `item ${id}`, id * 1.5, Buffer.alloc(id * 40, id));
  main.exec("INSERT INTO search SELECT name FROM item");
  shop.createTag("stocked");
  store.checkpoint();
  shop.createBranch("dev", { from: "shop@5" });
  const dev = store.connect("shop/dev");
  for (let id = 1; id <= 6; id++) {
    dev.prepare("UPDATE item SET name = ? WHERE id = ?").run(`renamed ${id}`, id);
    main.prepare("UPDATE item SET price = price + ? WHERE id > ?").run(id, id);
  }
  main.exec(`ATTACH 'shop/dev' AS dev; BEGIN; DELETE FROM main.item WHERE id = 2;
    DELETE FROM dev.item WHERE id = 1; COMMIT; DETACH dev`);
  store.checkpoint();
  shop.createBranch("gone");
  store.connect("shop/gone").exec("DELETE FROM item");
  shop.branch("gone").delete();
  // More than transactionBytesMax: its pages go into chunks before the commit.
  main.exec(`WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n LIMIT 60)
    INSERT INTO item SELECT i, 'large ' || i, i, zeroblob(400 + i) FROM n`);
  shop.branch().restore({ to: "shop@stocked", preserveAs: "before-restore" });
  shop.branch("dev").protect();
  const small = store.createDatabase("small-pages", { pageSize: 512 });
  const other = store.connect("small-pages");
  other.exec("CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT)");
  for (let id = 1; id <= 8; id++)
    other.prepare("INSERT INTO note VALUES (?, ?)").run(id, `note ${id} `.repeat(id * 20));
  other.exec("DELETE FROM note WHERE id > 3; VACUUM");
  small.createTag("vacuumed");
}

/** After the last checkpoint: what opening must replay. */
function addTail(store: Store): void {
  const shop = store.database("shop");
  const main = store.connect("shop");
  main.exec("UPDATE item SET name = name || ' (tail)' WHERE id < 5");
  shop.createBranch("tail", { from: "shop@stocked" });
  store.connect("shop/tail").exec("INSERT INTO item VALUES (50, 'only in the log', 0, NULL)");
  main.exec(`WITH RECURSIVE n(i) AS (SELECT 300 UNION ALL SELECT i + 1 FROM n LIMIT 50)
    INSERT INTO item SELECT i, 'tail ' || i, i, zeroblob(500 + i) FROM n`);
  shop.createTag("tail-tag", { at: "shop/tail" });
}

function make(name: string, options: { backend: Backend; key: string | null }): void {
  const directory = mkdtempSync(join(tmpdir(), "bough-fixture-"));
  const key = options.key === null ? {} : { key: options.key };
  let clock = START_MS;
  const store = openStore(directory, {
    ...key,
    backend: options.backend,
    logSegmentBytes: 32 * 1024,
    transactionBytesMax: 32 * 1024,
    chunkPages: 8,
    now: () => (clock += MINUTE_MS),
  });
  fill(store);
  if (options.key !== null) store.rotateKey(options.key);
  store.checkpoint();
  addTail(store);
  const target = join(TARGET, name);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  // Without what a crash would leave for nobody: locks, and log files that are still being prepared.
  const isKept = (path: string): boolean => !/[/\\]lock(\.|$)|-lock$|\.tmp$/.test(path);
  cpSync(directory, join(target, "store"), { recursive: true, filter: isKept });
  writeFileSync(join(target, "expected.json"), `${JSON.stringify(contentOf(store), null, 1)}\n`);
  store.close();
  rmSync(directory, { recursive: true });
}

make("plain-lmdb", { backend: "lmdb", key: null });
make("plain-memory", { backend: "memory", key: null });
make("encrypted-lmdb", { backend: "lmdb", key: FIXTURE_KEY });
make("encrypted-memory", { backend: "memory", key: FIXTURE_KEY });
