/** The bodies of requests and answers over node:http. */
import type { IncomingMessage, RequestListener, Server, ServerResponse } from "node:http";
import type { Server as TlsServer } from "node:https";
import { StoreError } from "../errors.ts";
import type { Credentials } from "./access.ts";
import type { SendLimit } from "./send-limit.ts";
import type { Stages } from "./stages.ts";

/** Clients compare the type exactly: nothing about a charset. */
const JSON_TYPE = "application/json";
const ONE_WRITE_MAX = 64 * 1024;
/** How long a body may take that is read as a whole. */
const BODY_MS = 300_000;

/** By request: whose client waits with the body until it is told to go on. */
const waiting = new WeakMap<IncomingMessage, { response: ServerResponse; isKept: boolean }>();

/**
 * For requests with "Expect: 100-continue": nothing is sent for one that is refused, so that the client surely reads why. A connection on
 * which a body may be missing is of no more use.
 */
export function holdBodies(server: Server | TlsServer, take: RequestListener): void {
  server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
    waiting.set(request, { response, isKept: response.shouldKeepAlive });
    response.shouldKeepAlive = false;
    take(request, response);
  });
}

/** To be called before a body is read. */
export function letBodyCome(request: IncomingMessage): void {
  const held = waiting.get(request);
  if (held === undefined) return;
  waiting.delete(request);
  held.response.shouldKeepAlive = held.isKept;
  held.response.writeContinue();
}

/** The body as text, at most so many bytes. Throws REQUEST_TOO_LARGE, or what ended the connection. */
export function readBody(request: IncomingMessage, bytesMax: number): Promise<string> {
  return new Promise((resolve, reject) => {
    // It would never say again that it is over.
    if (request.destroyed) {
      reject(new Error("The client has gone"));
      return;
    }
    let first: Buffer | null = null;
    let more: Buffer[] | null = null;
    let size = 0;
    const timer = setTimeout(() => request.destroy(), BODY_MS).unref();
    const fail = (error: Error): void => {
      clearTimeout(timer);
      request.removeAllListeners("data");
      reject(error);
    };
    if (Number(request.headers["content-length"] ?? 0) > bytesMax) {
      fail(tooLarge(bytesMax));
      return;
    }
    letBodyCome(request);
    request.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > bytesMax) fail(tooLarge(bytesMax));
      else if (first === null) first = chunk;
      else (more ??= [first]).push(chunk);
    });
    request.on("end", () => {
      clearTimeout(timer);
      if (more !== null) resolve(Buffer.concat(more, size).toString("utf8"));
      else resolve(first === null ? "" : first.toString("utf8"));
    });
    // Also after an error, which nothing else would tell.
    request.on("close", () => {
      if (!request.complete) fail(new Error("The client has gone"));
    });
  });
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: string,
  answers: { readonly sending: SendLimit; readonly stages: Stages } | null = null,
): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const length = Buffer.byteLength(body);
  response.writeHead(status, { "content-type": JSON_TYPE, "content-length": length });
  // A short text goes out together with the header, in one write; a long one would be copied for that.
  if (length <= ONE_WRITE_MAX) {
    if (answers === null) response.end(body);
    else answers.stages.end(response, body);
    return;
  }
  response.end(Buffer.from(body));
  answers?.sending.watch(response, length);
}

function tooLarge(bytesMax: number): StoreError {
  return new StoreError(
    "REQUEST_TOO_LARGE",
    `Cannot read the request: it has more than ${bytesMax} bytes`,
    { details: { bytesMax } },
  );
}

export function credentialsOf({ headers, url = "" }: IncomingMessage): Credentials {
  return { request: { authorization: headers.authorization, url } };
}

export function notFound({ method = "", url = "" }: IncomingMessage): StoreError {
  return new StoreError(
    "ENDPOINT_NOT_FOUND",
    `Cannot ${method} "${url.slice(0, 200)}": the server has nothing there`,
  );
}
