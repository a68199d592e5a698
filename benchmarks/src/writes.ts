/** Writing: bulk inserts, commits one by one, many writers at once, and what the disk itself can do. */
import fs from "node:fs";
import {
  compare,
  fact,
  median,
  type ResultRow,
  type Sample,
  timed,
  timedAsync,
} from "./measure.ts";
import {
  type Customer,
  CUSTOMER_TABLE,
  customers,
  customerValues,
  INSERT_CUSTOMER,
} from "./sample-data.ts";
import type { Settings } from "./settings.ts";
import { inTransaction, type Sides, type Sql } from "./sides.ts";
import type { Store } from "../../src/store/store.ts";

const WRITERS = 64;

export async function benchWrites(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const rows: ResultRow[] = [];
  const add = (row: ResultRow): void => {
    rows.push(row);
    settings.show(row);
  };
  if (settings.includes("insert")) add(await bulkInsert(sides, settings));
  if (settings.includes("commit-durable"))
    for (const row of await durableCommits(sides, settings)) add(row);
  if (settings.includes("commit-off")) add(await commitsWithoutSync(sides, settings));
  if (settings.includes("writers-64"))
    for (const row of await manyWriters(sides, settings)) add(row);
  if (settings.includes("sustained")) for (const row of await sustained(sides, settings)) add(row);
  return rows;
}

async function bulkInsert(sides: Sides, settings: Settings): Promise<ResultRow> {
  const data = customers(100_000).map(customerValues);
  const store = sides.store();
  let count = 0;
  const load = (sql: Sql): Sample => {
    sql.exec(CUSTOMER_TABLE);
    const insert = sql.prepare(INSERT_CUSTOMER);
    const sample = timed(data.length, () =>
      inTransaction(sql, () => {
        for (const values of data) insert.run(...values);
      }),
    );
    sql.close();
    return sample;
  };
  const row = await compare(
    {
      item: "insert",
      title: "Bulk insert, 100,000 rows in one durable transaction",
      unit: "rows/s",
    },
    {
      bough: () => {
        const name = `data${++count}`;
        store.createDatabase(name);
        return load(store.connect(name));
      },
      sqlite: () => load(sides.sqlite()),
    },
    { rounds: settings.rounds, wanted: settings.wantedRatio(1) },
  );
  store.close();
  return row;
}

/** Endless rows with growing ids. */
function rowSource(): () => Customer {
  const data = customers(1000);
  let id = 0;
  return () => ({ ...data[id % 1000]!, id: ++id });
}

function singleInserts(sql: Sql, count: number): () => Sample {
  sql.exec(CUSTOMER_TABLE);
  const insert = sql.prepare(INSERT_CUSTOMER);
  const next = rowSource();
  return () =>
    timed(count, () => {
      for (let index = 0; index < count; index++) insert.run(...customerValues(next()));
    });
}

async function durableCommits(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const count = settings.isQuick ? 500 : 2000;
  const store = sides.store();
  store.createDatabase("data");
  const sqlite = sides.sqlite();
  const row = await compare(
    {
      item: "commit-durable",
      title: "Single-row durable commits, synchronous API",
      unit: "commits/s",
    },
    { bough: singleInserts(store.connect("data"), count), sqlite: singleInserts(sqlite, count) },
    { rounds: settings.rounds, wanted: settings.wantedRatio(1) },
  );
  sqlite.close();
  store.close();
  const floor = diskFloor(sides, { count: settings.isQuick ? 300 : 1000, size: 512 });
  return [
    row,
    fact(
      {
        item: "commit-durable-floor",
        title: "  the disk: 512 bytes into a zeroed file, O_DSYNC; beside pwrite + fdatasync",
        unit: "writes/s",
      },
      floor.dsync,
      { baseline: floor.fdatasync, baselineName: "fdatasync" },
    ),
  ];
}

/** Durable writes per second of a bare loop. */
function diskFloor(
  sides: Sides,
  { count, size }: { count: number; size: number },
): { dsync: number; fdatasync: number } {
  const bytes = Buffer.alloc(size, 7);
  const run = (flags: number, after: (file: number) => void): number => {
    const path = sides.workspace.path("floor");
    fs.writeFileSync(path, Buffer.alloc(count * size));
    const file = fs.openSync(path, fs.constants.O_RDWR | flags);
    fs.fsyncSync(file);
    const times: number[] = [];
    for (let index = 0; index < count; index++) {
      const start = performance.now();
      fs.writeSync(file, bytes, 0, size, index * size);
      after(file);
      times.push(performance.now() - start);
    }
    fs.closeSync(file);
    return 1000 / median(times);
  };
  return {
    dsync: run(fs.constants.O_DSYNC, () => undefined),
    fdatasync: run(0, (file) => fs.fdatasyncSync(file)),
  };
}

async function commitsWithoutSync(sides: Sides, settings: Settings): Promise<ResultRow> {
  const count = settings.isQuick ? 10_000 : 30_000;
  const store = sides.store("off");
  store.createDatabase("data");
  const sqlite = sides.sqlite("off");
  const row = await compare(
    {
      item: "commit-off",
      title: "Single-row commits without sync, synchronous API",
      unit: "commits/s",
    },
    { bough: singleInserts(store.connect("data"), count), sqlite: singleInserts(sqlite, count) },
    { rounds: settings.rounds, wanted: settings.wantedRatio(1) },
  );
  sqlite.close();
  store.close();
  return row;
}

/** 64 loops that each commit and wait until it is durable. */
async function loops(
  total: number,
  commit: (writer: number) => Promise<void> | void,
): Promise<void> {
  let left = total;
  const loop = async (writer: number): Promise<void> => {
    while (left-- > 0) await commit(writer);
  };
  await Promise.all(Array.from({ length: WRITERS }, (_, writer) => loop(writer)));
}

async function manyWriters(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const rows: ResultRow[] = [];
  for (const connections of [1, WRITERS]) {
    const store = sides.store();
    store.createDatabase("data");
    const sqlite = sides.sqlite();
    const [left, right] = [asyncWriters(store, connections), asyncInserts(sqlite)];
    const counts = settings.isQuick
      ? { bough: 5000, sqlite: 500 }
      : { bough: 30_000, sqlite: 2000 };
    rows.push(
      await compare(
        {
          item: connections === 1 ? "writers-64" : "writers-64-connections",
          title: `64 asynchronous writers, durable, ${connections === 1 ? "one connection" : "a connection each"}`,
          unit: "commits/s",
        },
        { bough: () => left(counts.bough), sqlite: () => right(counts.sqlite) },
        { rounds: settings.rounds, wanted: settings.wantedRatio(15) },
      ),
    );
    sqlite.close();
    store.close();
  }
  return rows;
}

function asyncWriters(store: Store, count: number): (total: number) => Promise<Sample> {
  const first = store.connect("data");
  first.exec(CUSTOMER_TABLE);
  const connections = [first];
  while (connections.length < count) connections.push(store.connect("data"));
  const writers = connections.map((connection) => ({
    connection,
    insert: connection.prepare(INSERT_CUSTOMER),
  }));
  const next = rowSource();
  return (total) =>
    timedAsync(total, () =>
      loops(total, async (writer) => {
        const { connection, insert } = writers[writer % count]!;
        await connection.durably(() => insert.run(...customerValues(next())));
      }),
    );
}

function asyncInserts(sql: Sql): (total: number) => Promise<Sample> {
  sql.exec(CUSTOMER_TABLE);
  const insert = sql.prepare(INSERT_CUSTOMER);
  const next = rowSource();
  return (total) =>
    timedAsync(total, () => loops(total, () => void insert.run(...customerValues(next()))));
}

/** Long enough that checkpoints are part of it, on both sides, and a last one at the end is timed too. */
async function sustained(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const ms = settings.isQuick ? 2000 : 10_000;
  const rows: ResultRow[] = [];
  for (const durability of ["full", "off"] as const) {
    const store = sides.store(durability);
    store.createDatabase("data");
    const sqlite = sides.sqlite(durability);
    const left = insertsFor(store.connect("data"), ms, () => store.checkpoint());
    const right = insertsFor(sqlite, ms, () => sqlite.pragma("wal_checkpoint(TRUNCATE)"));
    const name = durability === "full" ? "durable" : "off";
    const what = durability === "full" ? "durable" : "without sync";
    rows.push(
      {
        ...fact(
          {
            item: `sustained-${name}`,
            title: `Single-row commits ${what}, ${ms / 1000} s on end, checkpoints included`,
            unit: "commits/s",
          },
          left.rate,
          { baseline: right.rate },
        ),
        ratio: left.rate / right.rate,
        wanted: "1x",
        isMet: left.rate >= right.rate,
      },
      fact(
        { item: `sustained-${name}-p99`, title: "  99th percentile of a commit", unit: "ms" },
        left.p99,
        { baseline: right.p99 },
      ),
      fact({ item: `sustained-${name}-max`, title: "  slowest commit", unit: "ms" }, left.max, {
        baseline: right.max,
      }),
    );
    sqlite.close();
    store.close();
  }
  return rows;
}

function insertsFor(
  sql: Sql,
  forMs: number,
  checkpoint: () => void,
): { rate: number; p99: number; max: number } {
  sql.exec(CUSTOMER_TABLE);
  const insert = sql.prepare(INSERT_CUSTOMER);
  const next = rowSource();
  const times: number[] = [];
  const start = performance.now();
  let now = start;
  while (now - start < forMs) {
    insert.run(...customerValues(next()));
    const after = performance.now();
    times.push(after - now);
    now = after;
  }
  checkpoint();
  const rate = (times.length / (performance.now() - start)) * 1000;
  times.sort((left, right) => left - right);
  return { rate, p99: times[Math.floor(times.length * 0.99)]!, max: times.at(-1)! };
}
