/**
 * The OpenAPI 3.1 document, made of the table of routes and of the schemas that check requests: it cannot say anything else
 * than what is checked. JSON Schema 2020-12 is OpenAPI's own dialect, so zod's output goes in as it is.
 */
import { z } from "zod";
import { PROBLEM_TYPE } from "../problem.ts";
import type { AdminRoute, AnswerDescription, Permission } from "./admin-route.ts";
import { ANSWERS, REQUESTS } from "./schema.ts";

export const API_PREFIX = "/api/v1";

type Json = Record<string, unknown>;

const PARAMETERS: Readonly<Record<string, string>> = {
  database: 'Its name, or "id:" and its id',
  branch: 'Its name, with "%2F" for "/", or "id:" and its id',
  tag: "Its name",
  job: "Its id",
  transaction: "Its id: 32 hexadecimal digits, or a UUID",
};

const TAGS: readonly (readonly [name: string, description: string])[] = [
  ["server", "What the server is"],
  ["databases", "Databases of the store"],
  ["branches", "Branches, what they are and were"],
  ["files", "Plain SQLite files in and out"],
  ["retention", "How long versions are kept"],
  ["tags", "Fixed names of versions"],
  ["store", "The store as a whole"],
  ["maintenance", "Long work, as jobs"],
  ["jobs", "Long work that goes on after its request"],
  ["transactions", "What became of a transaction"],
];

export function makeDocument(routes: readonly AdminRoute[]): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const item = (paths[API_PREFIX + route.path] ??= { parameters: pathParameters(route.path) });
    item[route.method.toLowerCase()] = operationOf(route);
  }
  paths[`${API_PREFIX}/openapi.json`] = {
    get: {
      operationId: "getDocument",
      tags: ["server"],
      summary: "This document",
      responses: {
        200: { description: "It", content: { "application/json": { schema: { type: "object" } } } },
        default: PROBLEM_ANSWER,
      },
    },
  };
  return {
    openapi: "3.1.0",
    info: {
      title: "bough",
      version: "1",
      summary: "The admin API of a bough server",
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "/" }],
    tags: TAGS.map(([name, description]) => ({ name, description })),
    security: [{ token: [] }, {}],
    paths,
    components: {
      schemas: { ...components(REQUESTS, "input"), ...components(ANSWERS, "output") },
      securitySchemes: {
        token: { type: "http", scheme: "bearer", bearerFormat: "JWT" },
      },
    },
  };
}

function operationOf(route: AdminRoute): Json {
  const { operationId, tag, summary, permission, query, body, answers } = route;
  return {
    operationId,
    tags: [tag],
    summary,
    "x-permission": permissionText(permission),
    ...(query === null ? {} : { parameters: queryParameters(query) }),
    ...(body === null ? {} : { requestBody: bodyOf(body) }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, answer]) => [status, answerOf(answer)]),
      ),
      default: PROBLEM_ANSWER,
    },
  };
}

const PROBLEM_ANSWER: Json = {
  description: "What went wrong",
  content: { [PROBLEM_TYPE]: { schema: { $ref: "#/components/schemas/Problem" } } },
};

function answerOf({ description, schema, mediaType, hasLocation }: AnswerDescription): Json {
  const content =
    schema === undefined
      ? mediaType === undefined
        ? {}
        : { content: { [mediaType]: { schema: { type: "string" } } } }
      : { content: { "application/json": { schema: inlineSchema(schema, "output") } } };
  const headers =
    hasLocation === true
      ? { headers: { Location: { description: "Where it is", schema: { type: "string" } } } }
      : {};
  return { description, ...content, ...headers };
}

function bodyOf(body: z.ZodType | "file"): Json {
  if (body === "file")
    return {
      required: true,
      content: { "application/vnd.sqlite3": { schema: { type: "string", format: "binary" } } },
    };
  // None stands for an empty object.
  const isRequired = !body.safeParse({}).success;
  return {
    required: isRequired,
    content: { "application/json": { schema: inlineSchema(body, "input") } },
  };
}

function pathParameters(path: string): Json[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    description: PARAMETERS[name] ?? "",
    schema: { type: "string" },
  }));
}

function queryParameters(query: z.ZodObject): Json[] {
  return Object.entries(query.shape).map(([name, value]) => {
    const { $schema: _, description, ...schema } = z.toJSONSchema(value, { io: "input" });
    const required = !z.safeParse(value, undefined).success;
    return {
      name,
      in: "query",
      required,
      ...(description === undefined ? {} : { description }),
      schema,
    };
  });
}

/** Those with a name are references. */
function inlineSchema(schema: z.ZodType, io: "input" | "output"): Json {
  const named = (io === "input" ? REQUESTS : ANSWERS).get(schema);
  if (named !== undefined) return { $ref: `#/components/schemas/${named.id}` };
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io });
  return rest;
}

function components(registry: typeof ANSWERS, io: "input" | "output"): Json {
  const { schemas } = z.toJSONSchema(registry, {
    io,
    uri: (id) => `#/components/schemas/${id}`,
  });
  const bare = Object.entries(schemas).map(([id, schema]) => {
    const { $schema: _dialect, $id: _place, ...rest } = schema;
    return [id, rest] as const;
  });
  return Object.fromEntries(bare);
}

function permissionText(permission: Permission): string {
  switch (permission.on) {
    case "anybody":
      return "none; it shows what may be seen";
    case "visible database":
      return "read on the database or one of its branches";
    case "job":
      return "to have begun it, or admin on what it works on";
    case "named":
      return `${permission.action} on what the body names`;
    case "server":
    case "database":
    case "branch":
      return `${permission.action} on the ${permission.on}`;
  }
}
