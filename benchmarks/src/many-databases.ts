/** A store with 10,000 databases: making them, opening it, the first query on each, what it all takes in memory. */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { openStore } from "../../src/store/store.ts";
import { fact, percentile, type ResultRow } from "./measure.ts";
import type { Settings } from "./settings.ts";
import type { Workspace } from "./sides.ts";

/** A bound for the awaited connections that are open, in bytes. */
export const MANY_IDLE_BYTES_MAX: number = 64 * 1024 * 1024;
export const MANY_QUERY = "SELECT count(*) FROM item";

const CONTENT =
  "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item(name) VALUES('a'), ('b'), ('c')";
const DELETED = 200;

export interface Times {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** What the process has measured: resident set sizes in MiB, first queries in milliseconds. */
export interface ManyDatabases {
  readonly openMs: number;
  readonly openMib: number;
  readonly connect: Times;
  readonly open: Times;
  readonly transact: Times;
  /** When each database was used once. */
  readonly usedMib: number;
  /** More for 1,000 awaited connections that are open and idle. */
  readonly idleMib: number;
}

export function benchManyDatabases(workspace: Workspace, settings: Settings): ResultRow[] {
  if (!settings.includes("many-databases")) return [];
  const count = settings.isQuick ? 1000 : 10_000;
  const directory = workspace.path("many-databases");
  const rows = [...makeDatabases(directory, count), ...useDatabases(directory, count)];
  for (const row of rows) settings.show(row);
  return rows;
}

function makeDatabases(directory: string, count: number): ResultRow[] {
  const store = openStore(directory);
  const created: number[] = [];
  const deleted: number[] = [];
  for (let index = 0; index < count + DELETED; index++)
    created.push(msOf(() => store.createDatabase(`d${index}`)));
  for (let index = 0; index < count; index++) {
    using connection = store.connect(`d${index}`, { durability: "off" });
    connection.exec(CONTENT);
  }
  for (let index = count; index < count + DELETED; index++)
    deleted.push(msOf(() => store.database(`d${index}`).delete()));
  const checkpointMs = msOf(() => store.checkpoint());
  store.close();
  const first = percentile(created.slice(0, 500), 0.5);
  return [
    row("create", `Create a database, durable, when there are ${count}`, "ms", {
      value: percentile(created.slice(-500), 0.5),
      baseline: first,
      baselineName: "the first ones",
    }),
    row("delete", "  delete one", "ms", { value: percentile(deleted, 0.5) }),
    row("checkpoint", "  the checkpoint of what is left of them in the log", "ms", {
      value: checkpointMs,
    }),
  ];
}

function useDatabases(directory: string, count: number): ResultRow[] {
  const script = fileURLToPath(new URL("./many-databases-process.js", import.meta.url));
  const output = execFileSync(process.execPath, ["--expose-gc", script, directory, String(count)], {
    encoding: "utf8",
  });
  const measured: ManyDatabases = JSON.parse(output);
  const cold = (["connect", "open", "transact"] as const).flatMap((way) => [
    row(`${way}-p50`, `First query on a database by store.${way}, median`, "ms", {
      value: measured[way].p50,
    }),
    row(`${way}-p99`, "  99th percentile", "ms", { value: measured[way].p99, max: 10 }),
  ]);
  return [
    row("open-store", `Open a store with ${count} databases; fresh process`, "ms", {
      value: measured.openMs,
    }),
    ...cold,
    row("rss-open", "Resident set once the store is open", "MiB", { value: measured.openMib }),
    row("rss-used", "  once each database was used", "MiB", { value: measured.usedMib }),
    row("rss-idle", "  more for 1,000 idle awaited connections, 64 MiB of instances", "MiB", {
      value: measured.idleMib,
      max: 200,
    }),
  ];
}

function row(
  name: string,
  title: string,
  unit: string,
  { value, ...given }: { readonly value: number } & Parameters<typeof fact>[2],
): ResultRow {
  return fact({ item: `many-databases-${name}`, title, unit }, value, given);
}

function msOf(body: () => unknown): number {
  const start = performance.now();
  body();
  return performance.now() - start;
}
