import { afterEach, beforeEach, expect, test } from "vitest";
import { canCompressZstd } from "../page/compression.ts";
import { CommandDirectory } from "../testing/run-command.ts";

let directory: CommandDirectory;

beforeEach(() => {
  directory = new CommandDirectory();
});

afterEach(() => {
  directory[Symbol.dispose]();
});

const count = (revision: string): Promise<unknown> =>
  directory.json(["sql", revision, "SELECT count(*) AS n FROM item"]);

test("a store is made with the backend and compression asked for, and says so", async () => {
  const words = ["--backend", "leveldb", "--compression", "none"];
  await directory.ok(["database", "create", "shop", ...words]);
  expect(await directory.json(["store", "info"])).toMatchObject({
    backend: "leveldb",
    compression: "none",
    isEncrypted: false,
    storeId: expect.stringMatching(/^[0-9a-f]{32}$/),
  });
  expect(await directory.ok(["store", "info"])).toMatch(
    /^Backend {6}leveldb, catalog [\d.]+ (?:B|KiB)\nCompression {2}none\nEncrypted {4}no$/m,
  );
  expect(await directory.ok(["stat"])).toMatch(/chunks .* \(none\), .* catalog .* \(leveldb\)$/m);
});

test("convert keeps what the store holds, and says what it did", async () => {
  await directory.ok(["database", "create", "shop"]);
  await directory.ok(["sql", "shop", "CREATE TABLE item(id); INSERT INTO item VALUES (1), (2)"]);
  for (const [from, to] of [
    ["lmdb", "leveldb"],
    ["leveldb", "memory"],
    ["memory", "lmdb"],
  ] as const) {
    expect(await directory.ok(["store", "convert", "--backend", to])).toMatch(
      new RegExp(
        `^Converted store ".*" from ${from} to ${to}: \\d+ entries, .* before, .* after\n$`,
      ),
    );
    expect(await count("shop")).toEqual([{ n: 2 }]);
    expect(await directory.ok(["check", "--deep"])).toContain("No damage found");
  }
  expect(await directory.ok(["store", "convert", "--backend", "lmdb"])).toContain(
    "keeps its catalog in lmdb already",
  );
  expect(await directory.json(["store", "compact"])).toMatchObject({
    bytesBefore: expect.any(Number),
    bytesAfter: expect.any(Number),
  });
});

test("set changes the compression of what is written later", async () => {
  await directory.ok(["database", "create", "shop"]);
  await directory.ok(["store", "set", "--compression", "none"]);
  expect(await directory.json(["store", "info"])).toMatchObject({ compression: "none" });
  const words = ["store", "set", "--compression", "zstd:3"];
  if (canCompressZstd()) {
    await directory.ok(words);
    expect(await directory.json(["store", "info"])).toMatchObject({ compression: "zstd:3" });
  } else expect(await directory.fails(1, words)).toContain("needs Node 22.15 or newer");
});

test("backends and codecs that do not exist are wrong usage, and leave no store behind", async () => {
  const create = ["database", "create", "shop"];
  expect(await directory.fails(2, [...create, "--backend", "rocks"])).toContain("leveldb");
  expect(await directory.fails(2, [...create, "--compression", "zip"])).toContain('"zip"');
  expect(await directory.fails(2, [...create, "--compression", "zstd:23"])).toContain("zstd:22");
  expect(await directory.fails(1, ["store", "info"])).toContain("there is none");
  expect(await directory.fails(1, ["store", "convert", "--backend", "lmdb"])).toContain(
    "there is none",
  );
});
