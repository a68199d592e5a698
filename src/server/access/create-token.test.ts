import { expect, test } from "vitest";
import { ed25519Pair, privatePem, START_MS } from "../../testing/token-fixture.ts";
import { SCOPES_MAX } from "./claims.ts";
import { createToken, type NewToken } from "./create-token.ts";
import { parseSigningKey } from "./token-key.ts";
import { decodeToken } from "./token-text.ts";

const key = parseSigningKey({ bytes: Buffer.from(privatePem(ed25519Pair())), source: "a key" });
const scope = { database: "shop", branch: "preview/*", access: "rw" } as const;
const create = (options: Partial<NewToken> = {}) =>
  createToken({ key, scopes: [scope], expiresAtMs: null, nowMs: START_MS, ...options });

test("a token says what it is for and nothing more, and has an id of its own", async () => {
  const { token, id, expiresAtMs } = await create();
  expect(decodeToken(token)).toEqual({
    header: { alg: "EdDSA", typ: "JWT" },
    payload: { bough: [scope], jti: id, iat: START_MS / 1000 },
  });
  expect(expiresAtMs).toBeNull();
  expect((await create()).id).not.toBe(id);
  expect(id).toMatch(/^[A-Za-z0-9_-]{22}$/);
});

test("all that is asked for is in it", async () => {
  const extended = { ...scope, note: "dropped" };
  const { token, id } = await create({
    key: { ...key, id: "k1" },
    scopes: [extended],
    expiresAtMs: START_MS + 1999,
    subject: "s",
    issuer: "i",
    audience: "a",
  });
  const iat = START_MS / 1000;
  expect(decodeToken(token)).toEqual({
    header: { alg: "EdDSA", typ: "JWT", kid: "k1" },
    payload: { bough: [scope], jti: id, iat, exp: iat + 1, sub: "s", iss: "i", aud: "a" },
  });
});

test("what no server would accept is not signed", async () => {
  const scopes = (count: number) => Array.from({ length: count }, () => scope);
  await expect(create({ scopes: [] })).rejects.toThrow("1 to 256 scopes");
  await expect(create({ scopes: scopes(SCOPES_MAX + 1) })).rejects.toThrow("1 to 256 scopes");
  await expect(create({ scopes: scopes(SCOPES_MAX) })).rejects.toThrow("give it fewer scopes");
  await expect(create({ scopes: [scope, { ...scope, branch: "a**" }] })).rejects.toThrow(
    'branch "a**": "**" stands alone between slashes',
  );
});
