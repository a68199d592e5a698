/** What a store with many databases costs, in a process of its own: its directory, how many, prints ManyDatabases as JSON. */
import { openStore, type Store } from "../../src/store/store.ts";
import { percentile } from "./measure.ts";
import {
  MANY_IDLE_BYTES_MAX,
  MANY_QUERY,
  type ManyDatabases,
  type Times,
} from "./many-databases.ts";

const MIB = 1024 * 1024;
const IDLE_COUNT = 1000;

async function main(directory: string, count: number): Promise<void> {
  const begin = performance.now();
  const store = openStore(directory, { connectionBytesMax: MANY_IDLE_BYTES_MAX });
  const openMs = performance.now() - begin;
  const openMib = residentMib();
  // Each name is taken once, in an order without neighbours.
  const names = Array.from({ length: count }, (_, index) => `d${(index * 7919) % count}`);
  const third = Math.floor(count / 3);
  const connect = await timesOf(names.slice(0, third), (name) => {
    using connection = store.connect(name);
    connection.prepare(MANY_QUERY).get();
  });
  const open = await timesOf(names.slice(third, 2 * third), async (name) => {
    await using connection = await store.open(name);
    await (await connection.prepare(MANY_QUERY)).get();
  });
  const transact = await timesOf(names.slice(2 * third), (name) =>
    store.transact(name, async (tx) => await tx.get(MANY_QUERY)),
  );
  const usedMib = residentMib();
  const idleMib = await idleConnections(store, names.slice(0, IDLE_COUNT));
  const result: ManyDatabases = { openMs, openMib, connect, open, transact, usedMib, idleMib };
  process.stdout.write(JSON.stringify(result));
  await store.closeAsync();
}

/** What awaited connections take that are all open, and used one after the other. */
async function idleConnections(store: Store, names: readonly string[]): Promise<number> {
  const before = residentMib();
  for (const name of names) {
    const connection = await store.open(name);
    await (await connection.prepare(MANY_QUERY)).get();
  }
  return residentMib() - before;
}

async function timesOf(names: readonly string[], query: (name: string) => unknown): Promise<Times> {
  const all: number[] = [];
  for (const name of names) {
    const start = performance.now();
    await query(name);
    all.push(performance.now() - start);
  }
  return { p50: percentile(all, 0.5), p99: percentile(all, 0.99), max: Math.max(...all) };
}

function residentMib(): number {
  globalThis.gc?.();
  return process.memoryUsage().rss / MIB;
}

await main(process.argv[2]!, Number(process.argv[3]));
