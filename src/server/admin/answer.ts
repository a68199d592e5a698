/**
 * Answers over node:http.
 *
 * H1. What is read with GET has an ETag of its content, and 304 answers a client that has just that. HEAD is GET without the body.
 */
import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { SendLimit } from "../send-limit.ts";
import type { Answer } from "./admin-route.ts";

export async function sendAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  { answer, sending }: { readonly answer: Answer; readonly sending: SendLimit },
): Promise<void> {
  // One that is streamed gives back what it holds, also when nobody is there any more.
  if ("stream" in answer) {
    await answer.stream(response);
    return;
  }
  if (response.destroyed) return;
  const { status, body, headers = {} } = answer;
  if (body === undefined) {
    response.writeHead(status, { "cache-control": "no-store", ...headers });
    response.end();
    return;
  }
  const bytes = Buffer.from(JSON.stringify(body), "utf8");
  const isRead = request.method === "GET" || request.method === "HEAD";
  const etag = isRead ? etagOf(bytes) : null;
  if (etag !== null && matchesTag(request, etag)) {
    response.writeHead(304, { etag, "cache-control": "no-cache" });
    response.end();
    return;
  }
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": bytes.length,
    "cache-control": isRead ? "no-cache" : "no-store",
    ...(etag === null ? {} : { etag }),
    ...headers,
  });
  response.end(bytes);
  sending.watch(response, bytes.length);
}

/** Whether If-None-Match names the tag, or anything. */
export function matchesTag(request: IncomingMessage, etag: string): boolean {
  const wanted = request.headers["if-none-match"];
  if (wanted === undefined) return false;
  return wanted.split(",").some((each) => each.trim() === etag || each.trim() === "*");
}

function etagOf(bytes: Uint8Array): string {
  return `W/"${createHash("sha256").update(bytes).digest("base64url").slice(0, 22)}"`;
}
