import { createHash } from "node:crypto";

import { beforeAll, describe, expect, test } from "vitest";
import { Table } from "../catalog/catalog.ts";
import { WriteBatch } from "../catalog/key-value.ts";
import { openMemoryKeyValue } from "../catalog/memory-key-value.ts";
import { StoreError } from "../errors.ts";
import type { CheckReport } from "../integrity/report.ts";
import { CopySource } from "./copy-source.ts";
import { Random } from "../testing/random.ts";

import { readFileSync } from "../storage/whole-file.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";

import { type RepairOptions, type RepairReport, repairStore } from "./repair-store.ts";
import { headOf, resolveRevision } from "./resolve-revision.ts";
import { openStore, type Store } from "./store.ts";

const CATALOG = "catalog/catalog.kv";
const KEY = new Uint8Array(32).fill(7);

interface Fixture {
  readonly name: string;
  readonly key: { readonly key?: Uint8Array };
  readonly disk: SimulatedStorage;
  /** What each revision reads: a hash of its pages. */
  readonly whole: ReadonlyMap<string, string>;
}

const fixtures: Fixture[] = [];

beforeAll(() => {
  for (const [name, key] of [
    ["plain", {}],
    ["encrypted", { key: KEY }],
  ] as const)
    fixtures.push(makeFixture(name, key));
});

/** Two databases, branches, a tag, history, a large transaction, several log segments and packs. */
function makeFixture(name: string, key: { readonly key?: Uint8Array }): Fixture {
  const building = new SimulatedStorage();
  const options = { ...key, storage: building, backend: "memory" as const, chunkPages: 8 };
  let store = openStore("store", {
    ...options,
    transactionBytesMax: 8192,
    logSegmentBytes: 16_384,
  });
  const shop = store.createDatabase("shop", { pageSize: 512 });
  store.createDatabase("books", { pageSize: 1024 });
  run(store, "shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
  run(store, "shop", rows("item", 1, 200));
  store.close();
  store = openStore("store", { ...options, transactionBytesMax: 8192, logSegmentBytes: 16_384 });
  for (let id = 1; id < 7; id++)
    run(store, "shop", `UPDATE item SET name = 'v${id}' WHERE id = ${id * 30}`);
  store.database("shop").createTag("early", { at: "shop@4" });
  store.checkpoint();
  const again = store.database("shop");
  again.createBranch("dev");
  again.createBranch("old", { from: "shop@3" });
  for (let id = 1; id < 5; id++) run(store, "shop/dev", `DELETE FROM item WHERE id = ${id * 7}`);
  run(store, "shop/old", "DELETE FROM item WHERE id > 100");
  run(store, "books", "CREATE TABLE book(id INTEGER PRIMARY KEY, title TEXT)");
  store.checkpoint();
  for (let id = 1; id < 40; id++)
    run(store, "shop/dev", `UPDATE item SET name = name || ' ${id}' WHERE id < ${id + 20}`);
  run(store, "books", rows("book", 1, 600));
  again.createBranch("late");
  const whole = answers(store);
  expect(shop.name).toBe("shop");
  return { name, key, disk: building.copyAfterCrash(new Random(1)), whole };
}

function rows(table: string, from: number, to: number): string {
  return `WITH RECURSIVE n(i) AS (VALUES(${from}) UNION ALL SELECT i+1 FROM n WHERE i<${to})
    INSERT INTO ${table} SELECT i, 'item ' || i || ' of a long list of items' FROM n`;
}

function run(store: Store, revision: string, sql: string): void {
  const connection = store.connect(revision);
  connection.exec(sql);
  connection.close();
}

function answers(store: Store): Map<string, string> {
  const found = new Map<string, string>();
  for (const database of store.databases()) {
    for (const branch of database.branches()) {
      found.set(branch.revision, answer(store, branch.revision));
      try {
        for (const { version } of branch.log()) {
          const revision = `${branch.revision}@${version}`;
          found.set(revision, answer(store, revision));
        }
      } catch (error) {
        found.set(`log of ${branch.revision}`, codeOf(error));
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

function answersOf({ key }: Fixture, disk: SimulatedStorage): Map<string, string> {
  const storage = disk.copyAfterCrash(new Random(2));
  let store: Store;
  try {
    store = openStore("store", { ...key, storage, create: false });
  } catch (error) {
    return new Map([["open", codeOf(error)]]);
  }
  try {
    return answers(store);
  } finally {
    store.engine.state.log.closeSync();
  }
}

function copyOf(disk: SimulatedStorage): SimulatedStorage {
  return disk.copyAfterCrash(new Random(4));
}

function sourceOf({ disk }: Fixture): CopySource {
  return CopySource.open("the copy", copyOf(disk));
}

async function repair(
  { key }: Fixture,
  storage: SimulatedStorage,
  options: RepairOptions = {},
): Promise<RepairReport> {
  return await repairStore("store", { ...key, storage, ...options });
}

/** With a source that has everything the store is as it was. */
async function expectWholeAgain(
  fixture: Fixture,
  damaged: SimulatedStorage,
  name: string,
): Promise<RepairReport> {
  const result = await repair(fixture, damaged, { source: sourceOf(fixture) });
  expect(result.report.problems, name).toEqual([]);
  expect(answersOf(fixture, damaged), name).toEqual(fixture.whole);
  return result;
}

/** Nothing reads other bytes than before. */
function expectNoOtherBytes(fixture: Fixture, disk: SimulatedStorage, name: string): string[] {
  const failed: string[] = [];
  const now = answersOf(fixture, disk);
  if (now.has("open")) return ["open"];
  for (const [revision, before] of fixture.whole) {
    const after = now.get(revision) ?? "missing";
    if (after === before) continue;
    expect(after, `${name}: ${revision}`).toMatch(/^(CORRUPT|missing)/);
    failed.push(revision);
  }
  return failed;
}

function files(disk: SimulatedStorage, directory: string): string[] {
  return disk.listSync(directory).map((name) => `${directory}/${name}`);
}

function sizeOf(disk: SimulatedStorage, path: string): number {
  const file = disk.openFileSync(path, { mode: "read" });
  const size = file.sizeSync();
  file.closeSync();
  return size;
}

function remove(disk: SimulatedStorage, path: string): void {
  disk.deleteSync(path);
  disk.syncDirectorySync(path.slice(0, path.lastIndexOf("/")));
}

function changeRow(
  storage: SimulatedStorage,
  table: number,
  index: number,
  change: (value: Uint8Array) => Uint8Array | null,
): void {
  const catalog = openMemoryKeyValue(storage, CATALOG);
  const batch = new WriteBatch();
  const found = [...catalog.range({ start: Uint8Array.of(table), end: Uint8Array.of(table + 1) })];
  const row = found[index % found.length]!;
  const value = change(Uint8Array.from(row.value));
  if (value === null) batch.delete(Uint8Array.from(row.key));
  else batch.put(Uint8Array.from(row.key), value);
  catalog.commit(batch);
  catalog.close();
}

function garble(value: Uint8Array): Uint8Array {
  return value.map((byte, index) => (index % 3 === 0 ? byte ^ 0x55 : byte));
}

function codes({ problems }: CheckReport): string[] {
  return [...new Set(problems.map(({ code }) => code))].sort();
}

type Damage = readonly [name: string, (disk: SimulatedStorage, fixture: Fixture) => void];

const first = (disk: SimulatedStorage, directory: string): string => files(disk, directory)[0]!;

const DAMAGES: readonly Damage[] = [
  ["a chunk's body", (d) => d.flipBit(first(d, "chunks"), (40 + 64 + 30) * 8)],
  ["a chunk's header", (d) => d.flipBit(first(d, "chunks"), (40 + 9) * 8)],
  ["a pack's header", (d) => d.flipBit(first(d, "chunks"), 12 * 8)],
  ["a cut pack", (d) => d.truncateFile(first(d, "chunks"), sizeOf(d, first(d, "chunks")) >> 1)],
  ["a pack cut in its header", (d) => d.truncateFile(first(d, "chunks"), 17)],
  ["a missing pack", (d) => remove(d, first(d, "chunks"))],
  ["all packs missing", (d) => files(d, "chunks").forEach((path) => remove(d, path))],
  ["a history block", (d) => d.flipBit(first(d, "history"), 100 * 8)],
  [
    "a history footer",
    (d) => d.flipBit(first(d, "history"), (sizeOf(d, first(d, "history")) - 9) * 8),
  ],
  ["a missing history file", (d) => remove(d, first(d, "history"))],
  ["the header", (d) => d.flipBit("store.json", 99)],
  ["the catalog's file", (d) => d.flipBit(CATALOG, 4000)],
  ["a cut catalog", (d) => d.truncateFile(CATALOG, 1000)],
  ["a missing catalog", (d) => remove(d, CATALOG)],
  ...Object.entries(Table).map(([what, table]): Damage => [
    `a row of table ${what}`,
    (d) => changeRow(d, table, 1, garble),
  ]),
  ["a missing node", (d) => changeRow(d, Table.node, 2, () => null)],
  ["a missing chunk row", (d) => changeRow(d, Table.chunk, 1, () => null)],
];

describe("with a source that has everything", () => {
  test.each(DAMAGES)("%s is brought back", async (name, damage) => {
    for (const fixture of fixtures) {
      const damaged = copyOf(fixture.disk);
      damage(damaged, fixture);
      const label = `${fixture.name}: ${name}`;
      const { before } = await expectWholeAgain(fixture, damaged, label);
      expect(before.ok, label).toBe(false);
      const again = await repair(fixture, damaged);
      expect(again, label).toMatchObject({ steps: [], before: { ok: true } });
    }
  });
});

describe("without a source", () => {
  /** What is left is named, nothing reads other bytes, and the rest of the store goes on. */
  async function expectRestUsable(
    fixture: Fixture,
    damage: Damage[1],
    name: string,
  ): Promise<{ failed: string[]; result: RepairReport }> {
    const damaged = copyOf(fixture.disk);
    damage(damaged, fixture);
    const result = await repair(fixture, damaged);
    const failed = expectNoOtherBytes(fixture, damaged, name);
    if (result.report.ok) expect(failed, name).toEqual([]);
    // The SQL part of the check has opened the store, so that the log's chunks are in the catalog now.
    await repair(fixture, damaged);
    const again = await repair(fixture, damaged);
    expect(again.steps, name).toEqual([]);
    expect(codes(again.report), name).toEqual(codes(result.report));
    return { failed, result };
  }

  test("whatever is damaged, what is left is named and reads what it was", async () => {
    for (const fixture of fixtures)
      for (const [name, damage] of DAMAGES)
        await expectRestUsable(fixture, damage, `${fixture.name}: ${name}`);
  });

  test("one flipped bit of a row or node is put right", async () => {
    for (const fixture of fixtures) {
      for (const table of Object.values(Table)) {
        const flip: Damage[1] = (disk) =>
          changeRow(disk, table, 1, (value) => {
            value[value.length >> 1]! ^= 4;
            return value;
          });
        const { failed, result } = await expectRestUsable(fixture, flip, `table ${table}`);
        expect(failed).toEqual([]);
        expect(result).toMatchObject({ before: { ok: false }, report: { ok: true } });
      }
    }
  });

  test("pack headers, rows of chunks, pages and history segments are made again", async () => {
    const mended = ["a pack's header", "a missing chunk row", "a row of table chunk"];
    mended.push("a row of table pageHash", "a row of table history");
    for (const fixture of fixtures) {
      for (const [name, damage] of DAMAGES.filter(([label]) => mended.includes(label))) {
        const { failed, result } = await expectRestUsable(fixture, damage, name);
        expect(result.report.problems, name).toEqual([]);
        expect(failed, name).toEqual([]);
      }
    }
  });

  test("a chunk that lies in another pack too is copied from there", async () => {
    for (const fixture of fixtures) {
      const damaged = copyOf(fixture.disk);
      const [path = ""] = files(damaged, "chunks");
      const bytes = readFileSync(damaged, path);
      const other = damaged.openFileSync("chunks/00000009.pack", { mode: "create" });
      other.writeSync(0, bytes);
      other.syncSync();
      other.closeSync();
      damaged.syncDirectorySync("chunks");
      for (let offset = 50; offset < bytes.length; offset += 64) damaged.flipBit(path, offset * 8);
      const { report, steps } = await repair(fixture, damaged);
      // The copy has the header of another pack.
      expect(report.problems.map(({ message }) => message)).toEqual([
        expect.stringContaining("00000009.pack"),
      ]);
      expect(steps.length).toBeGreaterThan(0);
      expect(steps.every(({ how }) => how.includes("00000009.pack"))).toBe(true);
      expect(answersOf(fixture, damaged)).toEqual(fixture.whole);
    }
  });

  test("a page that a chunk has lost comes from the log, and those that the damage left whole stay", async () => {
    const storage = new SimulatedStorage();
    const options = { storage, backend: "memory", compression: "none", chunkPages: 8 } as const;
    const store = openStore("store", options);
    store.createDatabase("shop", { pageSize: 512 });
    run(store, "shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)");
    run(store, "shop", rows("item", 1, 100));
    store.close();
    const [path = ""] = files(storage, "chunks");
    // In the third page of the first chunk; the log still has the transaction that wrote it.
    storage.flipBit(path, (40 + 64 + 2 * 512 + 100) * 8);
    const mended = await repairStore("store", options);
    expect(mended.report.problems).toEqual([]);
    expect(mended.steps.map(({ how }) => how)).toEqual([expect.stringContaining("log/")]);
  });
});
