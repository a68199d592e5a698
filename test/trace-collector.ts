/** What receives spans: OTLP over HTTP, in JSON, as a collector of OpenTelemetry does. */
import { once } from "node:events";
import {
  createServer,
  type IncomingHttpHeaders,
  type Server,
  type ServerResponse,
} from "node:http";

export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Null: it is the first of its trace. */
  readonly parentId: string | null;
  readonly name: string;
  readonly kind: "internal" | "server";
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly isError: boolean;
}

interface OtlpValue {
  readonly stringValue?: string;
  readonly intValue?: number | string;
  readonly boolValue?: boolean;
}
interface OtlpAttribute {
  readonly key: string;
  readonly value: OtlpValue;
}
interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly OtlpAttribute[];
  readonly status: { readonly code?: number };
}
interface OtlpRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly OtlpAttribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

const KINDS = { 1: "internal", 2: "server" } as const;

export class TraceCollector implements AsyncDisposable {
  readonly spans: ReceivedSpan[] = [];
  /** As they came. */
  readonly bodies: string[] = [];
  readonly paths: string[] = [];
  readonly headers: IncomingHttpHeaders[] = [];
  resource: Readonly<Record<string, unknown>> = {};
  readonly #server: Server;

  private constructor(answer: (response: ServerResponse) => void) {
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        this.paths.push(`${request.method} ${request.url}`);
        this.headers.push(request.headers);
        this.#take(Buffer.concat(chunks).toString("utf8"));
        answer(response);
      });
    });
  }

  /** By default it takes everything. */
  static async start(
    answer = (response: ServerResponse): void => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end("{}");
    },
  ): Promise<TraceCollector> {
    const collector = new TraceCollector(answer);
    collector.#server.listen(0, "127.0.0.1");
    await once(collector.#server, "listening");
    return collector;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new TypeError("It does not listen");
    return `http://127.0.0.1:${address.port}`;
  }

  /** The only one of that name. */
  span(name: string): ReceivedSpan {
    const found = this.spans.filter((span) => span.name === name);
    const [span] = found;
    if (span === undefined || found.length > 1)
      throw new Error(
        `${found.length} of "${name}" in ${this.spans.map((each) => each.name).join(", ")}`,
      );
    return span;
  }

  /** Names, each below that of its parent, in the order in which they began. */
  tree(parentId: string | null = null): Tree {
    const ids = new Set(this.spans.map(({ spanId }) => spanId));
    return this.spans
      .filter((span) =>
        parentId === null
          ? span.parentId === null || !ids.has(span.parentId)
          : span.parentId === parentId,
      )
      .sort((a, b) => Number(a.startNs - b.startNs))
      .map(({ name, spanId }): Tree[number] => {
        const below = this.tree(spanId);
        return below.length === 0 ? name : [name, below];
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  #take(body: string): void {
    this.bodies.push(body);
    const { resourceSpans } = JSON.parse(body) as OtlpRequest;
    for (const { resource, scopeSpans } of resourceSpans) {
      this.resource = attributesOf(resource.attributes);
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) this.spans.push(spanOf(span));
    }
  }
}

export type Tree = (string | [string, Tree])[];

function spanOf(span: OtlpSpan): ReceivedSpan {
  const { traceId, spanId, parentSpanId, name, kind, attributes, status } = span;
  if (kind !== 1 && kind !== 2) throw new Error(`A span of kind ${kind}`);
  return {
    traceId,
    spanId,
    parentId: parentSpanId === undefined || parentSpanId === "" ? null : parentSpanId,
    name,
    kind: KINDS[kind],
    startNs: BigInt(span.startTimeUnixNano),
    endNs: BigInt(span.endTimeUnixNano),
    attributes: attributesOf(attributes),
    isError: status.code === 2,
  };
}

function attributesOf(attributes: readonly OtlpAttribute[]): Record<string, unknown> {
  return Object.fromEntries(
    attributes.map(({ key, value: { stringValue, intValue, boolValue } }) => [
      key,
      stringValue ?? (intValue === undefined ? boolValue : Number(intValue)),
    ]),
  );
}
