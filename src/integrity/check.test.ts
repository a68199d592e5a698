import { createHash } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { Table } from "../catalog/catalog.ts";
import { WriteBatch } from "../catalog/key-value.ts";
import { openMemoryKeyValue } from "../catalog/memory-key-value.ts";
import { sealValue } from "../catalog/record-codec.ts";
import { StoreError } from "../errors.ts";
import { checkStore } from "../store/check-store.ts";
import { headOf, resolveRevision } from "../store/resolve-revision.ts";
import { openStore, type Store } from "../store/store.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import type { CheckReport } from "./report.ts";

const CATALOG = "catalog/catalog.kv";
/** What a store answers for each revision: a hash of its pages, or the code of the error. */
type Answers = Map<string, string>;

let disk: SimulatedStorage;
let whole: Answers;

/** Branches, tags, history, a large transaction and commits that are in the log only. */
beforeAll(() => {
  const building = new SimulatedStorage();
  const store = openStore("store", {
    storage: building,
    backend: "memory",
    chunkPages: 8,
    transactionBytesMax: 8192,
    logSegmentBytes: 65_536,
  });
  build(store);
  whole = answers(store);
  expect([...whole.values()].every((answer) => answer.length === 64)).toBe(true);
  expect(new Set(whole.values()).size).toBeGreaterThan(12);
  disk = building.copyAfterCrash(new Random(1));
  expect(answersOf(disk)).toEqual(whole);
});

function build(store: Store): void {
  const shop = store.createDatabase("shop", { pageSize: 512 });
  store.createDatabase("books", { pageSize: 1024 });
  run(store, "shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  run(store, "shop", rowsSql(1, 200));
  store.checkpoint();
  for (let id = 1; id < 7; id++)
    run(store, "shop", `UPDATE item SET name = 'v${id}' WHERE id = ${id * 30}`);
  shop.createTag("early", { at: "shop@4" });
  const { outcomes, log } = store.engine.state;
  const committed = { databaseId: 1, version: 4, timestampMs: Date.now(), lsn: log.lastLsn };
  outcomes.add({ id: "0123456789abcdef".repeat(2), ...committed });
  store.checkpoint();
  shop.createBranch("dev");
  shop.createBranch("old", { from: "shop@3" });
  for (let id = 1; id < 5; id++) run(store, "shop/dev", `DELETE FROM item WHERE id = ${id * 7}`);
  run(store, "shop/old", "DELETE FROM item WHERE id > 100");
  run(store, "books", "CREATE TABLE book(id INTEGER PRIMARY KEY, title TEXT)");
  store.checkpoint();
  run(store, "shop/dev", "UPDATE item SET name = name || ' (log only)' WHERE id < 50");
  run(store, "books", rowsSql(1, 600).replace("item", "book"));
  shop.createBranch("late");
}

function rowsSql(from: number, to: number): string {
  return `WITH RECURSIVE n(i) AS (VALUES(${from}) UNION ALL SELECT i+1 FROM n WHERE i<${to})
    INSERT INTO item SELECT i, 'item ' || i || ' of a long list of items' FROM n`;
}

function run(store: Store, revision: string, sql: string): void {
  const connection = store.connect(revision);
  connection.exec(sql);
  connection.close();
}

/** Every head, tag and version, by the names that a report uses. */
function answers(store: Store): Answers {
  const found: Answers = new Map();
  for (const database of store.databases()) {
    for (const branch of database.branches()) {
      const head = nameOf(database.name, branch.name);
      found.set(head, answer(store, head));
      try {
        for (const { version, branch: by } of branch.log()) {
          const revision = `${nameOf(database.name, by)}@${version}`;
          found.set(revision, answer(store, revision));
        }
      } catch (error) {
        found.set(`log of ${head}`, codeOf(error));
      }
    }
    for (const { name } of database.tags())
      found.set(`${database.name}@${name}`, answer(store, `${database.name}@${name}`));
  }
  return found;
}

function answer(store: Store, revision: string): string {
  try {
    const { database, branch, snapshot } = resolveRevision(store.engine, revision);
    const pages = snapshot ?? headOf(database, branch);
    const hash = createHash("sha256");
    for (let page = 1; page <= pages.pageCount; page++) hash.update(pages.page(page));
    return hash.digest("hex");
  } catch (error) {
    return codeOf(error);
  }
}

function codeOf(error: unknown): string {
  if (error instanceof StoreError) return error.code;
  throw error;
}

/** Of a store that is opened for it; one entry "open" when it does not open. */
function answersOf(storage: SimulatedStorage): Answers {
  const copy = storage.copyAfterCrash(new Random(2));
  let store: Store;
  try {
    store = openStore("store", { storage: copy, backend: "memory", create: false });
  } catch (error) {
    return new Map([["open", codeOf(error)]]);
  }
  try {
    return answers(store);
  } finally {
    store.engine.state.log.closeSync();
  }
}

function nameOf(database: string, branch: string): string {
  return branch === "main" ? database : `${database}/${branch}`;
}

/** "shop@3..5" stands for three revisions. */
function reported({ problems }: CheckReport): Set<string> {
  const names = new Set<string>();
  for (const revision of problems.flatMap(({ revisions }) => revisions)) {
    const range = /^(.*)@(\d+)\.\.(\d+)$/.exec(revision);
    if (range === null) names.add(revision);
    else
      for (let version = Number(range[2]); version <= Number(range[3]); version++)
        names.add(`${range[1]}@${version}`);
  }
  return names;
}

async function check(storage: SimulatedStorage, deep = false): Promise<CheckReport> {
  const copy = storage.copyAfterCrash(new Random(3));
  return await checkStore("store", { storage: copy, backend: "memory", deep });
}

/**
 * The rules that hold whatever is damaged: nothing reads other bytes than before, what fails is in the report, and a store
 * without problems reads whole. Returns the report and what failed.
 */
async function judge(
  damaged: SimulatedStorage,
  name: string,
): Promise<{ report: CheckReport; failed: string[] }> {
  const report = await check(damaged);
  const after = answersOf(damaged);
  const failed: string[] = [];
  for (const [revision, before] of whole) {
    const now = after.get(revision) ?? "missing";
    if (now === before) continue;
    expect(now, `${name}: ${revision} reads other bytes`).not.toMatch(/^[0-9a-f]{64}$/);
    failed.push(revision);
  }
  expect(report.ok, name).toBe(report.problems.length === 0);
  if (report.ok) expect(failed, `${name}: failed, and not reported`).toEqual([]);
  return { report, failed };
}

function damagedDisk(damage: (storage: SimulatedStorage) => void): SimulatedStorage {
  const copy = disk.copyAfterCrash(new Random(4));
  damage(copy);
  return copy;
}

function sizeOf(path: string): number {
  return disk.openFileSync(path, { mode: "read" }).sizeSync();
}

function files(directory: string): string[] {
  return disk.listSync(directory).map((name) => `${directory}/${name}`);
}

/** Bits spread over the file, the same in every run. */
function someBits(path: string, count: number): number[] {
  const random = new Random(sizeOf(path));
  const size = sizeOf(path) * 8;
  return Array.from({ length: count }, () => random.integer(0, size - 1));
}

function codes({ problems }: CheckReport): string[] {
  return [...new Set(problems.map(({ code }) => code))].sort();
}

test("a whole store has no problems, checked plainly and deeply, open and closed", async () => {
  const report = await check(disk);
  expect(report.problems).toEqual([]);
  expect(report).toMatchObject({ ok: true, counts: { historySegments: 3, heads: 0 } });
  expect(report.counts.nodes).toBeGreaterThan(4);
  expect(report.counts.historyEntries).toBeGreaterThan(5);
  expect(report.counts.logRecords).toBeGreaterThan(2);
  const deep = await check(disk, true);
  expect(deep).toMatchObject({ ok: true, problems: [], counts: { heads: 6 } });
  const store = openStore("store", { storage: disk.copyAfterCrash(new Random(1)) });
  const phases = new Set<string>();
  const open = await store.check({ deep: true, onProgress: ({ phase }) => phases.add(phase) });
  expect(open).toMatchObject({ ok: true, problems: [] });
  expect([...phases]).toEqual(expect.arrayContaining(["log", "pages", "history", "sql"]));
  store.close();
});

describe("a flipped bit", () => {
  test("in a pack: its chunk, and every revision that reads it", async () => {
    let seen = 0;
    for (const path of files("chunks")) {
      for (const bit of someBits(path, 60)) {
        const name = `${path} bit ${bit}`;
        const { report, failed } = await judge(
          damagedDisk((d) => d.flipBit(path, bit)),
          name,
        );
        if (report.ok) continue; // A gap between two chunks.
        seen++;
        expect(codes(report), name).toEqual(["CORRUPT_CHUNK"]);
        expect([...reported(report)], name).toEqual(expect.arrayContaining(failed));
        const isHeader = bit < 40 * 8;
        if (!isHeader) expect(report.problems.length, name).toBe(1);
      }
    }
    expect(seen).toBeGreaterThan(50);
  });

  test("in a history segment: the versions that need it, the checkpoints and heads do not", async () => {
    for (const path of files("history")) {
      for (const bit of someBits(path, 25)) {
        const name = `${path} bit ${bit}`;
        const { report, failed } = await judge(
          damagedDisk((d) => d.flipBit(path, bit)),
          name,
        );
        expect(codes(report), name).toEqual(["CORRUPT_HISTORY"]);
        expect([...reported(report)], name).toEqual(expect.arrayContaining(failed));
        expect([...reported(report)], name).not.toContain("shop");
        expect(failed, name).not.toContain("shop");
      }
    }
  });

  test("in the log: an error that names the heads, a lost end, or nothing; never other bytes", async () => {
    let damaged = 0;
    for (const path of files("log").filter((name) => name.endsWith(".wal"))) {
      for (const bit of [...someBits(path, 20), 8, 40, 4096 * 8 + 9, 4200 * 8]) {
        const name = `${path} bit ${bit}`;
        const report = await check(damagedDisk((d) => d.flipBit(path, bit)));
        const after = answersOf(damagedDisk((d) => d.flipBit(path, bit)));
        for (const [revision, now] of after) {
          if (!/^[0-9a-f]{64}$/.test(now)) continue;
          // A head may have lost its newest commits: a record that does not check is the end of the log.
          expect([...whole.values()], `${name}: ${revision}`).toContain(now);
        }
        if (report.ok) continue;
        damaged++;
        expect(codes(report), name).toEqual(["CORRUPT_LOG"]);
        expect([...reported(report)], name).toEqual(expect.arrayContaining(["shop", "books"]));
        expect(after.get("open"), name).toBe("CORRUPT_LOG");
      }
    }
    expect(damaged).toBeGreaterThan(3);
  });

  test("in the header or the catalog's file: one problem with its code", async () => {
    for (const [path, code] of [
      ["store.json", "CORRUPT_HEADER"],
      [CATALOG, "CORRUPT_CATALOG"],
    ] as const) {
      for (const bit of someBits(path, 20)) {
        const damaged = damagedDisk((d) => d.flipBit(path, bit));
        expect(codes(await check(damaged)), `${path} bit ${bit}`).toEqual([code]);
        expect(answersOf(damaged).get("open"), `${path} bit ${bit}`).toBe(code);
      }
    }
  });
});

test("cut anywhere, each kind of file is reported with its code", async () => {
  for (const [path, code] of [
    ...files("chunks").map((name) => [name, "CORRUPT_CHUNK"] as const),
    ...files("history").map((name) => [name, "CORRUPT_HISTORY"] as const),
    ["store.json", "CORRUPT_HEADER"] as const,
    [CATALOG, "CORRUPT_CATALOG"] as const,
  ]) {
    const size = sizeOf(path);
    for (const kept of [1, 39, Math.floor(size / 2), size - 9]) {
      const name = `${path} cut to ${kept} of ${size}`;
      const { report, failed } = await judge(
        damagedDisk((d) => d.truncateFile(path, kept)),
        name,
      );
      expect(codes(report), name).toEqual([code]);
      if (code === "CORRUPT_CHUNK" || code === "CORRUPT_HISTORY")
        expect([...reported(report)], name).toEqual(expect.arrayContaining(failed));
    }
  }
});

function without(path: string): (storage: SimulatedStorage) => void {
  return (storage) => {
    storage.deleteSync(path);
    storage.syncDirectorySync(path.includes("/") ? path.slice(0, path.indexOf("/")) : "");
  };
}

test("a missing file is reported as damage", async () => {
  for (const path of [...files("chunks"), ...files("history")]) {
    const { report, failed } = await judge(damagedDisk(without(path)), path);
    expect(codes(report), path).toEqual([
      path.startsWith("chunks") ? "CORRUPT_CHUNK" : "CORRUPT_HISTORY",
    ]);
    expect(failed.length, path).toBeGreaterThan(0);
    expect([...reported(report)], path).toEqual(expect.arrayContaining(failed));
  }
  expect(codes(await check(damagedDisk(without("store.json"))))).toEqual(["CORRUPT_HEADER"]);
});

/** Rewrites rows of the catalog past their checks. */
function changeRows(
  storage: SimulatedStorage,
  table: number,
  change: (key: Uint8Array, value: Uint8Array) => Uint8Array | null,
  only: (index: number) => boolean = () => true,
): number {
  const catalog = openMemoryKeyValue(storage, CATALOG);
  const batch = new WriteBatch();
  const rows = [...catalog.range({ start: Uint8Array.of(table), end: Uint8Array.of(table + 1) })];
  for (const [index, row] of rows.entries()) {
    if (!only(index)) continue;
    const key = Uint8Array.from(row.key);
    const value = change(key, Uint8Array.from(row.value));
    if (value === null) batch.delete(key);
    else batch.put(key, value);
  }
  catalog.commit(batch);
  catalog.close();
  return rows.length;
}

function flipMiddle(_: Uint8Array, value: Uint8Array): Uint8Array {
  value[value.length >> 1]! ^= 1;
  return value;
}

function remove(): null {
  return null;
}

describe("in the catalog", () => {
  test("each damaged or missing node is reported with the revisions above it", async () => {
    for (const change of [flipMiddle, remove]) {
      let count = 1;
      for (let index = 0; index < count; index++) {
        const damaged = damagedDisk((d) => {
          count = changeRows(d, Table.node, change, (number) => number === index);
        });
        const { report, failed } = await judge(damaged, `node ${index}`);
        expect(codes(report)).toEqual(["CORRUPT_NODE"]);
        expect(report.problems).toHaveLength(1);
        expect(failed.length, `node ${index}`).toBeGreaterThan(0);
        expect([...reported(report)], `node ${index}`).toEqual(expect.arrayContaining(failed));
      }
    }
  });

  test("a chunk that the index lost is reported with the revisions that read it", async () => {
    let count = 1;
    for (let index = 0; index < count; index++) {
      const damaged = damagedDisk((d) => {
        count = changeRows(d, Table.chunk, remove, (number) => number === index);
      });
      const { report, failed } = await judge(damaged, `chunk ${index}`);
      if (failed.length === 0) continue; // Of a commit in the log, which says where it is; or of history.
      expect(codes(report), `chunk ${index}`).toEqual(["CORRUPT_CHUNK"]);
      expect([...reported(report)], `chunk ${index}`).toEqual(expect.arrayContaining(failed));
    }
    expect(count).toBeGreaterThan(3);
  });

  test("a damaged row of any table is CORRUPT_CATALOG", async () => {
    for (const [what, table] of Object.entries(Table)) {
      if (table === Table.node) continue;
      const damaged = damagedDisk((d) => {
        expect(
          changeRows(d, table, flipMiddle, (index) => index === 0),
          what,
        ).toBeGreaterThan(0);
      });
      const report = await check(damaged);
      expect(codes(report), what).toContain("CORRUPT_CATALOG");
      for (const [revision, now] of answersOf(damaged))
        if (/^[0-9a-f]{64}$/.test(now))
          expect(now, `${what}: ${revision}`).toBe(whole.get(revision));
    }
  });

  test("a page index that names another page is found by a deep check", async () => {
    const damaged = damagedDisk((d) =>
      changeRows(
        d,
        Table.pageHash,
        (key, value) => {
          value[16]! ^= 1; // The slot.
          return sealValue(key, value.slice(0, 17));
        },
        (index) => index === 0,
      ),
    );
    expect(await check(damaged)).toMatchObject({ ok: true });
    const report = await check(damaged, true);
    expect(codes(report)).toEqual(["CORRUPT_CATALOG"]);
  });
});

test("a deep check finds what SQLite finds: a broken index and rows without parent", async () => {
  const storage = disk.copyAfterCrash(new Random(5));
  const store = openStore("store", { storage });
  store.createDatabase("bad");
  const connection = store.connect("bad");
  connection.pragma("foreign_keys = off");
  connection.exec(`CREATE TABLE parent(id INTEGER PRIMARY KEY);
    CREATE TABLE child(id INTEGER PRIMARY KEY, parent REFERENCES parent);
    INSERT INTO child VALUES (1, 7), (2, 8);
    CREATE INDEX by_parent ON child(parent)`);
  connection.unsafeMode(true);
  connection.exec(`PRAGMA writable_schema = on;
    UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'parent')
      WHERE name = 'child'`);
  connection.close();
  store.database("bad").createBranch("fork");
  const { ok, problems } = await store.check({ deep: true });
  expect(ok).toBe(false);
  expect(new Set(problems.map(({ code }) => code))).toContain("INTEGRITY");
  for (const { revisions } of problems) expect(revisions).toEqual(["bad", "bad/fork"]);
  expect(await store.check()).toMatchObject({ ok: true });
  store.close();
});

test("what is no damage is thrown: no store, and a store in use", async () => {
  const empty = new SimulatedStorage();
  await expect(checkStore("nowhere", { storage: empty })).rejects.toMatchObject({
    code: "STORE_NOT_FOUND",
  });
  const storage = disk.copyAfterCrash(new Random(6));
  const store = openStore("store", { storage });
  await expect(checkStore("store", { storage })).rejects.toMatchObject({ code: "STORE_LOCKED" });
  store.close();
  expect(await checkStore("store", { storage })).toMatchObject({ ok: true });
});
