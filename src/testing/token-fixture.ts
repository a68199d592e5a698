/** Keys, tokens and a clock for tests of access control. */
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import type { KeySource } from "../server/access/key-source.ts";
import { parseVerificationKeys, type TokenKey } from "../server/access/token-key.ts";

/** 2026-01-01T00:00:00Z. */
export const START_MS = 1_767_225_600_000;

export class TestClock {
  nowMs: number = START_MS;
  readonly now = (): number => this.nowMs;

  /** Seconds since 1970, `after` seconds from now. */
  seconds(after = 0): number {
    return Math.floor(this.nowMs / 1000) + after;
  }

  advance(ms: number): void {
    this.nowMs += ms;
  }
}

export interface TestPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

export function ed25519Pair(): TestPair {
  return generateKeyPairSync("ed25519");
}

export function publicPem(pair: TestPair): string {
  return pair.publicKey.export({ type: "spki", format: "pem" }).toString();
}

export function privatePem(pair: TestPair): string {
  return pair.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

export function publicJwk(pair: TestPair, kid?: string): Record<string, unknown> {
  return { ...pair.publicKey.export({ format: "jwk" }), ...(kid === undefined ? {} : { kid }) };
}

/** A token signed with Ed25519 by hand, with whatever header and claims. */
export function tokenOf(
  pair: TestPair,
  payload: unknown,
  header: Readonly<Record<string, unknown>> = { alg: "EdDSA" },
): string {
  const text = `${part(header)}.${part(payload)}`;
  return `${text}.${sign(null, Buffer.from(text), pair.privateKey).toString("base64url")}`;
}

export function part(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

/** Keys that the test holds in its hand. */
export class TestKeys implements KeySource {
  readonly failure = null;
  list: readonly TokenKey[];
  refreshCount = 0;
  /** What a refresh brings. */
  next: readonly TokenKey[] | null = null;

  constructor(...texts: readonly string[]) {
    this.list = texts.flatMap((text) => keysOf(text));
  }

  keys(): readonly TokenKey[] {
    return this.list;
  }

  refresh(): Promise<void> {
    this.refreshCount++;
    this.list = this.next ?? this.list;
    return Promise.resolve();
  }
}

export function keysOf(text: string): TokenKey[] {
  return parseVerificationKeys({ bytes: Buffer.from(text), source: "a test's key" });
}
