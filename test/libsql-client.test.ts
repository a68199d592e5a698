/** The real package @libsql/client on a server, over HTTP and over WebSocket: everything that it offers remotely. */
import { createClient as createHttpClient } from "@libsql/client/http";
import { createClient as createWsClient, type Client, type Config } from "@libsql/client/ws";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ServedDirectory } from "./server-fixture.ts";
import { SharedThreads } from "./shared-threads.ts";

type Kind = "one thread" | "threads";

let served: ServedDirectory;
let threads: SharedThreads | null = null;
let kind: Kind = "one thread";
const clients: Client[] = [];

beforeEach(async () => {
  const store = kind === "threads" ? threads!.store : null;
  served = await ServedDirectory.start({}, {}, undefined, store);
  await served.admin.createDatabase("shop", {});
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await served[Symbol.asyncDispose]();
  expect(served.bugs).toEqual([]);
});

type Transport = "http" | "ws";

function connect(transport: Transport, revision = "shop", config: Partial<Config> = {}): Client {
  const url = served.url(revision);
  const client =
    transport === "http"
      ? createHttpClient({ url, ...config })
      : createWsClient({ url: url.replace("http:", "ws:"), ...config });
  clients.push(client);
  return client;
}

async function failureOf(promise: Promise<unknown>): Promise<{ code: string; message: string }> {
  const failure = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  expect(failure).toMatchObject({ code: expect.any(String), message: expect.any(String) });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return failure as { code: string; message: string };
}

afterAll(async () => {
  await threads?.[Symbol.asyncDispose]();
});

describe.each<[Transport, Kind]>([
  ["http", "one thread"],
  ["ws", "one thread"],
  ["http", "threads"],
  ["ws", "threads"],
])("@libsql/client over %s, a store of %s", (transport, kindOfStore) => {
  let client: Client;

  beforeAll(async () => {
    kind = kindOfStore;
    if (kind === "threads") threads ??= await SharedThreads.open();
  });
  afterAll(() => {
    kind = "one thread";
  });

  beforeEach(async () => {
    client = connect(transport);
    await client.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT UNIQUE, c BLOB, d)");
  });

  test("execute returns columns, types, rows and values as they were stored", async () => {
    const bytes = Uint8Array.of(0, 1, 254, 255);
    const inserted = await client.execute({
      sql: "INSERT INTO t VALUES (?, ?, ?, ?)",
      args: [7n, "ünïcode ✓", bytes, 2.5],
    });
    expect([inserted.rowsAffected, inserted.lastInsertRowid]).toEqual([1, 7n]);
    const result = await client.execute("SELECT *, NULL AS e, -0.0 AS f, 9e999 AS g FROM t");
    expect(result.columns).toEqual(["a", "b", "c", "d", "e", "f", "g"]);
    expect(result.columnTypes.slice(0, 4)).toEqual(["INTEGER", "TEXT", "BLOB", ""]);
    const [row] = result.rows;
    expect([row?.["a"], row?.["b"], row?.["d"], row?.["e"], row?.["g"]]).toEqual([
      7,
      "ünïcode ✓",
      2.5,
      null,
      Infinity,
    ]);
    expect(Object.is(row?.["f"], -0)).toBe(true);
    expect(new Uint8Array(row?.["c"] as ArrayBuffer)).toEqual(bytes);
  });

  test("execute takes positional, numbered and named arguments", async () => {
    const one = async (sql: string, args: unknown): Promise<unknown[]> => {
      const { rows } = await client.execute({ sql, args: args as never });
      return Object.values(rows[0] ?? {});
    };
    expect(await one("SELECT ? AS p, ? AS q", [1, "x"])).toEqual([1, "x"]);
    expect(await one("SELECT ?3 AS a, ?1 AS b", [1, 2, 3])).toEqual([3, 1]);
    expect(await one("SELECT :a AS x, @b AS y, $c AS z", { a: "p", b: "q", c: "r" })).toEqual([
      "p",
      "q",
      "r",
    ]);
    expect(await one("SELECT :a AS x", { ":a": true })).toEqual([1]);
    expect((await failureOf(one("SELECT ?, ?", [1]))).code).toBe("ARGS_INVALID");
    expect((await failureOf(one("SELECT ?", [1, 2]))).code).toBe("ARGS_INVALID");
    expect((await failureOf(one("SELECT :a", { b: 1 }))).code).toBe("ARGS_INVALID");
  });

  test.each(["number", "bigint", "string"] as const)(
    "intMode %s reads integers so",
    async (intMode) => {
      const reader = connect(transport, "shop", { intMode });
      const { rows } = await reader.execute("SELECT 42 AS a, 9007199254740991 AS b");
      const expected = { number: 42, bigint: 42n, string: "42" };
      expect(rows[0]?.["a"]).toBe(expected[intMode]);
      const beyond = reader.execute("SELECT 9223372036854775807 AS a, -9223372036854775808 AS b");
      if (intMode === "number") await expect(beyond).rejects.toThrow(RangeError);
      else
        expect(Object.values((await beyond).rows[0] ?? {}).map(String)).toEqual([
          "9223372036854775807",
          "-9223372036854775808",
        ]);
    },
  );

  test("failures carry SQLite's base code, and the index in a batch", async () => {
    await client.execute("INSERT INTO t(a, b) VALUES (1, 'x')");
    const failures = await Promise.all([
      failureOf(client.execute("INSERT INTO t(a) VALUES (1)")),
      failureOf(client.execute("INSERT INTO t(b) VALUES ('x')")),
      failureOf(client.execute("SELEC 1")),
      failureOf(client.execute("SELECT * FROM missing")),
      failureOf(client.execute("SELECT 1; SELECT 2")),
    ]);
    expect(failures.map(({ code }) => code)).toEqual([
      "SQLITE_CONSTRAINT",
      "SQLITE_CONSTRAINT",
      "SQLITE_ERROR",
      "SQLITE_ERROR",
      "SQL_MANY_STATEMENTS",
    ]);
    expect(failures[1]?.message).toContain("UNIQUE constraint failed: t.b");
    const batch = client.batch(
      ["INSERT INTO t(a) VALUES (2)", "INSERT INTO t(a) VALUES (1)"],
      "write",
    );
    expect(await failureOf(batch)).toMatchObject({ code: "SQLITE_CONSTRAINT", statementIndex: 1 });
    expect((await client.execute("SELECT count(*) AS n FROM t")).rows[0]?.["n"]).toBe(1);
  });

  test.each(["write", "deferred", "read"] as const)("batch in mode %s", async (mode) => {
    const batch = client.batch(
      [{ sql: "SELECT ? AS x", args: [5] }, "SELECT count(*) AS n FROM t"],
      mode,
    );
    expect((await batch).map(({ rows }) => Object.values(rows[0] ?? {}))).toEqual([[5], [0]]);
    const writing = client.batch(["INSERT INTO t(a) VALUES (1)"], mode);
    if (mode === "read") expect((await failureOf(writing)).code).toBe("SQLITE_READONLY");
    else expect((await writing)[0]?.rowsAffected).toBe(1);
    // The connection writes again afterwards.
    await client.execute("INSERT INTO t(a) VALUES (9)");
    const { rows } = await client.execute("SELECT count(*) AS n FROM t");
    expect(rows[0]?.["n"]).toBe(mode === "read" ? 1 : 2);
  });

  test("a batch of 1,000 statements is one transaction", async () => {
    const versions = async (): Promise<number> =>
      (await served.admin.branchLog("shop", "main", {})).length;
    const before = await versions();
    const statements = Array.from({ length: 1000 }, (_, index) => ({
      sql: "INSERT INTO t(a, b) VALUES (?, ?)",
      args: [index, `row ${index}`],
    }));
    const results = await client.batch(statements, "write");
    expect(results).toHaveLength(1000);
    expect(await versions()).toBe(before + 1);
    expect((await client.execute("SELECT sum(a) AS s FROM t")).rows[0]?.["s"]).toBe(499_500);
  });

  test("an interactive transaction commits, rolls back, and is not seen before", async () => {
    const transaction = await client.transaction("write");
    await transaction.execute("INSERT INTO t(a) VALUES (1)");
    await transaction.batch(["INSERT INTO t(a) VALUES (2)", "INSERT INTO t(a) VALUES (3)"]);
    const count = async (): Promise<unknown> =>
      (await client.execute("SELECT count(*) AS n FROM t")).rows[0]?.["n"];
    expect(await count()).toBe(0);
    expect((await failureOf(transaction.execute("INSERT INTO t(a) VALUES (1)"))).code).toBe(
      "SQLITE_CONSTRAINT",
    );
    await transaction.executeMultiple("INSERT INTO t(a) VALUES (4); INSERT INTO t(a) VALUES (5)");
    await transaction.commit();
    expect(await count()).toBe(5);
    expect(transaction.closed).toBe(true);
    const other = await client.transaction("deferred");
    await other.execute("DELETE FROM t");
    await other.rollback();
    const left = await client.transaction("write");
    await left.execute("DELETE FROM t");
    left.close();
    // It waits for the one that was left, if that is still open.
    await client.execute("INSERT INTO t(a) VALUES (6)");
    expect(await count()).toBe(6);
    const reading = await client.transaction("read");
    expect((await reading.execute("SELECT count(*) AS n FROM t")).rows[0]?.["n"]).toBe(6);
    expect((await failureOf(reading.execute("DELETE FROM t"))).code).toBe("SQLITE_READONLY");
    await reading.commit();
  });

  test("migrate runs without foreign keys, as one transaction, and leaves them as they were", async () => {
    await client.executeMultiple(
      `CREATE TABLE parent(id INTEGER PRIMARY KEY);
       CREATE TABLE child(id INTEGER PRIMARY KEY, parent REFERENCES parent);
       INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1)`,
    );
    await client.migrate([
      "CREATE TABLE new_parent(id INTEGER PRIMARY KEY, name TEXT)",
      "INSERT INTO new_parent SELECT id, 'x' FROM parent",
      "DROP TABLE parent",
      "ALTER TABLE new_parent RENAME TO parent",
    ]);
    expect((await client.execute("SELECT name FROM parent")).rows[0]?.["name"]).toBe("x");
    const { rows } = await client.execute("PRAGMA foreign_keys");
    const before = await connect(transport).execute("PRAGMA foreign_keys");
    expect(rows[0]?.["foreign_keys"]).toBe(before.rows[0]?.["foreign_keys"]);
  });

  test("executeMultiple stops at the first error, and rolls back a transaction that it left open", async () => {
    await failureOf(
      client.executeMultiple("INSERT INTO t(a) VALUES (1); nonsense; INSERT INTO t(a) VALUES (2)"),
    );
    await client.executeMultiple("BEGIN IMMEDIATE; INSERT INTO t(a) VALUES (3)");
    const { rows } = await client.execute("SELECT a FROM t");
    expect(rows.map((row) => row["a"])).toEqual([1]);
  });

  test("100 parallel write batches all succeed, whatever the client's concurrency", async () => {
    const many = connect(transport, "shop", { concurrency: 100 });
    await client.execute("CREATE TABLE counter(n)");
    await client.execute("INSERT INTO counter VALUES (0)");
    await Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        many.batch(
          ["UPDATE counter SET n = n + 1", { sql: "INSERT INTO t(a) VALUES (?)", args: [index] }],
          "write",
        ),
      ),
    );
    const { rows } = await client.execute("SELECT n, (SELECT count(*) FROM t) AS m FROM counter");
    expect(Object.values(rows[0] ?? {})).toEqual([100, 100]);
  });

  test("BEGIN CONCURRENT works through executeMultiple", async () => {
    await client.executeMultiple("BEGIN CONCURRENT; INSERT INTO t(a) VALUES (1); COMMIT");
    expect((await client.execute("SELECT count(*) AS n FROM t")).rows[0]?.["n"]).toBe(1);
  });

  test("each revision has a URL; a branch is followed, a version is read-only", async () => {
    await client.execute("INSERT INTO t(a) VALUES (1)");
    const { version } = (await served.admin.branchFacts("shop", "main")).head;
    await served.admin.createBranch("shop", "feature/auth", {});
    const branch = connect(transport, "shop/feature/auth");
    await branch.execute("INSERT INTO t(a) VALUES (2)");
    const past = connect(transport, `shop@${version}`);
    await client.execute("DELETE FROM t");
    const rowsOf = async (each: Client): Promise<unknown[]> =>
      (await each.execute("SELECT a FROM t ORDER BY a")).rows.map((row) => row["a"]);
    expect([await rowsOf(client), await rowsOf(branch), await rowsOf(past)]).toEqual([
      [],
      [1, 2],
      [1],
    ]);
    expect((await failureOf(past.execute("DELETE FROM t"))).code).toBe("READ_ONLY");
    await served.admin.resetBranch("shop", "feature/auth", { to: `shop@${version}` });
    expect(await rowsOf(branch)).toEqual([1]);
  });

  test("a database or branch that is not there is said by its code", async () => {
    const database = await failureOf(connect(transport, "shpo").execute("SELECT 1"));
    const branch = await failureOf(connect(transport, "shop/none").execute("SELECT 1"));
    expect([database.code, branch.code]).toEqual(["DATABASE_NOT_FOUND", "BRANCH_NOT_FOUND"]);
    expect(database.message).toContain('"shpo"');
  });

  test("the bare URL is the database of that name, made at its first use", async () => {
    const bare = connect(transport, "");
    await bare.execute("CREATE TABLE made(a)");
    expect(await served.admin.databaseNames()).toEqual(["default", "shop"]);
  });
});
