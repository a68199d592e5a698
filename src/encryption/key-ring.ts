/**
 * The keys of an encrypted store. The master key (master-key.ts) only wraps the others, so that it can be changed
 * without touching what they sealed.
 *
 *   master key --HKDF "bough/v1/wrap"--> wrapping key --AES-256-GCM--> data keys 1, 2, ... and the address key
 *   data key --HKDF salt, "bough/v1/chunk" | "bough/v1/log" | "bough/v1/history" | "bough/v1/catalog"--> key that seals bytes
 *     (AES-256-GCM)
 *   address key --HMAC-SHA256, first 16 bytes--> ids of chunks, pages and nodes
 *   master key --HKDF "bough/v1/master-key-id", 8 bytes--> master key id, to tell a wrong key from damage
 *
 * HKDF is HKDF-SHA256 with 32 bytes of output and an empty salt where none is named. All keys have 32 random bytes.
 *
 * Nonces (12 bytes), never used twice with one key:
 *   chunk    no salt, so one key for all chunks of a data key; the nonce is random. At 2^32 chunks under one data key
 *            (1 PiB at 256 KiB each) rotate it: the chance of a repetition is then 2^-33.
 *   log      a random salt per segment gives each segment a key of its own; the nonce is the record's offset.
 *   history  a random salt per segment; the nonce is the block's offset.
 *   catalog  a random salt per run; the nonce is the block's offset.
 *   wrap     random; a few per rotation.
 *
 * As JSON, in the store's header:
 *   { "version": 1, "masterKeyId": hex, "activeKeyNumber": 1,
 *     "dataKeys": [{ "number": 1, "wrapped": base64 }], "addressKey": base64 }
 *   wrapped = nonce (12), ciphertext (32), tag (16); associated data "data key <number>" or "address key".
 *
 * Invariants
 * E1. A data key stays in the ring for ever, so that what it sealed can be read; only the active one seals, but for the rest
 *     of a file that was begun under another.
 * E2. Key numbers are 1, 2, 3 ... and never reused.
 * E3. The address key never changes: ids, and with them deduplication, survive every rotation.
 * E4. Nothing of a key appears in messages or ids.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { StoreError } from "../errors.ts";
import {
  CipherError,
  type OpenSealedOptions,
  SEAL_TAG_SIZE,
  type SealOptions,
  type StoreCipher,
} from "./cipher.ts";
import { MASTER_KEY_SIZE, type MasterKey } from "./master-key.ts";

const KEY_SIZE = 32;
const NONCE_SIZE = 12;
const ADDRESS_SIZE = 16;
const WRAPPED_SIZE = NONCE_SIZE + KEY_SIZE + SEAL_TAG_SIZE;
const ALGORITHM = "aes-256-gcm";
const ADDRESS_KEY_NAME = "address key";
/** Derived keys kept: one per segment of log or history being read or written. */
const DERIVED_KEYS_MAX = 1024;

export interface KeyRingJson {
  readonly version: 1;
  readonly masterKeyId: string;
  readonly activeKeyNumber: number;
  readonly dataKeys: readonly WrappedKey[];
  readonly addressKey: string;
}

export interface WrappedKey {
  readonly number: number;
  readonly wrapped: string;
}

export class KeyRing implements StoreCipher {
  readonly activeKeyNumber: number;
  readonly masterKeyId: string;
  /** Data key n stands at n - 1. */
  readonly #dataKeys: readonly Uint8Array[];
  readonly #addressKey: Uint8Array;
  readonly #addressKeyObject: KeyObject;
  readonly #json: KeyRingJson;
  readonly #derived = new Map<string, KeyObject>();

  private constructor(master: MasterKey, dataKeys: readonly Uint8Array[], addressKey: Uint8Array) {
    const wrappingKey = deriveWrappingKey(master);
    this.masterKeyId = master.id;
    this.activeKeyNumber = dataKeys.length;
    this.#dataKeys = dataKeys;
    this.#addressKey = addressKey;
    this.#addressKeyObject = createSecretKey(addressKey);
    this.#json = {
      version: 1,
      masterKeyId: master.id,
      activeKeyNumber: dataKeys.length,
      dataKeys: dataKeys.map((key, index) => ({
        number: index + 1,
        wrapped: wrap(wrappingKey, key, dataKeyName(index + 1)),
      })),
      addressKey: wrap(wrappingKey, addressKey, ADDRESS_KEY_NAME),
    };
  }

  /** A ring with one new data key and a new address key. */
  static create(master: MasterKey): KeyRing {
    return new KeyRing(master, [randomKey()], randomKey());
  }

  /**
   * `json` is what `toJSON` gave. KEY_REQUIRED without a key, KEY_WRONG when the ring was wrapped with another one (the
   * message has both ids), CORRUPT_HEADER when the ring does not parse or a key does not unwrap.
   */
  static open(json: unknown, master: MasterKey | null): KeyRing {
    const ring = parseKeyRing(json);
    const expected = ring.masterKeyId;
    if (master === null) {
      throw new StoreError(
        "KEY_REQUIRED",
        `Cannot open store: it is encrypted with key ${expected} and no key was given; give it with the option key or keyFile, with --key-file or in BOUGH_KEY`,
        {
          details: { expected },
        },
      );
    }
    if (master.id !== expected) {
      throw new StoreError(
        "KEY_WRONG",
        `Cannot open store: it is encrypted with key ${expected}, key ${master.id} was given`,
        {
          details: { expected, given: master.id },
        },
      );
    }
    const wrappingKey = deriveWrappingKey(master);
    const dataKeys = ring.dataKeys.map(({ number, wrapped }) =>
      unwrap(wrappingKey, wrapped, dataKeyName(number)),
    );
    return new KeyRing(master, dataKeys, unwrap(wrappingKey, ring.addressKey, ADDRESS_KEY_NAME));
  }

  /** To be stored; holds no key in the clear. */
  toJSON(): KeyRingJson {
    return this.#json;
  }

  /**
   * A ring with one more data key, the active one from now on, and all keys wrapped with `master` (the same as before or
   * another). This ring goes on working. Store the new one before anything is sealed with it.
   */
  rotate(master: MasterKey): KeyRing {
    return new KeyRing(master, [...this.#dataKeys, randomKey()], this.#addressKey);
  }

  seal(options: SealOptions, plaintext: Uint8Array): Uint8Array {
    const key = this.#deriveKey(options, options.keyNumber ?? this.activeKeyNumber);
    const cipher = createCipheriv(ALGORITHM, key, options.nonce, { authTagLength: SEAL_TAG_SIZE });
    cipher.setAAD(options.associatedData);
    const ciphertext = cipher.update(plaintext);
    cipher.final();
    const sealed = new Uint8Array(ciphertext.length + SEAL_TAG_SIZE);
    sealed.set(ciphertext);
    sealed.set(cipher.getAuthTag(), ciphertext.length);
    return sealed;
  }

  open(options: OpenSealedOptions, sealed: Uint8Array): Uint8Array {
    const key = this.#deriveKey(options, options.keyNumber);
    const size = sealed.length - SEAL_TAG_SIZE;
    if (size < 0)
      throw new CipherError(`Cannot open sealed bytes: ${sealed.length} are less than a tag`);
    const cipher = createDecipheriv(ALGORITHM, key, options.nonce, {
      authTagLength: SEAL_TAG_SIZE,
    });
    cipher.setAAD(options.associatedData);
    cipher.setAuthTag(sealed.subarray(size));
    const plaintext = cipher.update(sealed.subarray(0, size));
    try {
      cipher.final();
    } catch (cause) {
      throw new CipherError("Cannot open sealed bytes: the tag does not fit", { cause });
    }
    // A plain view: a Buffer's subarray is several times slower.
    return new Uint8Array(plaintext.buffer, plaintext.byteOffset, plaintext.length);
  }

  address(bytes: Uint8Array): Uint8Array {
    const digest = createHmac("sha256", this.#addressKeyObject).update(bytes).digest();
    return new Uint8Array(digest.subarray(0, ADDRESS_SIZE));
  }

  #deriveKey({ context, salt }: SealOptions, number: number): KeyObject {
    const name = `${context} ${number} ${Buffer.from(salt).toString("latin1")}`;
    const known = this.#derived.get(name);
    if (known !== undefined) return known;
    const dataKey = this.#dataKeys[number - 1];
    if (dataKey === undefined) {
      throw new StoreError(
        "KEY_WRONG",
        `Cannot open sealed bytes: data key ${number} is not among the ${this.#dataKeys.length} of this store`,
        { details: { expected: number } },
      );
    }
    const derived = hkdfSync("sha256", dataKey, salt, `bough/v1/${context}`, KEY_SIZE);
    const key = createSecretKey(new Uint8Array(derived));
    if (this.#derived.size >= DERIVED_KEYS_MAX) this.#derived.clear();
    this.#derived.set(name, key);
    return key;
  }
}

function randomKey(): Uint8Array {
  return new Uint8Array(randomBytes(KEY_SIZE));
}

function dataKeyName(number: number): string {
  return `data key ${number}`;
}

function deriveWrappingKey(master: MasterKey): Uint8Array {
  return new Uint8Array(
    hkdfSync("sha256", master.bytes, new Uint8Array(0), "bough/v1/wrap", MASTER_KEY_SIZE),
  );
}

function wrap(wrappingKey: Uint8Array, key: Uint8Array, name: string): string {
  const nonce = randomBytes(NONCE_SIZE);
  const cipher = createCipheriv(ALGORITHM, wrappingKey, nonce, { authTagLength: SEAL_TAG_SIZE });
  cipher.setAAD(Buffer.from(name));
  const ciphertext = Buffer.concat([cipher.update(key), cipher.final()]);
  return Buffer.concat([nonce, ciphertext, cipher.getAuthTag()]).toString("base64");
}

function unwrap(wrappingKey: Uint8Array, wrapped: string, name: string): Uint8Array {
  const bytes = Buffer.from(wrapped, "base64");
  if (bytes.length !== WRAPPED_SIZE || bytes.toString("base64") !== wrapped) {
    throw corruptRing(`its ${name} has ${bytes.length} bytes`);
  }
  const cipher = createDecipheriv(ALGORITHM, wrappingKey, bytes.subarray(0, NONCE_SIZE), {
    authTagLength: SEAL_TAG_SIZE,
  });
  cipher.setAAD(Buffer.from(name));
  cipher.setAuthTag(bytes.subarray(NONCE_SIZE + KEY_SIZE));
  try {
    const key = cipher.update(bytes.subarray(NONCE_SIZE, NONCE_SIZE + KEY_SIZE));
    cipher.final();
    return new Uint8Array(key);
  } catch (cause) {
    throw corruptRing(`its ${name} does not unwrap`, cause);
  }
}

function parseKeyRing(json: unknown): KeyRingJson {
  if (!isRecord(json)) throw corruptRing("it is not an object");
  const { version, masterKeyId, activeKeyNumber, dataKeys, addressKey } = json;
  if (version !== 1) {
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read key ring: version ${String(version)} is of a newer bough`,
    );
  }
  if (typeof masterKeyId !== "string" || !/^[0-9a-f]{16}$/.test(masterKeyId)) {
    throw corruptRing("its master key id is damaged");
  }
  if (typeof addressKey !== "string") throw corruptRing("its address key is missing");
  if (!Array.isArray(dataKeys) || dataKeys.length === 0 || activeKeyNumber !== dataKeys.length) {
    throw corruptRing("its data keys are not complete");
  }
  const wrappedKeys = dataKeys.map((entry: unknown, index): WrappedKey => {
    const number = isRecord(entry) ? entry["number"] : undefined;
    const wrapped = isRecord(entry) ? entry["wrapped"] : undefined;
    if (number !== index + 1 || typeof wrapped !== "string") {
      throw corruptRing(`its data key ${index + 1} is damaged`);
    }
    return { number, wrapped };
  });
  return { version, masterKeyId, activeKeyNumber, dataKeys: wrappedKeys, addressKey };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function corruptRing(what: string, cause?: unknown): StoreError {
  return new StoreError("CORRUPT_HEADER", `Cannot read key ring: ${what}`, { cause });
}
