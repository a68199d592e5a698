/**
 * What stands between spans and the library that sends them: it counts those that wait there, since the library drops without telling,
 * and tells the log when spans are lost (X3 in tracing.ts).
 *
 *   sending --a batch was not taken--> failing: "spans.lost", once --a batch was taken--> sending: "spans.sent"
 */
import type { Span as OtelSpan } from "@opentelemetry/api";
import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import type { ReadableSpan, SpanExporter } from "@opentelemetry/sdk-trace";
import type { ServerLog } from "./server-log.ts";

export const SPANS_MAX = 8192;

export class SpanQueue implements SpanExporter {
  /** Since the last batch that was taken: spans, and requests that have none. */
  lost = 0;
  readonly #exporter: SpanExporter;
  readonly #log: ServerLog;
  #waiting = 0;
  #isFailing = false;

  constructor(exporter: SpanExporter, log: ServerLog) {
    this.#exporter = exporter;
    this.#log = log;
  }

  get isFull(): boolean {
    return this.#waiting >= SPANS_MAX;
  }

  end(span: OtelSpan, endMs: number): void {
    if (this.isFull) {
      this.lost++;
      return;
    }
    this.#waiting++;
    span.end(endMs);
  }

  /** Called by the library. */
  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#waiting -= spans.length;
    this.#exporter.export(spans, (result) => {
      this.#told(result, spans.length);
      done(result);
    });
  }

  async shutdown(): Promise<void> {
    await this.#exporter.shutdown();
  }

  #told({ code, error }: ExportResult, count: number): void {
    if (code === ExportResultCode.SUCCESS) {
      if (this.#isFailing) this.#log.info("spans.sent", { lost: this.lost });
      this.#isFailing = false;
      this.lost = 0;
      return;
    }
    this.lost += count;
    if (!this.#isFailing) this.#log.warn("spans.lost", { error: error?.message ?? "unknown" });
    this.#isFailing = true;
  }
}
