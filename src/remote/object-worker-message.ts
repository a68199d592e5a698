/**
 * What passes between a thread and the worker that owns the connections to its object storage (`remote-client.ts`,
 * `object-worker.ts`): calls and cancellations one way, one answer per call the other. Errors keep their code, message,
 * `retryable` and details.
 *
 * Three 32-bit counters are shared, for a thread that waits and so hears no events:
 *
 *   0  answers    Raised after each answer; what a waiting thread sleeps on.
 *   1  heartbeat  Raised all the time by a worker that lives.
 *   2  ended      1 once the worker has ended.
 */
import { inspect } from "node:util";
import type { MessagePort } from "node:worker_threads";

import { InvariantError, StoreError, type StoreErrorCode } from "../errors.ts";
import type { GetOptions, ListedObject, PutCondition, StoredObject } from "./object-store.ts";

export const ANSWERS = 0;
export const HEARTBEAT = 1;
export const ENDED = 2;
export const COUNTERS_SIZE = 12;

export interface WorkerSetup {
  readonly url: string;
  readonly options: unknown;
  /** URL of the module whose `openObjectStore(url, options)` is called. */
  readonly module: string;
  readonly port: MessagePort;
  readonly counters: SharedArrayBuffer;
}

export type ObjectCall =
  | { readonly op: "get"; readonly key: string; readonly range?: GetOptions["range"] }
  | {
      readonly op: "put";
      readonly key: string;
      readonly body: Uint8Array;
      readonly condition?: PutCondition;
    }
  | {
      readonly op: "list";
      readonly prefix: string;
      readonly startAfter?: string;
      readonly limit: number;
    }
  | { readonly op: "delete"; readonly keys: readonly string[] };

export type ToWorker =
  | { readonly kind: "call"; readonly id: number; readonly call: ObjectCall }
  | { readonly kind: "cancel"; readonly id: number }
  | { readonly kind: "close" };

export type ObjectResult =
  | { readonly op: "get"; readonly object: StoredObject | null }
  | { readonly op: "put"; readonly etag: string }
  | { readonly op: "list"; readonly objects: readonly ListedObject[]; readonly complete: boolean }
  | { readonly op: "delete" };

export type FromWorker =
  | { readonly id: number; readonly result: ObjectResult }
  | { readonly id: number; readonly error: PlainError };

/** An error as an object that can be cloned. */
export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly code?: StoreErrorCode;
  readonly retryable?: boolean;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly cause?: PlainError;
}

/** Causes of causes are rarely of use, and could go on for ever. */
const CAUSES_MAX = 4;

export function toPlainError(error: unknown, causes: number = CAUSES_MAX): PlainError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const cause =
    error.cause === undefined || causes === 0
      ? {}
      : { cause: toPlainError(error.cause, causes - 1) };
  const plain = { name: error.name, message: error.message, ...cause };
  if (!(error instanceof StoreError)) return plain;
  const { code, retryable } = error;
  return { ...plain, code, retryable, details: clonable(error.details) };
}

export function fromPlainError(plain: PlainError): Error {
  const cause = plain.cause === undefined ? undefined : fromPlainError(plain.cause);
  if (plain.code !== undefined) {
    const { retryable = false, details = {} } = plain;
    return new StoreError(plain.code, plain.message, { retryable, details, cause });
  }
  const options = cause === undefined ? {} : { cause };
  if (plain.name === "TypeError") return new TypeError(plain.message, options);
  if (plain.name === "RangeError") return new RangeError(plain.message, options);
  if (plain.name === "InvariantError") return new InvariantError(plain.message, options);
  const error = new Error(plain.message, options);
  error.name = plain.name;
  return error;
}

/** Facts that cannot be cloned (functions, sockets) are left as text. */
function clonable(details: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const facts: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(details)) {
    const isPlain =
      value === null || ["string", "number", "boolean", "bigint"].includes(typeof value);
    facts[name] = isPlain ? value : inspect(value);
  }
  return facts;
}

/** The bytes in a buffer that can be handed over, copied only where others may hold parts of the buffer. */
export function ownBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes;
  const isWhole = buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength;
  return isWhole ? new Uint8Array(buffer) : new Uint8Array(bytes);
}
