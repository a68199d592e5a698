/** Errors as problem details (RFC 9457): what everything under /api answers with when it fails. */
import { type ServerResponse, STATUS_CODES } from "node:http";
import type { Failure } from "./failure.ts";

export const PROBLEM_TYPE = "application/problem+json";

export interface Problem {
  readonly type: "about:blank";
  /** The phrase of the status, as the RFC wants it for "about:blank". */
  readonly title: string;
  readonly status: number;
  /** Of docs/errors.md, or SQLite's. */
  readonly code: string;
  readonly detail: string;
  readonly retryable: boolean;
  readonly details: Readonly<Record<string, unknown>>;
}

export function problemOf({ code, message, status, retryable, details }: Failure): Problem {
  const title = STATUS_CODES[status] ?? "Error";
  return { type: "about:blank", title, status, code, detail: message, retryable, details };
}

export function sendProblem(response: ServerResponse, failure: Failure): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const bytes = Buffer.from(JSON.stringify(problemOf(failure)), "utf8");
  response.writeHead(failure.status, {
    "content-type": PROBLEM_TYPE,
    "content-length": bytes.length,
    "cache-control": "no-store",
  });
  response.end(bytes);
}
