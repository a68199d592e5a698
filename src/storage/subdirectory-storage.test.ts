import { expect, test } from "vitest";
import { SimulatedStorage } from "../testing/simulated-storage.ts";
import { describeStorage } from "../testing/storage-conformance.ts";
import { SubdirectoryStorage } from "./subdirectory-storage.ts";

describeStorage("a directory of the simulated disk", () => {
  const storage = new SubdirectoryStorage(new SimulatedStorage(), "partitions/0001");
  storage.makeDirectorySync("");
  return { storage, cleanUp: () => {} };
});

test("files are in the directory, and nothing else is seen", () => {
  const root = new SimulatedStorage();
  root.openFileSync("store.json", { mode: "create" }).closeSync();
  const storage = new SubdirectoryStorage(root, "partitions/0001");
  expect(storage.listSync("")).toEqual([]);
  storage.makeDirectorySync("log");
  const file = storage.openFileSync("log/1.wal", { mode: "create" });
  expect(file.path).toBe("partitions/0001/log/1.wal");
  expect(storage.listSync("log")).toEqual(["1.wal"]);
  expect(root.existsSync("partitions/0001/log/1.wal")).toBe(true);
  expect(storage.existsSync("store.json")).toBe(false);
});
