/**
 * The WebSockets of the server: which requests become one, and their ends.
 *
 * W1. One that has not answered the last ping is gone, and with it its streams.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import { StoreError } from "../errors.ts";
import { describeFailure, encodeFailure } from "./failure.ts";
import { Endpoint, type HranaContext } from "./hrana/endpoint.ts";
import type { HranaVersion } from "./hrana/protocol.ts";
import { HranaSocket } from "./hrana/socket.ts";
import { credentialsOf, notFound } from "./http-exchange.ts";
import type { Route } from "./route.ts";

const PING_MS = 30_000;
/** Best first. */
const SUBPROTOCOLS: readonly (readonly [string, HranaVersion])[] = [
  ["hrana2", 2],
  ["hrana1", 1],
];

export class WebSockets {
  readonly #context: HranaContext;
  /** Throws when a request may not become a WebSocket. */
  readonly #admit: (request: IncomingMessage) => Route;
  readonly #server: WebSocketServer;
  readonly #open: Set<HranaSocket> = new Set();
  readonly #timer: NodeJS.Timeout;

  constructor(context: HranaContext, admit: (request: IncomingMessage) => Route) {
    this.#context = context;
    this.#admit = admit;
    this.#server = new WebSocketServer({
      noServer: true,
      maxPayload: context.settings.requestBytesMax,
      perMessageDeflate: false,
      handleProtocols: (offered) => subprotocol(offered)?.[0] ?? false,
    });
    this.#timer = setInterval(() => this.#ping(), PING_MS).unref();
  }

  get size(): number {
    return this.#open.size;
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on("error", () => socket.destroy());
    let route: Route;
    try {
      route = this.#admit(request);
      if (route.kind !== "hrana" || route.call !== "root") throw notFound(request);
      if (request.headers["sec-websocket-protocol"] !== undefined && versionOf(request) === null)
        throw new StoreError(
          "REQUEST_INVALID",
          "Cannot open a WebSocket: the server speaks hrana2 and hrana1",
        );
    } catch (error) {
      refuseUpgrade(socket, error);
      return;
    }
    const { revision } = route;
    const { settings, access, tracing, storedSql } = this.#context;
    this.#server.handleUpgrade(request, socket, head, (webSocket) => {
      const credentials = credentialsOf(request);
      const address = request.socket.remoteAddress;
      const hrana = new HranaSocket(webSocket, {
        version: versionOf(request) ?? 1,
        requestBytesMax: settings.requestBytesMax,
        storedSql,
        beginSpan: () => tracing?.message(request) ?? null,
        greet: async (jwt) => {
          const given = { ...credentials, hello: { jwt } };
          const principal = await access.authenticate(given);
          return new Endpoint(this.#context, { revision, principal, address });
        },
      });
      this.#open.add(hrana);
      webSocket.on("close", () => this.#open.delete(hrana));
      const alive = webSocket as { isAlive?: boolean };
      alive.isAlive = true;
      webSocket.on("pong", () => {
        alive.isAlive = true;
      });
    });
  }

  /** Ends those whose token is good no more. */
  checkAccess(): void {
    for (const socket of this.#open) socket.checkAccess();
  }

  /** Resolves when those that are open have answered what they were asked. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.allSettled([...this.#open].map((socket) => socket.stop()));
  }

  /** Those that do not answer the closing. */
  terminate(): void {
    for (const socket of this.#server.clients) socket.terminate();
  }

  /** W1. */
  #ping(): void {
    for (const webSocket of this.#server.clients) {
      const alive = webSocket as { isAlive?: boolean };
      if (alive.isAlive === false) webSocket.terminate();
      alive.isAlive = false;
      webSocket.ping();
    }
  }
}

function subprotocol(offered: ReadonlySet<string>): readonly [string, HranaVersion] | undefined {
  return SUBPROTOCOLS.find(([name]) => offered.has(name));
}

/** Null: none of ours is offered. */
function versionOf({ headers }: IncomingMessage): HranaVersion | null {
  const offered = (headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  return subprotocol(new Set(offered))?.[1] ?? null;
}

function refuseUpgrade(socket: Duplex, error: unknown): void {
  const failure = describeFailure(error);
  const body = encodeFailure(failure);
  socket.end(
    `HTTP/1.1 ${failure.status} Refused\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
