/**
 * Where the keys come from that verify tokens: files, and JWK sets behind a URL.
 *
 * J1. A source gives the same list, the same object, until its keys change. Who compares lists therefore knows that none was withdrawn.
 * J2. A file that changes is read again. One that cannot be read any more leaves the keys as they were, and is reported.
 * J3. A URL is fetched when the server begins, or its keys are first needed, again every ten minutes while they are used, and when a
 *     token names a key that is not among them: then at most twice a minute, whatever is asked. One request runs at a time.
 * J4. Keys from a URL that could not be fetched again are used for an hour, then not any more.
 * J5. A request has a time limit and its answer a size limit, and it follows no redirection.
 */
import { basename, dirname } from "node:path";
import { StoreError } from "../../errors.ts";
import { openNodeStorage } from "../../storage/node-storage.ts";
import { isLoopbackHost } from "./listen-address.ts";
import { authUnavailable, keyInvalid } from "./refusal.ts";
import {
  KEY_BYTES_MAX,
  parsePublishedKeys,
  parseVerificationKeys,
  type TokenKey,
} from "./token-key.ts";
import { WatchedFile } from "./watched-file.ts";

export interface KeySource {
  /** The keys of now (J1); none when there are none that may be used. */
  keys(): readonly TokenKey[];
  /** Why there are none, when that may change. */
  readonly failure: StoreError | null;
  /** Looks for newer keys, unless that was done just now. Never rejects. */
  refresh(): Promise<void>;
}

export interface KeySourceOptions {
  readonly now?: () => number;
  /** Told what went wrong while the keys of before are used. */
  readonly onProblem?: (problem: unknown) => void;
}

export interface KeyFileOptions extends KeySourceOptions {
  /** The file holds a shared secret and nothing else. */
  readonly isSecret?: boolean;
}

export class KeyFile implements KeySource {
  readonly failure = null;
  readonly #file: WatchedFile<readonly TokenKey[]>;
  readonly #onProblem: (problem: unknown) => void;
  #keys: readonly TokenKey[];
  #problem: unknown = null;

  /** Throws TOKEN_KEY_INVALID, FILE_NOT_FOUND, PERMISSION, IO. */
  constructor(path: string, options: KeyFileOptions = {}) {
    const { now = Date.now, onProblem = () => {}, isSecret = false } = options;
    const source = `the file "${path}"`;
    this.#onProblem = onProblem;
    this.#file = new WatchedFile({
      storage: openNodeStorage(dirname(path)),
      path: basename(path),
      bytesMax: KEY_BYTES_MAX,
      now,
      parse: (bytes) => {
        if (bytes !== null) return parseVerificationKeys({ bytes, source, isSecret });
        throw new StoreError("FILE_NOT_FOUND", `Cannot use ${source} for tokens: it is not there`);
      },
    });
    this.#keys = this.#file.value();
  }

  keys(): readonly TokenKey[] {
    try {
      this.#keys = this.#file.value();
      this.#problem = null;
    } catch (problem) {
      if (problem !== this.#problem) this.#onProblem(problem);
      this.#problem = problem;
    }
    return this.#keys;
  }

  refresh(): Promise<void> {
    return Promise.resolve();
  }
}

export interface KeyUrlOptions extends KeySourceOptions {
  readonly timeoutMs?: number;
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

const NO_KEYS: readonly TokenKey[] = [];
const TIMEOUT_MS = 5_000;
const FRESH_MS = 10 * 60_000;
const STALE_MS = 60 * 60_000;
const AGAIN_MS = 30_000;
const AGAIN_AFTER_FAILURE_MS = 5_000;

export class KeyUrl implements KeySource {
  readonly #url: string;
  readonly #timeoutMs: number;
  readonly #fetch: NonNullable<KeyUrlOptions["fetch"]>;
  readonly #now: () => number;
  readonly #onProblem: (problem: unknown) => void;
  #keys: readonly TokenKey[] = NO_KEYS;
  #text = "";
  #loadedAtMs: number | null = null;
  #nextAtMs = -Infinity;
  #loading: Promise<void> | null = null;
  #failure: StoreError | null;

  /** Nothing is fetched yet. Throws TOKEN_KEY_INVALID for an address that is not to be used. */
  constructor(url: string, options: KeyUrlOptions = {}) {
    const { timeoutMs = TIMEOUT_MS, now = Date.now, onProblem = () => {} } = options;
    this.#url = checkedUrl(url);
    this.#timeoutMs = timeoutMs;
    this.#fetch = options.fetch ?? ((address, init) => fetch(address, init));
    this.#now = now;
    this.#onProblem = onProblem;
    this.#failure = authUnavailable("the keys were not fetched yet", null);
  }

  get failure(): StoreError | null {
    return this.#isUsable() ? null : this.#failure;
  }

  keys(): readonly TokenKey[] {
    const isOld = this.#loadedAtMs !== null && this.#now() - this.#loadedAtMs >= FRESH_MS;
    if (isOld) void this.refresh();
    return this.#isUsable() ? this.#keys : NO_KEYS;
  }

  async refresh(): Promise<void> {
    if (this.#loading === null) {
      if (this.#now() < this.#nextAtMs) return;
      this.#loading = this.#load().finally(() => {
        this.#loading = null;
      });
    }
    await this.#loading;
  }

  #isUsable(): boolean {
    return this.#loadedAtMs !== null && this.#now() - this.#loadedAtMs < STALE_MS;
  }

  async #load(): Promise<void> {
    try {
      const text = await this.#fetchText();
      const source = `the JWK set at "${this.#url}"`;
      const keys = parsePublishedKeys({ bytes: Buffer.from(text), source });
      if (text !== this.#text) this.#keys = keys;
      this.#text = text;
      this.#loadedAtMs = this.#now();
      this.#nextAtMs = this.#loadedAtMs + AGAIN_MS;
    } catch (cause) {
      this.#failure = authUnavailable(`the keys at "${this.#url}" cannot be fetched`, cause);
      this.#nextAtMs = this.#now() + AGAIN_AFTER_FAILURE_MS;
      this.#onProblem(this.#failure);
    }
  }

  async #fetchText(): Promise<string> {
    const response = await this.#fetch(this.#url, {
      headers: { accept: "application/jwk-set+json, application/json" },
      redirect: "error",
      signal: AbortSignal.timeout(this.#timeoutMs),
    });
    if (response.status !== 200) {
      await response.body?.cancel();
      throw new Error(`The answer has status ${response.status}`);
    }
    const pieces: Uint8Array[] = [];
    let size = 0;
    for await (const piece of response.body ?? []) {
      size += piece.byteLength;
      // Leaving the loop cancels the rest.
      if (size > KEY_BYTES_MAX) throw new Error(`The answer has more than ${KEY_BYTES_MAX} bytes`);
      pieces.push(piece);
    }
    return Buffer.concat(pieces).toString("utf8");
  }
}

/** Whoever can change the answer on its way signs tokens: only https, or this machine. */
function checkedUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const source = `the JWKS address ${JSON.stringify(text)}`;
  if (url === null) throw keyInvalid(source, "it is no URL");
  const isSafe =
    url.protocol === "https:" || (url.protocol === "http:" && isLoopbackHost(url.hostname));
  if (!isSafe) throw keyInvalid(source, "it is no https URL");
  if (url.username !== "" || url.password !== "")
    throw keyInvalid("the JWKS address", "it has a name or a password in it");
  return url.href;
}
