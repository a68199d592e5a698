/** Garbage collection of a whole store on a simulated disk: what goes, what stays, and what it says of both. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { openStore, type Store } from "../store/store.ts";
import type { StoreOptions } from "../store/store-options.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";

const SMALL: StoreOptions = {
  backend: "memory",
  logSegmentBytes: 32 * 1024,
  checkpointBytes: 64 * 1024,
  transactionBytesMax: 16 * 1024,
  chunkPages: 8,
  gc: "off",
};

function open(storage: SimulatedStorage, options: StoreOptions = {}): Store {
  return openStore("", { ...SMALL, storage, ...options });
}

const FILL =
  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) " +
  "INSERT INTO t(value) SELECT hex(randomblob(200)) FROM n";

function fill(store: Store, revision: string): void {
  using connection = store.connect(revision);
  connection.exec(`CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, value); ${FILL}`);
}

function digest(store: Store, revision: string): string {
  using connection = store.connect(revision);
  return createHash("sha256").update(connection.serialize()).digest("hex");
}

function chunkBytes(store: Store): number {
  return store.stat().disk.chunkBytes;
}

/** What expiry does with a deleted branch whose time has passed. */
function purgeBranch(store: Store, databaseId: number, branchId: number): void {
  const { engine } = store;
  const refs = engine.state.refs.databases.get(databaseId)!;
  const timelineIds = refs.branches.get(branchId)!.history.map(({ timeline }) => timeline);
  engine.change({ type: "purge-branch", databaseId, branchId });
  engine.change({ type: "purge-timelines", databaseId, timelineIds });
}

describe("a collection", () => {
  test("frees what a rolled back transaction had put into chunks", () => {
    const store = open(new SimulatedStorage());
    store.createDatabase("shop");
    fill(store, "shop");
    store.checkpoint();
    const before = chunkBytes(store);
    const kept = digest(store, "shop");
    const connection = store.connect("shop");
    connection.pragma("cache_size=4");
    connection.exec(`BEGIN; ${FILL}; ${FILL}; ROLLBACK`);
    connection.close();
    expect(chunkBytes(store)).toBeGreaterThan(before + 20_000);
    const report = store.gc();
    expect(report.freedBytes).toBeGreaterThan(20_000);
    expect(chunkBytes(store)).toBeLessThanOrEqual(before + 4096);
    expect(digest(store, "shop")).toBe(kept);
    store.close();
  });

  test("frees a purged branch, and nothing that another one shares", async () => {
    const store = open(new SimulatedStorage());
    const shop = store.createDatabase("shop");
    fill(store, "shop");
    const dev = shop.createBranch("dev");
    fill(store, "shop/dev");
    store.checkpoint();
    const kept = digest(store, "shop");
    const before = chunkBytes(store);
    dev.delete();
    purgeBranch(store, 1, 2);
    const dry = store.gc({ dryRun: true });
    expect(chunkBytes(store)).toBe(before);
    const report = store.gc();
    expect(dry.isDryRun).toBe(true);
    expect(report.chunks).toEqual(dry.chunks);
    expect(report.pages).toBe(dry.pages);
    expect(report.nodes).toEqual(dry.nodes);
    expect(report.chunks.count).toBeGreaterThan(0);
    expect(report.nodes.count).toBeGreaterThan(0);
    expect(chunkBytes(store)).toBeLessThan(before);
    expect(digest(store, "shop")).toBe(kept);
    expect(await store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
    expect(store.gc().freedBytes).toBe(0);
    store.close();
  });
});
