/** Routes of how long versions are kept. */
import { z } from "zod";
import type { KeptVersion } from "../../store/retention-status.ts";
import { type AdminRoute, defineRoute, ok } from "./admin-route.ts";
import { pageOfNames } from "./paging.ts";
import { answerSchema, count, PageQuery, requestSchema, time } from "./schema.ts";

const bound = z.int().min(0).nullable();
const windows = {
  everyCommitMs: bound.describe("every commit is readable for so long"),
  hourlyMs: bound.describe("the last checkpoint of each hour is kept for so long"),
  dailyMs: bound.describe("the last checkpoint of each day (UTC) is kept for so long"),
  undeleteMs: bound.describe("what was deleted can come back for so long"),
};
const history = { historyBytesMax: bound.describe("history segments of the database, in bytes") };

const Policy = answerSchema(
  "RetentionPolicy",
  z.object({ ...windows, ...history }).describe("null: no bound"),
);

const DatabaseRetention = requestSchema(
  "DatabaseRetention",
  z
    .strictObject({ ...windows, ...history })
    .partial()
    .describe("what is left out stays as it is; null: no bound"),
);
const BranchRetention = requestSchema(
  "BranchRetention",
  z.strictObject(windows).partial().describe("what is left out stays as it is; null: no bound"),
);

const Status = answerSchema(
  "RetentionStatus",
  z.object({
    policy: Policy,
    everyCommitFrom: z
      .object({ version: count, timestamp: time })
      .nullable()
      .describe("every commit from this one on is readable; null: there are none"),
    older: z.array(
      z.object({
        version: count,
        timestamp: time,
        reasons: z.array(z.string()),
        until: time.nullable().describe("null: as long as the reasons are there"),
      }),
    ),
    next: z.string().nullable().describe('to be given as "cursor" for more of "older"'),
    hasExpired: z.boolean(),
    historySegments: count,
    historyBytes: count,
  }),
);

const tag = "retention";
const shown = { 200: { description: "What holds now", schema: Policy } };
const database = "/databases/{database}/retention";
const branch = "/databases/{database}/branches/{branch}/retention";

const OF_DATABASES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: database,
    operationId: "getDatabaseRetention",
    tag,
    summary: "How long versions of branches that say nothing else are kept",
    permission: { on: "database", action: "read" },
    answers: shown,
    handle: async (call) => ok(await call.context.store.databaseRetention(call.database)),
  }),
  defineRoute({
    method: "PATCH",
    path: database,
    operationId: "changeDatabaseRetention",
    tag,
    summary: "Change how long versions of a database are kept",
    permission: { on: "database", action: "admin" },
    body: DatabaseRetention,
    answers: shown,
    handle: async ({ context: { store }, body, ...call }) =>
      ok(await store.setDatabaseRetention(call.database, given(body))),
  }),
  defineRoute({
    method: "DELETE",
    path: database,
    operationId: "unsetDatabaseRetention",
    tag,
    summary: "Forget what was set for a database: the defaults hold",
    permission: { on: "database", action: "admin" },
    answers: shown,
    handle: async (call) => ok(await call.context.store.setDatabaseRetention(call.database, null)),
  }),
];

const OF_BRANCHES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: branch,
    operationId: "getBranchRetention",
    tag,
    summary: "How long versions of a branch are kept",
    permission: { on: "branch", action: "read" },
    answers: shown,
    handle: async (call) =>
      ok(await call.context.store.branchRetention(call.database, call.branch)),
  }),
  defineRoute({
    method: "PATCH",
    path: branch,
    operationId: "changeBranchRetention",
    tag,
    summary: "Change how long versions of a branch are kept",
    permission: { on: "branch", action: "admin" },
    body: BranchRetention,
    answers: shown,
    handle: async ({ context: { store }, body, ...call }) =>
      ok(await store.setBranchRetention(call.database, call.branch, given(body))),
  }),
  defineRoute({
    method: "DELETE",
    path: branch,
    operationId: "unsetBranchRetention",
    tag,
    summary: "Forget what was set for a branch: what its database says holds",
    permission: { on: "branch", action: "admin" },
    answers: shown,
    handle: async (call) =>
      ok(await call.context.store.setBranchRetention(call.database, call.branch, null)),
  }),
  defineRoute({
    method: "GET",
    path: `${branch}/status`,
    operationId: "getRetentionStatus",
    tag,
    summary: "What of a branch is readable now, why, and until when",
    // The reasons name tags and branches.
    permission: { on: "database", action: "read" },
    query: PageQuery,
    answers: { 200: { description: "The status; older versions by pages", schema: Status } },
    handle: async ({ context: { store }, query, ...call }) => {
      const status = await store.retentionStatus(call.database, call.branch);
      const byKey = new Map(status.older.map((kept) => [keyOf(kept), kept]));
      const keys = [...byKey.keys()].sort();
      const page = await pageOfNames(keys, query, async (key) => byKey.get(key) ?? null);
      return ok({ ...status, older: page.items, next: page.next });
    },
  }),
];

export const RETENTION_ROUTES: readonly AdminRoute[] = [...OF_DATABASES, ...OF_BRANCHES];

/** Without what is not given. */
function given<T extends object>(body: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/** Sorts the newest first. */
function keyOf({ version }: KeptVersion): string {
  return String(Number.MAX_SAFE_INTEGER - version).padStart(16, "0");
}
