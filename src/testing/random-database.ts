/** Databases with every kind of page that SQLite has, made by SQLite as its authors ship it, from a seed. */
import type { Random } from "./random.ts";
import { StockSqlite } from "./stock-sqlite.ts";

export interface RandomDatabaseOptions {
  readonly pageSize: number;
  /** Bytes at the end of each page that SQLite leaves alone. */
  readonly reserved: number;
  /** 0 none, 1 full, 2 incremental. */
  readonly autoVacuum: 0 | 1 | 2;
  readonly encoding: "UTF-8" | "UTF-16le" | "UTF-16be";
}

const RESERVED_OFFSET = 20;
const CONTENT_START_OFFSET = 105;

export function randomDatabaseOptions(random: Random): RandomDatabaseOptions {
  const pageSize = random.pick([512, 512, 1024, 1024, 4096, 4096, 8192, 65536]);
  return {
    pageSize,
    reserved: random.pick([0, 0, 8, 32, pageSize === 512 ? 32 : 255]),
    autoVacuum: random.pick([0, 0, 1, 2]),
    encoding: random.pick(["UTF-8", "UTF-8", "UTF-16le", "UTF-16be"]),
  };
}

/** A database without tables; to be disposed of by the caller. */
export async function openEmptyDatabase(options: RandomDatabaseOptions): Promise<StockSqlite> {
  using blank = await StockSqlite.open();
  blank.run(`PRAGMA page_size = ${options.pageSize}; PRAGMA auto_vacuum = ${options.autoVacuum};
    PRAGMA encoding = '${options.encoding}'; PRAGMA user_version = 1;`);
  const bytes = new Uint8Array(blank.bytes());
  const usableSize = options.pageSize - options.reserved;
  bytes[RESERVED_OFFSET] = options.reserved;
  bytes[CONTENT_START_OFFSET] = (usableSize >> 8) & 0xff;
  bytes[CONTENT_START_OFFSET + 1] = usableSize & 0xff;
  return StockSqlite.open(bytes);
}

/**
 * There are no views: with a view that comes first in its hash table of the schema, SQLite's integrity_check takes itself for
 * the check of a single table, and looks at neither the freelist nor at pages that nobody uses.
 *
 * Makes tables `t0`, `t1` ... with columns `a`, `b`, `c`, and changes their rows. */
export function fillRandomDatabase(stock: StockSqlite, random: Random, tableCount: number): void {
  const { page_size: pageSize } = stock.run("PRAGMA page_size")[0]! as { page_size: number };
  for (let table = 0; table < tableCount; table++) stock.run(createTable(random, `t${table}`));
  if (random.chance(0.3))
    stock.run(
      "CREATE TABLE dropped (a, b, c); CREATE TRIGGER cleared AFTER DELETE ON dropped BEGIN SELECT 1; END;",
    );
  if (random.chance(0.3)) {
    stock.run(
      "CREATE VIRTUAL TABLE words USING fts5(a); CREATE VIRTUAL TABLE boxes USING rtree(id, x, y);",
    );
    for (let id = 0; id < 40; id++)
      stock.run(`INSERT INTO words VALUES (hex(randomblob(${id})));
        INSERT INTO boxes VALUES (${id}, ${id}, ${id + 1})`);
  }
  for (let table = 0; table < tableCount; table++)
    for (let step = random.integer(0, 6); step > 0; step--)
      stock.run(randomChange(random, `t${table}`, pageSize));
  stock.run("DROP TABLE IF EXISTS dropped");
  if (random.chance(0.3)) stock.run(`PRAGMA incremental_vacuum(${random.integer(1, 5)})`);
}

function createTable(random: Random, name: string): string {
  const padding = random.chance(0.3) ? `/* ${"long ".repeat(random.integer(1, 200))} */` : "";
  const kind = random.pick(["rowid", "rowid", "without", "unique", "indexed"]);
  switch (kind) {
    case "without":
      return `CREATE TABLE ${name} (a, b, c ${padding}, PRIMARY KEY (b, a)) WITHOUT ROWID`;
    case "unique":
      return `CREATE TABLE ${name} (a INTEGER PRIMARY KEY, b UNIQUE, c ${padding})`;
    case "indexed":
      return `CREATE TABLE ${name} (a INTEGER PRIMARY KEY, b, c ${padding});
        CREATE INDEX ${name}_index ON ${name} (c, b)`;
    default:
      return `CREATE TABLE ${name} (a INTEGER PRIMARY KEY, b, c ${padding})`;
  }
}

/** Up to 60 rows of one size. */
export function randomInsert(random: Random, table: string, pageSize: number): string {
  const first = random.integer(1, 100_000) * 1000;
  const size = random.pick([10, 60, 200, Math.floor(pageSize / 3), pageSize]);
  return `INSERT INTO ${table} ${rows(first, random.integer(1, 60))}
    SELECT i, printf('%.*c%d', i * 7919 % ${size} + 1, 'k', i), zeroblob(i * 31 % ${size}) FROM n`;
}

/** One statement, or a few, on the rows of one table. Text and blobs come from the random generator, never from SQLite's. */
export function randomChange(random: Random, table: string, pageSize: number): string {
  const first = random.integer(1, 100_000) * 1000;
  const size = random.pick([10, 60, 200, Math.floor(pageSize / 3), pageSize]);
  const from = random.integer(0, 200);
  switch (random.pick(["insert", "insert", "insert", "blob", "update", "delete", "cut"])) {
    case "insert":
      return randomInsert(random, table, pageSize);
    case "blob":
      return `INSERT INTO ${table} ${rows(first, random.integer(1, 3))}
        SELECT i, 'b' || i, zeroblob(${pageSize * random.integer(1, 8) + size}) FROM n`;
    case "update":
      return `UPDATE ${table} SET c = zeroblob(length(b) * ${random.integer(1, 6)} % ${pageSize * 2})
        WHERE a % 5 = ${random.integer(0, 4)}`;
    case "delete":
      return `DELETE FROM ${table} WHERE a % 3 = ${random.integer(0, 2)}`;
    default:
      return `DELETE FROM ${table} WHERE a IN (SELECT a FROM ${table} ORDER BY a LIMIT ${from})`;
  }
}

function rows(first: number, count: number): string {
  return `WITH RECURSIVE n(i) AS (SELECT ${first} UNION ALL SELECT i + 1 FROM n WHERE i < ${first + count - 1})`;
}
