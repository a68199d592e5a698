import { afterEach, beforeEach, expect, test } from "vitest";
import { CommandDirectory } from "../testing/run-command.ts";

let directory: CommandDirectory;

beforeEach(async () => {
  directory = new CommandDirectory();
  await directory.ok(["database", "create", "shop"]);
  await directory.ok(["store", "set", "--partitions", "3"]);
  await directory.ok(["database", "create", "logs"]);
  await directory.ok(["database", "create", "third", "--partition", "2"]);
  for (const name of ["shop", "logs", "third"])
    await directory.ok(["sql", name, "CREATE TABLE item (id); INSERT INTO item VALUES (1), (2)"]);
});

afterEach(() => {
  directory[Symbol.dispose]();
});

test("the store says how many partitions it has, and where its databases are", async () => {
  expect(await directory.json(["store", "info"])).toMatchObject({ partitions: 3 });
  expect(await directory.ok(["store", "info"])).toMatch(/^Partitions {3}3$/m);
  expect(await directory.json(["database", "list"])).toMatchObject([
    { name: "logs", partition: 1 },
    { name: "shop", partition: 0 },
    { name: "third", partition: 2 },
  ]);
  expect(await directory.ok(["database", "list"])).toContain("partition");
});

test("a database is handed over, and reads as before", async () => {
  await directory.ok(["branch", "create", "shop/dev"]);
  expect(await directory.ok(["database", "hand-over", "shop", "--partition", "2"])).toBe(
    'Handed database "shop" over to partition 2\n',
  );
  expect(await directory.json(["database", "list"])).toMatchObject([
    { name: "logs", partition: 1 },
    { name: "shop", partition: 2, branches: 2, version: 2 },
    { name: "third", partition: 2 },
  ]);
  for (const revision of ["shop", "shop/dev", "shop@2"])
    expect(await directory.json(["sql", revision, "SELECT count(*) AS n FROM item"])).toEqual([
      { n: 2 },
    ]);
  expect(await directory.fails(2, ["database", "hand-over", "shop", "--partition", "3"])).toMatch(
    /the store has 3, from 0 on/,
  );
  expect(await directory.fails(2, ["database", "hand-over", "shop", "--partition", "x"])).toMatch(
    /it is not a number from 0/,
  );
  expect(await directory.fails(1, ["sql", "shop", "ATTACH 'logs' AS logs"])).toMatch(
    /it is in partition 1, the others in partition 2; hand it over with "bough database hand-over/,
  );
});

test("commands on the whole store reach every partition", async () => {
  const report = await directory.json(["check", "--deep"]);
  expect(report).toMatchObject({ ok: true, counts: { heads: 3 } });
  expect(await directory.json(["stat"])).toMatchObject({
    databases: [{ name: "logs" }, { name: "shop" }, { name: "third" }],
  });
  expect(await directory.ok(["gc"])).toMatch(/./);
  expect(await directory.json(["store", "convert", "--backend", "leveldb"])).toMatchObject({
    from: "lmdb",
    to: "leveldb",
  });
  expect(await directory.json(["sql", "third", "SELECT count(*) AS n FROM item"])).toEqual([
    { n: 2 },
  ]);
  expect(await directory.fails(1, ["check", "--repair"])).toMatch(/it has 3 partitions/);
  expect(await directory.fails(1, ["remote", "set", `file://${directory.file("copy")}`])).toMatch(
    /it has more than one partition/,
  );
});

test("a setting needs something to set, and partitions never get fewer", async () => {
  expect(await directory.fails(2, ["store", "set"])).toMatch(/give --compression or --partitions/);
  expect(await directory.fails(2, ["store", "set", "--partitions", "0"])).toMatch(/from 1 to 256/);
  expect(await directory.ok(["store", "set", "--partitions", "2"])).toMatch(/are 3 partitions/);
});
