/** Each wrong input gets one clear message, the right exit code and a stable code, and leaves nothing half-done. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Database } from "../better-sqlite3.ts";
import { CRC64_SIZE, crc64Into } from "../storage/crc64.ts";
import { CommandDirectory } from "../testing/run-command.ts";
import { describeFailure } from "./errors.ts";

let directory: CommandDirectory;

beforeEach(() => {
  directory = new CommandDirectory();
});

afterEach(() => {
  directory[Symbol.dispose]();
});

/** The code and message of a command that fails as expected. */
async function failure(...words: readonly string[]): Promise<{ code: string; message: string }> {
  const result = await directory.bough([...words, "--output", "json"]);
  expect(result).toMatchObject({ exitCode: 1, stdout: "" });
  const { error } = JSON.parse(result.stderr) as { error: { code: string; message: string } };
  expect(error.message).not.toMatch(/\n|\.$/);
  return error;
}

function sqliteBytes(): Buffer {
  using database = new Database(":memory:");
  database.exec(`CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO item(name) SELECT value FROM json_each('["apple","pear","fig"]')`);
  return database.serialize();
}

function sqliteFile(name: string, bytes: Uint8Array = sqliteBytes()): string {
  writeFileSync(directory.file(name), bytes);
  return directory.file(name);
}

describe("the command line itself", () => {
  test.each([
    [["brnch"], 'Unknown command "brnch"; did you mean "branch"?'],
    [["branch", "craete", "shop/dev"], 'Unknown command "craete"; did you mean "create"?'],
    [["export", "shop"], 'Missing required argument "file"; see "bough help"'],
    [["log", "shop", "--limt", "1"], 'Unknown option "--limt"; did you mean "--limit"?'],
    [["database", "list", "extra"], "Too many arguments"],
    [["database", "list", "--output", "xml"], "Allowed choices are table, json, csv"],
    [["database", "list", "--output", "csv"], "Cannot print this as csv"],
    [
      ["branch", "set-expiration", "shop/dev", "-5m"],
      'Unknown option "-5m": it begins with "-"; if it is meant as a value, put "--" before it',
    ],
    [["branch", "create", "shop/dev", "--expires-at", "-5m"], "it is not in the future"],
    [["branch", "create", "shop"], 'write "shop/NAME"'],
    [["branch", "create", "shop/dev@1"], "names a fixed version"],
    [["help", "branch", "craete"], 'Cannot find help for "branch craete"'],
  ])("%j", async (words, message) => {
    expect(await directory.fails(2, words)).toContain(message);
    expect(readdirSync(directory.path)).toEqual([]);
  });

  test("a usage error is an object with --output json", async () => {
    const { exitCode, stderr } = await directory.bough(["brnch", "--output", "json"]);
    expect(exitCode).toBe(2);
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: "USAGE" } });
  });

  test("no command and a group without command print help and fail", async () => {
    for (const words of [[], ["branch"]]) {
      const { exitCode, stdout, stderr } = await directory.bough(words);
      expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
      expect(stderr).toContain("Usage: bough");
    }
  });

  test("every command has help with an example", async () => {
    const top = await directory.ok(["help"]);
    const names = (help: string): string[] =>
      [
        ...(help.split("\nCommands:\n")[1]?.split("\n\n")[0] ?? "").matchAll(/^ {2}([a-z-]+)/gm),
      ].map((match) => match[1] ?? "");
    expect(names(top)).toContain("restore");
    for (const name of names(top)) {
      const help = await directory.ok(["help", name]);
      expect(await directory.ok([name, "--help"])).toBe(help);
      const children = names(help);
      if (children.length === 0) expect(help, name).toContain("Examples:\n  ");
      for (const child of children.filter((other) => other !== "help"))
        expect(await directory.ok(["help", name, child]), `${name} ${child}`).toMatch(
          new RegExp(`Usage: bough ${name} ${child} `),
        );
    }
  });

  test("--version prints the package's version", async () => {
    const manifest = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(await directory.ok(["--version"])).toBe(`${manifest.version}\n`);
  });
});

describe("stores", () => {
  test("a URL that is not object storage's is no directory to make", async () => {
    const words = (url: string): string[] => ["--store", url, "database", "create", "q"];
    expect(await directory.fails(2, words("ftp://host/x"))).toContain(
      'neither a directory nor "s3://bucket/prefix"',
    );
    expect(await directory.fails(2, words("https://host/x"))).toContain("use --url https://host/x");
  });

  test("messages stay on one line, whatever is in a name", async () => {
    const { stderr } = await directory.bough(["import", "a\nb\u001B[2J\u202Ec", "shop"]);
    expect(stderr).toContain(String.raw`a\nb\u001b[2J\u{202e}c"`);
    expect(stderr.trimEnd()).toMatch(/^bough: [^\p{C}]*$/u);
  });

  test.each([
    ["import", "a\0b", "shop"],
    ["restore-store", "file:///nowhere", "a\0b"],
    ["token", "key", "create", "a\0b"],
    ["key", "rotate", "--new-key-file", "a\0b"],
  ])("a path with a zero character is none: %j %j", async (...words) => {
    const { message } = await failure(...words.filter((word) => word !== undefined));
    expect(message).toContain("a path has no zero character");
  });

  test("values that name nothing are no bugs", async () => {
    await directory.ok(["database", "create", "shop"]);
    expect((await failure("remote", "set", "")).code).toBe("REMOTE_URL_INVALID");
    expect((await failure("stat", "--key-file", "")).code).toBe("IO");
    expect(await directory.fails(2, ["token", "revoke", "x".repeat(257)])).toBe(
      "Cannot revoke a token: an id has at most 256 characters, this has 257",
    );
    expect(await directory.fails(2, ["database", "create", "x", "--page-size", ""])).toContain(
      'Cannot read the page size ""',
    );
    writeFileSync(directory.file("plain"), "");
    const list = directory.file("plain/list.json");
    expect(await failure("token", "revoke", "x", "--revocations", list)).toEqual({
      code: "IO",
      message: `Cannot change "${list}": a part of the path is a file, not a directory (ENOTDIR)`,
    });
  });

  test("a token for a directory is a mistake: it is for a server", async () => {
    await directory.ok(["database", "create", "shop"]);
    for (const option of ["--token", "--token-file"])
      expect(await directory.fails(2, ["stat", option, "x"])).toBe(
        `Cannot use ${option} with store "${directory.file("store")}": it is for a server, which --url names`,
      );
  });

  // The lock was kept until the process ended.
  test("a copy from no URL leaves neither a directory nor its lock", async () => {
    for (let time = 0; time < 2; time++)
      expect(await failure("restore-store", "nowhere", directory.file("new"))).toMatchObject({
        code: "REMOTE_URL_INVALID",
      });
    expect(readdirSync(directory.path)).toEqual([]);
  });

  test("names that are empty get the same codes from a server as from a directory", async () => {
    await directory.ok(["database", "create", "shop"]);
    const commands = [
      ["database", "delete", ""],
      ["database", "rename", "shop", ""],
      ["branch", "create", "shop/dev", "--from", ""],
      ["branch", "list", ""],
      ["tag", "create", "shop", ""],
      ["tag", "create", "shop", "v1", "--at", ""],
      ["tag", "delete", "shop", ""],
      ["restore", "shop", "--to", ""],
      ["stat", ""],
    ];
    const codes = async (): Promise<string[]> => {
      const found: string[] = [];
      for (const words of commands) found.push((await failure(...words)).code);
      return found;
    };
    const here = await codes();
    expect(here).toContain("NAME_INVALID");
    await directory.serve();
    try {
      expect(await codes()).toEqual(here);
    } finally {
      await directory.stopServing();
    }
  });

  test("commands that need a store do not make one", async () => {
    for (const words of [
      ["database", "list"],
      ["database", "delete", "shop"],
      ["branch", "create", "shop/dev"],
      ["sql", "shop", "SELECT 1"],
      ["shell", "shop"],
      ["log", "shop"],
      ["stat"],
      ["export", "shop", directory.file("out.db")],
      ["restore", "shop", "--to", "shop@1"],
    ]) {
      const { code, message } = await failure(...words);
      expect(code, words.join(" ")).toBe("STORE_NOT_FOUND");
      expect(message).toContain("bough import");
    }
    expect(readdirSync(directory.path)).toEqual([]);
  });

  test("a file and a directory with other things in it are no stores", async () => {
    const file = sqliteFile("a.db");
    const other = directory.file("notes.txt");
    writeFileSync(other, "SQLite");
    for (const words of [
      ["database", "list"],
      ["serve", "--port", "0"],
      ["check"],
      ["check", "--repair"],
      ["store", "convert", "--backend", "memory"],
      ["remote", "status"],
      ["remote", "set", "file:///nowhere"],
      ["token", "key", "create"],
      ["token", "revoke", "x"],
    ])
      for (const [path, fact] of [
        [file, `it is a SQLite database, and a store is a directory; "bough import ${file} NAME"`],
        [other, "it is a file, and a store is a directory"],
        [join(other, "below"), "a part of its path is a file, not a directory"],
      ] as const)
        expect(await failure(...words, "--store", path), words.join(" ")).toEqual({
          code: "STORE_IS_FILE",
          message: expect.stringContaining(`Cannot open store "${path}": ${fact}`),
        });
    expect(await failure("restore-store", "file:///nowhere", file)).toMatchObject({
      code: "STORE_IS_FILE",
    });
    mkdirSync(directory.file("photos"));
    writeFileSync(directory.file("photos/cat.jpg"), "meow");
    const words = ["database", "create", "shop", "--store", directory.file("photos")];
    expect((await failure(...words)).message).toContain("cat.jpg");
    expect(readdirSync(directory.file("photos"))).toEqual(["cat.jpg"]);
  });

  test("an unknown format version is refused", async () => {
    await directory.ok(["database", "create", "shop"]);
    const path = directory.file("store/store.json");
    const [line = ""] = readFileSync(path, "utf8").split("\n");
    const newer = line.replace('"formatVersion":1', '"formatVersion":999');
    const checksum = new Uint8Array(CRC64_SIZE);
    crc64Into(Buffer.from(newer), 0, newer.length, checksum, 0);
    writeFileSync(path, `${newer}\ncrc64nvme ${Buffer.from(checksum).reverse().toString("hex")}\n`);
    const error = await failure("database", "list");
    expect(error.code).toBe("STORE_FORMAT");
    expect(error.message).toContain("999");
    writeFileSync(path, newer);
    expect((await failure("database", "list")).code).toBe("CORRUPT_HEADER");
  });
});

describe("names and revisions", () => {
  beforeEach(async () => {
    await directory.ok(["import", sqliteFile("a.db"), "shop"]);
    await directory.ok(["branch", "create", "shop/feature"]);
  });

  test.each([
    ["shp", "DATABASE_NOT_FOUND", 'did you mean "shop"?'],
    ["shop/featur", "BRANCH_NOT_FOUND", "feature"],
    ["shop@99", "VERSION_NOT_FOUND", "from 1 to 1"],
    ["shop@nothing", "TAG_NOT_FOUND", "nothing"],
    ["shop@", "REVISION_INVALID", 'nothing follows "@"'],
    ["shop@2026-11-20T10:00:00", "REVISION_INVALID", "no zone"],
    ["shop@2999-01-01T00:00:00Z", "VERSION_NOT_FOUND", "future"],
    ["shop@-9000d", "VERSION_NOT_FOUND", "history"],
    ["a b", "NAME_INVALID", "position 2"],
    ["", "REVISION_INVALID", "names no database"],
  ])("%j is %s", async (revision, code, fact) => {
    const error = await failure("sql", revision, "SELECT 1");
    expect(error.code).toBe(code);
    expect(error.message).toContain(fact);
  });

  test("names that are taken are refused", async () => {
    expect((await failure("database", "create", "shop")).code).toBe("DATABASE_EXISTS");
    expect((await failure("branch", "create", "shop/feature")).code).toBe("BRANCH_EXISTS");
    await directory.ok(["tag", "create", "shop", "v1"]);
    expect((await failure("tag", "create", "shop", "v1")).code).toBe("TAG_EXISTS");
    expect((await failure("tag", "create", "shop", "12")).code).toBe("NAME_INVALID");
  });
});

describe("import and export", () => {
  test.each([
    ["text.db", Buffer.from("hello world"), "NOT_A_DATABASE"],
    ["empty.db", Buffer.alloc(0), "NOT_A_DATABASE"],
    ["cut.db", sqliteBytes().subarray(0, 4096 + 100), "FILE_TRUNCATED"],
    ["header.db", sqliteBytes().subarray(0, 50), "FILE_TRUNCATED"],
    ["size.db", Buffer.from(sqliteBytes()).fill(3, 16, 17), "NOT_A_DATABASE"],
    ["utf16.db", Buffer.from(sqliteBytes()).fill(2, 59, 60), "NOT_A_DATABASE"],
  ])("%s is refused and leaves no store", async (name, bytes, code) => {
    const error = await failure("import", sqliteFile(name, bytes), "shop");
    expect(error.code).toBe(code);
    expect(error.message).toContain(name);
    expect(readdirSync(directory.path)).toEqual([name]);
  });

  test("a missing file, a directory and a write-ahead log without its file are refused", async () => {
    expect((await failure("import", directory.file("no.db"), "shop")).code).toBe("FILE_NOT_FOUND");
    expect((await failure("import", directory.path, "shop")).message).toContain("directory");
    const wal = sqliteFile("x.db-wal", Buffer.from("377f06820000000000001000", "hex"));
    expect((await failure("import", wal, "shop")).message).toContain("write-ahead log");
    expect(readdirSync(directory.path)).toEqual(["x.db-wal"]);
  });

  test("an imported file comes out as it was, and export replaces nothing unasked", async () => {
    const file = sqliteFile("a.db");
    const { version, bytes } = (await directory.json(["import", file, "shop"])) as {
      version: number;
      bytes: number;
    };
    expect({ version, bytes }).toEqual({ version: 1, bytes: 8192 });
    await directory.ok(["import", file, "shop/copy"]);
    const out = directory.file("out.db");
    expect(await directory.ok(["export", "shop/copy", out])).toContain('to "');
    using database = new Database(readFileSync(out));
    expect(database.pragma("integrity_check", { simple: true })).toBe("ok");
    expect(database.prepare("SELECT count(*) FROM item").pluck().get()).toBe(3);
    writeFileSync(out, "mine");
    expect((await failure("export", "shop", out)).code).toBe("FILE_EXISTS");
    expect(readFileSync(out, "utf8")).toBe("mine");
    await directory.ok(["export", "shop@1", out, "--overwrite"]);
    expect(readFileSync(out)).toHaveLength(8192);
    expect((await failure("export", "shop", directory.file("no/out.db"))).code).toBe(
      "FILE_NOT_FOUND",
    );
  });

  test("another page size than the database's is refused", async () => {
    await directory.ok(["database", "create", "shop", "--page-size", "1024"]);
    expect((await failure("import", sqliteFile("a.db"), "shop")).code).toBe("PAGE_SIZE");
  });
});

describe("bugs", () => {
  test("an error without a code asks for a report, with its stack trace", () => {
    const { exitCode, message } = describeFailure(new TypeError("x is not a function"));
    expect(exitCode).toBe(3);
    expect(message).toMatch(/report .*TypeError: x is not a function\n +at /s);
  });
});
