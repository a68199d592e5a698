/**
 * The tokens that were revoked before they expire: a file of JSON, in the store's directory unless it is said otherwise.
 *
 *   { "bough": "revoked-tokens", "format": 1,
 *     "tokens": [ { "id": "...", "revokedAt": time, "expiresAt": time | null }, ... ] }
 *
 *   id          "jti" of the token, or "sha256:..." (authenticator.ts) of one that has none
 *   time        ISO 8601, UTC
 *   expiresAt   of the token, null when that was not known; a day after it the entry is dropped by the next change
 *
 * Unknown members are left out of account, another format is refused.
 *
 * R1. A running server sees a change within a second, and so do its open connections.
 * R2. No file: nothing is revoked. A file that cannot be read or understood: no token is accepted until it is mended, since any may be in it.
 * R3. The file is replaced as a whole, and changes by several processes at once are all kept (update-file.ts).
 */
import { basename, dirname } from "node:path";
import { StoreError } from "../../errors.ts";
import { openNodeStorage } from "../../storage/node-storage.ts";
import type { Storage } from "../../storage/storage.ts";
import { updateFileSync } from "../../storage/update-file.ts";
import { readFileSync } from "../../storage/whole-file.ts";
import { authUnavailable } from "./refusal.ts";
import { WatchedFile } from "./watched-file.ts";

export const REVOCATIONS_FILE = "revoked-tokens.json";
export const REVOKED_MAX = 100_000;
const FILE_BYTES_MAX = 32 * 1024 * 1024;
const FORMAT = 1;
export const ID_LENGTH_MAX = 256;
/** Longer than any clock is off. */
const KEPT_AFTER_EXPIRY_MS = 86_400_000;

export interface RevokedToken {
  readonly id: string;
  readonly revokedAt: string;
  readonly expiresAt: string | null;
}

export class Revocations {
  readonly #file: WatchedFile<ReadonlySet<string>>;

  constructor(options: {
    readonly storage: Storage;
    readonly path: string;
    readonly now: () => number;
  }) {
    this.#file = new WatchedFile({
      ...options,
      bytesMax: FILE_BYTES_MAX,
      parse: (bytes) => new Set(parseRevocations(bytes, options.path).map(({ id }) => id)),
    });
  }

  /** Throws AUTH_UNAVAILABLE (R2). */
  has(id: string): boolean {
    return this.#ids().has(id);
  }

  #ids(): ReadonlySet<string> {
    try {
      return this.#file.value();
    } catch (cause) {
      throw authUnavailable("the list of revoked tokens cannot be read", cause);
    }
  }
}

export function openRevocations(path: string, now: () => number = Date.now): Revocations {
  return new Revocations({ storage: openNodeStorage(dirname(path)), path: basename(path), now });
}

/** Durable when it returns. False when the token is in the list already. */
export function revokeToken(
  path: string,
  token: { readonly id: string; readonly expiresAtMs: number | null; readonly nowMs: number },
): boolean {
  const { id, expiresAtMs, nowMs } = token;
  if (id === "" || id.length > ID_LENGTH_MAX)
    throw new RangeError(`Cannot revoke a token: its id has 1 to ${ID_LENGTH_MAX} characters`);
  let isNew = false;
  updateFileSync(path, (bytes) => {
    const before = parseRevocations(bytes, path);
    isNew = before.every((entry) => entry.id !== id);
    if (!isNew) return null;
    const kept = before.filter(
      ({ expiresAt }) => expiresAt === null || Date.parse(expiresAt) + KEPT_AFTER_EXPIRY_MS > nowMs,
    );
    if (kept.length >= REVOKED_MAX)
      throw new StoreError(
        "LIMIT",
        `Cannot revoke a token: the list has ${kept.length} already; sign new tokens with a new key instead`,
      );
    const expiresAt = expiresAtMs === null ? null : new Date(expiresAtMs).toISOString();
    const added = { id, revokedAt: new Date(nowMs).toISOString(), expiresAt };
    return encodeRevocations([...kept, added]);
  });
  return isNew;
}

export function encodeRevocations(tokens: readonly RevokedToken[]): Uint8Array {
  const lines = tokens.map((token) => `    ${JSON.stringify(token)}`).join(",\n");
  return Buffer.from(
    `{\n  "bough": "revoked-tokens",\n  "format": ${FORMAT},\n  "tokens": [\n${lines}\n  ]\n}\n`,
  );
}

/** What the list says now; null: there is no file. Throws StoreError. */
export function readRevocations(path: string): RevokedToken[] | null {
  const storage = openNodeStorage(dirname(path));
  const name = basename(path);
  return storage.existsSync(name) ? parseRevocations(readFileSync(storage, name), path) : null;
}

/** Null: there is no file. Throws StoreError for what is no such list. */
export function parseRevocations(
  bytes: Uint8Array | null,
  path: string = REVOCATIONS_FILE,
): RevokedToken[] {
  if (bytes === null) return [];
  const damaged = (fact: string, cause?: unknown): StoreError =>
    new StoreError("IO", `Cannot read the list of revoked tokens "${path}": ${fact}`, { cause });
  const json = parseJson(bytes, (cause) => damaged("it is no JSON", cause));
  if (!isObject(json) || json["bough"] !== "revoked-tokens") throw damaged("it is none");
  if (json["format"] !== FORMAT)
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read the list of revoked tokens "${path}": its format is ${JSON.stringify(json["format"])}, this bough reads ${FORMAT}`,
    );
  const { tokens } = json;
  if (!Array.isArray(tokens)) throw damaged("it has no tokens");
  return tokens.map((entry: unknown) => {
    if (!isObject(entry)) throw damaged("an entry is no object");
    const { id, revokedAt, expiresAt } = entry;
    if (typeof id !== "string" || !isTime(revokedAt) || (expiresAt !== null && !isTime(expiresAt)))
      throw damaged("an entry has no id or times");
    return { id, revokedAt, expiresAt };
  });
}

function parseJson(bytes: Uint8Array, refusal: (cause: unknown) => StoreError): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw refusal(cause);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTime(value: unknown): value is string {
  return typeof value === "string" && !Number.isNaN(Date.parse(value));
}
