/**
 * Databases as plain SQLite files, in and out, as streams.
 *
 * K1. A download reads one snapshot, a block at a time as the client takes it. It holds the snapshot until it is at its end, the client
 *     has gone, or has left a block unread for `sendMs`.
 * K2. An upload is on disk as a whole before anything of it is imported. The import is a job, which goes on when the client has gone.
 * K3. Whoever may only write a branch may import into it, but not make it.
 */
import type { ServerResponse } from "node:http";
import { z } from "zod";
import { MAIN_BRANCH } from "../../branch/refs.ts";
import { StoreError } from "../../errors.ts";
import { permits } from "../access/principal.ts";
import type { SendLimit } from "../send-limit.ts";
import { type AdminCall, type AdminRoute, type Answer, defineRoute, ok } from "./admin-route.ts";
import type { RevisionBytes } from "./admin-store.ts";
import { matchesTag } from "./answer.ts";
import type { Job } from "./job-table.ts";
import { accepted, JOB_ACCEPTED, startJob } from "./jobs.ts";
import { readableRevision, requirePermission } from "./permission.ts";
import { ImportResultSchema } from "./reports.ts";
import { revision } from "./schema.ts";

const FILE_TYPE = "application/vnd.sqlite3";
/** A multiple of every page size. */
const BLOCK_SIZE = 256 * 1024;
const IDLE_MS = 60_000;

export const FILE_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: "/databases/{database}/branches/{branch}/file",
    operationId: "downloadFile",
    tag: "files",
    summary: "A revision as a plain SQLite file; by default the head of the branch",
    permission: { on: "branch", action: "read" },
    query: z.strictObject({ revision: revision.optional() }),
    answers: {
      200: { description: "The file; its ETag stands for the version", mediaType: FILE_TYPE },
      304: { description: "If-None-Match has its ETag" },
    },
    handle: async (call) => await download(call, call.query.revision),
  }),
  defineRoute({
    method: "PUT",
    path: "/databases/{database}/branches/{branch}/file",
    operationId: "uploadFile",
    tag: "files",
    summary:
      "Make a SQLite file the content of a branch, in one commit; makes the database or the branch when there is none",
    permission: { on: "branch", action: "write" },
    body: "file",
    answers: {
      200: { description: "It is imported", schema: ImportResultSchema },
      202: { ...JOB_ACCEPTED, description: "With the header Prefer: respond-async" },
    },
    handle: async (call) => await upload(call),
  }),
];

async function download(call: AdminCall, text: string | undefined): Promise<Answer> {
  const { context, principal, database, branch, request } = call;
  const wanted =
    text === undefined
      ? `${database}/${branch}`
      : readableRevision(principal, text, { database, branch });
  const { id } = await context.store.databaseFacts(database);
  const file = await context.store.exportRevision(wanted);
  const etag = `"${id}-${file.version}"`;
  if (matchesTag(request, etag)) {
    file.close();
    return { status: 304, headers: { etag } };
  }
  const headers = {
    "content-type": FILE_TYPE,
    "content-length": String(file.size),
    "content-disposition": `attachment; filename="${fileName(database, branch, file.version)}"`,
    "cache-control": "no-store",
    etag,
  };
  return {
    stream: async (response) => {
      try {
        if (response.destroyed) return;
        response.writeHead(200, headers);
        if (request.method === "HEAD") response.end();
        else await sendFile(file, response, { signal: call.signal, sending: context.sending });
      } finally {
        file.close();
      }
    },
  };
}

/** K1. */
async function sendFile(
  file: RevisionBytes,
  response: ServerResponse,
  { signal, sending }: { readonly signal: AbortSignal; readonly sending: SendLimit },
): Promise<void> {
  const pages = BLOCK_SIZE / file.pageSize;
  for (let page = 1; page <= file.pageCount; page += pages) {
    // The socket keeps it until it is sent.
    const block = new Uint8Array(BLOCK_SIZE);
    const count = await file.read(page, block, signal);
    if (signal.aborted) return;
    if (!response.write(block.subarray(0, count))) await sending.drained(response);
  }
  response.end();
}

async function upload(call: AdminCall): Promise<Answer> {
  const { context, database, branch, request } = call;
  const { store, settings } = context;
  if (store.uploads === null)
    throw new StoreError("READ_ONLY", "Cannot import a file: the store is read-only here");
  await requireTarget(call);
  request.setTimeout(IDLE_MS, () => request.destroy());
  const file = await store.uploads.receive(request, settings.uploadBytesMax);
  request.setTimeout(0);
  const { databaseBytesMax } = settings;
  if (databaseBytesMax > 0 && file.size > databaseBytesMax) {
    file.delete();
    throw new StoreError(
      "LIMIT",
      `Cannot import the file: it has ${file.size} bytes, and a branch has ${databaseBytesMax} at most`,
      { details: { databaseBytesMax } },
    );
  }
  let job: Job;
  try {
    job = startJob(call, {
      kind: "import",
      target: { database, branch },
      isCancellable: true,
      work: async ({ signal, onProgress }) => {
        try {
          return await store.importFile(file.path, `${database}/${branch}`, {
            signal,
            onProgress: ({ bytes, totalBytes }) =>
              onProgress({ phase: null, done: bytes, total: totalBytes }),
          });
        } catch (error) {
          throw withoutPath(error, file.path);
        } finally {
          file.delete();
        }
      },
    });
  } catch (error) {
    file.delete();
    throw error;
  }
  if (request.headers["prefer"]?.includes("respond-async") === true) return accepted(job);
  const result = await job.outcome;
  return ok(result);
}

/** K3. */
async function requireTarget({
  context: { store },
  principal,
  database,
  branch,
}: AdminCall): Promise<void> {
  if (permits(principal, { action: "admin", database, branch: null })) return;
  let names: string[] = [];
  try {
    names = await store.branchNames(database);
  } catch (error) {
    if (!(error instanceof StoreError && error.code === "DATABASE_NOT_FOUND")) throw error;
    requirePermission(principal, { action: "admin", database, branch: null });
  }
  if (!names.includes(branch)) requirePermission(principal, { action: "admin", database, branch });
}

/** Where the file was meanwhile says nothing to the client. */
function withoutPath(error: unknown, path: string): unknown {
  if (!(error instanceof StoreError) || !error.message.includes(path)) return error;
  const message = error.message.replaceAll(path, "the uploaded file");
  return new StoreError(error.code, message, { cause: error, retryable: error.retryable });
}

function fileName(database: string, branch: string, version: number): string {
  const place = branch === MAIN_BRANCH ? database : `${database}-${branch.replaceAll("/", "-")}`;
  return `${place}@${version}.db`;
}
