/**
 * The Unix socket in the directory of the store: how commands on this machine reach a store that a server holds.
 *
 *   (none), or left by a killed server --listen--> there --close--> (none)
 *
 * O1. Its mode is 0600, and it asks for no token: whoever can open it can open the store's files.
 * O2. It is made and replaced only by who holds the store's lock.
 * O3. Where there can be none (Windows, a path that is too long, a file system without sockets) the server goes on without, and the log says so.
 */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import type { Duplex } from "node:stream";
import { StoreError } from "../errors.ts";
import { makeSocketPrivate, removeStaleSocket, socketPath } from "../storage/socket-file.ts";
import type { Access, Principal } from "./access.ts";
import { UNAUTHENTICATED } from "./access/principal.ts";
import { holdBodies } from "./http-exchange.ts";
import { SOCKET_NAME } from "./socket-name.ts";

/** Nothing that a token can say is its id. */
export const LOCAL_PRINCIPAL: Principal = { ...UNAUTHENTICATED, id: `socket:${randomUUID()}` };

/** The same, for one principal more. */
export function withLocalPrincipal(access: Access): Access {
  return {
    isOpen: access.isOpen,
    authenticate: (credentials) => access.authenticate(credentials),
    isCurrent: (principal) => principal === LOCAL_PRINCIPAL || access.isCurrent(principal),
    requireCurrent: (principal) =>
      principal === LOCAL_PRINCIPAL ? Promise.resolve() : access.requireCurrent(principal),
  };
}

export class LocalSocket {
  readonly #path: string | null;
  readonly #server: Server;
  readonly #connections: WeakSet<Duplex> = new WeakSet();

  /** `directory`: of the store, whose lock this process holds (O2). */
  constructor(directory: string, options: object, take: RequestListener) {
    this.#path = socketPath(directory, SOCKET_NAME);
    this.#server = createServer(options, take);
    holdBodies(this.#server, take);
    this.#server.on("connection", (connection: Duplex) => this.#connections.add(connection));
  }

  /** Whether the request came over the socket. */
  has({ socket }: IncomingMessage): boolean {
    return this.#connections.has(socket);
  }

  /** Rejects when there can be none (O3). */
  async listen(): Promise<void> {
    const path = this.#path;
    if (path === null)
      throw new StoreError("IO", `Cannot listen on "${SOCKET_NAME}": its path is too long`);
    removeStaleSocket(path);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject);
        this.#server.listen(path, resolve);
        makeSocketPrivate(path); // It is there when `listen` returns.
      });
    } catch (error) {
      this.#server.close();
      throw error;
    }
  }

  /** Takes the file away at once; resolves when all connections have ended. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  closeIdleConnections(): void {
    this.#server.closeIdleConnections();
  }

  closeAllConnections(): void {
    this.#server.closeAllConnections();
  }
}
