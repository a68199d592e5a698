/** Routes of long work on the whole store. Each begins a job. */
import { z } from "zod";
import { StoreError } from "../../errors.ts";
import { type AdminRoute, defineRoute } from "./admin-route.ts";
import { accept, JOB_ACCEPTED } from "./jobs.ts";
import { requestSchema } from "./schema.ts";

const SERVER = { database: null, branch: null } as const;
const RATE_MIN = 1;

const GarbageRequest = requestSchema(
  "GarbageRequest",
  z.strictObject({
    dryRun: z.boolean().default(false).describe("only say what would be freed"),
  }),
);
const CheckRequest = requestSchema(
  "CheckRequest",
  z.strictObject({
    deep: z.boolean().default(false).describe("recompute all hashes, let SQLite check every head"),
  }),
);
const ScrubRequest = requestSchema(
  "ScrubRequest",
  z.strictObject({
    bytesPerSecond: z
      .int()
      .min(RATE_MIN)
      .nullable()
      .optional()
      .describe("50,000,000 by default; null: as fast as other work leaves time"),
    startAfter: z
      .string()
      .regex(/^(?:\d{1,3}:)?(?:chunk\/[0-9a-f]{32}|history\/\d{1,15})$/)
      .optional()
      .describe('"stoppedAt" of a scrub before'),
  }),
);

const tag = "maintenance";
const permission = { on: "server", action: "admin" } as const;
const answers = { 202: JOB_ACCEPTED };

export const MAINTENANCE_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "POST",
    path: "/store/gc",
    operationId: "collectGarbage",
    tag,
    summary: "Free what has expired and what nothing leads to any more",
    permission,
    body: GarbageRequest,
    answers,
    handle: async (call) =>
      accept(call, {
        kind: "gc",
        target: SERVER,
        isCancellable: true,
        work: async ({ signal, onProgress }) =>
          await call.context.store.gc({
            dryRun: call.body.dryRun,
            signal,
            onProgress: ({ phase, done }) => onProgress({ phase, done, total: null }),
          }),
      }),
  }),
  defineRoute({
    method: "POST",
    path: "/store/expire",
    operationId: "expire",
    tag,
    summary: "Let go of versions that retention does not keep any more",
    permission,
    answers,
    handle: async (call) =>
      accept(call, {
        kind: "expire",
        target: SERVER,
        isCancellable: true,
        work: async ({ signal }) => await call.context.store.expire({ signal }),
      }),
  }),
  defineRoute({
    method: "POST",
    path: "/store/check",
    operationId: "check",
    tag,
    summary: "Look for damage in the whole store, and say which revisions it touches",
    permission,
    body: CheckRequest,
    answers,
    handle: async (call) =>
      accept(call, {
        kind: "check",
        target: SERVER,
        isCancellable: true,
        work: async ({ signal, onProgress }) =>
          await call.context.store.check({
            deep: call.body.deep,
            // A check has no signal; what is thrown here ends it, and it changes nothing.
            onProgress: (progress) => {
              throwIfCancelled(signal);
              onProgress(progress);
            },
          }),
      }),
  }),
  defineRoute({
    method: "POST",
    path: "/store/scrub",
    operationId: "scrub",
    tag,
    summary: "Read everything that the store has on disk again, at a set rate",
    permission,
    body: ScrubRequest,
    answers,
    handle: async (call) => {
      const { bytesPerSecond, startAfter } = call.body;
      return accept(call, {
        kind: "scrub",
        target: SERVER,
        isCancellable: true,
        work: async ({ signal, onProgress }) =>
          await call.context.store.scrub({
            bytesPerSecond: bytesPerSecond === null ? Infinity : bytesPerSecond,
            startAfter,
            signal,
            onProgress: ({ bytes, position }) =>
              onProgress({ phase: position, done: bytes, total: null }),
          }),
      });
    },
  }),
  defineRoute({
    method: "POST",
    path: "/store/upload",
    operationId: "upload",
    tag,
    summary: "Upload everything now; done when object storage has it",
    permission,
    answers,
    handle: async (call) =>
      accept(call, {
        kind: "upload",
        target: SERVER,
        isCancellable: true,
        work: async ({ signal }) => await call.context.store.upload({ signal }),
      }),
  }),
  defineRoute({
    method: "POST",
    path: "/store/collect-remote",
    operationId: "collectRemote",
    tag,
    summary: "Delete from object storage what nothing there needs any more",
    permission,
    answers,
    handle: async (call) =>
      accept(call, {
        kind: "collect-remote",
        target: SERVER,
        isCancellable: true,
        work: async ({ signal }) => await call.context.store.collectRemote({ signal }),
      }),
  }),
];

function throwIfCancelled({ aborted, reason }: AbortSignal): void {
  if (!aborted) return;
  throw reason instanceof StoreError
    ? reason
    : new StoreError("CANCELLED", "Cannot go on with the check: it was cancelled");
}
