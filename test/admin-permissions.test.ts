import { expect, test } from "vitest";
import type { Permission } from "../src/server/admin/admin-route.ts";
import { ADMIN_ROUTES } from "../src/server/admin/routes.ts";
import { AdminServer, type TestScope, namedTokens } from "./admin-fixture.ts";

const TOKENS: Readonly<Record<string, readonly TestScope[]>> = {
  nothing: [],
  "server-reader": [{ action: "read", database: "*", branch: "**" }],
  "server-writer": [{ action: "write", database: "*", branch: "**" }],
  "server-admin": [{ action: "admin", database: "*", branch: "**" }],
  "shop-reader": [{ action: "read", database: "shop", branch: "**" }],
  "shop-admin": [{ action: "admin", database: "shop", branch: "**" }],
  "dev-reader": [{ action: "read", database: "shop", branch: "dev" }],
  "dev-writer": [{ action: "write", database: "shop", branch: "dev" }],
  "dev-admin": [{ action: "admin", database: "shop", branch: "dev" }],
  "other-admin": [{ action: "admin", database: "other", branch: "**" }],
};

const LEVELS = { read: 1, write: 2, admin: 3 } as const;

/** What a token may do, worked out apart from what the server does. */
function isAllowed(scopes: readonly TestScope[], permission: Permission): boolean {
  const allows = (action: keyof typeof LEVELS, fits: (scope: TestScope) => boolean): boolean =>
    scopes.some((scope) => LEVELS[scope.action] >= LEVELS[action] && fits(scope));
  const ofShop = (scope: TestScope): boolean => scope.database === "*" || scope.database === "shop";
  switch (permission.on) {
    case "anybody":
      return true;
    case "job":
      return false; // There is none, which looks the same.
    case "server":
      return allows(
        permission.action,
        ({ database, branch }) => database === "*" && branch === "**",
      );
    case "visible database":
      return allows("read", ofShop);
    case "database":
      return allows(permission.action, (scope) => ofShop(scope) && scope.branch === "**");
    case "branch":
      return allows(
        permission.action,
        (scope) => ofShop(scope) && ["**", "dev"].includes(scope.branch),
      );
    case "named":
      throw new TypeError("Tried by another test");
  }
}

async function withShop(): Promise<AdminServer> {
  const admin = await AdminServer.start({ access: namedTokens(TOKENS) });
  const shop = admin.store.createDatabase("shop");
  admin.store.createDatabase("other");
  admin.store.connect("shop").exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)").close();
  shop.createBranch("dev");
  shop.createBranch("secret");
  return admin;
}

test("each route lets in the tokens that its permission says, and no others", async () => {
  await using admin = await withShop();
  for (const route of ADMIN_ROUTES) {
    if (route.permission.on === "named") continue;
    const path = route.path
      .replace("{database}", "shop")
      .replace("{branch}", "dev")
      .replace("{tag}", "none")
      .replace("{job}", "none")
      .replace("{transaction}", "none");
    for (const [token, scopes] of Object.entries(TOKENS)) {
      // A field that no route has: who is let in is told so, and nothing happens.
      const { status, body } = await admin.call(route.method, `${path}?refused=1`, { token });
      const what = `${token} ${route.method} ${path}`;
      if (isAllowed(scopes, route.permission) || route.permission.on === "job")
        expect([what, status, body.code]).toEqual([what, 400, "REQUEST_INVALID"]);
      else expect([what, status, body.code]).toEqual([what, 403, "FORBIDDEN"]);
    }
  }
  expect(admin.bugs).toEqual([]);
});

test("who may not is told the same, whether the thing exists or not, by name and by id", async () => {
  await using admin = await withShop();
  const bodies = new Set<string>();
  for (const path of ["shop", "none", "id:1", "id:99"]) {
    const { status, body } = await admin.call("GET", `/databases/${path}`, {
      token: "other-admin",
    });
    bodies.add(`${status} ${JSON.stringify(body).replaceAll(path, "X")}`);
  }
  expect([...bodies]).toHaveLength(1);
  bodies.clear();
  for (const path of ["secret", "none", "id:3", "id:99"]) {
    const { status, body } = await admin.call("GET", `/databases/shop/branches/${path}`, {
      token: "dev-admin",
    });
    bodies.add(`${status} ${JSON.stringify(body).replaceAll(path, "X")}`);
  }
  expect([...bodies]).toHaveLength(1);
});

test("lists show what may be read", async () => {
  await using admin = await withShop();
  const names = async (path: string, token: string): Promise<string[]> => {
    const { body } = await admin.call("GET", path, { token });
    return body.items.map(({ name }: { name: string }) => name);
  };
  expect(await names("/databases", "nothing")).toEqual([]);
  expect(await names("/databases", "dev-reader")).toEqual(["shop"]);
  expect(await names("/databases", "other-admin")).toEqual(["other"]);
  expect(await names("/databases", "server-reader")).toEqual(["other", "shop"]);
  expect(await names("/databases/shop/branches", "dev-reader")).toEqual(["dev"]);
  expect(await names("/databases/shop/branches", "shop-reader")).toEqual(["dev", "main", "secret"]);
  // Pages are of what is shown.
  const page = await admin.call("GET", "/databases/shop/branches?limit=1", { token: "dev-reader" });
  expect(page.body.next).toBeNull();
});

test("what a body names needs permission as well", async () => {
  await using admin = await withShop();
  const dev = "/databases/shop/branches/dev";
  const code = async (token: string, method: string, path: string, body: object): Promise<string> =>
    (await admin.call(method, path, { token, body })).body.code;
  const refused: readonly (readonly [string, string, string, object])[] = [
    ["shop-admin", "POST", "/databases", { name: "new" }],
    ["shop-admin", "PATCH", "/databases/shop", { name: "other2" }],
    ["dev-admin", "POST", "/databases/shop/branches", { name: "new", from: "shop/dev" }],
    ["dev-admin", "PATCH", dev, { name: "new" }],
    ["dev-admin", "POST", `${dev}/reset`, {}],
    ["dev-admin", "POST", `${dev}/reset`, { to: "shop/secret" }],
    ["dev-admin", "POST", `${dev}/reset`, { to: "shop@1" }],
    ["dev-admin", "POST", `${dev}/reset`, { to: "@a-tag" }],
    ["dev-admin", "POST", `${dev}/restore`, { to: "@1", preserveAs: "new" }],
    // What keeps it gets a name of the store's: "dev-before-1".
    ["dev-admin", "POST", `${dev}/restore`, { to: "@1" }],
    ["dev-admin", "POST", "/databases/shop/tags", { name: "t" }],
    ["dev-admin", "POST", "/databases/shop/tags", { name: "t", at: "shop/secret@1" }],
    ["dev-writer", "POST", "/databases/shop/tags", { name: "t", at: "shop/dev" }],
  ];
  for (const [token, method, path, body] of refused) {
    const what = `${token} ${method} ${path} ${JSON.stringify(body)}`;
    expect([what, await code(token, method, path, body)]).toEqual([what, "FORBIDDEN"]);
  }
  const allowed: readonly (readonly [string, string, string, object])[] = [
    ["dev-admin", "POST", `${dev}/reset`, { to: "@1" }],
    ["shop-admin", "POST", `${dev}/restore`, { to: "@1" }],
    ["dev-admin", "POST", "/databases/shop/tags", { name: "t", at: "shop/dev@1" }],
    ["shop-admin", "POST", `${dev}/reset`, { to: "@t" }],
    ["shop-admin", "POST", "/databases/shop/branches", { name: "new", from: "shop/secret" }],
  ];
  for (const [token, method, path, body] of allowed) {
    const what = `${token} ${method} ${path} ${JSON.stringify(body)}`;
    expect([what, await code(token, method, path, body)]).toEqual([what, undefined]);
  }
});

test("names that may not be read are not shown", async () => {
  await using admin = await withShop();
  const { body } = await admin.call("GET", "/databases/shop/branches/dev", { token: "dev-admin" });
  expect(body.parent).toBeNull();
  const whole = await admin.call("GET", "/databases/shop/branches/dev", { token: "shop-reader" });
  expect(whole.body.parent).toBe("main");
  const log = await admin.call("GET", "/databases/shop/branches/dev/log", { token: "dev-admin" });
  expect(log.body.items.map(({ branch }: { branch: string | null }) => branch)).toEqual([
    null,
    null,
  ]);
  // What the principal is told of an error goes through the principal.
  const missing = await admin.call("POST", "/databases/shop/branches/dev/undelete", {
    token: "dev-admin",
  });
  expect(missing.body.detail).toBe('Cannot undelete branch "shop/dev": there is none of that name');
});

test("a file is read and written with the permission of its branch and revision", async () => {
  await using admin = await withShop();
  const path = (branch: string): string => `/databases/shop/branches/${branch}/file`;
  const status = async (token: string, at: string): Promise<number> => {
    const response = await admin.fetch("GET", at, { token });
    await response.arrayBuffer();
    return response.status;
  };
  expect(await status("dev-reader", path("dev"))).toBe(200);
  expect(await status("dev-reader", `${path("dev")}?revision=@1`)).toBe(200);
  expect(await status("dev-reader", path("main"))).toBe(403);
  expect(await status("dev-reader", `${path("dev")}?revision=shop/secret`)).toBe(403);
  const file = await admin.fetch("GET", path("dev"), { token: "all" });
  const raw = new Uint8Array(await file.arrayBuffer());
  const put = async (token: string, at: string): Promise<number> =>
    (await admin.call("PUT", at, { raw, token })).status;
  expect(await put("dev-reader", path("dev"))).toBe(403);
  expect(await put("dev-writer", path("dev"))).toBe(200);
  expect(await put("dev-writer", path("main"))).toBe(403);
  admin.store.database("shop").branch("dev").delete();
  // To make it again is more than to write to it.
  expect(await put("dev-writer", path("dev"))).toBe(403);
  expect(await put("dev-admin", path("dev"))).toBe(200);
  expect(await put("server-writer", "/databases/new/branches/main/file")).toBe(403);
  expect(await put("server-admin", "/databases/new/branches/main/file")).toBe(200);
});

test("the outcome of a transaction on a database that may not be seen is refused", async () => {
  await using admin = await withShop();
  const id = "0123456789abcdef0123456789abcdef";
  await admin.store.transact("shop", async (tx) => await tx.run("INSERT INTO t VALUES (2)"), {
    id,
  });
  const status = async (token: string): Promise<number> =>
    (await admin.call("GET", `/transactions/${id}`, { token })).status;
  expect([await status("dev-reader"), await status("other-admin")]).toEqual([200, 403]);
});
