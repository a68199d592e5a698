/** A server in the test's process, on a store of its own, with a clock that the test moves. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HttpServer } from "../src/server/http-server.ts";
import type { ServerSettings } from "../src/server/setting-list.ts";
import { serveStore } from "../src/server/serve.ts";
import { openStore, type Store } from "../src/store/store.ts";

export class ServedDirectory implements AsyncDisposable {
  readonly directory: string = mkdtempSync(join(tmpdir(), "bough-server-"));
  readonly store: Store;
  /** What the server has called a bug. */
  readonly bugs: unknown[] = [];
  /** What its clock says. */
  nowMs = 0;
  #server: HttpServer | null = null;

  private constructor() {
    this.store = openStore(join(this.directory, "store"));
  }

  static async start(settings: Partial<ServerSettings> = {}): Promise<ServedDirectory> {
    const served = new ServedDirectory();
    served.#server = await serveStore(served.store, {
      settings: { port: 0, ...settings },
      now: () => served.nowMs,
      onBug: (error) => served.bugs.push(error),
    });
    return served;
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
      body: typeof body === "string" ? body : JSON.stringify(body),
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

  /** Lets time pass, and what has waited for it happen. */
  async pass(ms: number): Promise<void> {
    this.nowMs += ms;
    await this.server.streams.sweep();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop();
    await this.store.closeAsync();
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
