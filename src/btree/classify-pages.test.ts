import { describe, expect, test } from "vitest";
import { FilePages } from "../testing/file-pages.ts";
import { Random } from "../testing/random.ts";
import {
  fillRandomDatabase,
  openEmptyDatabase,
  randomDatabaseOptions,
} from "../testing/random-database.ts";
import { StockSqlite } from "../testing/stock-sqlite.ts";
import { classifyPages, tableOfPage, type PageKind } from "./classify-pages.ts";
import { schemaRoots } from "./schema-roots.ts";

const SEEDS = process.env["BOUGH_TEST_LONG"] === undefined ? 12 : 1000;
const FIRST_SEED = Number(process.env["BOUGH_TEST_SEED"] ?? 0);

function classifyAll(pages: FilePages): { roles: Map<number, string>; unknown: readonly number[] } {
  const { roles, unknown } = classifyPages(pages, {
    dirty: pages.numbers,
    snapshotPageCount: pages.pageCount,
    pageCount: pages.pageCount,
  });
  return {
    roles: new Map([...roles].map(([number, { kind, root }]) => [number, `${kind} ${root}`])),
    unknown,
  };
}

/** What SQLite itself says about each page; its pages of the freelist are those that nothing else has. */
function truth(stock: StockSqlite, pages: FilePages): Map<number, string> {
  const roots = new Map<unknown, number>([["sqlite_schema", 1]]);
  for (const row of stock.run("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0"))
    roots.set(row["name"], Number(row["rootpage"]));
  const isIndex = new Set<unknown>([
    ...stock.run("SELECT name FROM sqlite_schema WHERE type = 'index'").map((row) => row["name"]),
    ...stock.run("PRAGMA table_list").flatMap((row) => (row["wr"] === 1 ? [row["name"]] : [])),
  ]);
  const found = new Map<number, string>();
  for (const { name, pageno, pagetype } of stock.run("SELECT name, pageno, pagetype FROM dbstat")) {
    const tree = isIndex.has(name) ? "index" : "table";
    const kind: PageKind =
      pagetype === "overflow"
        ? "overflow"
        : pagetype === "internal"
          ? `${tree}-interior`
          : `${tree}-leaf`;
    found.set(Number(pageno), `${kind} ${roots.get(name)}`);
  }
  addFreePages(stock, pages, found);
  return found;
}

function addFreePages(stock: StockSqlite, pages: FilePages, found: Map<number, string>): void {
  const view = new DataView(pages.bytes.buffer, pages.bytes.byteOffset);
  let free = 0;
  for (let trunk = view.getUint32(32); trunk !== 0;) {
    const at = (trunk - 1) * pages.pageSize;
    found.set(trunk, "free-trunk 0");
    const leaves = view.getUint32(at + 4);
    for (let leaf = 0; leaf < leaves; leaf++)
      found.set(view.getUint32(at + 8 + 4 * leaf), "free-leaf 0");
    free += 1 + leaves;
    trunk = view.getUint32(at);
  }
  expect(free).toBe(stock.run("PRAGMA freelist_count")[0]!["freelist_count"]);
  const hasMaps = view.getUint32(52) > 0;
  for (const number of pages.numbers)
    if (!found.has(number)) found.set(number, hasMaps ? "pointer-map 0" : "nothing");
}

async function randomDatabase(seed: number): Promise<{ stock: StockSqlite; pages: FilePages }> {
  const random = new Random(seed);
  const options = randomDatabaseOptions(random);
  const stock = await openEmptyDatabase(options);
  fillRandomDatabase(stock, random, random.integer(1, 12));
  return { stock, pages: new FilePages(new Uint8Array(stock.bytes()), options.pageSize) };
}

describe("classification of whole files", () => {
  test("equals what SQLite says about every page", async () => {
    const kinds = new Map<string, number>();
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const { stock, pages } = await randomDatabase(seed);
      const { roles, unknown } = classifyAll(pages);
      expect(unknown, `seed ${seed}`).toEqual([]);
      const expected = truth(stock, pages);
      expect([...roles].sort(byNumber), `seed ${seed}`).toEqual([...expected].sort(byNumber));
      for (const role of roles.values()) {
        const kind = role.split(" ")[0]!;
        kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      }
      stock[Symbol.dispose]();
    }
    expect([...kinds.keys()].sort()).toEqual([
      "free-leaf",
      "free-trunk",
      "index-interior",
      "index-leaf",
      "overflow",
      "pointer-map",
      "table-interior",
      "table-leaf",
    ]);
  });
});

describe("damaged files", () => {
  test("a flipped bit changes no role: it is found, or it changes nothing", async () => {
    let found = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS / 4; seed++) {
      const { stock, pages } = await randomDatabase(seed);
      stock[Symbol.dispose]();
      const random = new Random(seed + 1e6);
      const before = classifyAll(pages).roles;
      for (let round = 0; round < 150; round++) {
        const offset = damagedOffset(pages, random);
        const bit = 1 << random.integer(0, 7);
        pages.bytes[offset]! ^= bit;
        const { roles, unknown } = classifyAll(pages);
        if (unknown.length > 0) found++;
        else expect(roles, `seed ${seed}, offset ${offset}, bit ${bit}`).toEqual(before);
        pages.bytes[offset]! ^= bit;
      }
    }
    expect(found).toBeGreaterThan(SEEDS * 5);
  });

  test("any bytes are walked to an end, within their bounds", async () => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS / 2; seed++) {
      const { stock, pages } = await randomDatabase(seed);
      stock[Symbol.dispose]();
      const random = new Random(seed + 2e6);
      for (let round = 0; round < 10; round++) {
        const at = random.integer(0, pages.pageCount - 1) * pages.pageSize;
        const other = random.integer(0, pages.pageCount - 1) * pages.pageSize;
        const length = random.integer(1, Math.min(pages.pageSize, 300));
        if (random.chance(0.5)) pages.bytes.set(random.bytes(length), at);
        else pages.bytes.copyWithin(at, other, other + pages.pageSize);
        const { roles, unknown } = classifyAll(pages);
        const found = [...new Set([...roles.keys(), ...unknown])];
        expect(found.sort(ascending)).toEqual(pages.numbers);
      }
    }
  });

  test("a child, or the root of an index, of the wrong kind is found", async () => {
    using stock = await StockSqlite.open();
    stock.run(`PRAGMA page_size = 512; CREATE TABLE t (a); CREATE TABLE u (a); CREATE INDEX i ON u (a);
      INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99) SELECT i FROM n`);
    const bytes = new Uint8Array(stock.bytes());
    const unknown = (number: number, kind: number): readonly number[] => {
      const pages = new FilePages(bytes.slice(), 512);
      pages.page(number)![0] = kind;
      pages.accessed = new Set([1, 2, number]);
      return classifyPages(pages, {
        dirty: [],
        snapshotPageCount: pages.pageCount,
        pageCount: pages.pageCount,
      }).unknown;
    };
    const child = bytes.length / 512;
    const [index, table] = [4, 3];
    expect(unknown(child, 13)).toEqual([]);
    expect(unknown(child, 10)).toEqual([child]);
    expect(unknown(index, 10)).toEqual([]);
    expect(unknown(index, 13)).toEqual([index]);
    expect(unknown(table, 10)).toEqual([]);
  });

  test("a page that two cells name, a chain and a freelist in a circle are found", async () => {
    using stock = await StockSqlite.open();
    stock.run(`PRAGMA page_size = 512; CREATE TABLE t (a); CREATE TABLE u (a);
      INSERT INTO t VALUES (zeroblob(3000)); INSERT INTO u SELECT zeroblob(90000); DELETE FROM u;`);
    const bytes = new Uint8Array(stock.bytes());
    const kindOf = (kind: string): number[] =>
      [...classifyAll(new FilePages(bytes, 512)).roles].flatMap(([number, role]) =>
        role.startsWith(kind) ? [number] : [],
      );
    const [overflow, next] = kindOf("overflow");
    const [trunk] = kindOf("free-trunk");
    const withNumber = (offset: number, number: number): readonly number[] => {
      const pages = new FilePages(bytes.slice(), 512);
      new DataView(pages.bytes.buffer).setUint32(offset, number);
      return classifyAll(pages).unknown;
    };
    expect(classifyAll(new FilePages(bytes, 512)).unknown).toEqual([]);
    expect(withNumber((next! - 1) * 512, overflow!)).toContain(overflow);
    expect(withNumber((overflow! - 1) * 512, 0)).toContain(overflow);
    expect(withNumber((trunk! - 1) * 512, trunk!)).toContain(trunk);
    expect(withNumber((trunk! - 1) * 512 + 4, 127)).toContain(trunk);
    expect(withNumber((trunk! - 1) * 512 + 4, 0xffff_ffff)).toContain(trunk);
    expect(withNumber(32, 0)).toContain(1);
    const last = kindOf("overflow").at(-1)!;
    expect(withNumber((last - 1) * 512, trunk!)).toContain(last);
    const [leaf] = kindOf("free-leaf");
    expect(withNumber((trunk! - 1) * 512 + 12, leaf!)).toContain(leaf);
  });
});

describe("a part of the pages", () => {
  test("what was accessed is exact, and dirty pages out of reach are unknown", async () => {
    let unknownCount = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const { stock, pages } = await randomDatabase(seed);
      const expected = truth(stock, pages);
      stock[Symbol.dispose]();
      const random = new Random(seed + 3e6);
      pages.accessed = new Set([1, ...pages.numbers.filter(() => random.chance(0.7))]);
      const dirty = [...pages.accessed].filter(() => random.chance(0.3));
      const { pageCount } = pages;
      const { roles, unknown } = classifyPages(pages, {
        dirty,
        snapshotPageCount: pageCount,
        pageCount,
      });
      unknownCount += unknown.length;
      const wrong = [...roles].filter(
        ([number, { kind, root }]) => `${kind} ${root}` !== expected.get(number),
      );
      expect(wrong, `seed ${seed}`).toEqual([]);
      expect(dirty.filter((number) => !roles.has(number)).sort(ascending)).toEqual(unknown);
    }
    expect(unknownCount).toBeGreaterThan(SEEDS);
  });

  test("an overflow page that was written alone is found through its clean leaf", async () => {
    using stock = await StockSqlite.open();
    stock.run("PRAGMA page_size = 512; CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(3000))");
    const pages = new FilePages(new Uint8Array(stock.bytes()), 512);
    const { roles, unknown } = classifyPages(pages, {
      dirty: [4],
      snapshotPageCount: pages.pageCount,
      pageCount: pages.pageCount,
    });
    expect(unknown).toEqual([]);
    expect(roles.get(4)).toEqual({ kind: "overflow", root: 2 });
  });

  test("tables are named by their pages", async () => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + 3; seed++) {
      const { stock, pages } = await randomDatabase(seed);
      const { pageCount } = pages;
      const changes = { snapshotPageCount: pageCount, pageCount };
      const names = stock.run("SELECT name, pageno FROM dbstat");
      for (const { name, pageno } of names)
        expect(tableOfPage(pages, Number(pageno), changes)).toBe(name);
      const free = pages.numbers.filter((page) => names.every(({ pageno }) => pageno !== page));
      for (const number of free) expect(tableOfPage(pages, number, changes)).toBeNull();
      stock[Symbol.dispose]();
    }
  });

  test("a schema known from before takes the place of schema pages that were not accessed", async () => {
    using stock = await StockSqlite.open();
    stock.run("PRAGMA page_size = 512");
    for (let table = 0; table < 30; table++)
      stock.run(`CREATE TABLE t${table} (a /* ${"padding ".repeat(table * 3)} */)`);
    stock.run(`CREATE VIEW v AS SELECT a FROM t1; CREATE VIRTUAL TABLE r USING rtree(id, x, y); DROP TABLE r;
      CREATE TRIGGER g AFTER DELETE ON t1 BEGIN SELECT 1; END; CREATE VIRTUAL TABLE s USING dbstat`);
    const pages = new FilePages(new Uint8Array(stock.bytes()), 512);
    const schema = schemaRoots(pages);
    const expected = stock.run("SELECT name, tbl_name, rootpage FROM sqlite_schema WHERE rootpage");
    expect(schema.isComplete).toBe(true);
    for (const { name, tbl_name: table, rootpage } of expected)
      expect(schema.roots.get(Number(rootpage))).toEqual({ name, table, type: "table" });
    expect(schema.roots.size).toBe(31);
    const root = Number(expected[29]!["rootpage"]);
    pages.accessed = new Set([1, root]);
    const changes = {
      dirty: [root],
      snapshotPageCount: pages.pageCount,
      pageCount: pages.pageCount,
    };
    expect(schemaRoots(pages).isComplete).toBe(false);
    expect(classifyPages(pages, changes).unknown).toEqual([root]);
    expect(classifyPages(pages, { ...changes, schema }).unknown).toEqual([]);
    expect(tableOfPage(pages, root, { ...changes, schema })).toBe("t29");
  });

  test("clean pages name no new pages, and new pages that nobody wrote are only free leaves", async () => {
    using stock = await StockSqlite.open();
    stock.run("PRAGMA page_size = 512; CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(1500))");
    const pages = new FilePages(new Uint8Array(stock.bytes()), 512);
    const { pageCount } = pages;
    expect(pageCount).toBe(5);
    const unknown = (dirty: number[], snapshotPageCount: number): readonly number[] =>
      classifyPages(pages, { dirty, snapshotPageCount, pageCount }).unknown;
    expect(unknown([1, 2, 3, 4, 5], 2)).toEqual([]);
    expect(unknown([3, 4, 5], 2)).toContain(2);
    expect(unknown([2, 3, 4], 2)).toContain(5);
    expect(unknown([5], 4)).toContain(4);
  });

  test("without page 1, or with another page size in it, all is unknown", async () => {
    using stock = await StockSqlite.open();
    stock.run("PRAGMA page_size = 512; CREATE TABLE t (a)");
    const pages = new FilePages(new Uint8Array(stock.bytes()), 512);
    pages.accessed = new Set([2]);
    expect(classifyAll(pages)).toEqual({ roles: new Map(), unknown: [1, 2] });
    const other = new FilePages(new Uint8Array(stock.bytes()), 1024);
    expect(classifyAll(other)).toEqual({ roles: new Map(), unknown: [1] });
  });
});

/** Mostly where structure is: headers, cell offsets, beginnings of pages. */
function damagedOffset(pages: FilePages, random: Random): number {
  const start = random.integer(0, pages.pageCount - 1) * pages.pageSize;
  return start + random.integer(0, random.pick([12, 120, pages.pageSize]) - 1);
}

function ascending(left: number, right: number): number {
  return left - right;
}

function byNumber([left]: [number, string], [right]: [number, string]): number {
  return left - right;
}
