/** What a server said went wrong, as the errors that the same would be here. */
import { StoreError, type StoreErrorCode } from "../../errors.ts";
import { SqliteError } from "../../sqlite/sqlite-error.ts";

/** From the body of a failed request: problem details, or Hrana's error. Null: it is neither. */
export function errorOfBody(text: string): Error | null {
  try {
    return errorOf(JSON.parse(text));
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

export function errorOf(value: unknown): Error | null {
  if (typeof value !== "object" || value === null) return null;
  const given: Record<string, unknown> = { ...value };
  const { code, extended_code: extended, retryable, details } = given;
  const message = given["detail"] ?? given["message"];
  if (typeof code !== "string" || typeof message !== "string") return null;
  if (code.startsWith("SQLITE_"))
    return new SqliteError(message, typeof extended === "string" ? extended : code);
  // A newer server may have codes that are not known here: they are shown as they are.
  return new StoreError(code as StoreErrorCode, message, {
    retryable: retryable === true,
    details: typeof details === "object" && details !== null ? { ...details } : {},
  });
}

export function answerInvalid(server: string, fact: string): StoreError {
  return new StoreError(
    "SERVER_ANSWER_INVALID",
    `Cannot use the answer of "${server}": ${fact}; is it a server of bough?`,
  );
}

/** Of a request that had no answer, or no whole one. */
export function unreachable(server: string, cause: unknown): StoreError {
  return new StoreError("SERVER_UNREACHABLE", `Cannot reach server "${server}": ${factOf(cause)}`, {
    cause,
    retryable: true,
  });
}

const FACTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ENOENT: "nothing listens there",
  ENOTFOUND: "there is no host of that name",
  EAI_AGAIN: "the name of the host cannot be looked up now",
  ECONNRESET: "the connection was lost",
  EPIPE: "the connection was lost",
  ETIMEDOUT: "it does not answer",
  HPE_INVALID_CONSTANT: "what answers does not speak HTTP",
  EPROTO: "it does not speak TLS; is it http://?",
  ERR_SSL_WRONG_VERSION_NUMBER: "it does not speak TLS; is it http://?",
};

function factOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const code = "code" in cause ? String(cause.code) : "";
  return FACTS[code] ?? (cause.message || code);
}
