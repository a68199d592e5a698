/** A request's span and its parts; rules in tracing.ts. Parts are made when they have ended, and say how long they took. */
import {
  type Attributes,
  type Context,
  type Span as OtelSpan,
  SpanStatusCode,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import { describeFailure } from "../failure.ts";
import { type EndedStatement, shownSql } from "./server-counters.ts";
import type { SpanQueue } from "./span-queue.ts";
import type { BatchSpan, RequestSpan, Span, TracedJob, TracedTarget } from "./tracing.ts";

/** What spans of statements are named after: no text of a client makes a name. */
const OPERATION =
  /^\s*(ALTER|ANALYZE|ATTACH|BEGIN|COMMIT|CREATE|DELETE|DETACH|DROP|END|EXPLAIN|INSERT|PRAGMA|REINDEX|RELEASE|REPLACE|ROLLBACK|SAVEPOINT|SELECT|UPDATE|VACUUM|VALUES|WITH)\b/i;

export interface SpanScope {
  readonly tracer: Tracer;
  readonly queue: SpanQueue;
  readonly clock: SpanClock;
  readonly slowQueryMs: number;
  /** Parts are children of the span in it. */
  readonly context: Context;
}

/** Milliseconds since 1970, from one look at the clock on the wall: no part of a request ends before it begins. */
export class SpanClock {
  readonly #offsetMs: number = Date.now() - performance.now();

  now(): number {
    return this.#offsetMs + performance.now();
  }
}

class OpenSpan implements Span {
  protected readonly span: OtelSpan;
  protected readonly scope: SpanScope;
  protected target: TracedTarget | null;

  constructor(span: OtelSpan, scope: SpanScope, target: TracedTarget | null) {
    this.span = span;
    this.scope = scope;
    this.target = target;
  }

  statementEnded({ sql, durationMs, rowCount, changes, error }: EndedStatement): void {
    const { slowQueryMs } = this.scope;
    const operation = OPERATION.exec(sql)?.[1]?.toUpperCase() ?? null;
    const span = this.#part(databaseName(operation, this.target), durationMs, {
      ...databaseAttributes(this.target),
      ...(operation === null ? {} : { "db.operation.name": operation }),
      "db.response.returned_rows": rowCount,
      "bough.rows_changed": changes,
      ...(slowQueryMs > 0 && durationMs >= slowQueryMs ? { "db.query.text": shownSql(sql) } : {}),
    });
    if (error !== null) {
      const { code, extendedCode } = describeFailure(error);
      span.setAttribute("db.response.status_code", extendedCode ?? code);
      markFailed(span, code);
    }
    this.#end(span);
  }

  waited(durationMs: number): void {
    this.#end(this.#part("commit wait", durationMs, databaseAttributes(this.target)));
  }

  batch(size: number): BatchSpan {
    const span = this.#part(databaseName("BATCH", this.target), 0, {
      ...databaseAttributes(this.target),
      "db.operation.name": "BATCH",
      "db.operation.batch.size": size,
    });
    const context = trace.setSpan(this.scope.context, span);
    return new OpenBatch(span, { ...this.scope, context }, this.target);
  }

  /** One that has taken so long. */
  #part(name: string, durationMs: number, attributes: Attributes): OtelSpan {
    const { tracer, clock, context } = this.scope;
    return tracer.startSpan(name, { startTime: clock.now() - durationMs, attributes }, context);
  }

  #end(span: OtelSpan): void {
    this.scope.queue.end(span, this.scope.clock.now());
  }
}

class OpenBatch extends OpenSpan implements BatchSpan {
  end(): void {
    this.scope.queue.end(this.span, this.scope.clock.now());
  }
}

export class OpenRequest extends OpenSpan implements RequestSpan {
  readonly #name: string;

  constructor(span: OtelSpan, name: string, scope: SpanScope) {
    super(span, scope, null);
    this.#name = name;
  }

  routed(route: string, target: TracedTarget): void {
    this.target = target;
    this.span.updateName(`${this.#name} ${route}`);
    this.span.setAttributes({ "http.route": route, ...databaseAttributes(target) });
  }

  job(job: TracedJob): void {
    void job.ended.then(() => this.#jobEnded(job.facts));
  }

  #jobEnded({ id, kind, state, target, startedAt, endedAt, problem }: TracedJob["facts"]): void {
    const { tracer, queue, context } = this.scope;
    const attributes = {
      ...databaseAttributes(target),
      "bough.job.id": id,
      "bough.job.kind": kind,
      "bough.job.state": state,
    };
    const span = tracer.startSpan(`job ${kind}`, { startTime: startedAt, attributes }, context);
    if (problem !== null && state === "failed") markFailed(span, problem.code);
    queue.end(span, (endedAt ?? startedAt).getTime());
  }

  failed(code: string): void {
    this.span.setAttribute("error.type", code);
  }

  end(status?: number): void {
    if (status !== undefined) this.span.setAttribute("http.response.status_code", status);
    // What a client has done wrong is no error of the server.
    if (status !== undefined && status >= 500) this.span.setStatus({ code: SpanStatusCode.ERROR });
    this.scope.queue.end(this.span, this.scope.clock.now());
  }
}

function markFailed(span: OtelSpan, code: string): void {
  span.setAttribute("error.type", code);
  span.setStatus({ code: SpanStatusCode.ERROR });
}

/** "SELECT shop", as the conventions name spans of databases. */
function databaseName(operation: string | null, target: TracedTarget | null): string {
  const database = target?.database ?? null;
  return [operation, database].filter((part) => part !== null).join(" ") || "statement";
}

function databaseAttributes(target: TracedTarget | null): Attributes {
  if (target === null || target.database === null) return {};
  const { database, branch } = target;
  return {
    "db.system.name": "sqlite",
    "db.namespace": database,
    ...(branch === null ? {} : { "bough.branch": branch }),
  };
}
