/** SQLite's parsed schema after the content of a branch was exchanged under an open connection (F6). */
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Database, openStore, type Store } from "../src/index.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";

let store: Store;
let shop: Database;

beforeEach(() => {
  store = openStore("", { storage: new SimulatedStorage(), backend: "memory" });
  shop = store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE base(value)");
  connection.close();
  shop.createBranch("dev");
});
afterEach(() => store.close());

test("a reset to another schema with the same cookie is seen by open connections and their statements", () => {
  const dev = store.connect("shop/dev");
  const main = store.connect("shop");
  dev.exec("CREATE TABLE a(x); INSERT INTO a VALUES ('a')");
  main.exec("CREATE TABLE b(y, z); INSERT INTO b VALUES ('b', 2)");
  const select = dev.prepare("SELECT * FROM a");
  const insert = dev.prepare("INSERT INTO a VALUES ('lost')");
  expect(select.all()).toEqual([{ x: "a" }]);
  expect(dev.pragma("schema_version")).toEqual(main.pragma("schema_version"));

  shop.branch("dev").reset({ to: "shop" });

  expect(() => select.all()).toThrow("no such table: a");
  expect(() => insert.run()).toThrow("no such table: a");
  expect(dev.prepare("SELECT * FROM b").all()).toEqual([{ y: "b", z: 2 }]);
});

test("after resets the schema cookie goes up by one with each change, for every connection", () => {
  const dev = store.connect("shop/dev");
  for (let round = 0; round < 20; round++) {
    dev.exec(`CREATE TABLE t${round}(value)`);
    shop.branch("dev").reset();
    expect(() => dev.prepare(`SELECT * FROM t${round}`).all()).toThrow("no such table");
  }
  dev.exec("CREATE TABLE t(value); INSERT INTO t VALUES (1)");
  const other = store.connect("shop/dev");
  expect(other.pragma("schema_version", { simple: true })).toBe(2);
  expect(other.prepare("SELECT * FROM t").all()).toEqual([{ value: 1 }]);
  dev.exec("ALTER TABLE t ADD COLUMN more DEFAULT 2");
  expect(other.prepare("SELECT * FROM t").all()).toEqual([{ value: 1, more: 2 }]);
  other.exec("VACUUM; DROP TABLE t");
  expect(() => dev.prepare("SELECT * FROM t").all()).toThrow("no such table: t");
  expect(dev.pragma("integrity_check", { simple: true })).toBe("ok");
});

test("a rollback after a reset leaves the schema as the reset made it", () => {
  const dev = store.connect("shop/dev");
  dev.exec("CREATE TABLE a(x)");
  shop.branch("dev").reset();
  dev.pragma("cache_size = 1");
  dev.exec("BEGIN; CREATE TABLE big(value)");
  const insert = dev.prepare("INSERT INTO big VALUES (zeroblob(3000))");
  for (let row = 0; row < 200; row++) insert.run();
  dev.exec("ROLLBACK");
  expect(dev.prepare("SELECT name FROM sqlite_schema").pluck().all()).toEqual(["base"]);
  expect(shop.branch("dev").head.version).toBe(shop.branch().head.version);
  dev.exec("CREATE TABLE c(x)");
  const other = store.connect("shop/dev");
  expect(other.prepare("SELECT name FROM sqlite_schema").pluck().all()).toEqual(["base", "c"]);
});
