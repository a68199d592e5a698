import { expect, test } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { openStore } from "./store.ts";

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;

test("says what is kept of a branch, why and until when, before and after commits expire", () => {
  let clock = Date.UTC(2026, 0, 1, 12);
  const storage = new SimulatedStorage();
  const store = openStore("", { backend: "memory", storage, now: () => clock });
  const shop = store.createDatabase("shop");
  const main = shop.branch();
  expect(main.retentionStatus()).toMatchObject({ everyCommitFrom: null, older: [] });
  const connection = store.connect("shop");
  connection.exec("CREATE TABLE item(value)");
  const roots: number[] = [];
  for (let count = 2; count <= 13; count++) {
    clock += 20 * 60 * SECOND;
    connection.exec("INSERT INTO item VALUES (hex(randomblob(20)))");
    if (count % 3 !== 0) continue;
    store.checkpoint();
    roots.push(clock);
  }
  shop.createTag("fifth", { at: "shop@5" });
  shop.createBranch("dev", { from: "shop@8" });
  store.checkpoint();
  expect(main.retentionStatus()).toMatchObject({
    everyCommitFrom: { version: 1, timestamp: new Date(Date.UTC(2026, 0, 1, 12)) },
    older: [],
    hasExpired: false,
    historySegments: 4,
  });
  clock += 2 * DAY;
  connection.exec("INSERT INTO item VALUES ('new')");
  store.expire();
  const status = main.retentionStatus();
  expect(status).toMatchObject({ hasExpired: true, historySegments: 0, historyBytes: 0 });
  expect(status.everyCommitFrom?.version).toBe(12); // 13 and 14 come right after it.
  const until = (index: number, windowMs: number): Date => new Date(roots[index]! + windowMs);
  expect(status.older.map(({ version, reasons, until: end }) => [version, reasons, end])).toEqual([
    [9, ["hourly", "daily"], until(2, 30 * DAY)],
    [8, ["fork of dev"], null],
    [6, ["hourly"], until(1, 7 * DAY)],
    [5, ["tag fifth"], null],
    [3, ["hourly"], until(0, 7 * DAY)],
  ]);
  expect(shop.branch("dev").retentionStatus().everyCommitFrom?.version).toBe(8);
  connection.close();
  store.close();
});
