/** What a copy becomes that goes back to a time: names that came, went and changed since. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { moveBranches } from "./restore-to.ts";
import { openStore, type Store } from "./store.ts";

let nowMs = 0;
let store: Store;

beforeEach(() => {
  nowMs = 1_000_000;
  store = openStore("", {
    backend: "memory",
    storage: new SimulatedStorage({ seed: 1 }),
    now: () => nowMs,
  });
});

afterEach(() => store.close());

function put(revision: string, value: number): void {
  nowMs += 10;
  using connection = store.connect(revision);
  connection.exec(`CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES(${value})`);
}

/** The time of now; what follows is later. */
function mark(): Date {
  const time = new Date((nowMs += 10));
  nowMs += 10;
  return time;
}

/** By branch: its rows, null where there is no table. */
function contents(): Record<string, string | null> {
  const found: Record<string, string | null> = {};
  for (const database of store.databases())
    for (const { revision } of database.branches()) {
      using connection = store.connect(revision);
      const tables = connection.prepare("SELECT count(*) FROM sqlite_schema").pluck().get();
      found[revision] =
        tables === 0
          ? null
          : (connection.prepare("SELECT group_concat(x) FROM t").pluck().get() as string);
    }
  return found;
}

describe("going back to a time", () => {
  test("a database that was deleted since comes back, also where its name was used again", () => {
    store.createDatabase("shop").createBranch("dev");
    put("shop", 1);
    put("shop/dev", 2);
    const time = mark();
    store.database("shop").delete();
    store.createDatabase("shop");
    put("shop", 9);
    expect(moveBranches(store, time)).toEqual(["shop", "shop/main", "shop/dev"]);
    expect(contents()).toEqual({ "shop/main": "1", "shop/dev": "2" });
  });

  test("a branch that was deleted since, or expired, comes back with its child", () => {
    const shop = store.createDatabase("shop");
    put("shop", 1);
    shop.createBranch("dev", { expiresAt: new Date(nowMs + 1000) });
    put("shop/dev", 2);
    shop.createBranch("child", { from: "shop/dev" });
    put("shop/child", 3);
    const time = mark();
    put("shop/child", 4);
    shop.branch("child").delete();
    nowMs += 2000;
    moveBranches(store, time);
    expect(contents()).toEqual({ "shop/main": "1", "shop/dev": "1,2", "shop/child": "1,2,3" });
    expect(shop.branch("dev").expiresAt).toBeNull();
  });

  test("what had no commit yet is empty, and keeps nothing else from going back", () => {
    store.createDatabase("a");
    put("a", 1);
    store.createDatabase("shop");
    const time = mark();
    put("shop", 1);
    put("a", 2);
    moveBranches(store, time);
    expect(contents()).toEqual({ "a/main": "1", "shop/main": null });
    put("shop", 5);
    expect(contents()["shop/main"]).toBe("5");
  });

  test("a protected branch goes back and is protected", () => {
    const shop = store.createDatabase("shop");
    put("shop", 1);
    shop.branch().protect();
    const time = mark();
    put("shop", 2);
    moveBranches(store, time);
    expect(contents()).toEqual({ "shop/main": "1" });
    expect(shop.branch().isProtected).toBe(true);
    expect(moveBranches(store, "shop@3")).toEqual(["shop/main"]);
    expect(contents()).toEqual({ "shop/main": "1,2" });
    expect(shop.branch().isProtected).toBe(true);
  });

  test("branches that were made since go, whatever their order and protection", () => {
    const shop = store.createDatabase("shop");
    put("shop", 1);
    const time = mark();
    shop.createBranch("b");
    shop.createBranch("a", { from: "shop/b" });
    shop.createBranch("c", { from: "shop/a" }).protect();
    moveBranches(store, time);
    expect(contents()).toEqual({ "shop/main": "1" });
  });

  test("a name that something else has been given stays with that", () => {
    const shop = store.createDatabase("shop");
    shop.createBranch("old");
    put("shop/old", 1);
    shop.createBranch("other");
    put("shop/other", 2);
    const time = mark();
    shop.branch("old").delete();
    shop.branch("other").rename("old");
    moveBranches(store, time);
    expect(contents()).toEqual({ "shop/main": null, "shop/old": "2", "shop/old-2": "1" });
  });

  test("the future is refused, and nothing changes", () => {
    store.createDatabase("shop");
    put("shop", 1);
    expect(() => moveBranches(store, new Date(nowMs + 1))).toThrow(/is in the future/);
    expect(contents()).toEqual({ "shop/main": "1" });
  });
});
