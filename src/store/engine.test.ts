import { describe, expect, test } from "vitest";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { resolveOptions } from "./store-options.ts";
import { openStore, type Store } from "./store.ts";

/** Something happens between the look at an empty directory and the taking of its lock. */
class RacedStorage extends SimulatedStorage {
  rival: (() => void) | null = null;

  override makeDirectorySync(path: string): void {
    super.makeDirectorySync(path);
    const { rival } = this;
    if (path !== "" || rival === null) return;
    this.rival = null;
    rival();
  }
}

function open(storage: SimulatedStorage): Store {
  return openStore("", { storage, backend: "memory" });
}

describe("opening a store", () => {
  test("that another process made meanwhile opens theirs, instead of writing a header over it", () => {
    const storage = new RacedStorage();
    storage.rival = () => {
      const theirs = open(storage);
      theirs.createDatabase("theirs");
      theirs.close();
    };
    const store = open(storage);
    expect(store.databases().map(({ name }) => name)).toEqual(["theirs"]);
    store.close();
  });

  test("twice is refused, and after a close is not", () => {
    const storage = new SimulatedStorage();
    const store = open(storage);
    expect(() => open(storage)).toThrow(expect.objectContaining({ code: "STORE_LOCKED" }));
    store.close();
    open(storage).close();
  });

  test("where there is none is refused without create, and makes nothing", () => {
    const storage = new SimulatedStorage();
    expect(() => openStore("", { storage, create: false })).toThrow(
      expect.objectContaining({ code: "STORE_NOT_FOUND" }),
    );
    expect(storage.listSync("")).toEqual([]);
  });

  test("in a directory with other files is refused, and leaves them alone", () => {
    const storage = new SimulatedStorage();
    storage.openFileSync("notes.txt", { mode: "create" }).closeSync();
    expect(() => open(storage)).toThrow(
      'the directory holds other files, "notes.txt" among them, and no "store.json"',
    );
    expect(storage.listSync("")).toEqual(["notes.txt"]);
  });

  test("that another process began to make, or was killed making, is not taken for other files", () => {
    const storage = new SimulatedStorage();
    for (const name of ["lock.1f2e", "lock.takeover-3d", "store.json.new"])
      storage.openFileSync(name, { mode: "create" }).closeSync();
    const store = open(storage);
    expect(store.databases()).toEqual([]);
    store.close();
    const other = new SimulatedStorage();
    other.openFileSync("lockers", { mode: "create" }).closeSync();
    expect(() => open(other)).toThrow('"lockers" among them');
  });

  test("with a damaged header gives the lock back", () => {
    const storage = new SimulatedStorage();
    open(storage).close();
    storage.flipBit("store.json", 100);
    const isDamaged = expect.objectContaining({ code: "CORRUPT_HEADER" });
    expect(() => open(storage)).toThrow(isDamaged);
    expect(() => open(storage)).toThrow(isDamaged);
    storage.flipBit("store.json", 100);
    open(storage).close();
  });
});

describe("a closed store", () => {
  test("answers nothing, and closes again without effect", () => {
    const store = open(new SimulatedStorage());
    const shop = store.createDatabase("shop");
    const connection = store.connect("shop");
    const branch = shop.branch();
    store.close();
    store.close();
    expect(store.isOpen).toBe(false);
    expect(connection.open).toBe(false);
    const isClosed = expect.objectContaining({ code: "STORE_CLOSED" });
    for (const use of [
      () => store.databases(),
      () => store.connect("shop"),
      () => store.createDatabase("x"),
      () => store.checkpoint(),
      () => shop.branches(),
      () => branch.head,
      () => branch.log(),
      () => branch.protect(),
    ])
      expect(use).toThrow(isClosed);
  });

  test("is one that no statement runs on", () => {
    const store = open(new SimulatedStorage());
    store.createDatabase("shop");
    const connection = store.connect("shop");
    connection.exec("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)");
    const rows = connection.prepare("SELECT a FROM t").iterate();
    rows.next();
    expect(() => store.close()).toThrow(
      expect.objectContaining({ code: "BRANCH_BUSY", retryable: true }),
    );
    expect(rows.next().done).toBe(false);
    rows.return?.();
    store.close();
  });
});

describe("the clock", () => {
  test("may have fractions of milliseconds, which a reopen does not stumble over", () => {
    const storage = new SimulatedStorage();
    const now = (): number => 1_763_600_000_000.75;
    let store = openStore("", { storage, backend: "memory", now });
    store.createDatabase("shop");
    store.connect("shop").exec("CREATE TABLE t(a)");
    store = openStore("", { storage: storage.copyAfterCrash(new Random(1)), now });
    expect(store.database("shop").branch().head.timestamp.getTime()).toBe(1_763_600_000_000);
    store.close();
  });

  test("that gives no time is refused when it is asked", () => {
    for (const time of [NaN, -1, Infinity])
      expect(() =>
        openStore("", { storage: new SimulatedStorage(), backend: "memory", now: () => time }),
      ).toThrow(RangeError);
  });
});

describe("options", () => {
  test.each([
    [{ chunkPages: 0 }, RangeError, 'Option "chunkPages": 0 is not from 1 to 64'],
    [{ chunkPages: 65 }, RangeError, 'Option "chunkPages": 65 is not from 1 to 64'],
    [{ chunkPages: 1.5 }, RangeError, 'Option "chunkPages": 1.5 is not from 1 to 64'],
    [{ cacheBytesMax: -1 }, RangeError, 'Option "cacheBytesMax": -1 is not a number of bytes'],
    [
      { checkpointBytes: NaN },
      RangeError,
      'Option "checkpointBytes": NaN is not a number of bytes',
    ],
  ])("%o is refused", (options, type, message) => {
    expect(() => resolveOptions(options)).toThrow(type);
    expect(() => resolveOptions(options)).toThrow(message);
  });

  test("with names that do not exist are refused with those that do", () => {
    const asOptions = (value: object): object => value;
    expect(() => resolveOptions(asOptions({ backend: "rocks" }))).toThrow(
      'Option "backend": "rocks" is not one of lmdb, leveldb, memory',
    );
    expect(() => resolveOptions(asOptions({ durability: "maybe" }))).toThrow(
      'Option "durability": "maybe" is not one of full, normal, off',
    );
    expect(() => resolveOptions(asOptions({ compression: "zip" }))).toThrow(TypeError);
  });

  test("have the defaults that they are said to have", () => {
    const { now, ...rest } = resolveOptions({});
    expect(now).toBe(Date.now);
    expect(rest).toMatchObject({
      create: true,
      backend: "lmdb",
      durability: "full",
      cacheBytesMax: 64 * 2 ** 20,
      checkpointBytes: 32 * 2 ** 20,
      transactionBytesMax: 16 * 2 ** 20,
      logSegmentBytes: 16 * 2 ** 20,
      chunkPages: 64,
    });
  });
});

test("a key for a store that is not encrypted is refused, not ignored", () => {
  const storage = new SimulatedStorage();
  openStore("", { storage, backend: "memory" }).close();
  expect(() => openStore("", { storage, key: Buffer.alloc(32, 1) })).toThrow(
    expect.objectContaining({ code: "KEY_WRONG" }),
  );
  openStore("", { storage }).close();
});

test("a close whose checkpoint finds the disk full gives the store back whole", () => {
  const storage = new SimulatedStorage();
  const store = openStore("", { storage, backend: "memory" });
  store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE item (id); INSERT INTO item VALUES (1)");
  const path = (name: string): boolean => name.startsWith("chunks/");
  storage.failAt({ path, kinds: ["write"], count: 1, systemCode: "ENOSPC", forever: true });
  store.close();
  storage.clearFaults();
  using again = openStore("", { storage });
  expect(again.connect("shop").prepare("SELECT id FROM item").pluck().all()).toEqual([1]);
});

test("a key in the environment is for the stores that are encrypted", () => {
  const environment = { BOUGH_KEY: "ab".repeat(32) };
  const plain = new SimulatedStorage();
  openStore("", { storage: plain, backend: "memory", environment: {} }).close();
  openStore("", { storage: plain, environment }).close();
  const encrypted = new SimulatedStorage();
  openStore("", { storage: encrypted, backend: "memory", environment }).close();
  expect(() => openStore("", { storage: encrypted, environment: {} })).toThrow(
    expect.objectContaining({ code: "KEY_REQUIRED" }),
  );
});
