/** Checkpoints of a whole store on a simulated disk: what they leave on it, and what is read through them. */
import { describe, expect, test } from "vitest";
import { HistoryKind } from "../page/history-format.ts";
import { openStore, type Store } from "../store/store.ts";
import { Random } from "../testing/random.ts";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { runCheckpoint } from "./checkpoint.ts";
import { HISTORY_DIRECTORY } from "./history-files.ts";

function open(storage: SimulatedStorage): Store {
  return openStore("", { storage, backend: "memory" });
}

/** The longest run of deltas that a read of an old version may have to apply. */
function longestDeltaRun(store: Store, segment: number): number {
  let longest = 0;
  let run = 0;
  let last = "";
  for (const entry of store.engine.state.history.reader(segment).entries()) {
    const page = `${entry.timeline}/${entry.page}`;
    run = entry.kind === HistoryKind.delta ? (page === last ? run + 1 : 1) : 0;
    last = page;
    longest = Math.max(longest, run);
  }
  return longest;
}

describe("history segments", () => {
  test.each([["right after the commits"], ["after a replay of the log"]])(
    "have an image after 64 deltas of a page, written %s",
    (when) => {
      const storage = new SimulatedStorage();
      let store = open(storage);
      store.createDatabase("shop");
      const connection = store.connect("shop");
      connection.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, value); INSERT INTO t VALUES (1, 0)");
      const update = connection.prepare("UPDATE t SET value = ? WHERE id = 1");
      for (let value = 1; value <= 300; value++) update.run(value);
      if (when === "after a replay of the log") {
        store = open(storage.copyAfterCrash(new Random(1)));
      }
      store.checkpoint();
      const longest = longestDeltaRun(store, 1);
      expect(longest).toBeGreaterThan(30);
      expect(longest).toBeLessThanOrEqual(64);
      for (const value of [1, 63, 64, 65, 66, 130, 131, 299, 300]) {
        const old = store.connect(`shop@${value + 2}`);
        expect(old.prepare("SELECT value FROM t").pluck().get()).toBe(value);
        old.close();
      }
      store.close();
    },
  );
});

describe("a checkpoint", () => {
  test("reports what it did, and shares pages that the store has", () => {
    const storage = new SimulatedStorage();
    const store = open(storage);
    for (const name of ["one", "two"]) {
      store.createDatabase(name);
      const connection = store.connect(name);
      connection.exec("CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(20000))");
    }
    const run = runCheckpoint(store.engine.state, { nextHistorySegment: 1 });
    let slices = 0;
    let step = run.next();
    while (step.done !== true) {
      slices++;
      step = run.next();
    }
    expect(slices).toBeGreaterThan(3);
    expect(step.value).toMatchObject({ lsn: store.engine.state.log.lastLsn, commits: 4 });
    expect(step.value.pagesShared).toBeGreaterThanOrEqual(5); // zeros, in one database and in the other
    expect(step.value.pagesWritten + step.value.pagesShared).toBe(
      store.databases().reduce((sum, database) => sum + database.branch().head.pageCount, 0),
    );
    store.close();
  });

  test("with nothing new writes nothing", () => {
    const storage = new SimulatedStorage();
    const store = open(storage);
    store.createDatabase("shop");
    store.connect("shop").exec("CREATE TABLE t(a)");
    store.checkpoint();
    storage.clearTrace();
    store.checkpoint();
    expect(storage.countOf("write", "sync", "create")).toBe(0);
    expect(storage.listSync(HISTORY_DIRECTORY)).toEqual([]);
    store.close();
  });

  test("of names alone moves them out of the log", () => {
    const storage = new SimulatedStorage();
    let store = open(storage);
    const shop = store.createDatabase("shop");
    shop.createBranch("dev");
    shop.createTag("start");
    shop.createBranch("gone").delete();
    store.checkpoint();
    shop.branch("dev").rename("work");
    shop.deleteTag("start");
    store.checkpoint();
    store = open(storage.copyAfterCrash(new Random(1)));
    const again = store.database("shop");
    expect(again.branches().map(({ name }) => name)).toEqual(["main", "work"]);
    expect(again.tags()).toEqual([]);
    expect(again.undeleteBranch("gone").name).toBe("gone");
    store.close();
  });

  test("leaves running readers their snapshot, in memory and on disk", () => {
    const storage = new SimulatedStorage();
    const store = open(storage);
    store.createDatabase("shop");
    const writer = store.connect("shop");
    writer.exec(
      "CREATE TABLE t(a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i FROM n",
    );
    const rows = store.connect("shop").prepare("SELECT a FROM t").pluck().iterate();
    const seen = [rows.next().value];
    writer.exec("UPDATE t SET a = -a");
    store.checkpoint();
    writer.exec("DELETE FROM t");
    store.checkpoint();
    for (const value of rows) seen.push(value);
    expect(seen).toEqual(Array.from({ length: 2000 }, (_, index) => index + 1));
    store.close();
  });
});
