/** The parts of a request, checked by the schemas of its route. What is wrong is refused as REQUEST_INVALID, each fault with its path. */
import type { IncomingMessage } from "node:http";
import { z } from "zod";
import { StoreError } from "../../errors.ts";
import { readBody } from "../http-exchange.ts";

const JSON_TYPE = /^application\/(?:json|[\w.+-]+\+json)\s*(?:;|$)/i;
/** Nothing that the API takes as JSON is longer. */
const BODY_BYTES_MAX = 256 * 1024;
const INTEGER = /^-?[0-9]{1,16}$/;

export function parseQuery(
  schema: z.ZodObject | null,
  given: Readonly<Record<string, unknown>>,
): unknown {
  const types = schema === null ? {} : typesOf(schema);
  const values = Object.entries(given).map(([name, value]) => [
    name,
    typeof value === "string" ? fromText(value, types[name]) : value,
  ]);
  return parse(schema ?? NOTHING, Object.fromEntries(values), "query");
}

/** No body is the same as an empty object. */
export async function parseJsonBody(
  schema: z.ZodType | null,
  request: IncomingMessage,
): Promise<unknown> {
  // Nothing more would come, not even its end.
  if (request.destroyed) throw new Error("The client has gone");
  const text = await readBody(request, BODY_BYTES_MAX);
  if (text === "") return schema === null ? undefined : parse(schema, {}, "body");
  if (schema === null) throw invalid("body", [{ path: "", message: "there is to be none" }]);
  const type = request.headers["content-type"] ?? "";
  if (!JSON_TYPE.test(type))
    throw invalid("header", [
      { path: "content-type", message: `"${type}" is not "application/json"` },
    ]);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid("body", [{ path: "", message: "it is not JSON" }], cause);
  }
  return parse(schema, value, "body");
}

interface Fault {
  /** "name", "retention.hourlyMs"; "" is the whole. */
  readonly path: string;
  readonly message: string;
}

export function invalid(
  part: "query" | "body" | "header" | "path",
  faults: readonly Fault[],
  cause?: unknown,
): StoreError {
  const shown = faults
    .slice(0, 5)
    .map(({ path, message }) => (path === "" ? message : `"${path}": ${message}`));
  return new StoreError(
    "REQUEST_INVALID",
    `Cannot use the ${part} of the request: ${shown.join("; ")}`,
    { cause, details: { part, faults } },
  );
}

const NOTHING = z.strictObject({});

function parse(schema: z.ZodType, value: unknown, part: "query" | "body"): unknown {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalid(part, parsed.error.issues.flatMap(faultsOf));
}

function faultsOf(issue: z.core.$ZodIssue): Fault[] {
  const path = issue.path.map(String);
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => ({ path: [...path, key].join("."), message: "is not known" }));
  return [{ path: path.join("."), message: inWords(issue) }];
}

const KINDS: Readonly<Record<string, string>> = {
  string: "a text",
  int: "a whole number",
  number: "a number",
  boolean: "true or false",
  object: "an object",
  array: "a list",
};

/** What the library says is for who knows its schemas. */
function inWords(issue: z.core.$ZodIssue): string {
  if (issue.message.endsWith("received undefined")) return "is missing";
  const isText = "origin" in issue && issue.origin === "string";
  if (issue.code === "invalid_type") return `is not ${KINDS[issue.expected] ?? issue.expected}`;
  if (issue.code === "invalid_value")
    return `is not one of ${issue.values.map((value) => JSON.stringify(value)).join(", ")}`;
  if (issue.code === "too_small") return isText ? "is too short" : `is below ${issue.minimum}`;
  if (issue.code === "too_big")
    return isText ? `has more than ${issue.maximum} characters` : `is above ${issue.maximum}`;
  return issue.message;
}

type ParameterType = "integer" | "boolean" | "string";

const known = new WeakMap<z.ZodObject, Record<string, ParameterType>>();

/** What the document says that they are, so that both agree. */
function typesOf(schema: z.ZodObject): Record<string, ParameterType> {
  let types = known.get(schema);
  if (types !== undefined) return types;
  types = {};
  for (const [name, value] of Object.entries(schema.shape)) {
    const { type } = z.toJSONSchema(value, { io: "input" });
    types[name] = type === "integer" || type === "boolean" ? type : "string";
  }
  known.set(schema, types);
  return types;
}

/** What is no such value stays text, which the schema refuses. */
function fromText(text: string, type: ParameterType | undefined): unknown {
  if (type === "integer" && INTEGER.test(text)) return Number(text);
  if (type === "boolean" && (text === "true" || text === "false")) return text === "true";
  return text;
}
