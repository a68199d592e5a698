/** Branches and databases as users hold them, on a simulated disk and with a clock of its own. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { StoreErrorCode } from "../errors.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import type { Database } from "./database.ts";
import { openStore, type Store } from "./store.ts";

const START = Date.parse("2026-11-20T10:00:00Z");

let nowMs: number;
let storage: SimulatedStorage;
let store: Store;
let shop: Database;

beforeEach(() => {
  nowMs = START;
  storage = new SimulatedStorage();
  store = open();
  shop = store.createDatabase("shop");
});
afterEach(() => store.close());

function open(): Store {
  return openStore("", { storage, backend: "memory", now: () => nowMs });
}

function reopen(): void {
  store.close();
  store = open();
  shop = store.database("shop");
}

function write(branch: string): void {
  const connection = store.connect(`shop/${branch}`);
  connection.exec("CREATE TABLE IF NOT EXISTS t(value); INSERT INTO t VALUES (1)");
  connection.close();
}

function names(): string[] {
  return shop.branches().map(({ name }) => name);
}

function code(expected: StoreErrorCode): object {
  return expect.objectContaining({ code: expected });
}

describe("a branch", () => {
  test("knows its head, parent, fork version and name", () => {
    write("main"); // 1, 2
    const dev = shop.createBranch("dev");
    const deep = shop.createBranch("deep/er", { from: "shop/dev@1" });
    expect(dev.parent!.name).toBe("main");
    expect(deep.parent!.name).toBe("dev");
    expect([dev.forkVersion, deep.forkVersion, shop.branch().forkVersion]).toEqual([2, 1, null]);
    expect(deep.revision).toBe("shop/deep/er");
    expect(dev.head).toEqual({ version: 2, timestamp: new Date(START), pageCount: 2 });
    expect(shop.branch().parent).toBeNull();
    expect(names()).toEqual(["main", "deep/er", "dev"]);
    expect(JSON.parse(JSON.stringify(deep))).toMatchObject({ parent: "dev", forkVersion: 1 });
    reopen();
    expect(shop.branch("deep/er").forkVersion).toBe(1);
  });

  test("keeps the fork version of its parent through resets to itself", () => {
    write("main"); // 1, 2
    const dev = shop.createBranch("dev");
    write("dev"); // 3
    write("dev"); // 4
    dev.reset({ to: "shop/dev@3" });
    expect(dev.forkVersion).toBe(2);
    expect(dev.head.version).toBe(3);
    shop.branch().reset({ to: "shop@1" });
    expect(shop.branch().forkVersion).toBeNull();
    dev.reset();
    expect(dev.forkVersion).toBe(1);
    expect(dev.head.version).toBe(1);
  });

  test("follows its row through renames, and frees its old name", () => {
    const dev = shop.createBranch("dev");
    dev.rename("work");
    dev.rename("work");
    expect(dev.revision).toBe("shop/work");
    expect(() => store.connect("shop/dev")).toThrow(code("BRANCH_NOT_FOUND"));
    shop.createBranch("dev");
    expect(() => dev.rename("dev")).toThrow(code("BRANCH_EXISTS"));
    shop.rename("store");
    expect(dev.revision).toBe("store/work");
  });

  test("that was deleted answers nothing, and comes back with its commits", () => {
    write("main");
    const dev = shop.createBranch("dev");
    write("dev");
    const connection = store.connect("shop/dev");
    dev.delete();
    expect(() => dev.head).toThrow('Cannot use branch "shop/dev": it was deleted');
    expect(() => connection.prepare("SELECT * FROM t").all()).toThrow("it was deleted");
    reopen();
    const again = shop.undeleteBranch("dev");
    expect(again.head.version).toBe(3);
    expect(again.log()).toHaveLength(3);
  });

  test("is not deleted or reset under a transaction that writes to it", () => {
    const dev = shop.createBranch("dev");
    const connection = store.connect("shop/dev");
    connection.exec("BEGIN IMMEDIATE");
    const isBusy = expect.objectContaining({ code: "BRANCH_BUSY", retryable: true });
    expect(() => dev.delete()).toThrow(isBusy);
    expect(() => dev.reset()).toThrow(isBusy);
    expect(() => shop.delete()).toThrow(isBusy);
    connection.exec("ROLLBACK");
    dev.reset();
    dev.delete();
    expect(names()).toEqual(["main"]);
  });

  test("with a reader keeps the reader's snapshot through a reset, and refuses its write", () => {
    write("main"); // 1, 2
    write("main"); // 3
    const reader = store.connect("shop");
    reader.exec("BEGIN");
    const count = reader.prepare("SELECT count(*) FROM t").pluck();
    expect(count.get()).toBe(2);
    shop.branch().reset({ to: "shop@2" });
    expect(count.get()).toBe(2);
    expect(() => reader.exec("INSERT INTO t VALUES (9)")).toThrow(
      expect.objectContaining({ code: "SQLITE_BUSY_SNAPSHOT" }),
    );
    reader.exec("ROLLBACK");
    expect(count.get()).toBe(1);
  });

  test("of another database is no revision to start from", () => {
    store.createDatabase("other");
    for (const from of ["other", "other@1"])
      expect(() => shop.createBranch("dev", { from }), from).toThrow(
        code(from === "other" ? "REVISION_INVALID" : "VERSION_NOT_FOUND"),
      );
  });
});

describe("a reset", () => {
  test("to a parent that was deleted is refused, also when another branch has its name now", () => {
    write("main"); // 1, 2
    const parent = shop.createBranch("parent");
    const child = shop.createBranch("child", { from: "shop/parent" });
    child.delete();
    parent.delete();
    write("main"); // 3
    shop.createBranch("parent"); // another one
    const again = shop.undeleteBranch("child");
    expect(() => again.reset()).toThrow('Cannot use branch "shop/parent": it was deleted');
    expect(again.head.version).toBe(2);
  });

  test("of main needs a revision", () => {
    expect(() => shop.branch().reset()).toThrow(
      'Cannot reset branch "shop/main" to its parent: it has none; say a revision',
    );
  });
});

describe("a restore", () => {
  test("keeps the head under a name of its own, numbered where it is taken", () => {
    write("main"); // 1, 2
    write("main"); // 3
    const branch = shop.branch();
    expect(branch.restore({ to: "@2" }).name).toBe("main-before-3");
    shop.branch().restore({ to: "shop/main-before-3" });
    expect(branch.restore({ to: "@2" }).name).toBe("main-before-3-2");
    expect(branch.restore({ to: "@1", preserveAs: "mine" }).head.version).toBe(2);
    expect(() => branch.restore({ to: "@1", preserveAs: "mine" })).toThrow(code("BRANCH_EXISTS"));
    expect(names()).toEqual(["main", "main-before-2", "main-before-3", "main-before-3-2", "mine"]);
    reopen();
    expect(shop.branch("mine").head.version).toBe(2);
    expect(shop.branch().head.version).toBe(1);
  });

  test("of a branch with the longest name finds a name for its backup", () => {
    write("main");
    const name = "x".repeat(128);
    const branch = shop.createBranch(name);
    expect(branch.restore({ to: "@1" }).name).toBe(`${"x".repeat(96)}-before-2`);
    expect(branch.restore({ to: "@1" }).name).toBe(`${"x".repeat(96)}-before-1`);
  });
});

describe("protection", () => {
  test("refuses reset, restore, deletion and expiry, until it is lifted", () => {
    write("main");
    const dev = shop.createBranch("dev");
    dev.protect();
    reopen();
    const branch = shop.branch("dev");
    expect(branch.isProtected).toBe(true);
    for (const action of [
      () => branch.reset(),
      () => branch.restore({ to: "@1" }),
      () => branch.delete(),
      () => branch.setExpiration(START + 1000),
      () => shop.delete(),
    ])
      expect(action).toThrow(code("BRANCH_PROTECTED"));
    write("dev");
    branch.unprotect();
    branch.delete();
    expect(names()).toEqual(["main"]);
  });
});

describe("expiry", () => {
  test("deletes a branch at its time, and undelete brings it back without one", () => {
    shop.createBranch("dev", { expiresAt: START + 1000 });
    nowMs += 999;
    expect(names()).toEqual(["main", "dev"]);
    nowMs += 1;
    expect(names()).toEqual(["main"]);
    expect(() => store.connect("shop/dev")).toThrow(code("BRANCH_NOT_FOUND"));
    const again = shop.undeleteBranch("dev");
    expect(again.expiresAt).toBeNull();
    nowMs += 10_000;
    reopen();
    expect(names()).toEqual(["main", "dev"]);
  });

  test("comes for branches that expired while the store was closed", () => {
    shop.createBranch("dev", { expiresAt: new Date(START + 1000) });
    store.close();
    nowMs += 2000;
    store = open();
    shop = store.database("shop");
    expect(names()).toEqual(["main"]);
  });

  test("waits for children, and takes parent and child at once when both are due", () => {
    shop.createBranch("parent", { expiresAt: START + 1000 });
    shop.createBranch("child", { from: "shop/parent", expiresAt: START + 5000 });
    nowMs += 2000;
    expect(names()).toEqual(["main", "child", "parent"]);
    nowMs += 3000;
    expect(names()).toEqual(["main"]);
  });

  test("waits for a transaction that writes", () => {
    const dev = shop.createBranch("dev", { expiresAt: START + 1000 });
    const connection = store.connect("shop/dev");
    connection.exec("BEGIN; CREATE TABLE t(a)");
    nowMs += 2000;
    expect(names()).toEqual(["main", "dev"]);
    connection.exec("COMMIT");
    connection.close();
    expect(names()).toEqual(["main"]);
    expect(() => dev.head).toThrow(code("BRANCH_NOT_FOUND"));
  });

  test("is set, moved and taken away", () => {
    const dev = shop.createBranch("dev");
    dev.setExpiration(START + 1000);
    expect(dev.expiresAt).toEqual(new Date(START + 1000));
    expect(() => dev.protect()).toThrow(code("BRANCH_PROTECTED"));
    dev.setExpiration(new Date(START + 9000));
    nowMs += 2000;
    expect(names()).toEqual(["main", "dev"]);
    dev.setExpiration(null);
    nowMs += 10_000;
    expect(names()).toEqual(["main", "dev"]);
    expect(() => dev.setExpiration(START)).toThrow(RangeError);
    expect(() => dev.setExpiration(new Date(NaN))).toThrow(RangeError);
    expect(() => shop.branch().setExpiration(nowMs + 1)).toThrow(code("BRANCH_PROTECTED"));
  });
});

describe("a database", () => {
  test("is renamed, deleted and brought back with everything in it", () => {
    write("main");
    shop.createBranch("dev");
    shop.createTag("v1");
    shop.rename("store");
    expect(() => store.database("shop")).toThrow(code("DATABASE_NOT_FOUND"));
    shop.delete();
    expect(() => shop.branches()).toThrow('Cannot use database "store": it was deleted');
    expect(store.databases()).toEqual([]);
    store.createDatabase("shop").createBranch("other");
    reopen();
    const back = store.undeleteDatabase("store");
    expect(back.branches().map(({ name }) => name)).toEqual(["main", "dev"]);
    expect(back.tags()).toHaveLength(1);
    expect(back.version).toBe(2);
    expect(store.databases().map(({ name }) => name)).toEqual(["shop", "store"]);
  });

  test("with a taken name is refused, and a bad name is explained", () => {
    expect(() => store.createDatabase("shop")).toThrow(
      'Cannot use database name "shop": it is taken',
    );
    expect(() => store.createDatabase("a b")).toThrow(code("NAME_INVALID"));
    expect(() => store.createDatabase("x", { pageSize: 1000 })).toThrow(code("PAGE_SIZE"));
    expect(store.databases()).toHaveLength(1);
  });

  test("has its page size from the beginning", () => {
    const wide = store.createDatabase("wide", { pageSize: 16384 });
    const connection = store.connect("wide");
    connection.exec("CREATE TABLE t(a)");
    expect(connection.pragma("page_size", { simple: true })).toBe(16384);
    expect(wide.pageSize).toBe(16384);
    expect(wide.branch().head.pageCount).toBe(2);
  });
});

test("a value of another type than the signature says is a TypeError that names it", () => {
  const missing = undefined as unknown as string;
  const number = 5 as unknown as string;
  const main = shop.branch();
  expect(() => openStore(missing)).toThrow(
    new TypeError("The path of a store must be a string, this is undefined"),
  );
  expect(() => store.connect(missing)).toThrow(
    new TypeError("A revision must be a string, this is undefined"),
  );
  expect(() => store.createDatabase(number)).toThrow(
    new TypeError("The name of a database must be a string, this is number"),
  );
  expect(() => shop.branch(null as unknown as string)).toThrow(
    new TypeError("The name of a branch must be a string, this is null"),
  );
  expect(() => shop.createTag(number)).toThrow(
    new TypeError("The name of a tag must be a string, this is number"),
  );
  expect(() => main.restore({ to: missing })).toThrow(
    new TypeError("A revision must be a string, this is undefined"),
  );
  const text = "tomorrow" as unknown as number;
  expect(() => shop.createBranch("dev", { expiresAt: text })).toThrow(
    new RangeError("Cannot use tomorrow as a time: it is no valid date"),
  );
});
