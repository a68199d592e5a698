/** Options that a call does not have are refused: those that are passed over make it do something else than was meant. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import BetterSqlite3 from "../src/better-sqlite3.ts";
import {
  checkStore,
  convertStore,
  openStore,
  openStoreAsync,
  OptionError,
  repairStore,
  restoreStore,
  Store,
} from "../src/index.ts";
import type { ThreadedStore } from "../src/threads/threaded-store.ts";

let directory: string;
const at = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-options-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** As a program without types would give them. */
const untyped = (options: unknown): never => options as never;

function refusal(call: string, given: string, meant: string): object {
  return expect.objectContaining({
    name: "OptionError",
    code: "OPTION_UNKNOWN",
    message: `Cannot use option "${given}" of ${call}: there is none; did you mean "${meant}"?`,
  });
}

/** The error of a call, however it fails. */
async function errorOf(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("The call was accepted");
}

describe("openStore", () => {
  test.each([
    ["keyfile", "keyFile"],
    ["key_file", "keyFile"],
    ["Key", "key"],
    ["treads", "threads"],
    ["cacheBytes", "cacheBytesMax"],
    ["durabilty", "durability"],
  ])("refuses the option %s, and makes no store", async (given, meant) => {
    for (const open of [openStore, openStoreAsync])
      expect(await errorOf(() => open(at("store"), untyped({ [given]: "x" })))).toEqual(
        refusal("openStore", given, meant),
      );
    expect(existsSync(at("store"))).toBe(false);
  });

  test("names all options when none is near", async () => {
    const error = await errorOf(() => openStore(at("store"), untyped({ zzzzzzzzz: 1 })));
    expect(error).toBeInstanceOf(OptionError);
    expect(error).toBeInstanceOf(TypeError);
    expect(String(error)).toMatch(/: there is none; it has create, backend, key, /);
  });

  test.each([
    [{ threads: "4" }, 'Option "threads": "4" is not a whole number from 1 to 64'],
    [{ threads: null }, 'Option "threads": null is not a whole number from 1 to 64'],
    [{ partitions: "2" }, 'Option "partitions": "2" is not a whole number from 1 to 256'],
    [{ create: "no" }, 'Option "create": "no" is not true or false'],
    [{ key: 5 }, 'Option "key": a number is not a text or bytes'],
    [{ key: null }, 'Option "key": null is not a text or bytes'],
    [{ key: {} }, 'Option "key": an object is not a text or bytes'],
    [{ keyFile: null }, 'Option "keyFile": null is not the path of a file'],
    [{ create: null }, 'Option "create": null is not true or false'],
    [{ keyFile: 5 }, 'Option "keyFile": 5 is not the path of a file'],
    [{ durability: 2 }, 'Option "durability": 2 is not one of full, normal, off, remote'],
    [{ backend: ["lmdb"] }, 'Option "backend": a list is not one of lmdb, leveldb, memory'],
    [{ cacheBytesMax: "64MB" }, 'Option "cacheBytesMax": "64MB" is not a number of bytes'],
    [{ cacheBytesMax: 64n }, 'Option "cacheBytesMax": 64n is not a number of bytes'],
    [{ gcRatio: "1" }, 'Option "gcRatio": "1" is not above 0 and at most 10'],
    [{ remote: 5 }, 'Option "remote": 5 is not a URL or an object'],
    [{ now: 5 }, 'Option "now": 5 is not a function'],
    [{ environment: "x" }, 'Option "environment": "x" is not an object'],
  ])("refuses %o, and makes no store", async (options, message) => {
    const error = await errorOf(() => openStore(at("store"), untyped(options)));
    expect([String(error), existsSync(at("store"))]).toEqual([
      expect.stringMatching(/^(?:Type|Range)Error: /),
      false,
    ]);
    expect((error as Error).message).toBe(message);
  });

  test("takes options that are there and undefined", async () => {
    await openStore(at("store"), untyped({ threads: undefined, keyFile: undefined })).close();
    expect(existsSync(at("store"))).toBe(true);
  });

  test("wants an object", async () => {
    expect(await errorOf(() => openStore(at("store"), untyped("key")))).toEqual(
      new TypeError('Cannot use "key" as options of openStore: it is no object'),
    );
    await errorOf(() => openStore(at("store"), untyped(null)));
    expect(existsSync(at("store"))).toBe(false);
  });
});

describe.each(["one partition", "two partitions", "threads"])("a store with %s", (kind) => {
  let store: Store | ThreadedStore;

  beforeEach(async () => {
    store =
      kind === "threads"
        ? await openStoreAsync(at("store"), { threads: 1 })
        : openStore(at("store"), { partitions: kind === "one partition" ? 1 : 2 });
    await store.createDatabase("shop");
  });
  afterEach(async () => {
    await (store instanceof Store ? store.closeAsync() : store.close());
  });

  test("refuses options that a call does not have", async () => {
    const shop = await store.database("shop");
    const main = await shop.branch("main");
    const calls: [call: string, given: string, meant: string, run: (options: never) => unknown][] =
      [
        ["createDatabase", "pagesize", "pageSize", (o) => store.createDatabase("x", o)],
        ["a connection", "readOnly", "readonly", (o) => store.open("shop", o)],
        ["a connection", "busyTimeout", "busyTimeoutMs", (o) => store.open("shop", o)],
        ["transact", "retris", "retries", (o) => store.transact("shop", () => 1, o)],
        ["importFile", "onprogress", "onProgress", (o) => store.importFile("f", "shop", o)],
        ["exportFile", "overwite", "overwrite", (o) => store.exportFile("shop", at("x"), o)],
        ["check", "Deep", "deep", (o) => store.check(o)],
        ["scrub", "bytesPerSec", "bytesPerSecond", (o) => store.scrub(o)],
        ["gc", "dryrun", "dryRun", (o) => store.gc(o)],
        ["createBranch", "form", "from", (o) => shop.createBranch("dev", o)],
        ["createTag", "att", "at", (o) => shop.createTag("v1", o)],
        ["log", "limits", "limit", (o) => main.log(o)],
        ["reset", "too", "to", (o) => main.reset(o)],
        ["restore", "preserveas", "preserveAs", (o) => main.restore(o)],
      ];
    if (store instanceof Store) {
      const plain = store;
      calls.push(["a connection", "readOnly", "readonly", (o) => plain.connect("shop", o)]);
      calls.push(["outcome", "startAt", "startedAt", (o) => plain.outcome("0".repeat(32), o)]);
      calls.push(["gcAsync", "onProgres", "onProgress", (o) => plain.gcAsync(o)]);
    }
    for (const [call, given, meant, run] of calls)
      expect(await errorOf(() => run(untyped({ [given]: true }))), call).toEqual(
        refusal(call, given, meant),
      );
    expect((await shop.branches()).map(({ name }) => name)).toEqual(["main"]);
    expect(existsSync(at("x"))).toBe(false);
  });

  test("refuses values that a connection cannot have", async () => {
    expect(await errorOf(() => store.open("shop", untyped({ readonly: "yes" })))).toEqual(
      new TypeError('Option "readonly": "yes" is not true or false'),
    );
    expect(await errorOf(() => store.open("shop", untyped({ durability: "fast" })))).toEqual(
      new TypeError('Option "durability": "fast" is not one of full, normal, off, remote'),
    );
  });
});

test("functions on stores that are not open refuse them too", async () => {
  openStore(at("store")).close();
  const path = at("store");
  for (const [call, given, meant, run] of [
    ["checkStore", "depp", "deep", (o: never) => checkStore(path, o)],
    ["repairStore", "truncatelog", "truncateLog", (o: never) => repairStore(path, o)],
    ["convertStore", "backends", "backend", (o: never) => convertStore(path, o)],
    ["restoreStore", "verfy", "verify", (o: never) => restoreStore("file:///x", at("new"), o)],
  ] as const)
    expect(await errorOf(() => run(untyped({ [given]: true })))).toEqual(
      refusal(call, given, meant),
    );
  expect((await checkStore(path, { deep: true })).problems).toEqual([]);
  expect((await repairStore(path)).report.problems).toEqual([]);
});

describe("the drop-in for better-sqlite3", () => {
  test("takes what better-sqlite3 takes, and what it passes over", () => {
    const db = new BetterSqlite3(
      at("app.db"),
      untyped({
        readonly: false,
        fileMustExist: false,
        timeout: 100,
        verbose: null,
        nativeBinding: "x.node",
        readonyl: true,
        client: "knex",
      }),
    );
    expect(db.prepare("SELECT 1 AS one").get()).toEqual({ one: 1 });
    db.close();
  });

  test.each([
    [{ storeoptions: {} }, 'Cannot use option "storeoptions": there is none; did you mean "store'],
    [{ Store: "data" }, 'Cannot use option "Store": there is none; did you mean "store"?'],
    [{ durabilty: "off" }, 'did you mean "durability"?'],
    [{ key: "0".repeat(64) }, 'Cannot use option "key" here: it is of the store; write { storeOp'],
    [{ keyFile: "key" }, "write { storeOptions: { keyFile } }"],
    [{ storeOptions: { keyfile: "x" } }, 'option "keyfile" of openStore: there is none; did you'],
  ])("refuses %o, which is meant for bough, and makes no store", (options, message) => {
    expect(() => new BetterSqlite3(at("app.db"), untyped(options))).toThrow(message);
    expect(existsSync(at("app.db"))).toBe(false);
  });
});
