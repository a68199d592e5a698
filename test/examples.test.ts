/** Runs the programs of examples/, each as a process, against a server in this one. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { testProgram } from "../src/testing/test-program.ts";
import { ServedDirectory } from "./server-fixture.ts";

const run = promisify(execFile);

async function example(name: string, ...words: string[]): Promise<string> {
  const path = testProgram(new URL(`../examples/${name}.ts`, import.meta.url));
  const { stdout } = await run(process.execPath, [path, ...words]);
  return stdout;
}

test.each([
  ["libsql-client", "apple, pear, plum\n"],
  ["drizzle", "write: done\ntest: open\n"],
  ["kysely", "Grace, 85\n"],
  ["plain-fetch", "1 /home\n"],
  ["prisma/notes", "first, changed; rolled back\n"],
])("%s on a branch, and again", async (name, output) => {
  await using served = await ServedDirectory.start();
  served.store.createDatabase("shop").createBranch("dev");
  expect(await example(name, served.url("shop/dev"))).toBe(output);
  expect(await example(name, served.url("shop/dev"))).toBe(output);
  const tables = served.store.connect("shop").prepare("SELECT count(*) AS n FROM sqlite_schema");
  expect(tables.get()).toEqual({ n: 0 });
  expect(served.bugs).toEqual([]);
});

test("tenant-per-branch", async () => {
  await using served = await ServedDirectory.start();
  const directory = `${served.directory}/tenants`;
  expect(await example("tenant-per-branch", directory)).toBe("acme: 2 plans\nglobex: 2 plans\n");
});
