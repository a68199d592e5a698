import { randomBytes } from "node:crypto";
import { faultOfScope, SCOPE_CLAIM, type ScopeClaim, SCOPES_MAX } from "./claims.ts";
import type { TokenKey } from "./token-key.ts";
import { TOKEN_LENGTH_MAX } from "./token-text.ts";

export interface NewToken {
  readonly key: TokenKey;
  /** At least one. */
  readonly scopes: readonly ScopeClaim[];
  /** Null: it never expires. Cut to whole seconds. */
  readonly expiresAtMs: number | null;
  readonly nowMs: number;
  readonly subject?: string;
  readonly issuer?: string;
  readonly audience?: string;
}

export interface CreatedToken {
  readonly token: string;
  /** "jti": what revokes it. */
  readonly id: string;
  readonly expiresAtMs: number | null;
}

const ID_SIZE = 16;

/** Signs a token with an id of its own. Rejects with RangeError for scopes that are none. */
export async function createToken(options: NewToken): Promise<CreatedToken> {
  const { key, scopes, nowMs, subject, issuer, audience } = options;
  requireScopes(scopes);
  const expiresAt = options.expiresAtMs === null ? null : Math.floor(options.expiresAtMs / 1000);
  const id = randomBytes(ID_SIZE).toString("base64url");
  const { SignJWT } = await import("jose");
  const claims = scopes.map(({ database, branch, access }) => ({ database, branch, access }));
  const jwt = new SignJWT({ [SCOPE_CLAIM]: claims })
    .setProtectedHeader({
      alg: key.algorithm,
      typ: "JWT",
      ...(key.id === null ? {} : { kid: key.id }),
    })
    .setJti(id)
    .setIssuedAt(Math.floor(nowMs / 1000));
  if (expiresAt !== null) jwt.setExpirationTime(expiresAt);
  if (subject !== undefined) jwt.setSubject(subject);
  if (issuer !== undefined) jwt.setIssuer(issuer);
  if (audience !== undefined) jwt.setAudience(audience);
  const token = await jwt.sign(key.key);
  if (token.length > TOKEN_LENGTH_MAX)
    throw new RangeError(
      `Cannot create a token: it would have ${token.length} characters, at most ${TOKEN_LENGTH_MAX} are accepted; give it fewer scopes`,
    );
  return { token, id, expiresAtMs: expiresAt === null ? null : expiresAt * 1000 };
}

function requireScopes(scopes: readonly ScopeClaim[]): void {
  if (scopes.length === 0 || scopes.length > SCOPES_MAX)
    throw new RangeError(`Cannot create a token: it has 1 to ${SCOPES_MAX} scopes`);
  for (const scope of scopes) {
    const fault = faultOfScope(scope);
    if (fault !== null) throw new RangeError(`Cannot create a token: ${fault}`);
  }
}
