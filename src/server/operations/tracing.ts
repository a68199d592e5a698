/**
 * Spans of OpenTelemetry, where the settings name a collector (otel-tracing.ts makes them).
 *
 *   POST /{revision}/v2/pipeline     a request over HTTP, or one over a WebSocket; a child of what `traceparent` names
 *   +- BATCH shop                    more than one statement in one request
 *   |  +- INSERT shop                a statement
 *   +- commit wait                   until what the answer tells of was durable
 *   +- job gc                        goes on when the request is answered
 *
 * X1. Where no collector is named nothing is loaded, and a request costs a comparison with null. One that is not sampled has no parts.
 * X2. Never in a span: tokens, headers, queries of URLs, bodies, parameters of statements, messages of errors. The text of a statement
 *     only where it was slow, as in the log.
 * X3. Nobody waits for a span, and none makes a request fail. At most SPANS_MAX wait to be sent; what comes while they do has none.
 */
import type { IncomingMessage } from "node:http";
import { parseRevision } from "../../branch/revision.ts";
import type { EndedStatement } from "./server-counters.ts";

/** Part of a request, which may have parts. */
export interface Span {
  statementEnded(ended: EndedStatement): void;
  /** An answer has waited until what it tells was durable. */
  waited(durationMs: number): void;
  /** To be ended when its statements have. */
  batch(size: number): BatchSpan;
}

export interface BatchSpan extends Span {
  end(): void;
}

export interface RequestSpan extends Span {
  /** What it is for: "/{revision}/v2/pipeline", and where that names something, on what. */
  routed(route: string, target: TracedTarget): void;
  /** A span of its own, which ends with the job. */
  job(job: TracedJob): void;
  /** With a code of docs/errors.md, or SQLite's. */
  failed(code: string): void;
  /** `status`: of HTTP. */
  end(status?: number): void;
}

export interface TracedTarget {
  readonly database: string | null;
  /** Null: the main one, or none. */
  readonly branch: string | null;
}

export interface TracedJob {
  /** Never fails. */
  readonly ended: Promise<void>;
  readonly facts: {
    readonly id: string;
    readonly kind: string;
    readonly state: string;
    readonly target: TracedTarget;
    readonly startedAt: Date;
    readonly endedAt: Date | null;
    readonly problem: { readonly code: string } | null;
  };
}

export interface Tracing {
  /** Null: it is not sampled, or too many spans wait (X3). */
  request(request: IncomingMessage): RequestSpan | null;
  /** Of one over the WebSocket that `upgrade` has asked for. */
  message(upgrade: IncomingMessage): RequestSpan | null;
  /** Resolves when all are sent, or given up. */
  stop(): Promise<void>;
}

/** Of a revision that the router has let pass. */
export function targetOf(revision: string): TracedTarget {
  const { database, branch } = parseRevision(revision);
  return { database, branch };
}
