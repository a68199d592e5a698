import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { StoreError } from "../../errors.ts";
import { openNodeStorage } from "../../storage/node-storage.ts";
import { createPrivateFileSync } from "../../storage/private-file.ts";
import { basename, dirname, join } from "node:path";

/** In a store's directory: where `bough token` looks when it is not told where the keys are, and `bough serve` too. */
export const PRIVATE_KEY_FILE = "token-key.pem";
export const PUBLIC_KEY_FILE = "token-key.pub.pem";

export interface KeyFiles {
  /** Signs: for who makes tokens. */
  readonly privateKey: string;
  /** Verifies: all that a server needs. */
  readonly publicKey: string;
}

/** Where the public half is put: "token-key.pub.pem" for "token-key.pem". */
export function publicKeyPath(privateKey: string): string {
  return `${privateKey.replace(/\.pem$/, "")}.pub.pem`;
}

/** Makes an Ed25519 pair, as PEM, in files that only their owner may read. Throws FILE_EXISTS when one of the names is taken. */
export function createKeyFiles(privateKey: string): KeyFiles {
  const publicKey = publicKeyPath(privateKey);
  const pair = generateKeyPairSync("ed25519");
  // The public half first: a crash in between leaves no private key that nobody knows of.
  createKeyFile(
    publicKey,
    pem(createPublicKey(pair.privateKey).export({ type: "spki", format: "pem" })),
  );
  try {
    createKeyFile(privateKey, pem(pair.privateKey.export({ type: "pkcs8", format: "pem" })));
  } catch (error) {
    openNodeStorage(dirname(publicKey)).deleteSync(basename(publicKey));
    throw error;
  }
  return { privateKey, publicKey };
}

function createKeyFile(path: string, bytes: Uint8Array): void {
  try {
    createPrivateFileSync(path, bytes);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "FILE_EXISTS") throw error;
    throw new StoreError(
      "FILE_EXISTS",
      `Cannot make a pair of keys: "${path}" exists, and is kept; sign tokens with the keys that are there, or give another file for new ones`,
      { cause: error, details: { path } },
    );
  }
}

/** The public key in the store's directory; null when it has none. */
export function publicKeyOfStore(directory: string): string | null {
  return openNodeStorage(directory).existsSync(PUBLIC_KEY_FILE)
    ? join(directory, PUBLIC_KEY_FILE)
    : null;
}

function pem(text: string | Buffer): Uint8Array {
  return Buffer.from(text);
}
