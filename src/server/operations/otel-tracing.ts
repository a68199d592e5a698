/** Spans with the libraries of OpenTelemetry, sent as OTLP over HTTP, in JSON. Loaded where a collector is configured; rules in tracing.ts. */
import { type Attributes, ROOT_CONTEXT, SpanKind, trace, type Tracer } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import {
  defaultResource,
  detectResources,
  envDetector,
  type Resource,
  resourceFromAttributes,
} from "@opentelemetry/resources";
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { IncomingMessage } from "node:http";
import type { ServerSettings } from "../setting-list.ts";
import { OpenRequest, SpanClock } from "./otel-span.ts";
import type { ServerLog } from "./server-log.ts";
import { SpanQueue, SPANS_MAX } from "./span-queue.ts";
import type { RequestSpan, Tracing } from "./tracing.ts";

const EXPORT_SPANS = 512;
/** For all tries of one batch; as long at most does the process go on after the server has stopped. */
const EXPORT_MS = 5000;
const PATH_LENGTH_MAX = 1000;

type TracingSettings = Pick<
  ServerSettings,
  "otelServiceName" | "otelSamplePercent" | "slowQueryMs"
>;

interface TracingOptions {
  readonly settings: TracingSettings;
  readonly log: ServerLog;
}

/** `endpoint`: of the collector, without the path for traces. Throws RangeError. */
export function makeTracing(endpoint: string, options: TracingOptions): Tracing {
  const exporter = new OTLPTraceExporter({
    url: tracesUrl(endpoint),
    timeoutMillis: EXPORT_MS,
  });
  return new OtelTracing(exporter, options);
}

function tracesUrl(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new RangeError(
      `Cannot send spans to "${endpoint}": it is no address that begins with http: or https:`,
    );
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/v1/traces`;
  return url.href;
}

/** What the standard variables of the environment say of this process, and the name of the settings before all. */
function resourceOf(serviceName: string | null): Resource {
  const named = defaultResource()
    .merge(resourceFromAttributes({ "service.name": "bough" }))
    .merge(detectResources({ detectors: [envDetector] }));
  return serviceName === null
    ? named
    : named.merge(resourceFromAttributes({ "service.name": serviceName }));
}

class OtelTracing implements Tracing {
  readonly #provider: TracerProvider;
  readonly #tracer: Tracer;
  readonly #slowQueryMs: number;
  readonly #queue: SpanQueue;
  readonly #propagator: W3CTraceContextPropagator = new W3CTraceContextPropagator();

  constructor(exporter: SpanExporter, { settings, log }: TracingOptions) {
    const { otelServiceName, otelSamplePercent, slowQueryMs } = settings;
    this.#slowQueryMs = slowQueryMs;
    this.#queue = new SpanQueue(exporter, log);
    this.#provider = new TracerProvider({
      resource: resourceOf(otelServiceName),
      sampler: new ParentBasedSampler({
        root: new TraceIdRatioBasedSampler(otelSamplePercent / 100),
      }),
      spanProcessors: [
        new BatchSpanProcessor({
          exporter: this.#queue,
          maxQueueSize: SPANS_MAX,
          maxExportBatchSize: EXPORT_SPANS,
        }),
      ],
    });
    this.#tracer = this.#provider.getTracer("bough");
  }

  request(request: IncomingMessage): RequestSpan | null {
    const { method = "", url = "", httpVersion } = request;
    const [path = ""] = url.split("?", 1);
    return this.#begin(request, method, {
      "http.request.method": method,
      "url.path": path.slice(0, PATH_LENGTH_MAX),
      "url.scheme": "encrypted" in request.socket ? "https" : "http",
      "network.protocol.version": httpVersion,
    });
  }

  message(upgrade: IncomingMessage): RequestSpan | null {
    return this.#begin(upgrade, "WebSocket", { "network.protocol.name": "websocket" });
  }

  async stop(): Promise<void> {
    await this.#provider.shutdown().catch(() => {}); // The queue has told the log.
  }

  #begin(request: IncomingMessage, name: string, attributes: Attributes): RequestSpan | null {
    if (this.#queue.isFull) {
      this.#queue.lost++;
      return null;
    }
    const parent = this.#propagator.extract(ROOT_CONTEXT, request.headers, {
      keys: (headers) => Object.keys(headers),
      get: (headers, key) => headers[key],
    });
    const clock = new SpanClock();
    const span = this.#tracer.startSpan(
      name,
      { kind: SpanKind.SERVER, startTime: clock.now(), attributes },
      parent,
    );
    if (!span.isRecording()) return null;
    const { remoteAddress } = request.socket;
    if (remoteAddress !== undefined) span.setAttribute("client.address", remoteAddress);
    return new OpenRequest(span, name, {
      tracer: this.#tracer,
      queue: this.#queue,
      clock,
      slowQueryMs: this.#slowQueryMs,
      context: trace.setSpan(parent, span),
    });
  }
}
