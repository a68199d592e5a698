import { readFileSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { COMMAND_TARGETS, CommandDirectory } from "../testing/run-command.ts";

let directory: CommandDirectory;

describe.each(COMMAND_TARGETS)("the store of a %s", (target) => {
  beforeEach(async () => {
    directory = await CommandDirectory.on(target);
  });

  afterEach(async () => {
    await directory.end();
  });

  async function makeShop(): Promise<void> {
    await directory.ok(["database", "create", "shop"]);
    await directory.ok([
      "sql",
      "shop",
      "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item(name) VALUES ('apple'), ('pear')",
    ]);
  }

  const count = (revision: string): Promise<unknown> =>
    directory.json(["sql", revision, "SELECT count(*) AS n FROM item"]);

  describe("database", () => {
    test("create, list, rename, delete and undelete", async () => {
      expect(await directory.ok(["database", "create", "shop"])).toBe('Created database "shop"\n');
      await directory.ok(["database", "create", "logs", "--page-size", "512"]);
      await directory.ok(["database", "rename", "logs", "events"]);
      expect(await directory.json(["database", "list"])).toMatchObject([
        { name: "events", branches: 1, version: 0, pageSize: 512 },
        { name: "shop", branches: 1, version: 0, pageSize: 4096 },
      ]);
      const deleted = await directory.ok(["database", "delete", "shop"]);
      expect(deleted).toContain("to undo: bough database undelete shop");
      expect(await directory.json(["database", "list"])).toHaveLength(1);
      await directory.ok(["database", "undelete", "shop"]);
      expect(await directory.ok(["database", "list"])).toMatch(
        /│ shop +│ +1 │ +0 │ +4096 │ \d{4}-/,
      );
    });

    test.runIf(target === "directory")(
      "a wrong page size or name leaves no store behind",
      async () => {
        const words = ["database", "create", "shop", "--page-size"];
        expect(await directory.fails(1, [...words, "1000"])).toContain("page size 1000");
        expect(await directory.fails(2, [...words, "many"])).toContain('"many"');
        expect(await directory.fails(1, ["database", "create", "a/b"])).toContain('"a/b"');
        expect(await directory.fails(1, ["database", "list"])).toContain("there is none");
      },
    );
  });

  describe("branch", () => {
    beforeEach(makeShop);

    test("a branch starts as the revision, and what is done to it stays there", async () => {
      expect(await directory.ok(["branch", "create", "shop/dev", "--from", "shop@1"])).toBe(
        'Created branch "shop/dev" from "shop@1" at version 1\n',
      );
      expect(await count("shop/dev")).toEqual([{ n: 0 }]);
      await directory.ok(["sql", "shop/dev", "INSERT INTO item(name) VALUES ('fig')"]);
      expect(await count("shop/dev")).toEqual([{ n: 1 }]);
      expect(await count("shop")).toEqual([{ n: 2 }]);
    });

    test("list shows parents, versions, expiry and protection", async () => {
      await directory.ok([
        "branch",
        "create",
        "shop/dev",
        "--expires-at",
        "2099-01-31T18:00:00+01:00",
      ]);
      await directory.ok(["branch", "protect", "shop/main"]);
      expect(await directory.json(["branch", "list", "shop"])).toMatchObject([
        { name: "main", head: { version: 2 }, isProtected: true, parent: null, expiresAt: null },
        { name: "dev", parent: "main", forkVersion: 2, expiresAt: "2099-01-31T17:00:00.000Z" },
      ]);
      const table = await directory.ok(["branch", "list", "shop"]);
      expect(table).toMatch(/│ dev +│ +2 │ .* │ main@2 │ 2099-01-31T17:00:00.000Z │ +│/);
      await directory.ok(["branch", "unprotect", "shop/main"]);
      expect(await directory.ok(["branch", "list", "shop"])).not.toContain("yes");
    });

    test("set-expiration takes durations and never", async () => {
      await directory.ok(["branch", "create", "shop/dev"]);
      const set = async (time: string): Promise<unknown> =>
        directory.json(["branch", "set-expiration", "shop/dev", time]);
      const before = Date.now();
      const { expiresAt } = (await set("1d12h")) as { expiresAt: string };
      const wanted = before + 36 * 3_600_000;
      expect(Date.parse(expiresAt)).toBeGreaterThanOrEqual(wanted);
      expect(Date.parse(expiresAt)).toBeLessThan(wanted + 60_000);
      expect(await set("never")).toMatchObject({ expiresAt: null });
      for (const time of ["tomorrow", "7", "2099-01-31", "2099-01-31T18:00:00", "@5m"])
        expect(
          await directory.fails(2, ["branch", "set-expiration", "shop/dev", "--", time]),
        ).toContain(`Cannot read the time "${time}"`);
      for (const time of ["0s", "-7d", "2020-01-31T18:00:00Z"])
        expect(
          await directory.fails(2, ["branch", "set-expiration", "shop/dev", "--", time]),
        ).toContain(`Cannot use the time "${time}": it is not in the future`);
    });

    test("rename, delete and undelete", async () => {
      await directory.ok(["branch", "create", "shop/dev"]);
      await directory.ok(["branch", "rename", "shop/dev", "feature/cart"]);
      expect(await directory.json(["branch", "delete", "shop/feature/cart"])).toEqual({
        deleted: "shop/feature/cart",
        undo: "bough branch undelete shop/feature/cart",
      });
      expect(await directory.fails(1, ["sql", "shop/feature/cart", "SELECT 1"])).toContain(
        "feature/cart",
      );
      await directory.ok(["branch", "undelete", "shop/feature/cart"]);
      expect(await count("shop/feature/cart")).toEqual([{ n: 2 }]);
    });

    test("reset to the parent or a revision, and the undo that is printed works", async () => {
      await directory.ok(["branch", "create", "shop/dev"]);
      await directory.ok(["sql", "shop/dev", "DELETE FROM item"]);
      const { undo } = (await directory.json(["branch", "reset", "shop/dev"])) as { undo: string };
      expect(await count("shop/dev")).toEqual([{ n: 2 }]);
      await directory.ok(undo.split(" ").slice(1));
      expect(await count("shop/dev")).toEqual([{ n: 0 }]);
      await directory.ok(["branch", "reset", "shop/dev", "--to", "shop@2"]);
      expect(await count("shop/dev")).toEqual([{ n: 2 }]);
    });

    test("a protected branch and one with children are not deleted", async () => {
      await directory.ok(["branch", "create", "shop/dev"]);
      await directory.ok(["branch", "create", "shop/child", "--from", "shop/dev"]);
      expect(await directory.fails(1, ["branch", "delete", "shop/dev"])).toContain("child");
      await directory.ok(["branch", "protect", "shop/child"]);
      expect(await directory.fails(1, ["branch", "delete", "shop/child"])).toContain("protected");
    });
  });

  describe("tag, log and restore", () => {
    beforeEach(makeShop);

    test("a tag names a version, and deleting it prints how to make it again", async () => {
      await directory.ok(["branch", "create", "shop/dev"]);
      await directory.ok(["sql", "shop/dev", "DELETE FROM item"]);
      await directory.ok(["tag", "create", "shop", "empty", "--at", "shop/dev"]);
      await directory.ok(["tag", "create", "shop", "full"]);
      expect(await directory.json(["tag", "list", "shop"])).toMatchObject([
        { name: "empty", version: 3 },
        { name: "full", version: 2 },
      ]);
      expect(await count("shop@empty")).toEqual([{ n: 0 }]);
      const { undo } = (await directory.json(["tag", "delete", "shop", "empty"])) as {
        undo: string;
      };
      expect(undo).toBe("bough tag create shop empty --at shop/dev@3");
      await directory.ok(undo.split(" ").slice(1));
      expect(await count("shop@empty")).toEqual([{ n: 0 }]);
      expect(await directory.ok(["tag", "list", "shop"])).toMatch(/│ full +│ +2 │/);
    });

    test("log lists commits, newest first, page by page", async () => {
      for (let index = 0; index < 4; index++)
        await directory.ok(["sql", "shop", "INSERT INTO item(name) VALUES ('more')"]);
      const versions = async (...words: string[]): Promise<number[]> =>
        ((await directory.json(["log", "shop", ...words])) as { version: number }[]).map(
          ({ version }) => version,
        );
      expect(await versions()).toEqual([6, 5, 4, 3, 2, 1]);
      expect(await versions("--limit", "2")).toEqual([6, 5]);
      expect(await versions("--limit", "2", "--before", "5")).toEqual([4, 3]);
      expect(await versions("--limit", "all")).toHaveLength(6);
      expect(await directory.ok(["log", "shop/main", "--limit", "2"])).toContain(
        "Older commits: bough log shop/main --before 5",
      );
      for (const limit of ["0", "-1", "x", "1.5"])
        expect(await directory.fails(2, ["log", "shop", `--limit=${limit}`])).toContain(
          `"${limit}"`,
        );
    });

    test("restore goes back, keeps what was, and the undo that is printed works", async () => {
      await directory.ok(["sql", "shop", "DELETE FROM item"]);
      const restored = (await directory.json([
        "restore",
        "shop",
        "--to",
        "shop@2",
        "--preserve-as",
        "accident",
      ])) as { undo: string };
      expect(restored).toMatchObject({ preservedAs: "shop/accident", head: { version: 2 } });
      expect(await count("shop")).toEqual([{ n: 2 }]);
      expect(await count("shop/accident")).toEqual([{ n: 0 }]);
      await directory.ok(restored.undo.split(" ").slice(1));
      expect(await count("shop")).toEqual([{ n: 0 }]);
      expect(await directory.fails(2, ["restore", "shop"])).toContain("--to");
    });
  });

  describe("stat", () => {
    test("a fork shares its pages", async () => {
      await makeShop();
      await directory.ok(["branch", "create", "shop/dev"]);
      const statistics = (await directory.json(["stat", "shop"])) as {
        logicalBytes: number;
        uniqueBytes: number;
      };
      expect(statistics.logicalBytes).toBe(2 * statistics.uniqueBytes);
      expect(await directory.ok(["stat"])).toMatch(/│ shop\/dev +│ +2 │ +2 │ 8.0 KiB │ +0 B │/);
      expect(await directory.fails(1, ["stat", "shp"])).toContain('did you mean "shop"?');
    });
  });

  describe("check", () => {
    beforeEach(makeShop);

    test("a whole store has no damage", async () => {
      const report = await directory.json(["check", "--deep"]);
      expect(report).toMatchObject({ ok: true, problems: [], counts: { heads: 1 } });
      expect(await directory.ok(["check"])).toContain("No damage found; looked at");
    });

    test("a damaged chunk is found, with the revisions that it touches", async () => {
      await directory.ok(["gc"]); // Moves commits from the log into chunks.
      const pack = directory.file("store/chunks/00000001.pack");
      const bytes = readFileSync(pack);
      // Near the end of what is written: inside the last chunk.
      const last = bytes.findLastIndex((byte) => byte !== 0);
      bytes[last - 40] = (bytes[last - 40] ?? 0) ^ 1;
      writeFileSync(pack, bytes);
      const { exitCode, stdout, stderr } = await directory.bough(["check", "--output", "json"]);
      expect(exitCode).toBe(1);
      expect(JSON.parse(stderr)).toMatchObject({ error: { code: "DAMAGED" } });
      const { problems } = JSON.parse(stdout) as {
        problems: { code: string; revisions: string[] }[];
      };
      expect(problems.map(({ code }) => code)).toContain("CORRUPT_CHUNK");
      expect(problems.flatMap(({ revisions }) => revisions)).toContain("shop");
      const table = await directory.bough(["check"]);
      expect(table.exitCode).toBe(1);
      expect(table.stdout).toMatch(/^CORRUPT_CHUNK {2}.*\n {2}touches: .*shop/m);
      expect(table.stderr).toMatch(/^bough: Cannot trust store .*found\n$/);
    });
  });
});

describe("key", () => {
  beforeEach(() => {
    directory = new CommandDirectory();
  });

  afterEach(() => {
    directory[Symbol.dispose]();
  });

  test("a store made with a key opens with it only, and rotation changes the key", async () => {
    const [first, second] = [
      await directory.ok(["key", "generate"]),
      await directory.ok(["key", "generate"]),
    ];
    expect(first).toMatch(/^[0-9a-f]{64}\n$/);
    expect(second).not.toBe(first);
    writeFileSync(directory.file("a.key"), first);
    writeFileSync(directory.file("b.key"), second);
    const [a, b] = [directory.file("a.key"), directory.file("b.key")];
    await directory.ok(["database", "create", "shop", "--key-file", a]);
    expect(await directory.fails(1, ["database", "list"])).toContain("key");
    await directory.fails(1, ["database", "list", "--key-file", b]);
    await directory.ok(["database", "list"], { env: { BOUGH_KEY: first } });
    await directory.ok(["key", "rotate", "--key-file", a, "--new-key-file", b]);
    await directory.fails(1, ["database", "list", "--key-file", a]);
    await directory.ok(["database", "list", "--key-file", b]);
    const undo = await directory.ok(["database", "delete", "shop", "--key-file", b]);
    expect(undo).toContain(`bough database undelete shop --key-file ${b}`);
  });

  test("what is no key is refused", async () => {
    writeFileSync(directory.file("bad.key"), "not a key");
    const words = ["database", "create", "shop"];
    expect(await directory.fails(1, [...words, "--key-file", directory.file("bad.key")])).toContain(
      "bad.key",
    );
    expect(await directory.fails(1, [...words, "--key-file", directory.file("no.key")])).toContain(
      "no.key",
    );
    expect(await directory.fails(1, words, { env: { BOUGH_KEY: "short" } })).toContain("BOUGH_KEY");
  });
});
