/** The certificate of the server and its private key, from files that are read again when they change: certificates are renewed. */
import { basename, dirname, resolve } from "node:path";
import { createSecureContext } from "node:tls";
import { StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import { WatchedFile } from "./access/watched-file.ts";

export interface TlsOptions {
  readonly cert: string;
  readonly key: string;
}

const BYTES_MAX = 1024 * 1024;

export class TlsFiles {
  readonly #cert: WatchedFile<string>;
  readonly #key: WatchedFile<string>;
  #used: TlsOptions;

  /** Throws TLS_INVALID. */
  constructor(paths: { readonly cert: string; readonly key: string }, now: () => number) {
    this.#cert = watched(paths.cert, now);
    this.#key = watched(paths.key, now);
    this.#used = this.#read();
  }

  /** What the server is to use. */
  get used(): TlsOptions {
    return this.#used;
  }

  /** Null: the same as before. Throws TLS_INVALID: those of before are used on; both files change, one after the other. */
  changed(): TlsOptions | null {
    const before = this.#used;
    const read = this.#read();
    if (read.cert === before.cert && read.key === before.key) return null;
    this.#used = read;
    return read;
  }

  #read(): TlsOptions {
    const options = { cert: this.#cert.value(), key: this.#key.value() };
    try {
      createSecureContext(options);
    } catch (cause) {
      throw invalid("the certificate and the private key do not fit", cause);
    }
    return options;
  }
}

function watched(path: string, now: () => number): WatchedFile<string> {
  const absolute = resolve(path);
  return new WatchedFile({
    storage: openNodeStorage(dirname(absolute)),
    path: basename(absolute),
    bytesMax: BYTES_MAX,
    now,
    parse: (bytes) => {
      if (bytes === null) throw invalid(`there is no file "${path}"`);
      return Buffer.from(bytes).toString("latin1");
    },
  });
}

function invalid(fact: string, cause?: unknown): StoreError {
  return new StoreError("TLS_INVALID", `Cannot serve over TLS: ${fact}`, { cause });
}
