import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { jobEvents } from "./job-events.ts";
import { type Job, JobTable } from "./job-table.ts";

const allowed = (): Promise<void> => Promise.resolve();

/** A job that cannot be cancelled, and somebody who follows it while `body` runs. What the stream has said until it ended. */
async function follow(
  body: (control: { readonly stopping: AbortController; readonly beat: () => void }) => void,
  requireAllowed: () => Promise<void> = allowed,
  headers: Readonly<Record<string, string>> = {},
): Promise<string> {
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
    const options = { startHeartbeat, requireAllowed, stopping: stopping.signal };
    const answer = jobEvents(job, request, options);
    if ("stream" in answer) void answer.stream(response);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  const stream = await new Promise<IncomingMessage>((resolve) => {
    get({ port, agent: false, headers }, resolve);
  });
  body({ stopping, beat: () => beats.forEach((beat) => beat()) });
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  expect([job.isRunning, beats.size]).toEqual([true, 0]);
  finish(null);
  await job.ended;
  await new Promise((resolve) => server.close(resolve));
  return text;
}

const ONE_EVENT = /^id: 1\nevent: progress\ndata: \{.*"state":"running".*\}\n\n$/;

test("G3. The stream of a job that cannot be cancelled ends with the server, before the job does", async () => {
  expect(await follow(({ stopping }) => stopping.abort())).toMatch(ONE_EVENT);
});

test("G3. The stream ends at the heartbeat after the token is good no more", async () => {
  const revoked = (): Promise<void> => Promise.reject(new Error("It was revoked"));
  expect(await follow(({ beat }) => beat(), revoked)).toMatch(ONE_EVENT);
});

test("regression: an id of an event that is no number is as good as none", async () => {
  const stop = ({ stopping }: { readonly stopping: AbortController }): void => stopping.abort();
  expect(await follow(stop, allowed, { "last-event-id": "x" })).toMatch(ONE_EVENT);
});
