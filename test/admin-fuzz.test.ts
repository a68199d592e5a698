/** Requests that nobody would send: whatever comes, the answer is documented, is no 5xx, and the server goes on. */
import fc from "fast-check";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { ADMIN_ROUTES } from "../src/server/admin/routes.ts";
import { AdminServer, type OpenApiDocument } from "./admin-fixture.ts";

const IS_LONG = process.env["BOUGH_TEST_LONG"] !== undefined;
const RUNS = IS_LONG ? 3000 : 150;
const JSON_TYPE = { "content-type": "application/json" };

async function withShop(): Promise<AdminServer> {
  const admin = await AdminServer.start();
  const shop = admin.store.createDatabase("shop");
  admin.store.connect("shop").exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)").close();
  shop.createBranch("dev");
  shop.createTag("first", { at: "@1" });
  return admin;
}

const odd = fc.oneof(
  fc.constantFrom(
    "__proto__",
    "constructor",
    "..",
    ".",
    "id:",
    "id:0",
    "id:1",
    "id:-1",
    "id:1e3",
    "id:99999999999999999999",
    "main",
    "dev",
    "shop",
    "first",
    "a/b",
    "@",
    "shop@1",
    "@1",
    "@-5m",
    "@9999999999999999999",
    "2026-01-01T00:00:00Z",
    "99999-01-01T00:00:00Z",
    "\0",
    "\u{1F600}",
    "%",
    "'; DROP TABLE t; --",
  ),
  fc.string({ maxLength: 40 }),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.integer().map(String),
);

const value: fc.Arbitrary<unknown> = fc.oneof(
  odd,
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
  fc.jsonValue({ maxDepth: 3 }),
);

const FIELDS = ["name", "from", "to", "at", "pageSize", "expiresAt", "isProtected", "preserveAs"];
const MORE = ["dryRun", "deep", "startAfter", "compression", "hourlyMs", "__proto__", "toString"];

/** Words that mean something, with values that mostly do not. */
const body = fc.oneof(
  fc.dictionary(fc.constantFrom(...FIELDS, ...MORE), value, { maxKeys: 4 }),
  fc.jsonValue({ maxDepth: 4 }),
);

const query = fc.array(
  fc.tuple(
    fc.oneof(
      fc.constantFrom("limit", "cursor", "before", "revision", "startedAt", "__proto__"),
      odd,
    ),
    odd,
  ),
  { maxLength: 3 },
);

function encode(text: string): string {
  // Half of a pair cannot be encoded.
  return encodeURIComponent(Buffer.from(text, "utf8").toString("utf8"));
}

function template(path: string, parts: readonly string[]): string {
  let index = 0;
  return path.replaceAll(/\{\w+\}/g, () => encode(parts[index++ % parts.length] ?? "x"));
}

test("random requests to every route are answered as the document says, and never with a 5xx", async () => {
  await using admin = await withShop();
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...ADMIN_ROUTES),
      fc.array(odd, { minLength: 3, maxLength: 3 }),
      query,
      fc.option(body),
      async (route, parts, parameters, sent) => {
        const search = parameters.map(([key, text]) => `${encode(key)}=${encode(text)}`).join("&");
        const path = template(route.path, parts);
        const hasBody = sent !== null && route.method !== "GET";
        const { status } = await admin.call(
          route.method,
          search === "" ? path : `${path}?${search}`,
          hasBody ? { raw: JSON.stringify(sent), headers: JSON_TYPE } : {},
        );
        expect(status).toBeLessThan(500);
        expect(admin.bugs).toEqual([]);
      },
    ),
    { numRuns: RUNS },
  );
  // It goes on, with what is good.
  expect((await admin.store.check({ deep: true })).ok).toBe(true);
});

/** Of what the document says a body has, with a mutation. */
function validBody(document: OpenApiDocument, id: string): Record<string, unknown> {
  const schema = document.components.schemas[id] as {
    readonly properties: Record<string, { type?: string; pattern?: string; format?: string }>;
  };
  return Object.fromEntries(
    Object.entries(schema.properties).map(([name, { type, format }]) => [
      name,
      type === "integer"
        ? 4096
        : type === "boolean"
          ? true
          : format === "date-time"
            ? "2999-01-01T00:00:00Z"
            : "shop",
    ]),
  );
}

test("mutated bodies are taken or refused, never a failure of the server", async () => {
  await using admin = await withShop();
  const { document } = await admin.documentCheck();
  const places = [
    ["POST", "/databases", "NewDatabase"],
    ["PATCH", "/databases/shop", "DatabaseChange"],
    ["POST", "/databases/shop/branches", "NewBranch"],
    ["PATCH", "/databases/shop/branches/dev", "BranchChange"],
    ["POST", "/databases/shop/branches/dev/reset", "BranchReset"],
    ["POST", "/databases/shop/branches/dev/restore", "BranchRestore"],
    ["PATCH", "/databases/shop/retention", "DatabaseRetention"],
    ["POST", "/databases/shop/tags", "NewTag"],
    ["PATCH", "/store", "StoreChange"],
    ["POST", "/store/key", "NewKey"],
  ] as const;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...places),
      fc.array(value, { minLength: 1, maxLength: 3 }),
      fc.nat(7),
      async ([method, path, id], values, which) => {
        const sent = validBody(document, id);
        const names = Object.keys(sent);
        for (const [index, each] of values.entries())
          sent[names[(which + index) % names.length]!] = each;
        const answer = await admin.call(method, path, {
          raw: JSON.stringify(sent),
          headers: JSON_TYPE,
        });
        expect(answer.status).toBeLessThan(500);
        expect(admin.bugs).toEqual([]);
      },
    ),
    { numRuns: RUNS },
  );
});

/** Whatever comes back, until the server closes; null: it has not closed by itself. */
function exchange(port: number, bytes: Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    let text = "";
    socket.on("data", (chunk) => (text += chunk.toString("latin1")));
    socket.on("error", () => resolve(text));
    socket.on("close", () => resolve(text));
    socket.on("timeout", () => reject(new Error(`No end after ${JSON.stringify(text)}`)));
    socket.setTimeout(20_000);
    socket.end(bytes);
  });
}

test("broken HTTP does not stop the server, and is no 5xx", async () => {
  await using admin = await withShop();
  const port = Number(new URL(admin.server.url).port);
  const valid = Buffer.from(
    'POST /api/v1/databases/shop/branches HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{"name":"other"}',
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.nat(valid.length),
      async (changes, length) => {
        const bytes = Uint8Array.from(valid);
        for (const [at, byte] of changes) bytes[at] = byte;
        const text = await exchange(port, bytes.subarray(0, Math.max(1, length)));
        expect(text).not.toMatch(/^HTTP\/1\.1 5/);
        expect(admin.bugs).toEqual([]);
      },
    ),
    { numRuns: RUNS },
  );
  expect((await admin.call("GET", "/databases/shop")).status).toBe(200);
});
