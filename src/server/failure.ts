/** How an error is told to a client: code, message, HTTP status. Bugs are told to the server's log only. */
import { StoreError, type StoreErrorCode } from "../errors.ts";
import { SqliteError } from "../sqlite/sqlite-error.ts";

export interface Failure {
  readonly code: string;
  readonly message: string;
  /** Of SQLite, when it says more than `code`. */
  readonly extendedCode: string | null;
  readonly status: number;
  /** It is a bug, and `message` says nothing about it. */
  readonly isInternal: boolean;
}

/** Others are 500. */
const STATUS: Partial<Record<StoreErrorCode, number>> = {
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
    const { code, message } = error;
    const isInternal = code === "INTERNAL";
    return { code, message, extendedCode: null, status: STATUS[code] ?? 500, isInternal };
  }
  if (error instanceof SqliteError) {
    const { code: extended, message } = error;
    const code = baseCode(extended);
    return {
      code,
      message,
      extendedCode: code === extended ? null : extended,
      status: 400,
      isInternal: false,
    };
  }
  return {
    code: "INTERNAL" satisfies StoreErrorCode,
    message: "Cannot answer: this is a bug in bough; the log of the server says more",
    extendedCode: null,
    status: 500,
    isInternal: true,
  };
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
