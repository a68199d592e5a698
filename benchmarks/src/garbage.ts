/** Garbage collection: what queries notice of a cycle, how fast it is, and what a branch with one changed row costs. */
import fs from "node:fs";
import path from "node:path";
import { openStore, type Store } from "../../src/store/store.ts";
import type { StoreConnection } from "../../src/store/store-connection.ts";
import { fact, percentile, type ResultRow } from "./measure.ts";
import { fillCustomers } from "./reads.ts";
import { randomIds } from "./sample-data.ts";
import type { Settings } from "./settings.ts";
import type { Sides } from "./sides.ts";

const BRANCHES = 1000;
const YEAR_MS = 365 * 24 * 3_600_000;

export async function benchGarbage(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const rows: ResultRow[] = [];
  const add = (row: ResultRow): void => {
    rows.push(row);
    settings.show(row);
  };
  if (settings.includes("gc-cycle")) for (const row of await cycle(sides, settings)) add(row);
  if (settings.includes("gc-branches")) add(branches(sides, settings));
  return rows;
}

/** A table of which every row was changed three times on a branch that is gone by now: three quarters are garbage. */
async function cycle(sides: Sides, settings: Settings): Promise<ResultRow[]> {
  const count = settings.isQuick ? 50_000 : 400_000;
  let offsetMs = 0;
  const store = openStore(sides.workspace.path("store"), {
    gc: "off",
    now: () => Date.now() + offsetMs,
  });
  const data = store.createDatabase("data");
  const main = store.connect("data");
  fillCustomers(main, count);
  store.checkpoint();
  const gone = data.createBranch("gone");
  const changed = store.connect("data/gone");
  for (let round = 0; round < 3; round++)
    changed.exec("UPDATE customer SET visits = visits + id % 7 + 1");
  changed.close();
  store.checkpoint();
  gone.delete();
  offsetMs = YEAR_MS;
  store.expire();
  const before = directoryBytes(store, "chunks");
  const without = await latencies(main, count, () => false);
  const start = performance.now();
  let isDone = false;
  const collection = store.gcAsync().finally(() => (isDone = true));
  const during = await latencies(main, count, () => !isDone);
  const report = await collection;
  const ms = performance.now() - start;
  const freed = before - directoryBytes(store, "chunks");
  store.close();
  const line = (id: string, title: string, value: number, unit: string): ResultRow =>
    fact({ item: `gc-cycle${id}`, title, unit }, value);
  const compare = (
    id: string,
    title: string,
    share: number,
    kind: "callMs" | "turnMs",
  ): ResultRow =>
    fact({ item: `gc-cycle-${id}`, title, unit: "ms" }, percentile(during[kind], share), {
      baseline: percentile(without[kind], share),
      baselineName: "without a cycle",
    });
  return [
    compare("query-p50", "Point query while garbage is collected, p50 of the call", 0.5, "callMs"),
    compare("query-p99", "  p99 of the call", 0.99, "callMs"),
    compare("turn-p50", "  p50 with the wait for the event loop", 0.5, "turnMs"),
    compare("turn-p99", "  p99 with the wait for the event loop", 0.99, "turnMs"),
    line("-time", `A cycle beside these queries, ${report.chunks.count} chunks dead`, ms, "ms"),
    line("-freed", "  bytes freed in it", freed, "B"),
    line("-rate", "  bytes of packs looked through per second", before / (ms / 1000), "B/s"),
  ];
}

/** A query per turn of the event loop: the call alone, and from when the turn was asked for. */
async function latencies(
  connection: StoreConnection,
  count: number,
  goOn: () => boolean,
): Promise<{ callMs: number[]; turnMs: number[] }> {
  const select = connection.prepare("SELECT visits FROM customer WHERE id = ?");
  const ids = randomIds(20_000, count);
  const callMs: number[] = [];
  const turnMs: number[] = [];
  for (let index = 0; index < 5000 || goOn(); index++) {
    const asked = performance.now();
    await new Promise((resolve) => setImmediate(resolve));
    const begun = performance.now();
    select.get(ids[index % ids.length]);
    const ended = performance.now();
    callMs.push(ended - begun);
    turnMs.push(ended - asked);
  }
  return { callMs, turnMs };
}

/** Bytes that the store's files grow by, per branch with one changed row, after a collection. */
function branches(sides: Sides, settings: Settings): ResultRow {
  const count = settings.isQuick ? 200 : BRANCHES;
  const store = openStore(sides.workspace.path("store"), { gc: "off", durability: "normal" });
  const data = store.createDatabase("data");
  const main = store.connect("data");
  fillCustomers(main, 100_000);
  main.close();
  store.checkpoint();
  store.compactCatalog();
  const size = (): number =>
    ["chunks", "history", "catalog"].reduce((sum, name) => sum + directoryBytes(store, name), 0);
  const before = size();
  const ids = randomIds(count, 100_000);
  for (let number = 0; number < count; number++) {
    const branch = data.createBranch(`b${number}`);
    const connection = store.connect(branch.revision);
    connection.prepare("UPDATE customer SET visits = visits + 1 WHERE id = ?").run(ids[number]);
    connection.close();
  }
  store.gc();
  store.compactCatalog();
  const bytes = (size() - before) / count;
  store.close();
  return fact(
    {
      item: "gc-branches",
      title: `Bytes stored per branch with one changed row, ${count} branches`,
      unit: "B",
    },
    bytes,
    { max: 8192 },
  );
}

function directoryBytes(store: Store, name: string): number {
  const directory = path.join(store.path, name);
  return fs
    .readdirSync(directory)
    .reduce((sum, file) => sum + fs.statSync(path.join(directory, file)).size, 0);
}
