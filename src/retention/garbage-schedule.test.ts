/** Garbage collection that begins by itself, and the time it takes from others. */
import { expect, test } from "vitest";
import { openStore } from "../store/store.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";

const MIB = 1024 * 1024;

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test.each([
  ["auto", true],
  ["off", false],
] as const)(
  'with gc "%s" it begins after a checkpoint, once enough was written: %s',
  async (gc, begins) => {
    const store = openStore("", {
      storage: new SimulatedStorage(),
      backend: "memory",
      gc,
      durability: "off",
      compression: "none",
      transactionBytesMax: MIB,
    });
    store.createDatabase("shop", { pageSize: 65_536 });
    const connection = store.connect("shop");
    connection.pragma("cache_size=4");
    connection.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, value); BEGIN");
    const insert = connection.prepare("INSERT INTO t(value) VALUES (?)");
    const random = new Random(1);
    for (let count = 0; count < 70; count++) insert.run(random.bytes(MIB));
    connection.exec("ROLLBACK");
    connection.exec("INSERT INTO t(value) VALUES (1)");
    const { collector, state } = store.engine;
    store.checkpoint();
    let turns = 0;
    let began = false;
    while (turns < 200 || collector.cycle !== null) {
      await nextTurn();
      began ||= collector.cycle !== null;
      expect(connection.prepare("SELECT value FROM t").pluck().get()).toBe(1);
      turns++;
    }
    expect(began).toBe(begins);
    expect(state.barrier.marks).toBeNull();
    const { chunkBytes } = store.stat().disk;
    if (begins) expect(chunkBytes).toBeLessThan(2 * MIB);
    else expect(chunkBytes).toBeGreaterThan(64 * MIB);
    store.checkpoint();
    expect(collector.cycle).toBeNull();
    store.close();
  },
);

test("what a commit gives it is enough when the event loop never turns", () => {
  const store = openStore("", { storage: new SimulatedStorage(), backend: "memory", gc: "off" });
  store.createDatabase("shop");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, value)");
  store.engine.beginCollection({ isDryRun: false, isBlocking: true, isAwaited: false });
  const insert = connection.prepare("INSERT INTO t(value) VALUES (1)");
  let commits = 0;
  while (store.engine.collector.cycle !== null && commits < 10_000) {
    insert.run();
    commits++;
  }
  expect(store.engine.collector.cycle).toBeNull();
  expect(commits).toBeGreaterThan(0);
  store.close();
});
