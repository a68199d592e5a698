import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

import { InvariantError, StoreError } from "../errors.ts";
import { describeStorage } from "../testing/storage-conformance.ts";
import { openNodeStorage } from "./node-storage.ts";

function temporaryDirectory(): string {
  return fs.mkdtempSync(join(tmpdir(), "bough-storage-"));
}

describeStorage("the real disk", () => {
  const directory = temporaryDirectory();
  return {
    storage: openNodeStorage(directory),
    cleanUp: () => fs.rmSync(directory, { recursive: true }),
  };
});

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return null;
}

test("an error names the action, the full path, what is wrong, and keeps the system's error", () => {
  const directory = temporaryDirectory();
  const error = thrownBy(() => openNodeStorage(directory).openFileSync("none", { mode: "read" }));
  expect(error).toBeInstanceOf(StoreError);
  expect(error).toMatchObject({
    code: "FILE_NOT_FOUND",
    message: `Cannot open "${join(directory, "none")}": no such file or directory (ENOENT)`,
    cause: { code: "ENOENT" },
  });
  fs.rmSync(directory, { recursive: true });
});

test("a full disk is DISK_FULL, and the file refuses writes and syncs from then on", async () => {
  if (!fs.existsSync("/dev/full")) return;
  const file = openNodeStorage("/dev").openFileSync("full", { mode: "write" });
  expect(thrownBy(() => file.writeSync(0, new Uint8Array(10)))).toMatchObject({
    code: "DISK_FULL",
  });
  expect(thrownBy(() => file.writeSync(0, new Uint8Array(0)))).toMatchObject({
    code: "IO",
    cause: { code: "DISK_FULL" },
  });
  expect(thrownBy(() => file.syncSync())).toMatchObject({ code: "IO" });
  await expect(file.sync()).rejects.toMatchObject({ code: "IO" });
  file.closeSync();
});

test("a directory that may not be written is PERMISSION", () => {
  if (process.getuid?.() === 0) return;
  const directory = temporaryDirectory();
  fs.chmodSync(directory, 0o500);
  const error = thrownBy(() => openNodeStorage(directory).openFileSync("a", { mode: "create" }));
  expect(error).toMatchObject({ code: "PERMISSION" });
  fs.rmSync(directory, { recursive: true });
});

test("the store's own directory is created with its parents", () => {
  const directory = temporaryDirectory();
  const storage = openNodeStorage(join(directory, "deep", "store"));
  expect(storage.existsSync("")).toBe(false);
  storage.makeDirectorySync("");
  expect(storage.existsSync("")).toBe(true);
  fs.rmSync(directory, { recursive: true });
});

test("paths that leave the store are refused", () => {
  const storage = openNodeStorage(temporaryDirectory());
  expect(() => storage.existsSync("../other")).toThrow(InvariantError);
  expect(() => storage.openFileSync("a/../../b", { mode: "create" })).toThrow(InvariantError);
  fs.rmSync(storage.directory ?? "", { recursive: true });
});

test("closing during an asynchronous write lets the write end in its own file", async () => {
  const storage = openNodeStorage(temporaryDirectory());
  const bytes = new Uint8Array(4_000_000).fill(5);
  const file = storage.openFileSync("a", { mode: "create" });
  const writing = file.write(0, bytes);
  file.closeSync();
  const other = storage.openFileSync("b", { mode: "create" });
  await writing;
  expect(other.sizeSync()).toBe(0);
  other.closeSync();
  const again = storage.openFileSync("a", { mode: "read" });
  expect(again.sizeSync()).toBe(bytes.byteLength);
  again.closeSync();
  fs.rmSync(storage.directory ?? "", { recursive: true });
});
