import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CommandDirectory } from "../testing/run-command.ts";
import { parseRate } from "./commands/scrub.ts";
import { UsageError } from "./errors.ts";

let directory: CommandDirectory;
const backends = ["lmdb", "leveldb", "memory"] as const;

beforeEach(() => {
  directory = new CommandDirectory();
});

afterEach(() => {
  directory[Symbol.dispose]();
});

/** A store and a copy of it, which is whole. */
async function makeShop(backend: string): Promise<void> {
  await directory.ok(["database", "create", "shop", "--backend", backend]);
  await directory.ok([
    "sql",
    "shop",
    "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item(name) VALUES ('apple'), ('pear')",
  ]);
  await directory.ok(["sql", "shop", "UPDATE item SET name = 'fig' WHERE id = 1"]);
  cpSync(directory.file("store"), directory.file("copy"), { recursive: true });
}

function flip(path: string, at: (bytes: Uint8Array) => number): void {
  const file = directory.file(`store/${path}`);
  const bytes = readFileSync(file);
  const offset = at(bytes);
  bytes[offset] = (bytes[offset] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

/** Inside the last thing that the file holds. */
const nearEnd = (bytes: Uint8Array): number => bytes.findLastIndex((byte) => byte !== 0) - 40;

const names = (): Promise<unknown> =>
  directory.json(["sql", "shop", "SELECT name FROM item ORDER BY id"]);

function catalogFile(backend: string): string {
  if (backend === "lmdb") return "catalog/data.mdb";
  if (backend === "memory") return "catalog/catalog.kv";
  const files = readdirSync(directory.file("store/catalog/leveldb"));
  return `catalog/leveldb/${files.find((name) => name.startsWith("MANIFEST"))}`;
}

describe("check --repair", () => {
  test.each(backends)("brings back packs and the catalog (%s) from a copy", async (backend) => {
    await makeShop(backend);
    const before = await names();
    flip("chunks/00000001.pack", nearEnd);
    flip(catalogFile(backend), () => 25);
    const damaged = await directory.bough(["check", "--deep"]);
    expect(damaged.exitCode).toBe(1);
    const from = ["--from", directory.file("copy")];
    const output = await directory.ok(["check", "--repair", ...from]);
    expect(output).toMatch(/^repaired {2}the catalog: copied from ".*copy"$/m);
    expect(output).toMatch(/^repaired {2}chunk [0-9a-f]{32}: copied from ".*copy"$/m);
    expect(output).toContain("No damage found");
    expect(await names()).toEqual(before);
    expect(await directory.ok(["check", "--deep"])).toContain("No damage found");
  });

  test("without a copy says what is lost, as JSON too, with exit code 1", async () => {
    await makeShop("lmdb");
    for (const name of readdirSync(directory.file("store/chunks")))
      rmSync(directory.file(`store/chunks/${name}`));
    const { exitCode, stdout, stderr } = await directory.bough([
      "check",
      "--repair",
      "--output",
      "json",
    ]);
    expect(exitCode).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: "DAMAGED" } });
    expect(JSON.parse(stdout)).toMatchObject({ before: { ok: false }, report: { ok: false } });
    expect(stdout).toContain("CORRUPT_CHUNK");
    expect(await directory.ok(["branch", "list", "shop"])).toContain("main");
  });

  test("refuses options that need it", async () => {
    await makeShop("memory");
    expect(await directory.fails(2, ["check", "--truncate-log"])).toContain("--repair");
    expect(await directory.fails(2, ["check", "--from", "elsewhere"])).toContain("--repair");
    const missing = ["check", "--repair", "--from", directory.file("nothing")];
    expect(await directory.fails(1, missing)).toContain("there is none");
  });
});

describe("scrub", () => {
  test("reads a whole store, and finds damage", async () => {
    await makeShop("lmdb");
    expect(await directory.ok(["scrub", "--rate", "max"])).toContain("No damage found");
    flip("chunks/00000001.pack", nearEnd);
    const { exitCode, stdout } = await directory.bough(["scrub", "--rate", "1GB/s"]);
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/^CORRUPT_CHUNK {2}/m);
    expect(await directory.fails(2, ["scrub", "--start-after", "x"])).toContain('"x"');
  });

  test("reads rates", () => {
    expect(parseRate("50MB/s")).toBe(50_000_000);
    expect(parseRate("1.5MiB")).toBe(1.5 * 1024 * 1024);
    expect(parseRate("8 kib/s")).toBe(8192);
    expect(parseRate("1000")).toBe(1000);
    expect(parseRate("max")).toBe(Infinity);
    for (const text of ["", "fast", "0", "-1MB", "10MB/min"])
      expect(() => parseRate(text), text).toThrow(UsageError);
  });
});
