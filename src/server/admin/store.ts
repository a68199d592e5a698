/** Routes of the store as a whole: what it is, what it costs, its settings. */
import { z } from "zod";
import { isCompression } from "../../store/compression-option.ts";
import { StoreError } from "../../errors.ts";
import { type AdminRoute, type Answer, defineRoute, NO_CONTENT, ok } from "./admin-route.ts";
import type { AdminStore } from "./admin-store.ts";
import { UploadStatusSchema } from "./reports.ts";
import { answerSchema, count, requestSchema, time } from "./schema.ts";

const Follower = z.object({
  url: z.string(),
  manifestNumber: count,
  lsn: count,
  checkedAt: time,
  lagMs: z.number(),
  lastError: z.string().nullable(),
  requests: count,
  fetchedBytes: count,
});

const StoreSchema = answerSchema(
  "Store",
  z.object({
    storeId: z.string(),
    createdAt: time,
    backend: z.string(),
    catalogBytes: count,
    compression: z.string(),
    isEncrypted: z.boolean(),
    partitions: z.int().min(1),
    upload: UploadStatusSchema.nullable().describe("null: it is not uploaded"),
    follower: Follower.nullable().describe("null: it does not follow another store"),
  }),
);

const StoreChange = requestSchema(
  "StoreChange",
  z.strictObject({
    compression: z
      .string()
      .regex(/^(?:none|lz4|zstd(?::(?:[1-9]|1[0-9]|2[0-2]))?)$/)
      .describe("of new chunks and history: none, lz4, zstd, zstd:1 to zstd:22"),
  }),
);
const NewKey = requestSchema(
  "NewKey",
  z.strictObject({
    key: z
      .string()
      .regex(/^[0-9a-fA-F]{64}$/)
      .describe("32 bytes, hexadecimal"),
  }),
);

const RemoteStatusSchema = answerSchema(
  "RemoteStatus",
  z.object({
    url: z.string().nullable(),
    state: z.enum(["none", "empty", "behind", "current", "fenced", "unreachable"]),
    manifest: z.object({ number: count, at: time, writer: z.string() }).nullable(),
    uploadedLsn: z.int().nullable(),
    durableLsn: count,
    uploadedAt: time.nullable(),
    error: z.string().nullable(),
  }),
);
const Remote = answerSchema(
  "Remote",
  z.object({
    remote: RemoteStatusSchema.nullable().describe(
      "null: the store has no directory, or follows another one",
    ),
  }),
);

const Disk = answerSchema(
  "DiskUse",
  z.object({
    chunkBytes: count,
    historyBytes: count,
    logBytes: count,
    catalogBytes: count,
    totalBytes: count,
    backend: z.string(),
    compression: z.string(),
  }),
);

const Statistics = answerSchema(
  "Statistics",
  z.object({
    logicalBytes: count.describe("what the heads would take as files of their own"),
    uniqueBytes: count.describe("different pages among them"),
    storedBytes: z.number().describe("what these take in chunks"),
    dedupSavedBytes: z.number(),
    compressionSavedBytes: z.number(),
    databases: z.array(
      z.object({
        name: z.string(),
        pageSize: count,
        logicalBytes: count,
        branches: z.array(
          z.object({
            name: z.string(),
            version: count,
            pageCount: count,
            bytes: count,
            ownBytes: count.describe("of pages that no other head has"),
            ownStoredBytes: z.number(),
          }),
        ),
      }),
    ),
    disk: Disk.describe("of the whole store, always"),
  }),
);

const Held = answerSchema(
  "HeldSpace",
  z.object({
    holders: z.array(
      z.object({
        revision: z.string(),
        kind: z.enum(["head", "deleted", "tag", "older versions"]),
        ownBytes: count.describe("about what is freed once this is gone"),
      }),
    ),
    sharedBytes: count,
    historyBytes: count,
  }),
);

const Sizes = answerSchema("CatalogSizes", z.object({ bytesBefore: count, bytesAfter: count }));

const tag = "store";
const read = { on: "server", action: "read" } as const;
const admin = { on: "server", action: "admin" } as const;
const shown = { 200: { description: "The store", schema: StoreSchema } };

const SHOWN: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: "/store",
    operationId: "getStore",
    tag,
    summary: "What the store is, and how far it is in object storage",
    permission: read,
    answers: shown,
    handle: async ({ context: { store } }) => await showStore(store),
  }),
  defineRoute({
    method: "GET",
    path: "/store/statistics",
    operationId: "getStatistics",
    tag,
    summary: "Sizes: of branches, what they share, what is stored",
    permission: read,
    answers: { 200: { description: "The sizes", schema: Statistics } },
    handle: async ({ context: { store } }) => ok(await store.statistics()),
  }),
  defineRoute({
    method: "GET",
    path: "/databases/{database}/statistics",
    operationId: "getDatabaseStatistics",
    tag,
    summary: "The same of one database",
    permission: { on: "database", action: "read" },
    answers: { 200: { description: "The sizes", schema: Statistics } },
    handle: async ({ context: { store }, database }) => ok(await store.statistics(database)),
  }),
  defineRoute({
    method: "GET",
    path: "/store/disk",
    operationId: "getDiskUse",
    tag,
    summary: "Sizes of the store's files",
    permission: read,
    answers: { 200: { description: "The sizes", schema: Disk } },
    handle: async ({ context: { store } }) => ok(await store.diskUse()),
  }),
  defineRoute({
    method: "GET",
    path: "/store/remote",
    operationId: "getRemoteStatus",
    tag,
    summary: "What object storage has of the store, asked now",
    permission: read,
    answers: { 200: { description: "How far it is", schema: Remote } },
    handle: async ({ context: { store } }) => ok({ remote: await store.remoteStatus() }),
  }),
  defineRoute({
    method: "GET",
    path: "/store/held-space",
    operationId: "getHeldSpace",
    tag,
    summary: "Which branches, tags and old versions hold how much that nothing else does",
    permission: read,
    answers: { 200: { description: "The holders, the largest first", schema: Held } },
    handle: async ({ context: { store } }) => ok(await store.heldSpace()),
  }),
];

const CHANGED: readonly AdminRoute[] = [
  defineRoute({
    method: "PATCH",
    path: "/store",
    operationId: "changeStore",
    tag,
    summary: "Compress new chunks and history in another way",
    permission: admin,
    body: StoreChange,
    answers: shown,
    handle: async ({ context: { store }, body: { compression } }) => {
      if (!isCompression(compression))
        throw new StoreError("REQUEST_INVALID", `Cannot compress with "${compression}"`);
      await store.setCompression(compression);
      return await showStore(store);
    },
  }),
  defineRoute({
    method: "POST",
    path: "/store/key",
    operationId: "rotateKey",
    tag,
    summary: "Let another key open the store; new data is sealed with a new data key",
    permission: admin,
    body: NewKey,
    answers: { 204: { description: "From now on the new key opens the store" } },
    handle: async ({ context: { store }, body }) => {
      await store.rotateKey(body.key);
      return NO_CONTENT;
    },
  }),
  defineRoute({
    method: "POST",
    path: "/store/checkpoint",
    operationId: "checkpoint",
    tag,
    summary: "Move every commit so far from the log into chunks; it happens by itself too",
    permission: admin,
    answers: { 204: { description: "It is done" } },
    handle: async ({ context: { store } }) => {
      await store.checkpoint();
      return NO_CONTENT;
    },
  }),
  defineRoute({
    method: "POST",
    path: "/store/compact",
    operationId: "compactCatalog",
    tag,
    summary: "Give unused space of the catalog back to the system",
    permission: admin,
    answers: { 200: { description: "The sizes", schema: Sizes } },
    handle: async ({ context: { store } }) => ok(await store.compactCatalog()),
  }),
  defineRoute({
    method: "POST",
    path: "/store/refresh",
    operationId: "refresh",
    tag,
    summary: "Show what the writer has uploaded by now, on a store that follows another one",
    permission: admin,
    answers: shown,
    handle: async ({ context: { store } }) => {
      await store.refresh();
      return await showStore(store);
    },
  }),
];

export const STORE_ROUTES: readonly AdminRoute[] = [...SHOWN, ...CHANGED];

async function showStore(store: AdminStore): Promise<Answer> {
  const [info, upload, follower] = await Promise.all([
    store.info(),
    store.uploadStatus(),
    store.followerStatus(),
  ]);
  return ok({ ...info, upload, follower });
}
