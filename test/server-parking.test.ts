/**
 * The server over connections that are parked as soon as nobody uses them (parking.ts): streams must not notice, and cost little while they
 * are idle. What a statement tells of is durable, parked or not (E3 to E5 in async-executor.ts).
 */
import { createClient } from "@libsql/client/ws";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AsyncExecutor, RowSink } from "../src/sqlite/async-executor.ts";
import { SingleStore } from "../src/store/single-store.ts";
import { openStore } from "../src/store/store.ts";
import { SimulatedStorage } from "../src/testing/simulated-storage.ts";
import { type Answer, CLOSE, execute, ServedDirectory, sqls } from "./server-fixture.ts";

const STREAMS = process.env["BOUGH_TEST_LONG"] === "1" ? 5000 : 1000;

let served: ServedDirectory;

beforeEach(async () => {
  served = await ServedDirectory.start({}, { connectionBytesMax: 0 });
  served.store.createDatabase("shop");
  await served.post("/shop/v2/pipeline", sqls("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)"));
});

afterEach(async () => {
  await served[Symbol.asyncDispose]();
  expect(served.bugs).toEqual([]);
});

function instances(): number {
  if (served.store instanceof SingleStore) return served.store.runtimes.count;
  throw new TypeError("Store has more than one partition");
}

function firstValue({ body }: Answer, index = 0): unknown {
  const { response, error } = body.results[index];
  return error?.code ?? response.result.rows[0]?.[0].value;
}

describe("streams whose connection is parked between requests", () => {
  test("go on with their statements, stored texts and what they wrote last", async () => {
    let { body } = await served.pipeline([
      { type: "store_sql", sql_id: 1, sql: "INSERT INTO t(b) VALUES (?) RETURNING a" },
    ]);
    for (const [index, b] of ["x", "y", "ä".repeat(5000)].entries()) {
      const stmt = { sql_id: 1, args: [{ type: "text", value: b }] };
      const answer = await served.pipeline([{ type: "execute", stmt }], body.baton);
      expect(firstValue(answer)).toBe(String(index + 1));
      ({ body } = answer);
      // Somebody else takes the instance meanwhile, and leaves other statements in it.
      expect(await served.row("SELECT count(*), max(a) FROM t")).toEqual([
        `${index + 1}`,
        `${index + 1}`,
      ]);
    }
    const last = await served.pipeline(
      [
        execute("SELECT last_insert_rowid()"),
        execute("SELECT changes()"),
        { type: "get_autocommit" },
        { type: "describe", sql: "SELECT b FROM t WHERE a = :a" },
        { type: "sequence", sql: "DELETE FROM t WHERE a = 1; SELECT 1" },
        execute("SELECT count(*) FROM t"),
        CLOSE,
      ],
      body.baton,
    );
    expect([firstValue(last, 0), firstValue(last, 1), firstValue(last, 5)]).toEqual([
      "3",
      "1",
      "2",
    ]);
    expect(last.body.results[2].response.is_autocommit).toBe(true);
    expect(last.body.results[3].response.result.params).toEqual([{ name: ":a" }]);
  });

  test("keep a transaction, of which nothing is parked, and are parked after it", async () => {
    const first = await served.pipeline([
      execute("BEGIN IMMEDIATE"),
      execute("INSERT INTO t VALUES (7, 'x')"),
    ]);
    expect(await served.row("SELECT count(*) FROM t")).toEqual(["0"]);
    const second = await served.pipeline([execute("COMMIT")], first.body.baton);
    expect(await served.row("SELECT count(*) FROM t")).toEqual(["1"]);
    const third = await served.pipeline(
      [{ type: "get_autocommit" }, execute("BEGIN TRANSACTION READONLY")],
      second.body.baton,
    );
    expect(third.body.results[0].response.is_autocommit).toBe(true);
    const fourth = await served.pipeline(
      [execute("DELETE FROM t"), execute("ROLLBACK"), execute("DELETE FROM t"), CLOSE],
      third.body.baton,
    );
    expect(firstValue(fourth)).toBe("SQLITE_READONLY");
    expect(fourth.body.results[2].response.result.affected_row_count).toBe(1);
  });

  test("over WebSocket the client works as ever", async () => {
    using client = closing(createClient({ url: served.url("shop").replace("http:", "ws:") }));
    await client.client.batch(["INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (2, 'b')"]);
    const transaction = await client.client.transaction("write");
    await transaction.execute("UPDATE t SET b = 'c' WHERE a = 1");
    await transaction.commit();
    const { rows } = await client.client.execute("SELECT b FROM t ORDER BY a");
    expect(rows.map((row) => row[0])).toEqual(["c", "b"]);
  });

  test("whoever has the connection next sees nothing of the one before", async () => {
    await served.post("/shop/v3/pipeline", sqls("INSERT INTO t VALUES (41, 'x'), (42, 'y')"));
    const sql = "SELECT last_insert_rowid(), changes(), total_changes()";
    expect(await served.row(sql)).toEqual(["0", "0", "0"]);
  });

  test(`${STREAMS} idle ones need no more instances of SQLite than a few`, async () => {
    const batons: string[] = [];
    for (let index = 0; index < STREAMS; index++) {
      const { body } = await served.pipeline([execute("SELECT count(*) FROM t")]);
      batons.push(body.baton);
    }
    expect(served.server.streams.size).toBe(STREAMS);
    expect(instances()).toBeLessThanOrEqual(10);
    for (const baton of batons.slice(-10)) {
      const { body } = await served.pipeline([execute("SELECT 1"), CLOSE], baton);
      expect(body.results[0].type).toBe("ok");
    }
  });
});

test("without parking, whoever has the connection next sees nothing of the one before", async () => {
  await using other = await ServedDirectory.start();
  await other.post("/v3/pipeline", sqls("CREATE TABLE t(a)", "INSERT INTO t VALUES (1), (2)"));
  const sql = "SELECT last_insert_rowid(), changes(), total_changes()";
  expect(await other.row(sql, "/")).toEqual(["0", "0", "0"]);
});

describe("E3: rows of others' commits are told when those are durable", () => {
  const counting: RowSink = {
    wantsRows: true,
    begin: () => {},
    row: () => false,
    drained: () => Promise.resolve(),
  };
  const select = { sql: "SELECT * FROM t", values: [], namedValues: [] };

  /** A reader that has seen a commit of another connection that is on its way to the disk. */
  async function seen(
    read: (executor: AsyncExecutor) => Promise<unknown>,
  ): Promise<{ settled: Promise<void> | null; isDurable: () => boolean }> {
    const storage = new SimulatedStorage();
    const store = openStore("store", { backend: "memory", storage });
    if (!(store instanceof SingleStore)) throw new TypeError("Store has more than one partition");
    store.createDatabase("shop");
    using setup = store.connect("shop");
    setup.exec("CREATE TABLE t(a)");
    const [writer, reader] = [await store.open("shop"), await store.open("shop")];
    const { version } = store.database("shop").branch().head;
    const done = writer.exec("INSERT INTO t VALUES (1)");
    while (store.database("shop").branch().head.version === version) await Promise.resolve();
    const executor = reader.executor();
    await read(executor);
    const { log } = store.engine.state;
    const { lastLsn } = log;
    const settled = executor.settled();
    done.catch(() => {});
    return { settled, isDurable: () => log.durableLsn >= lastLsn };
  }

  test("a statement waits", async () => {
    const { settled, isDurable } = await seen((executor) => executor.execute(select, counting));
    expect([settled === null, isDurable()]).toEqual([false, false]);
    await settled;
    expect(isDurable()).toBe(true);
  });

  test("within a transaction it does not, its end does", async () => {
    const inside = await seen(async (executor) => {
      await executor.script("BEGIN");
      await executor.execute(select, counting);
    });
    expect([inside.settled, inside.isDurable()]).toEqual([null, false]);
    const ended = await seen((executor) => executor.script("BEGIN; SELECT * FROM t; COMMIT"));
    expect([ended.settled === null, ended.isDurable()]).toEqual([false, false]);
    await ended.settled;
    expect(ended.isDurable()).toBe(true);
  });
});

function closing<T extends { close(): void }>(client: T): { client: T } & Disposable {
  return { client, [Symbol.dispose]: () => client.close() };
}
