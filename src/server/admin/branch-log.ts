/** The commits of a branch, a page at a time. */
import { z } from "zod";
import type { Commit } from "../../store/commit-log.ts";
import { type AdminRoute, defineRoute, ok } from "./admin-route.ts";
import { afterKey, cursorOf } from "./paging.ts";
import { seesBranch } from "./permission.ts";
import { invalid } from "./request.ts";
import { answerSchema, count, cursor, limit, pageOf, time } from "./schema.ts";

const CommitPage = answerSchema(
  "CommitPage",
  pageOf(
    answerSchema(
      "Commit",
      z.object({
        version: count,
        timestamp: time,
        pageCount: count.describe("pages of the database after the commit"),
        changedPages: count,
        branch: z
          .string()
          .nullable()
          .describe(
            "the branch that it was made on, by its name now; null: one that may not be read",
          ),
        parent: count.nullable().describe("null for the first, and where that has expired"),
      }),
    ),
  ),
);

const LogQuery = z.strictObject({
  limit,
  cursor,
  before: z.int().min(1).optional().describe("only versions below this one"),
});

export const LOG_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: "/databases/{database}/branches/{branch}/log",
    operationId: "listCommits",
    tag: "branches",
    summary: "Commits of a branch, the newest first, also those from before its fork",
    permission: { on: "branch", action: "read" },
    query: LogQuery,
    answers: { 200: { description: "The commits", schema: CommitPage } },
    handle: async ({ context: { store }, principal, database, branch, query }) => {
      const newest = newestVersion(query);
      const found = await store.branchLog(database, branch, {
        limit: query.limit + 1,
        before: newest,
      });
      const commits = found.slice(0, query.limit);
      const last = commits.at(-1);
      const next =
        found.length > commits.length && last !== undefined ? cursorOf(String(last.version)) : null;
      const shown = (commit: Commit): object =>
        seesBranch(principal, { database, branch: commit.branch })
          ? commit
          : { ...commit, branch: null };
      return ok({ items: commits.map(shown), next });
    },
  }),
];

/** The log gives versions up to this one. */
function newestVersion(query: z.output<typeof LogQuery>): number {
  const after = afterKey(query);
  if (after !== null && !/^[1-9][0-9]{0,14}$/.test(after))
    throw invalid("query", [{ path: "cursor", message: "it is not one of this list" }]);
  const below = Math.min(query.before ?? Infinity, after === null ? Infinity : Number(after));
  return below - 1;
}
