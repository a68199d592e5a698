import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import { BatchSpanProcessor, type ReadableSpan, TracerProvider } from "@opentelemetry/sdk-trace";
import { expect, test } from "vitest";
import type { ServerLog } from "./server-log.ts";
import { SpanQueue, SPANS_MAX } from "./span-queue.ts";

/** A queue before a collector that answers when the test says so. */
function stalled(): {
  readonly queue: SpanQueue;
  readonly log: string[];
  readonly handed: ReadableSpan[];
  readonly answer: (code: ExportResultCode) => void;
  readonly endSpans: (count: number) => void;
} {
  const log: string[] = [];
  const handed: ReadableSpan[] = [];
  const waiting: ((result: ExportResult) => void)[] = [];
  const note = (event: string, facts = {}): void => void log.push(event + JSON.stringify(facts));
  const told: ServerLog = { isDebug: false, debug: note, info: note, warn: note, error: note };
  const exporter = {
    export: (spans: ReadableSpan[], done: (result: ExportResult) => void): void => {
      handed.push(...spans);
      waiting.push(done);
    },
    shutdown: () => Promise.resolve(),
  };
  const queue = new SpanQueue(exporter, told);
  const processor = new BatchSpanProcessor({
    exporter: queue,
    maxQueueSize: SPANS_MAX,
    maxExportBatchSize: 512,
  });
  const tracer = new TracerProvider({ spanProcessors: [processor] }).getTracer("test");
  return {
    queue,
    log,
    handed,
    answer: (code) =>
      waiting.shift()?.(
        code === ExportResultCode.SUCCESS ? { code } : { code, error: new Error("No") },
      ),
    endSpans: (count) => {
      for (let i = 0; i < count; i++) queue.end(tracer.startSpan(`${i}`), Date.now());
    },
  };
}

test("so many spans wait and no more; the others are counted, and the log is told (X3)", () => {
  const { queue, log, handed, answer, endSpans } = stalled();
  endSpans(512 + SPANS_MAX);
  expect(handed).toHaveLength(512);
  expect([queue.isFull, queue.lost]).toEqual([true, 0]);
  endSpans(10);
  expect(queue.lost).toBe(10);
  answer(ExportResultCode.FAILED);
  expect(log).toEqual(['spans.lost{"error":"No"}']);
  expect(queue.lost).toBe(522);
});

test("room is there again when a batch was handed over, whatever becomes of it", async () => {
  const { queue, log, handed, answer, endSpans } = stalled();
  endSpans(512 + SPANS_MAX);
  answer(ExportResultCode.FAILED);
  await expect.poll(() => handed.length).toBe(1024);
  expect(queue.isFull).toBe(false);
  endSpans(1);
  expect(queue.lost).toBe(512);
  answer(ExportResultCode.SUCCESS);
  expect(log).toEqual(['spans.lost{"error":"No"}', 'spans.sent{"lost":512}']);
  expect(queue.lost).toBe(0);
});
