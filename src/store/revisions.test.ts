/** Revisions, names and commit logs of a store, on a simulated disk and with a clock of its own. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StoreError, type StoreErrorCode } from "../errors.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import type { Database } from "./database.ts";
import { openStore, type Store } from "./store.ts";

const START = Date.parse("2026-11-20T10:00:00Z");
const MINUTE = 60_000;

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

/** Makes a commit that sets the branch's value, a minute after the one before. Returns its version. */
function write(branch: string, value: string): number {
  nowMs += MINUTE;
  const connection = store.connect(`shop/${branch}`);
  connection.transaction(() => {
    connection.exec("CREATE TABLE IF NOT EXISTS t(value)");
    connection.exec("DELETE FROM t");
    connection.prepare("INSERT INTO t VALUES (?)").run(value);
  })();
  connection.close();
  return shop.branch(branch).head.version;
}

/** The value that a revision reads; null where there is no table yet. */
function read(revision: string): unknown {
  const connection = store.connect(revision);
  const hasTable = connection.prepare("SELECT 1 FROM sqlite_schema").get() !== undefined;
  const value = hasTable ? connection.prepare("SELECT value FROM t").pluck().get() : null;
  connection.close();
  return value;
}

function at(offsetMinutes: number): string {
  return new Date(START + offsetMinutes * MINUTE).toISOString();
}

function code(expected: StoreErrorCode): object {
  return expect.objectContaining({ code: expected });
}

/** What each version of a branch reads; "-" where the branch does not have it. */
function readVersions(branch: string, versions: readonly number[]): unknown[] {
  return versions.map((version) => {
    try {
      return read(`${branch}@${version}`);
    } catch (error) {
      if (error instanceof StoreError && error.code === "VERSION_NOT_FOUND") return "-";
      throw error;
    }
  });
}

/** Runs the check on what is in memory, after a checkpoint, and after a reopen. */
function inEveryState(check: () => void): void {
  check();
  store.checkpoint();
  check();
  reopen();
  check();
}

describe("a version", () => {
  test("is a commit of the branch or of what it was forked from, no other", () => {
    write("main", "a"); // 1
    write("main", "b"); // 2
    shop.createBranch("dev", { from: "shop@1" });
    write("main", "c"); // 3
    write("dev", "x"); // 4
    write("main", "d"); // 5
    write("dev", "y"); // 6
    inEveryState(() => {
      expect(readVersions("shop", [1, 2, 3, 4, 5, 6])).toEqual(["a", "b", "c", "-", "d", "-"]);
      expect(readVersions("shop/dev", [1, 2, 3, 4, 5, 6])).toEqual(["a", "-", "-", "x", "-", "y"]);
    });
  });

  test("before a reset is what the branch was before, after it what it became", () => {
    for (const value of ["a", "b", "c"]) write("main", value); // 1 to 3
    const backup = shop.branch("main").restore({ to: "shop@1", preserveAs: "old" });
    write("main", "d"); // 4
    write("old", "e"); // 5
    expect(backup.name).toBe("old");
    inEveryState(() => {
      expect(readVersions("shop", [1, 2, 3, 4, 5])).toEqual(["a", "b", "c", "d", "-"]);
      expect(readVersions("shop/old", [1, 2, 3, 4, 5])).toEqual(["a", "b", "c", "-", "e"]);
    });
  });

  test("that the log lists is that commit, also where the branch was something else then", () => {
    write("main", "a"); // 1
    shop.createBranch("dev");
    write("main", "b"); // 2
    write("dev", "x"); // 3
    write("main", "c"); // 4
    shop.branch("dev").reset({ to: "shop" });
    inEveryState(() => {
      expect(
        shop
          .branch("dev")
          .log()
          .map(({ version }) => version),
      ).toEqual([4, 2, 1]);
      expect(readVersions("shop/dev", [4, 2, 1])).toEqual(["c", "b", "a"]);
      expect(read("shop/dev@3")).toBe("x"); // What a reset left behind stays in reach.
    });
  });

  test("that was the head before a reset undoes the reset, also when it came from a reset itself", () => {
    write("main", "a"); // 1
    shop.createBranch("dev");
    write("main", "b"); // 2
    write("main", "c"); // 3
    write("dev", "x"); // 4
    shop.branch("dev").reset({ to: "shop@2" });
    shop.branch("dev").reset({ to: "shop@1" });
    inEveryState(() => {
      expect(readVersions("shop/dev", [1, 2, 3, 4])).toEqual(["a", "b", "-", "x"]);
    });
  });

  test("of a fork of a reset branch reads through both", () => {
    for (const value of ["a", "b", "c"]) write("main", value); // 1 to 3
    shop.branch("main").reset({ to: "shop@1" });
    shop.createBranch("before", { from: "shop@3" });
    shop.createBranch("after");
    write("after", "x"); // 4
    write("before", "y"); // 5
    inEveryState(() => {
      expect(read("shop")).toBe("a");
      expect(readVersions("shop/before", [1, 3, 4, 5])).toEqual(["a", "c", "-", "y"]);
      expect(readVersions("shop/after", [1, 4, 5])).toEqual(["a", "x", "-"]);
    });
  });

  test("that another branch has is answered with that branch, and with what is here before it", () => {
    shop.createBranch("dev");
    write("dev", "x"); // 1
    write("main", "a"); // 2
    write("dev", "y"); // 3
    inEveryState(() => {
      expect(() => store.connect("shop@1")).toThrow(
        'Cannot find version 1 of "shop/main": it is a commit of "shop/dev", so use "shop/dev@1"; this branch has none before it',
      );
      expect(() => store.connect("shop@3")).toThrow(
        'it is a commit of "shop/dev", so use "shop/dev@3"; this branch\'s newest version before it is 2',
      );
    });
    shop.branch("dev").delete();
    expect(() => store.connect("shop@3")).toThrow("no living branch has that commit");
  });

  test("a branch of an empty one can be written", () => {
    shop.createBranch("empty");
    expect(shop.branch("empty").head.version).toBe(0);
    write("empty", "z");
    reopen();
    expect(read("shop/empty")).toBe("z");
  });

  test("that is not there is answered with the versions that are", () => {
    expect(() => store.connect("shop@1")).toThrow(
      expect.objectContaining({
        code: "VERSION_NOT_FOUND",
        message: 'Cannot find version 1 of "shop/main": it has no versions yet',
      }),
    );
    write("main", "a");
    write("main", "b");
    expect(() => store.connect("shop@3")).toThrow(
      'Cannot find version 3 of "shop/main": its versions go from 1 to 2',
    );
    expect(() => store.connect("shop@0")).toThrow(code("REVISION_INVALID"));
  });
});

describe("a time", () => {
  test("before a reset is what the branch was, also when the clock went back before the reset", () => {
    write("main", "a");
    nowMs += 60_000;
    write("main", "b");
    nowMs += 60_000;
    const time = new Date(nowMs).toISOString();
    nowMs += 1;
    write("main", "c");
    nowMs -= 90_000;
    shop.branch("main").reset({ to: "shop@1" });
    nowMs += 200_000;
    inEveryState(() => {
      expect(read(`shop@${time}`)).toBe("b");
      expect(read("shop")).toBe("a");
    });
  });

  test("is the newest commit at or before it, through forks and resets", () => {
    write("main", "a"); // minute 1
    write("main", "b"); // minute 2
    nowMs += MINUTE;
    shop.createBranch("dev", { from: "shop@1" }); // minute 3
    write("dev", "x"); // minute 4
    nowMs += MINUTE;
    shop.branch("main").reset({ to: "shop@1" }); // minute 5
    write("main", "c"); // minute 6
    inEveryState(() => {
      expect([1, 1.5, 2, 4.9, 5, 5.5, 6].map((minute) => read(`shop@${at(minute)}`))).toEqual([
        "a",
        "a",
        "b",
        "b",
        "a",
        "a",
        "c",
      ]);
      expect([1, 2, 3.5, 4, 6].map((minute) => read(`shop/dev@${at(minute)}`))).toEqual([
        "a",
        "a",
        "a",
        "x",
        "x",
      ]);
    });
    expect(read("shop@-0s")).toBe("c");
    expect(read("shop@-1m")).toBe("a");
    expect(read("shop@-2m")).toBe("b");
    expect(read("shop/dev@-5m")).toBe("a");
  });

  test("of many commits over many checkpoints is found", () => {
    for (let round = 0; round < 30; round++) {
      write("main", `v${round}`);
      if (round % 7 === 3) store.checkpoint();
    }
    nowMs += MINUTE;
    reopen();
    for (let round = 0; round < 30; round++)
      expect(read(`shop@${at(round + 1.5)}`), `round ${round}`).toBe(`v${round}`);
  });

  test("in the future, or before the first commit, is not found", () => {
    write("main", "a");
    expect(() => store.connect(`shop@${at(2)}`)).toThrow(
      `Cannot find its state at ${at(2)} of "shop/main": that is in the future`,
    );
    expect(() => store.connect(`shop@${at(0.5)}`)).toThrow(
      expect.objectContaining({
        code: "VERSION_NOT_FOUND",
        message: `Cannot find its state at ${at(0.5)} of "shop/main": its history begins later; the newest commit is version 1 of ${at(1)}`,
      }),
    );
    for (const time of ["-14800000w", "-100000d", "1960-01-01T00:00:00Z"])
      expect(() => store.connect(`shop@${time}`), time).toThrow("its history begins later");
    store.createDatabase("empty");
    expect(() => store.connect("empty@-5m")).toThrow("it has no commits yet");
  });

  test("never goes back with the clock", () => {
    write("main", "a"); // minute 1
    nowMs -= 10 * MINUTE;
    write("main", "b"); // the clock says minute -8
    const [second, first] = shop.branch().log();
    expect(second!.timestamp).toEqual(first!.timestamp);
    nowMs += 20 * MINUTE;
    expect(read(`shop@${at(1)}`)).toBe("b");
  });
});

describe("a tag", () => {
  test("names one commit for ever, of any branch", () => {
    write("main", "a");
    shop.createBranch("dev");
    write("dev", "x");
    const tag = shop.createTag("v1", { at: "shop/dev" });
    expect(tag).toEqual({ name: "v1", version: 2, createdAt: new Date(nowMs) });
    write("dev", "y");
    shop.branch("dev").delete();
    inEveryState(() => {
      expect(read("shop@v1")).toBe("x");
      expect(read("shop/main@v1")).toBe("x");
    });
    shop.createBranch("again", { from: "@v1" });
    expect(read("shop/again")).toBe("x");
  });

  test("is made once, deleted, and made again", () => {
    write("main", "a");
    shop.createTag("v1");
    shop.createTag("v2", { at: "@1" });
    expect(() => shop.createTag("v1")).toThrow(
      'Cannot create tag "shop@v1": it exists; delete it first or choose another name',
    );
    shop.deleteTag("v1");
    write("main", "b");
    shop.createTag("v1");
    inEveryState(() => {
      expect(shop.tags().map(({ name, version }) => [name, version])).toEqual([
        ["v1", 2],
        ["v2", 1],
      ]);
    });
    shop.deleteTag("v2");
    reopen();
    expect(() => store.connect("shop@v2")).toThrow('Cannot find tag "shop@v2": did you mean "v1"?');
    expect(() => shop.deleteTag("v2")).toThrow(code("TAG_NOT_FOUND"));
  });
});

describe("the log of a branch", () => {
  const versions = (branch: string, options = {}): (number | null)[][] =>
    shop
      .branch(branch)
      .log(options)
      .map(({ version, parent }) => [version, parent]);

  test("goes back through forks and resets, newest first", () => {
    for (const value of ["a", "b", "c"]) write("main", value); // 1 to 3
    shop.createBranch("dev", { from: "shop@2" });
    write("dev", "x"); // 4
    shop.createBranch("deep", { from: "shop/dev" });
    write("deep", "y"); // 5
    shop.branch("main").reset({ to: "shop@1" });
    write("main", "d"); // 6
    inEveryState(() => {
      expect(versions("deep")).toEqual([
        [5, 4],
        [4, 2],
        [2, 1],
        [1, null],
      ]);
      expect(versions("main")).toEqual([
        [6, 1],
        [1, null],
      ]);
      expect(versions("deep", { limit: 2 })).toEqual([
        [5, 4],
        [4, 2],
      ]);
      expect(versions("deep", { limit: 4 })).toHaveLength(4);
      expect(versions("deep", { limit: 0 })).toEqual([]);
      expect(versions("deep", { before: 4 })).toEqual([
        [4, 2],
        [2, 1],
        [1, null],
      ]);
      expect(versions("deep", { before: 3, limit: 1 })).toEqual([[2, 1]]);
      expect(versions("deep", { before: 0 })).toEqual([]);
    });
  });

  test("says which branch made a commit, by its name now", () => {
    write("main", "a"); // 1
    shop.createBranch("dev");
    write("dev", "x"); // 2
    shop.branch("dev").rename("work");
    inEveryState(() => {
      expect(
        shop
          .branch("work")
          .log()
          .map((commit) => commit.branch),
      ).toEqual(["work", "main"]);
    });
  });

  test("keeps main's commits main's after a restore", () => {
    write("main", "a"); // 1
    write("main", "b"); // 2
    shop.branch().restore({ to: "shop@1", preserveAs: "old" });
    write("old", "c"); // 3
    write("main", "d"); // 4
    inEveryState(() => {
      const made = (branch: string): unknown[] =>
        shop
          .branch(branch)
          .log()
          .map((commit) => [commit.version, commit.branch]);
      expect(made("main")).toEqual([
        [4, "main"],
        [1, "main"],
      ]);
      expect(made("old")).toEqual([
        [3, "old"],
        [2, "main"],
        [1, "main"],
      ]);
    });
  });

  test("tells time, size, and the pages that changed", () => {
    write("main", "a");
    inEveryState(() => {
      expect(shop.branch().log()).toEqual([
        {
          version: 1,
          timestamp: new Date(START + MINUTE),
          pageCount: 2,
          changedPages: 2,
          branch: "main",
          parent: null,
        },
      ]);
    });
    expect(store.createDatabase("empty").branch().log()).toEqual([]);
  });
});
