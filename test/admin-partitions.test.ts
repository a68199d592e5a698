/** The admin API on a store of two partitions: ids, which are of one partition, and files of databases in either. */
import { expect, test } from "vitest";
import { AdminServer } from "./admin-fixture.ts";

/** "a" and "c" are in the first partition, "b" is in the second. */
async function start(): Promise<AdminServer> {
  const admin = await AdminServer.start({ store: { partitions: 2 } });
  for (const name of ["a", "b", "c"]) {
    admin.store.createDatabase(name);
    const connection = admin.store.connect(name);
    connection.exec(`CREATE TABLE t(name); INSERT INTO t VALUES ('of ${name}')`);
    connection.close();
  }
  return admin;
}

async function idOf(admin: AdminServer, path: string): Promise<string> {
  return (await admin.call("GET", path)).body.id;
}

test("a database is found by an id that one partition has, and not by one that both have", async () => {
  await using admin = await start();
  const ids = await Promise.all(["a", "b", "c"].map((name) => idOf(admin, `/databases/${name}`)));
  expect(ids[0]).toBe(ids[1]);
  expect(ids[2]).not.toBe(ids[0]);
  const found = await admin.call("GET", `/databases/id:${ids[2]}`);
  expect(found.body).toMatchObject({ name: "c", id: ids[2] });
  const both = await admin.call("GET", `/databases/id:${ids[0]}`);
  expect([both.status, both.body.code]).toEqual([404, "DATABASE_NOT_FOUND"]);
  // The name that it is found by goes with it.
  await admin.call("PATCH", `/databases/id:${ids[2]}`, { body: { name: "d" } });
  expect((await admin.call("GET", `/databases/id:${ids[2]}`)).body.name).toBe("d");
  expect(admin.bugs).toEqual([]);
});

test("a branch is found by its id in the partition of its database", async () => {
  await using admin = await start();
  for (const name of ["a", "b"]) {
    const made = await admin.call("POST", `/databases/${name}/branches`, { body: { name: "dev" } });
    const path = `/databases/${name}/branches/id:${made.body.id}`;
    expect((await admin.call("GET", path)).body).toMatchObject({ name: "dev", id: made.body.id });
    await admin.call("PATCH", path, { body: { name: `dev-of-${name}` } });
    expect(await idOf(admin, `/databases/${name}/branches/dev-of-${name}`)).toBe(made.body.id);
    expect((await admin.call("DELETE", path)).status).toBe(204);
    expect((await admin.call("GET", path)).status).toBe(404);
  }
  expect(admin.bugs).toEqual([]);
});

test("databases of either partition are exported, and imported again as others", async () => {
  await using admin = await start();
  const id = await idOf(admin, "/databases/c");
  const places = { a: "a", b: "b", c: `id:${id}` };
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const [name, place] of Object.entries(places)) {
    const response = await admin.fetch("GET", `/databases/${place}/branches/main/file`);
    expect(response.status).toBe(200);
    files.set(name, new Uint8Array(await response.arrayBuffer()));
  }
  for (const [name, raw] of files) {
    const sent = await admin.call("PUT", `/databases/again-${name}/branches/main/file`, {
      raw,
      headers: { "content-type": "application/vnd.sqlite3" },
    });
    expect(sent.body).toMatchObject({ database: `again-${name}`, version: 1 });
    using connection = admin.store.connect(`again-${name}`);
    expect(connection.prepare("SELECT name FROM t").get()).toEqual({ name: `of ${name}` });
  }
  const partitions = admin.store.engines.map(({ state }) => state.refs.databaseIds.size);
  expect(partitions).toEqual([3, 3]);
  expect(admin.bugs).toEqual([]);
});

test("what was handed over to the other partition is found by its new id, and exported", async () => {
  await using admin = await start();
  await admin.store.handOver("c", { partition: 1 });
  const id = await idOf(admin, "/databases/c");
  expect((await admin.call("GET", `/databases/id:${id}`)).body.name).toBe("c");
  const response = await admin.fetch("GET", "/databases/c/branches/main/file");
  expect(Buffer.from(await response.arrayBuffer()).includes("of c")).toBe(true);
  expect(admin.bugs).toEqual([]);
});
