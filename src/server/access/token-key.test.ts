import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  parsePublishedKeys,
  parseSigningKey,
  parseVerificationKeys,
  type TokenKey,
} from "./token-key.ts";

const source = "the test's key";
const ed25519 = generateKeyPairSync("ed25519");
const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const secret = "a secret that is long enough for HS256!";
const oct = { kty: "oct", k: Buffer.from(secret).toString("base64url") };

const publicPem = (key: KeyObject) => key.export({ type: "spki", format: "pem" }).toString();
const privatePem = (key: KeyObject) => key.export({ type: "pkcs8", format: "pem" }).toString();
const jwk = (key: KeyObject, more: object = {}) =>
  JSON.stringify({ ...key.export({ format: "jwk" }), ...more });
const verify = (text: string | Uint8Array, isSecret = false) =>
  parseVerificationKeys({
    bytes: typeof text === "string" ? Buffer.from(text) : text,
    source,
    isSecret,
  });
const sign = (text: string, isSecret = false) =>
  parseSigningKey({ bytes: Buffer.from(text), source, isSecret });
const kinds = (keys: readonly TokenKey[]) => keys.map(({ algorithm, id }) => `${algorithm} ${id}`);
const refusal = (fact: string) =>
  expect.objectContaining({ code: "TOKEN_KEY_INVALID", message: expect.stringContaining(fact) });

describe("keys that verify", () => {
  test("PEM, one or several of any kind", () => {
    const pems = [ed25519, p256, rsa].map(({ publicKey }) => publicPem(publicKey));
    expect(pems.flatMap((pem) => kinds(verify(pem)))).toEqual([
      "EdDSA null",
      "ES256 null",
      "RS256 null",
    ]);
    expect(kinds(verify(`# three keys\n${pems.join("\n")}`))).toEqual([
      "EdDSA null",
      "ES256 null",
      "RS256 null",
    ]);
    const pkcs1 = rsa.publicKey.export({ type: "pkcs1", format: "pem" }).toString();
    expect(kinds(verify(pkcs1))).toEqual(["RS256 null"]);
  });

  test("a JWK, with its id and what else it says of itself", () => {
    expect(kinds(verify(jwk(ed25519.publicKey, { kid: "k1", alg: "EdDSA", use: "sig" })))).toEqual([
      "EdDSA k1",
    ]);
    expect(kinds(verify(jwk(ed25519.publicKey, { alg: "Ed25519" })))).toEqual(["EdDSA null"]);
    expect(kinds(verify(jwk(p256.publicKey, { key_ops: ["verify"] })))).toEqual(["ES256 null"]);
    expect(kinds(verify(JSON.stringify(oct)))).toEqual(["HS256 null"]);
  });

  test("a JWK set, but for what is of no use", () => {
    const set = {
      keys: [
        JSON.parse(jwk(ed25519.publicKey, { kid: "a" })),
        JSON.parse(jwk(rsa.publicKey, { kid: "b", use: "enc" })),
        JSON.parse(jwk(rsa.publicKey, { kid: "c", alg: "PS256" })),
        JSON.parse(jwk(p256.privateKey, { kid: "d" })),
        { kty: "unheard-of" },
        "word",
        { ...oct, kid: "e" },
      ],
    };
    const bytes = Buffer.from(JSON.stringify(set));
    expect(kinds(parseVerificationKeys({ bytes, source }))).toEqual(["EdDSA a", "HS256 e"]);
    expect(kinds(parsePublishedKeys({ bytes, source }))).toEqual(["EdDSA a"]);
  });

  test("an Ed25519 key as sqld takes it, and as 32 bytes", () => {
    const { x = "" } = ed25519.publicKey.export({ format: "jwk" });
    const raw = Buffer.from(x, "base64url");
    for (const form of [x, `${x}\n`, raw.toString("base64"), new Uint8Array(raw)]) {
      const [key] = verify(form);
      expect(key?.algorithm).toBe("EdDSA");
      expect(key?.key.equals(ed25519.publicKey)).toBe(true);
    }
  });

  test("a secret only where it is said to be one", () => {
    expect(kinds(verify(secret, true))).toEqual(["HS256 null"]);
    expect(verify(`${secret}\r\n`, true)[0]?.key.symmetricKeySize).toBe(secret.length);
    expect(() => verify(secret)).toThrow(refusal("a shared secret is given as one"));
    expect(() => verify("too short", true)).toThrow(refusal("the secret has 9 bytes"));
    expect(() => verify(JSON.stringify({ kty: "oct", k: "c2hvcnQ" }))).toThrow(refusal("5 bytes"));
  });

  test.each<[string, string, string]>([
    ["nothing", "", "holds no public key"],
    ["a private PEM", privatePem(ed25519.privateKey), "holds a private key"],
    ["a private JWK", jwk(ed25519.privateKey), "private JWK"],
    [
      "a public and a private PEM",
      publicPem(p256.publicKey) + privatePem(p256.privateKey),
      "holds a private key",
    ],
    [
      "a certificate",
      "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
      "holds a certificate",
    ],
    [
      "PEM of nonsense",
      "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
      "cannot be read",
    ],
    ["half a PEM", publicPem(rsa.publicKey).slice(0, 200), "holds no key"],
    ["broken JSON", "{", "no JSON"],
    ["JSON that is no key", "{}", "cannot be read"],
    ["an empty set", '{"keys":[]}', "holds no key"],
    ["a set of 65", JSON.stringify({ keys: Array.from({ length: 65 }, () => oct) }), "65 keys"],
    [
      "another curve",
      publicPem(generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey),
      "secp384r1 are not supported",
    ],
    ["Ed448", publicPem(generateKeyPairSync("ed448").publicKey), "ed448 are not supported"],
    [
      "an RSA key for PSS",
      publicPem(generateKeyPairSync("rsa-pss", { modulusLength: 2048 }).publicKey),
      "rsa-pss are not supported",
    ],
    [
      "a small RSA key",
      publicPem(generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey),
      "1024 bits",
    ],
    ["a key for encryption", jwk(rsa.publicKey, { use: "enc" }), '"use"'],
    ["a key for signing", jwk(rsa.publicKey, { key_ops: ["sign"] }), '"key_ops"'],
    ["a key for another algorithm", jwk(rsa.publicKey, { alg: "RS512" }), "not RS256"],
    ["an RSA key that says HS256", jwk(rsa.publicKey, { alg: "HS256" }), "not RS256"],
  ])("%s is refused", (_, text, fact) => {
    expect(() => verify(text)).toThrow(refusal(fact));
  });
});

describe("keys that sign", () => {
  test("private PEM, private JWK, secrets", () => {
    expect(sign(privatePem(ed25519.privateKey)).algorithm).toBe("EdDSA");
    expect(sign(privatePem(rsa.privateKey)).algorithm).toBe("RS256");
    expect(sign(p256.privateKey.export({ type: "sec1", format: "pem" }).toString()).algorithm).toBe(
      "ES256",
    );
    expect(sign(jwk(ed25519.privateKey, { kid: "k" }))).toMatchObject({
      algorithm: "EdDSA",
      id: "k",
    });
    expect(sign(JSON.stringify(oct)).algorithm).toBe("HS256");
    expect(sign(secret, true).algorithm).toBe("HS256");
  });

  test.each<[string, string, string]>([
    ["a public PEM", publicPem(ed25519.publicKey), "holds a public key"],
    ["a public JWK", jwk(ed25519.publicKey), "public JWK"],
    ["a set", '{"keys":[]}', "one key"],
    [
      "an encrypted key",
      ed25519.privateKey
        .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" })
        .toString(),
      "encrypted",
    ],
    [
      "an encrypted key of the old form",
      rsa.privateKey
        .export({ type: "pkcs1", format: "pem", cipher: "aes-256-cbc", passphrase: "x" })
        .toString(),
      "encrypted",
    ],
    ["words", secret, "holds no private key"],
  ])("%s is refused", (_, text, fact) => {
    expect(() => sign(text)).toThrow(refusal(fact));
  });

  test("no message shows the key", () => {
    const broken = `{"kty":"oct","k":"${secret}"`;
    const attempts = [() => sign(broken), () => verify(broken), () => verify(`{"k":"${secret}`)];
    for (const attempt of attempts) {
      expect(attempt).toThrow(refusal("no JSON"));
      expect(attempt).not.toThrow(secret);
      // A parser's error quotes what it could not read.
      expect(attempt).not.toThrow(expect.objectContaining({ cause: expect.anything() }));
    }
  });
});
