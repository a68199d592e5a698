/**
 * Requests to a server: over TCP, TLS, or its Unix socket.
 *
 * C1. What fails is a StoreError: what the server said; SERVER_UNREACHABLE when it said nothing, or not all; SERVER_ANSWER_INVALID when
 *     it is no such server.
 * C2. The token is in a header, and in no message.
 * C3. A file is sent when the server wants it: what it refuses before is not lost with the connection.
 */
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import type { Readable } from "node:stream";
import { StoreError } from "../../errors.ts";
import { answerInvalid, errorOfBody, unreachable } from "./server-error.ts";

export interface ServerPlace {
  /** How messages name it. */
  readonly name: string;
  /** Null: over the socket. */
  readonly url: URL | null;
  readonly socketPath: string | null;
  readonly token: string | null;
}

export interface ClientRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Encoded, below the server's URL. */
  readonly path: string;
  /** JSON. */
  readonly body?: unknown;
  /** Instead of it: written as it is asked for, `bytes` long. */
  readonly upload?: { readonly bytes: number; readonly blocks: AsyncIterable<Uint8Array> };
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

/** How long a proxy that does not pass on that the server wants the file is waited for. */
const CONTINUE_MS = 1000;
/** Errors and lists are not longer. */
const TEXT_LENGTH_MAX = 256 * 1024 * 1024;

export class HttpClient {
  readonly place: ServerPlace;
  readonly #agent: http.Agent | https.Agent;

  constructor(place: ServerPlace) {
    this.place = place;
    const options = { keepAlive: true };
    this.#agent =
      place.url?.protocol === "https:" ? new https.Agent(options) : new http.Agent(options);
  }

  get name(): string {
    return this.place.name;
  }

  /** A successful answer, whose body is to be read. */
  async open(request: ClientRequest): Promise<IncomingMessage> {
    const response = await this.#send(request);
    const { statusCode = 0 } = response;
    if (statusCode >= 200 && statusCode < 300) return response;
    const text = await this.text(response);
    throw (
      errorOfBody(text) ??
      answerInvalid(this.name, `it answered ${statusCode} to ${request.method} ${request.path}`)
    );
  }

  /** The JSON of the answer, undefined when there is none. */
  async json(request: ClientRequest): Promise<unknown> {
    const response = await this.open(request);
    const text = await this.text(response);
    if (response.statusCode === 204) return undefined;
    return this.parse(text);
  }

  parse(text: string): unknown {
    try {
      return JSON.parse(text);
    } catch {
      throw answerInvalid(this.name, "it is not JSON");
    }
  }

  async text(response: Readable): Promise<string> {
    const parts: string[] = [];
    let length = 0;
    for await (const part of this.pieces(response.setEncoding("utf8"))) {
      parts.push(String(part));
      length += String(part).length;
      if (length > TEXT_LENGTH_MAX) throw answerInvalid(this.name, "it is too long");
    }
    return parts.join("");
  }

  /** Of a body, up to its end: less is SERVER_UNREACHABLE. */
  async *pieces(response: Readable): AsyncGenerator {
    try {
      yield* response;
    } catch (error) {
      throw error instanceof StoreError ? error : unreachable(this.name, error);
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #send(request: ClientRequest): Promise<IncomingMessage> {
    const { url, socketPath, token } = this.place;
    const { method, path, body, upload, headers = {}, signal } = request;
    const json = body === undefined ? null : Buffer.from(JSON.stringify(body));
    const options: https.RequestOptions = {
      method,
      agent: this.#agent,
      ...(signal === undefined ? {} : { signal }),
      ...(socketPath === null ? {} : { socketPath }),
      path: `${url === null ? "" : url.pathname.replace(/\/+$/, "")}${path}`,
      headers: {
        ...(url === null ? { host: "localhost" } : {}),
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(json === null
          ? {}
          : { "content-type": "application/json", "content-length": json.length }),
        ...(upload === undefined ? {} : { "content-length": upload.bytes, expect: "100-continue" }),
        ...headers,
      },
    };
    return new Promise((resolve, reject) => {
      const sent =
        url === null
          ? http.request(options)
          : (url.protocol === "https:" ? https : http).request(url, options);
      let isAnswered = false;
      let failure: unknown = null;
      sent.once("response", (response) => {
        isAnswered = true;
        resolve(response);
      });
      // An answer that came before all was sent says more than the broken connection.
      sent.on("error", (error) => {
        failure ??= error;
      });
      sent.once("close", () => {
        if (!isAnswered)
          reject(failure instanceof StoreError ? failure : unreachable(this.name, failure));
      });
      if (upload === undefined) sent.end(json);
      else
        whenAllowed(sent, () => {
          writeBlocks(sent, upload.blocks).catch((error: unknown) => {
            failure = error;
            sent.destroy();
          });
        });
    });
  }
}

/** C3. */
function whenAllowed(request: http.ClientRequest, write: () => void): void {
  let timer: NodeJS.Timeout | null = null;
  const begin = (): void => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    request.off("response", refused);
    write();
  };
  const refused = (response: IncomingMessage): void => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    request.off("continue", begin);
    // The connection is of no more use without the body.
    response.once("close", () => request.destroy());
  };
  timer = setTimeout(begin, CONTINUE_MS);
  request.once("continue", begin);
  request.once("response", refused);
  request.once("close", () => {
    if (timer !== null) clearTimeout(timer);
  });
  request.flushHeaders();
}

/** Each block is sent before the next one is asked for. */
async function writeBlocks(
  request: http.ClientRequest,
  blocks: AsyncIterable<Uint8Array>,
): Promise<void> {
  for await (const block of blocks) {
    if (request.destroyed) return;
    await new Promise<void>((resolve) => {
      request.once("close", resolve);
      request.write(block, () => {
        request.off("close", resolve);
        resolve();
      });
    });
  }
  request.end();
}
