import { expect, test } from "vitest";
import { StoreError } from "../errors.ts";
import { openTestConnection } from "../testing/memory-vfs.ts";
import { Connection } from "./connection.ts";
import { SqliteError } from "./sqlite-error.ts";

const BUSY_SNAPSHOT = 517;

test("a commit writes its pages, then prepares, then publishes", () => {
  const { vfs, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a)");
  vfs.events.length = 0;
  connection.exec("INSERT INTO t VALUES(1)");
  expect(vfs.events.slice(-2)).toEqual(["prepare main", "commit main"]);
  expect(vfs.events.slice(0, -2).every((event) => event === "write main")).toBe(true);
  expect(vfs.events.length).toBeGreaterThan(2);
});

test("a rollback neither prepares nor publishes", () => {
  const { vfs, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a)");
  vfs.events.length = 0;
  connection.exec("BEGIN; INSERT INTO t VALUES(1); ROLLBACK");
  expect(vfs.events).toEqual([]);
});

test("a refused prepare throws the refusal itself and rolls back", () => {
  const { vfs, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  const refusal = Object.assign(new Error("no"), { sqliteCode: BUSY_SNAPSHOT });
  let refusing = true;
  vfs.onEvent = (event) => {
    if (refusing && event.startsWith("prepare")) throw refusal;
  };
  const insert = connection.prepare("INSERT INTO t VALUES(2)");
  expect(() => insert.run()).toThrow(refusal);
  connection.exec("BEGIN");
  insert.run();
  expect(() => connection.exec("COMMIT")).toThrow(refusal);
  refusing = false;
  if (connection.inTransaction) connection.exec("ROLLBACK");
  expect(connection.prepare("SELECT a FROM t").pluck().all()).toEqual([1]);
  insert.run();
  expect(connection.prepare("SELECT a FROM t").pluck().all()).toEqual([1, 2]);
  expect(connection.pragma("integrity_check", { simple: true })).toBe("ok");
});

test("a refused commit of INSERT RETURNING reaches get, all and the iterator", () => {
  const { vfs, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a)");
  const refusal = new Error("no");
  vfs.onEvent = (event) => {
    if (event.startsWith("prepare")) throw refusal;
  };
  const insert = connection.prepare("INSERT INTO t VALUES(2) RETURNING a");
  expect(() => insert.get()).toThrow(refusal);
  expect(() => insert.all()).toThrow(refusal);
  expect(() => [...insert.iterate()]).toThrow(refusal);
  vfs.onEvent = () => {};
  expect(connection.prepare("SELECT count(*) FROM t").pluck().get()).toBe(0);
});

test("an error of the Vfs reaches the user's call unchanged", () => {
  const { vfs, runtime, connection } = openTestConnection();
  const failure = new StoreError("CORRUPT_CHUNK", "Cannot read chunk: damaged");
  vfs.onEvent = (event) => {
    if (event === "open broken") throw failure;
  };
  expect(() => new Connection(runtime, { name: "broken" })).toThrow(failure);
  expect(() => connection.exec("ATTACH 'broken' AS b")).toThrow(failure);
  expect(() => connection.prepare("ATTACH 'broken' AS b").run()).toThrow(failure);
  expect(connection.prepare("SELECT 1").pluck().get()).toBe(1);
});

test("an error that was kept does not show up in a later call", () => {
  const { vfs, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a UNIQUE)");
  vfs.onEvent = (event) => {
    if (event.startsWith("write")) throw new Error("disk");
  };
  expect(() => connection.exec("INSERT INTO t VALUES(1)")).toThrow("disk");
  vfs.onEvent = () => {};
  connection.exec("INSERT INTO t VALUES(1)");
  expect(() => connection.exec("INSERT INTO t VALUES(1)")).toThrow(SqliteError);
});

test("B2: no journal is opened, for the main database and for attached ones", () => {
  const { runtime, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a); ATTACH 'other' AS o; CREATE TABLE o.t(a)");
  connection.prepare('ATTACH \'third\' AS "we""ird"').run();
  connection.exec('CREATE TABLE "we""ird".t(a)');
  connection.exec("BEGIN; INSERT INTO main.t VALUES(1); INSERT INTO o.t VALUES(2); COMMIT");
  connection.exec("VACUUM");
  expect(runtime.journalsOpened).toBe(0);
  for (const schema of ["main", "o", '"we""ird"']) {
    expect(connection.pragma(`${schema}.journal_mode`, { simple: true })).toBe("memory");
  }
});

test("a transaction on attached databases prepares all of them before it publishes one", () => {
  const { vfs, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a); ATTACH 'other' AS o; CREATE TABLE o.u(a)");
  vfs.events.length = 0;
  connection.exec("BEGIN; INSERT INTO t VALUES(1); INSERT INTO u VALUES(2); COMMIT");
  expect(vfs.events.filter((event) => !event.startsWith("write"))).toEqual([
    "prepare main",
    "prepare other",
    "commit main",
    "commit other",
  ]);
});

test("VACUUM INTO writes a database that can be opened", () => {
  const { runtime, connection } = openTestConnection();
  connection.exec("CREATE TABLE t(a); INSERT INTO t VALUES(5); VACUUM INTO 'copy'");
  const copy = new Connection(runtime, { name: "copy" });
  expect(copy.prepare("SELECT a FROM t").pluck().get()).toBe(5);
});

test("the Vfs learns the owner and how to open", () => {
  const owner = { name: "me" };
  const { vfs, runtime, connection } = openTestConnection({ owner });
  expect(vfs.lastOptions).toEqual({ owner, readOnly: false, create: true });
  connection.exec("ATTACH 'other' AS o");
  expect(vfs.lastOptions?.owner).toBe(owner);
  const reader = new Connection(runtime, { name: "main", readonly: true });
  expect(vfs.lastOptions).toEqual({ owner: reader, readOnly: true, create: false });
  expect(() => reader.exec("CREATE TABLE x(a)")).toThrow("attempt to write a readonly database");
  expect(() => new Connection(runtime, { name: "nope", fileMustExist: true })).toThrow(
    'Cannot open "nope": no such database',
  );
});

test("ATTACH from a function that uses another connection gets the right owner", () => {
  const first = {};
  const { vfs, runtime, connection } = openTestConnection({ owner: first });
  const other = new Connection(runtime, { name: "b", owner: {} });
  connection.function("pick", () => {
    other.exec("SELECT 1");
    return "c";
  });
  connection.exec("ATTACH pick() AS c");
  expect(vfs.lastOptions?.owner).toBe(first);
});

test("the Vfs answers, ignores and refuses pragmas; the host's own do not reach it", () => {
  const { vfs, runtime } = openTestConnection();
  const seen: [string, string | null][] = [];
  vfs.onPragma = (name, value) => {
    seen.push([name, value]);
    if (name === "bough_answer") return "forty-two";
    if (name === "bough_silent") return "";
    if (name === "bough_refused") throw new Error("not here");
    return null;
  };
  const connection = new Connection(runtime, { name: "main" });
  connection.exec("ATTACH 'other' AS o");
  expect(seen).toEqual([]);
  expect(connection.pragma("bough_answer", { simple: true })).toBe("forty-two");
  expect(connection.pragma("Bough_Silent = 5")).toEqual([]);
  expect(() => connection.pragma("bough_refused")).toThrow("not here");
  expect(connection.pragma("user_version", { simple: true })).toBe(0);
  expect(seen).toEqual([
    ["bough_answer", null],
    ["bough_silent", "5"],
    ["bough_refused", null],
    ["user_version", null],
  ]);
});

test("two connections share a database and its locks", () => {
  const { runtime, connection } = openTestConnection();
  const second = new Connection(runtime, { name: "main" });
  connection.exec("CREATE TABLE t(a); BEGIN IMMEDIATE; INSERT INTO t VALUES(1)");
  expect(() => second.exec("BEGIN IMMEDIATE")).toThrow(
    expect.objectContaining({ code: "SQLITE_BUSY", message: "database is locked" }),
  );
  expect(second.prepare("SELECT count(*) FROM t").pluck().get()).toBe(0);
  connection.exec("COMMIT");
  expect(second.prepare("SELECT count(*) FROM t").pluck().get()).toBe(1);
});

test("each file is closed with its connection", () => {
  const { vfs, connection } = openTestConnection();
  connection.exec("ATTACH 'other' AS o");
  connection.close();
  expect(vfs.events.filter((event) => event.startsWith("close")).sort()).toEqual([
    "close main",
    "close other",
  ]);
});
