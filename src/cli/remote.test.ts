import { existsSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { CommandDirectory } from "../testing/run-command.ts";
import { s3Server } from "../testing/s3-server.ts";

let directory: CommandDirectory;
let url: string;

beforeEach(() => {
  directory = new CommandDirectory();
  url = `file://${directory.file("objects")}`;
});

afterEach(() => {
  directory[Symbol.dispose]();
});

async function makeShop(): Promise<void> {
  await directory.ok(["database", "create", "shop"]);
  await directory.ok([
    "sql",
    "shop",
    "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item(name) VALUES ('apple'), ('pear')",
  ]);
}

const insert = ["sql", "shop", "INSERT INTO item(name) VALUES ('fig')"];
const count = ["sql", "shop", "SELECT count(*) AS n FROM item"];
const counted = (n: number): unknown => [{ n }];

/** The options that name the store in object storage, with what it needs in a directory of its own. */
const elsewhere = (name: string): string[] => ["--store", url, "--directory", directory.file(name)];

/** Object storage is a directory: with a file in its place nothing can be stored. */
function takeAway(): void {
  renameSync(directory.file("objects"), directory.file("away"));
  writeFileSync(directory.file("objects"), "");
}

function bringBack(): void {
  rmSync(directory.file("objects"));
  renameSync(directory.file("away"), directory.file("objects"));
}

describe("bough remote", () => {
  beforeEach(makeShop);

  test("set uploads all, and later commands upload what they change", async () => {
    expect(await directory.ok(["remote", "show"])).toContain("not uploaded");
    const output = await directory.ok(["remote", "set", url]);
    expect(output).toMatch(/^Store ".*" is in "file:\/\/.*" now, up to LSN 3: .* in \d+ objects/);
    expect(readdirSync(directory.file("objects")).sort()).toEqual(
      expect.arrayContaining(["catalog", "chunks", "log", "manifest.json"]),
    );
    await directory.ok(insert);
    expect(await directory.json(["remote", "status"])).toMatchObject({
      url,
      state: "current",
      uploadedLsn: 4,
      durableLsn: 4,
      error: null,
    });
    expect(await directory.json([...count, ...elsewhere("follower")])).toEqual(counted(3));
  });

  test("sync says what it stored, gc what it deleted and what waits", async () => {
    await directory.ok(["remote", "set", url]);
    expect(await directory.ok(["remote", "sync"])).toContain("up to LSN 3");
    await directory.ok(insert);
    expect(await directory.json(["remote", "gc"])).toMatchObject({ deletedObjects: 0 });
    expect(await directory.ok(["remote", "gc"])).toMatch(
      /^Deleted 0 objects \(0 B\); [1-9]\d* objects? \(.*\) are not needed/,
    );
  });

  test("unset ends it, and set goes on at the same place", async () => {
    await directory.ok(["remote", "set", url]);
    expect(await directory.ok(["remote", "unset"])).toContain("any more");
    await directory.ok(insert);
    expect(await directory.json([...count, ...elsewhere("f1")])).toEqual(counted(2));
    await directory.ok(["remote", "set", url]);
    expect(await directory.json([...count, ...elsewhere("f2")])).toEqual(counted(3));
    expect(await directory.ok(["remote", "unset"])).toContain("any more");
    expect(await directory.ok(["remote", "unset"])).toContain("is not uploaded\n");
    expect(await directory.fails(1, ["remote", "sync"])).toContain("is not uploaded");
    expect(await directory.fails(1, ["remote", "gc"])).toContain("is not uploaded");
  });

  test("a URL that cannot be used is not kept", async () => {
    writeFileSync(directory.file("objects"), "");
    const message = await directory.fails(1, ["remote", "set", url]);
    expect(message).toContain(directory.file("objects"));
    expect(await directory.json(["remote", "show"])).toMatchObject({ url: null, state: "none" });
    expect(await directory.fails(1, ["remote", "set", "ftp://x/y"])).toContain("ftp://");
    const secret = "s3://key:secret@bucket/prefix";
    expect(await directory.fails(1, ["remote", "set", secret])).not.toContain("secret@");
    expect(await directory.json(["remote", "show"])).toMatchObject({ url: null, state: "none" });
  });

  test("what cannot go up is said, and what was committed is here", async () => {
    await directory.ok(["remote", "set", url]);
    takeAway();
    const { exitCode, stderr } = await directory.bough(insert);
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/^bough: Store ".*" is not uploaded yet: .*\n$/);
    const json = await directory.bough([...insert, "--output", "json"]);
    expect(JSON.parse(json.stderr)).toMatchObject({ warning: { code: expect.any(String) } });
    expect(await directory.json(["remote", "status"])).toMatchObject({
      state: "empty",
      durableLsn: 5,
    });
    bringBack();
    expect(await directory.json(count)).toEqual(counted(4));
    expect(await directory.json(["remote", "status"])).toMatchObject({ state: "current" });
  });

  test("with --durability remote it fails", async () => {
    const words = [...insert, "--durability", "remote"];
    expect(await directory.fails(2, words)).toContain("bough remote set");
    await directory.ok(["remote", "set", url]);
    await directory.ok(words);
    takeAway();
    const { exitCode, stderr } = await directory.bough(words);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("INSERT INTO item");
    expect(await directory.bough([...count, "--durability", "remote"])).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("Cannot put object"),
    });
  });

  test("stat shows how far the upload is", async () => {
    expect(await directory.ok(["stat"])).not.toContain("Object storage");
    await directory.ok(["remote", "set", url]);
    expect(await directory.ok(["stat"])).toMatch(/^Object storage {5}file:/m);
    expect(await directory.json(["stat"])).toMatchObject({ remote: { url, uploadedLsn: 3 } });
    const follower = elsewhere("follower");
    expect(await directory.ok(["stat", ...follower])).toMatch(/^State +followed, read-only$/m);
    expect(await directory.json(["stat", ...follower])).toMatchObject({ remote: { url, lsn: 3 } });
  });
});

describe("a store in object storage", () => {
  beforeEach(async () => {
    await makeShop();
    await directory.ok(["remote", "set", url]);
  });

  test("is read without its directory, and refuses what writes", async () => {
    rmSync(directory.file("store"), { recursive: true });
    const here = elsewhere("follower");
    expect(await directory.json([...count, ...here])).toEqual(counted(2));
    expect(await directory.json(["sql", "shop@2", "SELECT 1 AS n", ...here])).toEqual(counted(1));
    expect(await directory.ok(["log", "shop", ...here])).toContain("│");
    expect(await directory.ok(["branch", "list", "shop", ...here])).toContain("main");
    await directory.ok(["export", "shop", directory.file("shop.db"), ...here]);
    expect(existsSync(directory.file("shop.db"))).toBe(true);
    expect(await directory.ok(["remote", "show", ...here])).toContain("followed, read-only");
    for (const words of [
      insert,
      ["database", "create", "books"],
      ["branch", "create", "shop/dev"],
      ["import", directory.file("shop.db"), "other"],
      ["gc"],
      ["remote", "gc"],
    ])
      expect((await directory.bough([...words, ...here])).stderr, words[0]).toMatch(
        words[0] === "remote" ? /it is in object storage/ : /with --take-over this machine becomes/,
      );
    expect(existsSync(directory.file("store"))).toBe(false);
  });

  test("--take-over makes this machine the writer, and the earlier one stops", async () => {
    const here = [...elsewhere("writer"), "--take-over"];
    await directory.ok([...insert, ...here]);
    await directory.ok([...insert, ...here]);
    expect(await directory.ok(["remote", "show", ...here])).toContain("this machine is the writer");
    expect(await directory.json([...count, ...elsewhere("follower")])).toEqual(counted(4));
    const { exitCode, stderr } = await directory.bough(insert);
    expect(exitCode).toBe(0);
    expect(stderr).toContain("has taken it over");
    expect(await directory.json(["remote", "show"])).toMatchObject({ state: "fenced" });
    expect(await directory.json([...count, ...elsewhere("follower")])).toEqual(counted(4));
    // Its directory is a store as any other, and keeps where its pages are.
    const writer = { env: { BOUGH_STORE: directory.file("writer") } };
    expect(await directory.json(count, writer)).toEqual(counted(4));
    const unset = await directory.bough(["remote", "unset"], writer);
    expect(unset.exitCode).toBe(1);
    expect(unset.stderr).toContain("bough restore-store");
  });

  test("options for it are refused for a directory, and commands for a directory for it", async () => {
    expect(await directory.fails(2, [...count, "--take-over"])).toContain("--take-over");
    expect(await directory.fails(2, [...count, "--directory", "x"])).toContain("--directory");
    const here = elsewhere("follower");
    for (const words of [
      ["store", "convert", "--backend", "memory"],
      ["remote", "set", url],
      ["remote", "unset"],
      ["remote", "sync"],
      ["check", "--repair"],
    ])
      expect(await directory.fails(2, [...words, ...here]), words[0]).toContain("restore-store");
  });

  test("where there is none, that is said", async () => {
    const nowhere = ["--store", `file://${directory.file("nowhere")}`];
    const words = [...count, ...nowhere, "--directory", directory.file("f")];
    expect(await directory.fails(1, words)).toContain("there is no store");
    expect(await directory.fails(1, [...words, "--take-over"])).toContain("there is no store");
  });
});

const server = await s3Server();

describe.skipIf(server === null)("a store in S3", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  test("is set, followed, taken over, collected, repaired from and restored, with the environment's credentials", async () => {
    if (server === null) return;
    vi.stubEnv("AWS_ACCESS_KEY_ID", server.credentials.accessKeyId);
    vi.stubEnv("AWS_SECRET_ACCESS_KEY", server.credentials.secretAccessKey);
    vi.stubEnv("AWS_ENDPOINT_URL", server.endpoint);
    vi.stubEnv("AWS_REGION", "us-east-1");
    url = server.newPlace().url.replace(/[?].*/, "");
    await makeShop();
    await directory.ok(["remote", "set", url]);
    await directory.ok([...insert, "--durability", "remote"]);
    expect(await directory.json(["remote", "status"])).toMatchObject({ state: "current" });
    expect(await directory.json([...count, ...elsewhere("follower")])).toEqual(counted(3));
    await directory.ok(["remote", "gc"]);
    for (const name of readdirSync(directory.file("store/chunks")))
      rmSync(directory.file(`store/chunks/${name}`));
    expect(await directory.ok(["check", "--repair"])).toContain("No damage found");
    await directory.ok([...insert, ...elsewhere("writer"), "--take-over"]);
    expect((await directory.bough(insert)).stderr).toContain("has taken it over");
    expect(await directory.json(["remote", "status"])).toMatchObject({ state: "fenced" });
    const output = await directory.ok(["restore-store", url, directory.file("copy")]);
    expect(output).toContain("\nVerified: ");
    const copy = { env: { BOUGH_STORE: directory.file("copy") } };
    expect(await directory.json(count, copy)).toEqual(counted(4));
  });
});

describe("check --repair", () => {
  beforeEach(async () => {
    await makeShop();
    await directory.ok(["remote", "set", url]);
  });

  function damage(): void {
    for (const kind of ["chunks", "history"])
      for (const name of readdirSync(directory.file(`store/${kind}`)))
        writeFileSync(directory.file(`store/${kind}/${name}`), "damaged");
  }

  test("takes what is lost from where the store uploads to, or from a URL", async () => {
    for (const from of [[], ["--from", url]]) {
      damage();
      expect((await directory.bough(["check"])).exitCode).toBe(1);
      const output = await directory.ok(["check", "--repair", ...from]);
      expect(output).toMatch(/^repaired {2}.*: copied from "file:/m);
      expect(output).toContain("No damage found");
    }
    expect(await directory.json(count)).toEqual(counted(2));
  });

  test("a header from there uploads nowhere until it is told to", async () => {
    writeFileSync(directory.file("store/store.json"), "damaged");
    expect((await directory.bough(count)).exitCode).toBe(1);
    const output = await directory.ok(["check", "--repair", "--from", url]);
    expect(output).toContain("repaired  store.json: copied from");
    expect(await directory.json(count)).toEqual(counted(2));
    expect(await directory.json(["remote", "show"])).toMatchObject({ url: null });
    await directory.ok(["remote", "set", url]);
    expect(await directory.json(["remote", "show"])).toMatchObject({ url, state: "current" });
  });

  test("without an answer from there says so, and does what it can", async () => {
    damage();
    takeAway();
    const { exitCode, stderr } = await directory.bough(["check", "--repair"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("bough: Repairing without object storage: ");
    expect(stderr).toContain("Cannot trust store");
  });

  test("a store with pages in object storage only is checked and repaired with them", async () => {
    const here = [...elsewhere("writer"), "--take-over"];
    await directory.ok([...insert, ...here]);
    const writer = { env: { BOUGH_STORE: directory.file("writer") } };
    expect(await directory.ok(["check", "--deep"], writer)).toContain("No damage found");
    for (const name of readdirSync(directory.file("writer/chunks")))
      writeFileSync(directory.file(`writer/chunks/${name}`), "damaged");
    expect((await directory.bough(["check"], writer)).exitCode).toBe(1);
    expect(await directory.ok(["check", "--repair"], writer)).toContain("No damage found");
    expect(await directory.json(count, writer)).toEqual(counted(3));
  });
});

test("an encrypted store needs its key wherever it is opened, and not to say how far its upload is", async () => {
  const BOUGH_KEY = "5a".repeat(32);
  const env = { BOUGH_KEY };
  await directory.ok(["database", "create", "shop"], { env });
  await directory.ok(["sql", "shop", "CREATE TABLE item(id); INSERT INTO item VALUES (1)"], {
    env,
  });
  await directory.ok(["remote", "set", url], { env });
  expect(await directory.json(["remote", "status"])).toMatchObject({ state: "current" });
  const reads = [...count, ...elsewhere("follower")];
  expect(await directory.json(reads, { env })).toEqual(counted(1));
  const takes = ["sql", "shop", "INSERT INTO item VALUES (2)", ...elsewhere("w"), "--take-over"];
  const copies = ["restore-store", url, directory.file("copy")];
  for (const words of [reads, takes, copies])
    expect(await directory.fails(1, words), words[0]).toContain("key");
  // Nobody was fenced off by the one who had no key.
  await directory.ok(["sql", "shop", "INSERT INTO item VALUES (2)"], { env });
  expect(await directory.json(["remote", "status"])).toMatchObject({ state: "current" });
  const repaired = ["check", "--repair"];
  for (const name of readdirSync(directory.file("store/chunks")))
    rmSync(directory.file(`store/chunks/${name}`));
  expect(await directory.ok(repaired, { env })).toContain("No damage found");
  rmSync(directory.file("copy"), { recursive: true, force: true });
  expect(await directory.ok(copies, { env })).toContain("\nVerified: ");
  const copy = { env: { ...env, BOUGH_STORE: directory.file("copy") } };
  expect(await directory.json(count, copy)).toEqual(counted(2));
});

describe("restore-store", () => {
  const copy = { env: {} as Record<string, string> };

  beforeEach(async () => {
    await makeShop();
    await directory.ok(["remote", "set", url]);
    await directory.ok(insert);
    copy.env = { BOUGH_STORE: directory.file("copy") };
  });

  test("copies all, verifies it and says so", async () => {
    rmSync(directory.file("store"), { recursive: true });
    const output = await directory.ok(["restore-store", url, directory.file("copy")]);
    expect(output).toMatch(/^Copied "file:.*" to ".*copy": 1 database, \d+ files/);
    expect(output).toContain("No damage found; looked at");
    expect(output).toContain("\nVerified: ");
    expect(await directory.json(count, copy)).toEqual(counted(3));
    expect(await directory.json(["remote", "show"], copy)).toMatchObject({ url: null });
    const again = ["restore-store", url, directory.file("copy")];
    expect(await directory.fails(1, again)).toContain("it is not empty");
  });

  test("--to goes back, --no-verify checks nothing", async () => {
    const words = ["restore-store", url, directory.file("copy"), "--to", "shop@2", "--no-verify"];
    const output = await directory.ok(words);
    expect(output).toContain("Moved back: shop/main");
    expect(output).toContain("Not verified");
    expect(await directory.json(count, copy)).toEqual(counted(2));
    for (const to of ["yesterday", "2026-13-40T00:00:00Z", "shop@@", "shop"])
      expect(
        await directory.fails(2, ["restore-store", url, directory.file("x"), "--to", to]),
      ).toContain(`"${to}"`);
    expect(existsSync(directory.file("x"))).toBe(false);
  });

  test("a damaged copy is said to be one", async () => {
    const packs = directory.file("objects/chunks");
    for (const name of readdirSync(packs)) writeFileSync(`${packs}/${name}`, "not a pack at all");
    const words = ["restore-store", url, directory.file("copy")];
    const { exitCode, stdout, stderr } = await directory.bough(words);
    expect(exitCode).toBe(1);
    expect(stdout).toContain("CORRUPT_");
    expect(stdout).not.toContain("Verified: ");
    expect(stderr).toContain("Cannot trust the copy");
  });
});
