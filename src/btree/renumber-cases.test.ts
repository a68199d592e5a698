import { describe, expect, test } from "vitest";
import { openEmptyDatabase, type RandomDatabaseOptions } from "../testing/random-database.ts";
import { RecordedTransaction } from "../testing/recorded-transaction.ts";
import { StockSqlite } from "../testing/stock-sqlite.ts";
import type { AccessedPages } from "./accessed-pages.ts";
import { classifyPages } from "./classify-pages.ts";
import { fileLayout, isPointerMap } from "./file-layout.ts";
import type { StoredPointerMaps } from "./pointer-map.ts";
import { renumberPages, type RenumberedPages, type RenumberRefusal } from "./renumber-pages.ts";

const PLAIN: RandomDatabaseOptions = {
  pageSize: 512,
  reserved: 0,
  autoVacuum: 0,
  encoding: "UTF-8",
};
const BLOB = "INSERT INTO t VALUES (zeroblob(3000))";

interface Work {
  readonly options?: RandomDatabaseOptions;
  readonly setup?: string;
  readonly statements: readonly string[];
  readonly pageCount?: number;
}

async function recorded(work: Work): Promise<RecordedTransaction> {
  const { options = PLAIN, setup = "CREATE TABLE t (a)", statements, pageCount } = work;
  using stock = await openEmptyDatabase(options);
  stock.run(setup);
  return new RecordedTransaction(new Uint8Array(stock.bytes()), {
    pageSize: options.pageSize,
    statements,
    isSchemaKnown: true,
    cachePages: 2000,
    ...(pageCount === undefined ? {} : { pageCount }),
  });
}

function renumber(
  ours: RecordedTransaction,
  headPageCount: number,
  pointerMaps?: StoredPointerMaps,
): RenumberedPages | RenumberRefusal {
  const { dirty, snapshotPageCount, pageCount } = ours;
  const options = { dirty, snapshotPageCount, pageCount, headPageCount };
  return renumberPages(ours, pointerMaps === undefined ? options : { ...options, pointerMaps });
}

function succeeded(result: RenumberedPages | RenumberRefusal): RenumberedPages {
  if (result.refused !== null) throw new Error(`refused: ${JSON.stringify(result)}`);
  return result;
}

/** The result as a transaction whose snapshot was the head. */
function classifyResult(
  ours: RecordedTransaction,
  { pages, pageCount, unwritten }: RenumberedPages,
  headPageCount: number,
): ReturnType<typeof classifyPages> {
  const accessed: AccessedPages = {
    pageSize: ours.pageSize,
    page: (number) =>
      pages.get(number) ?? (number <= ours.snapshotPageCount ? ours.page(number) : null),
  };
  const old = [...ours.dirty].filter((number) => number <= ours.snapshotPageCount);
  const dirty = [...old, ...pages.keys(), ...unwritten];
  return classifyPages(accessed, { dirty, snapshotPageCount: headPageCount, pageCount });
}

describe("refusals", () => {
  test("a transaction that made a table is refused: its root page stands in the schema", async () => {
    const ours = await recorded({ statements: ["CREATE TABLE u (a)"] });
    expect(renumber(ours, 10)).toEqual({ refused: "schema", numbers: [3] });
    const index = await recorded({ statements: [BLOB, "CREATE INDEX i ON t (a)"] });
    expect(renumber(index, 10).refused).toBe("schema");
  });

  test("the first transaction of an empty database is refused", () => {
    const statements = ["CREATE TABLE t (a)", BLOB];
    const options = { pageSize: 4096, statements, isSchemaKnown: true, cachePages: 100 };
    const ours = new RecordedTransaction(new Uint8Array(0), options);
    expect(ours.snapshotPageCount).toBe(0);
    expect(renumber(ours, 10)).toMatchObject({ refused: "schema" });
  });

  test("a transaction that cut the file, and one whose head was cut, are refused", async () => {
    const setup = `CREATE TABLE t (a); ${BLOB}; DELETE FROM t`;
    const options = { ...PLAIN, autoVacuum: 2 as const };
    const ours = await recorded({ options, setup, statements: ["PRAGMA incremental_vacuum"] });
    expect(ours.pageCount).toBeLessThan(ours.snapshotPageCount);
    expect(renumber(ours, 100)).toEqual({ refused: "shrunk", numbers: [] });
    const growing = await recorded({ statements: [BLOB] });
    expect(renumber(growing, growing.snapshotPageCount - 1).refused).toBe("shrunk");
  });

  test("auto_vacuum is refused without the pointer maps", async () => {
    const ours = await recorded({ options: { ...PLAIN, autoVacuum: 1 }, statements: [BLOB] });
    expect(renumber(ours, 100)).toEqual({ refused: "pointer-map", numbers: [] });
  });

  test("a pointer-map entry that both changed is refused", async () => {
    const options = { ...PLAIN, autoVacuum: 2 as const };
    const ours = await recorded({
      options,
      setup: `CREATE TABLE t (a); ${BLOB}`,
      statements: ["DELETE FROM t", `${BLOB}; ${BLOB}`],
    });
    const base = ours.snapshot.page(2)!;
    const changed = [...base.keys()].find((at) => base[at] !== ours.page(2)![at])!;
    const head = base.slice();
    head[changed]! ^= 0x40;
    const maps = { snapshot: () => base, head: () => base };
    expect(renumber(ours, ours.snapshotPageCount + 5, maps).refused).toBeNull();
    expect(renumber(ours, ours.snapshotPageCount + 5, { ...maps, head: () => head })).toEqual({
      refused: "pointer-map",
      numbers: [2],
    });
  });

  test("one page out of reach, and nothing is renumbered", async () => {
    const ours = await recorded({ statements: [BLOB] });
    const { snapshotPageCount, pageCount } = ours;
    const withoutRoot: AccessedPages = {
      pageSize: 512,
      page: (number) => (number === 2 ? null : ours.page(number)),
    };
    const options = { dirty: ours.dirty, snapshotPageCount, pageCount, headPageCount: 10 };
    expect(renumberPages(withoutRoot, options)).toEqual({
      refused: "unknown",
      numbers: [2, 3, 4, 5, 6, 7],
    });
    const other = { ...options, pageCount: pageCount + 1 };
    expect(renumberPages(ours, other)).toEqual({ refused: "unknown", numbers: [1] });
  });
});

describe("results", () => {
  test("an overflow chain moves as a whole, and the pages given stay as they are", async () => {
    const ours = await recorded({ statements: [BLOB] });
    const before = [2, 3, 4, 5, 6, 7].map((number) => ours.page(number)!.slice());
    const { pages, moved, pageCount, unwritten } = succeeded(renumber(ours, 12));
    expect([...moved]).toEqual([
      [3, 13],
      [4, 14],
      [5, 15],
      [6, 16],
      [7, 17],
    ]);
    expect({ pageCount, unwritten }).toEqual({ pageCount: 17, unwritten: [] });
    const nextOf = (number: number): number => Buffer.from(pages.get(number)!).readUInt32BE(0);
    expect([13, 14, 15, 16, 17].map(nextOf)).toEqual([14, 15, 16, 17, 0]);
    expect(pages.get(17)).toBe(ours.page(7));
    expect([2, 3, 4, 5, 6, 7].map((number) => ours.page(number))).toEqual(before);
  });

  test("new pages that were freed again and never written are free pages at their new numbers", async () => {
    const ours = await recorded({
      statements: ["INSERT INTO t VALUES (zeroblob(20000))", "DELETE FROM t", BLOB],
    });
    const result = succeeded(renumber(ours, 100));
    expect(result.unwritten.length).toBeGreaterThan(20);
    const { roles, unknown } = classifyResult(ours, result, 100);
    expect(unknown).toEqual([]);
    for (const number of result.unwritten) expect(roles.get(number)!.kind).toBe("free-leaf");
    expect(roles.get(result.lastTrunk)).toEqual({ kind: "free-trunk", root: 0 });
  });

  test("what a savepoint took back leaves no trace", async () => {
    const statements = [
      "SAVEPOINT a",
      "INSERT INTO t VALUES (zeroblob(40000))",
      "ROLLBACK TO a",
      BLOB,
    ];
    const ours = await recorded({ statements });
    const result = succeeded(renumber(ours, 50));
    expect(result.pageCount).toBe(55);
    expect(classifyResult(ours, result, 50).unknown).toEqual([]);
  });

  test("trees that grew by two levels move with all of their interior pages", async () => {
    const setup =
      "CREATE TABLE t (a PRIMARY KEY, b); CREATE TABLE w (a PRIMARY KEY) WITHOUT ROWID; CREATE TABLE u (a)";
    const rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)";
    const text = "printf('%.*c%d', i % 250, 'k', i * 7919 % 3001)";
    const ours = await recorded({
      setup,
      statements: [
        `INSERT INTO t ${rows} SELECT ${text}, i FROM n`,
        `INSERT INTO w ${rows} SELECT ${text} FROM n`,
      ],
    });
    const theirs = await recorded({
      setup,
      statements: ["INSERT INTO u VALUES (zeroblob(99999))"],
    });
    const result = succeeded(renumber(ours, theirs.pageCount));
    const { roles, unknown } = classifyResult(ours, result, theirs.pageCount);
    expect(unknown).toEqual([]);
    const moved = [...result.moved.values()].map((number) => roles.get(number)!.kind);
    for (const kind of ["table-interior", "index-interior", "overflow"]) {
      const count = moved.filter((one) => one === kind).length;
      expect(count, kind).toBeGreaterThan(10);
    }
    using stock = await StockSqlite.open(merged(theirs, ours, result));
    expect(stock.run("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
    expect(
      stock.run(
        "SELECT (SELECT count(*) FROM t) AS t, (SELECT count(*) FROM w) AS w, (SELECT length(a) FROM u) AS u",
      ),
    ).toEqual([{ t: 3000, w: 3000, u: 99999 }]);
  });

  test("two transactions on different ends of one table are both there", async () => {
    const filler = "zeroblob(300)";
    const setup = `CREATE TABLE t (a INTEGER PRIMARY KEY, b);
      INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i * 2, ${filler} FROM n;
      DELETE FROM t WHERE a BETWEEN 300 AND 304; VACUUM`;
    const theirs = await recorded({
      setup,
      statements: ["INSERT INTO t VALUES (2001, zeroblob(9000))"],
    });
    const ours = await recorded({
      setup,
      statements: ["UPDATE t SET b = zeroblob(5000) WHERE a = 200"],
    });
    for (const number of theirs.dirty)
      if (number > 1 && number <= ours.snapshotPageCount) expect(ours.read.has(number)).toBe(false);
    const result = succeeded(renumber(ours, theirs.pageCount));
    using stock = await StockSqlite.open(merged(theirs, ours, result));
    expect(stock.run("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
    expect(stock.run("SELECT a, length(b) AS size FROM t WHERE length(b) > 300")).toEqual([
      { a: 200, size: 5000 },
      { a: 2001, size: 9000 },
    ]);
  });
});

describe("the page at the lock byte", () => {
  const lockPage = (pageSize: number): number => 0x4000_0000 / pageSize + 1;

  test("SQLite passes it over when the file grows, and so does the renumbering", async () => {
    for (const pageSize of [512, 4096, 65536]) {
      const lock = lockPage(pageSize);
      const options = { ...PLAIN, pageSize };
      const statements = [`INSERT INTO t VALUES (zeroblob(${pageSize * 8}))`];
      const across = await recorded({ options, statements, pageCount: lock - 3 });
      expect(across.dirty.has(lock - 1)).toBe(true);
      expect(across.dirty.has(lock)).toBe(false);
      expect(across.dirty.has(lock + 1)).toBe(true);
      const changes = {
        dirty: across.dirty,
        snapshotPageCount: lock - 3,
        pageCount: across.pageCount,
      };
      const { roles, unknown } = classifyPages(across, changes);
      expect(unknown).toEqual([]);
      expect(roles.get(lock)).toEqual({ kind: "lock", root: 0 });
      const behind = succeeded(renumber(across, lock + 5));
      expect([...behind.moved.values()]).toEqual(range(lock + 6, lock + 5 + behind.moved.size));
      expect(classifyResult(across, behind, lock + 5).unknown).toEqual([]);
      const before = await recorded({ options, statements, pageCount: lock - 30 });
      const moved = succeeded(renumber(before, lock - 4));
      expect([...moved.moved.values()].slice(0, 5)).toEqual(
        [-3, -2, -1, 1, 2].map((at) => lock + at),
      );
      expect(classifyResult(before, moved, lock - 4).unknown).toEqual([]);
    }
  });

  test("a pointer map that would be there is behind it", async () => {
    const pageSize = 1024;
    const lock = lockPage(pageSize);
    const options = { ...PLAIN, pageSize, reserved: 4, autoVacuum: 2 as const };
    const ours = await recorded({
      options,
      setup: "CREATE TABLE t (a)",
      statements: [`INSERT INTO t VALUES (zeroblob(9000))`],
      pageCount: lock - 3,
    });
    const layout = fileLayout(ours.page(1)!, pageSize)!;
    expect((lock - 2) % layout.pointerMapInterval).toBe(0);
    expect(isPointerMap(layout, lock)).toBe(false);
    expect(isPointerMap(layout, lock + 1)).toBe(true);
    const changes = { dirty: ours.dirty, snapshotPageCount: lock - 3, pageCount: ours.pageCount };
    const { roles, unknown } = classifyPages(ours, changes);
    expect(unknown).toEqual([]);
    expect(ours.dirty.has(lock + 1)).toBe(true);
    expect(roles.get(lock + 1)!.kind).toBe("pointer-map");
    expect(roles.get(lock + 2)!.kind).toBe("overflow");
    const empty = (): Uint8Array => new Uint8Array(pageSize);
    const result = succeeded(renumber(ours, lock + 10, { snapshot: empty, head: empty }));
    expect(classifyResult(ours, result, lock + 10).unknown).toEqual([]);
    const entries = Buffer.from(result.pages.get(lock + 1)!);
    const [first, ...others] = [...result.moved.values()];
    for (const [index, number] of [first!, ...others].entries()) {
      const at = (number - lock - 2) * 5;
      const parent = index === 0 ? [3, 3] : [4, number - 1];
      expect([entries[at], entries.readUInt32BE(at + 1)]).toEqual(parent);
    }
  });
});

/** Theirs, with ours on top; neither changed the freelist. */
function merged(
  theirs: RecordedTransaction,
  ours: RecordedTransaction,
  { pages, pageCount }: RenumberedPages,
): Uint8Array {
  const { pageSize, snapshotPageCount } = ours;
  const bytes = new Uint8Array(pageCount * pageSize);
  bytes.set(theirs.end.bytes);
  for (const number of ours.dirty)
    if (number <= snapshotPageCount) bytes.set(ours.page(number)!, (number - 1) * pageSize);
  for (const [number, page] of pages) bytes.set(page, (number - 1) * pageSize);
  return bytes;
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
