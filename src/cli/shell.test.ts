import { readFileSync, writeFileSync } from "node:fs";
import sqlite3InitModule from "@sqlite.org/sqlite-wasm";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { COMMAND_TARGETS, CommandDirectory, FakeTerminal } from "../testing/run-command.ts";
import { run } from "./run.ts";

let directory: CommandDirectory;

describe.each(COMMAND_TARGETS)("the store of a %s", (target) => {
  beforeEach(async () => {
    directory = await CommandDirectory.on(target);
    await directory.ok(["database", "create", "shop"]);
    await directory.ok([
      "sql",
      "shop",
      "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item(name) VALUES ('apple'), ('pear')",
    ]);
  });

  afterEach(async () => {
    await directory.end();
  });

  const shell = (stdin: string, revision = "shop"): Promise<string> =>
    directory.ok(["shell", revision], { stdin });

  describe("lines from a pipe", () => {
    test("statements go over lines, the last needs no semicolon, no prompt is printed", async () => {
      const csv = await shell(".mode csv\nSELECT 'a\nb' AS x,\n  2 AS y\n;\n\nSELECT 3 AS z");
      expect(csv).toBe('x,y\r\n"a\nb",2\r\nz\r\n3\r\n');
    });

    test("the first error ends the run, in SQL and in commands", async () => {
      const lines = [
        "INSERT INTO item(name) VALUES ('fig');",
        "SELECT missing;",
        "DELETE FROM item;",
      ];
      const stdin = lines.join("\n");
      expect(await directory.fails(1, ["shell", "shop"], { stdin })).toContain("no such column");
      const n = await directory.json(["sql", "shop", "SELECT count(*) AS n FROM item"]);
      expect(n).toEqual([{ n: 3 }]);
      const wrong: readonly (readonly [string, string])[] = [
        [".tabels", 'did you mean ".tables"?'],
        [".mode xml", "table, json, csv"],
        [".mode", "write .mode table|json|csv"],
        [".schema nothing", 'no table "nothing"'],
        [".dump nothing", 'no table "nothing"'],
        [".read nothing.sql", "nothing.sql"],
        [".use shp", 'did you mean "shop"?'],
        [".log x", '"x"'],
        [".tables a b", "write .tables"],
        ["BEGIN;\n.use shop", "a transaction is open"],
        ["BEGIN;\n.branch x", "a transaction is open"],
      ];
      for (const [text, message] of wrong) {
        const result = await directory.bough(["shell", "shop"], {
          stdin: `${text}\nDELETE FROM item;`,
        });
        expect(result.stderr, text).toContain(message);
        expect(result.exitCode, text).not.toBe(0);
      }
      expect(await directory.json(["sql", "shop", "SELECT count(*) AS n FROM item"])).toEqual(n);
    });

    test("a transaction left open is an error", async () => {
      const stdin = "BEGIN; DELETE FROM item;";
      expect(await directory.fails(1, ["shell", "shop"], { stdin })).toContain("not committed");
    });

    test(".quit ends the run", async () => {
      expect(await shell(".mode json\nSELECT 1 AS a;\n.quit\nSELECT 2;")).toBe('[{"a":1}]\n');
    });
  });

  describe("commands", () => {
    test(".tables and .schema", async () => {
      await directory.ok([
        "sql",
        "shop",
        "CREATE VIEW v AS SELECT 1; CREATE INDEX i ON item(name)",
      ]);
      expect(await shell(".tables")).toBe("item\nv\n");
      expect(await shell(".schema item")).toBe(
        "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);\nCREATE INDEX i ON item(name);\n",
      );
      expect(await shell(".schema")).toContain("CREATE VIEW v");
    });

    test(".branch forks from the version that is open, .use goes there", async () => {
      const stdin = `.mode json
      .use @1
      .branch early
      .use shop/early
      INSERT INTO item(name) VALUES ('only here');
      SELECT count(*) AS n, bough_branch() AS branch FROM item;
      .use shop
      SELECT count(*) AS n, bough_branch() AS branch FROM item;
      .branch`;
      const lines = (await shell(stdin)).split("\n");
      expect(lines[0]).toContain('Created branch "shop/early"');
      expect(lines.slice(1, 3)).toEqual([
        '[{"n":1,"branch":"early"}]',
        '[{"n":2,"branch":"main"}]',
      ]);
      expect(lines.slice(3).join("\n")).toMatch(/│ \* │ main +│ +2 │[^]*│ +│ early +│ +3 │/);
    });

    test(".log lists the commits of what is open", async () => {
      expect(await shell(".log 1")).toMatch(/│ +2 │ \d{4}-\d\d-\d\dT[\d:.]+Z │ main +│/);
      const old = await shell(".log", "shop@1");
      expect(old).toMatch(/^│ +1 │/m);
      expect(old).not.toMatch(/^│ +2 │/m);
    });

    test(".read runs a file, also one that reads another", async () => {
      writeFileSync(directory.file("b.sql"), "INSERT INTO item(name)\nVALUES ('from b')");
      writeFileSync(
        directory.file("a.sql"),
        `.read "${directory.file("b.sql")}"\nSELECT max(name) AS m FROM item;`,
      );
      expect(await shell(`.mode json\n.read ${directory.file("a.sql")}`)).toBe('[{"m":"pear"}]\n');
      const count = await directory.json(["sql", "shop", "SELECT count(*) AS n FROM item"]);
      expect(count).toEqual([{ n: 3 }]);
      writeFileSync(directory.file("loop.sql"), `.read ${directory.file("loop.sql")}`);
      const stdin = `.read ${directory.file("loop.sql")}`;
      expect(await directory.fails(1, ["shell", "shop"], { stdin })).toContain("8 deep");
    });

    test(".help lists every command", async () => {
      const help = await shell(".help");
      for (const name of "branch dump help log mode quit read schema tables use".split(" "))
        expect(help).toContain(`.${name}`);
    });
  });

  describe(".dump", () => {
    test("stock SQLite loads it into an equal database", async () => {
      const sql = `
      CREATE TABLE "od d;"(a, b GENERATED ALWAYS AS (typeof(a)), "c""" TEXT);
      INSERT INTO "od d;"(a, "c""") VALUES
        (NULL, 'x;'), (1, ''), (1.0, 'it''s'), (-9223372036854775808, 'line' || char(13, 10) || 'end'),
        (0.1, 'nul' || char(0) || 'l'), (1e999, CAST(x'ff41' AS TEXT)), (-1e999, 'grüße 🎉'), (x'', 'x'),
        (x'00ff', '.tables'), (1e100, char(10) || ';'), (123456789.12345679, '--');
      CREATE TABLE auto(id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE);
      INSERT INTO auto(v) VALUES ('a'), ('b'); DELETE FROM auto WHERE v = 'b';
      CREATE TABLE parted(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
      INSERT INTO parted VALUES ('z', 1), ('a', 2);
      CREATE TRIGGER changed AFTER INSERT ON auto BEGIN UPDATE parted SET v = v + 1; SELECT 1; END;
      CREATE VIEW "a view" AS SELECT * FROM auto;
      CREATE INDEX partial ON auto(v) WHERE v > 'a';
      CREATE VIRTUAL TABLE words USING fts5(body); INSERT INTO words VALUES ('hello world');
      ANALYZE; PRAGMA user_version = 7`;
      await directory.ok(["sql", "shop"], { stdin: sql });
      const dump = await shell(".dump");
      await directory.ok(["export", "shop", directory.file("shop.db")]);

      const { oo1, capi, wasm } = await sqlite3InitModule();
      const read = (database: InstanceType<typeof oo1.DB>): unknown => {
        const tables = ["item", '"od d;"', "auto", "parted", "sqlite_sequence", "sqlite_stat1"];
        const rows = (query: string): unknown => database.selectArrays(query);
        return [
          ...tables.map((name) => rows(`SELECT * FROM ${name}`)),
          rows(`SELECT typeof(a), b, hex("c""") FROM "od d;"`),
          rows("SELECT * FROM words WHERE words MATCH 'hello'"),
          rows("SELECT type, name, tbl_name FROM sqlite_schema ORDER BY name"),
          rows("PRAGMA integrity_check"),
          rows("PRAGMA user_version"),
        ];
      };
      using loaded = disposable(new oo1.DB(":memory:"));
      loaded.database.exec(dump);
      const bytes = new Uint8Array(readFileSync(directory.file("shop.db")));
      using exported = disposable(new oo1.DB(":memory:"));
      capi.sqlite3_deserialize(
        exported.database,
        "main",
        wasm.allocFromTypedArray(bytes),
        bytes.length,
        bytes.length,
        capi.SQLITE_DESERIALIZE_FREEONCLOSE,
      );
      expect(read(loaded.database)).toEqual(read(exported.database));
    });

    test("of one table has its indexes and nothing else", async () => {
      await directory.ok(["sql", "shop", "CREATE TABLE other(a); CREATE INDEX i ON item(name)"]);
      expect(await shell(".dump ITEM")).toBe(
        [
          "PRAGMA foreign_keys=OFF;",
          "BEGIN TRANSACTION;",
          "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);",
          `INSERT INTO "item" VALUES(1,'apple');`,
          `INSERT INTO "item" VALUES(2,'pear');`,
          "CREATE INDEX i ON item(name);",
          "COMMIT;\n",
        ].join("\n"),
      );
    });
  });

  describe("at a terminal", () => {
    const CTRL_C = "\u0003";
    const CTRL_D = "\u0004";

    /** Types each text when the prompt before it has appeared; returns what the screen shows. */
    async function type(texts: readonly string[]): Promise<{ screen: string; errors: string }> {
      const terminal = new FakeTerminal();
      const env = { ...directory.env, BOUGH_HISTORY: directory.file("history") };
      const running = run(["shell", "shop"], { ...terminal, env });
      const { stdin, stdout, stderr } = terminal;
      let shown = 0;
      for (const text of texts) {
        await expect.poll(() => stdout.text.slice(shown), { timeout: 10_000 }).toContain("> ");
        shown = stdout.text.length;
        stdin.write(text);
      }
      expect(await running).toBe(0);
      return { screen: stdout.text, errors: stderr.text };
    }

    test("the prompt says where the shell is and whether a statement or transaction is open", async () => {
      const { screen } = await type([
        "SELECT\n",
        "42 AS x;\n",
        "BEGIN;\n",
        "DELETE FROM item;\n",
        "ROLLBACK;\n",
        ".use @1\n",
        CTRL_D,
      ]);
      // oxlint-disable-next-line no-control-regex
      const prompts = [...screen.matchAll(/\u001b\[0J([^\u001b]*> )/g)].map((match) => match[1]);
      expect(prompts).toEqual([
        "shop/main@2> ",
        "   ...> ",
        "shop/main@2> ",
        "shop/main@2*> ",
        "shop/main@2*> ",
        "shop/main@2> ",
        "shop/main@1> ",
      ]);
      expect(screen).toContain("│ 42 │");
    });

    test("errors are shown and the shell goes on", async () => {
      const { screen, errors } = await type([
        "SELECT nothing;\n",
        ".nothing\n",
        "SELECT 1 AS one;\n",
        ".quit\n",
      ]);
      expect(errors).toContain("bough: Cannot run statement");
      expect(errors).toContain('bough: Cannot run ".nothing"');
      expect(screen).toContain("│ one │");
    });

    test("Ctrl-C forgets the statement that was begun", async () => {
      const { screen, errors } = await type([
        "SELECT 'abc\n",
        `def${CTRL_C}`,
        "SELECT 7 AS seven;\n",
        CTRL_D,
      ]);
      expect(errors).toBe("");
      expect(screen).toContain("│ seven │");
    });

    test("the history is kept for the next time", async () => {
      await type(["SELECT 1 AS first;\n", CTRL_D]);
      expect(readFileSync(directory.file("history"), "utf8")).toContain("SELECT 1 AS first;");
      const arrowUp = "\u001b[A";
      const { screen } = await type([`${arrowUp}\n`, CTRL_D]);
      expect(screen).toContain("│ first │");
    });
  });
});

function disposable<T extends { close(): void }>(database: T): { database: T } & Disposable {
  return { database, [Symbol.dispose]: () => database.close() };
}
