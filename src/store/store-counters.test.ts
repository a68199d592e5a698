import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { ThreadedStore } from "../threads/threaded-store.ts";
import { openStore } from "./store.ts";

test("counts what happened since the store was opened, and how far it is", async () => {
  let nowMs = Date.UTC(2026, 10, 20);
  const storage = new SimulatedStorage();
  using store = openStore("store", { storage, backend: "memory", now: () => nowMs });
  expect(store.counters()).toMatchObject({ commits: 0, oldestCommitMs: null, databases: [] });
  store.createDatabase("shop");
  store.createDatabase("unused");
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE t(a)");
  nowMs += 5000;
  connection.exec("INSERT INTO t VALUES (1)");
  const before = store.counters();
  expect(before).toMatchObject({
    partitions: 1,
    failedPartitions: 0,
    commits: 2,
    checkpoints: 0,
    log: { pendingRecords: 0, recordsSinceCheckpoint: 4 },
    oldestCommitMs: nowMs - 5000,
    databases: [["shop", 2]],
    connections: { open: 1, parked: 0, instances: 0 },
  });
  expect(before.log.bytesSinceCheckpoint).toBeGreaterThan(0);
  expect(before.log.bytes).toBeGreaterThan(before.log.bytesSinceCheckpoint);
  store.database("shop").createBranch("dev");
  store.checkpoint();
  const other = store.connect("shop/dev");
  other.exec("INSERT INTO t VALUES (2)");
  other.exec("DELETE FROM t WHERE a = 2");
  store.checkpoint(); // The first page and the table's are what they were, but for SQLite's change counter.
  expect(store.counters()).toMatchObject({
    commits: 4,
    checkpoints: 2,
    log: { bytesSinceCheckpoint: 0, recordsSinceCheckpoint: 0 },
    oldestCommitMs: null,
    databases: [["shop", 4]],
  });
  expect(store.counters().chunks.pagesWritten).toBeGreaterThan(1);
  expect(store.counters().chunks.bytesWritten).toBeGreaterThan(0);
  store.database("shop").delete();
  expect(store.counters().databases).toEqual([]);
});

test("counts pages that were stored already", () => {
  using store = openStore("store", { storage: new SimulatedStorage(), backend: "memory" });
  for (const name of ["a", "b"]) {
    store.createDatabase(name);
    store.connect(name).exec("CREATE TABLE t(x)");
    store.checkpoint();
  }
  expect(store.counters().chunks).toMatchObject({ pagesWritten: 2, pagesShared: 2 });
});

test("a connection that is parked counts as parked", async () => {
  using store = openStore("store", {
    storage: new SimulatedStorage(),
    backend: "memory",
    connectionBytesMax: 1,
  });
  store.createDatabase("shop");
  const connections = [await store.open("shop"), await store.open("shop")];
  await connections[0]!.exec("SELECT 1");
  expect(store.counters().connections).toMatchObject({ open: 2, parked: 2 });
  await connections[1]!.exec("BEGIN");
  expect(store.counters().connections).toMatchObject({ open: 2, parked: 1 });
  for (const connection of connections) await connection.close();
  expect(store.counters().connections).toMatchObject({ open: 0, parked: 0 });
});

test.each(["one thread", "threads"])("sums up partitions in %s", async (where) => {
  const directory = mkdtempSync(join(tmpdir(), "bough-counters-"));
  const opened =
    where === "threads"
      ? ThreadedStore.open(directory, { threads: 2 })
      : openStore(directory, { partitions: 2 });
  try {
    for (const name of ["a", "b"]) {
      await opened.createDatabase(name);
      const connection = await opened.open(name);
      await connection.exec("CREATE TABLE t(x)");
      await connection.close();
    }
    const counters = await opened.counters();
    expect(counters).toMatchObject({
      partitions: 2,
      commits: 2,
      log: { recordsSinceCheckpoint: 4, pendingRecords: 0 },
      databases: [
        ["a", 1],
        ["b", 1],
      ],
    });
    expect(counters.oldestCommitMs).toBeGreaterThan(0);
  } finally {
    await opened[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  }
});
