import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StoreError } from "../../errors.ts";
import { type AccessLevel, scopesOfClaims } from "./claims.ts";
import {
  type Action,
  attachAccess,
  branchAccess,
  permits,
  type PermissionRequest,
  type Principal,
  requirePermission,
  seesBranch,
  seesDatabase,
  UNAUTHENTICATED,
  withoutOtherNames,
} from "./principal.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";

type Payload = Readonly<Record<string, unknown>>;

const withClaims = (payload: Payload): Principal => ({
  ...UNAUTHENTICATED,
  scopes: scopesOfClaims(payload, "nothing"),
});
const scope = (database: string, branch: string, access: AccessLevel) => ({
  database,
  branch,
  access,
});
const scoped = (...scopes: ReturnType<typeof scope>[]): Principal => withClaims({ bough: scopes });

const ACTIONS: readonly Action[] = ["read", "write", "admin"];

/** What the principal may do there: "" or some of "rwa". */
function may(principal: Principal, database: string | null, branch: string | null): string {
  return ACTIONS.filter((action) => permits(principal, { action, database, branch }))
    .map((action) => action[0])
    .join("");
}

describe("who may do what", () => {
  const TARGETS = [
    "shop/main",
    "shop/preview/7",
    "shop/preview/a/b",
    "shop",
    "shopping/main",
    "crm/main",
    "crm/preview/7",
    "crm",
    "",
  ];
  const targetOf = (text: string): [string | null, string | null] => {
    if (text === "") return [null, null];
    const [database = "", ...branch] = text.split("/");
    return [database, branch.length === 0 ? null : branch.join("/")];
  };

  // The columns are TARGETS, the last one is the server.
  test.each<[string, Payload, readonly string[]]>([
    ["no claims", {}, ["", "", "", "", "", "", "", "", ""]],
    ["an empty list", { bough: [] }, ["", "", "", "", "", "", "", "", ""]],
    ["ro of main", { bough: [scope("shop", "main", "ro")] }, ["r", "", "", "", "", "", "", "", ""]],
    [
      "rw of previews",
      { bough: [scope("shop", "preview/*", "rw")] },
      ["", "rw", "", "", "", "", "", "", ""],
    ],
    [
      "admin of previews",
      { bough: [scope("shop", "preview/**", "admin")] },
      ["", "rwa", "rwa", "", "", "", "", "", ""],
    ],
    [
      "rw of a database",
      { bough: [scope("shop", "**", "rw")] },
      ["rw", "rw", "rw", "rw", "", "", "", "", ""],
    ],
    [
      "admin of a database",
      { bough: [scope("shop", "**", "admin")] },
      ["rwa", "rwa", "rwa", "rwa", "", "", "", "", ""],
    ],
    [
      "previews everywhere",
      { bough: [scope("*", "preview/*", "admin")] },
      ["", "rwa", "", "", "", "", "rwa", "", ""],
    ],
    ["a prefix", { bough: [scope("shop*", "main", "ro")] }, ["r", "", "", "", "r", "", "", "", ""]],
    [
      "ro of all",
      { bough: [scope("*", "**", "ro")] },
      ["r", "r", "r", "r", "r", "r", "r", "r", "r"],
    ],
    [
      "admin of all",
      { bough: [scope("*", "**", "admin")] },
      ["rwa", "rwa", "rwa", "rwa", "rwa", "rwa", "rwa", "rwa", "rwa"],
    ],
    [
      "scopes do not add up to a database",
      { bough: [scope("shop", "*", "admin"), scope("shop", "*/**", "admin")] },
      ["rwa", "rwa", "rwa", "", "", "", "", "", ""],
    ],
    [
      "the larger of two",
      { bough: [scope("shop", "**", "ro"), scope("shop", "preview/*", "rw")] },
      ["r", "rw", "r", "r", "", "", "", "", ""],
    ],
    ["libSQL, rw", { a: "rw" }, ["rw", "rw", "rw", "rw", "rw", "rw", "rw", "rw", "rw"]],
    ["libSQL, ro of one", { a: "ro", id: "shop" }, ["r", "r", "r", "r", "", "", "", "", ""]],
    [
      "libSQL, p",
      { p: { rw: { ns: ["crm"] }, roa: { ns: ["shop"] } } },
      ["r", "r", "r", "r", "", "rw", "rw", "rw", ""],
    ],
    ["libSQL, a star", { p: { rwa: { ns: ["*"] } } }, ["", "", "", "", "", "", "", "", ""]],
  ])("%s", (_, payload, expected) => {
    const principal = withClaims(payload);
    expect(TARGETS.map((target) => may(principal, ...targetOf(target)))).toEqual(expected);
  });

  test("everybody may do everything without authentication", () => {
    expect(may(UNAUTHENTICATED, null, null)).toBe("rwa");
    expect(may(UNAUTHENTICATED, "shop", "main")).toBe("rwa");
  });

  test("FORBIDDEN says what was asked for, and nothing else", () => {
    const principal = scoped(scope("secret-shop", "main", "ro"));
    const refused = (request: PermissionRequest) => {
      try {
        requirePermission(principal, request);
      } catch (error) {
        return error instanceof StoreError ? [error.code, error.message, error.details] : error;
      }
      return null;
    };
    const request = { action: "write", database: "shop", branch: "dev" } as const;
    expect(refused(request)).toEqual([
      "FORBIDDEN",
      'Cannot write to branch "shop/dev": the token does not allow it',
      request,
    ]);
    expect(refused({ action: "admin", database: "shop", branch: null })).toMatchObject([
      "FORBIDDEN",
      'Cannot administer database "shop": the token does not allow it',
      {},
    ]);
    expect(refused({ action: "read", database: null, branch: null })).toMatchObject([
      "FORBIDDEN",
      "Cannot read about the server: the token does not allow it",
      {},
    ]);
    expect(refused({ action: "read", database: "secret-shop", branch: "main" })).toBeNull();
  });
});

describe("ATTACH", () => {
  const attach = (principal: Principal, from: string, database: string, branch: string) =>
    attachAccess(principal, { from, database, branch });

  test("reaches what bough's scopes allow, with the access that they give", () => {
    const principal = scoped(scope("shop", "preview/*", "rw"), scope("crm", "main", "ro"));
    expect(attach(principal, "shop", "shop", "preview/1")).toBe("write");
    expect(attach(principal, "shop", "crm", "main")).toBe("read");
    expect(attach(principal, "shop", "shop", "main")).toBe("none");
    expect(attach(principal, "shop", "crm", "dev")).toBe("none");
    expect(attach(scoped(scope("shop", "**", "admin")), "crm", "shop", "main")).toBe("write");
  });

  test("reaches another database by libSQL's claims only with roa and rwa", () => {
    const principal = withClaims({
      p: { ro: { ns: ["a"] }, rw: { ns: ["b"] }, roa: { ns: ["c"] }, rwa: { ns: ["d"] } },
    });
    const from = (database: string) =>
      ["a", "b", "c", "d", "e"].map((other) => attach(principal, database, other, "main"));
    expect(from("a")).toEqual(["read", "none", "read", "write", "none"]);
    expect(from("b")).toEqual(["none", "write", "read", "write", "none"]);
    expect(attach(withClaims({ a: "rw" }), "a", "b", "main")).toBe("none");
    expect(attach(withClaims({ a: "roa" }), "a", "b", "main")).toBe("read");
  });
});

describe("lists", () => {
  const NEVER = (): string[] => {
    throw new Error("The branches do not matter");
  };

  test("show a database to who may read one of its branches", () => {
    const previews = scoped(scope("*", "preview/*", "ro"));
    expect(seesDatabase(previews, "shop", () => ["main", "preview/1"])).toBe(true);
    expect(seesDatabase(previews, "shop", () => ["main", "dev"])).toBe(false);
    expect(seesDatabase(previews, "shop", () => [])).toBe(false);
    expect(seesBranch(previews, "shop", "preview/1")).toBe(true);
    expect(seesBranch(previews, "shop", "main")).toBe(false);
  });

  test("ask for branches only when they matter", () => {
    expect(seesDatabase(scoped(scope("shop", "**", "ro")), "shop", NEVER)).toBe(true);
    expect(seesDatabase(scoped(scope("shop", "main", "ro")), "crm", NEVER)).toBe(false);
  });

  test("messages do not name what others have", () => {
    const error = new StoreError(
      "DATABASE_NOT_FOUND",
      'Cannot find database "shopp": did you mean "shop"?',
    );
    const seen = (principal: Principal, given: unknown) => withoutOtherNames(principal, given);
    expect(seen(scoped(scope("shopp", "**", "admin")), error)).toMatchObject({
      code: "DATABASE_NOT_FOUND",
      message: 'Cannot find database "shopp": there is none of that name',
      details: {},
    });
    const children = new StoreError(
      "BRANCH_HAS_CHILDREN",
      'Cannot delete branch "shop/dev": it has the child "secret"; delete it first',
      { details: { children: ["secret"] } },
    );
    expect(seen(scoped(scope("shop", "dev", "admin")), children)).toMatchObject({
      message: 'Cannot delete branch "shop/dev": it has branches of its own',
      details: {},
    });
    expect(seen(scoped(scope("*", "**", "ro")), error)).toBe(error);
    const other = new StoreError("READ_ONLY", 'Cannot write to "shop@1": it is read-only');
    expect(seen(scoped(), other)).toBe(other);
  });
});

describe("against a model", () => {
  const LEVELS: readonly AccessLevel[] = ["ro", "rw", "admin"];
  const databases = ["shop", "shop2", "crm"];
  const branches = ["main", "dev", "preview/1", "preview/2", "preview/a/b", "preview"];
  const patterns = new Map<string, readonly string[]>([
    ["*", ["main", "dev", "preview"]],
    ["**", branches],
    ["main", ["main"]],
    ["preview/*", ["preview/1", "preview/2"]],
    ["preview/**", ["preview/1", "preview/2", "preview/a/b"]],
    ["preview*", ["preview"]],
    ["*/1", ["preview/1"]],
    ["nothing", []],
  ]);
  const databasePatterns = new Map<string, readonly string[]>([
    ["*", databases],
    ["shop", ["shop"]],
    ["shop*", ["shop", "shop2"]],
    ["*m", ["crm"]],
    ["nothing", []],
  ]);
  const scopes = fc.array(
    fc.record({
      database: fc.constantFrom(...databasePatterns.keys()),
      branch: fc.constantFrom(...patterns.keys()),
      access: fc.constantFrom(...LEVELS),
    }),
    { maxLength: 5 },
  );

  test("bough's scopes allow what one of them lists, and nothing else", () => {
    fc.assert(
      fc.property(scopes, (claim) => {
        const principal = withClaims({ bough: claim });
        /** Every single thing that is allowed, written out. */
        const allowed = new Set<string>();
        for (const { database, branch, access } of claim)
          for (const action of ACTIONS.slice(0, LEVELS.indexOf(access) + 1)) {
            for (const one of databasePatterns.get(database) ?? []) {
              for (const two of patterns.get(branch) ?? []) allowed.add(`${action} ${one}/${two}`);
              if (branch === "**") allowed.add(`${action} ${one}`);
            }
            if (branch === "**" && database === "*") allowed.add(action);
          }
        const found = new Set<string>();
        for (const action of ACTIONS) {
          if (permits(principal, { action, database: null, branch: null })) found.add(action);
          for (const database of databases) {
            if (permits(principal, { action, database, branch: null }))
              found.add(`${action} ${database}`);
            for (const branch of branches)
              if (permits(principal, { action, database, branch }))
                found.add(`${action} ${database}/${branch}`);
          }
        }
        expect([...found].sort()).toEqual([...allowed].sort());
        for (const database of databases) {
          const readable = branches.filter((branch) => allowed.has(`read ${database}/${branch}`));
          expect(branches.filter((branch) => seesBranch(principal, database, branch))).toEqual(
            readable,
          );
          expect(seesDatabase(principal, database, () => branches)).toBe(readable.length > 0);
          const attached = branches.map((branch) =>
            attachAccess(principal, { from: "crm", database, branch }),
          );
          const given = branches.map((branch) => branchAccess(principal, { database, branch }));
          expect(given).toEqual(attached);
          expect(attached).toEqual(
            branches.map((branch) => {
              const at = `${database}/${branch}`;
              return allowed.has(`write ${at}`)
                ? "write"
                : allowed.has(`read ${at}`)
                  ? "read"
                  : "none";
            }),
          );
        }
      }),
      { numRuns: isLong ? 5000 : 150 },
    );
  });

  test("one more scope never takes anything away", () => {
    fc.assert(
      fc.property(scopes, scopes, (some, more) => {
        const before = withClaims({ bough: some });
        const after = withClaims({ bough: [...some, ...more] });
        for (const action of ACTIONS)
          for (const database of databases)
            for (const branch of [null, ...branches])
              if (permits(before, { action, database, branch }))
                expect(permits(after, { action, database, branch })).toBe(true);
      }),
    );
  });
});
