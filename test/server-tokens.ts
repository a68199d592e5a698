/** Tokens for a server in a test: a key pair of its own, a clock that the test moves, and a list of what is revoked. */
import { SignJWT } from "jose";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Access, tokenAccess } from "../src/server/access.ts";
import { Authenticator } from "../src/server/access/authenticator.ts";
import { createKeyFiles } from "../src/server/access/key-files.ts";
import { KeyFile } from "../src/server/access/key-source.ts";
import { parseSigningKey, type TokenKey } from "../src/server/access/token-key.ts";

export class TokenWorld implements Disposable {
  nowMs: number = Date.parse("2026-11-30T12:00:00Z");
  readonly revoked: Set<string> = new Set();
  readonly #directory = mkdtempSync(join(tmpdir(), "bough-keys-"));
  readonly #key: TokenKey;

  constructor() {
    const { privateKey } = createKeyFiles(this.file("key.pem"));
    this.#key = parseSigningKey({ bytes: readFileSync(privateKey), source: "key.pem" });
  }

  file(name: string): string {
    return join(this.#directory, name);
  }

  access(): Access {
    const now = (): number => this.nowMs;
    const keys = [new KeyFile(this.file("key.pub.pem"), { now })];
    return tokenAccess(new Authenticator({ keys, revocations: this.revoked, now }));
  }

  async token(
    claims: object,
    { ttlS = 3600, id = "" }: { readonly ttlS?: number; readonly id?: string } = {},
  ): Promise<string> {
    const jwt = new SignJWT({ ...claims })
      .setProtectedHeader({ alg: "EdDSA" })
      .setExpirationTime(Math.floor(this.nowMs / 1000) + ttlS);
    if (id !== "") jwt.setJti(id);
    return await jwt.sign(this.#key.key);
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}

export function scope(database: string, branch: string, access: string): object {
  return { bough: [{ database, branch, access }] };
}
