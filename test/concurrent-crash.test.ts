/**
 * Power is lost at each write of a store on which concurrent transactions commit, some of them deferred and in groups, some over
 * two databases: what was acknowledged is there, each transaction as a whole or not at all, and after one nothing of a later one.
 */
import { expect, test } from "vitest";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreConnection } from "../src/store/store-connection.ts";
import { Random } from "../src/testing/random.ts";
import type { OperationKind } from "../src/testing/simulated-faults.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { ConflictError } from "../src/transaction/conflict.ts";
import { SMALL_STORE } from "./store-workload.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";
const seedOffset = Number(process.env["BOUGH_TEST_SEED"] ?? 0);
const TRANSACTIONS = 40;
const CRASHES = isLong ? Infinity : 25;

const CHANGING: readonly OperationKind[] = [
  "create",
  "write",
  "sync",
  "truncate",
  "makeDirectory",
  "rename",
  "delete",
  "syncDirectory",
];

interface Outcome {
  /** Transactions in the order of their commits. */
  readonly committed: number[];
  readonly acknowledged: Set<number>;
}

function make(storage: SimulatedStorage): Store {
  const store = openStore("", { ...SMALL_STORE, storage });
  for (const name of ["shop", "stock"]) {
    store.createDatabase(name, { pageSize: 512 });
    const connection = store.connect(name);
    for (let table = 0; table < 4; table++)
      connection.exec(`CREATE TABLE t${table}(id INTEGER PRIMARY KEY, data TEXT)`);
    connection.exec("CREATE TABLE counter(id INTEGER PRIMARY KEY, n)").close();
  }
  return store;
}

function write(connection: StoreConnection, transaction: number): void {
  const table = `t${transaction % 4}`;
  const data = String(transaction).repeat(200);
  connection.prepare(`INSERT INTO ${table} VALUES (?, ?)`).run(transaction, data);
  if (transaction % 3 === 0)
    connection.prepare(`INSERT INTO stock.${table} VALUES (?, ?)`).run(transaction, data);
  if (transaction % 5 === 4) connection.exec(`DELETE FROM ${table} WHERE id < ${transaction - 8}`);
}

/** Until the power is lost. */
async function work(store: Store, outcome: Outcome, random: Random): Promise<void> {
  const connections = Array.from({ length: 4 }, () =>
    store.connect("shop").exec("ATTACH 'stock' AS stock"),
  );
  const waiting: Promise<void>[] = [];
  for (let next = 0; next < TRANSACTIONS; next += connections.length) {
    for (const connection of connections) connection.exec("BEGIN CONCURRENT");
    for (const [index, connection] of connections.entries()) write(connection, next + index);
    const order = random.shuffle(connections.map((_, index) => index));
    for (const index of order) {
      const connection = connections[index]!;
      const transaction = next + index;
      const commit = (): void => {
        // If the power is lost now it may have happened.
        outcome.committed.push(transaction);
        try {
          connection.exec("COMMIT");
        } catch (error) {
          if (!(error instanceof ConflictError)) throw error;
          outcome.committed.pop();
        }
      };
      const acknowledge = (): void => {
        if (outcome.committed.includes(transaction)) outcome.acknowledged.add(transaction);
      };
      if (random.chance(0.5)) {
        const durable = connection.durably(commit).then(acknowledge);
        durable.catch(() => {}); // Awaited below, unless the power is lost before.
        waiting.push(durable);
      } else {
        commit();
        acknowledge();
      }
    }
    if (random.chance(0.3)) store.checkpoint();
    await Promise.all(waiting.splice(0));
  }
}

function expectPrefix(storage: SimulatedStorage, outcome: Outcome, label: string): void {
  const store = openStore("", { ...SMALL_STORE, storage });
  const connection = store.connect("shop").exec("ATTACH 'stock' AS stock");
  for (const schema of ["main", "stock"])
    expect(connection.pragma(`${schema}.integrity_check`, { simple: true }), label).toBe("ok");
  const content = (database: string): unknown[] =>
    [0, 1, 2, 3].flatMap((table) =>
      connection.prepare(`SELECT id, data FROM ${database}.t${table} ORDER BY id`).raw().all(),
    );
  const found = { main: content("main"), stock: content("stock") };
  const least = outcome.committed.findLastIndex((one) => outcome.acknowledged.has(one)) + 1;
  const states = Array.from({ length: TRANSACTIONS + 1 - least }, (_, more) => least + more);
  const matching = states.filter((count) => {
    const expected = stateAfter(outcome.committed.slice(0, count));
    return JSON.stringify(expected) === JSON.stringify(found);
  });
  expect(matching.length, `${label}: ${JSON.stringify(outcome.committed)}`).toBeGreaterThan(0);
  connection.exec("BEGIN CONCURRENT; INSERT INTO t0 VALUES (1000, 'x'); COMMIT");
  store.close();
}

/** What both databases hold after these, in this order. */
function stateAfter(transactions: readonly number[]): { main: unknown[]; stock: unknown[] } {
  const rows = { main: new Map<number, unknown>(), stock: new Map<number, unknown>() };
  for (const one of transactions) {
    const row = [one, String(one).repeat(200)];
    rows.main.set(one, row);
    if (one % 3 === 0) rows.stock.set(one, row);
    if (one % 5 !== 4) continue;
    for (const id of rows.main.keys()) if (id % 4 === one % 4 && id < one - 8) rows.main.delete(id);
  }
  const sorted = (map: Map<number, unknown>): unknown[] =>
    [0, 1, 2, 3].flatMap((table) =>
      [...map]
        .filter(([id]) => id % 4 === table)
        .toSorted(([left], [right]) => left - right)
        .map(([, row]) => row),
    );
  return { main: sorted(rows.main), stock: sorted(rows.stock) };
}

test("commits of concurrent transactions are all or nothing at every crash", async () => {
  const seed = 1 + seedOffset;
  const prepare = (): { storage: SimulatedStorage; store: Store } => {
    const storage = new SimulatedStorage({ seed });
    const store = make(storage);
    store.checkpoint();
    return { storage, store };
  };
  const whole = prepare();
  const before = whole.storage.countOf(...CHANGING);
  const all: Outcome = { committed: [], acknowledged: new Set() };
  await work(whole.store, all, new Random(seed));
  const count = whole.storage.countOf(...CHANGING) - before;
  expect(all.acknowledged.size).toBe(all.committed.length);
  expect(all.committed.length).toBeGreaterThan(TRANSACTIONS / 2);
  whole.store.close();
  expectPrefix(whole.storage, all, "no crash");
  const step = Math.max(1, count / CRASHES);
  for (let crash = 1; crash <= count; crash += step) {
    const { storage, store } = prepare();
    storage.crashAt({ kinds: CHANGING, count: Math.floor(crash) });
    const outcome: Outcome = { committed: [], acknowledged: new Set() };
    await work(store, outcome, new Random(seed)).catch((error: unknown) => {
      if (!storage.isCrashed) throw error;
    });
    expectPrefix(
      storage.copyAfterCrash(new Random(crash)),
      outcome,
      `seed ${seed}, crash ${crash}`,
    );
  }
});
