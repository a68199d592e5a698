/**
 * Hrana over HTTP, versions 2 and 3: a body of requests for one stream, answered in one body.
 *
 * H1. Nothing is answered before all that the requests have committed is durable.
 * H2. A stream whose client has gone before the answer is closed: nobody has its baton.
 * H3. Version 2 keeps a stream until it is closed, as its clients expect. Version 3 ends one that has nothing to keep (no
 *     transaction, stored text or setting), so that clients that never close leave nothing behind.
 */
import type { ServerResponse } from "node:http";
import { FairTurns } from "../../sqlite/fair-turns.ts";
import { sendJson } from "../http-exchange.ts";
import { decodePipeline, parseBody } from "./decode.ts";
import type { Endpoint } from "./endpoint.ts";
import type { HranaVersion, StreamRequest } from "./protocol.ts";
import { ResponseBudget } from "./result-text.ts";
import type { HranaStream } from "./stream.ts";

export async function answerPipeline(
  endpoint: Endpoint,
  { body, version, response }: { body: string; version: HranaVersion; response: ServerResponse },
): Promise<void> {
  const { baton, requests } = decodePipeline(parseBody(body));
  const stream = await takeStream(endpoint, baton);
  closeWhenGone(endpoint, stream, response);
  const budget = new ResponseBudget(endpoint.context);
  try {
    const settled: Promise<void>[] = [];
    const results = await answerRequests(stream, { requests, version, settled, budget });
    const next = nextBaton(endpoint, stream, { version, isGone: response.destroyed });
    const closing = next === null ? closeStream(endpoint, stream) : null;
    if (closing !== null) await closing;
    if (settled.length > 0) await Promise.all(settled);
    const baton = next === null ? "null" : `"${next}"`;
    const text = `{"baton":${baton},"base_url":null,"results":[${results}]}`;
    sendJson(response, 200, text, endpoint.context);
  } catch (error) {
    await closeStream(endpoint, stream);
    throw error;
  } finally {
    budget.release();
  }
}

/** A new stream, or the one that has the baton. The revision of a new one is there. */
export async function takeStream(endpoint: Endpoint, baton: string | null): Promise<HranaStream> {
  const { streams } = endpoint.context;
  const known = baton === null ? null : streams.take(baton, endpoint.owner);
  if (known !== null) {
    known.span = endpoint.span;
    return known;
  }
  const stream = endpoint.openStream();
  stream.span = endpoint.span;
  try {
    await stream.connect();
    return stream;
  } catch (error) {
    await streams.remove(stream);
    throw error;
  }
}

/** The baton of a stream that goes on; null: it is to be closed. */
export function nextBaton(
  { context, owner }: Endpoint,
  stream: HranaStream,
  { version, isGone }: { readonly version: HranaVersion; readonly isGone: boolean },
): string | null {
  if (stream.isClosed || isGone || (version >= 3 && stream.isDisposable)) return null;
  return context.streams.park(stream, owner);
}

/** H2. */
export function closeWhenGone(
  endpoint: Endpoint,
  stream: HranaStream,
  response: ServerResponse,
): void {
  const close = (): void => {
    if (!response.writableFinished)
      void closeStream(endpoint, stream)?.catch(endpoint.context.onBug);
  };
  if (response.destroyed) close();
  else response.once("close", close);
}

/** Null: it is done. */
export function closeStream({ context }: Endpoint, stream: HranaStream): Promise<void> | null {
  return context.streams.remove(stream);
}

async function answerRequests(
  stream: HranaStream,
  {
    requests,
    version,
    settled,
    budget,
  }: {
    readonly requests: readonly StreamRequest[];
    readonly version: HranaVersion;
    /** What must resolve before anybody is told. */
    readonly settled: Promise<void>[];
    readonly budget: ResponseBudget;
  },
): Promise<string> {
  const turns = new FairTurns();
  let results = "";
  for (const request of requests) {
    if (request.type === "close") noteSettled(stream, settled, true);
    let result: string;
    try {
      result = `{"type":"ok","response":${await stream.answer(request, version, budget)}}`;
    } catch (error) {
      result = `{"type":"error","error":${stream.encodeFailure(error)}}`;
      budget.note(result.length);
    }
    const pause = turns.next();
    if (pause !== null) await pause;
    results += results === "" ? result : `,${result}`;
  }
  noteSettled(stream, settled);
  return results;
}

/** Adds what must be durable before anybody is told; to be called before the connection is given back. */
export function noteSettled(stream: HranaStream, settled: Promise<void>[], isLast = false): void {
  const promise = stream.settled(isLast);
  if (promise === null) return;
  promise.catch(() => {}); // Awaited by whoever has the list.
  settled.push(promise);
}
