/** Faults that other tests found once, each in its shortest form. */
import { describe, expect, test } from "vitest";
import { openStore } from "../src/store/store.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { SMALL_STORE } from "./store-workload.ts";

describe("large transactions", () => {
  test("may write pages again that the store has had since before it was opened", () => {
    const storage = new SimulatedStorage();
    let store = openStore("", { ...SMALL_STORE, storage });
    store.createDatabase("shop");
    const fill = `
      CREATE TABLE item(id INTEGER PRIMARY KEY, value TEXT);
      WITH RECURSIVE numbers(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT 200)
      INSERT INTO item SELECT value, hex(zeroblob(500)) || value FROM numbers`;
    store.connect("shop").exec(fill);
    store.close();
    store = openStore("", { ...SMALL_STORE, storage });
    store.createDatabase("copy");
    store.connect("copy").exec(fill);
    const count = store.connect("copy").prepare("SELECT count(*) FROM item").pluck();
    expect(count.get()).toBe(200);
  });
});
