/** What a single-row commit writes: log, chunks, history, catalog; beside better-sqlite3's WAL and database file. */
import fs from "node:fs";
import path from "node:path";
import { fact, type ResultRow } from "./measure.ts";
import { customers, customerValues, INSERT_CUSTOMER, randomIds } from "./sample-data.ts";
import { fillCustomers } from "./reads.ts";
import type { Settings } from "./settings.ts";
import type { Sides, Sql } from "./sides.ts";

const TABLE_ROWS = 100_000;

interface Cost {
  readonly log: number;
  readonly chunks: number;
  readonly history: number;
  readonly catalog: number;
  readonly written: number;
}

export function benchStorageCost(sides: Sides, settings: Settings): ResultRow[] {
  if (!settings.includes("stored")) return [];
  const commits = settings.isQuick ? 1000 : 5000;
  const rows: ResultRow[] = [];
  for (const kind of ["update", "insert"] as const) {
    const plain = plainBytes(sides, kind, commits);
    const { log, chunks, history, catalog, written } = boughBytes(sides, kind, commits);
    const per = (title: string, id: string, value: number, baseline?: number): ResultRow =>
      fact(
        { item: `stored-${kind}${id}`, title, unit: "B/commit" },
        value,
        baseline === undefined ? {} : { baseline },
      );
    rows.push(
      per(
        `Bytes written per single-row ${kind} commit, with the checkpoint (handed to write calls)`,
        "-written",
        written,
        plain.written,
      ),
      per("  log records; better-sqlite3: WAL frames", "-log", log, plain.wal),
      per("  kept for ever after the checkpoint: chunks", "-chunks", chunks),
      per("  kept as history, every version readable", "-history", history),
      per("  catalog file growth (nodes, commits, indexes)", "-catalog", catalog),
    );
  }
  for (const row of rows) settings.show(row);
  return rows;
}

/** The statement of commit number `index`. */
function workload(sql: Sql, kind: "update" | "insert", commits: number): (index: number) => void {
  if (kind === "insert") {
    const insert = sql.prepare(INSERT_CUSTOMER);
    const data = customers(commits, 9);
    return (index) =>
      void insert.run(...customerValues({ ...data[index]!, id: TABLE_ROWS + 1 + index }));
  }
  const ids = randomIds(commits, TABLE_ROWS, 5);
  const update = sql.prepare("UPDATE customer SET visits = visits + 1 WHERE id = ?");
  return (index) => void update.run(ids[index]);
}

function boughBytes(sides: Sides, kind: "update" | "insert", commits: number): Cost {
  const store = sides.store();
  store.createDatabase("data");
  const connection = store.connect("data");
  fillCustomers(connection, TABLE_ROWS);
  store.checkpoint();
  const { log } = store.engine.state;
  const size = (folder: string): number => directorySize(path.join(store.path, folder));
  const before = { chunks: size("chunks"), history: size("history"), catalog: size("catalog") };
  const lsn = log.lastLsn;
  const run = workload(connection, kind, commits);
  const writtenBefore = bytesWritten();
  for (let index = 0; index < commits; index++) run(index);
  const logBytes = log.bytesSince(lsn);
  store.checkpoint();
  const cost = {
    log: logBytes / commits,
    chunks: (size("chunks") - before.chunks) / commits,
    history: (size("history") - before.history) / commits,
    catalog: (size("catalog") - before.catalog) / commits,
    written: (bytesWritten() - writtenBefore) / commits,
  };
  store.close();
  return cost;
}

function plainBytes(
  sides: Sides,
  kind: "update" | "insert",
  commits: number,
): { wal: number; written: number } {
  const file = sides.workspace.path("plain.db");
  const sqlite = sides.sqlite("full", file);
  fillCustomers(sqlite, TABLE_ROWS);
  sqlite.pragma("wal_checkpoint(TRUNCATE)");
  const run = workload(sqlite, kind, commits);
  sqlite.pragma("wal_autocheckpoint = 0");
  run(0);
  const one = fs.statSync(`${file}-wal`).size;
  for (let index = 1; index < 100; index++) run(index);
  const wal = (fs.statSync(`${file}-wal`).size - one) / 99;
  sqlite.pragma("wal_checkpoint(TRUNCATE)");
  sqlite.pragma("wal_autocheckpoint = 1000");
  const before = bytesWritten();
  for (let index = 100; index < commits; index++) run(index);
  sqlite.pragma("wal_checkpoint(TRUNCATE)");
  const written = (bytesWritten() - before) / (commits - 100);
  sqlite.close();
  return { wal, written };
}

/** Bytes that this process has handed to write calls; NaN where the system does not count them. */
function bytesWritten(): number {
  try {
    const match = /^wchar: (\d+)$/m.exec(fs.readFileSync("/proc/self/io", "utf8"));
    return match === null ? NaN : Number(match[1]);
  } catch {
    return NaN;
  }
}

function directorySize(directory: string): number {
  if (!fs.existsSync(directory)) return 0;
  let size = 0;
  for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
    const child = path.join(directory, entry.name);
    size += entry.isDirectory() ? directorySize(child) : fs.statSync(child).blocks * 512;
  }
  return size;
}
