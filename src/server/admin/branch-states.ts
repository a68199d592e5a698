/** Routes that change what a branch is: undelete, reset, restore. */
import { z } from "zod";
import { type AdminRoute, defineRoute, ok } from "./admin-route.ts";
import { BranchSchema, shownBranch } from "./branches.ts";
import { readableRevision, requirePermission } from "./permission.ts";
import { answerSchema, name, requestSchema, revision } from "./schema.ts";

const BranchReset = requestSchema(
  "BranchReset",
  z.strictObject({
    to: revision.optional().describe("what it becomes; the head of its parent by default"),
  }),
);
const BranchRestore = requestSchema(
  "BranchRestore",
  z.strictObject({
    to: revision.describe("what it becomes"),
    preserveAs: name
      .optional()
      .describe('the branch that keeps what it was; "NAME-before-VERSION" by default'),
  }),
);
const RestoredBranch = answerSchema(
  "RestoredBranch",
  z.object({ branch: BranchSchema, preserved: BranchSchema.describe("what it was before") }),
);

const tag = "branches";
const shown = { 200: { description: "The branch", schema: BranchSchema } };

export const BRANCH_STATE_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "POST",
    path: "/databases/{database}/branches/{branch}/undelete",
    operationId: "undeleteBranch",
    tag,
    summary: "Bring back the branch of that name that was deleted last",
    permission: { on: "branch", action: "admin" },
    answers: shown,
    handle: async (call) => {
      const { context, database, branch } = call;
      return ok(shownBranch(call, await context.store.undeleteBranch(database, branch)));
    },
  }),
  defineRoute({
    method: "POST",
    path: "/databases/{database}/branches/{branch}/reset",
    operationId: "resetBranch",
    tag,
    summary: "Make a branch what its parent is now, or what a revision is",
    permission: { on: "branch", action: "admin" },
    body: BranchReset,
    answers: shown,
    handle: async (call) => {
      const { context, principal, database, branch, body } = call;
      if (body.to === undefined) {
        const { parent } = await context.store.branchFacts(database, branch);
        if (parent !== null)
          requirePermission(principal, { action: "read", database, branch: parent });
        return ok(shownBranch(call, await context.store.resetBranch(database, branch, {})));
      }
      const to = readableRevision(principal, body.to, { database, branch });
      return ok(shownBranch(call, await context.store.resetBranch(database, branch, { to })));
    },
  }),
  defineRoute({
    method: "POST",
    path: "/databases/{database}/branches/{branch}/restore",
    operationId: "restoreBranch",
    tag,
    summary: "Make a branch what a revision was; a new branch keeps what it is now",
    permission: { on: "branch", action: "admin" },
    body: BranchRestore,
    answers: { 200: { description: "Both branches", schema: RestoredBranch } },
    handle: async (call) => {
      const { context, principal, database, branch, body } = call;
      const { preserveAs } = body;
      // The store's own name for it differs in its number only.
      const preserved = preserveAs ?? `${branch}-before-1`;
      requirePermission(principal, { action: "admin", database, branch: preserved });
      const restored = await context.store.restoreBranch(database, branch, {
        to: readableRevision(principal, body.to, { database, branch }),
        ...(preserveAs === undefined ? {} : { preserveAs }),
      });
      return ok({
        branch: shownBranch(call, restored.branch),
        preserved: shownBranch(call, restored.preserved),
      });
    },
  }),
];
