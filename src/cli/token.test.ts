import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Authenticator } from "../server/access/authenticator.ts";
import { openAuthenticator } from "../server/access/open-authenticator.ts";
import { permits } from "../server/access/principal.ts";
import { CommandDirectory } from "../testing/run-command.ts";
import { ed25519Pair, privatePem, publicPem, TestKeys, tokenOf } from "../testing/token-fixture.ts";

let directory: CommandDirectory;

beforeEach(() => {
  directory = new CommandDirectory();
});

afterEach(() => {
  directory[Symbol.dispose]();
});

interface Created {
  readonly token: string;
  readonly id: string;
  readonly expiresAt: string | null;
}

const PREVIEWS = [
  "token",
  "create",
  "--database",
  "shop",
  "--branch",
  "preview/*",
  "--access",
  "rw",
];

async function makeStore(): Promise<void> {
  await directory.ok(["database", "create", "shop"]);
  await directory.ok(["token", "key", "create"]);
}

/** Of a server on the store. */
function server(now: () => number = Date.now): Authenticator {
  const authenticator = openAuthenticator({ storeDirectory: directory.file("store") }, { now });
  if (authenticator === null) throw new Error("The store has no key");
  return authenticator;
}

describe("bough token create", () => {
  beforeEach(makeStore);

  test("prints a token that a server of the store accepts, for what was asked", async () => {
    const token = (await directory.ok(PREVIEWS)).trimEnd();
    const principal = await server().authenticate(token);
    const may = (branch: string) =>
      permits(principal, { action: "write", database: "shop", branch });
    expect([may("preview/7"), may("main"), may("preview/a/b")]).toEqual([true, false, false]);
    expect(permits(principal, { action: "admin", database: "shop", branch: "preview/7" })).toBe(
      false,
    );
  });

  test("is good for 30 days, or as long as it is told", async () => {
    const lifetime = async (...words: string[]): Promise<number | null> => {
      const { token } = (await directory.json([...PREVIEWS, ...words])) as Created;
      const { issuedAt, expiresAt } = (await directory.json(["token", "inspect", token])) as Record<
        string,
        string | null
      >;
      return expiresAt === null ? null : Date.parse(expiresAt ?? "") - Date.parse(issuedAt ?? "");
    };
    expect(await lifetime()).toBe(30 * 86_400_000);
    expect(await lifetime("--ttl", "1h30m")).toBe(5_400_000);
    expect(await lifetime("--ttl", "forever")).toBeNull();
  });

  test("without a branch is for all, with several databases and branches for each of each", async () => {
    const scopes = async (...words: string[]) => {
      const { scopes: all } = (await directory.json([
        "token",
        "create",
        "--access",
        "ro",
        ...words,
      ])) as {
        scopes: { database: string; branch: string }[];
      };
      return all.map(({ database, branch }) => `${database} ${branch}`);
    };
    expect(await scopes("--database", "shop")).toEqual(["shop **"]);
    expect(
      await scopes(
        "--database",
        "shop",
        "--database",
        "crm-*",
        "--branch",
        "main",
        "--branch",
        "dev/**",
      ),
    ).toEqual(["shop main", "shop dev/**", "crm-* main", "crm-* dev/**"]);
  });

  test("may read other branches beside, of each database", async () => {
    const words = ["--database", "shop", "--database", "crm", "--branch", "preview/*"];
    const options = [...words, "--access", "admin", "--also-read", "main"];
    const made = await directory.json(["token", "create", ...options]);
    expect((made as { scopes: unknown }).scopes).toEqual([
      { database: "shop", branch: "preview/*", access: "admin" },
      { database: "shop", branch: "main", access: "ro" },
      { database: "crm", branch: "preview/*", access: "admin" },
      { database: "crm", branch: "main", access: "ro" },
    ]);
  });

  test("signs with the key that is given, by option, by variable, or a secret", async () => {
    const pair = ed25519Pair();
    writeFileSync(directory.file("my.pem"), privatePem(pair));
    writeFileSync(directory.file("secret"), "a secret that is long enough for HS256!\n");
    const by = new Authenticator({ keys: [new TestKeys(publicPem(pair))], revocations: null });
    const optioned = await directory.ok([...PREVIEWS, "--signing-key", directory.file("my.pem")]);
    const variable = await directory.ok(PREVIEWS, {
      env: { BOUGH_SIGNING_KEY_FILE: directory.file("my.pem") },
    });
    for (const token of [optioned, variable])
      expect(await by.authenticate(token.trimEnd())).toBeDefined();
    const secret = (
      await directory.ok([...PREVIEWS, "--secret-file", directory.file("secret")])
    ).trimEnd();
    const withSecret = openAuthenticator({
      storeDirectory: null,
      secretFiles: [directory.file("secret")],
    });
    expect(await withSecret?.authenticate(secret)).toBeDefined();
  });

  test.each([
    [["--branch", "a**"], 'branch "a**": "**" stands alone'],
    [["--branch", "preview/?"], 'the character "?" is not allowed'],
    [["--database", "shop/main"], 'has no "/"'],
    [["--ttl", "soon"], 'Cannot read --ttl "soon"'],
    [["--ttl", "-5"], 'Cannot read --ttl "-5": a duration is written without a minus'],
    [["--ttl", "0"], "a second is the least"],
    [["--access", "root"], "Allowed choices are ro, rw, admin"],
    [["--key-file", "x"], "the key for tokens is --signing-key"],
    [["--signing-key", "x", "--secret-file", "y"], "one signature"],
  ])("refuses %j", async (words, message) => {
    expect(await directory.fails(2, [...PREVIEWS, ...words])).toContain(message);
  });

  test("refuses more scopes than a token can hold", async () => {
    const branches = Array.from({ length: 200 }, () => ["--branch", "x".repeat(30)]).flat();
    const { exitCode, stderr } = await directory.bough([...PREVIEWS, ...branches]);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining("give it fewer scopes")]);
  });

  test("wants a database and an access", async () => {
    expect(await directory.fails(2, ["token", "create", "--access", "ro"])).toContain("--database");
    expect(await directory.fails(2, ["token", "create", "--database", "shop"])).toContain(
      "--access",
    );
  });

  test("refuses a public key", async () => {
    writeFileSync(directory.file("pub.pem"), publicPem(ed25519Pair()));
    expect(
      await directory.fails(1, [...PREVIEWS, "--signing-key", directory.file("pub.pem")]),
    ).toContain("tokens are signed with the private key");
  });
});

test("without a signing key, says how to make one, and makes nothing", async () => {
  const message = await directory.fails(1, PREVIEWS);
  expect(message).toContain("bough token key create");
  expect(readdirSync(directory.path)).toEqual([]);
  expect(await directory.fails(1, [...PREVIEWS, "--store", "s3://bucket/prefix"])).toContain(
    'store "s3://bucket/prefix" has no',
  );
});

describe("bough token key create", () => {
  test("makes a pair that only the owner may read", async () => {
    mkdirSync(directory.file("keys"));
    const path = directory.file("keys/ci.pem");
    await directory.ok(["token", "key", "create", path]);
    expect(readdirSync(directory.file("keys")).sort()).toEqual(["ci.pem", "ci.pub.pem"]);
    for (const name of ["ci.pem", "ci.pub.pem"])
      expect(statSync(directory.file(`keys/${name}`)).mode & 0o777).toBe(0o600);
    const token = (await directory.ok([...PREVIEWS, "--signing-key", path])).trimEnd();
    const by = openAuthenticator({
      storeDirectory: null,
      keyFiles: [directory.file("keys/ci.pub.pem")],
    });
    expect(await by?.authenticate(token)).toBeDefined();
  });

  test("never takes the place of a key, and leaves no half of a pair", async () => {
    writeFileSync(directory.file("old.pem"), "precious");
    expect(
      await directory.fails(1, ["token", "key", "create", directory.file("old.pem")]),
    ).toContain(`"${directory.file("old.pem")}" exists, and is kept`);
    expect(readFileSync(directory.file("old.pem"), "utf8")).toBe("precious");
    writeFileSync(directory.file("new.pub.pem"), "precious");
    await directory.fails(1, ["token", "key", "create", directory.file("new.pem")]);
    expect(readdirSync(directory.path).sort()).toEqual(["new.pub.pem", "old.pem"]);
  });

  test("wants a store, or a file", async () => {
    expect(await directory.fails(1, ["token", "key", "create"])).toContain("there is no store");
    expect(await directory.fails(2, ["token", "key", "create", "--store", "s3://b/p"])).toContain(
      "in object storage",
    );
    expect(readdirSync(directory.path)).toEqual([]);
  });

  test("a second time says that the keys are kept, and what to do", async () => {
    await makeStore();
    const path = directory.file("store/token-key.pub.pem");
    const before = readFileSync(path, "utf8");
    expect(await directory.fails(1, ["token", "key", "create"])).toBe(
      `Cannot make a pair of keys: "${path}" exists, and is kept; sign tokens with the keys that are there, or give another file for new ones`,
    );
    expect(readFileSync(path, "utf8")).toBe(before);
    expect(await directory.fails(2, ["token", "key", "create", ""])).toContain("FILE is empty");
  });

  test("in a store is in nobody's way", async () => {
    await makeStore();
    await directory.ok(["sql", "shop", "CREATE TABLE t(a)"]);
    expect(await directory.ok(["check", "--deep"])).toContain("No damage");
  });
});

describe("bough token inspect", () => {
  beforeEach(makeStore);

  test("prints what a token says and allows", async () => {
    const words = [...PREVIEWS, "--subject", "ci", "--issuer", "us", "--audience", "bough"];
    const { token, id, expiresAt } = (await directory.json(words)) as Created;
    const text = await directory.ok(["token", "inspect", token]);
    for (const line of [
      `id:        ${id}`,
      "subject:   ci",
      `expires:   ${expiresAt}`,
      "signature: not checked",
      "allows:    rw shop preview/*",
    ])
      expect(text.split("\n")).toContain(line);
    expect(await directory.json(["token", "inspect", token])).toMatchObject({
      id,
      subject: "ci",
      issuer: "us",
      audience: ["bough"],
      algorithm: "EdDSA",
      expiresAt,
      isExpired: false,
      signature: "not checked",
      scopes: [{ database: "shop", branch: "preview/*", access: "rw" }],
    });
  });

  test("checks the signature with a public key, and reads stdin", async () => {
    const token = await directory.ok(PREVIEWS);
    const words = ["token", "inspect", "-", "--public-key"];
    const own = directory.file("store/token-key.pub.pem");
    expect(await directory.ok([...words, own], { stdin: token })).toContain("signature: good");
    writeFileSync(directory.file("other.pem"), publicPem(ed25519Pair()));
    expect(
      await directory.fails(1, [...words, directory.file("other.pem")], { stdin: token }),
    ).toBe("Cannot accept the token: no key of this server has signed it");
  });

  test("says whether the token is revoked, as far as a list is there", async () => {
    const { token, id } = (await directory.json(PREVIEWS)) as Created;
    const own = directory.file("store/revoked-tokens.json");
    const lineOf = async (words: readonly string[] = []): Promise<string | undefined> =>
      /^revoked: +(.*)$/m.exec(await directory.ok(["token", "inspect", token, ...words]))?.[1];
    expect(await lineOf()).toBe(`no, says "${own}"`);
    await directory.ok(["token", "revoke", id]);
    expect(await lineOf()).toBe(`yes, says "${own}"`);
    const inspected = ["token", "inspect", token];
    expect(await directory.json(inspected)).toMatchObject({ isRevoked: true, revocations: own });

    const other = directory.file("list.json");
    await directory.ok(["token", "revoke", "another", "--revocations", other]);
    expect(await lineOf(["--revocations", other])).toBe(`no, says "${other}"`);

    for (const elsewhere of [
      ["--store", directory.file("none")],
      ["--store", "s3://bucket/shop"],
    ])
      expect(await lineOf(elsewhere)).toBe("not known");
    expect(
      await directory.json(inspected, { env: { BOUGH_STORE: "", BOUGH_URL: "http://127.0.0.1" } }),
    ).toMatchObject({ isRevoked: null, revocations: null });
  });

  test("with a list that is not there, or is none, says so instead of no", async () => {
    const { token } = (await directory.json(PREVIEWS)) as Created;
    const list = directory.file("list.json");
    const words = ["token", "inspect", token, "--revocations", list];
    expect(await directory.fails(1, words)).toBe(
      `Cannot read the list of revoked tokens "${list}": there is no such file`,
    );
    writeFileSync(list, "{");
    expect(await directory.fails(1, words)).toBe(
      `Cannot read the list of revoked tokens "${list}": it is no JSON`,
    );
  });

  test("says that a token has expired, allows nothing, or is none; what it says does not steer the terminal", async () => {
    const pair = ed25519Pair();
    const text = await directory.ok([
      "token",
      "inspect",
      tokenOf(pair, { exp: 1, sub: "a\u001B[2Jb", jti: "x" }),
    ]);
    expect(text).toContain("This token has expired");
    expect(text).toContain("allows:    nothing");
    expect(text).toContain("subject:   a?[2Jb");
    expect(await directory.fails(1, ["token", "inspect", "words"])).toContain("no signed JWT");
    expect(await directory.fails(1, ["token", "inspect", tokenOf(pair, { bough: 1 })])).toContain(
      'its claim "bough"',
    );
  });
});

describe("bough token revoke", () => {
  beforeEach(makeStore);

  test("by id or by token: a server that runs refuses it a second later", async () => {
    let nowMs = Date.now();
    const running = server(() => nowMs);
    const tokens = [
      (await directory.json(PREVIEWS)) as Created,
      (await directory.json(PREVIEWS)) as Created,
    ];
    const [first, second] = tokens;
    const principals = await Promise.all(tokens.map(({ token }) => running.authenticate(token)));
    expect(await directory.ok(["token", "revoke", first?.id ?? ""])).toMatch(/^Revoked token "/);
    expect(await directory.ok(["token", "revoke", first?.id ?? ""])).toContain(
      "is revoked already",
    );
    expect(
      await directory.json(["token", "revoke", "-"], { stdin: second?.token ?? "" }),
    ).toMatchObject({
      revoked: second?.id,
      isNew: true,
    });
    nowMs += 1000;
    for (const [index, { token }] of tokens.entries()) {
      await expect(running.authenticate(token)).rejects.toMatchObject({ code: "AUTH_REVOKED" });
      expect(principals[index] && running.isCurrent(principals[index])).toBe(false);
    }
    const list = JSON.parse(readFileSync(directory.file("store/revoked-tokens.json"), "utf8")) as {
      tokens: { expiresAt: string | null }[];
    };
    expect(list.tokens.map(({ expiresAt }) => expiresAt)).toEqual([null, second?.expiresAt]);
  });

  test("the time in a forged token does not count", async () => {
    const { id } = (await directory.json(PREVIEWS)) as Created;
    const forged = tokenOf(ed25519Pair(), { jti: id, exp: 1 });
    await directory.ok(["token", "revoke", forged]);
    expect(readFileSync(directory.file("store/revoked-tokens.json"), "utf8")).toContain(
      '"expiresAt":null',
    );
  });

  test("a token without an id, and another list", async () => {
    const pair = ed25519Pair();
    const token = tokenOf(pair, { a: "ro" });
    const file = directory.file("list.json");
    await directory.ok(["token", "revoke", token, "--revocations", file]);
    writeFileSync(directory.file("pub.pem"), publicPem(pair));
    const by = openAuthenticator({
      storeDirectory: null,
      keyFiles: [directory.file("pub.pem")],
      revocationsFile: file,
    });
    await expect(by?.authenticate(token)).rejects.toMatchObject({ code: "AUTH_REVOKED" });
  });

  test("wants a store, or a list, and an id", async () => {
    expect(
      await directory.fails(1, ["token", "revoke", "x", "--store", directory.file("none")]),
    ).toContain("there is no store");
    expect(await directory.fails(2, ["token", "revoke", ""])).toContain("this is no id");
    writeFileSync(directory.file("list.json"), "{");
    expect(
      await directory.fails(1, [
        "token",
        "revoke",
        "x",
        "--revocations",
        directory.file("list.json"),
      ]),
    ).toContain("it is no JSON");
  });
});
