/** The key that a store is opened with: found where the user put it, and turned into the store's cipher. */
import { CurrentCipher } from "../encryption/current-cipher.ts";
import { KeyRing } from "../encryption/key-ring.ts";
import { findMasterKey, type MasterKey } from "../encryption/master-key.ts";
import { StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { readFileSync } from "../storage/whole-file.ts";
import type { StoreHeader } from "./store-header.ts";
import type { StoreOptions } from "./store-options.ts";

/** The key given with the options or in the environment; null when none is. Throws KEY_INVALID. */
export function givenMasterKey({
  key,
  keyFile,
  environment = process.env,
}: StoreOptions): MasterKey | null {
  return findMasterKey({ key, keyFile, environment, readFile: readKeyFile });
}

/**
 * Null for a store that is not encrypted: a key given for that one is a mistake, one in the environment may be for others.
 * Throws KEY_REQUIRED, KEY_WRONG.
 */
export function openCipher(
  header: StoreHeader,
  master: MasterKey | null,
  options: StoreOptions,
): CurrentCipher | null {
  if (header.encryption !== null) return new CurrentCipher(KeyRing.open(header.encryption, master));
  if (options.key === undefined && options.keyFile === undefined) return null;
  throw new StoreError(
    "KEY_WRONG",
    "Cannot open store: a key was given and the store is not encrypted; open it without, or make a new store with the key and bring the data over",
  );
}

function readKeyFile(path: string): Uint8Array {
  const slash = Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\"));
  const directory = slash < 0 ? "." : path.slice(0, slash + 1);
  return readFileSync(openNodeStorage(directory), path.slice(slash + 1));
}
