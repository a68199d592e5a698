import { expect, test } from "vitest";
import { HistoryFiles } from "../checkpoint/history-files.ts";
import { StoreError } from "../errors.ts";
import { checkStore } from "../store/check-store.ts";
import type { StoreOptions } from "../store/store-options.ts";
import { openStore, type Store } from "../store/store.ts";
import { expire } from "./expiry.ts";
import { overdueDeletions, unneededTimelines } from "./purge.ts";
import { Random } from "../testing/random.ts";
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

const NOTHING = { everyCommitMs: 0, hourlyMs: 0, dailyMs: 0 };

test("a reader of a version that expires goes on reading; the file goes when it is closed", () => {
  const world = new World();
  const { store } = world;
  for (let count = 0; count < 6; count++) world.commit("shop");
  store.checkpoint();
  const reader = store.connect("shop@4");
  const query = reader.prepare("SELECT count(*), group_concat(value) FROM item").raw();
  const before = query.get();
  store.database("shop").setRetention(NOTHING);
  expect(store.expire()).toMatchObject({ historySegments: 1, historyBytes: 0 });
  expect(world.read("shop@4")).toBe("VERSION_EXPIRED");
  expect(query.get()).toEqual(before);
  expect(world.historyFiles()).toBe(1);
  reader.close();
  const { historyBytes } = store.expire();
  expect(historyBytes).toBeGreaterThan(0);
  expect(world.historyFiles()).toBe(0);
  store.close();
});

test("a fork of an old version, made while the history around it goes, keeps what it reads", async () => {
  const world = new World();
  const { store } = world;
  for (let count = 0; count < 6; count++) world.commit("shop");
  store.checkpoint();
  const shop = store.database("shop");
  shop.setRetention(NOTHING);
  const expiring = store.expireAsync();
  shop.createBranch("late", { from: "shop@4" }); // Before the first slice.
  await expiring;
  expect(world.read("shop/late")).toBe(3);
  expect([world.read("shop@4"), world.read("shop@5")]).toEqual([3, "VERSION_EXPIRED"]);
  expect(await store.check({ deep: true })).toMatchObject({ problems: [] });
  store.close();
});

test("a signal ends it between two slices: what has gone stays so, and the next one goes on", async () => {
  const world = new World();
  const { store } = world;
  const shop = store.database("shop");
  shop.setRetention(NOTHING);
  for (const name of ["a", "b", "c", "d", "e", "f"]) {
    shop.createBranch(name);
    for (let count = 0; count < 3; count++) world.commit(`shop/${name}`);
  }
  store.checkpoint();
  const reason = new Error("enough");
  let controller = new AbortController();
  // Each a turn later than the one before.
  for (let turns = 1; turns <= 6; turns++) {
    controller = new AbortController();
    const expiring = store.expireAsync({ signal: controller.signal });
    const refused = expect(expiring).rejects.toBe(reason);
    for (let turn = 0; turn < turns; turn++) await new Promise((next) => setImmediate(next));
    controller.abort(reason);
    await refused;
  }
  await expect(store.expireAsync({ signal: controller.signal })).rejects.toBe(reason);
  const collecting = store.gcAsync({ signal: controller.signal });
  await expect(collecting).rejects.toBe(reason);
  expect((await store.expireAsync()).expiredVersions).toBeGreaterThan(0);
  expect(await store.check({ deep: true })).toMatchObject({ problems: [] });
  store.close();
});

test("names that change between two slices are seen by the next", async () => {
  const world = new World();
  const { store } = world;
  const { engine } = store;
  const shop = store.database("shop");
  for (let count = 0; count < 5; count++) world.commit("shop");
  shop.createBranch("dev");
  for (let count = 0; count < 5; count++) world.commit("shop/dev");
  shop.setRetention(NOTHING);
  store.checkpoint();
  const steps = expire(engine.state, { nowMs: world.clock + 1 });
  engine.maintain(() => steps.next()); // main's
  expect([world.read("shop@3"), world.read("shop/dev@9")]).toEqual(["VERSION_EXPIRED", 8]);
  shop.createBranch("late", { from: "shop/dev@9" });
  shop.createTag("later", { at: "shop/dev@8" });
  while (engine.maintain(() => steps.next()).done !== true);
  const answers = ["shop/late", "shop/dev@9", "shop@later", "shop/dev@10", "shop/dev"];
  expect(answers.map((revision) => world.read(revision))).toEqual([8, 8, 7, "VERSION_EXPIRED", 10]);
  expect(await store.check({ deep: true })).toMatchObject({ problems: [] });
  store.close();
});

test("the bound in bytes takes the oldest history first, and no checkpoint", () => {
  const world = new World();
  const { store } = world;
  for (let round = 0; round < 4; round++) {
    for (let count = 0; count < 5; count++) world.commit("shop");
    store.checkpoint();
  }
  const shop = store.database("shop");
  const { historyBytes } = shop.branch().retentionStatus();
  shop.setRetention({ historyBytesMax: Math.floor(historyBytes * 0.6) });
  store.expire();
  const status = shop.branch().retentionStatus();
  expect(status).toMatchObject({ historySegments: 2, everyCommitFrom: { version: 11 } });
  expect(status.historyBytes).toBeLessThanOrEqual(historyBytes * 0.6);
  expect(status.older.map(({ version }) => version)).toEqual([6]);
  expect([5, 6, 7, 11, 12, 20].map((version) => world.read(`shop@${version}`))).toEqual([
    "VERSION_EXPIRED",
    5,
    "VERSION_EXPIRED",
    10,
    11,
    19,
  ]);
  store.close();
});

test("a time finds a kept version for as long as that was current, else the error names the nearest", () => {
  const world = new World();
  const { store } = world;
  for (let count = 0; count < 9; count++) {
    world.clock += 10 * 60_000;
    world.commit("shop");
    if (count === 4) store.checkpoint(); // Version 6, at 00:50.
  }
  world.clock += DAY;
  world.commit("shop");
  const shop = store.database("shop");
  shop.setRetention({ everyCommitMs: HOUR, dailyMs: 0 });
  store.expire();
  const at = (minutes: number): string =>
    `shop@${new Date(START + minutes * 60_000).toISOString()}`;
  expect([world.read(at(49)), world.read(at(50)), world.read(at(59)), world.read(at(60))]).toEqual([
    "VERSION_EXPIRED",
    5,
    5,
    "VERSION_EXPIRED",
  ]);
  expect(world.read(at(-1))).toBe("VERSION_NOT_FOUND");
  for (const revision of ["shop@8", at(75)]) {
    expect(() => shop.createBranch("no", { from: revision })).toThrow(
      expect.objectContaining({
        code: "VERSION_EXPIRED",
        details: {
          database: "shop",
          branch: "main",
          before: { version: 6, timestamp: new Date(START + 50 * 60_000).toISOString() },
          after: { version: 11, timestamp: new Date(world.clock).toISOString() },
        },
      }),
    );
  }
  expect(() => shop.branch().restore({ to: "shop@8" })).toThrow("version 6 of 2026-01-01T00:50");
  expect(() => shop.createTag("no", { at: "shop@8" })).toThrow("have expired");
  expect(() => shop.branch().reset({ to: "shop@8" })).toThrow("bough retention show shop/main");
  store.close();
});

test("deleted branches and databases come back until their time is over, then nothing of them is left", async () => {
  const world = new World();
  const { store } = world;
  const shop = store.database("shop");
  shop.createBranch("dev");
  world.commit("shop/dev");
  const other = store.createDatabase("other");
  other.setRetention({ undeleteMs: HOUR });
  const connection = store.connect("other");
  connection.exec("CREATE TABLE item(x)");
  connection.exec("INSERT INTO item VALUES (1)");
  connection.close();
  other.createTag("kept");
  shop.branch("dev").delete();
  other.delete();
  world.clock += HOUR - 1;
  store.expire();
  store.undeleteDatabase("other").delete();
  world.clock += HOUR;
  store.expire();
  expect(() => store.undeleteDatabase("other")).toThrow("no deleted database of that name is kept");
  expect([...store.engine.state.catalog.databases()].map(({ name }) => name)).toEqual(["shop"]);
  expect([...store.engine.state.catalog.tags()]).toEqual([]);
  expect(world.historyFiles()).toBe(0);
  shop.undeleteBranch("dev").delete();
  world.clock += 7 * DAY;
  store.expire();
  expect(() => shop.undeleteBranch("dev")).toThrow("no deleted branch of that name is kept");
  const { catalog } = store.engine.state;
  expect(catalog.branches().map(({ name }) => name)).toEqual(["main"]);
  expect(catalog.timelines().map(({ row }) => row.id)).toEqual([1]);
  expect(store.createDatabase("other").name).toBe("other");
  expect(catalog.databases().map(({ id }) => id)).toEqual([1]); // Ids are not used again.
  store.checkpoint();
  expect(catalog.databases().map(({ id }) => id)).toEqual([1, 3]);
  expect(await store.check({ deep: true })).toMatchObject({ problems: [] });
  store.close();
});

test("what only the log has forgotten is no damage, and is gone after the next start", async () => {
  const world = new World();
  const { store } = world;
  const shop = store.database("shop");
  for (let count = 0; count < 3; count++) world.commit("shop");
  shop.createBranch("dev", { from: "shop@2" });
  for (let count = 0; count < 3; count++) world.commit("shop/dev");
  store.checkpoint();
  shop.branch("dev").setRetention({ undeleteMs: 0 });
  shop.branch("dev").delete();
  store.checkpoint();
  const { engine } = store;
  for (const change of overdueDeletions(engine.state, world.clock)) engine.change(change);
  const forgotten = unneededTimelines(engine.state, world.clock);
  expect(forgotten).toEqual([{ type: "purge-timelines", databaseId: 1, timelineIds: [2] }]);
  for (const change of forgotten) engine.change(change);
  expect(await store.check({ deep: true })).toMatchObject({ problems: [] });
  const disk = world.disk.copyAfterCrash(new Random(1));
  expect(await checkStore("", { storage: disk, deep: true })).toMatchObject({ problems: [] });
  const again = openStore("", { backend: "memory", storage: disk, now: () => world.clock });
  expect(again.database("shop").branches()).toHaveLength(1);
  again.checkpoint();
  expect(again.engine.state.catalog.timelines()).toHaveLength(1);
  again.close();
  store.close();
});

test("history files that no checkpoint finished are deleted", () => {
  const world = new World();
  const { store } = world;
  for (let count = 0; count < 3; count++) world.commit("shop");
  store.checkpoint();
  for (const name of ["00000077.hist", "note.txt"])
    world.disk.openFileSync(`history/${name}`, { mode: "create" }).closeSync();
  store.expire();
  expect(world.disk.listSync("history")).toEqual(["00000001.hist", "note.txt"]);
  expect(new HistoryFiles(store.engine.state).nextSegmentNumber()).toBe(2);
  store.close();
});

test("a branch keeps what it grew from under its own policy, up to the fork", () => {
  const world = new World();
  const { store } = world;
  const shop = store.database("shop");
  for (let count = 0; count < 5; count++) world.commit("shop");
  store.checkpoint();
  shop.createBranch("audit");
  for (let count = 0; count < 4; count++) world.commit("shop");
  shop.createBranch("below", { from: "shop/audit" });
  store.checkpoint();
  shop.setRetention(NOTHING);
  shop.branch("below").setRetention({ everyCommitMs: null });
  world.clock += DAY;
  store.expire();
  for (const branch of ["below", "audit", "main"])
    expect(world.read(`shop/${branch}@3`), branch).toBe(2);
  expect([7, 8, 9, 10].map((version) => world.read(`shop@${version}`))).toEqual([
    "VERSION_EXPIRED",
    "VERSION_EXPIRED",
    "VERSION_EXPIRED",
    9,
  ]);
  shop.branch("below").setRetention(null);
  store.expire();
  expect([world.read("shop/below@3"), world.read("shop@6")]).toEqual(["VERSION_EXPIRED", 5]);
  store.close();
});

test("a branch that was restored frees what it was before, once its backup cannot come back", async () => {
  const world = new World();
  const { store } = world;
  const shop = store.database("shop");
  for (let count = 0; count < 5; count++) world.commit("shop");
  store.checkpoint();
  world.clock += 1000;
  for (let count = 0; count < 3; count++) world.commit("shop"); // 7 to 9
  store.checkpoint();
  world.clock += 1000;
  shop.branch().restore({ to: "shop@3", preserveAs: "backup" });
  world.commit("shop"); // 10
  shop.branch("backup").delete();
  shop.setRetention({ ...NOTHING, undeleteMs: 0 });
  world.clock += DAY;
  store.expire();
  expect([3, 4, 9, 10].map((version) => world.read(`shop@${version}`))).toEqual([
    2,
    "VERSION_EXPIRED",
    "VERSION_EXPIRED",
    3,
  ]);
  // The line of before goes on as far as its fork point, in memory and in the catalog.
  const { catalog, databases } = store.engine.state;
  expect(databases.get(1)!.timelines.get(1)!.head.version).toBe(3);
  expect(catalog.timelines().map(({ row, headVersion }) => [row.id, headVersion])).toEqual([
    [1, 3],
    [2, 10],
  ]);
  expect(world.historyFiles()).toBe(0);
  const was = new Date(START + 1000).toISOString();
  expect(world.read(`shop@${was}`)).toBe("VERSION_EXPIRED");
  store.close();
  world.store = world.open();
  expect([world.read("shop@3"), world.read("shop@9"), world.read("shop")]).toEqual([
    2,
    "VERSION_EXPIRED",
    3,
  ]);
  expect(await world.store.check({ deep: true })).toMatchObject({ problems: [] });
  world.store.close();
});

test("what a branch was between two resets, without a commit there, is kept as long as its window says", () => {
  const world = new World();
  const { store } = world;
  const database = store.database("shop");
  const first = world.commit("shop");
  world.clock += 1000;
  const second = world.commit("shop");
  const dev = database.createBranch("dev", { from: `shop@${first}` });
  world.clock += 1000;
  dev.reset({ to: `shop@${second}` });
  const between = new Date((world.clock += 1000)).toISOString();
  world.clock += 1000;
  dev.reset({ to: `shop@${first}` });
  const expected = [world.read(`shop/dev@${second}`), world.read(`shop/dev@${between}`)];
  expect(expected).toEqual([2, 2]);
  store.checkpoint();
  store.expire();
  expect([world.read(`shop/dev@${second}`), world.read(`shop/dev@${between}`)]).toEqual(expected);
  world.clock += 2 * DAY;
  store.expire();
  expect(world.read("shop/dev")).toBe(1);
  expect(world.read(`shop@${second}`)).toBe(2);
  store.close();
});
