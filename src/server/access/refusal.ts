/**
 * How access is refused. A refusal says which check failed, and never what a key, a token or another name is.
 *
 * F1. What is said about the inside of a token (its claims, its expiry) is said only after its signature was verified.
 * F2. FORBIDDEN is the same whether the thing exists or not.
 */
import { StoreError, type StoreErrorCode } from "../../errors.ts";

/** Why a token is AUTH_INVALID, as `details.reason`: stable, for programs and metrics. */
export type InvalidReason =
  /** The Authorization header holds something else than a bearer token. */
  | "scheme"
  /** The token stands in the URL. */
  | "url"
  | "size"
  | "malformed"
  /** Its algorithm is not among those that are accepted. */
  | "algorithm"
  /** No key of the server has signed it. */
  | "signature"
  | "immature"
  | "audience"
  | "issuer"
  | "claims";

export function authRequired(): StoreError {
  return new StoreError(
    "AUTH_REQUIRED",
    'Cannot serve the request: it has no token; send one as "Authorization: Bearer TOKEN"',
  );
}

/** `fact` follows a colon. */
export function authInvalid(reason: InvalidReason, fact: string): StoreError {
  return new StoreError("AUTH_INVALID", `Cannot accept the token: ${fact}`, {
    details: { reason },
  });
}

export function authExpired(expiresAtMs: number): StoreError {
  const expiresAt = new Date(expiresAtMs).toISOString();
  return new StoreError("AUTH_EXPIRED", `Cannot accept the token: it expired at ${expiresAt}`, {
    details: { expiresAt },
  });
}

export function authRevoked(id: string): StoreError {
  return new StoreError("AUTH_REVOKED", "Cannot accept the token: it was revoked", {
    details: { id },
  });
}

/** Nothing is known about the token: what decides about it cannot be read now. */
export function authUnavailable(fact: string, cause: unknown): StoreError {
  return new StoreError("AUTH_UNAVAILABLE", `Cannot verify tokens now: ${fact}`, {
    cause,
    retryable: true,
  });
}

export function keyInvalid(source: string, fact: string, cause?: unknown): StoreError {
  return new StoreError("TOKEN_KEY_INVALID", `Cannot use ${source} for tokens: ${fact}`, { cause });
}

interface HttpRefusal {
  readonly status: number;
  /** The value of Retry-After, in seconds. */
  readonly retryAfter?: string;
  /** The value of WWW-Authenticate (RFC 6750). */
  readonly challenge: string | null;
}

const NO_TOKEN: HttpRefusal = { status: 401, challenge: 'Bearer realm="bough"' };
const BAD_TOKEN: HttpRefusal = {
  status: 401,
  challenge: 'Bearer realm="bough", error="invalid_token"',
};
const HTTP_REFUSALS: ReadonlyMap<StoreErrorCode, HttpRefusal> = new Map([
  ["AUTH_REQUIRED", NO_TOKEN],
  ["AUTH_INVALID", BAD_TOKEN],
  ["AUTH_EXPIRED", BAD_TOKEN],
  ["AUTH_REVOKED", BAD_TOKEN],
  // A URL that has failed is fetched again after as long (key-source.ts).
  ["AUTH_UNAVAILABLE", { status: 503, challenge: null, retryAfter: "5" }],
  ["FORBIDDEN", { status: 403, challenge: null }],
]);

/** How HTTP says it; null for an error that is no refusal. */
export function httpRefusal(error: unknown): HttpRefusal | null {
  return error instanceof StoreError ? (HTTP_REFUSALS.get(error.code) ?? null) : null;
}
