/**
 * Errors as data, between threads: class, message, code, `retryable`, details, cause and stack are the same on the other
 * side. An error of any other class becomes an Error with its name.
 */
import { inspect } from "node:util";
import { InvariantError, OptionError, StoreError, type StoreErrorCode } from "../errors.ts";
import { SqliteError } from "../sqlite/sqlite-error.ts";
import { ConflictError } from "../transaction/conflict.ts";

export interface CarriedError {
  /** "cancelled": by the caller's signal, whose reason stayed with the caller; "body": by the caller's own function. */
  readonly kind: ErrorKind | "cancelled" | "body";
  readonly name: string;
  readonly message: string;
  readonly stack?: string | undefined;
  readonly code?: string;
  readonly retryable?: boolean;
  readonly details?: Readonly<Record<string, unknown>>;
  /** Other properties, such as `attempts`. */
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly object?: string | null;
  readonly cause?: unknown;
}

type ErrorKind =
  | "conflict"
  | "sqlite"
  | "store"
  | "option"
  | "type"
  | "range"
  | "invariant"
  | "error";

/** Causes of causes are rarely of use, and could go on for ever. */
const CAUSES_MAX = 4;

export function carryError(error: unknown, causes: number = CAUSES_MAX): CarriedError {
  if (!(error instanceof Error)) return { kind: "error", name: "Error", message: String(error) };
  const { name, message, stack } = error;
  const carried = { kind: kindOf(error), name, message, stack, ...carriedCause(error, causes) };
  if (error instanceof StoreError) {
    const { code, retryable } = error;
    return { ...carried, code, retryable, details: clonable(error.details) };
  }
  if (!(error instanceof SqliteError)) return carried;
  const { code, cause: _, ...properties } = { ...error, code: error.code };
  if (!(error instanceof ConflictError))
    return { ...carried, code, properties: clonable(properties) };
  return { ...carried, code, object: error.object };
}

function carriedCause(error: Error, causes: number): { readonly cause?: CarriedError } {
  if (error.cause === undefined || causes === 0) return {};
  return { cause: carryError(error.cause, causes - 1) };
}

function kindOf(error: Error): ErrorKind {
  if (error instanceof StoreError) return "store";
  if (error instanceof ConflictError) return "conflict";
  if (error instanceof SqliteError) return "sqlite";
  if (error instanceof InvariantError) return "invariant";
  if (error instanceof OptionError) return "option";
  if (error instanceof TypeError) return "type";
  return error instanceof RangeError ? "range" : "error";
}

export function reviveError(carried: CarriedError): Error {
  const error = withoutCause(carried);
  if (carried.stack !== undefined) error.stack = carried.stack;
  if (isCarried(carried.cause))
    Object.defineProperty(error, "cause", {
      value: reviveError(carried.cause),
      writable: true,
      configurable: true,
    });
  return error;
}

function withoutCause(carried: CarriedError): Error {
  const { kind, name, message, code = "", retryable = false, details = {} } = carried;
  switch (kind) {
    case "store":
      return new StoreError(code as StoreErrorCode, message, { retryable, details });
    case "conflict":
      return new ConflictError(message, carried.object ?? null);
    case "sqlite":
      return Object.assign(new SqliteError(message, code), carried.properties);
    case "option":
      return new OptionError(message);
    case "type":
      return new TypeError(message);
    case "range":
      return new RangeError(message);
    case "invariant":
      return new InvariantError(message);
    case "error":
    case "cancelled":
    case "body": {
      const error = new Error(message);
      if (name !== "Error") error.name = name;
      return error;
    }
  }
}

function isCarried(value: unknown): value is CarriedError {
  return typeof value === "object" && value !== null && "kind" in value && "message" in value;
}

/** Facts that cannot be cloned (functions, sockets) are left as text. */
function clonable(facts: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, cloned(value)]));
}

function cloned(value: unknown): unknown {
  if (typeof value !== "object" || value === null)
    return typeof value === "function" || typeof value === "symbol" ? inspect(value) : value;
  try {
    return structuredClone(value);
  } catch {
    return inspect(value);
  }
}
