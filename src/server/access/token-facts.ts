import { type AccessLevel, scopesOfClaims } from "./claims.ts";
import { decodeToken, tokenId } from "./token-text.ts";

/** What a token says of itself. Nobody has checked its signature. */
export interface TokenFacts {
  /** What revokes it. */
  readonly id: string;
  readonly algorithm: string | null;
  readonly keyId: string | null;
  readonly subject: string | null;
  readonly issuer: string | null;
  readonly audience: readonly string[];
  readonly issuedAt: Date | null;
  readonly notBefore: Date | null;
  readonly expiresAt: Date | null;
  readonly isExpired: boolean;
  readonly scopes: readonly {
    readonly database: string;
    readonly branch: string;
    readonly access: AccessLevel;
  }[];
}

/** Throws AUTH_INVALID for what is no token, or has claims that a server would not understand. */
export function readTokenFacts(token: string, nowMs: number): TokenFacts {
  const { header, payload } = decodeToken(token);
  const expiresAt = timeOf(payload["exp"]);
  const { aud } = payload;
  return {
    id: tokenId(token, payload),
    algorithm: textOf(header["alg"]),
    keyId: textOf(header["kid"]),
    subject: textOf(payload["sub"]),
    issuer: textOf(payload["iss"]),
    audience: (Array.isArray(aud) ? aud : [aud]).filter((each) => typeof each === "string"),
    issuedAt: timeOf(payload["iat"]),
    notBefore: timeOf(payload["nbf"]),
    expiresAt,
    isExpired: expiresAt !== null && expiresAt.getTime() <= nowMs,
    scopes: scopesOfClaims(payload, "nothing").map(({ database, branch, access }) => ({
      database: database.text,
      branch: branch.text,
      access,
    })),
  };
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function timeOf(seconds: unknown): Date | null {
  if (typeof seconds !== "number") return null;
  const time = new Date(seconds * 1000);
  return Number.isNaN(time.getTime()) ? null : time;
}
