/** What the server is and allows. */
import { z } from "zod";
import { type AdminRoute, defineRoute, ok } from "./admin-route.ts";
import { answerSchema, count } from "./schema.ts";

const ServerSchema = answerSchema(
  "Server",
  z.object({
    server: z.literal("bough"),
    protocols: z.array(z.string()),
    limits: z.object({
      streamIdleMs: count,
      transactionMs: count,
      statementMs: count,
      requestBytesMax: count,
      responseBytesMax: count,
      uploadBytesMax: count,
    }),
  }),
);

export const SERVICE_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: "/server",
    operationId: "getServer",
    tag: "server",
    summary: "What the server speaks and allows",
    permission: { on: "anybody" },
    answers: { 200: { description: "The server", schema: ServerSchema } },
    handle: async ({ context: { settings } }) => {
      const { streamIdleMs, transactionMs, statementMs } = settings;
      const { requestBytesMax, responseBytesMax, uploadBytesMax } = settings;
      return ok({
        server: "bough",
        protocols: ["hrana1", "hrana2", "hrana3"],
        limits: {
          streamIdleMs,
          transactionMs,
          statementMs,
          requestBytesMax,
          responseBytesMax,
          uploadBytesMax,
        },
      });
    },
  }),
];
