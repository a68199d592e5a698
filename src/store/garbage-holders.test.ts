/** What holds space, by branch, tag and old versions. */
import { expect, test } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { openStore } from "./store.ts";

test("each page counts for the only one that has it, or as shared", () => {
  const store = openStore("", { storage: new SimulatedStorage(), backend: "memory" });
  const shop = store.createDatabase("shop");
  const insert = (revision: string, count: number): void => {
    using connection = store.connect(revision);
    connection.exec("CREATE TABLE IF NOT EXISTS t(value)");
    for (let index = 0; index < count; index++)
      connection.exec("INSERT INTO t VALUES (randomblob(20000))");
  };
  const own = (revision: string, kind: string): number =>
    store
      .heldSpace()
      .holders.filter((holder) => holder.revision === revision && holder.kind === kind)
      .reduce((sum, holder) => sum + holder.ownBytes, 0);
  insert("shop", 5);
  expect(own("shop", "head")).toBeGreaterThan(100_000);
  const dev = shop.createBranch("dev");
  expect(own("shop", "head")).toBe(0);
  expect(store.heldSpace().sharedBytes).toBeGreaterThan(100_000);
  insert("shop/dev", 3);
  expect(own("shop/dev", "head")).toBeGreaterThan(60_000);
  expect(own("shop/dev", "head")).toBeLessThan(100_000);
  shop.createTag("before");
  {
    using connection = store.connect("shop");
    connection.exec("DELETE FROM t; VACUUM");
  }
  dev.delete();
  // The tag and the root of the checkpoint before it have the same pages, and so does dev.
  expect(own("shop", "head")).toBeLessThan(20_000);
  expect(own("shop/dev", "deleted")).toBeGreaterThan(60_000);
  expect(own("shop/dev", "head")).toBe(0);
  store.close();
});
