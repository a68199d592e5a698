/**
 * From a token to a principal: who asks, and with which scopes.
 *
 *   text --decode header--> algorithm, key id --keys of that algorithm--> signature --> exp, nbf, iat, aud, iss --> claims --> principal
 *
 * V1. A token is verified with keys of the algorithm that it names, and a key has one algorithm (token-key.ts, K1). "none" is no algorithm.
 * V2. A key that says its id verifies only tokens with that id, or without any. A token that names an id is also tried with keys that have none.
 * V3. When no key fits, URL sources look for newer keys once (key-source.ts, J3), and the token is tried again.
 * V4. A token that was verified is remembered, by a digest, until it expires. Each use asks again whether it has expired, was revoked, and whether
 *     its key is still among the server's.
 * V5. A principal is good for as long as `requireCurrent` resolves: long connections ask before each piece of work.
 * V6. The id of a token is its "jti"; of one without, "sha256:" and the digest of what is signed (the signature itself could be varied).
 */
import { hash } from "node:crypto";
import type { JWTPayload } from "jose";
import { invariant, StoreError } from "../../errors.ts";
import { scopesOfClaims, type WithoutClaims } from "./claims.ts";
import type { KeySource } from "./key-source.ts";
import type { Principal } from "./principal.ts";
import { authExpired, authInvalid, authRequired, authRevoked, authUnavailable } from "./refusal.ts";
import type { TokenKey } from "./token-key.ts";
import { decodeHeader, TOKEN_LENGTH_MAX, type TokenHeader, tokenId } from "./token-text.ts";

export interface AuthenticatorOptions {
  readonly keys: readonly KeySource[];
  /** Throws AUTH_UNAVAILABLE when it cannot say. Null: nothing is ever revoked. */
  readonly revocations: { has(id: string): boolean } | null;
  /** Tokens must have this in "aud"; null: it is not looked at. */
  readonly audience?: string | null;
  /** Tokens must have this in "iss"; null: it is not looked at. */
  readonly issuer?: string | null;
  /** See claims.ts; by default "nothing". */
  readonly withoutClaims?: WithoutClaims;
  readonly now?: () => number;
  /** How far clocks may be apart. */
  readonly leewayMs?: number;
  /** Tokens that are remembered. */
  readonly rememberedMax?: number;
}

const LEEWAY_MS = 10_000;
const REMEMBERED_MAX = 4_096;

/** What a principal was made from. */
interface Origin {
  readonly key: TokenKey;
  readonly id: string;
}

export class Authenticator {
  readonly #sources: readonly KeySource[];
  readonly #options: AuthenticatorOptions;
  readonly #now: () => number;
  readonly #leewayMs: number;
  readonly #rememberedMax: number;
  /** By digest of the token, least recently used first. */
  readonly #remembered = new Map<string, Principal>();
  readonly #origins = new WeakMap<Principal, Origin>();

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
    this.#sources = options.keys;
    this.#now = options.now ?? Date.now;
    this.#leewayMs = options.leewayMs ?? LEEWAY_MS;
    this.#rememberedMax = options.rememberedMax ?? REMEMBERED_MAX;
  }

  /**
   * Rejects with AUTH_REQUIRED for null, AUTH_INVALID, AUTH_EXPIRED, AUTH_REVOKED, AUTH_UNAVAILABLE.
   */
  async authenticate(token: string | null): Promise<Principal> {
    if (token === null) throw authRequired();
    return this.remembered(token) ?? (await this.#verify(token));
  }

  /** Looks for the keys of URLs before a token needs them; what is wrong is told by then. Never throws. */
  prepare(): void {
    void this.#refresh();
  }

  /** Without waiting, for a token that was verified before; null: ask `authenticate`. */
  remembered(token: string): Principal | null {
    if (token.length > TOKEN_LENGTH_MAX) return null;
    const digest = hash("sha256", token, "base64url");
    const principal = this.#remembered.get(digest);
    if (principal === undefined) return null;
    this.#remembered.delete(digest);
    if (!this.isCurrent(principal)) return null;
    this.#remembered.set(digest, principal);
    return principal;
  }

  /** Whether `requireCurrent` would resolve, without waiting for newer keys. Never throws. */
  isCurrent(principal: Principal): boolean {
    try {
      const { key } = this.#requireAlive(principal);
      return this.#hasKey(key);
    } catch (error) {
      if (error instanceof StoreError) return false;
      throw error;
    }
  }

  /** Rejects with AUTH_EXPIRED, AUTH_REVOKED, AUTH_UNAVAILABLE, or AUTH_INVALID when its key was withdrawn. */
  async requireCurrent(principal: Principal): Promise<void> {
    const { key } = this.#requireAlive(principal);
    if (this.#hasKey(key)) return;
    await this.#refresh();
    if (this.#hasKey(key)) return;
    throw this.#failure() ?? authInvalid("signature", "its key is not the server's any more");
  }

  #requireAlive(principal: Principal): Origin {
    const origin = this.#origins.get(principal);
    invariant(origin !== undefined, "A principal is asked about where it was made");
    if (principal.expiresAtMs !== null && principal.expiresAtMs + this.#leewayMs <= this.#now())
      throw authExpired(principal.expiresAtMs);
    this.#requireNotRevoked(origin.id);
    return origin;
  }

  #requireNotRevoked(id: string): void {
    if (this.#options.revocations?.has(id) === true) throw authRevoked(id);
  }

  async #verify(token: string): Promise<Principal> {
    const header = decodeHeader(token);
    let verified = await this.#tryKeys(token, header);
    if (verified === null && (await this.#findNewerKeys(header)))
      verified = await this.#tryKeys(token, header);
    if (verified === null)
      throw this.#failure() ?? authInvalid("signature", "no key of this server has signed it");
    const principal = this.#principalOf(token, verified.payload);
    const id = principal.id ?? "";
    this.#origins.set(principal, { key: verified.key, id });
    this.#requireNotRevoked(id);
    this.#remember(token, principal);
    return principal;
  }

  /** Null when none of the keys has signed it. */
  async #tryKeys(
    token: string,
    header: TokenHeader,
  ): Promise<{ readonly payload: JWTPayload; readonly key: TokenKey } | null> {
    for (const key of this.#candidates(header)) {
      const payload = await this.#tryKey(token, key);
      if (payload !== null) return { payload, key };
    }
    return null;
  }

  async #tryKey(token: string, { key, algorithm }: TokenKey): Promise<JWTPayload | null> {
    const { errors, jwtVerify } = await import("jose");
    const { audience, issuer } = this.#options;
    try {
      const { payload } = await jwtVerify(token, key, {
        // The key was chosen for it; whoever changes how still cannot confuse them.
        algorithms: [algorithm],
        currentDate: new Date(this.#now()),
        clockTolerance: this.#leewayMs / 1000,
        ...(audience === undefined || audience === null ? {} : { audience }),
        ...(issuer === undefined || issuer === null ? {} : { issuer }),
      });
      return payload;
    } catch (error) {
      if (error instanceof errors.JWSSignatureVerificationFailed) return null;
      // Both come after the signature.
      if (error instanceof errors.JWTExpired) throw authExpired(expiryOf(error.payload) ?? 0);
      if (error instanceof errors.JWTClaimValidationFailed) throw claimRefusal(error.claim);
      if (error instanceof errors.JOSEError) throw authInvalid("malformed", "it is no JWT");
      throw error;
    }
  }

  /** See V1 and V2. */
  #candidates({ algorithm, keyId }: TokenHeader): TokenKey[] {
    return this.#sources
      .flatMap((source) => source.keys())
      .filter((key) => key.algorithm === algorithm)
      .filter(({ id }) => id === null || keyId === null || id === keyId);
  }

  /** False when there is no reason to: a published key has the token's id, and has not signed it. */
  async #findNewerKeys({ keyId }: TokenHeader): Promise<boolean> {
    const keys = this.#sources.flatMap((source) => source.keys());
    if (keyId !== null && keys.some(({ id }) => id === keyId)) return false;
    await this.#refresh();
    return true;
  }

  async #refresh(): Promise<void> {
    await Promise.all(this.#sources.map((source) => source.refresh()));
  }

  #principalOf(token: string, payload: JWTPayload): Principal {
    const issuedAtMs = timeOf(payload.iat);
    if (issuedAtMs !== null && issuedAtMs > this.#now() + this.#leewayMs)
      throw authInvalid("immature", 'its claim "iat" is in the future');
    const scopes = scopesOfClaims(payload, this.#options.withoutClaims ?? "nothing");
    return {
      id: tokenId(token, payload),
      subject: textOf(payload.sub),
      issuer: textOf(payload.iss),
      expiresAtMs: expiryOf(payload),
      scopes,
    };
  }

  #remember(token: string, principal: Principal): void {
    if (this.#remembered.size >= this.#rememberedMax) {
      const [oldest] = this.#remembered.keys();
      if (oldest !== undefined) this.#remembered.delete(oldest);
    }
    this.#remembered.set(hash("sha256", token, "base64url"), principal);
  }

  #hasKey({ key, algorithm, id }: TokenKey): boolean {
    return this.#sources.some((source) =>
      source
        .keys()
        .some(
          (other) =>
            other.key === key ||
            (other.algorithm === algorithm && other.id === id && other.key.equals(key)),
        ),
    );
  }

  #failure(): StoreError | null {
    for (const { failure } of this.#sources)
      if (failure !== null)
        return authUnavailable("keys that may have signed it cannot be fetched", failure);
    return null;
  }
}

/** Claims that are checked with the signature, in words. */
function claimRefusal(claim: string): Error {
  switch (claim) {
    case "aud":
      return authInvalid("audience", "it is for another audience");
    case "iss":
      return authInvalid("issuer", "it is by another issuer");
    case "nbf":
      return authInvalid("immature", 'it is not valid yet, as its claim "nbf" says');
    default:
      return authInvalid("claims", `its claim "${claim}" is not understood`);
  }
}

function expiryOf(payload: JWTPayload): number | null {
  return timeOf(payload.exp);
}

const TIME_MAX_MS = 8.64e15;

/** Throws AUTH_INVALID for a number that is no time. */
function timeOf(seconds: unknown): number | null {
  if (seconds === undefined) return null;
  const ms = typeof seconds === "number" ? seconds * 1000 : Number.NaN;
  if (Math.abs(ms) <= TIME_MAX_MS) return ms;
  throw authInvalid("claims", "a time in it is none");
}

function textOf(claim: unknown): string | null {
  return typeof claim === "string" ? claim : null;
}
