import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Table } from "../catalog/catalog.ts";
import { WriteBatch } from "../catalog/key-value.ts";
import { openMemoryKeyValue } from "../catalog/memory-key-value.ts";
import type { CheckReport } from "../integrity/report.ts";
import type { ObjectStoreOptions } from "../remote/open-object-store.ts";
import { readFileSync } from "../storage/whole-file.ts";
import {
  answersOf,
  CATALOG_FILE,
  copyOf,
  files,
  type Fixture,
  makeFixtures,
  remove,
  repair,
  rows,
  run,
  sizeOf,
  sourceOf,
} from "../testing/repair-fixture.ts";
import { s3Server } from "../testing/s3-server.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { RemoteRepairSource } from "./remote-repair-source.ts";
import { type RepairReport, repairStore } from "./repair-store.ts";
import { openStore } from "./store.ts";

const fixtures: Fixture[] = [];

beforeAll(async () => {
  fixtures.push(...(await makeFixtures()));
});

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

function changeRow(
  storage: SimulatedStorage,
  table: number,
  index: number,
  change: (value: Uint8Array) => Uint8Array | null,
): void {
  const catalog = openMemoryKeyValue(storage, CATALOG_FILE);
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
  ["the catalog's file", (d) => d.flipBit(CATALOG_FILE, 4000)],
  ["a cut catalog", (d) => d.truncateFile(CATALOG_FILE, 1000)],
  ["a missing catalog", (d) => remove(d, CATALOG_FILE)],
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

describe("with a store in object storage as the source", () => {
  const places = new Map<Fixture, string>();
  const directory = mkdtempSync(join(tmpdir(), "bough-repair-"));

  beforeAll(async () => {
    for (const fixture of fixtures) {
      const url = `file://${directory}/${fixture.name}`;
      await uploadAs(fixture, url);
      places.set(fixture, url);
    }
  });

  afterAll(() => rmSync(directory, { recursive: true }));

  test.each(DAMAGES)("%s is brought back", async (name, damage) => {
    for (const fixture of fixtures) {
      const damaged = copyOf(fixture.disk);
      damage(damaged, fixture);
      await expectWholeFrom(fixture, damaged, { url: places.get(fixture) ?? "", name });
    }
  });
});

const server = await s3Server();

describe.skipIf(server === null)("with a store in S3 as the source", () => {
  test("packs, history, the header, the catalog and the log are brought back", async () => {
    if (server === null) return;
    const [, fixture] = fixtures;
    if (fixture === undefined) throw new Error("There is an encrypted fixture");
    const { url, options } = server.newPlace();
    await uploadAs(fixture, url, options);
    const some = new Set([
      "all packs missing",
      "a missing history file",
      "the header",
      "a missing catalog",
    ]);
    for (const [name, damage] of DAMAGES.filter(([label]) => some.has(label))) {
      const damaged = copyOf(fixture.disk);
      damage(damaged, fixture);
      await expectWholeFrom(fixture, damaged, { url, name, options });
    }
    const damaged = copyOf(fixture.disk);
    damaged.flipBit(first(damaged, "log"), (4096 + 40) * 8);
    await expectWholeFrom(fixture, damaged, { url, name: "a log record", options });
  });
});

/** Uploads the fixture as it is, without a checkpoint that it does not have. */
async function uploadAs(
  fixture: Fixture,
  url: string,
  given: ObjectStoreOptions = {},
): Promise<void> {
  const storage = copyOf(fixture.disk);
  const remote = { ...given, url, flushIntervalMs: 1e9 };
  const store = openStore("store", { ...fixture.key, storage, create: false, remote });
  await store.upload();
  store.engine.uploads?.close();
  store.engine.state.log.closeSync();
}

async function expectWholeFrom(
  fixture: Fixture,
  damaged: SimulatedStorage,
  from: { readonly url: string; readonly name: string; readonly options?: ObjectStoreOptions },
): Promise<void> {
  const label = `${fixture.name}: ${from.name}`;
  const sourceOptions = { ...fixture.key, storage: damaged, remote: from.options };
  const source = await RemoteRepairSource.open(from.url, sourceOptions);
  try {
    const { before, report } = await repair(fixture, damaged, { source });
    expect(before.ok, label).toBe(false);
    expect(report.problems, label).toEqual([]);
  } finally {
    source.close();
  }
  expect(damaged.listSync("upload"), label).toEqual([]);
  expect(answersOf(fixture, damaged), label).toEqual(fixture.whole);
}

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
