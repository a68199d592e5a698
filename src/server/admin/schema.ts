/**
 * The schemas of the API. Those with a name become the components of the OpenAPI document (openapi.ts).
 *
 * J1. A request is refused for whatever it has beyond its schema; an answer has exactly what its schema says, times as RFC 3339 in UTC.
 */
import { z } from "zod";

interface Named {
  readonly id: string;
}

export const REQUESTS: z.core.$ZodRegistry<Named> = z.registry<Named>();
export const ANSWERS: z.core.$ZodRegistry<Named> = z.registry<Named>();

export function requestSchema<T extends z.ZodType>(id: string, schema: T): T {
  REQUESTS.add(schema, { id });
  return schema;
}

export function answerSchema<T extends z.ZodType>(id: string, schema: T): T {
  ANSWERS.add(schema, { id });
  return schema;
}

/** Longer than any name or revision. */
const TEXT_LENGTH_MAX = 512;

export const time: z.ZodString = z.string().meta({ format: "date-time" });
export const count: z.ZodInt = z.int().min(0);
/** The store says what is wrong with it. */
export const name: z.ZodString = z.string().max(TEXT_LENGTH_MAX);
export const revision: z.ZodString = z
  .string()
  .max(TEXT_LENGTH_MAX)
  .describe('"shop/dev", "shop@120", "shop/dev@-5m"; from "@" on for the one that the path names');
export const futureTime: z.ZodISODateTime = z.iso.datetime({ offset: true });

const LIMIT_DEFAULT = 100;
const LIMIT_MAX = 1000;
const CURSOR_LENGTH_MAX = 1024;

export const limit: z.ZodDefault<z.ZodInt> = z
  .int()
  .min(1)
  .max(LIMIT_MAX)
  .default(LIMIT_DEFAULT)
  .describe("how many at most");
export const cursor: z.ZodOptional<z.ZodString> = z
  .string()
  .min(1)
  .max(CURSOR_LENGTH_MAX)
  .optional()
  .describe('"next" of the answer before');

export const PageQuery: z.ZodObject<{ limit: typeof limit; cursor: typeof cursor }> =
  z.strictObject({ limit, cursor });

/** A list, one page of it. */
export function pageOf<T extends z.ZodType>(
  item: T,
): z.ZodObject<{ items: z.ZodArray<T>; next: z.ZodNullable<z.ZodString> }> {
  return z.object({
    items: z.array(item),
    next: z.string().nullable().describe('to be given as "cursor" for the next page'),
  });
}

export const ProblemSchema: z.ZodType = answerSchema(
  "Problem",
  z.object({
    type: z.literal("about:blank"),
    title: z.string().describe("the phrase of the status"),
    status: z.int().min(400).max(599),
    code: z
      .string()
      .describe("stable; docs/errors.md lists them")
      .meta({
        examples: ["DATABASE_NOT_FOUND"],
      }),
    detail: z.string(),
    retryable: z.boolean().describe("the same request may succeed if repeated"),
    details: z.record(z.string(), z.unknown()).describe("facts for programs"),
  }),
);
