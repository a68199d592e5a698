/** Long work on a server: begun by a request, followed by its events to its end. */
import type { JobFacts, JobProgress } from "../../server/admin/job-table.ts";
import { StoreError } from "../../errors.ts";
import { answerInvalid, errorOf } from "./server-error.ts";
import type { ClientRequest, HttpClient } from "./http-client.ts";
import { revive } from "./revive.ts";

export interface JobOptions {
  readonly onProgress?: (progress: JobProgress) => void;
  /** Cancels the job; what it then comes to is still waited for. */
  readonly signal?: AbortSignal | undefined;
}

/** `request` begins the job. Resolves with its result, rejects with what it failed with. */
export async function runJob(
  client: HttpClient,
  request: ClientRequest,
  options: JobOptions = {},
): Promise<unknown> {
  const { signal, onProgress } = options;
  let job = jobOf(client, await client.json(request));
  const path = `/api/v1/jobs/${encodeURIComponent(job.id)}`;
  const cancel = (): void => {
    // If it does not arrive, the job goes on, and so does the waiting.
    client.json({ method: "DELETE", path }).catch(() => {});
  };
  signal?.addEventListener("abort", cancel);
  try {
    if (signal?.aborted === true) cancel();
    // A proxy may end the events before the job ends.
    while (job.state === "running")
      job = await follow(client, path, (facts) => {
        if (facts.progress !== null) onProgress?.(facts.progress);
      });
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
  if (job.problem !== null) throw errorOf(job.problem) ?? invalid(client);
  return revive(job.result);
}

/** Until the events end, for whatever reason. */
async function follow(
  client: HttpClient,
  path: string,
  onProgress: (job: JobFacts) => void,
): Promise<JobFacts> {
  const response = await client.open({ method: "GET", path: `${path}/events` });
  let rest = "";
  for await (const piece of client.pieces(response.setEncoding("utf8"))) {
    const events = (rest + String(piece)).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (data === undefined) continue;
      const job = jobOf(client, client.parse(data));
      if (job.state !== "running") return job;
      onProgress(job);
    }
  }
  return jobOf(client, await client.json({ method: "GET", path }));
}

function jobOf(client: HttpClient, value: unknown): JobFacts {
  if (typeof value === "object" && value !== null && "id" in value && "state" in value)
    return value as JobFacts;
  throw invalid(client);
}

function invalid(client: HttpClient): StoreError {
  return answerInvalid(client.name, "it is not a job");
}
