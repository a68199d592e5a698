import { describe, expect, test } from "vitest";
import { type Scope, SCOPES_MAX, scopesOfClaims } from "./claims.ts";

const show = (scopes: readonly Scope[]) =>
  scopes.map(
    ({ database, branch, access, isAttachable }) =>
      `${database.text}/${branch.text}=${access}${isAttachable ? "+attach" : ""}`,
  );
const read = (payload: Record<string, unknown>) => show(scopesOfClaims(payload, "nothing"));

describe("bough's claim", () => {
  const scope = { database: "shop", branch: "preview/*", access: "rw" };

  test("gives its scopes, and the other claims nothing", () => {
    expect(read({ bough: [scope, { ...scope, branch: "main", access: "ro" }] })).toEqual([
      "shop/preview/*=rw+attach",
      "shop/main=ro+attach",
    ]);
    expect(read({ bough: [scope], a: "rw", id: "other", p: { rw: { ns: ["third"] } } })).toEqual([
      "shop/preview/*=rw+attach",
    ]);
    expect(read({ bough: [], a: "rw" })).toEqual([]);
  });

  test.each([
    ["a word", "rw", "no list"],
    ["an object", {}, "no list"],
    ["a member that is a word", ["rw"], "no object"],
    ["a list in the list", [[]], "no object"],
    ["an unknown member", [{ ...scope, tables: ["a"] }], 'unknown member "tables"'],
    ["no branch", [{ database: "shop", access: "rw" }], "both strings"],
    ["a branch that is null", [{ ...scope, branch: null }], "both strings"],
    ["no access", [{ database: "shop", branch: "main" }], "one of ro, rw, admin"],
    ["an unknown access", [{ ...scope, access: "root" }], "one of ro, rw, admin"],
    ["a broken pattern", [{ ...scope, branch: "preview/?" }], '"?" is not allowed'],
    ["a second scope that is broken", [scope, { ...scope, database: "**" }], 'write "*"'],
    ["too many scopes", Array.from({ length: SCOPES_MAX + 1 }, () => scope), "at most 256"],
  ])("is refused with %s", (_, bough, fact) => {
    expect(() => read({ bough })).toThrow(
      expect.objectContaining({
        code: "AUTH_INVALID",
        details: { reason: "claims" },
        message: expect.stringContaining(fact),
      }),
    );
  });
});

describe("libSQL's claims", () => {
  test.each([
    [{ a: "rw" }, ["*/**=rw"]],
    [{ a: "ro" }, ["*/**=ro"]],
    [{ a: "roa" }, ["*/**=ro+attach"]],
    [{ a: "ro", id: "shop" }, ["shop/**=ro"]],
    [{ id: "shop" }, ["shop/**=rw"]],
    [{ a: null, id: "shop" }, ["shop/**=rw"]],
    [{ p: { ro: { ns: ["a", "b"] }, rw: { ns: ["c"] } } }, ["a/**=ro", "b/**=ro", "c/**=rw"]],
    [{ p: { roa: { ns: ["a"] }, rwa: { ns: ["b"] } } }, ["a/**=ro+attach", "b/**=rw+attach"]],
    [{ p: {} }, []],
    [{ p: { ddl: { ns: ["a"] }, rw: { tags: ["x"] } } }, []],
    [{ p: { rw: { ns: ["a"] } }, a: "ro", id: "b" }, ["a/**=rw"]],
    [{ p: null, a: "ro" }, ["*/**=ro"]],
  ])("%j", (payload, scopes) => {
    expect(read(payload)).toEqual(scopes);
  });

  test.each([
    { a: "admin" },
    { a: "rwa" },
    { a: 1 },
    { id: 7 },
    { id: ["shop"] },
    { p: "rw" },
    { p: { rw: "shop" } },
    { p: { rw: { ns: "shop" } } },
    { p: { rw: { ns: [1] } } },
    { p: { rw: { ns: Array.from({ length: SCOPES_MAX + 1 }, () => "a") } } },
  ])("%j is refused", (payload) => {
    expect(() => read(payload)).toThrow(expect.objectContaining({ code: "AUTH_INVALID" }));
  });

  test("a star is a name there, and nobody's", () => {
    for (const payload of [{ id: "*" }, { p: { rw: { ns: ["*", "s*"] } } }])
      for (const scope of scopesOfClaims(payload, "nothing")) {
        expect(scope.database.matches("shop")).toBe(false);
        expect(scope.database.coversAll).toBe(false);
      }
  });
});

test("a token without claims may do nothing, unless that is set", () => {
  expect(read({ sub: "somebody", iss: "x" })).toEqual([]);
  expect(show(scopesOfClaims({}, "rw"))).toEqual(["*/**=rw+attach"]);
  expect(read(Object.create({ a: "rw" }) as Record<string, unknown>)).toEqual([]);
});
