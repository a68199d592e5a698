import { describe, expect, test } from "vitest";
import { Connection } from "../sqlite/connection.ts";
import { SqliteRuntime } from "../sqlite/runtime.ts";
import { FilePages } from "../testing/file-pages.ts";
import { MemoryVfs } from "../testing/memory-vfs.ts";
import {
  fillRandomDatabase,
  openEmptyDatabase,
  randomChange,
  randomDatabaseOptions,
  randomInsert,
  type RandomDatabaseOptions,
} from "../testing/random-database.ts";
import { Random } from "../testing/random.ts";
import { RecordedTransaction } from "../testing/recorded-transaction.ts";
import { StockSqlite, type StockRow } from "../testing/stock-sqlite.ts";
import { classifyPages } from "./classify-pages.ts";
import { fileLayout, isPointerMap } from "./file-layout.ts";
import { renumberPages, type RenumberedPages, type RenumberRefusal } from "./renumber-pages.ts";
import { schemaRoots } from "./schema-roots.ts";

const SEEDS = process.env["BOUGH_TEST_LONG"] === undefined ? 20 : 2000;
const FIRST_SEED = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const TABLES = 6;
const VACUUM_MODES = [0, 1, 2] as const;
const runtime = new SqliteRuntime({ vfs: new MemoryVfs() });

interface Race {
  readonly options: RandomDatabaseOptions;
  /** Commits first. */
  readonly theirs: RecordedTransaction;
  /** Starts from the same snapshot, and is put on top of theirs. */
  readonly ours: RecordedTransaction;
  /** Ours was shown an empty freelist. */
  readonly isFreelistHidden: boolean;
  readonly isSchemaKnown: boolean;
}

/** Two transactions on one snapshot: theirs on tables with even numbers, ours on the others. */
async function randomRace(seed: number): Promise<Race> {
  const random = new Random(seed);
  const options = {
    ...randomDatabaseOptions(random),
    autoVacuum: VACUUM_MODES[seed % 3]!,
    pageSize: random.pick([512, 512, 1024, 4096]),
  };
  options.reserved = Math.min(options.reserved, 32);
  const { pageSize } = options;
  using stock = await openEmptyDatabase(options);
  fillRandomDatabase(stock, random, TABLES);
  const isFreelistHidden = random.chance(0.5);
  if (!isFreelistHidden) stock.run("VACUUM");
  const base = new Uint8Array(stock.bytes());
  const hidden = base.slice();
  if (isFreelistHidden) hidden.fill(0, 32, 40);
  const isSchemaKnown = random.chance(0.7);
  const run = (bytes: Uint8Array, parity: number): RecordedTransaction => {
    const table = (): string => `t${2 * random.integer(0, TABLES / 2 - 1) + parity}`;
    const statements = Array.from({ length: random.integer(0, 6) }, () =>
      randomChange(random, table(), pageSize),
    );
    for (let rounds = random.integer(1, 3); rounds > 0; rounds--)
      statements.push(randomInsert(random, table(), pageSize));
    const cachePages = random.pick([10, 2000]);
    return new RecordedTransaction(bytes, {
      pageSize,
      statements,
      isSchemaKnown,
      cachePages,
    });
  };
  return { options, theirs: run(base, 0), ours: run(hidden, 1), isFreelistHidden, isSchemaKnown };
}

function renumber(race: Race): RenumberedPages | RenumberRefusal {
  const { theirs, ours, isSchemaKnown } = race;
  return renumberPages(ours, {
    dirty: ours.dirty,
    snapshotPageCount: ours.snapshotPageCount,
    pageCount: ours.pageCount,
    headPageCount: theirs.pageCount,
    pointerMaps: {
      snapshot: (number) => ours.snapshot.page(number)!,
      head: (number) => theirs.end.page(number)!,
    },
    ...(isSchemaKnown ? { schema: schemaRoots(ours.snapshot) } : {}),
  });
}

/** Whether ours saw nothing that theirs changed: page 1 and pointer maps apart. */
function areApart({ theirs, ours, isFreelistHidden }: Race): boolean {
  const layout = fileLayout(ours.snapshot.page(1)!, ours.pageSize)!;
  for (const number of theirs.dirty)
    if (number > 1 && number <= ours.snapshotPageCount && !isPointerMap(layout, number))
      if (ours.read.has(number) || ours.dirty.has(number)) return false;
  const changed = (one: RecordedTransaction): boolean =>
    freelist(one.snapshot) !== freelist(one.end);
  return isFreelistHidden || !changed(theirs) || !changed(ours);
}

function freelist(pages: FilePages): string {
  return Buffer.from(pages.bytes.subarray(32, 40)).toString("hex");
}

/** Theirs, with ours on top. */
function merge(race: Race, renumbered: RenumberedPages): Uint8Array {
  const { theirs, ours, isFreelistHidden, options } = race;
  const { pageSize } = options;
  const merged = new Uint8Array(renumbered.pageCount * pageSize);
  merged.set(theirs.end.bytes);
  const put = (number: number, page: Uint8Array): void => merged.set(page, (number - 1) * pageSize);
  for (const number of ours.dirty)
    if (number <= ours.snapshotPageCount) put(number, ours.page(number)!);
  for (const [number, page] of renumbered.pages) put(number, page);
  for (const number of renumbered.unwritten) put(number, new Uint8Array(pageSize).fill(0x5a));
  const view = new DataView(merged.buffer);
  const head = new DataView(theirs.end.bytes.buffer);
  if (isFreelistHidden && view.getUint32(36) > 0) {
    view.setUint32((renumbered.lastTrunk - 1) * pageSize, head.getUint32(32));
    view.setUint32(36, view.getUint32(36) + head.getUint32(36));
  } else if (isFreelistHidden || freelist(theirs.snapshot) !== freelist(theirs.end)) {
    merged.set(theirs.end.bytes.subarray(32, 40), 32);
  }
  return merged;
}

async function check(bytes: Uint8Array): Promise<unknown> {
  using stock = await StockSqlite.open(bytes);
  return stock.run("PRAGMA integrity_check")[0]!["integrity_check"];
}

/** As `check`, on our own host, which keeps SQLite's errors for itself. */
function isWhole(bytes: Uint8Array): boolean {
  const connection = new Connection(runtime, { name: ":memory:", bytes });
  try {
    return connection.prepare("PRAGMA integrity_check").pluck().get() === "ok";
  } catch {
    return false;
  } finally {
    connection.close();
  }
}

async function rowsOf(bytes: Uint8Array, parity: number): Promise<StockRow[]> {
  using stock = await StockSqlite.open(bytes);
  const tables = [parity, parity + 2, parity + 4];
  return tables.flatMap((table) => stock.run(`SELECT a, b, quote(c) FROM t${table} ORDER BY a, b`));
}

/** auto_vacuum cuts the file at commit, or reaches pages by way of the pointer map. */
function mayBeRefused(
  { options, ours, theirs }: Race,
  { refused }: RenumberedPages | RenumberRefusal,
): boolean {
  const pageCount = ours.snapshotPageCount;
  if (refused === "shrunk") return ours.pageCount < pageCount || theirs.pageCount < pageCount;
  return refused === "unknown" && options.autoVacuum > 0;
}

interface MergedRace extends Race {
  readonly seed: number;
  readonly renumbered: RenumberedPages;
  readonly merged: Uint8Array;
}

/** Random races that both sides can win. */
async function* mergedRaces(count: number): AsyncGenerator<MergedRace> {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + count; seed++) {
    const race = await randomRace(seed);
    if (!areApart(race)) continue;
    const renumbered = renumber(race);
    if (mayBeRefused(race, renumbered)) continue;
    if (renumbered.refused !== null) throw new Error(`seed ${seed}: ${renumbered.refused}`);
    yield { ...race, seed, renumbered, merged: merge(race, renumbered) };
  }
}

describe("two transactions that both grew the file", () => {
  test("the second one's new pages go behind the first one's, and SQLite finds both whole", async () => {
    const movedKinds = new Set<string>();
    const vacuumModes = [0, 0, 0];
    for await (const { seed, theirs, ours, options, renumbered, merged } of mergedRaces(SEEDS)) {
      expect(await check(merged), `seed ${seed}`).toBe("ok");
      expect(await rowsOf(merged, 0), `seed ${seed}`).toEqual(await rowsOf(theirs.end.bytes, 0));
      expect(await rowsOf(merged, 1), `seed ${seed}`).toEqual(await rowsOf(ours.end.bytes, 1));
      const { roles, unknown } = classifyWhole(new FilePages(merged, options.pageSize));
      expect(unknown, `seed ${seed}`).toEqual([]);
      for (const number of renumbered.moved.values()) movedKinds.add(roles.get(number)!.kind);
      if (isAnyMoved(renumbered)) vacuumModes[options.autoVacuum]!++;
    }
    for (const mode of VACUUM_MODES) expect(vacuumModes[mode], `mode ${mode}`).toBeGreaterThan(2);
    for (const kind of ["index-leaf", "overflow", "table-leaf"]) expect(movedKinds).toContain(kind);
  });

  test("SQLite finds every pointer that is left as it was", async () => {
    let faults = 0;
    for await (const race of mergedRaces(SEEDS / 2)) {
      const random = new Random(race.seed + 1e6);
      const offsets = movedPointers(race);
      expect(isWhole(race.merged)).toBe(true);
      for (let round = 0; round < 3 && offsets.length > 0; round++) {
        const { offset, before } = random.pick(offsets);
        const damaged = race.merged.slice();
        damaged.set(before, offset);
        expect(isWhole(damaged), `seed ${race.seed}, offset ${offset}`).toBe(false);
        faults++;
      }
    }
    expect(faults).toBeGreaterThan(SEEDS / 3);
  });
});

function isAnyMoved({ moved }: RenumberedPages): boolean {
  return [...moved].some(([from, to]) => from !== to);
}

/** Where in the merged file the renumbering wrote other bytes, and what stood there; page 1 apart. */
function movedPointers({ ours, renumbered, merged }: MergedRace): {
  offset: number;
  before: Uint8Array;
}[] {
  const { pageSize } = ours;
  const layout = fileLayout(ours.snapshot.page(1)!, pageSize)!;
  const sources = new Map([...renumbered.moved].map(([from, to]) => [to, from]));
  const found: { offset: number; before: Uint8Array }[] = [];
  for (const number of renumbered.pages.keys()) {
    const before = ours.page(sources.get(number) ?? number);
    if (number === 1 || before === null) continue;
    const start = (number - 1) * pageSize;
    // What a pointer map says of pages behind the end of the file is of no meaning.
    const end = isPointerMap(layout, number)
      ? Math.min(pageSize, (renumbered.pageCount - number) * 5)
      : pageSize;
    for (let at = 0; at < end; at++) {
      const first = at;
      while (at < end && before[at] !== merged[start + at]) at++;
      if (at > first) found.push({ offset: start + first, before: before.slice(first, at) });
    }
  }
  return found;
}

function classifyWhole(pages: FilePages): ReturnType<typeof classifyPages> {
  const { pageCount, numbers: dirty } = pages;
  return classifyPages(pages, { dirty, snapshotPageCount: pageCount, pageCount });
}
