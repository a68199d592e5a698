import { createHmac, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import {
  ed25519Pair,
  keysOf,
  part,
  publicJwk,
  publicPem,
  START_MS,
  TestClock,
  TestKeys,
  type TestPair,
  tokenOf,
} from "../../testing/token-fixture.ts";
import { Authenticator, type AuthenticatorOptions } from "./authenticator.ts";
import { createToken } from "./create-token.ts";
import { permits, type Principal } from "./principal.ts";
import { authUnavailable, type InvalidReason } from "./refusal.ts";
import { parseSigningKey } from "./token-key.ts";
import { tokenId, TOKEN_LENGTH_MAX } from "./token-text.ts";

const pair = ed25519Pair();
let clock: TestClock;
let keys: TestKeys;

beforeEach(() => {
  clock = new TestClock();
  keys = new TestKeys(publicPem(pair));
});

function authenticator(options: Partial<AuthenticatorOptions> = {}): Authenticator {
  return new Authenticator({ keys: [keys], revocations: null, now: clock.now, ...options });
}

const invalid = (reason: InvalidReason) =>
  expect.objectContaining({ code: "AUTH_INVALID", details: { reason } });
const withCode = (code: string) => expect.objectContaining({ code });

async function expectRefusal(
  token: string | null,
  refusal: unknown,
  by = authenticator(),
): Promise<void> {
  await expect(by.authenticate(token)).rejects.toEqual(refusal);
}

describe("a good token", () => {
  test("gives a principal with its scopes", async () => {
    const token = tokenOf(pair, {
      jti: "t1",
      sub: "ci",
      iss: "me",
      exp: clock.seconds(60),
      bough: [{ database: "shop", branch: "preview/*", access: "rw" }],
    });
    const principal = await authenticator().authenticate(token);
    expect(principal).toMatchObject({
      id: "t1",
      subject: "ci",
      issuer: "me",
      expiresAtMs: START_MS + 60_000,
    });
    expect(permits(principal, { action: "write", database: "shop", branch: "preview/1" })).toBe(
      true,
    );
    expect(permits(principal, { action: "read", database: "shop", branch: "main" })).toBe(false);
  });

  test.each(["EdDSA", "ES256", "RS256", "HS256"])(
    "is one signed with %s by createToken",
    async (algorithm) => {
      const pairs: Record<string, () => TestPair> = {
        EdDSA: () => generateKeyPairSync("ed25519"),
        ES256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
        RS256: () => generateKeyPairSync("rsa", { modulusLength: 2048 }),
      };
      const secret = JSON.stringify({ kty: "oct", k: "A".repeat(43), kid: "k" });
      const made = pairs[algorithm]?.();
      const [publicText, privateText] =
        made === undefined
          ? [secret, secret]
          : [publicJwk(made, "k"), { ...made.privateKey.export({ format: "jwk" }), kid: "k" }].map(
              (jwk) => JSON.stringify(jwk),
            );
      const key = parseSigningKey({ bytes: Buffer.from(privateText ?? ""), source: "a key" });
      const created = await createToken({
        key,
        scopes: [{ database: "shop", branch: "**", access: "admin" }],
        expiresAtMs: START_MS + 90_500,
        nowMs: START_MS,
        subject: "s",
        issuer: "i",
        audience: "a",
      });
      expect(created.expiresAtMs).toBe(START_MS + 90_000);
      keys = new TestKeys(publicText ?? "");
      const principal = await authenticator({ audience: "a", issuer: "i" }).authenticate(
        created.token,
      );
      expect(principal).toMatchObject({
        id: created.id,
        subject: "s",
        expiresAtMs: START_MS + 90_000,
      });
      expect(permits(principal, { action: "admin", database: "shop", branch: null })).toBe(true);
    },
  );

  test("without an id has a digest of what is signed for one, which no other spelling of the signature changes", async () => {
    const token = tokenOf(pair, { a: "ro" });
    const { id } = await authenticator().authenticate(token);
    expect(id).toMatch(/^sha256:[A-Za-z0-9_-]{43}$/);
    expect(tokenId(`${token.slice(0, token.lastIndexOf("."))}.other`, {})).toBe(id);
  });

  test("without claims may do nothing, or everything with data", async () => {
    const token = tokenOf(pair, {});
    expect((await authenticator().authenticate(token)).scopes).toEqual([]);
    const principal = await authenticator({ withoutClaims: "rw" }).authenticate(token);
    expect(permits(principal, { action: "write", database: "x", branch: "main" })).toBe(true);
    expect(permits(principal, { action: "admin", database: "x", branch: "main" })).toBe(false);
  });
});

describe("a bad token", () => {
  test("no token is AUTH_REQUIRED", () => expectRefusal(null, withCode("AUTH_REQUIRED")));

  test.each([
    ["", "malformed"],
    ["a", "malformed"],
    ["a.b", "malformed"],
    ["a.b.c", "malformed"],
    ["a.b.c.d.e", "malformed"],
    [`${part({ alg: "EdDSA" })}.${part({})}.`, "malformed"],
    [`${part([])}.${part({})}.AAAA`, "malformed"],
    [`${part({ alg: "EdDSA" })}=.${part({})}.AAAA`, "malformed"],
    [`${part({})}.${part({})}.AAAA`, "algorithm"],
    [`${part({ alg: "none" })}.${part({})}.AAAA`, "algorithm"],
    [`${part({ alg: "nOnE" })}.${part({})}.AAAA`, "algorithm"],
    [`${part({ alg: "HS512" })}.${part({})}.AAAA`, "algorithm"],
    [`${part({ alg: ["EdDSA"] })}.${part({})}.AAAA`, "algorithm"],
    [`${part({ alg: "toString" })}.${part({})}.AAAA`, "algorithm"],
    [`${part({ alg: "EdDSA" })}.${part({})}.AAAA`, "signature"],
    ["x".repeat(TOKEN_LENGTH_MAX + 1), "size"],
  ] as const)("%j is AUTH_INVALID: %s", (token, reason) => expectRefusal(token, invalid(reason)));

  test("one with another's signature, other claims or another header is not accepted", async () => {
    const other = ed25519Pair();
    const good = tokenOf(pair, { a: "ro" });
    const [header, payload, signature] = good.split(".");
    await expectRefusal(tokenOf(other, { a: "ro" }), invalid("signature"));
    await expectRefusal(`${header}.${part({ a: "rw" })}.${signature}`, invalid("signature"));
    await expectRefusal(
      `${part({ alg: "EdDSA", kid: "x" })}.${payload}.${signature}`,
      invalid("signature"),
    );
    expect((await authenticator().authenticate(good)).scopes).toHaveLength(1);
  });

  test("every changed character of the signature and the claims is seen", async () => {
    const token = tokenOf(pair, { a: "ro", id: "shop" });
    const by = authenticator();
    // The last character of a signature has bits to spare.
    for (let index = 0; index < token.length - 1; index++) {
      const changed = token[index] === "A" ? "B" : "A";
      const text = token.slice(0, index) + changed + token.slice(index + 1);
      await expectRefusal(text, withCode("AUTH_INVALID"), by);
    }
  });

  test("a public key is no secret: HS256 with its bytes is not accepted", async () => {
    const pem = publicPem(pair);
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
    keys = new TestKeys(pem, publicPem(rsa));
    const text = `${part({ alg: "HS256" })}.${part({ a: "rw" })}`;
    const { x = "" } = pair.publicKey.export({ format: "jwk" });
    for (const secret of [pem, pem.trim(), publicPem(rsa), Buffer.from(x, "base64url"), x]) {
      const signature = createHmac("sha256", secret).update(text).digest("base64url");
      await expectRefusal(`${text}.${signature}`, invalid("signature"));
    }
  });

  test("a key is used with its own algorithm only", async () => {
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
    keys = new TestKeys(publicPem(rsa));
    const signed = (alg: string, key: KeyObject, digest: string): string => {
      const text = `${part({ alg })}.${part({ a: "rw" })}`;
      return `${text}.${sign(digest, Buffer.from(text), key).toString("base64url")}`;
    };
    expect(
      (await authenticator().authenticate(signed("RS256", rsa.privateKey, "sha256"))).scopes,
    ).toHaveLength(1);
    await expectRefusal(signed("RS512", rsa.privateKey, "sha512"), invalid("algorithm"));
    await expectRefusal(signed("ES256", rsa.privateKey, "sha256"), invalid("signature"));
    await expectRefusal(signed("EdDSA", rsa.privateKey, "sha256"), invalid("signature"));
  });

  test("what it demands to be understood, and is not, refuses it", () =>
    expectRefusal(tokenOf(pair, {}, { alg: "EdDSA", crit: ["x"], x: 1 }), invalid("malformed")));

  test("claims that are no object, and times that are none, refuse it", async () => {
    for (const payload of [[], "a", 1, null])
      await expectRefusal(tokenOf(pair, payload), invalid("malformed"));
    for (const time of ["1", null, {}, true])
      for (const name of ["exp", "nbf", "iat"])
        await expect(
          authenticator().authenticate(tokenOf(pair, { [name]: time })),
          `${name} ${JSON.stringify(time)}`,
        ).rejects.toMatchObject({ code: expect.stringMatching(/^AUTH_(INVALID|EXPIRED)$/) });
    const text = `${part({ alg: "EdDSA" })}.${Buffer.from('{"exp":1e999}').toString("base64url")}`;
    const signature = sign(null, Buffer.from(text), pair.privateKey).toString("base64url");
    await expectRefusal(`${text}.${signature}`, invalid("claims"));
  });

  test("bad claims are told only to who has a good signature", async () => {
    const expired = { exp: clock.seconds(-3600), bough: "broken" };
    await expectRefusal(tokenOf(ed25519Pair(), expired), invalid("signature"));
    await expectRefusal(tokenOf(pair, expired), withCode("AUTH_EXPIRED"));
    await expectRefusal(tokenOf(pair, { bough: "broken" }), invalid("claims"));
  });

  test("no refusal shows the token", async () => {
    const tokens = [
      "secret.secret.secret",
      tokenOf(ed25519Pair(), { a: "rw" }),
      "secret".repeat(3000),
    ];
    for (const token of tokens) {
      const error = await authenticator()
        .authenticate(token)
        .catch((thrown: unknown) => thrown);
      for (const piece of token.split("."))
        expect(JSON.stringify([String(error), error])).not.toContain(piece);
    }
  });
});

describe("times, audience, issuer", () => {
  const LEEWAY_S = 10;

  test("exp, nbf and iat are met within ten seconds", async () => {
    const accepted = async (payload: object): Promise<boolean> =>
      authenticator()
        .authenticate(tokenOf(pair, payload))
        .then(
          () => true,
          () => false,
        );
    expect(await accepted({ exp: clock.seconds(-LEEWAY_S + 1) })).toBe(true);
    expect(await accepted({ exp: clock.seconds(-LEEWAY_S) })).toBe(false);
    expect(await accepted({ nbf: clock.seconds(LEEWAY_S) })).toBe(true);
    expect(await accepted({ nbf: clock.seconds(LEEWAY_S + 1) })).toBe(false);
    expect(await accepted({ iat: clock.seconds(LEEWAY_S) })).toBe(true);
    expect(await accepted({ iat: clock.seconds(LEEWAY_S + 1) })).toBe(false);
    await expectRefusal(tokenOf(pair, { nbf: clock.seconds(60) }), invalid("immature"));
    await expectRefusal(tokenOf(pair, { iat: clock.seconds(60) }), invalid("immature"));
  });

  test("audience and issuer must fit where they are set", async () => {
    const strict = authenticator({ audience: "bough", issuer: "https://issuer" });
    const good = { aud: ["x", "bough"], iss: "https://issuer" };
    expect(await strict.authenticate(tokenOf(pair, good))).toMatchObject({
      issuer: "https://issuer",
    });
    await expectRefusal(tokenOf(pair, { ...good, aud: "x" }), invalid("audience"), strict);
    await expectRefusal(tokenOf(pair, { iss: good.iss }), invalid("audience"), strict);
    await expectRefusal(
      tokenOf(pair, { ...good, iss: "https://other" }),
      invalid("issuer"),
      strict,
    );
    await expectRefusal(tokenOf(pair, { aud: "bough" }), invalid("issuer"), strict);
    expect(await authenticator().authenticate(tokenOf(pair, good))).toBeDefined();
  });
});

describe("several keys", () => {
  const second = ed25519Pair();

  test("each verifies its own tokens, with and without ids", async () => {
    keys = new TestKeys(publicPem(pair), JSON.stringify(publicJwk(second, "two")));
    const by = authenticator();
    const accepted = async (signer: TestPair, kid?: string): Promise<boolean> =>
      by
        .authenticate(
          tokenOf(signer, { a: "ro" }, { alg: "EdDSA", ...(kid === undefined ? {} : { kid }) }),
        )
        .then(
          () => true,
          () => false,
        );
    expect(await accepted(pair)).toBe(true);
    expect(await accepted(pair, "unknown")).toBe(true);
    expect(await accepted(second)).toBe(true);
    expect(await accepted(second, "two")).toBe(true);
    expect(await accepted(second, "one")).toBe(false);
    expect(await accepted(ed25519Pair(), "two")).toBe(false);
  });

  test("a token that none has signed makes the sources look for newer ones, once", async () => {
    keys.next = keysOf(publicPem(second));
    const token = tokenOf(second, { a: "ro" }, { alg: "EdDSA", kid: "new" });
    expect(await authenticator().authenticate(token)).toBeDefined();
    expect(keys.refreshCount).toBe(1);
    await expectRefusal(tokenOf(ed25519Pair(), {}), invalid("signature"));
    expect(keys.refreshCount).toBe(2);
  });

  test("a forged token with the id of a key does not", async () => {
    keys = new TestKeys(JSON.stringify(publicJwk(pair, "one")));
    await expectRefusal(tokenOf(second, {}, { alg: "EdDSA", kid: "one" }), invalid("signature"));
    expect(keys.refreshCount).toBe(0);
  });

  test("as long as a source has no keys, it is not said that a token is bad", async () => {
    const down = {
      keys: () => [],
      failure: authUnavailable("the keys cannot be fetched", null),
      refresh: () => Promise.resolve(),
    };
    const by = authenticator({ keys: [down, keys] });
    expect(await by.authenticate(tokenOf(pair, { a: "ro" }))).toBeDefined();
    await expectRefusal(tokenOf(second, { a: "ro" }), withCode("AUTH_UNAVAILABLE"), by);
  });
});

describe("after the first time", () => {
  const revoked = new Set<string>();
  const revocations = { has: (id: string) => revoked.has(id) };

  beforeEach(() => revoked.clear());

  async function expectCurrent(
    by: Authenticator,
    principal: Principal,
    refusal: unknown,
  ): Promise<void> {
    expect(by.isCurrent(principal)).toBe(refusal === null);
    if (refusal === null) await by.requireCurrent(principal);
    else await expect(by.requireCurrent(principal)).rejects.toEqual(refusal);
  }

  test("the principal is remembered", async () => {
    const by = authenticator();
    const token = tokenOf(pair, { a: "ro" });
    expect(by.remembered(token)).toBeNull();
    const principal = await by.authenticate(token);
    expect(by.remembered(token)).toBe(principal);
    expect(await by.authenticate(token)).toBe(principal);
    expect(by.remembered(`${token}x`)).toBeNull();
  });

  test("until the token expires", async () => {
    const by = authenticator();
    const token = tokenOf(pair, { exp: clock.seconds(60) });
    const principal = await by.authenticate(token);
    clock.advance(69_999);
    await expectCurrent(by, principal, null);
    clock.advance(1);
    await expectCurrent(by, principal, withCode("AUTH_EXPIRED"));
    expect(by.remembered(token)).toBeNull();
    await expectRefusal(token, withCode("AUTH_EXPIRED"), by);
  });

  test("until it is revoked", async () => {
    const by = authenticator({ revocations });
    const token = tokenOf(pair, { jti: "t" });
    const principal = await by.authenticate(token);
    revoked.add("t");
    await expectCurrent(by, principal, withCode("AUTH_REVOKED"));
    await expectRefusal(token, withCode("AUTH_REVOKED"), by);
    revoked.clear();
    const nameless = await by.authenticate(tokenOf(pair, { a: "ro" }));
    revoked.add(nameless.id ?? "");
    await expectRefusal(tokenOf(pair, { a: "ro" }), withCode("AUTH_REVOKED"), by);
  });

  test("until its key is withdrawn, and not when the same key was read again", async () => {
    const by = authenticator();
    const token = tokenOf(pair, { a: "ro" });
    const principal = await by.authenticate(token);
    keys.list = keysOf(publicPem(pair));
    await expectCurrent(by, principal, null);
    keys.list = keysOf(publicPem(ed25519Pair()));
    await expectCurrent(by, principal, invalid("signature"));
    await expectRefusal(token, invalid("signature"), by);
    expect(keys.refreshCount).toBe(2);
  });

  test("no token is accepted while nobody can say what was revoked", async () => {
    let isBroken = false;
    const by = authenticator({
      revocations: {
        has: () => {
          if (isBroken) throw authUnavailable("the list cannot be read", null);
          return false;
        },
      },
    });
    const token = tokenOf(pair, { a: "ro" });
    const principal = await by.authenticate(token);
    isBroken = true;
    await expectCurrent(by, principal, withCode("AUTH_UNAVAILABLE"));
    await expectRefusal(token, withCode("AUTH_UNAVAILABLE"), by);
    isBroken = false;
    expect(await by.authenticate(token)).toBeDefined();
  });

  test("only so many are remembered, the least recently used are not", async () => {
    const by = authenticator({ rememberedMax: 2 });
    const [first = "", second = "", third = ""] = ["1", "2", "3"].map((jti) =>
      tokenOf(pair, { jti }),
    );
    await by.authenticate(first);
    await by.authenticate(second);
    expect(by.remembered(first)?.id).toBe("1");
    await by.authenticate(third);
    expect([first, second, third].map((token) => by.remembered(token)?.id)).toEqual([
      "1",
      undefined,
      "3",
    ]);
  });

  test("bad tokens are not", async () => {
    const by = authenticator({ revocations });
    revoked.add("t");
    for (const token of [
      tokenOf(pair, { jti: "t" }),
      tokenOf(ed25519Pair(), {}),
      tokenOf(pair, { a: 1 }),
    ]) {
      await expectRefusal(token, expect.anything(), by);
      expect(by.remembered(token)).toBeNull();
    }
  });
});
