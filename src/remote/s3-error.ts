import { StoreError } from "../errors.ts";
import { abortReason, conditionFailed, unavailable } from "./remote-error.ts";

/** Answers that say "not now", whatever their status. */
const PASSING: ReadonlySet<string> = new Set([
  "SlowDown",
  "RequestTimeout",
  "Throttling",
  "ThrottlingException",
  "RequestLimitExceeded",
  "ServiceUnavailable",
  "InternalError",
  "OperationAborted",
  "ConditionalRequestConflict",
  "ConcurrentModification",
  // The client learns the service's time from this answer and signs the next attempt with it.
  "RequestTimeTooSkewed",
  // The body changed on its way.
  "BadDigest",
  "IncompleteBody",
  "XAmzContentSHA256Mismatch",
]);

const PASSING_STATUS: ReadonlySet<number> = new Set([408, 409, 425, 429]);

/** Where requests end that never got an answer. */
const NETWORK: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENETDOWN",
  "EHOSTDOWN",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ERR_STREAM_PREMATURE_CLOSE",
  "ERR_STREAM_DESTROYED",
  "ERR_SOCKET_CONNECTION_TIMEOUT",
]);

export interface S3Failure {
  /** "NoSuchKey", or the name of a JavaScript error. */
  readonly name: string;
  /** Null when there was no answer. */
  readonly status: number | null;
  readonly message: string;
}

export function describeS3Failure(error: unknown): S3Failure {
  if (!(error instanceof Error)) return { name: "Error", status: null, message: String(error) };
  const metadata: unknown = "$metadata" in error ? error.$metadata : null;
  const status: unknown =
    typeof metadata === "object" && metadata !== null && "httpStatusCode" in metadata
      ? metadata.httpStatusCode
      : null;
  const code = "Code" in error && typeof error.Code === "string" ? error.Code : error.name;
  return {
    name: code,
    status: typeof status === "number" ? status : null,
    message: error.message,
  };
}

/** There is no such object; a missing bucket is something else. */
export function isMissingObject(failure: S3Failure): boolean {
  return failure.status === 404 && failure.name !== "NoSuchBucket";
}

/** The StoreError for a request that failed. Never holds what it was signed with. */
export function fromS3Error(
  action: string,
  error: unknown,
  signal: AbortSignal | undefined,
): unknown {
  if (error instanceof StoreError) return error;
  if (signal?.aborted === true) return abortReason(action, signal);
  const failure = describeS3Failure(error);
  const { name, status, message } = failure;
  if (status === null) return withoutAnswer(action, failure, error);
  const answer = `${status} ${name}${message === "" || message === name ? "" : `, "${message}"`}`;
  if (status === 412) return conditionFailed(action, `its condition does not hold (${answer})`);
  // Good news that cannot be read: half an answer.
  if (status < 300) return unavailable(action, `the answer cannot be read: ${message}`, error);
  if (PASSING.has(name) || PASSING_STATUS.has(status) || (status >= 500 && status !== 501))
    return unavailable(action, `the service answers ${answer}`);
  const refuse = (code: "REMOTE_NOT_FOUND" | "REMOTE_DENIED", advice: string): StoreError =>
    new StoreError(code, `Cannot ${action}: the service answers ${answer}; ${advice}`, {
      details: { status, name },
    });
  if (name === "NoSuchBucket")
    return refuse("REMOTE_NOT_FOUND", "create the bucket or check the URL");
  if (status === 404) return refuse("REMOTE_NOT_FOUND", "check the URL");
  if (status === 301 || status === 307 || name === "AuthorizationHeaderMalformed")
    return refuse(
      "REMOTE_NOT_FOUND",
      'the bucket is elsewhere; name its region in the URL ("?region=...")',
    );
  if (status === 401 || status === 403)
    return refuse("REMOTE_DENIED", "check the credentials and the policy of the bucket");
  return refuse("REMOTE_DENIED", 'if it refuses the checksum, add "?checksum=none" to the URL');
}

function withoutAnswer(action: string, failure: S3Failure, error: unknown): unknown {
  const { name, message } = failure;
  if (name === "CredentialsProviderError" || name === "TokenProviderError")
    return new StoreError(
      "REMOTE_DENIED",
      `Cannot ${action}: there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role`,
    );
  if (/region is missing/i.test(message))
    return new StoreError(
      "REMOTE_URL_INVALID",
      `Cannot ${action}: no region is known; set AWS_REGION or add "?region=..." to the URL`,
    );
  const systemCode =
    error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;
  if (systemCode !== null && NETWORK.has(systemCode))
    return unavailable(action, `the network fails (${systemCode}): ${message}`, error);
  if (name === "TimeoutError" || /socket hang up|aborted|timeout|closed/i.test(message))
    return unavailable(action, `the connection failed: ${message}`, error);
  return error;
}
