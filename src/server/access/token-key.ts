/**
 * Keys that sign and verify tokens, read from bytes.
 *
 *   form                                       verifies           signs
 *   PEM "PUBLIC KEY", one or several           yes                no
 *   PEM "PRIVATE KEY" (also "EC", "RSA")       refused            yes
 *   JWK, public                                yes                no
 *   JWK, private                               refused            yes
 *   JWK of kty "oct" (a secret)                yes                yes
 *   JWK set                                    each usable one    no
 *   32 bytes, raw, base64 or base64url         yes, as Ed25519    no
 *   secret file, when it is said to be one     yes                yes
 *
 * K1. A key has one algorithm, which follows from the key alone: Ed25519 EdDSA, P-256 ES256, RSA RS256, a secret HS256. What a token says
 *     chooses among keys of that algorithm, and never how a key is used.
 * K2. Bytes are a shared secret only where they say so (kty "oct") or the user does. A public key can therefore not be taken for a secret.
 * K3. What verifies is public, or a secret: a private key is refused, since it has no business on the server.
 * K4. RSA keys have 2048 bits or more, secrets 32 bytes or more.
 */
import {
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  type JsonWebKeyInput,
  type KeyObject,
} from "node:crypto";
import { StoreError } from "../../errors.ts";
import { keyInvalid } from "./refusal.ts";

export type TokenAlgorithm = "EdDSA" | "ES256" | "RS256" | "HS256";

export interface TokenKey {
  /** "kid" of a JWK; null when the key has none. */
  readonly id: string | null;
  readonly algorithm: TokenAlgorithm;
  readonly key: KeyObject;
}

export interface KeyBytes {
  readonly bytes: Uint8Array;
  /** For messages: 'the file "jwt.pem"'. */
  readonly source: string;
  /** The bytes are a shared secret as they stand, but for a line break at their end (K2). */
  readonly isSecret?: boolean;
}

/** In one file or JWK set. */
export const KEYS_MAX = 64;
export const KEY_BYTES_MAX: number = 256 * 1024;
const SECRET_SIZE_MIN = 32;
const RSA_BITS_MIN = 2048;
const ED25519_KEY_SIZE = 32;

type Purpose = "verify" | "sign";

/** Throws TOKEN_KEY_INVALID; there is at least one key. */
export function parseVerificationKeys(input: KeyBytes): TokenKey[] {
  const { bytes, source } = input;
  if (input.isSecret === true) return [secretKey(input)];
  if (bytes.length === ED25519_KEY_SIZE) return [ed25519Key(bytes, source)];
  const text = Buffer.from(bytes).toString("utf8").trim();
  if (text.startsWith("{")) return keysOfJson(text, source);
  if (text.includes("-----BEGIN")) return keysOfPem(text, source);
  if (/^[A-Za-z0-9+/_-]{43}=?$/.test(text))
    return [ed25519Key(Buffer.from(text, "base64"), source)];
  throw keyInvalid(
    source,
    "it holds no public key in PEM, no JWK or JWK set, and no Ed25519 public key in base64; a shared secret is given as one",
  );
}

/** Throws TOKEN_KEY_INVALID. */
export function parseSigningKey(input: KeyBytes): TokenKey {
  const { bytes, source } = input;
  if (input.isSecret === true) return secretKey(input);
  const text = Buffer.from(bytes).toString("utf8").trim();
  if (text.startsWith("{")) {
    const json = parseJson(text, source);
    if (isKeySet(json)) throw keyInvalid(source, "it is a JWK set; give one key");
    return keyOfJwk(json, { source, purpose: "sign" });
  }
  const [block] = pemBlocks(text);
  if (block === undefined)
    throw keyInvalid(source, "it holds no private key in PEM and no JWK; a secret is given as one");
  if (block.label.includes("ENCRYPTED") || block.text.includes("ENCRYPTED"))
    throw keyInvalid(source, "the key in it is encrypted; decrypt it first");
  if (!block.label.endsWith("PRIVATE KEY"))
    throw keyInvalid(
      source,
      `it holds a ${block.label.toLowerCase()}; tokens are signed with the private key`,
    );
  const key = attempt(source, "private key", () => createPrivateKey(block.text));
  return { id: null, algorithm: algorithmOf(key, source), key };
}

/**
 * The usable keys of a JWK set; what is for something else, or of a kind that is not supported, is passed over, and so are secrets: a set that
 * is published has none. Throws TOKEN_KEY_INVALID for what is no JWK set.
 */
export function parsePublishedKeys({ bytes, source }: KeyBytes): TokenKey[] {
  const json = parseJson(Buffer.from(bytes).toString("utf8"), source);
  if (!isKeySet(json)) throw keyInvalid(source, "it is no JWK set");
  return keysOfSet(json.keys, source).filter(({ algorithm }) => algorithm !== "HS256");
}

function secretKey({ bytes, source }: KeyBytes): TokenKey {
  let end = bytes.length;
  if (bytes[end - 1] === 0x0a) end--;
  if (end < bytes.length && bytes[end - 1] === 0x0d) end--;
  const key = createSecretKey(bytes.subarray(0, end));
  return { id: null, algorithm: algorithmOf(key, source), key };
}

function ed25519Key(bytes: Uint8Array, source: string): TokenKey {
  const jwk = { kty: "OKP", crv: "Ed25519", x: Buffer.from(bytes).toString("base64url") };
  return keyOfJwk(jwk, { source, purpose: "verify" });
}

function keysOfPem(text: string, source: string): TokenKey[] {
  const blocks = pemBlocks(text);
  requireCount(blocks.length, source);
  return blocks.map(({ label, text: block }) => {
    if (label.endsWith("PRIVATE KEY"))
      throw keyInvalid(source, "it holds a private key; the server needs the public one only");
    if (label !== "PUBLIC KEY" && label !== "RSA PUBLIC KEY")
      throw keyInvalid(source, `it holds a ${label.toLowerCase()}, and a public key is needed`);
    const key = attempt(source, "public key", () => createPublicKey(block));
    return { id: null, algorithm: algorithmOf(key, source), key };
  });
}

function pemBlocks(text: string): { readonly label: string; readonly text: string }[] {
  const blocks = text.matchAll(/-----BEGIN ([A-Z0-9 ]{1,40})-----[\s\S]*?-----END \1-----/g);
  return [...blocks].map((match) => ({ label: match[1] ?? "", text: match[0] }));
}

function keysOfJson(text: string, source: string): TokenKey[] {
  const json = parseJson(text, source);
  if (!isKeySet(json)) return [keyOfJwk(json, { source, purpose: "verify" })];
  const keys = keysOfSet(json.keys, source);
  requireCount(keys.length, source);
  return keys;
}

function keysOfSet(members: readonly unknown[], source: string): TokenKey[] {
  if (members.length > KEYS_MAX) requireCount(members.length, source);
  return members.flatMap((member) => {
    try {
      return [keyOfJwk(member, { source, purpose: "verify" })];
    } catch (error) {
      if (error instanceof StoreError) return [];
      throw error;
    }
  });
}

function requireCount(count: number, source: string): void {
  if (count === 0) throw keyInvalid(source, "it holds no key that can verify tokens");
  if (count > KEYS_MAX)
    throw keyInvalid(source, `it holds ${count} keys, at most ${KEYS_MAX} are allowed`);
}

function keyOfJwk(
  json: unknown,
  options: { readonly source: string; readonly purpose: Purpose },
): TokenKey {
  const { source, purpose } = options;
  if (!isObject(json)) throw keyInvalid(source, "it is no JWK");
  const { kid, use, alg, key_ops: operations } = json;
  if (use !== undefined && use !== "sig") throw keyInvalid(source, 'its "use" is not "sig"');
  if (Array.isArray(operations) && !operations.includes(purpose))
    throw keyInvalid(source, `its "key_ops" have no "${purpose}"`);
  const key = keyObjectOfJwk(json, options);
  const algorithm = algorithmOf(key, source);
  // RFC 9864 has a name of its own for EdDSA with Ed25519.
  if (alg !== undefined && alg !== algorithm && !(alg === "Ed25519" && algorithm === "EdDSA"))
    throw keyInvalid(source, `its "alg" is not ${algorithm}, which is what such a key is used for`);
  return { id: typeof kid === "string" ? kid : null, algorithm, key };
}

function keyObjectOfJwk(
  json: Record<string, unknown>,
  { source, purpose }: { readonly source: string; readonly purpose: Purpose },
): KeyObject {
  if (json["kty"] === "oct") {
    const secret = json["k"];
    if (typeof secret !== "string" || !/^[A-Za-z0-9_-]+$/.test(secret))
      throw keyInvalid(source, 'its "k" is no base64url');
    return createSecretKey(Buffer.from(secret, "base64url"));
  }
  const isPrivate = Object.hasOwn(json, "d");
  if (purpose === "verify" && isPrivate)
    throw keyInvalid(source, "it is a private JWK; the server needs the public one only");
  if (purpose === "sign" && !isPrivate)
    throw keyInvalid(source, "it is a public JWK; tokens are signed with the private one");
  const key = json as JsonWebKeyInput["key"];
  return attempt(source, "JWK", () =>
    purpose === "sign"
      ? createPrivateKey({ key, format: "jwk" })
      : createPublicKey({ key, format: "jwk" }),
  );
}

/** See K1 and K4. */
function algorithmOf(key: KeyObject, source: string): TokenAlgorithm {
  if (key.type === "secret") {
    const size = key.symmetricKeySize ?? 0;
    if (size >= SECRET_SIZE_MIN) return "HS256";
    throw keyInvalid(
      source,
      `the secret has ${size} bytes, at least ${SECRET_SIZE_MIN} are needed`,
    );
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === "ed25519") return "EdDSA";
  if (type === "ec" && details?.namedCurve === "prime256v1") return "ES256";
  if (type === "rsa") {
    const bits = details?.modulusLength ?? 0;
    if (bits >= RSA_BITS_MIN) return "RS256";
    throw keyInvalid(source, `the RSA key has ${bits} bits, at least ${RSA_BITS_MIN} are needed`);
  }
  throw keyInvalid(source, `keys of the kind ${details?.namedCurve ?? type} are not supported`);
}

function parseJson(text: string, source: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own message quotes the text, which may be a secret.
    throw keyInvalid(source, "it is no JSON");
  }
}

function isKeySet(json: unknown): json is { readonly keys: readonly unknown[] } {
  return isObject(json) && Array.isArray(json["keys"]);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function attempt(source: string, what: string, make: () => KeyObject): KeyObject {
  try {
    return make();
  } catch (cause) {
    throw keyInvalid(source, `the ${what} in it cannot be read`, cause);
  }
}
