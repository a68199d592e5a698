/** The admin API over HTTP, every answer compared with what the server's own OpenAPI document says of it. */
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HttpServer } from "../src/server/http-server.ts";
import type { Access, Principal } from "../src/server/access.ts";
import { compilePattern } from "../src/server/access/name-pattern.ts";
import type { Action } from "../src/server/access/principal.ts";
import { serveStore } from "../src/server/serve.ts";
import type { ServerSettings } from "../src/server/setting-list.ts";
import { openStore, type Store } from "../src/store/store.ts";
import type { StoreOptions } from "../src/store/store-options.ts";
import { ThreadedStore } from "../src/threads/threaded-store.ts";
import { StoreError } from "../src/errors.ts";
import { clear, execOn } from "./shared-threads.ts";

export interface AdminServerOptions {
  readonly settings?: Partial<ServerSettings>;
  readonly store?: StoreOptions;
  /** Of the store; a new directory by default. */
  readonly path?: string;
  readonly access?: Access;
  /** A store with threads that outlives the server, in place of one of its own. */
  readonly threads?: ThreadedStore;
}

export interface AdminRequest {
  readonly body?: unknown;
  /** As it is. */
  readonly raw?: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface AdminResponse {
  readonly status: number;
  readonly headers: Headers;
  // What it is the tests say.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any;
}

interface Operation {
  readonly responses: Readonly<Record<string, { readonly content?: Record<string, unknown> }>>;
}

export interface OpenApiDocument {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

export class AdminServer implements AsyncDisposable {
  readonly directory: string = mkdtempSync(join(tmpdir(), "bough-admin-"));
  readonly storePath: string;
  readonly served: Store | ThreadedStore;
  /** What the server has called a bug. */
  readonly bugs: unknown[] = [];
  /** Of event streams that are open. */
  readonly beats: Set<() => void> = new Set();
  #server: HttpServer | null = null;
  #check: DocumentCheck | null = null;

  private constructor({ store = {}, path, threads }: AdminServerOptions) {
    this.storePath = path ?? join(this.directory, "store");
    this.served = threads ?? openStore(this.storePath, store);
  }

  static async start(options: AdminServerOptions = {}): Promise<AdminServer> {
    const admin = new AdminServer(options);
    const { access } = options;
    admin.#server = await serveStore(admin.served, {
      settings: { port: 0, ...options.settings },
      startHeartbeat: (beat) => {
        admin.beats.add(beat);
        return () => void admin.beats.delete(beat);
      },
      onBug: (error) => admin.bugs.push(error),
      ...(access === undefined ? {} : { access }),
    });
    return admin;
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

  url(path: string): string {
    return `${this.server.url}/api/v1${path}`;
  }

  fetch(method: string, path: string, request: AdminRequest = {}): Promise<Response> {
    const { body, raw, token, headers } = request;
    const sent = raw ?? (body === undefined ? null : JSON.stringify(body));
    return fetch(this.url(path), {
      method,
      body: sent,
      headers: {
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(raw instanceof ReadableStream ? { duplex: "half" } : {}),
    });
  }

  /** Throws for an answer that is not as the document says. */
  async call(method: string, path: string, request: AdminRequest = {}): Promise<AdminResponse> {
    const response = await this.fetch(method, path, request);
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    const body: unknown = type.includes("json") ? JSON.parse(text) : text;
    const check = await this.documentCheck();
    check.requireDocumented(method, path, { status: response.status, type, body });
    return { status: response.status, headers: response.headers, body };
  }

  async documentCheck(): Promise<DocumentCheck> {
    if (this.#check === null) {
      const response = await this.fetch("GET", "/openapi.json", { token: "all" });
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion
      this.#check = new DocumentCheck((await response.json()) as OpenApiDocument);
    }
    return this.#check;
  }

  /** The job at its end, followed by its events. */
  async ended(job: { readonly id: string }, token?: string): Promise<AdminResponse["body"]> {
    const response = await this.fetch(
      "GET",
      `/jobs/${job.id}/events`,
      token === undefined ? {} : { token },
    );
    await response.text();
    return (await this.call("GET", `/jobs/${job.id}`, token === undefined ? {} : { token })).body;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop();
    if (this.served instanceof ThreadedStore) await clear(this.served);
    else await this.served.closeAsync();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Compares answers with an OpenAPI document. */
export class DocumentCheck {
  readonly document: OpenApiDocument;
  /** "GET /api/v1/store 200" that have been seen. */
  readonly seen: Set<string> = new Set();
  readonly #ajv: Ajv2020 = new Ajv2020({ strict: true, allErrors: true });
  readonly #validators: Map<string, ValidateFunction> = new Map();
  readonly #templates: readonly (readonly [RegExp, string])[];

  constructor(document: OpenApiDocument) {
    this.document = document;
    addFormats.default(this.#ajv);
    this.#ajv.addKeyword("components");
    this.#ajv.addSchema({ $id: "openapi", components: document.components });
    this.#templates = Object.keys(document.paths).map((path) => [
      new RegExp(`^${path.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/?]+")}(?:\\?|$)`),
      path,
    ]);
  }

  requireDocumented(
    method: string,
    path: string,
    answer: { readonly status: number; readonly type: string; readonly body: unknown },
  ): void {
    const { status, type, body } = answer;
    const template = this.#templates.find(([pattern]) => pattern.test(`/api/v1${path}`))?.[1];
    const operation =
      template === undefined
        ? undefined
        : this.document.paths[template]?.[method === "HEAD" ? "get" : method.toLowerCase()];
    const what = `${method} ${template ?? path} ${status}`;
    if (operation === undefined) {
      if (status !== 404 && status !== 405 && status !== 403)
        throw new TypeError(`${what} is no operation of the document`);
      this.#validate("Problem", body, what);
      return;
    }
    const key = String(status) in operation.responses ? String(status) : "default";
    if (key === "default" && status < 400) throw new TypeError(`${what} is not in the document`);
    this.seen.add(`${method} ${template} ${status}`);
    const content = operation.responses[key]?.content;
    if (content === undefined) {
      if (body !== "") throw new TypeError(`${what} has a body: ${JSON.stringify(body)}`);
      return;
    }
    const [media = ""] = type.split(";", 1);
    const found = content[media];
    if (found === undefined) throw new TypeError(`${what} has the type "${type}"`);
    if (!media.includes("json") || method === "HEAD") return;
    const pointer = [template, method.toLowerCase(), "responses", key, "content", media, "schema"];
    this.#validateAt(pointer, body, what, found);
  }

  #validate(component: string, body: unknown, what: string): void {
    this.#run(`openapi#/components/schemas/${component}`, body, what, () => ({
      $ref: `openapi#/components/schemas/${component}`,
    }));
  }

  #validateAt(
    pointer: readonly (string | undefined)[],
    body: unknown,
    what: string,
    found: unknown,
  ): void {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const { schema } = found as { readonly schema: object };
    const text = JSON.stringify(schema).replaceAll('"#/components/', '"openapi#/components/');
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    this.#run(pointer.join(" "), body, what, () => JSON.parse(text) as object);
  }

  #run(key: string, body: unknown, what: string, schema: () => object): void {
    let validate = this.#validators.get(key);
    if (validate === undefined) this.#validators.set(key, (validate = this.#ajv.compile(schema())));
    if (validate(body)) return;
    throw new TypeError(
      `${what} is not as the document says: ${this.#ajv.errorsText(validate.errors)} in ${JSON.stringify(body)}`,
    );
  }
}

export interface TestScope {
  readonly action: Action;
  /** A pattern, as in tokens. */
  readonly database: string;
  readonly branch: string;
}

const ACCESS_OF_ACTION = { read: "ro", write: "rw", admin: "admin" } as const;

/** Tokens with names; "all" may do anything. */
export function namedTokens(tokens: Readonly<Record<string, readonly TestScope[]>>): Access {
  const all: TestScope = { action: "admin", database: "*", branch: "**" };
  return {
    isOpen: false,
    authenticate: ({ request: { authorization } }) => {
      const token = authorization?.replace(/^Bearer /, "") ?? "";
      const scopes = token === "all" ? [all] : tokens[token];
      if (scopes === undefined)
        throw new StoreError("FORBIDDEN", "Cannot let you in: the token is not known");
      return principalOf(token, scopes);
    },
    isCurrent: () => true,
    requireCurrent: () => Promise.resolve(),
  };
}

export function principalOf(id: string, scopes: readonly TestScope[]): Principal {
  return {
    id,
    subject: null,
    issuer: null,
    expiresAtMs: null,
    scopes: scopes.map(({ action, database, branch }) => ({
      database: compilePattern("database", database),
      branch: compilePattern("branch", branch),
      access: ACCESS_OF_ACTION[action],
      isAttachable: true,
    })),
  };
}
