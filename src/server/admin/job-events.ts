/**
 * A job as server-sent events: "progress" and "end", each with the whole job and a number as its id.
 *
 * G1. A client that comes again with Last-Event-ID is told where the job is now, if that is something new, and 204 once it has been told the
 *     end: that is what makes an EventSource stop.
 * G2. A client that reads slowly gets the newest state when it is ready, and nothing is kept for it meanwhile.
 * G3. It ends with the job, with the client, with the server, or at a heartbeat after the token is good no more.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Answer } from "./admin-route.ts";
import type { Job } from "./job-table.ts";

export interface JobEventsOptions {
  /** Calls `beat` from time to time until what it returns is called. */
  readonly startHeartbeat: (beat: () => void) => () => void;
  /** Rejects when the client may be told nothing more. */
  readonly requireAllowed: () => Promise<void>;
  /** Aborted when the server stops. */
  readonly stopping: AbortSignal;
}

const HEARTBEAT_MS = 15_000;
const HEADERS = { "content-type": "text/event-stream", "cache-control": "no-store" };

export function everyHeartbeat(beat: () => void): () => void {
  const timer = setInterval(beat, HEARTBEAT_MS).unref();
  return () => clearInterval(timer);
}

export function jobEvents(job: Job, request: IncomingMessage, options: JobEventsOptions): Answer {
  const lastSeen = Number(request.headers["last-event-id"]) || 0; // What is no number is none of ours.
  if (!job.isRunning && lastSeen >= job.number) return { status: 204 };
  if (request.method === "HEAD") return { status: 200, headers: HEADERS };
  return { stream: (response) => sendEvents(job, response, { ...options, lastSeen }) };
}

async function sendEvents(
  job: Job,
  response: ServerResponse,
  {
    startHeartbeat,
    requireAllowed,
    stopping,
    lastSeen,
  }: JobEventsOptions & { readonly lastSeen: number },
): Promise<void> {
  if (!response.destroyed) response.writeHead(200, HEADERS).flushHeaders();
  await new Promise<void>((resolve) => {
    let told = lastSeen;
    const tell = (): void => {
      // G2.
      if (response.writableNeedDrain || response.destroyed) return;
      if (job.number > told) {
        told = job.number;
        response.write(eventOf(job));
      }
      if (!job.isRunning) finish();
    };
    const keepAlive = (): void => {
      if (!response.writableNeedDrain && !response.writableEnded)
        response.write(": still there\n\n");
    };
    const stopListening = job.listen(tell);
    const stopHeartbeat = startHeartbeat(() => {
      requireAllowed().then(keepAlive, finish);
    });
    const finish = (): void => {
      stopListening();
      stopHeartbeat();
      response.off("drain", tell);
      response.off("close", finish);
      stopping.removeEventListener("abort", finish);
      if (!response.destroyed) response.end();
      resolve();
    };
    response.on("drain", tell);
    response.on("close", finish);
    stopping.addEventListener("abort", finish);
    if (stopping.aborted || response.destroyed) finish();
    else tell();
  });
}

function eventOf(job: Job): string {
  const name = job.isRunning ? "progress" : "end";
  return `id: ${job.number}\nevent: ${name}\ndata: ${JSON.stringify(job.facts)}\n\n`;
}
