/** The schemas of what long work reports. Sizes are in bytes. */
import { z } from "zod";
import { answerSchema, count } from "./schema.ts";

const sizes = z.object({ count, bytes: count });

const GarbageResult = answerSchema(
  "GarbageReport",
  z.object({
    isDryRun: z.boolean(),
    freedBytes: z.int(),
    pages: count,
    chunks: sizes,
    nodes: sizes,
    packs: z.object({ count, bytes: count, copiedBytes: count, holes: count }),
    history: sizes,
    living: z.object({ chunks: count, nodes: count }),
  }),
);

const ExpiryResult = answerSchema(
  "ExpiryReport",
  z.object({
    expiredVersions: count,
    rootsMade: count,
    historySegments: count,
    historyBytes: count,
  }),
);

const checked = {
  ok: z.boolean(),
  problems: z.array(
    z.object({
      code: z.string(),
      message: z.string(),
      revisions: z.array(z.string()).describe("what cannot be read whole"),
      pages: count.nullable(),
    }),
  ),
  counts: z.object({
    catalogRows: count,
    roots: count,
    nodes: count,
    packs: count,
    chunks: count,
    historySegments: count,
    historyEntries: count,
    logSegments: count,
    logRecords: count,
    heads: count,
  }),
};

const CheckResult = answerSchema("CheckReport", z.object(checked));

const ScrubResult = answerSchema(
  "ScrubReport",
  z.object({
    ...checked,
    bytes: count,
    stoppedAt: z.string().nullable().describe('"startAfter" of the scrub that goes on from here'),
  }),
);

export const ImportResultSchema: z.ZodType = answerSchema(
  "ImportResult",
  z.object({
    database: z.string(),
    branch: z.string(),
    version: count.describe("the commit that holds the content"),
    pageCount: count,
    pageSize: count,
    walCommits: count,
    sharedPages: count.describe("pages that the store had already, or that occur more than once"),
  }),
);

export const UploadStatusSchema: z.ZodType = answerSchema(
  "UploadStatus",
  z.object({
    url: z.string(),
    state: z.enum(["idle", "uploading", "failing", "fenced"]),
    uploadedLsn: count,
    durableLsn: count,
    manifestNumber: count.nullable(),
    lastError: z.string().nullable(),
    statistics: z.record(z.string(), z.number()),
  }),
);

const RemoteGarbageResult = answerSchema(
  "RemoteGarbageReport",
  z.object({
    deletedObjects: count,
    deletedBytes: count,
    waitingObjects: count,
    waitingBytes: count,
  }),
);

export const JobResult: z.ZodType = z.union([
  GarbageResult,
  ExpiryResult,
  CheckResult,
  ScrubResult,
  ImportResultSchema,
  UploadStatusSchema,
  RemoteGarbageResult,
]);
