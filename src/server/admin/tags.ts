/** Routes of tags. */
import { z } from "zod";
import { MAIN_BRANCH } from "../../branch/refs.ts";
import { parseRevision } from "../../branch/revision.ts";
import { StoreError } from "../../errors.ts";
import {
  type AdminRoute,
  created,
  defineRoute,
  NO_CONTENT,
  ok,
  type Place,
} from "./admin-route.ts";
import { pageOfNames } from "./paging.ts";
import { readableRevision } from "./permission.ts";
import {
  answerSchema,
  count,
  name,
  pageOf,
  PageQuery,
  requestSchema,
  revision,
  time,
} from "./schema.ts";

const TagSchema = answerSchema(
  "Tag",
  z.object({ name: z.string(), version: count, createdAt: time }),
);
const TagPage = answerSchema("TagPage", pageOf(TagSchema));
const NewTag = requestSchema(
  "NewTag",
  z.strictObject({
    name,
    at: revision.optional().describe("what it names; the head of main by default"),
  }),
);

const tag = "tags";

export const TAG_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: "/databases/{database}/tags",
    operationId: "listTags",
    tag,
    summary: "Tags of a database, by name",
    permission: { on: "database", action: "read" },
    query: PageQuery,
    answers: { 200: { description: "The tags", schema: TagPage } },
    handle: async ({ context: { store }, database, query }) => {
      const byName = new Map((await store.tags(database)).map((each) => [each.name, each]));
      const names = [...byName.keys()];
      return ok(await pageOfNames(names, query, async (each) => byName.get(each) ?? null));
    },
  }),
  defineRoute({
    method: "POST",
    path: "/databases/{database}/tags",
    operationId: "createTag",
    tag,
    summary: "Name the version that a revision is now, for good",
    permission: {
      on: "named",
      action: "admin",
      target: (place, body) => ({ database: place.database, branch: branchOf(place, body.at) }),
    },
    body: NewTag,
    answers: { 201: { description: "The tag", schema: TagSchema, hasLocation: true } },
    handle: async ({ context: { store }, principal, database, body }) => {
      const main = { database, branch: MAIN_BRANCH };
      const at = readableRevision(principal, body.at ?? database, main);
      const made = await store.createTag(database, body.name, { at });
      return created(made, "databases", database, "tags", made.name);
    },
  }),
  defineRoute({
    method: "GET",
    path: "/databases/{database}/tags/{tag}",
    operationId: "getTag",
    tag,
    summary: "A tag",
    permission: { on: "database", action: "read" },
    answers: { 200: { description: "The tag", schema: TagSchema } },
    handle: async ({ context: { store }, database, parameters }) => {
      const wanted = parameters["tag"] ?? "";
      const found = (await store.tags(database)).find((each) => each.name === wanted);
      if (found !== undefined) return ok(found);
      throw new StoreError(
        "TAG_NOT_FOUND",
        `Cannot find tag "${database}@${wanted}": there is none of that name`,
      );
    },
  }),
  defineRoute({
    method: "DELETE",
    path: "/databases/{database}/tags/{tag}",
    operationId: "deleteTag",
    tag,
    summary: "Forget the name; the version stays as long as others are kept",
    permission: { on: "database", action: "admin" },
    answers: { 204: { description: "It is deleted" } },
    handle: async ({ context: { store }, database, parameters }) => {
      await store.deleteTag(database, parameters["tag"] ?? "");
      return NO_CONTENT;
    },
  }),
];

/** Whose commit gets the name; null: it is not said. */
function branchOf({ database }: Place, at: string | undefined): string | null {
  if (at === undefined) return MAIN_BRANCH;
  const revision = parseRevision(at.startsWith("@") ? database + at : at);
  return revision.at?.kind === "tag" ? null : (revision.branch ?? MAIN_BRANCH);
}
