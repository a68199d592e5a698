/**
 * What every version reads, before and after checkpoints, key rotations and reopening: the pages of each commit are
 * hashed when it is made, out of memory, and compared later, out of page maps, chunks and history segments.
 */
import { createHash } from "node:crypto";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { headOf, resolveRevision } from "../src/store/resolve-revision.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { Snapshot } from "../src/transaction/snapshot.ts";
import { Random } from "../src/testing/random.ts";

let directories: string[] = [];
afterEach(() => {
  for (const directory of directories) fs.rmSync(directory, { recursive: true, force: true });
  directories = [];
});

const KEY = "11".repeat(32);
const NEW_KEY = "22".repeat(32);

/** A store under test and what its versions must read. */
class Recorded {
  store: Store;
  readonly #path: string;
  #options: StoreOptions;
  /** Snapshots that somebody goes on reading, until the store is closed. */
  #held: { readonly snapshot: Snapshot; readonly hash: string }[] = [];
  /** By revision, for example "shop/dev@12". */
  readonly hashes: Map<string, string> = new Map();

  constructor(options: StoreOptions) {
    this.#path = fs.mkdtempSync(join(tmpdir(), "bough-history-"));
    directories.push(this.#path);
    this.#options = { durability: "off", ...options };
    this.store = openStore(this.#path, this.#options);
  }

  /** Runs statements on a branch, and notes what each commit reads. */
  write(branch: string, ...statements: string[]): void {
    const connection = this.store.connect(`shop/${branch}`);
    for (const sql of statements) {
      connection.exec(sql);
      this.note(branch);
    }
    connection.close();
  }

  note(branch: string): void {
    const { database, branch: row } = resolveRevision(this.store.engine, `shop/${branch}`);
    const snapshot = headOf(database, row);
    if (snapshot.version === 0) return;
    const hash = hashOfPages(snapshot);
    this.hashes.set(`shop/${branch}@${snapshot.version}`, hash);
    this.#held.push({ snapshot, hash });
  }

  /** Also what a fork reads below its fork point. */
  fork(name: string, from: string): void {
    const expected = hashOf(this.store, from);
    this.store.database("shop").createBranch(name, { from });
    expect(hashOf(this.store, `shop/${name}`), `${name} from ${from}`).toBe(expected);
    this.note(name);
  }

  verify(): void {
    for (const [revision, hash] of this.hashes)
      expect(hashOf(this.store, revision), revision).toBe(hash);
    for (const { snapshot, hash } of this.#held)
      expect(hashOfPages(snapshot), `held version ${snapshot.version}`).toBe(hash);
  }

  reopen(options: StoreOptions = {}): void {
    this.#held = [];
    this.store.close();
    this.#options = { ...this.#options, ...options };
    this.store = openStore(this.#path, this.#options);
  }

  tryOpen(options: StoreOptions): void {
    openStore(this.#path, options).close();
  }

  connect<T>(revision: string, use: (connection: StoreConnection) => T): T {
    const connection = this.store.connect(revision);
    try {
      return use(connection);
    } finally {
      connection.close();
    }
  }

  isSound(revision: string): boolean {
    return this.connect(revision, (connection) => {
      return connection.pragma("integrity_check", { simple: true }) === "ok";
    });
  }
}

function hashOf(store: Store, revision: string): string {
  const { database, branch, snapshot } = resolveRevision(store.engine, revision);
  return hashOfPages(snapshot ?? headOf(database, branch));
}

/** Does not say that it keeps the pages, so that their memory may be written again as soon as the engine thinks it may. */
function hashOfPages(snapshot: Snapshot): string {
  const { pageCount } = snapshot;
  const hash = createHash("sha256");
  for (let number = 1; number <= pageCount; number++) hash.update(snapshot.peek(number));
  return `${pageCount} pages ${hash.digest("hex")}`;
}

const CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, value TEXT, filler BLOB)";

function insert(count: number, size: number): string {
  return `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})
    INSERT INTO t(value, filler) SELECT 'row ' || i, randomblob(${size}) FROM n`;
}

/** One random statement, small or large, growing or shrinking. */
function randomStatement(random: Random): string {
  switch (random.integer(0, 11)) {
    case 0:
      return insert(random.integer(1, 40), random.integer(0, 900));
    case 1:
      return `DELETE FROM t WHERE id % ${random.integer(2, 5)} = 0`;
    case 2:
      return "VACUUM";
    case 3:
      return "DELETE FROM t";
    case 4:
      return `UPDATE t SET filler = zeroblob(${random.integer(0, 2000)}) WHERE id % 7 = 1`;
    case 5:
      return insert(1, random.integer(10_000, 40_000));
    case 6: // Pages that were allocated and freed in one transaction are never written: holes.
      return `BEGIN; ${insert(60, 700)}; DELETE FROM t WHERE id > 20; ${insert(1, 9)}; COMMIT`;
    case 7:
      return `BEGIN; ${insert(5, 5)}; SAVEPOINT s; ${insert(90, 500)}; ROLLBACK TO s; COMMIT`;
    default:
      return `UPDATE t SET value = 'changed ${random.integer(0, 999)}' WHERE id % 11 = ${random.integer(0, 10)}`;
  }
}

interface Case extends StoreOptions {
  readonly name: string;
  readonly pageSize?: number;
  readonly seed: number;
}

const STEPS = process.env["BOUGH_TEST_LONG"] === undefined ? 60 : 600;

const cases: Case[] = [
  { name: "defaults with 512-byte pages", pageSize: 512, seed: 1 },
  { name: "pages of 65536 bytes", pageSize: 65536, seed: 2 },
  { name: "pages of 1024 bytes, one in a chunk", pageSize: 1024, chunkPages: 1, seed: 3 },
  { name: "no compression, three pages in a chunk", compression: "none", chunkPages: 3, seed: 4 },
  { name: "encryption", key: KEY, seed: 5 },
  { name: "the memory backend", backend: "memory", seed: 6 },
  { name: "a checkpoint running all the time", checkpointBytes: 1, pageSize: 2048, seed: 7 },
  { name: "checkpoints every 20 KB", checkpointBytes: 20_000, seed: 8 },
  {
    name: "large transactions moved to chunks",
    transactionBytesMax: 8192,
    pageSize: 1024,
    seed: 9,
  },
  {
    name: "pages of 8192, encrypted, no cache",
    pageSize: 8192,
    key: KEY,
    cacheBytesMax: 0,
    seed: 10,
  },
  { name: "small log segments", logSegmentBytes: 16384, checkpointBytes: 100_000, seed: 11 },
];

describe.each(cases)("$name", ({ name: _name, pageSize, seed, ...options }) => {
  test("every version of every branch reads the same for ever", () => {
    const random = new Random(seed);
    const recorded = new Recorded(options);
    recorded.store.createDatabase("shop", pageSize === undefined ? {} : { pageSize });
    recorded.write("main", CREATE, insert(50, 100));
    const branches = ["main"];
    for (let step = 1; step <= STEPS; step++) {
      const branch = random.pick(branches);
      const dice = random.integer(0, 19);
      if (dice === 0) recorded.store.checkpoint();
      else if (dice === 1) recorded.reopen();
      else if (dice === 2) recorded.verify();
      else if (dice <= 4 && branches.length < 12) {
        const { version } = random.pick(recorded.store.database("shop").branch(branch).log());
        const from = `shop/${branch}@${version}`;
        // Versions of before the table are of no use to write to.
        if (recorded.connect(from, hasTable)) {
          recorded.fork(`fork-${step}`, from);
          branches.push(`fork-${step}`);
        }
      } else recorded.write(branch, randomStatement(random));
    }
    recorded.verify();
    recorded.store.checkpoint();
    recorded.verify();
    recorded.reopen();
    recorded.verify();
    for (const branch of branches) expect(recorded.isSound(`shop/${branch}`)).toBe(true);
    recorded.store.close();
  });
});

function hasTable(connection: StoreConnection): boolean {
  return connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 't'").get() !== undefined;
}

describe("forks", () => {
  test("of a fork of a fork without commits, before and after its first checkpoint", () => {
    const recorded = new Recorded({});
    recorded.store.createDatabase("shop");
    recorded.write("main", CREATE, insert(10, 10), insert(10, 10));
    recorded.fork("a", "shop@2");
    recorded.fork("b", "shop/a");
    recorded.fork("c", "shop/b");
    recorded.store.checkpoint();
    recorded.fork("d", "shop/c");
    recorded.reopen();
    recorded.fork("e", "shop/d");
    recorded.write("e", insert(3, 10));
    recorded.write("c", "DELETE FROM t");
    recorded.reopen();
    recorded.verify();
    expect(recorded.connect("shop/d", rowCount)).toBe(10);
    expect(recorded.connect("shop/e", rowCount)).toBe(13);
    expect(recorded.connect("shop/c", rowCount)).toBe(0);
    recorded.store.close();
  });

  test("from the middle of a child, before the child's first checkpoint and after it", () => {
    const recorded = new Recorded({});
    recorded.store.createDatabase("shop");
    recorded.write("main", CREATE, insert(10, 10)); // 1, 2
    recorded.store.checkpoint();
    recorded.fork("child", "shop");
    recorded.write("child", insert(1, 10), insert(1, 10), insert(1, 10)); // 3, 4, 5
    recorded.fork("early", "shop/child@4");
    recorded.write("early", insert(100, 10)); // 6
    recorded.store.checkpoint();
    recorded.fork("late", "shop/child@4");
    recorded.write("late", insert(1, 10)); // 7
    recorded.reopen();
    recorded.fork("later", "shop/child@3");
    recorded.fork("latest", "shop/late@7");
    recorded.verify();
    recorded.reopen();
    recorded.verify();
    const count = (revision: string): unknown => recorded.connect(revision, rowCount);
    expect(
      ["early", "late", "later", "latest", "child"].map((name) => count(`shop/${name}`)),
    ).toEqual([112, 13, 11, 13, 13]);
    recorded.store.close();
  });

  test("made and written while a checkpoint is under way", () => {
    const recorded = new Recorded({ checkpointBytes: 1 });
    recorded.store.createDatabase("shop", { pageSize: 512 });
    recorded.write("main", CREATE, insert(400, 200)); // starts a checkpoint, which goes on with each commit
    recorded.fork("during", "shop");
    recorded.write("during", insert(5, 5), "DELETE FROM t WHERE id % 2");
    recorded.write("main", insert(5, 5), insert(5, 5));
    recorded.fork("during-2", "shop/during");
    recorded.write("during-2", insert(5, 5));
    recorded.verify();
    recorded.store.checkpoint();
    recorded.verify();
    recorded.reopen();
    recorded.verify();
    recorded.store.close();
  });
});

describe("history", () => {
  test("of a page after hundreds of deltas, with and without a replay of the log before its checkpoint", () => {
    const recorded = new Recorded({});
    recorded.store.createDatabase("shop");
    recorded.write("main", CREATE, insert(20, 50));
    for (let round = 0; round < 300; round++)
      recorded.write(
        "main",
        `UPDATE t SET value = 'round ${round}' WHERE id = ${(round % 20) + 1}`,
      );
    recorded.reopen();
    recorded.verify();
    expect(
      recorded.connect("shop@150", (one) => one.prepare("SELECT max(rowid) FROM t").pluck().get()),
    ).toBe(20);
    recorded.store.close();
  });

  test("of a database that shrank and grew over the same pages", () => {
    const recorded = new Recorded({});
    recorded.store.createDatabase("shop", { pageSize: 512 });
    recorded.write("main", CREATE);
    for (let round = 0; round < 6; round++) {
      recorded.write("main", insert(100, 300), "DELETE FROM t", "VACUUM", insert(3, 3));
      if (round % 2 === 1) recorded.store.checkpoint();
    }
    recorded.fork("large", "shop@2");
    recorded.fork("small", "shop@4");
    recorded.write("small", insert(100, 300), "VACUUM");
    recorded.reopen();
    recorded.verify();
    for (const name of ["main", "large", "small"])
      expect(recorded.isSound(`shop/${name}`)).toBe(true);
    recorded.store.close();
  });

  test("of an encrypted store under two keys", () => {
    const recorded = new Recorded({ key: KEY, checkpointBytes: 10_000 });
    recorded.store.createDatabase("shop");
    recorded.write("main", CREATE, insert(100, 100), insert(1, 1));
    recorded.store.checkpoint();
    recorded.write("main", insert(2, 2), insert(2, 2));
    recorded.store.rotateKey(NEW_KEY);
    recorded.write("main", insert(50, 100), insert(2, 2));
    recorded.fork("old", "shop@2");
    recorded.write("old", insert(2, 2));
    recorded.verify();
    recorded.reopen({ key: NEW_KEY });
    recorded.verify();
    recorded.write("main", insert(2, 2));
    recorded.store.rotateKey(KEY);
    recorded.write("main", insert(2, 2));
    recorded.store.close();
    expect(() => recorded.tryOpen({ key: NEW_KEY })).toThrow(
      expect.objectContaining({ code: "KEY_WRONG" }),
    );
    expect(() => recorded.tryOpen({})).toThrow(expect.objectContaining({ code: "KEY_REQUIRED" }));
    recorded.reopen({ key: KEY });
    recorded.verify();
    recorded.store.close();
  });

  test("views and checkpoints do not keep the ones before them in memory", () => {
    const recorded = new Recorded({});
    const database = recorded.store.createDatabase("shop");
    recorded.write("main", CREATE);
    recorded.store.checkpoint();
    recorded.fork("dev", "shop");
    recorded.write("dev", insert(1, 1));
    recorded.store.checkpoint();
    for (const { timelines } of recorded.store.engine.state.databases.values())
      for (const { view } of timelines.values())
        expect(Object.keys(view.floor).sort()).toEqual(["pageCount", "timestampMs", "version"]);
    expect(database.version).toBe(2);
    recorded.store.close();
  });

  test("a large transaction whose pages the store has already, after a reopen", () => {
    const recorded = new Recorded({ transactionBytesMax: 16384 });
    recorded.store.createDatabase("shop", { pageSize: 1024 });
    recorded.write("main", CREATE, insert(200, 500));
    recorded.reopen();
    recorded.fork("copy", "shop@1");
    const rows = recorded.connect("shop", (one) => one.prepare("SELECT * FROM t").raw().all());
    recorded.connect("shop/copy", (copy) => {
      const statement = copy.prepare("INSERT INTO t VALUES (?, ?, ?)");
      copy.transaction(() => rows.forEach((row) => statement.run(row)))();
    });
    recorded.note("copy");
    recorded.reopen();
    recorded.verify();
    expect(recorded.connect("shop/copy", rowCount)).toBe(200);
    recorded.store.close();
  });
});

function rowCount(connection: StoreConnection): unknown {
  return connection.prepare("SELECT count(*) FROM t").pluck().get();
}
