import { join } from "node:path";
import { Authenticator } from "./authenticator.ts";
import type { WithoutClaims } from "./claims.ts";
import { publicKeyOfStore } from "./key-files.ts";
import { KeyFile, type KeySource, KeyUrl } from "./key-source.ts";
import { openRevocations, REVOCATIONS_FILE } from "./revocations.ts";

/** As the user says it; paths are of this process. */
export interface AccessSettings {
  /** The store's directory; null: it has none here. Its own public key counts, and it has the list of revoked tokens. */
  readonly storeDirectory: string | null;
  readonly keyFiles?: readonly string[];
  readonly secretFiles?: readonly string[];
  readonly jwksUrls?: readonly string[];
  /** Instead of the one in the store's directory. */
  readonly revocationsFile?: string;
  readonly audience?: string;
  readonly issuer?: string;
  readonly withoutClaims?: WithoutClaims;
}

export interface OpenAuthenticatorOptions {
  readonly now?: () => number;
  /** Told what went wrong while the keys of before are used; for the log. */
  readonly onProblem?: (problem: unknown) => void;
}

/**
 * Null: no key is configured, so there is no authentication. Throws TOKEN_KEY_INVALID and what a file cannot be read for, and
 * AUTH_UNAVAILABLE when the list of revoked tokens cannot be read.
 */
export function openAuthenticator(
  settings: AccessSettings,
  options: OpenAuthenticatorOptions = {},
): Authenticator | null {
  const { storeDirectory, keyFiles = [], secretFiles = [], jwksUrls = [] } = settings;
  const ownKey = storeDirectory === null ? null : publicKeyOfStore(storeDirectory);
  const keys: KeySource[] = [
    ...[...(ownKey === null ? [] : [ownKey]), ...keyFiles].map(
      (path) => new KeyFile(path, options),
    ),
    ...secretFiles.map((path) => new KeyFile(path, { ...options, isSecret: true })),
    ...jwksUrls.map((url) => new KeyUrl(url, options)),
  ];
  if (keys.length === 0) return null;
  const path =
    settings.revocationsFile ??
    (storeDirectory === null ? null : join(storeDirectory, REVOCATIONS_FILE));
  const revocations = path === null ? null : openRevocations(path, options.now);
  // What is damaged is said at the start, and not by each request.
  revocations?.has("");
  return new Authenticator({
    keys,
    revocations,
    audience: settings.audience ?? null,
    issuer: settings.issuer ?? null,
    withoutClaims: settings.withoutClaims ?? "nothing",
    ...(options.now === undefined ? {} : { now: options.now }),
  });
}
