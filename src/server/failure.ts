/** How an error is told to a client: code, message, HTTP status. Bugs are told to the server's log only. */
import { StoreError, type StoreErrorCode } from "../errors.ts";
import { SqliteError } from "../sqlite/sqlite-error.ts";

export interface Failure {
  readonly code: string;
  readonly message: string;
  /** Of SQLite, when it says more than `code`. */
  readonly extendedCode: string | null;
  readonly status: number;
  readonly retryable: boolean;
  /** Facts for programs. */
  readonly details: Readonly<Record<string, unknown>>;
  /** It is a bug, and `message` says nothing about it. */
  readonly isInternal: boolean;
}

/** What SQL has named may be long, and fail again and again. */
const MESSAGE_LENGTH_MAX = 4000;

/** Others are 500. */
const STATUS: Partial<Record<StoreErrorCode, number>> = {
  JOB_NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  JOB_LIMIT: 429,
  TAG_EXISTS: 409,
  BRANCH_PROTECTED: 409,
  BRANCH_HAS_CHILDREN: 409,
  ALREADY_COMMITTED: 409,
  CANCELLED: 409,
  KEY_REQUIRED: 409,
  KEY_INVALID: 400,
  REMOTE_NOT_FOUND: 409,
  FENCED: 409,
  NOT_A_DATABASE: 400,
  FILE_TRUNCATED: 400,
  WAL_INVALID: 400,
  PAGE_SIZE: 400,
  STORE_FORMAT: 400,
  OTHER_PARTITION: 409,
  PARTITIONED: 409,
  OWNER_LOST: 503,
  STORE_BUSY: 503,
  STORE_FAILED: 503,
  REMOTE_UNAVAILABLE: 503,
  DISK_FULL: 507,
  DATABASE_NOT_FOUND: 404,
  BRANCH_NOT_FOUND: 404,
  TAG_NOT_FOUND: 404,
  VERSION_NOT_FOUND: 404,
  ENDPOINT_NOT_FOUND: 404,
  VERSION_EXPIRED: 410,
  NAME_INVALID: 400,
  REVISION_INVALID: 400,
  REQUEST_INVALID: 400,
  BATON_INVALID: 400,
  STREAM_EXPIRED: 400,
  SQL_NO_STATEMENT: 400,
  SQL_MANY_STATEMENTS: 400,
  SQL_NOT_STORED: 400,
  SQL_STORE_FULL: 400,
  ARGS_INVALID: 400,
  RESPONSE_TOO_LARGE: 400,
  TIMEOUT: 408,
  DATABASE_EXISTS: 409,
  BRANCH_EXISTS: 409,
  BRANCH_BUSY: 409,
  LIMIT: 413,
  REQUEST_TOO_LARGE: 413,
  STREAM_LIMIT: 429,
  HOST_REFUSED: 403,
  ORIGIN_REFUSED: 403,
  FORBIDDEN: 403,
  AUTH_REQUIRED: 401,
  AUTH_INVALID: 401,
  AUTH_EXPIRED: 401,
  AUTH_REVOKED: 401,
  AUTH_UNAVAILABLE: 503,
  READ_ONLY: 403,
  SERVER_STOPPING: 503,
  STORE_CLOSED: 503,
};

export function describeFailure(error: unknown): Failure {
  if (error instanceof StoreError) {
    const { code, retryable, details } = error;
    const message = shorten(error.message);
    const isInternal = code === "INTERNAL";
    const status = STATUS[code] ?? 500;
    return { code, message, extendedCode: null, status, retryable, details, isInternal };
  }
  if (error instanceof SqliteError) {
    const { code: extended } = error;
    const message = shorten(error.message);
    const code = baseCode(extended);
    return {
      code,
      message,
      extendedCode: code === extended ? null : extended,
      status: 400,
      retryable: false,
      details: {},
      isInternal: false,
    };
  }
  return {
    code: "INTERNAL" satisfies StoreErrorCode,
    message: "Cannot answer: this is a bug in bough; the log of the server says more",
    extendedCode: null,
    status: 500,
    retryable: false,
    details: {},
    isInternal: true,
  };
}

function shorten(message: string): string {
  return message.length > MESSAGE_LENGTH_MAX
    ? `${message.slice(0, MESSAGE_LENGTH_MAX)}...`
    : message;
}

/** As Hrana and the bodies of failed requests have it. */
export function encodeFailure({ code, message, extendedCode }: Failure): string {
  return JSON.stringify(
    extendedCode === null ? { message, code } : { message, code, extended_code: extendedCode },
  );
}

/** SQLITE_CONSTRAINT for SQLITE_CONSTRAINT_UNIQUE: clients of libSQL compare with the base codes. */
function baseCode(code: string): string {
  return /^SQLITE_[A-Z]+/.exec(code)?.[0] ?? code;
}
