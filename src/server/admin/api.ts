/**
 * The admin API: everything below /api. Loaded with its libraries at the first request there, which most servers never get.
 *
 *   request --route, permission, schemas--> a route's `handle` --> answer          routes.ts has the table of routes
 *
 * A1. A request reaches a route's `handle` only with the permission that the table says, and with a query and a body that its schemas let pass.
 * A2. Errors are problem details (RFC 9457) with the code of docs/errors.md, and tell the principal only what it may see.
 * A3. The document at /api/v1/openapi.json is made of the same table and the same schemas.
 */
import findMyWay from "find-my-way";
import type { IncomingMessage, ServerResponse } from "node:http";
import { StoreError } from "../../errors.ts";
import type { Access, Principal } from "../access.ts";
import { withoutOtherNames } from "../access/principal.ts";
import { describeFailure } from "../failure.ts";
import type { RequestSpan, TracedTarget } from "../operations/tracing.ts";
import { sendProblem } from "../problem.ts";
import type { SendLimit } from "../send-limit.ts";
import type { ServerSettings } from "../setting-list.ts";
import type { AdminContext } from "./admin-context.ts";
import {
  type AdminCall,
  type AdminRoute,
  type Answer,
  type Method,
  ok,
  type Place,
} from "./admin-route.ts";
import type { AdminStore } from "./admin-store.ts";
import { sendAnswer } from "./answer.ts";
import { everyHeartbeat } from "./job-events.ts";
import { JobTable } from "./job-table.ts";
import { API_PREFIX, makeDocument } from "./openapi.ts";
import { admit, admitNamed } from "./permission.ts";
import { parseJsonBody, parseQuery } from "./request.ts";
import { ADMIN_ROUTES } from "./routes.ts";

export interface AdminApiOptions {
  readonly store: AdminStore;
  readonly settings: ServerSettings;
  readonly access: Access;
  readonly sending: SendLimit;
  /** Milliseconds; only differences count. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly clock?: () => number;
  /** See job-events.ts. */
  readonly startHeartbeat?: (beat: () => void) => () => void;
  readonly onBug: (error: unknown) => void;
}

/** Longer than any name, encoded. */
const PARAMETER_LENGTH_MAX = 2048;
const METHODS: readonly Method[] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

export class AdminApi {
  readonly #context: AdminContext;
  readonly #onBug: (error: unknown) => void;
  readonly #stopping: AbortController = new AbortController();
  readonly #router: ReturnType<typeof makeRouter> = makeRouter();

  constructor({
    store,
    settings,
    access,
    sending,
    now,
    clock = Date.now,
    startHeartbeat = everyHeartbeat,
    onBug,
  }: AdminApiOptions) {
    const jobs = new JobTable({ now, clock, onBug });
    const stopping = this.#stopping.signal;
    this.#context = { store, settings, access, sending, jobs, startHeartbeat, stopping };
    this.#onBug = onBug;
  }

  /** Answers; never fails. Resolves with the code of what the client was refused with; null: it was not. */
  async answer(
    request: IncomingMessage,
    response: ServerResponse,
    caller: Caller,
  ): Promise<string | null> {
    try {
      const answer = await this.#handle(request, response, caller);
      await sendAnswer(request, response, { answer, sending: this.#context.sending });
      return null;
    } catch (error) {
      const { code } = describeFailure(error);
      caller.span?.failed(code);
      if (response.destroyed) return null; // Nobody is there to be told.
      this.#fail(request, response, withoutOtherNames(caller.principal, error));
      return code;
    }
  }

  /** Ends event streams, cancels jobs, and resolves when these have ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#context.jobs.stop();
  }

  async #handle(
    request: IncomingMessage,
    response: ServerResponse,
    { principal, span }: Caller,
  ): Promise<Answer> {
    const { route, params, searchParams } = this.#find(request, response);
    if (route === null) return ok(documentOf());
    const path = pathOf(params);
    const place = await admit(this.#context.store, principal, {
      permission: route.permission,
      path,
    });
    span?.routed(API_PREFIX + route.path, targetOf(place));
    const query = parseQuery(route.query, searchParams);
    const body = route.body === "file" ? undefined : await parseJsonBody(route.body, request);
    admitNamed(principal, route.permission, { place, body });
    const abort = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished) abort.abort(new Error("The client has gone"));
    });
    const call: AdminCall = {
      context: this.#context,
      principal,
      span,
      ...place,
      parameters: params,
      query,
      body,
      request,
      signal: abort.signal,
    };
    return await route.handle(call);
  }

  /** Throws ENDPOINT_NOT_FOUND or METHOD_NOT_ALLOWED. */
  #find(request: IncomingMessage, response: ServerResponse): RouteMatch {
    const { url = "" } = request;
    const method = request.method === "HEAD" ? "GET" : (request.method ?? "");
    const match = isMethod(method) ? this.#match(method, url) : null;
    if (match !== null) return match;
    const [path = ""] = url.split("?", 1);
    const allowed = METHODS.filter((each) => this.#match(each, url) !== null);
    if (allowed.length === 0)
      throw new StoreError(
        "ENDPOINT_NOT_FOUND",
        `Cannot find "${path.slice(0, 200)}": the API has no such path`,
      );
    response.setHeader("allow", allowed.includes("GET") ? ["HEAD", ...allowed] : allowed);
    throw new StoreError(
      "METHOD_NOT_ALLOWED",
      `Cannot ${method} "${path.slice(0, 200)}": it is for ${allowed.join(", ")}`,
    );
  }

  /** A part of a path that is empty names nothing. */
  #match(method: Method, url: string): RouteMatch | null {
    const found = this.#router.find(method, url);
    if (found === null || Object.values(found.params).includes("")) return null;
    const { store, params, searchParams } = found;
    // The table's routes were put in with the paths that have these parameters.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const known = { route: store as AdminRoute | null, params: params as Record<string, string> };
    return { ...known, searchParams };
  }

  /** A2. */
  #fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const failure = describeFailure(error);
    if (failure.isInternal) this.#onBug(error);
    // What was not read of the request would be taken for the next one.
    if (!request.complete) response.shouldKeepAlive = false;
    sendProblem(response, failure);
  }
}

interface Caller {
  readonly principal: Principal;
  readonly span: RequestSpan | null;
}

interface RouteMatch {
  /** Null: the document. */
  readonly route: AdminRoute | null;
  readonly params: Readonly<Record<string, string>>;
  readonly searchParams: Readonly<Record<string, unknown>>;
}

function makeRouter(): ReturnType<typeof findMyWay> {
  const router = findMyWay({ maxParamLength: PARAMETER_LENGTH_MAX });
  router.on("GET", `${API_PREFIX}/openapi.json`, nothing, null);
  for (const route of ADMIN_ROUTES)
    router.on(
      route.method,
      API_PREFIX + route.path.replaceAll(/\{(\w+)\}/g, ":$1"),
      nothing,
      route,
    );
  return router;
}

/** The router only finds. */
function nothing(): void {}

function pathOf({ database, branch }: Readonly<Record<string, string>>): {
  database?: string;
  branch?: string;
} {
  return {
    ...(database === undefined ? {} : { database }),
    ...(branch === undefined ? {} : { branch }),
  };
}

function targetOf({ database, branch }: Place): TracedTarget {
  return {
    database: database === "" ? null : database,
    branch: branch === "" ? null : branch,
  };
}

function isMethod(method: string): method is Method {
  return METHODS.some((each) => each === method);
}

let document: Record<string, unknown> | null = null;

function documentOf(): Record<string, unknown> {
  return (document ??= makeDocument(ADMIN_ROUTES));
}
