import { describe, expect, test } from "vitest";
import { FilePages } from "../testing/file-pages.ts";
import {
  fillRandomDatabase,
  openEmptyDatabase,
  randomChange,
  randomDatabaseOptions,
  type RandomDatabaseOptions,
} from "../testing/random-database.ts";
import { Random } from "../testing/random.ts";
import { RecordedTransaction } from "../testing/recorded-transaction.ts";
import { StockSqlite, type StockRow } from "../testing/stock-sqlite.ts";
import { classifyPages } from "./classify-pages.ts";
import { renumberPages, type RenumberedPages, type RenumberRefusal } from "./renumber-pages.ts";
import { schemaRoots } from "./schema-roots.ts";

const SEEDS = process.env["BOUGH_TEST_LONG"] === undefined ? 60 : 2000;
const FIRST_SEED = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const TABLES = 6;

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
  const options = { ...randomDatabaseOptions(random), autoVacuum: 0 as const };
  using stock = await openEmptyDatabase(options);
  fillRandomDatabase(stock, random, TABLES);
  const base = new Uint8Array(stock.bytes());
  const hidden = base.slice();
  const isFreelistHidden = random.chance(0.5);
  if (isFreelistHidden) hidden.fill(0, 32, 40);
  const isSchemaKnown = random.chance(0.7);
  const run = (bytes: Uint8Array, parity: number): RecordedTransaction => {
    const statements = Array.from({ length: random.integer(1, 8) }, () =>
      randomChange(random, `t${2 * random.integer(0, TABLES / 2 - 1) + parity}`, options.pageSize),
    );
    const cachePages = random.pick([10, 2000]);
    return new RecordedTransaction(bytes, {
      pageSize: options.pageSize,
      statements,
      isSchemaKnown,
      cachePages,
    });
  };
  return { options, theirs: run(base, 0), ours: run(hidden, 1), isFreelistHidden, isSchemaKnown };
}

function renumber(race: Race, headPageCount: number): RenumberedPages | RenumberRefusal {
  const { ours, isSchemaKnown } = race;
  return renumberPages(ours, {
    dirty: ours.dirty,
    snapshotPageCount: ours.snapshot.pageCount,
    pageCount: ours.pageCount,
    headPageCount,
    ...(isSchemaKnown ? { schema: schemaRoots(ours.snapshot) } : {}),
  });
}

/** Whether ours saw nothing that theirs changed: page 1 apart. */
function areApart({ theirs, ours, isFreelistHidden }: Race): boolean {
  for (const number of theirs.dirty)
    if (number > 1 && number <= ours.snapshot.pageCount)
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
    if (number <= ours.snapshot.pageCount) put(number, ours.page(number)!);
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

async function rowsOf(bytes: Uint8Array, parity: number): Promise<StockRow[]> {
  using stock = await StockSqlite.open(bytes);
  const tables = [parity, parity + 2, parity + 4];
  return tables.flatMap((table) => stock.run(`SELECT a, b, quote(c) FROM t${table} ORDER BY a, b`));
}

describe("two transactions that both grew the file", () => {
  test("the second one's new pages go behind the first one's, and SQLite finds both whole", async () => {
    const movedKinds = new Set<string>();
    let apart = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const race = await randomRace(seed);
      const { theirs, ours, options } = race;
      if (!areApart(race) || ours.pageCount < ours.snapshot.pageCount) continue;
      const renumbered = renumber(race, theirs.pageCount);
      if (renumbered.refused !== null)
        throw new Error(`seed ${seed}: ${JSON.stringify(renumbered)}`);
      const merged = merge(race, renumbered);
      expect(await check(merged), `seed ${seed}`).toBe("ok");
      expect(await rowsOf(merged, 0), `seed ${seed}`).toEqual(await rowsOf(theirs.end.bytes, 0));
      expect(await rowsOf(merged, 1), `seed ${seed}`).toEqual(await rowsOf(oursAlone(race), 1));
      apart++;
      const { roles, unknown } = classifyWhole(new FilePages(merged, options.pageSize));
      expect(unknown, `seed ${seed}`).toEqual([]);
      for (const number of renumbered.moved.values()) movedKinds.add(roles.get(number)!.kind);
    }
    expect(apart).toBeGreaterThan(SEEDS / 3);
    expect([...movedKinds].sort()).toEqual([
      "free-leaf",
      "free-trunk",
      "index-interior",
      "index-leaf",
      "overflow",
      "table-interior",
      "table-leaf",
    ]);
  });
});

/** What ours read and wrote, as a file of its own: with the freelist that was hidden from it, pages leak, which no row shows. */
function oursAlone({ ours }: Race): Uint8Array {
  return ours.end.bytes;
}

function classifyWhole(pages: FilePages): ReturnType<typeof classifyPages> {
  const { pageCount, numbers: dirty } = pages;
  return classifyPages(pages, { dirty, snapshotPageCount: pageCount, pageCount });
}
