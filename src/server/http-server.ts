/**
 * The server: HTTP and WebSocket on one port, every request with its principal and its route.
 *
 *   bound (listener.ts) --start--> serving --stop--> stopping: what was asked is answered, nothing new is begun --> stopped
 *
 * Hrana is served on node:http itself: a request is one statement mostly, and a router with its own objects for requests and answers
 * costs more than the statement. What is asked seldom (/api) has one, loaded when it is first asked.
 *
 * Q1. Nothing is done for a request before its origin and its principal are known, but for telling that the server is there (probes.ts).
 * Q2. What has no principal is answered by nothing but that, and which protocols there are, and no (default deny). Connections that go on are
 *     asked about again each second, and before each request: they end with their token.
 * Q3. A failed request is told its code; a bug is told to the log and not to the client.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Server as TlsServer } from "node:https";
import { StoreError } from "../errors.ts";
import type { Access, Principal } from "./access.ts";
import { withoutOtherNames } from "./access/principal.ts";
import { httpRefusal } from "./access/refusal.ts";
import type { AdminStore } from "./admin/admin-store.ts";
import type { AdminApi } from "./admin/api.ts";
import { describeFailure, encodeFailure } from "./failure.ts";
import { Endpoint, type HranaContext } from "./hrana/endpoint.ts";
import { answerHrana, answerQuestion, isQuestion, KIND_OF_CALL } from "./hrana/http-calls.ts";
import { StreamTable } from "./hrana/stream-table.ts";
import { credentialsOf, notFound, readBody, sendJson } from "./http-exchange.ts";
import { type Listener, SERVER_OPTIONS } from "./listener.ts";
import { LOCAL_PRINCIPAL, LocalSocket, withLocalPrincipal } from "./local-socket.ts";
import { checkOrigin, isAllowedOrigin } from "./origin.ts";
import { answerProbe, MetricsEndpoint, probeOf } from "./operations/probes.ts";
import { type RequestKind, ServerCounters } from "./operations/server-counters.ts";
import { type RequestSpan, targetOf, type Tracing } from "./operations/tracing.ts";
import { describeError, NO_LOG, type ServerLog } from "./operations/server-log.ts";
import { closeWithConnection } from "./queued-answers.ts";
import { sendProblem } from "./problem.ts";
import { useOriginForm } from "./request-target.ts";
import { type Route, Router } from "./route.ts";
import type { ServedStore } from "./served-store.ts";
import { SendLimit } from "./send-limit.ts";
import type { ServerSettings } from "./setting-list.ts";
import { Stages } from "./stages.ts";
import type { TlsFiles } from "./tls-files.ts";
import { WebSockets } from "./web-sockets.ts";

export interface HttpServerOptions {
  /** Bound, and the server's from now on. */
  readonly listener: Listener;
  readonly store: ServedStore;
  /** The same store. */
  readonly admin: AdminStore;
  readonly settings: ServerSettings;
  readonly access: Access;
  /** Where the socket for commands on this machine is made. This process has the store's lock. */
  readonly storeDirectory?: string | null;
  readonly log?: ServerLog;
  /** None: there are no spans. The server ends it. */
  readonly tracing?: Tracing | null;
  /** Milliseconds; only differences count. */
  readonly now?: () => number;
  /** For event streams; see admin/job-events.ts. */
  readonly startHeartbeat?: (beat: () => void) => () => void;
  /** Told of errors that are bugs. */
  readonly onBug?: (error: unknown) => void;
  /** Told what went wrong with a certificate while the one of before is used. */
  readonly onProblem?: (error: unknown) => void;
}

const LOOK_MS = 1000;
const OWN_HOSTS_MAX = 1000;

export class HttpServer {
  readonly #settings: ServerSettings;
  readonly #access: Access;
  readonly #log: ServerLog;
  readonly #metrics: MetricsEndpoint;
  readonly #context: HranaContext;
  readonly #router: Router;
  readonly #listener: Listener;
  readonly #server: Server | TlsServer;
  readonly #tls: TlsFiles | null;
  /** What was wrong with the certificate when it was looked at last. */
  #tlsProblem: string | null = null;
  readonly #onProblem: (error: unknown) => void;
  readonly #local: LocalSocket | null;
  readonly #webSockets: WebSockets;
  /** Values of the header Host that were found to be this server's. */
  readonly #ownHosts: Set<string> = new Set();
  readonly #adminStore: AdminStore;
  readonly #startHeartbeat: HttpServerOptions["startHeartbeat"];
  #admin: Promise<AdminApi> | null = null;
  #stopping: Promise<void> | null = null;
  readonly #timer: NodeJS.Timeout;

  private constructor(options: HttpServerOptions) {
    const { listener, store, settings, log = NO_LOG, tracing = null } = options;
    const { now = () => performance.now() } = options;
    const access = withLocalPrincipal(options.access);
    this.#settings = settings;
    this.#adminStore = options.admin;
    this.#startHeartbeat = options.startHeartbeat;
    this.#access = access;
    this.#log = log;
    const counters = new ServerCounters({ settings, log });
    const onBug = (error: unknown): void => {
      counters.bugs++;
      log.error("bug", { error: describeError(error) });
      options.onBug?.(error);
    };
    const streams = new StreamTable({ ...settings, now, onBug });
    const sending = new SendLimit(settings);
    const storedSql = { characters: 0 };
    this.#context = {
      store,
      settings,
      streams,
      access,
      sending,
      stages: new Stages(() => this.#closeIdle()),
      storedSql,
      now,
      counters,
      tracing,
      onBug,
    };
    const open = (): { readonly streams: number; readonly webSockets: number } => ({
      streams: streams.size,
      webSockets: this.#webSockets.size,
    });
    this.#metrics = new MetricsEndpoint({ counters, store, open, now });
    this.#onProblem = options.onProblem ?? ((): void => {});
    this.#router = new Router(settings);
    this.#listener = listener;
    this.#tls = listener.tls;
    this.#server = listener.server;
    const take = (request: IncomingMessage, response: ServerResponse): void => {
      useOriginForm(request);
      closeWithConnection(response);
      void this.#take(request, response);
    };
    const { storeDirectory = null } = options;
    this.#local =
      storeDirectory === null ? null : new LocalSocket(storeDirectory, SERVER_OPTIONS, take);
    this.#webSockets = new WebSockets(this.#context, (request) => this.#admitUpgrade(request));
    listener.serve({
      take,
      upgrade: (request, socket, head) => {
        useOriginForm(request);
        this.#webSockets.upgrade(request, socket, head);
      },
    });
    this.#timer = setInterval(() => this.look(), LOOK_MS).unref();
  }

  /** Resolves when it can be reached by everybody who may. */
  static async start(options: HttpServerOptions): Promise<HttpServer> {
    const server = new HttpServer(options);
    await server.#local?.listen().catch((error: unknown) => {
      server.#log.warn("socket.none", { error: describeError(error) });
    });
    server.#log.info("server.start", { url: server.url });
    return server;
  }

  get log(): ServerLog {
    return this.#log;
  }

  /** Where it listens: "http://127.0.0.1:8080". */
  get url(): string {
    return this.#listener.url;
  }

  /** Open streams, over HTTP and WebSocket. */
  get streams(): StreamTable {
    return this.#context.streams;
  }

  /** Bytes of answers that clients have not read yet. */
  get unsentBytes(): number {
    return this.#context.sending.bytes;
  }

  /** Ends what goes on with a token that is good no more, and takes a certificate that has changed. Called by itself each second. */
  look(): void {
    if (!this.#access.isOpen) this.#webSockets.checkAccess();
    try {
      const tls = this.#tls?.changed() ?? null;
      if (tls !== null && "setSecureContext" in this.#server) this.#server.setSecureContext(tls);
      this.#tlsProblem = null;
    } catch (error) {
      const problem = String(error);
      if (problem !== this.#tlsProblem) this.#onProblem(error); // Once, not each second.
      this.#tlsProblem = problem;
    }
  }

  /** Resolves when everything that was asked is answered, or `stopMs` are over; and again so long at most until what is open is closed. */
  stop(): Promise<void> {
    return (this.#stopping ??= this.#stop());
  }

  async #stop(): Promise<void> {
    const { streams, store, tracing } = this.#context;
    const { stopMs } = this.#settings;
    this.#log.info("server.stopping", { streams: streams.size, stopMs });
    clearInterval(this.#timer);
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    const closedLocally = this.#local?.close();
    const sockets = this.#webSockets.stop();
    const jobs = this.#admin?.then((admin) => admin.stop());
    let isInTime = await endsWithin(stopMs, async (limit) => {
      await Promise.race([Promise.all([sockets, jobs]), limit]);
      this.#webSockets.terminate();
      await Promise.all([closed, closedLocally]);
    });
    this.#server.closeAllConnections();
    this.#local?.closeAllConnections();
    isInTime &&= await endsWithin(stopMs, async () => {
      await streams.close();
      await store.close();
    });
    if (tracing !== null) isInTime &&= await endsWithin(stopMs, () => tracing.stop());
    this.#log[isInTime ? "info" : "warn"]("server.stopped", { isInTime });
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { now, store, counters, tracing } = this.#context;
    const startedAt = now();
    let kind: RequestKind = "failed";
    let span: RequestSpan | null = null;
    try {
      const probe = probeOf(request);
      if (probe === null) {
        span = tracing?.request(request) ?? null;
        kind = await this.#answer(request, response, span);
      } else {
        kind = "probe";
        await answerProbe(probe, response, { store, isStopping: this.#stopping !== null });
      }
    } catch (error) {
      this.#fail(response, error, span);
    }
    span?.end(response.headersSent ? response.statusCode : undefined);
    const durationMs = now() - startedAt;
    counters.requestEnded(kind, durationMs);
    this.#closeIdle();
    if (!this.#log.isDebug) return;
    const { method = "", url = "" } = request;
    const [path = ""] = url.split("?", 1);
    this.#log.debug("request", { method, path, status: response.statusCode, durationMs });
  }

  /** Of a server that stops: what has been answered is kept for no more requests. */
  #closeIdle(): void {
    if (this.#stopping === null) return;
    setImmediate(() => {
      this.#server.closeIdleConnections();
      this.#local?.closeIdleConnections();
    });
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    span: RequestSpan | null,
  ): Promise<RequestKind> {
    if (this.#stopping !== null) {
      response.shouldKeepAlive = false;
      throw new StoreError("SERVER_STOPPING", "Cannot answer: the server is being stopped", {
        retryable: true,
      });
    }
    const { origin } = request.headers;
    const isLocal = this.#local?.has(request) ?? false;
    if (this.#access.isOpen && !isLocal) this.#checkOrigin(request);
    if (origin !== undefined && isAllowedOrigin(origin, this.#settings)) {
      response.setHeader("access-control-allow-origin", origin);
      response.setHeader("vary", "origin");
      if (request.method === "OPTIONS") {
        allowPreflight(request, response);
        return "question";
      }
    }
    const route = this.#router.route(placeOf(request));
    if (span !== null) tellRoute(span, route);
    const isAsking = request.method === "GET" || request.method === "HEAD";
    if (isAsking && route.kind === "hrana" && isQuestion(route.call)) {
      answerQuestion(route.call, response); // Q2
      return "question";
    }
    const principal = isLocal
      ? LOCAL_PRINCIPAL
      : await this.#access.authenticate(credentialsOf(request));
    try {
      return await this.#dispatch(request, response, { route, principal, span });
    } catch (error) {
      throw withoutOtherNames(principal, error);
    }
  }

  #checkOrigin({ headers: { host, origin } }: IncomingMessage): void {
    if (origin === undefined && host !== undefined && this.#ownHosts.has(host)) return;
    checkOrigin({ host, origin }, this.#settings);
    if (host !== undefined && this.#ownHosts.size < OWN_HOSTS_MAX) this.#ownHosts.add(host);
  }

  async #dispatch(
    request: IncomingMessage,
    response: ServerResponse,
    {
      route,
      principal,
      span,
    }: {
      readonly route: Route;
      readonly principal: Principal;
      readonly span: RequestSpan | null;
    },
  ): Promise<RequestKind> {
    switch (route.kind) {
      case "hrana": {
        if (request.method !== "POST") throw notFound(request);
        const endpoint = new Endpoint(this.#context, {
          revision: route.revision,
          principal,
          address: request.socket.remoteAddress,
          span,
        });
        const body = await readBody(request, this.#settings.requestBytesMax);
        await this.#context.stages.begin(request.socket);
        await answerHrana(endpoint, { call: route.call, body, response, request });
        return KIND_OF_CALL[route.call];
      }
      case "api": {
        const admin = await (this.#admin ??= this.#loadAdmin());
        const code = await admin.answer(request, response, { principal, span });
        if (code === null) return "api";
        this.#context.counters.requestFailed(code);
        return "failed";
      }
      case "metrics":
        await this.#metrics.answer(request, response, principal);
        return "metrics";
      case "none":
        throw notFound(request);
    }
  }

  async #loadAdmin(): Promise<AdminApi> {
    const { AdminApi } = await import("./admin/api.ts");
    const { settings, access, sending, now, onBug } = this.#context;
    const startHeartbeat = this.#startHeartbeat;
    const options = startHeartbeat === undefined ? {} : { startHeartbeat };
    return new AdminApi({
      store: this.#adminStore,
      settings,
      access,
      sending,
      now,
      onBug,
      ...options,
    });
  }

  #admitUpgrade(request: IncomingMessage): Route {
    if (this.#stopping !== null)
      throw new StoreError(
        "SERVER_STOPPING",
        "Cannot open a WebSocket: the server is being stopped",
      );
    if (this.#access.isOpen) this.#checkOrigin(request);
    return this.#router.route(placeOf(request));
  }

  /** Q3. */
  #fail(response: ServerResponse, error: unknown, span: RequestSpan | null): void {
    const failure = describeFailure(error);
    span?.failed(failure.code);
    if (response.destroyed) return; // Nobody is there to be told.
    this.#context.counters.requestFailed(failure.code);
    if (failure.isInternal) this.#context.onBug(error);
    // What was not read of the request would be taken for the next one.
    if (failure.code === "REQUEST_TOO_LARGE") response.shouldKeepAlive = false;
    if (!response.headersSent) {
      const { challenge = null, retryAfter } = httpRefusal(error) ?? {};
      if (challenge !== null) response.setHeader("www-authenticate", challenge);
      if (retryAfter !== undefined) response.setHeader("retry-after", retryAfter);
    }
    if (/^\/+api(?:\/|$)/.test(response.req.url ?? "")) sendProblem(response, failure);
    else sendJson(response, failure.status, encodeFailure(failure));
  }
}

/** False: the time was over first, and what `body` does goes on. It gets what resolves then. */
async function endsWithin(
  ms: number,
  body: (limit: Promise<void>) => Promise<void>,
): Promise<boolean> {
  let timer: NodeJS.Timeout | null = null;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  try {
    return await Promise.race([body(limit).then(() => true), limit.then(() => false)]);
  } finally {
    if (timer !== null) clearTimeout(timer);
  }
}

function tellRoute(span: RequestSpan, route: Route): void {
  if (route.kind === "hrana")
    span.routed(
      route.call === "root" ? "/{revision}/" : `/{revision}/${route.call}`,
      targetOf(route.revision),
    );
  else if (route.kind === "metrics") span.routed("/metrics", { database: null, branch: null });
}

function allowPreflight(request: IncomingMessage, response: ServerResponse): void {
  const headers = request.headers["access-control-request-headers"];
  response.writeHead(204, {
    "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
    ...(headers === undefined ? {} : { "access-control-allow-headers": headers }),
    "access-control-max-age": "600",
  });
  response.end();
}

function placeOf({ url = "/", headers }: IncomingMessage): {
  readonly url: string;
  readonly host: string | undefined;
  readonly namespace: string | undefined;
} {
  const namespace = headers["x-namespace"];
  return {
    url,
    host: headers.host,
    namespace: typeof namespace === "string" ? namespace : undefined,
  };
}
