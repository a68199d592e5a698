/** Streams whose branches or databases get another name: they go on where their token goes. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { execute, ServedDirectory } from "./server-fixture.ts";
import { TokenWorld } from "./server-tokens.ts";

let world: TokenWorld;
let served: ServedDirectory;

beforeEach(async () => {
  world = new TokenWorld();
  served = await ServedDirectory.start({}, {}, world.access());
  await served.admin.createDatabase("shop", {});
  await served.exec("shop", "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
  await served.admin.createBranch("shop", "preview/a", {});
});

afterEach(async () => {
  await served[Symbol.asyncDispose]();
  world[Symbol.dispose]();
  expect(served.bugs).toEqual([]);
});

const WRITES_PREVIEW_READS_DOCS = {
  bough: [
    { database: "shop", branch: "preview/*", access: "rw" },
    { database: "shop", branch: "docs/*", access: "ro" },
  ],
};

function headers(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

test("regression: what is attached goes on after a rename only where the token goes", async () => {
  const shop = served.store.database("shop");
  for (const branch of ["preview/b", "preview/c"]) shop.createBranch(branch);
  const mine = headers(await world.token(WRITES_PREVIEW_READS_DOCS));
  const path = "/shop/preview/a/v2/pipeline";
  let baton: string | null = null;
  const run = async (...statements: string[]): Promise<string[]> => {
    const requests = statements.map((sql) => execute(sql));
    const { body } = await served.post(path, { baton, requests }, mine);
    baton = body.baton;
    return body.results.map(({ error }: { error?: { code: string } }) => error?.code ?? "ok");
  };
  const attach = ["ATTACH 'shop/preview/b' AS b", "ATTACH 'shop/preview/c' AS c"];
  expect(await run(...attach)).toEqual(["ok", "ok"]);
  shop.branch("preview/b").rename("preview/moved");
  expect(await run("INSERT INTO b.t VALUES (3)", "SELECT a FROM c.t")).toEqual(["ok", "ok"]);
  // What could be written to may only be read there.
  shop.branch("preview/c").rename("docs/c");
  expect(await run("SELECT a FROM c.t", "INSERT INTO t VALUES (4)")).toEqual([
    "FORBIDDEN",
    "FORBIDDEN",
  ]);
  shop.branch("docs/c").rename("preview/c");
  expect(await run("SELECT a FROM c.t")).toEqual(["ok"]);
  shop.branch("preview/c").delete();
  expect(await run("SELECT a FROM c.t", "SELECT 1")).toEqual(["BRANCH_NOT_FOUND", "ok"]);
  shop.branch("preview/moved").rename("hidden");
  expect(await run("SELECT a FROM b.t", "SELECT 1")).toEqual(["FORBIDDEN", "FORBIDDEN"]);
});

test("regression: what is attached for reading goes on where the token may read", async () => {
  const shop = served.store.database("shop");
  shop.createBranch("docs/a");
  const mine = headers(await world.token(WRITES_PREVIEW_READS_DOCS));
  const path = "/shop/preview/a/v2/pipeline";
  const requests = [execute("ATTACH 'shop/docs/a' AS d")];
  const { body } = await served.post(path, { requests }, mine);
  shop.branch("docs/a").rename("docs/b");
  const next = { baton: body.baton, requests: [execute("SELECT a FROM d.t")] };
  expect((await served.post(path, next, mine)).body.results[0].type).toBe("ok");
});

test("regression: a database that was renamed attaches another of its old name as another one", async () => {
  const mine = headers(await world.token({ p: { rw: { ns: ["shop", "store"] } } }));
  const path = "/shop/v2/pipeline";
  const first = await served.post(path, { requests: [execute("SELECT 1")] }, mine);
  served.store.database("shop").rename("store");
  await served.admin.createDatabase("shop", {});
  const requests = [execute("ATTACH 'store' AS own"), execute("ATTACH 'shop' AS foreign_one")];
  const { body } = await served.post(path, { baton: first.body.baton, requests }, mine);
  const codes = body.results.map(({ error }: { error?: { code: string } }) => error?.code ?? "ok");
  expect(codes).toEqual(["ok", "FORBIDDEN"]);
});
