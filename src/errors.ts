/**
 * Errors that a caller can expect. Each carries a stable code, listed in docs/errors.md with what to do next; the
 * CLI and the server map from `code` alone. Wrong arguments are TypeError or RangeError, engine bugs InvariantError.
 */

export type StoreErrorCode =
  // Opening a store
  | "STORE_NOT_FOUND"
  | "STORE_LOCKED"
  | "STORE_CLOSED"
  | "STORE_FAILED"
  | "STORE_BUSY"
  /** The thread that owned the database has ended. */
  | "OWNER_LOST"
  | "STORE_IS_FILE"
  /** The directory is a part of a store. */
  | "STORE_IS_PARTITION"
  /** A store with several partitions cannot do that. */
  | "PARTITIONED"
  /** The database is in another partition than the rest of what the call works on. */
  | "OTHER_PARTITION"
  | "STORE_FORMAT"
  | "KEY_REQUIRED"
  | "KEY_WRONG"
  | "KEY_INVALID"
  // Names and revisions
  | "NAME_INVALID"
  | "REVISION_INVALID"
  | "DATABASE_NOT_FOUND"
  | "DATABASE_EXISTS"
  | "BRANCH_NOT_FOUND"
  | "BRANCH_EXISTS"
  | "BRANCH_PROTECTED"
  | "BRANCH_HAS_CHILDREN"
  | "BRANCH_BUSY"
  | "TAG_NOT_FOUND"
  | "TAG_EXISTS"
  | "VERSION_NOT_FOUND"
  /** The commit was there, and its history has gone as the retention policy says. */
  | "VERSION_EXPIRED"
  | "READ_ONLY"
  // Transactions
  /** Its id is that of a transaction that has committed. */
  | "ALREADY_COMMITTED"
  // Input files
  | "FILE_NOT_FOUND"
  | "FILE_EXISTS"
  | "NOT_A_DATABASE"
  | "FILE_TRUNCATED"
  /** Another program writes to it, or has left it in the middle of a transaction. */
  | "FILE_BUSY"
  | "WAL_INVALID"
  | "PAGE_SIZE"
  // Storage
  | "IO"
  | "DISK_FULL"
  | "PERMISSION"
  // Object storage
  | "REMOTE_URL_INVALID"
  | "REMOTE_UNAVAILABLE"
  | "REMOTE_DENIED"
  | "REMOTE_NOT_FOUND"
  /** The place holds another store, or another history of this one. */
  | "REMOTE_CONFLICT"
  | "CONDITION_FAILED"
  /** Another writer has taken over the prefix. */
  | "FENCED"
  | "CORRUPT_REMOTE"
  /** A time limit passed, or the caller gave up. */
  | "TIMEOUT"
  | "CANCELLED"
  // Damage: the message names what and where
  | "CORRUPT_HEADER"
  | "CORRUPT_LOG"
  | "CORRUPT_CHUNK"
  | "CORRUPT_NODE"
  | "CORRUPT_HISTORY"
  | "CORRUPT_CATALOG"
  // Access to a server
  | "AUTH_REQUIRED"
  | "AUTH_INVALID"
  | "AUTH_EXPIRED"
  | "AUTH_REVOKED"
  /** What decides about tokens cannot be read now: nothing is known about this one. */
  | "AUTH_UNAVAILABLE"
  | "FORBIDDEN"
  | "TOKEN_KEY_INVALID"
  /** Others than this machine could reach it, and nobody would be asked who they are. */
  | "LISTEN_UNPROTECTED"
  // Limits
  | "LIMIT"
  // The server: requests
  | "ENDPOINT_NOT_FOUND"
  | "REQUEST_INVALID"
  | "REQUEST_TOO_LARGE"
  | "RESPONSE_TOO_LARGE"
  /** A page of another site asks a server without authentication, or asks it by a name that is not its own. */
  | "ORIGIN_REFUSED"
  | "HOST_REFUSED"
  /** The server cannot listen there: another process does, the system forbids it, or the address is none of this machine. */
  | "ADDRESS_IN_USE"
  | "ADDRESS_DENIED"
  | "ADDRESS_INVALID"
  /** The certificate of the server cannot be used. */
  | "TLS_INVALID"
  | "SERVER_STOPPING"
  | "STREAM_EXPIRED"
  | "STREAM_LIMIT"
  | "BATON_INVALID"
  | "TRANSACTION_TIMEOUT"
  | "SQL_NO_STATEMENT"
  | "SQL_MANY_STATEMENTS"
  | "SQL_NOT_STORED"
  | "SQL_STORE_FULL"
  | "ARGS_INVALID"
  // A command that works on the store of a server
  | "SERVER_UNREACHABLE"
  /** What answers is no such server. */
  | "SERVER_ANSWER_INVALID"
  // The server: the admin API
  | "METHOD_NOT_ALLOWED"
  | "JOB_NOT_FOUND"
  | "JOB_LIMIT"
  /** A bug in bough, of which the client is told no more. */
  | "INTERNAL";

export interface StoreErrorOptions {
  readonly cause?: unknown;
  /** The same call may succeed if repeated. */
  readonly retryable?: boolean;
  /** Facts for programs: names, versions, offsets. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** An expected failure: `code` is stable, `message` says what was tried, then facts. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;
  readonly retryable: boolean;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: StoreErrorCode, message: string, options: StoreErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.details = options.details ?? {};
  }
}

/** A wrong argument: an option that the call does not have. */
export class OptionError extends TypeError {
  override readonly name = "OptionError";
  readonly code = "OPTION_UNKNOWN";
}

/** A bug in bough itself: some rule that the code relies on does not hold. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/** Asserts a rule of the engine, in production too. State the rule positively; put values into the message. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
