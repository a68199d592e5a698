/**
 * The server's port, bound before the store is opened: what keeps a server from starting is known before anything is made or changed.
 *
 *   (none) --bind--> bound: requests wait --serve--> serving --close--> closed
 *                    bound --close--> closed: requests that wait lose their connection
 *
 * B1. The port that was found free is the one that is served: it is bound once, and nobody can take it in between.
 * B2. Whoever listens without authentication does so where that is allowed (access/listen-address.ts), or `bind` has bound nothing.
 * B3. What waits is bounded: of each connection no more is read than what came with its first request, and HELD_MAX requests at most.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { Duplex } from "node:stream";
import { StoreError, type StoreErrorCode } from "../errors.ts";
import { type ListenRule, requireListenAllowed } from "./access/listen-address.ts";
import { holdBodies } from "./http-exchange.ts";
import type { ServerSettings } from "./setting-list.ts";
import { TlsFiles } from "./tls-files.ts";

/** How long a connection that nobody uses is kept: longer than clients keep theirs. */
const KEEP_ALIVE_MS = 75_000;
/** A body has limits of its own: an upload may take as long as it likes, and is ended when it stands still (admin/files.ts). */
export const SERVER_OPTIONS: {
  readonly keepAliveTimeout: number;
  readonly requestTimeout: number;
  readonly headersTimeout: number;
} = {
  keepAliveTimeout: KEEP_ALIVE_MS,
  requestTimeout: 0,
  headersTimeout: 60_000,
};

type ListenSettings = Pick<
  ServerSettings,
  "host" | "port" | "noAuth" | "connectionsMax" | "tlsCert" | "tlsKey"
>;

export interface ListenOptions {
  readonly settings: ListenSettings;
  /** Whether requests are asked for a token; null: that is known when the store is open, and to be asked with `requireAllowed`. */
  readonly isAuthenticated: boolean | null;
  /** Milliseconds; only differences count. */
  readonly now: () => number;
}

export interface ListenerCalls {
  readonly take: (request: IncomingMessage, response: ServerResponse) => void;
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
}

/** More than come with the first request of a connection. */
const HELD_MAX = 5000;
const EVENTS = ["request", "checkContinue", "upgrade"] as const;

interface Held {
  readonly event: (typeof EVENTS)[number];
  readonly given: readonly [IncomingMessage, ...unknown[]];
}

export class Listener {
  readonly server: Server | TlsServer;
  /** Null: it serves without TLS. */
  readonly tls: TlsFiles | null;
  readonly #settings: ListenSettings;
  /** What came before there was a store. */
  readonly #held: Held[] = [];
  readonly #counts: WeakMap<Duplex, number> = new WeakMap();

  private constructor({ settings, now }: ListenOptions) {
    this.#settings = settings;
    this.tls = tlsOf(settings, now);
    this.server =
      this.tls === null
        ? createServer(SERVER_OPTIONS)
        : createTlsServer({ ...SERVER_OPTIONS, ...this.tls.used });
    this.server.maxConnections = settings.connectionsMax;
    for (const event of EVENTS)
      this.server.on(event, (...given: readonly [IncomingMessage, ...unknown[]]) => {
        this.#hold({ event, given });
      });
  }

  #hold(held: Held): void {
    const [{ socket }] = held.given;
    this.#held.push(held);
    if (held.event === "upgrade") {
      // Node has taken its own listener from a connection that becomes a WebSocket.
      socket.on("error", () => socket.destroy());
      return;
    }
    // B3. Not at once: Node reads on by itself at the end of each request of what has come. It does so for a body that nobody reads, too.
    process.nextTick(() => socket.pause());
    const count = (this.#counts.get(socket) ?? 0) + 1;
    this.#counts.set(socket, count);
    if (count > HELD_MAX) socket.destroy();
  }

  /** Throws LISTEN_UNPROTECTED, TLS_INVALID, ADDRESS_IN_USE, ADDRESS_DENIED, ADDRESS_INVALID, or what else the system says. */
  static async bind(options: ListenOptions): Promise<Listener> {
    const { settings, isAuthenticated } = options;
    const { host, port } = settings;
    if (isAuthenticated !== null) requireListenAllowed({ kind: "host", host }, rule(options));
    const listener = new Listener(options);
    try {
      await new Promise<void>((resolve, reject) => {
        listener.server.once("error", reject);
        listener.server.listen(port, host, () => {
          listener.server.off("error", reject);
          resolve();
        });
      });
    } catch (error) {
      throw explainListening(error, { host, port });
    }
    if (isAuthenticated === null) return listener;
    try {
      listener.requireAllowed(isAuthenticated);
    } catch (error) {
      await listener.close();
      throw error;
    }
    return listener;
  }

  /** B2, of what the system says the server is bound to. Throws LISTEN_UNPROTECTED. */
  requireAllowed(isAuthenticated: boolean): void {
    const bound = this.server.address();
    const given = { settings: this.#settings, isAuthenticated };
    requireListenAllowed({ kind: "host", host: this.#settings.host }, rule(given));
    if (bound !== null && typeof bound === "object")
      requireListenAllowed({ kind: "host", host: bound.address }, rule(given));
  }

  /** Where it listens: "http://127.0.0.1:8080". "" when it does not. */
  get url(): string {
    const address = this.server.address();
    if (address === null || typeof address === "string") return "";
    const scheme = this.tls === null ? "http" : "https";
    return `${scheme}://${authority(this.#settings.host, address.port)}`;
  }

  /** Hands on what comes, and what came. */
  serve({ take, upgrade }: ListenerCalls): void {
    for (const event of EVENTS) this.server.removeAllListeners(event);
    this.server.on("request", take);
    holdBodies(this.server, take);
    this.server.on("upgrade", upgrade);
    for (const { event, given } of this.#held.splice(0)) {
      if (event !== "upgrade") given[0].socket.resume();
      this.server.emit(event, ...given);
    }
  }

  /** For one that was never to serve: of one that does, the server closes what it has. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
      // Those that become a WebSocket are none of the server's any more.
      for (const { given } of this.#held.splice(0)) given[0].socket.destroy();
    });
  }
}

function rule({
  settings,
  isAuthenticated,
}: Pick<ListenOptions, "settings" | "isAuthenticated">): ListenRule {
  return { isAuthenticated: isAuthenticated ?? false, isOpenWanted: settings.noAuth };
}

function tlsOf({ tlsCert: cert, tlsKey: key }: ListenSettings, now: () => number): TlsFiles | null {
  if (cert === null && key === null) return null;
  if (cert === null || key === null)
    throw new RangeError('Cannot serve over TLS: "tls-cert" and "tls-key" belong together');
  return new TlsFiles({ cert, key }, now);
}

function authority(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** What the system calls it, our code, and what to do. */
const REFUSALS: Readonly<Record<string, readonly [StoreErrorCode, string]>> = {
  EADDRINUSE: [
    "ADDRESS_IN_USE",
    "another process listens there; end it, or give another --port, or 0 for any that is free",
  ],
  EACCES: ["ADDRESS_DENIED", "the system does not allow it; give a --port from 1024 on"],
  EPERM: ["ADDRESS_DENIED", "the system does not allow it; give a --port from 1024 on"],
  EADDRNOTAVAIL: ["ADDRESS_INVALID", "that is no address of this machine; give another --host"],
  EINVAL: ["ADDRESS_INVALID", "that is no address of this machine; give another --host"],
  EAFNOSUPPORT: [
    "ADDRESS_INVALID",
    "this machine has no addresses of that kind; give another --host",
  ],
  ENOTFOUND: ["ADDRESS_INVALID", "no address is known under that name; give another --host"],
  EAI_AGAIN: ["ADDRESS_INVALID", "no address can be found for that name now; give another --host"],
};

/** What the system has refused, with what to do; everything else as it is. */
export function explainListening(
  error: unknown,
  { host, port }: Pick<ListenSettings, "host" | "port">,
): unknown {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string")
    return error;
  const refusal = REFUSALS[error.code];
  if (refusal === undefined) return error;
  const [code, fact] = refusal;
  return new StoreError(code, `Cannot listen on "${authority(host, port)}": ${fact}`, {
    cause: error,
    details: { host, port },
  });
}
