/**
 * The admin API: routes whose schemas both check requests and make the OpenAPI document. Loaded with its libraries at the first request to
 * /api, which most servers never get.
 *
 * A1. Every route is made by `createRoute` with schemas, so that the document cannot say anything else than what is checked.
 * A2. Errors are problem details (RFC 9457) with the code of docs/errors.md.
 */
import { getRequestListener } from "@hono/node-server";
import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Principal } from "../access.ts";
import { describeFailure, type Failure } from "../failure.ts";
import { invalid } from "../hrana/decode.ts";
import type { ServerSettings } from "../setting-list.ts";

export interface AdminContext {
  readonly settings: ServerSettings;
  readonly onBug: (error: unknown) => void;
}

export type AdminListener = (
  request: IncomingMessage,
  response: ServerResponse,
  principal: Principal,
) => Promise<void>;

interface AdminEnvironment {
  Bindings: { readonly incoming: IncomingMessage };
  Variables: { principal: Principal };
}

const PROBLEM_TYPE = "application/problem+json";

const Problem = z
  .object({
    type: z.literal("about:blank"),
    title: z.string(),
    status: z.int(),
    code: z.string().openapi({ example: "DATABASE_NOT_FOUND" }),
    detail: z.string(),
  })
  .openapi("Problem");

const ServerFacts = z
  .object({
    server: z.literal("bough"),
    protocols: z.array(z.string()).openapi({ example: ["hrana2", "hrana3"] }),
    limits: z.object({
      streamIdleMs: z.int(),
      transactionMs: z.int(),
      statementMs: z.int(),
      requestBytesMax: z.int(),
      responseBytesMax: z.int(),
    }),
  })
  .openapi("Server");

const showServer = createRoute({
  method: "get",
  path: "/api/v1/server",
  summary: "What the server speaks and allows",
  responses: {
    200: { description: "The server", content: { "application/json": { schema: ServerFacts } } },
    default: { description: "What went wrong", content: { [PROBLEM_TYPE]: { schema: Problem } } },
  },
});

export function makeAdminListener(context: AdminContext): AdminListener {
  const principals = new WeakMap<IncomingMessage, Principal>();
  const app = makeApp(context, principals);
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  return async (request, response, principal) => {
    principals.set(request, principal);
    await listener(request, response);
  };
}

function makeApp(
  { settings, onBug }: AdminContext,
  principals: WeakMap<IncomingMessage, Principal>,
): OpenAPIHono<AdminEnvironment> {
  const app = new OpenAPIHono<AdminEnvironment>({
    defaultHook: (result) => {
      if (result.success) return;
      const [issue] = result.error.issues;
      throw invalid(`"${issue?.path.join(".") ?? ""}": ${issue?.message ?? "not valid"}`);
    },
  });
  app.use(async (request, next) => {
    const principal = principals.get(request.env.incoming);
    if (principal !== undefined) request.set("principal", principal);
    await next();
  });
  app.openapi(showServer, (request) => {
    const { streamIdleMs, transactionMs, statementMs, requestBytesMax, responseBytesMax } =
      settings;
    return request.json(
      {
        server: "bough" as const,
        protocols: ["hrana1", "hrana2", "hrana3"],
        limits: { streamIdleMs, transactionMs, statementMs, requestBytesMax, responseBytesMax },
      },
      200,
    );
  });
  app.doc31("/api/v1/openapi.json", {
    openapi: "3.1.0",
    info: { title: "bough", version: "1", description: "The admin API of a bough server" },
  });
  app.notFound((request) =>
    problem({
      code: "ENDPOINT_NOT_FOUND",
      message: `Cannot find "${request.req.path}": the API has no such path`,
      status: 404,
    }),
  );
  app.onError((error) => {
    const failure = describeFailure(error);
    if (failure.isInternal) onBug(error);
    return problem(failure);
  });
  return app;
}

/** A2. */
function problem({
  code,
  message,
  status,
}: Pick<Failure, "code" | "message" | "status">): Response {
  const body: z.infer<typeof Problem> = {
    type: "about:blank",
    title: code.toLowerCase().replaceAll("_", " "),
    status,
    code,
    detail: message,
  };
  return Response.json(body, { status, headers: { "content-type": PROBLEM_TYPE } });
}
