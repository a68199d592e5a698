/**
 * The master key: 32 bytes that the user keeps. It is given as an option, in a file or in the environment, never stored,
 * and protects the store's own keys (key-ring.ts).
 *
 * Accepted forms: 32 bytes; 64 hexadecimal characters; base64 or base64url of 32 bytes, with or without padding. Text
 * may have white space around it. A file holds one of these forms.
 */
import { hkdfSync } from "node:crypto";
import { StoreError } from "../errors.ts";

export const MASTER_KEY_SIZE = 32;
export const MASTER_KEY_VARIABLE = "BOUGH_KEY";

export interface MasterKey {
  readonly bytes: Uint8Array;
  /** 16 hexadecimal characters that name the key without telling anything about it; see key-ring.ts. */
  readonly id: string;
}

export interface MasterKeySources {
  /** The option `key`. */
  readonly key?: Uint8Array | string | undefined;
  /** The option `keyFile`: a path, as the user wrote it. */
  readonly keyFile?: string | undefined;
  /** The environment, such as `process.env`. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Reads a whole file outside of the store. */
  readonly readFile: (path: string) => Uint8Array;
}

/** The key given, in this order: option, key file, environment; null when none is. Throws KEY_INVALID. */
export function findMasterKey(sources: MasterKeySources): MasterKey | null {
  const { key, keyFile, environment, readFile } = sources;
  if (key !== undefined) return parseMasterKey(key, "option key");
  if (keyFile !== undefined) return parseKeyFile(readFile(keyFile), keyFile);
  const variable = environment?.[MASTER_KEY_VARIABLE];
  // An empty variable is how a shell unsets one for a command.
  if (variable === undefined || variable === "") return null;
  return parseMasterKey(variable, `environment variable ${MASTER_KEY_VARIABLE}`);
}

/** `source` is for the message of KEY_INVALID, which never shows the key. */
export function parseMasterKey(key: Uint8Array | string, source = "key"): MasterKey {
  const bytes = typeof key === "string" ? parseText(key) : new Uint8Array(key);
  if (bytes === null || bytes.length !== MASTER_KEY_SIZE) {
    const given =
      typeof key === "string" ? `${key.trim().length} characters` : `${key.length} bytes`;
    throw new StoreError(
      "KEY_INVALID",
      `Cannot use ${source}: a key is 32 bytes, 64 hexadecimal characters or 32 bytes in base64, and this has ${given}`,
    );
  }
  return { bytes, id: masterKeyId(bytes) };
}

function parseKeyFile(content: Uint8Array, path: string): MasterKey {
  const source = `key file "${path}"`;
  if (content.length === MASTER_KEY_SIZE) return parseMasterKey(content, source);
  return parseMasterKey(Buffer.from(content).toString("latin1"), source);
}

function parseText(text: string): Uint8Array | null {
  const trimmed = text.trim();
  if (/^[0-9a-fA-F]{64}$/.test(trimmed)) return new Uint8Array(Buffer.from(trimmed, "hex"));
  if (!/^[0-9A-Za-z+/_-]{43}=?$/.test(trimmed)) return null;
  const bytes = Buffer.from(trimmed, "base64");
  // 43 characters have 2 bits to spare; a key that sets them was mistyped.
  const canonical = bytes.toString("base64url");
  if (canonical !== trimmed.replace("=", "").replaceAll("+", "-").replaceAll("/", "_")) return null;
  return new Uint8Array(bytes);
}

function masterKeyId(bytes: Uint8Array): string {
  const derived = hkdfSync("sha256", bytes, new Uint8Array(0), "bough/v1/master-key-id", 8);
  return Buffer.from(derived).toString("hex");
}
