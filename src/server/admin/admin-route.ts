/**
 * One route of the admin API: what it takes, what it may answer, who may use it, and what it does. The table of all of them
 * (routes.ts) is what requests are checked by, what the OpenAPI document is made of, and what the tests of permissions walk.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { z } from "zod";
import type { Action, Principal, Target } from "../access/principal.ts";
import type { RequestSpan } from "../operations/tracing.ts";
import type { AdminContext } from "./admin-context.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** What a route needs before it is begun. More may be needed for what else the request names; `handle` asks for that. */
export type Permission<Body = never> =
  /** Whoever was let in; it shows each what it may see. */
  | { readonly on: "anybody" }
  | { readonly on: "server" | "database" | "branch"; readonly action: Action }
  /** To read one of the branches of the database is enough. */
  | { readonly on: "visible database" }
  /** For what the body names. */
  | {
      readonly on: "named";
      readonly action: Action;
      readonly target: (place: Place, body: Body) => Target;
    }
  /** Of whoever has begun it, and of those who could have. */
  | { readonly on: "job" };

/** What the path names, by its name now; "" where it names nothing. */
export interface Place {
  readonly database: string;
  readonly branch: string;
}

export interface AnswerDescription {
  readonly description: string;
  /** None: there is no body. */
  readonly schema?: z.ZodType;
  /** Instead of JSON. */
  readonly mediaType?: string;
  readonly hasLocation?: true;
}

/** What the client gets. A `stream` writes the answer by itself. */
export type Answer =
  | {
      readonly status: number;
      readonly body?: unknown;
      readonly headers?: Readonly<Record<string, string>>;
    }
  | { readonly stream: (response: ServerResponse) => Promise<void> };

/** A request that has been checked. */
export interface AdminCall<Query = unknown, Body = unknown> extends Place {
  readonly context: AdminContext;
  readonly principal: Principal;
  /** Null: the request has none. */
  readonly span: RequestSpan | null;
  /** Of the path, as they came. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly query: Query;
  readonly body: Body;
  readonly request: IncomingMessage;
  /** Aborted when the client goes. */
  readonly signal: AbortSignal;
}

interface Definition<Query extends z.ZodObject, Body extends z.ZodType> {
  readonly method: Method;
  /** With parameters in braces, below /api/v1. */
  readonly path: string;
  readonly operationId: string;
  readonly tag: string;
  readonly summary: string;
  readonly permission: Permission<z.output<Body>>;
  readonly query?: Query;
  /** "file": it is read by the route. */
  readonly body?: Body | "file";
  readonly answers: Readonly<Record<number, AnswerDescription>>;
  handle(call: AdminCall<z.output<Query>, z.output<Body>>): Promise<Answer>;
}

export interface AdminRoute extends Omit<
  Definition<z.ZodObject, z.ZodType>,
  "handle" | "permission" | "query" | "body"
> {
  readonly permission: Permission;
  readonly query: z.ZodObject | null;
  readonly body: z.ZodType | "file" | null;
  handle(call: AdminCall): Promise<Answer>;
}

export function defineRoute<
  Query extends z.ZodObject = z.ZodObject,
  Body extends z.ZodType = z.ZodUndefined,
>(definition: Definition<Query, Body>): AdminRoute {
  const { query = null, body = null } = definition;
  return {
    ...definition,
    query,
    body,
    handle: (call) =>
      // The request was parsed with these very schemas.
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion
      definition.handle(call as AdminCall<z.output<Query>, z.output<Body>>),
  };
}

export function ok(body: unknown): Answer {
  return { status: 200, body };
}

export const NO_CONTENT: Answer = { status: 204 };

/** `path` are the parts of the path of what was made. */
export function created(body: object, ...path: readonly string[]): Answer {
  const location = `/api/v1/${path.map((part) => encodeURIComponent(part)).join("/")}`;
  return { status: 201, body, headers: { location } };
}
