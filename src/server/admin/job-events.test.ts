import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { jobEvents } from "./job-events.ts";
import { type Job, JobTable } from "./job-table.ts";

test("G3. The stream of a job that cannot be cancelled ends with the server, before the job does", async () => {
  const table = new JobTable({ now: () => 0, clock: () => 0, onBug: () => {} });
  let finish: (value: unknown) => void = () => {};
  const job: Job = table.start({
    kind: "expire",
    target: { database: null, branch: null },
    owner: "",
    isCancellable: false,
    redact: (error) => error,
    work: async () => await new Promise((resolve) => (finish = resolve)),
  });
  const stopping = new AbortController();
  const beats = new Set<() => void>();
  const startHeartbeat = (beat: () => void): (() => void) => {
    beats.add(beat);
    return () => void beats.delete(beat);
  };
  const server = createServer((request, response) => {
    const answer = jobEvents(job, request, { startHeartbeat, stopping: stopping.signal });
    if ("stream" in answer) void answer.stream(response);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  const stream = await new Promise<IncomingMessage>((resolve) => {
    get({ port, agent: false }, resolve);
  });
  stopping.abort();
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  expect(text).toMatch(/^id: 1\nevent: progress\ndata: \{.*"state":"running".*\}\n\n$/);
  expect([job.isRunning, beats.size]).toEqual([true, 0]);
  finish(null);
  await job.ended;
  await new Promise((resolve) => server.close(resolve));
});
