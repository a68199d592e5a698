/** Branches: what creating one costs, and whether depth costs anything. */
import { openStore, type Store } from "../../src/store/store.ts";
import { largeStore } from "./large-store.ts";
import { fact, median, percentile, type ResultRow } from "./measure.ts";
import { fillCustomers } from "./reads.ts";
import { randomIds } from "./sample-data.ts";
import type { Settings } from "./settings.ts";
import type { Sides } from "./sides.ts";
import type { StoreConnection } from "../../src/store/store-connection.ts";

const CREATED = 1000;
const DEPTH = 1000;

export function benchBranches(sides: Sides, settings: Settings): ResultRow[] {
  const rows: ResultRow[] = [];
  const add = (row: ResultRow): void => {
    rows.push(row);
    settings.show(row);
  };
  if (settings.includes("branch-create")) {
    const small = sides.store();
    small.createDatabase("small");
    const connection = small.connect("small");
    fillCustomers(connection, 16_000);
    for (const row of creation(small, "small", "1 MiB")) add(row);
    small.close();
  }
  if (settings.includes("branch-create-1gib") && !settings.isQuick) {
    const large = openStore(largeStore(sides.workspace));
    for (const row of creation(large, "large", "1 GiB")) add(row);
    large.close();
  }
  if (settings.includes("depth")) for (const row of depth(sides, settings)) add(row);
  return rows;
}

function creation(store: Store, name: string, size: string): ResultRow[] {
  const database = store.database(name);
  const times: number[] = [];
  for (let number = 0; number < CREATED; number++) {
    const start = performance.now();
    database.createBranch(`branch-${number}`);
    times.push(performance.now() - start);
  }
  const id = size.toLowerCase().replace(" ", "");
  return [
    fact(
      {
        item: `branch-create-${id}`,
        title: `Create a branch of a ${size} database, durable, median of ${CREATED}`,
        unit: "ms",
      },
      median(times),
      { max: 0.3 },
    ),
    fact(
      { item: `branch-create-${id}-p99`, title: "  99th percentile", unit: "ms" },
      percentile(times, 0.99),
    ),
  ];
}

/** A chain of 1,000 branches with a commit on each; then the same reads at both ends, in alternated rounds. */
function depth(sides: Sides, settings: Settings): ResultRow[] {
  const store = sides.store("off");
  const database = store.createDatabase("deep");
  fillCustomers(store.connect("deep"), 20_000);
  let name = "main";
  const creation: number[] = [];
  for (let level = 1; level <= DEPTH; level++) {
    const start = performance.now();
    database.createBranch(`level-${level}`, { from: `deep/${name}` });
    creation.push(performance.now() - start);
    name = `level-${level}`;
    const connection = store.connect(`deep/${name}`);
    connection.prepare("UPDATE customer SET visits = visits + 1 WHERE id = ?").run(level * 17);
    connection.close();
  }
  const rows = [
    fact(
      {
        item: "depth-create",
        title: "Create a branch at depth 1,000 beside depth 1, median of 50",
        unit: "ms",
      },
      median(creation.slice(-50)),
      { baseline: median(creation.slice(0, 50)), baselineName: "depth 1" },
    ),
  ];
  for (const state of ["in the log", "checkpointed"]) {
    if (state === "checkpointed") store.checkpoint();
    for (const cache of ["SQLite's cache", "the engine"]) {
      const [deep, shallow] = depthReads(store, {
        rounds: settings.rounds,
        isCached: cache !== "the engine",
      });
      rows.push({
        ...fact(
          {
            item: `depth-read-${state === "checkpointed" ? "chunks" : "log"}${cache === "the engine" ? "-engine" : ""}`,
            title: `Point read at depth 1,000 beside depth 1, ${state}, pages from ${cache}`,
            unit: "reads/s",
          },
          deep,
          { baseline: shallow, baselineName: "depth 1" },
        ),
        ratio: deep / shallow,
        wanted: ">= 0.91x",
        isMet: deep / shallow >= 1 / 1.1,
      });
    }
  }
  store.close();
  return rows;
}

function depthReads(
  store: Store,
  { rounds, isCached }: { rounds: number; isCached: boolean },
): [deep: number, shallow: number] {
  const ids = randomIds(20_000, 20_000);
  const sides = [`deep/level-${DEPTH}`, "deep/level-1"].map((revision) => {
    const connection = store.connect(revision);
    // Ten pages: hardly any read is answered without the engine.
    if (!isCached) connection.pragma("cache_size = 10");
    return {
      connection,
      get: connection.prepare("SELECT * FROM customer WHERE id = ?"),
      rates: [] as number[],
    };
  });
  for (let round = 0; round <= rounds; round++) {
    for (const { get, rates } of round % 2 === 0 ? sides : sides.toReversed()) {
      const start = performance.now();
      for (const id of ids) get.get(id);
      if (round > 0) rates.push((ids.length / (performance.now() - start)) * 1000);
    }
  }
  const [deep, shallow] = sides.map(({ rates }) => median(rates));
  closeAll(sides);
  return [deep!, shallow!];
}

function closeAll(sides: readonly { readonly connection: StoreConnection }[]): void {
  for (const { connection } of sides) connection.close();
}
