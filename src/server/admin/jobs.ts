/** Routes of jobs, and how other routes begin one. */
import { z } from "zod";
import { StoreError } from "../../errors.ts";
import { ownerId, permits, withoutOtherNames } from "../access/principal.ts";
import {
  type AdminCall,
  type AdminRoute,
  type Answer,
  type AnswerDescription,
  defineRoute,
  ok,
} from "./admin-route.ts";
import { jobEvents } from "./job-events.ts";
import type { Job, JobKind, JobRequest } from "./job-table.ts";
import { pageOfNames } from "./paging.ts";
import { JobResult } from "./reports.ts";
import { answerSchema, count, pageOf, PageQuery, ProblemSchema, time } from "./schema.ts";

const KINDS = [
  "check",
  "collect-remote",
  "expire",
  "gc",
  "import",
  "scrub",
  "upload",
] as const satisfies readonly JobKind[];

const JobSchema = answerSchema(
  "Job",
  z.object({
    id: z.uuid(),
    kind: z.enum(KINDS),
    state: z.enum(["running", "done", "failed", "cancelled"]),
    target: z
      .object({ database: z.string().nullable(), branch: z.string().nullable() })
      .describe("what it works on; without a database it is the server"),
    isCancellable: z.boolean(),
    startedAt: time,
    endedAt: time.nullable(),
    progress: z
      .object({ phase: z.string().nullable(), done: count, total: count.nullable() })
      .nullable(),
    result: JobResult.nullable().describe(
      "of a job that is done; also of a scrub that was cancelled",
    ),
    problem: ProblemSchema.nullable().describe("why it failed or was cancelled"),
  }),
);
const JobPage = answerSchema("JobPage", pageOf(JobSchema));

export const JOB_ACCEPTED: AnswerDescription = {
  description: "It has begun; the job says how it goes",
  schema: JobSchema,
  hasLocation: true,
};

/** Begins a job and answers with it. */
export function accept(call: AdminCall, request: Omit<JobRequest, "owner" | "redact">): Answer {
  return accepted(startJob(call, request));
}

export function startJob(
  { context, principal, span }: AdminCall,
  request: Omit<JobRequest, "owner" | "redact">,
): Job {
  const redact = (error: unknown): unknown => withoutOtherNames(principal, error);
  const job = context.jobs.start({ ...request, owner: ownerId(principal), redact });
  span?.job(job);
  return job;
}

export function accepted(job: Job): Answer {
  return { status: 202, body: job.facts, headers: { location: `/api/v1/jobs/${job.id}` } };
}

export const JOB_ROUTES: readonly AdminRoute[] = [
  defineRoute({
    method: "GET",
    path: "/jobs",
    operationId: "listJobs",
    tag: "jobs",
    summary: "Running jobs and those that ended lately, the newest first",
    permission: { on: "anybody" },
    query: PageQuery,
    answers: { 200: { description: "The jobs", schema: JobPage } },
    handle: async (call) => {
      const jobs = call.context.jobs.list().filter((job) => maySee(call, job));
      // Keys that grow in the order of the list; a job that has begun since does not move the others.
      const byKey = new Map(jobs.map((job) => [keyOf(job), job]));
      const names = [...byKey.keys()].sort();
      return ok(await pageOfNames(names, call.query, async (key) => byKey.get(key)?.facts ?? null));
    },
  }),
  defineRoute({
    method: "GET",
    path: "/jobs/{job}",
    operationId: "getJob",
    tag: "jobs",
    summary: "A job",
    permission: { on: "job" },
    answers: { 200: { description: "The job", schema: JobSchema } },
    handle: async (call) => ok(requireJob(call).facts),
  }),
  defineRoute({
    method: "DELETE",
    path: "/jobs/{job}",
    operationId: "cancelJob",
    tag: "jobs",
    summary: "Ask a job to end; what has ended stays as it is",
    permission: { on: "job" },
    answers: { 200: { description: "The job as it is now", schema: JobSchema } },
    handle: async (call) => {
      const job = requireJob(call);
      job.cancel();
      return ok(job.facts);
    },
  }),
  defineRoute({
    method: "GET",
    path: "/jobs/{job}/events",
    operationId: "followJob",
    tag: "jobs",
    summary: 'Server-sent events "progress" and "end", with the whole job as data',
    permission: { on: "job" },
    answers: {
      200: { description: "The events, until the job has ended", mediaType: "text/event-stream" },
      204: { description: "Last-Event-ID was the end" },
    },
    handle: async (call) =>
      jobEvents(requireJob(call), call.request, {
        requireAllowed: () => call.context.access.requireCurrent(call.principal),
        startHeartbeat: call.context.startHeartbeat,
        stopping: call.context.stopping,
      }),
  }),
];

/** Throws JOB_NOT_FOUND, also for one that the principal may not see. */
function requireJob(call: AdminCall): Job {
  const id = call.parameters["job"] ?? "";
  const job = call.context.jobs.find(id);
  if (job !== undefined && maySee(call, job)) return job;
  throw new StoreError("JOB_NOT_FOUND", `Cannot find job "${id}": there is none`);
}

function maySee({ principal }: AdminCall, { owner, target }: Job): boolean {
  return owner === ownerId(principal) || permits(principal, { action: "admin", ...target });
}

/** Sorts the newest first. */
function keyOf({ facts, id }: Job): string {
  const before = Number.MAX_SAFE_INTEGER - facts.startedAt.getTime();
  return `${String(before).padStart(16, "0")} ${id}`;
}
