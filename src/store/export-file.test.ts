import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StockSqlite } from "../testing/stock-sqlite.ts";
import { openStore, type Store } from "./store.ts";

let directory: string;
let store: Store;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-export-"));
  store = openStore(join(directory, "store"));
  store.createDatabase("shop", { pageSize: 1024 });
  run("shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  run("shop", "INSERT INTO item(name) VALUES ('apple'), ('pear')");
  store.database("shop").createBranch("dev");
  run("shop/dev", "INSERT INTO item(name) SELECT hex(randomblob(300)) FROM item, item, item");
});

afterEach(() => {
  store.close();
  rmSync(directory, { recursive: true });
});

function at(name: string): string {
  return join(directory, name);
}

function run(revision: string, sql: string): void {
  const connection = store.connect(revision);
  connection.exec(sql);
  connection.close();
}

test("any revision becomes a file that stock SQLite finds whole", async () => {
  for (const checkpointed of [false, true]) {
    for (const [revision, count] of [
      ["shop", 2],
      ["shop@1", 0],
      ["shop/dev", 10],
      ["shop/dev@3", 10],
    ] as const) {
      const path = at(`${revision.replace("/", "-")}-${checkpointed}.db`);
      const result = await store.exportFile(revision, path);
      const bytes = readFileSync(path);
      expect(bytes.length).toBe(result.bytes);
      using stock = await StockSqlite.open(bytes);
      expect(stock.run("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
      expect(stock.run("SELECT count(*) AS n FROM item")).toEqual([{ n: count }]);
    }
    store.checkpoint();
  }
  expect(readdirSync(directory).filter((name) => name.endsWith(".new"))).toEqual([]);
});

test("nothing inside the store's directory is replaced, also not with overwrite", async () => {
  symlinkSync(at("store"), at("link"));
  for (const name of ["store/store.json", "store/new.db", "link/log/new.db"]) {
    const before = readdirSync(at("store"));
    await expect(store.exportFile("shop", at(name), { overwrite: true })).rejects.toMatchObject({
      code: "FILE_EXISTS",
    });
    expect(readdirSync(at("store"))).toEqual(before);
  }
});

test("a database without commits becomes an empty file", async () => {
  store.createDatabase("nothing");
  expect(await store.exportFile("nothing", at("nothing.db"))).toMatchObject({
    version: 0,
    bytes: 0,
  });
  expect(readFileSync(at("nothing.db")).length).toBe(0);
});

test("an export that is imported again shares every page with its origin", async () => {
  await store.exportFile("shop/dev", at("dev.db"));
  const { pageCount, sharedPages } = await store.importFile(at("dev.db"), "again");
  store.checkpoint();
  const again = await store.importFile(at("dev.db"), "once-more");
  expect(again.sharedPages).toBe(pageCount);
  expect(sharedPages).toBeLessThanOrEqual(pageCount);
});

test("an existing file is refused unless it may be overwritten", async () => {
  writeFileSync(at("shop.db"), "mine");
  await expect(store.exportFile("shop", at("shop.db"))).rejects.toMatchObject({
    code: "FILE_EXISTS",
  });
  expect(readFileSync(at("shop.db"), "utf8")).toBe("mine");
  await store.exportFile("shop", at("shop.db"), { overwrite: true });
  expect(readFileSync(at("shop.db"), "utf8")).toMatch(/^SQLite format 3/);
});

test("a write-ahead log or journal beside the destination is refused, overwriting or not", async () => {
  for (const suffix of ["-wal", "-journal"]) {
    const path = at(`with${suffix}.db`);
    writeFileSync(path + suffix, "frames of another database");
    for (const overwrite of [false, true])
      await expect(store.exportFile("shop", path, { overwrite })).rejects.toMatchObject({
        code: "FILE_BUSY",
      });
    writeFileSync(path + suffix, "");
    await store.exportFile("shop", path);
  }
});

test("aborted or failing it leaves what was there, and no temporary file", async () => {
  writeFileSync(at("shop.db"), "mine");
  const controller = new AbortController();
  const onProgress = (): void => controller.abort(new Error("enough"));
  run("shop/dev", "INSERT INTO item(name) SELECT hex(randomblob(900)) FROM item, item, item");
  const { signal } = controller;
  await expect(
    store.exportFile("shop/dev", at("shop.db"), { overwrite: true, signal, onProgress }),
  ).rejects.toThrow("enough");
  expect(readFileSync(at("shop.db"), "utf8")).toBe("mine");
  await expect(store.exportFile("shop", at("missing/shop.db"))).rejects.toMatchObject({
    code: "FILE_NOT_FOUND",
  });
  expect(readdirSync(directory).sort()).toEqual(["shop.db", "store"]);
});

test("writes the state of its beginning while commits go on", async () => {
  run("shop/dev", "INSERT INTO item(name) SELECT hex(randomblob(900)) FROM item, item, item");
  let commits = 0;
  await store.exportFile("shop/dev", at("dev.db"), {
    onProgress: () => {
      run("shop/dev", "DELETE FROM item");
      store.checkpoint();
      commits++;
    },
  });
  expect(commits).toBeGreaterThan(1);
  using stock = await StockSqlite.open(readFileSync(at("dev.db")));
  expect(stock.run("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
  expect(stock.run("SELECT count(*) AS n FROM item")).toEqual([{ n: 1010 }]);
});

test("backup of a connection writes a plain file and reports pages", async () => {
  const connection = store.connect("shop/dev");
  const seen: number[] = [];
  const result = await connection.backup(at("backup.db"), {
    progress: ({ totalPages, remainingPages }) => {
      expect(remainingPages).toBeLessThanOrEqual(totalPages);
      seen.push(remainingPages);
    },
  });
  expect(result).toMatchObject({ remainingPages: 0 });
  expect(seen.at(-1)).toBe(0);
  using stock = await StockSqlite.open(readFileSync(at("backup.db")));
  expect(stock.run("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
  expect(stock.run("SELECT count(*) AS n FROM item")).toEqual([{ n: 10 }]);
  connection.close();
  await expect(connection.backup(at("closed.db"))).rejects.toThrow("not open");
});

describe("a destination that cannot be written", () => {
  test.each([
    ["none/out.db", "FILE_NOT_FOUND", "no such file or directory (ENOENT)"],
    ["plain/out.db", "IO", "a part of the path is a file, not a directory (ENOTDIR)"],
    [`${"x".repeat(250)}.db`, "IO", "the name is longer than the system allows (ENAMETOOLONG)"],
    ["directory", "FILE_EXISTS", "that is a directory; give the name of a file in it"],
    ["new/", "FILE_EXISTS", "that is a directory; give the name of a file in it"],
  ])("%s is named as it was given", async (name, code, fact) => {
    writeFileSync(at("plain"), "mine");
    mkdirSync(at("directory"));
    const before = readdirSync(directory);
    const path = join(directory, "/") + name;
    for (const overwrite of [false, true])
      await expect(store.exportFile("shop", path, { overwrite })).rejects.toMatchObject({
        code,
        message: `Cannot export to "${path}": ${fact}`,
      });
    expect(readdirSync(directory)).toEqual(before);
  });

  test("that is no file is not replaced by one", async () => {
    const server = createServer().listen(at("socket"));
    await once(server, "listening");
    await expect(store.exportFile("shop", at("socket"), { overwrite: true })).rejects.toMatchObject(
      { code: "FILE_EXISTS" },
    );
    expect(statSync(at("socket")).isSocket()).toBe(true);
    server.close();
    await expect(store.exportFile("shop", "")).rejects.toThrow('to "": a file has a name');
  });
});
