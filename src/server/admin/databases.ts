/** Routes of databases. */
import { z } from "zod";
import { type AdminRoute, created, defineRoute, NO_CONTENT, ok } from "./admin-route.ts";
import type { DatabaseFacts } from "./admin-store.ts";
import { pageOfNames, skipMissing } from "./paging.ts";
import { requirePermission, seesDatabase } from "./permission.ts";
import { answerSchema, count, name, pageOf, PageQuery, requestSchema, time } from "./schema.ts";

const PARTITION_MAX = 255;

const DatabaseSchema = answerSchema(
  "Database",
  z.object({
    id: z.string().describe('stays through renames; a path may have "id:" and this for the name'),
    name: z.string(),
    pageSize: count,
    createdAt: time,
    version: count.describe("the newest over all branches; 0 before the first commit"),
    partition: count.describe("where in the store it is, from 0"),
  }),
);
const DatabasePage = answerSchema("DatabasePage", pageOf(DatabaseSchema));

const partition = z.int().min(0).max(PARTITION_MAX);
const NewDatabase = requestSchema(
  "NewDatabase",
  z.strictObject({
    name,
    pageSize: z.int().optional().describe("512 to 65536, a power of two; 4096 by default"),
    partition: partition.optional().describe("that with the fewest databases by default"),
  }),
);
const HandOver = requestSchema("HandOver", z.strictObject({ partition }));
const DatabaseChange = requestSchema("DatabaseChange", z.strictObject({ name }));

const tag = "databases";
const shown = { 200: { description: "The database", schema: DatabaseSchema } };

export const DATABASE_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: "/databases",
    operationId: "listDatabases",
    tag,
    summary: "Databases that may be read, or a branch of which, by name",
    permission: { on: "anybody" },
    query: PageQuery,
    answers: { 200: { description: "The databases", schema: DatabasePage } },
    handle: async ({ context: { store }, principal, query }) => {
      const load = (database: string): Promise<DatabaseFacts | null> =>
        skipMissing("DATABASE_NOT_FOUND", async () =>
          (await seesDatabase(store, principal, database)) ? store.databaseFacts(database) : null,
        );
      return ok(await pageOfNames(await store.databaseNames(), query, load));
    },
  }),
  defineRoute({
    method: "POST",
    path: "/databases",
    operationId: "createDatabase",
    tag,
    summary: 'Make an empty database with the branch "main"',
    permission: {
      on: "named",
      action: "admin",
      target: (_, body) => ({ database: body.name, branch: null }),
    },
    body: NewDatabase,
    answers: {
      201: { description: "The database", schema: DatabaseSchema, hasLocation: true },
    },
    handle: async ({ context: { store }, body: { name: database, pageSize, partition } }) => {
      const options = {
        ...(pageSize === undefined ? {} : { pageSize }),
        ...(partition === undefined ? {} : { partition }),
      };
      const made = await store.createDatabase(database, options);
      return created(made, "databases", made.name);
    },
  }),
  defineRoute({
    method: "GET",
    path: "/databases/{database}",
    operationId: "getDatabase",
    tag,
    summary: "A database",
    permission: { on: "visible database" },
    answers: shown,
    handle: async ({ context: { store }, database }) => ok(await store.databaseFacts(database)),
  }),
  defineRoute({
    method: "PATCH",
    path: "/databases/{database}",
    operationId: "renameDatabase",
    tag,
    summary: "Give a database another name",
    permission: { on: "database", action: "admin" },
    body: DatabaseChange,
    answers: shown,
    handle: async ({ context: { store }, principal, database, body }) => {
      requirePermission(principal, { action: "admin", database: body.name, branch: null });
      return ok(await store.renameDatabase(database, body.name));
    },
  }),
  defineRoute({
    method: "DELETE",
    path: "/databases/{database}",
    operationId: "deleteDatabase",
    tag,
    summary: "Delete a database with all its branches; it can be undeleted",
    permission: { on: "database", action: "admin" },
    answers: { 204: { description: "It is deleted" } },
    handle: async ({ context: { store }, database }) => {
      await store.deleteDatabase(database);
      return NO_CONTENT;
    },
  }),
  defineRoute({
    method: "POST",
    path: "/databases/{database}/undelete",
    operationId: "undeleteDatabase",
    tag,
    summary: "Bring back the database of that name that was deleted last",
    permission: { on: "database", action: "admin" },
    answers: shown,
    handle: async ({ context: { store }, database }) => ok(await store.undeleteDatabase(database)),
  }),
  defineRoute({
    method: "POST",
    path: "/databases/{database}/hand-over",
    operationId: "handOverDatabase",
    tag,
    summary: "Move a database with all its branches and versions to another partition",
    permission: { on: "database", action: "admin" },
    body: HandOver,
    answers: shown,
    handle: async ({ context: { store }, database, body }) =>
      ok(await store.handOver(database, body.partition)),
  }),
];
