/** Routes of branches: list, make, show, change, delete. */
import { z } from "zod";
import {
  type AdminCall,
  type AdminRoute,
  created,
  defineRoute,
  NO_CONTENT,
  ok,
} from "./admin-route.ts";
import type { BranchFacts } from "./admin-store.ts";
import { pageOfNames, skipMissing } from "./paging.ts";
import { readableRevision, requirePermission, seesBranch } from "./permission.ts";
import { MAIN_BRANCH } from "../../branch/refs.ts";
import {
  answerSchema,
  count,
  futureTime,
  name,
  pageOf,
  PageQuery,
  requestSchema,
  revision,
  time,
} from "./schema.ts";

export const BranchSchema: z.ZodType = answerSchema(
  "Branch",
  z.object({
    id: z.string().describe('stays through renames; a path may have "id:" and this for the name'),
    name: z.string(),
    revision: z.string().describe("of its head: database/branch"),
    head: z.object({
      version: count.describe("0: there are no commits"),
      timestamp: time.nullable(),
      pageCount: count,
    }),
    parent: z
      .string()
      .nullable()
      .describe("the branch that it was made from, if there is one and it may be read"),
    forkVersion: count.nullable(),
    createdAt: time,
    isProtected: z.boolean(),
    expiresAt: time.nullable(),
  }),
);
const BranchPage = answerSchema("BranchPage", pageOf(BranchSchema));

const NewBranch = requestSchema(
  "NewBranch",
  z.strictObject({
    name,
    from: revision.optional().describe("what it starts as; the head of main by default"),
    expiresAt: futureTime.optional().describe("it is deleted then"),
  }),
);
/** One at a time, so that all of a change happens or nothing. */
const BranchChange = requestSchema(
  "BranchChange",
  z
    .strictObject({
      name: name.optional(),
      isProtected: z.boolean().optional(),
      expiresAt: futureTime.nullable().optional().describe("null: never"),
    })
    .refine((change) => Object.values(change).filter((value) => value !== undefined).length === 1, {
      error: 'exactly one of "name", "isProtected" and "expiresAt" is to be given',
    })
    .meta({ minProperties: 1, maxProperties: 1 }),
);

const tag = "branches";
const shown = { 200: { description: "The branch", schema: BranchSchema } };

export const BRANCH_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: "/databases/{database}/branches",
    operationId: "listBranches",
    tag,
    summary: "Branches that may be read, by name",
    permission: { on: "visible database" },
    query: PageQuery,
    answers: { 200: { description: "The branches", schema: BranchPage } },
    handle: async (call) => {
      const { context, principal, database, query } = call;
      const load = (branch: string): Promise<BranchFacts | null> =>
        skipMissing("BRANCH_NOT_FOUND", async () =>
          seesBranch(principal, { database, branch })
            ? shownBranch(call, await context.store.branchFacts(database, branch))
            : null,
        );
      return ok(await pageOfNames(await context.store.branchNames(database), query, load));
    },
  }),
  defineRoute({
    method: "POST",
    path: "/databases/{database}/branches",
    operationId: "createBranch",
    tag,
    summary: "Make a branch from a revision; it takes no time and no space",
    permission: {
      on: "named",
      action: "admin",
      target: ({ database }, body) => ({ database, branch: body.name }),
    },
    body: NewBranch,
    answers: { 201: { description: "The branch", schema: BranchSchema, hasLocation: true } },
    handle: async (call) => {
      const { context, principal, database, body } = call;
      const main = { database, branch: MAIN_BRANCH };
      const from = readableRevision(principal, body.from ?? database, main);
      const { expiresAt } = body;
      const made = await context.store.createBranch(database, body.name, {
        from,
        ...(expiresAt === undefined ? {} : { expiresAt: new Date(expiresAt) }),
      });
      return created(shownBranch(call, made), "databases", database, "branches", made.name);
    },
  }),
  defineRoute({
    method: "GET",
    path: "/databases/{database}/branches/{branch}",
    operationId: "getBranch",
    tag,
    summary: "A branch",
    permission: { on: "branch", action: "read" },
    answers: shown,
    handle: async (call) =>
      ok(shownBranch(call, await call.context.store.branchFacts(call.database, call.branch))),
  }),
  defineRoute({
    method: "PATCH",
    path: "/databases/{database}/branches/{branch}",
    operationId: "changeBranch",
    tag,
    summary: "Rename a branch, protect it, or say when it expires: one of them at a time",
    permission: { on: "branch", action: "admin" },
    body: BranchChange,
    answers: shown,
    handle: async (call) => ok(shownBranch(call, await change(call))),
  }),
  defineRoute({
    method: "DELETE",
    path: "/databases/{database}/branches/{branch}",
    operationId: "deleteBranch",
    tag,
    summary: "Delete a branch; it can be undeleted",
    permission: { on: "branch", action: "admin" },
    answers: { 204: { description: "It is deleted" } },
    handle: async ({ context: { store }, database, branch }) => {
      await store.deleteBranch(database, branch);
      return NO_CONTENT;
    },
  }),
];

async function change({
  context: { store },
  principal,
  database,
  branch,
  body,
}: AdminCall<unknown, z.output<typeof BranchChange>>): Promise<BranchFacts> {
  if (body.name !== undefined) {
    requirePermission(principal, { action: "admin", database, branch: body.name });
    return await store.renameBranch(database, branch, body.name);
  }
  if (body.isProtected !== undefined)
    return await store.setProtection(database, branch, body.isProtected);
  const { expiresAt = null } = body;
  return await store.setExpiration(
    database,
    branch,
    expiresAt === null ? null : new Date(expiresAt),
  );
}

/** Without a name that the principal may not know. */
export function shownBranch(
  { principal, database }: Pick<AdminCall, "principal" | "database">,
  facts: BranchFacts,
): BranchFacts {
  const { parent } = facts;
  if (parent === null || seesBranch(principal, { database, branch: parent })) return facts;
  return { ...facts, parent: null };
}
