/** What a token says before its signature is looked at: nothing here may be relied on. */
import { hash } from "node:crypto";
import { authInvalid } from "./refusal.ts";
import type { TokenAlgorithm } from "./token-key.ts";

/** Characters, which are bytes. Node takes 16 KiB of headers. */
export const TOKEN_LENGTH_MAX = 8_192;

const ALGORITHMS: readonly string[] = [
  "EdDSA",
  "ES256",
  "RS256",
  "HS256",
] satisfies TokenAlgorithm[];

export interface TokenHeader {
  readonly algorithm: TokenAlgorithm;
  readonly keyId: string | null;
}

/** Throws AUTH_INVALID. */
export function decodeHeader(token: string): TokenHeader {
  if (token.length > TOKEN_LENGTH_MAX)
    throw authInvalid("size", `it has more than ${TOKEN_LENGTH_MAX} characters`);
  const header = decodePart(partsOf(token).header);
  const { alg, kid } = header;
  if (!isAlgorithm(alg))
    throw authInvalid("algorithm", `its algorithm is none of ${ALGORITHMS.join(", ")}`);
  return { algorithm: alg, keyId: typeof kid === "string" ? kid : null };
}

/** Throws AUTH_INVALID. The header and the claims, unverified. */
export function decodeToken(token: string): {
  readonly header: Record<string, unknown>;
  readonly payload: Record<string, unknown>;
} {
  if (token.length > TOKEN_LENGTH_MAX)
    throw authInvalid("size", `it has more than ${TOKEN_LENGTH_MAX} characters`);
  const { header, payload } = partsOf(token);
  return { header: decodePart(header), payload: decodePart(payload) };
}

/** Of a token with these claims, see V6 of authenticator.ts. */
export function tokenId(token: string, payload: { readonly jti?: unknown }): string {
  const { jti } = payload;
  if (typeof jti === "string" && jti !== "") return jti;
  const signed = token.slice(0, token.lastIndexOf("."));
  return `sha256:${hash("sha256", signed, "base64url")}`;
}

function partsOf(token: string): { readonly header: string; readonly payload: string } {
  const parts = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+$/.exec(token);
  const [, header, payload] = parts ?? [];
  if (header === undefined || payload === undefined)
    throw authInvalid("malformed", "it is no signed JWT");
  return { header, payload };
}

function decodePart(part: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch {
    // Its text may be somebody's: the parser's message, which quotes it, is not passed on.
  }
  throw authInvalid("malformed", "it is no signed JWT");
}

function isAlgorithm(value: unknown): value is TokenAlgorithm {
  return typeof value === "string" && ALGORITHMS.includes(value);
}
