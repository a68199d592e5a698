import { expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import type { StoreOptions } from "../store/store-options.ts";
import { openStore, type Store } from "../store/store.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 0, 1);

class World {
  readonly disk = new SimulatedStorage();
  clock = START;
  store: Store;

  constructor(options: StoreOptions = {}) {
    this.store = this.open(options);
    this.store.createDatabase("shop");
    this.commit("shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, value)");
  }

  open(options: StoreOptions = {}): Store {
    const storage = this.disk;
    return openStore("", { backend: "memory", storage, now: () => this.clock, ...options });
  }

  commit(revision: string, sql = "INSERT INTO item(value) VALUES (hex(randomblob(40)))"): number {
    const connection = this.store.connect(revision);
    connection.exec(sql);
    connection.close();
    return this.store.database("shop").version;
  }

  /** Rows of `item`, or the code of the error. */
  read(revision: string): number | string {
    try {
      const connection = this.store.connect(revision);
      try {
        return connection.prepare("SELECT count(*) FROM item").pluck().get() as number;
      } finally {
        connection.close();
      }
    } catch (error) {
      if (error instanceof StoreError) return error.code;
      throw error;
    }
  }

  historyFiles(): number {
    return this.disk.listSync("history").length;
  }
}

test("without a window only heads, tags and fork points stay, and no history file", async () => {
  const world = new World();
  const { store } = world;
  const shop = store.database("shop");
  for (let count = 0; count < 12; count++) {
    world.clock += 1000;
    world.commit("shop");
    if (count % 5 === 4) store.checkpoint();
  }
  shop.createTag("seven", { at: "shop@7" });
  shop.createBranch("dev", { from: "shop@4" });
  world.commit("shop/dev");
  world.clock += DAY;
  shop.setRetention({ everyCommitMs: 0, hourlyMs: 0, dailyMs: 0 });
  const report = store.expire();
  expect(report).toMatchObject({ historySegments: 3, rootsMade: 2 });
  expect(report.historyBytes).toBeGreaterThan(0);
  expect(world.historyFiles()).toBe(0);
  const kept: Record<string, number | string> = {};
  for (let version = 1; version <= 13; version++) kept[version] = world.read(`shop@${version}`);
  for (const version of [1, 2, 3, 5, 6, 8, 9, 10, 11, 12])
    expect(kept[version], `version ${version}`).toBe("VERSION_EXPIRED");
  expect([kept[4], kept[7], kept[13]]).toEqual([3, 6, 12]);
  expect([world.read("shop@seven"), world.read("shop/dev"), world.read("shop/dev@4")]).toEqual([
    6, 4, 3,
  ]);
  expect(
    shop
      .branch()
      .log()
      .map(({ version }) => version),
  ).toEqual([13, 7, 4]);
  expect(await store.check({ deep: true })).toMatchObject({ ok: true, problems: [] });
  store.close();
  world.store = world.open();
  for (let version = 1; version <= 13; version++)
    expect(world.read(`shop@${version}`), `version ${version}`).toBe(kept[version]);
  expect(world.store.expire()).toMatchObject({ expiredVersions: 0, historySegments: 0 });
  world.store.close();
});
