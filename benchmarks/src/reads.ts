/** Reading: points, rows, scans, sorts, text. */
import { compare, type ResultRow, type Sample, timed } from "./measure.ts";
import {
  CUSTOMER_TABLE,
  customers,
  customerValues,
  INSERT_CUSTOMER,
  Prose,
  randomIds,
} from "./sample-data.ts";
import { inTransaction, type Sides, type Sql } from "./sides.ts";
import type { Settings } from "./settings.ts";

const TABLE_ROWS = 100_000;
const TEXT_ROWS = 20_000;
const TEXT_LENGTH = 1000;

export function fillCustomers(sql: Sql, count: number): void {
  sql.exec(CUSTOMER_TABLE);
  const insert = sql.prepare(INSERT_CUSTOMER);
  inTransaction(sql, () => {
    for (const row of customers(count)) insert.run(...customerValues(row));
  });
}

interface ReadItem {
  readonly item: string;
  readonly title: string;
  readonly unit: string;
  readonly wanted: number | null;
  /** Prepares on one side; the result is one round. */
  readonly round: (sql: Sql) => () => Sample;
}

/** A query that is run once per round, counted by the rows that it reads. */
function query(sql: string, rows: number, times = 1): (side: Sql) => () => Sample {
  return (side) => {
    const statement = side.prepare(sql);
    return () =>
      timed(rows * times, () => {
        for (let time = 0; time < times; time++) statement.all();
      });
  };
}

function items(scanRows: number): ReadItem[] {
  const ids = randomIds(100_000, TABLE_ROWS);
  return [
    {
      item: "point-read",
      title: "Point read by primary key, 100,000-row table",
      unit: "reads/s",
      wanted: 2,
      round: (sql) => {
        const get = sql.prepare("SELECT * FROM customer WHERE id = ?");
        return () =>
          timed(ids.length, () => {
            for (const id of ids) get.get(id);
          });
      },
    },
    {
      item: "rows",
      title: "100,000 rows as objects, all()",
      unit: "rows/s",
      wanted: 1.5,
      round: query("SELECT * FROM customer", TABLE_ROWS),
    },
    {
      item: "scan",
      title: `Scan: COUNT and SUM over ${scanRows.toLocaleString("en")} rows`,
      unit: "rows/s",
      wanted: 0.6,
      round: query("SELECT count(*), sum(amount), max(visits) FROM big", scanRows),
    },
    {
      item: "aggregate",
      title: `GROUP BY over ${scanRows.toLocaleString("en")} rows`,
      unit: "rows/s",
      wanted: 0.6,
      round: query(
        "SELECT region, count(*), sum(amount), avg(visits) FROM big GROUP BY region",
        scanRows,
      ),
    },
    {
      item: "order-by",
      title: "ORDER BY without an index, 100,000 rows",
      unit: "rows/s",
      wanted: null,
      round: query("SELECT id FROM customer ORDER BY amount LIMIT 10 OFFSET 50000", TABLE_ROWS),
    },
    {
      item: "text",
      title: `${TEXT_ROWS.toLocaleString("en")} rows of ${TEXT_LENGTH} characters, all()`,
      unit: "rows/s",
      wanted: null,
      round: query("SELECT id, body FROM note", TEXT_ROWS),
    },
    {
      item: "text-search",
      title: "LIKE '%word%' over the same rows",
      unit: "rows/s",
      wanted: null,
      round: query("SELECT count(*) FROM note WHERE body LIKE '%configuration%'", TEXT_ROWS),
    },
  ];
}

function fill(sql: Sql, prose: Prose, scanRows: number): void {
  fillCustomers(sql, TABLE_ROWS);
  sql.exec("CREATE TABLE big(id INTEGER PRIMARY KEY, region TEXT, amount REAL, visits INTEGER)");
  sql.exec(`INSERT INTO big SELECT customer.id + (copy.value - 1) * ${TABLE_ROWS}, region, amount, visits
    FROM customer, json_each('[${Array.from({ length: scanRows / TABLE_ROWS }, (_, index) => index + 1).join()}]') AS copy`);
  sql.exec("CREATE TABLE note(id INTEGER PRIMARY KEY, body TEXT)");
  const insert = sql.prepare("INSERT INTO note(body) VALUES (?)");
  inTransaction(sql, () => {
    for (let row = 0; row < TEXT_ROWS; row++) insert.run(prose.passage(TEXT_LENGTH));
  });
}

export async function benchReads(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const scanRows = settings.isQuick ? TABLE_ROWS : 5 * TABLE_ROWS;
  const chosen = items(scanRows).filter(({ item }) => settings.includes(item));
  if (chosen.length === 0) return [];
  const store = sides.store();
  store.createDatabase("data");
  const bough = store.connect("data");
  const sqlite = sides.sqlite();
  fill(bough, new Prose(sides.workspace.root), scanRows);
  fill(sqlite, new Prose(sides.workspace.root), scanRows);
  store.checkpoint();
  sqlite.pragma("wal_checkpoint(TRUNCATE)");
  const rows: ResultRow[] = [];
  for (const { item, title, unit, wanted, round } of chosen) {
    const comparison = { bough: round(bough), sqlite: round(sqlite) };
    rows.push(
      await compare({ item, title, unit }, comparison, {
        rounds: settings.rounds,
        wanted: wanted === null ? null : settings.wantedRatio(wanted),
      }),
    );
    settings.show(rows.at(-1)!);
  }
  sqlite.close();
  store.close();
  return rows;
}
