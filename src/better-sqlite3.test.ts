import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from "vitest";
import { Database, type DatabaseOptions, SqliteError } from "./better-sqlite3.ts";
import { openStore } from "./store/store.ts";

let directory: string;
const opened: InstanceType<typeof Database>[] = [];

beforeEach(() => {
  directory = fs.mkdtempSync(join(tmpdir(), "bough-better-sqlite3-"));
});
afterEach(() => {
  for (const database of opened.splice(0)) database.close();
  fs.rmSync(directory, { recursive: true, force: true });
});

function open(name?: string | Buffer, options?: DatabaseOptions): InstanceType<typeof Database> {
  const database = new Database(typeof name === "string" ? name : name, options);
  opened.push(database);
  return database;
}

function path(name: string): string {
  return join(directory, name);
}

describe("new Database(path)", () => {
  test("keeps a store in the path, which a reopen finds", () => {
    const database = open(path("app.db"));
    expect(database.name).toBe(path("app.db"));
    expect([database.open, database.memory, database.readonly, database.inTransaction]).toEqual([
      true,
      false,
      false,
      false,
    ]);
    database.exec("CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    expect(database.close()).toBe(database);
    expect(database.open).toBe(false);
    expect(open(path("app.db")).prepare("SELECT a FROM t").all()).toEqual([{ a: 1 }]);
  });

  test("shares one store among connections, and closes it with the last", () => {
    const first = open(path("app.db"));
    const second = open(path("app.db"));
    first.exec("CREATE TABLE t(a)");
    second.exec("INSERT INTO t VALUES (1)");
    expect(first.prepare("SELECT count(*) FROM t").pluck().get()).toBe(1);
    first.close();
    first.close();
    expect(second.prepare("SELECT count(*) FROM t").pluck().get()).toBe(1);
    expect(() => openStore(path("app.db"))).toThrow(
      expect.objectContaining({ code: "STORE_LOCKED" }),
    );
    second.close();
    const store = openStore(path("app.db"));
    expect(store.databases().map(({ name }) => name)).toEqual(["main"]);
    store.close();
  });

  test("that fails does not hold the store", () => {
    openStore(path("many")).close();
    const store = openStore(path("many"));
    store.createDatabase("one");
    store.createDatabase("two");
    store.close();
    expect(() => open(path("many"))).toThrow("as one database: the store has 2");
    expect(() => open("three", { store: path("many") })).toThrow(
      expect.objectContaining({ code: "DATABASE_NOT_FOUND" }),
    );
    openStore(path("many")).close();
  });

  test("opens the one database of a store whatever its name", () => {
    const store = openStore(path("data"));
    store.createDatabase("shop");
    store.close();
    expect(open(path("data")).prepare("SELECT bough_database()").pluck().get()).toBe("shop");
  });

  test("with readonly reads what is there, and makes nothing", () => {
    open(path("app.db")).exec("CREATE TABLE t(a)").close();
    const database = open(path("app.db"), { readonly: true });
    expect(database.readonly).toBe(true);
    expect(database.prepare("SELECT * FROM t").all()).toEqual([]);
    expect(() => database.exec("INSERT INTO t VALUES (1)")).toThrow(
      expect.objectContaining({ code: "SQLITE_READONLY" }),
    );
    for (const options of [{ readonly: true }, { fileMustExist: true }]) {
      expect(() => open(path("none"), options)).toThrow(
        expect.objectContaining({
          code: "SQLITE_CANTOPEN",
          message: "unable to open database file",
        }),
      );
      expect(fs.existsSync(path("none"))).toBe(false);
    }
  });

  test("in a directory that does not exist is refused with better-sqlite3's words", () => {
    expect(() => open(path("no/such/app.db"))).toThrow(
      new TypeError("Cannot open database because the directory does not exist"),
    );
    expect(fs.existsSync(path("no"))).toBe(false);
  });

  test("on a plain file says how to bring it in", () => {
    fs.writeFileSync(path("plain.db"), "SQLite format 3\0");
    expect(() => open(path("plain.db"))).toThrow(
      expect.objectContaining({ code: "STORE_IS_FILE" }),
    );
  });
});

describe("new Database(revision, { store })", () => {
  test("opens heads, branches and versions", () => {
    const store = openStore(path("data"));
    store.createDatabase("shop");
    const connection = store.connect("shop");
    connection.exec("CREATE TABLE t(a)");
    connection.exec("INSERT INTO t VALUES (1)");
    store.database("shop").createBranch("dev");
    store.close();
    const dev = open("shop/dev", { store: path("data") });
    dev.exec("INSERT INTO t VALUES (2)");
    const main = open("shop", { store: path("data") });
    const old = open("shop@1", { store: path("data") });
    const count = (one: InstanceType<typeof Database>): unknown =>
      one.prepare("SELECT count(*) FROM t").pluck().get();
    expect([count(dev), count(main), count(old)]).toEqual([2, 1, 0]);
    expect(() => old.exec("DELETE FROM t")).toThrow("is a fixed version");
    expect(dev.name).toBe("shop/dev");
    expect(dev.prepare("SELECT bough_branch(), bough_version()").raw().get()).toEqual(["dev", 3]);
  });

  test("awaits durability", async () => {
    const database = open(path("app.db"));
    database.exec("CREATE TABLE t(a)");
    const insert = database.prepare("INSERT INTO t VALUES (?)");
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) => database.durably(() => insert.run(index).changes)),
    );
    expect(results).toEqual(Array.from({ length: 20 }, () => 1));
    await expect(database.durably(() => database.exec("NOT SQL"))).rejects.toThrow(SqliteError);
    expect(await open(":memory:").durably(() => 7)).toBe(7);
  });
});

describe("new Database(':memory:')", () => {
  test.each([[":memory:"], [" :memory: "], [""], [undefined]])(
    "%o is a database of its own",
    (name) => {
      const one = open(name);
      const other = open(name);
      one.exec("CREATE TABLE t(a)");
      expect(one.memory).toBe(true);
      expect(other.prepare("SELECT count(*) FROM sqlite_schema").pluck().get()).toBe(0);
      expect(() => one.exec(`ATTACH '${path("x")}' AS x`)).toThrow("has no store");
    },
  );

  test("fileMustExist does not matter there", () => {
    expect(open(":memory:", { fileMustExist: true }).memory).toBe(true);
  });

  test("a serialized database is opened from its bytes", () => {
    const source = open(path("app.db"));
    source.exec("CREATE TABLE t(a); INSERT INTO t VALUES ('here')");
    const bytes = source.serialize();
    const copy = open(bytes);
    expect(copy.prepare("SELECT a FROM t").pluck().get()).toBe("here");
    copy.exec("INSERT INTO t VALUES ('too')");
    const fixed = open(bytes, { readonly: true });
    expect(() => fixed.exec("DELETE FROM t")).toThrow(SqliteError);
    expect(source.prepare("SELECT count(*) FROM t").pluck().get()).toBe(1);
  });
});

describe("backup", () => {
  test.each([["app.db"], [":memory:"]])("of %s is a plain SQLite file", async (name) => {
    const database = open(name === ":memory:" ? name : path(name));
    database.exec("CREATE TABLE t(a); INSERT INTO t VALUES ('kept')");
    const steps: unknown[] = [];
    const progress = (step: unknown): undefined => void steps.push(step);
    expect(await database.backup(path("copy.sqlite"), { progress })).toEqual({
      totalPages: 2,
      remainingPages: 0,
    });
    expect(steps.at(-1)).toEqual({ totalPages: 2, remainingPages: 0 });
    const copy = open(fs.readFileSync(path("copy.sqlite")));
    expect(copy.prepare("SELECT a FROM t").pluck().get()).toBe("kept");
    await expect(database.backup("")).rejects.toThrow("Backup filename cannot be an empty string");
  });

  test("SQL that wants a file is told what to use instead", () => {
    const database = open(path("app.db"));
    database.exec("CREATE TABLE t(a)");
    for (const sql of [`VACUUM INTO '${path("x.db")}'`, "ATTACH './other.sqlite' AS other"])
      expect(() => database.exec(sql), sql).toThrow("not files; backup() or");
  });
});

describe("arguments", () => {
  const refusals: [what: string, parameters: unknown[], error: Error][] = [
    ["a number", [123], new TypeError("Expected first argument to be a string")],
    ["an object", [{}], new TypeError("Expected first argument to be a string")],
    ["options", [":memory:", 1], new TypeError("Expected second argument to be an options object")],
    [
      "readOnly",
      [":memory:", { readOnly: true }],
      new TypeError('Misspelled option "readOnly" should be "readonly"'),
    ],
    [
      "memory",
      ["x", { memory: true }],
      new TypeError('Option "memory" was removed in v7.0.0 (use ":memory:" filename instead)'),
    ],
    [
      "readonly",
      [":memory:", { readonly: 1 }],
      new TypeError('Expected the "readonly" option to be a boolean'),
    ],
    [
      "readonly undefined",
      [":memory:", { readonly: undefined }],
      new TypeError('Expected the "readonly" option to be a boolean'),
    ],
    [
      "fileMustExist",
      [":memory:", { fileMustExist: null }],
      new TypeError('Expected the "fileMustExist" option to be a boolean'),
    ],
    [
      "readonly memory",
      [":memory:", { readonly: true }],
      new TypeError("In-memory/temporary databases cannot be readonly"),
    ],
    ...[-1, 1.5, "5", NaN, undefined].map((timeout): [string, unknown[], Error] => [
      `timeout ${String(timeout)}`,
      [":memory:", { timeout }],
      new TypeError('Expected the "timeout" option to be a positive integer'),
    ]),
    [
      "timeout too long",
      [":memory:", { timeout: 0x80000000 }],
      new RangeError('Option "timeout" cannot be greater than 2147483647'),
    ],
    [
      "verbose",
      [":memory:", { verbose: true }],
      new TypeError('Expected the "verbose" option to be a function'),
    ],
    [
      "nativeBinding",
      [":memory:", { nativeBinding: 1 }],
      new TypeError('Expected the "nativeBinding" option to be a string or addon object'),
    ],
  ];
  test.each(refusals)("%s is refused as by better-sqlite3", (_what, parameters, error) => {
    expect(() => Reflect.construct(Database, parameters)).toThrow(error);
  });

  test("null options and null verbose are none", () => {
    const database = Reflect.construct(Database, [":memory:", null]) as InstanceType<
      typeof Database
    >;
    opened.push(database);
    expect(open(":memory:", { verbose: null }).open).toBe(true);
  });

  test("verbose sees statements", () => {
    const seen: unknown[] = [];
    const database = open(path("app.db"), { verbose: (sql) => seen.push(sql) });
    database.exec("CREATE TABLE t(a)");
    database.prepare("INSERT INTO t VALUES (?)").run(5);
    expect(seen).toEqual(["CREATE TABLE t(a)", "INSERT INTO t VALUES (5.0)"]);
  });
});

describe("the class", () => {
  test("has the names of the types of @types/better-sqlite3", () => {
    const database: Database.Database = new Database(":memory:");
    opened.push(database);
    const find: Database.Statement<[number], { n: number }> = database.prepare("SELECT ? + 1 AS n");
    const named: Database.Statement<{ n: number }> = database.prepare("SELECT @n");
    const twice: Database.Transaction<(n: number) => number> = database.transaction(
      (n: number) => n * 2,
    );
    const options: Database.Options = { readonly: true };
    expectTypeOf(find.get(1)).toEqualTypeOf<{ n: number } | undefined>();
    expectTypeOf(find.run(1)).toEqualTypeOf<Database.RunResult>();
    expectTypeOf(find.columns()).toEqualTypeOf<Database.ColumnDefinition[]>();
    expectTypeOf<Database.SqliteError>().toEqualTypeOf<SqliteError>();
    expect([find.get(1), named.get({ n: 1 }), twice(4)]).toEqual([{ n: 2 }, { "@n": 1 }, 8]);
    expect(options).toEqual({ readonly: true });
  });

  test("works without new, and with subclasses", () => {
    const database = Database(":memory:");
    opened.push(database);
    expect(database).toBeInstanceOf(Database);
    class Own extends Database {
      twice(value: number): unknown {
        return this.prepare("SELECT ? * 2").pluck().get(value);
      }
    }
    const own = new Own(":memory:");
    opened.push(own);
    expect(own.twice(21)).toBe(42);
    expect(own).toBeInstanceOf(Own);
    expect(own).toBeInstanceOf(Database);
  });

  test("carries SqliteError, which its errors are", () => {
    expect(Database.SqliteError).toBe(SqliteError);
    try {
      open(":memory:").exec("SELECT");
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(SqliteError);
      expect(error).toMatchObject({ name: "SqliteError", code: "SQLITE_ERROR" });
    }
  });
});
