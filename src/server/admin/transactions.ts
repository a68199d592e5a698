/** What became of a transaction: for a client that lost the answer. */
import { z } from "zod";
import { type AdminRoute, defineRoute, ok } from "./admin-route.ts";
import { requirePermission, seesDatabase } from "./permission.ts";
import { invalid } from "./request.ts";
import { answerSchema, count, futureTime, time } from "./schema.ts";

const Outcome = answerSchema(
  "Outcome",
  z.union([
    z.object({
      committed: z.literal(true),
      database: z.string().nullable().describe("null: it was deleted, and is gone"),
      version: count,
      at: time,
    }),
    z.object({
      committed: z.literal(false),
      since: time.describe("nothing with this id has committed since then"),
    }),
    z.object({
      committed: z.null().describe("it is not known"),
      reason: z.enum(["running", "expired", "following"]),
    }),
  ]),
);

const ID = /^(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$/;

export const TRANSACTION_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: "/transactions/{transaction}",
    operationId: "getOutcome",
    tag: "transactions",
    summary: "Whether a transaction with an id has committed",
    // Its id is not to be guessed. That of one on a database that may not be seen is refused.
    permission: { on: "anybody" },
    query: z.strictObject({
      startedAt: futureTime.optional().describe("when the transaction was begun first"),
    }),
    answers: { 200: { description: "The outcome", schema: Outcome } },
    handle: async ({ context: { store }, principal, parameters, query }) => {
      const id = parameters["transaction"] ?? "";
      if (!ID.test(id))
        throw invalid("path", [
          { path: "transaction", message: "it is not 32 hexadecimal digits, or a UUID" },
        ]);
      const { startedAt } = query;
      const outcome = await store.outcome(
        id,
        startedAt === undefined ? {} : { startedAt: new Date(startedAt) },
      );
      if (outcome.committed !== true) return ok(outcome);
      const { database } = outcome;
      if (database === null || !(await seesDatabase(store, principal, database)))
        requirePermission(principal, { action: "read", database: null, branch: null });
      return ok(outcome);
    },
  }),
];
