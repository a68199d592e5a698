/** What the formats of the log, chunks and history ask of encryption. A store without a key has no cipher (null). */
export interface StoreCipher {
  /** The data key that new bytes are sealed with: a number from 1 up, never reused within a store. */
  readonly activeKeyNumber: number;
  /**
   * AES-256-GCM. Returns ciphertext followed by the 16-byte tag. `context` separates uses ("chunk", "log", "history", "catalog"):
   * each has a key of its own, derived with HKDF-SHA256 from the data key, `context` and `salt`.
   */
  seal(options: SealOptions, plaintext: Uint8Array): Uint8Array;
  /** The plaintext; throws CipherError when the tag does not fit and StoreError KEY_WRONG when the key number is unknown. */
  open(options: OpenSealedOptions, sealed: Uint8Array): Uint8Array;
  /** HMAC-SHA256 under the store's address key (the same for ever, so that ids survive key rotation), first 16 bytes. */
  address(bytes: Uint8Array): Uint8Array;
}

export interface SealOptions {
  readonly context: "chunk" | "log" | "history" | "catalog";
  /** Separates derived keys: empty for chunks, the segment's random salt for the log. */
  readonly salt: Uint8Array;
  /** 12 bytes, never used twice with the same derived key. */
  readonly nonce: Uint8Array;
  readonly associatedData: Uint8Array;
  /** The active data key unless given. A file that names one key for all its parts keeps it through a rotation. */
  readonly keyNumber?: number;
}

export interface OpenSealedOptions extends SealOptions {
  readonly keyNumber: number;
}

export const SEAL_TAG_SIZE = 16;

/** Sealed bytes that do not open: damaged, or sealed for another place. Callers turn it into a CORRUPT_* StoreError. */
export class CipherError extends Error {
  override readonly name = "CipherError";
}
