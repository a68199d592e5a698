/** A server in the test's process, on a store of its own, with a clock that the test moves. */
import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Access } from "../src/server/access.ts";
import type { AdminStore } from "../src/server/admin/admin-store.ts";
import { LocalAdminStore } from "../src/server/admin/local-admin-store.ts";
import { HttpServer, type HttpServerOptions } from "../src/server/http-server.ts";
import { Listener } from "../src/server/listener.ts";
import type { ServerSettings } from "../src/server/setting-list.ts";
import { serveStore } from "../src/server/serve.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { ThreadedAdminStore } from "../src/server/threaded/threaded-admin-store.ts";
import { hostService } from "../src/server/threaded/threaded-served-store.ts";
import { ThreadedStore } from "../src/threads/threaded-store.ts";
import { clear, execOn } from "./shared-threads.ts";

/** On the port of its settings. */
export async function startHttpServer(
  options: Omit<HttpServerOptions, "listener">,
): Promise<HttpServer> {
  const { settings, access } = options;
  const isAuthenticated = !access.isOpen;
  const listener = await Listener.bind({ settings, isAuthenticated, now: () => performance.now() });
  return await HttpServer.start({ ...options, listener });
}

export class ServedDirectory implements AsyncDisposable {
  readonly directory: string = mkdtempSync(join(tmpdir(), "bough-server-"));
  /** Its own one, or one with threads that outlives it. */
  readonly served: Store | ThreadedStore;
  /** The same. */
  readonly admin: AdminStore;
  /** What the server has called a bug. */
  readonly bugs: unknown[] = [];
  /** What its clock says. */
  nowMs = 0;
  #server: HttpServer | null = null;

  private constructor(options: StoreOptions, threads: ThreadedStore | null) {
    this.served = threads ?? openStore(join(this.directory, "store"), options);
    this.admin =
      this.served instanceof ThreadedStore
        ? new ThreadedAdminStore(
            this.served,
            hostService(this.served, { busyTimeoutMs: 1000, statementTimeoutMs: 1000 }),
          )
        : new LocalAdminStore(this.served);
  }

  static async start(
    settings: Partial<ServerSettings> = {},
    options: StoreOptions = {},
    access?: Access,
    threads: ThreadedStore | null = null,
  ): Promise<ServedDirectory> {
    const served = new ServedDirectory(options, threads);
    served.#server = await serveStore(served.served, {
      ...(access === undefined ? {} : { access }),
      settings: { port: 0, ...settings },
      now: () => served.nowMs,
      onBug: (error) => served.bugs.push(error),
    });
    return served;
  }

  /** In this thread. */
  get store(): Store {
    if (this.served instanceof ThreadedStore) throw new TypeError("The store has threads");
    return this.served;
  }

  async exec(revision: string, sql: string): Promise<void> {
    await execOn(this.served, revision, sql);
  }

  get server(): HttpServer {
    if (this.#server === null) throw new TypeError("The server has not been started");
    return this.#server;
  }

  /** Of a revision; with a slash at the end, as clients want it. */
  url(revision = ""): string {
    return `${this.server.url}/${revision === "" ? "" : `${revision}/`}`;
  }

  async post(
    path: string,
    body: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    const response = await fetch(`${this.server.url}${path}`, {
      method: "POST",
      body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
      headers: { "content-type": "application/json", ...headers },
    });
    const text = await response.text();
    return {
      status: response.status,
      type: response.headers.get("content-type"),
      text,
      // What it is the tests say.
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion
      body: text.startsWith("{") || text.startsWith("[") ? (parseOrNull(text) as never) : null!,
    };
  }

  /** To the database "shop". */
  pipeline(requests: readonly object[], baton: string | null = null, version = 2): Promise<Answer> {
    return this.post(`/shop/v${version}/pipeline`, { baton, requests });
  }

  /** The values of the only row, or the code of what the statement failed with. */
  async row(sql: string, path = "/shop/"): Promise<unknown[]> {
    const { body } = await this.post(`${path}v2/pipeline`, sqls(sql));
    const [first] = body.results;
    if (first.type === "error") return [first.error.code];
    return first.response.result.rows[0].map((value: { value: unknown }) => value.value);
  }

  /** Lets time pass, and what has waited for it happen. */
  async pass(ms: number): Promise<void> {
    this.nowMs += ms;
    await this.server.streams.sweep();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop();
    if (this.served instanceof ThreadedStore) await clear(this.served);
    else await this.served.closeAsync();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export interface Answer {
  readonly status: number;
  readonly type: string | null;
  readonly text: string;
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any;
}

/** Lines of a cursor are no JSON together. */
function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export const execute = (sql: string, more: object = {}): object => ({
  type: "execute",
  stmt: { sql, ...more },
});

export const CLOSE: object = { type: "close" };

/** The body of a pipeline: statements, and the stream is closed. */
export function sqls(...statements: string[]): object {
  return { requests: [...statements.map((sql) => execute(sql)), CLOSE] };
}

/** With headers that fetch does not let one set. */
export function rawPost(
  url: string,
  path: string,
  body: string,
  headers: Readonly<Record<string, string>>,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(`${url}${path}`, { method: "POST", headers }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on("end", () => resolve(text));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}
