/**
 * POST /v3/cursor: a batch whose results are sent as they come, one JSON object a line.
 *
 *   {"baton":...,"base_url":null}   then for each step that runs
 *   {"type":"step_begin",...}  {"type":"row",...}*  {"type":"step_end",...}   or   {"type":"step_error",...}
 *   {"type":"replication_index",...}   the end. {"type":"error",...} in its place: it failed
 *
 * J1. Lines are sent in pieces of PIECE_LENGTH, and a piece only when all that was committed before it is durable.
 * J2. Rows wait nowhere but in the next piece and the connection's own buffer: when that is full, the statement stands still until
 *     the client has read on.
 * J3. What is short is one piece, and its baton says whether the stream goes on. The baton of a longer one is sent before that is
 *     known: if the stream then has nothing to keep, the baton goes on being good for a new one.
 */
import type { ServerResponse } from "node:http";
import type { Executed, ResultColumn } from "../../sqlite/async-executor.ts";
import type { SqliteValue } from "../../sqlite/row-reader.ts";
import type { CountingSink } from "./counting-sink.ts";
import { decodeCursor, parseBody } from "./decode.ts";
import { encodeColumns, encodeRow } from "./encode.ts";
import type { Endpoint } from "./endpoint.ts";
import { closeStream, closeWhenGone, nextBaton, takeStream } from "./pipeline.ts";
import type { HranaStream } from "./stream.ts";

const PIECE_LENGTH = 64 * 1024;
/** As the protocol's own server has it. */
const HEADERS = { "content-type": "text/plain" };
const END = '{"type":"replication_index","replication_index":null}\n';

export async function answerCursor(
  endpoint: Endpoint,
  { body, response }: { readonly body: string; readonly response: ServerResponse },
): Promise<void> {
  const { baton, steps } = decodeCursor(parseBody(body));
  const stream = await takeStream(endpoint, baton);
  closeWhenGone(endpoint, stream, response);
  const lines = new CursorLines(endpoint, stream, response);
  try {
    await stream.runBatch<StepLines>(steps, {
      sinkFor: (step, { wantsRows }) => new StepLines(lines, step, wantsRows),
      ended: (_, sink, executed) => sink.end(executed),
      failed: (step, failure) =>
        lines.add(`{"type":"step_error","step":${step},"error":${failure}}\n`),
      skipped: () => {},
    });
    await lines.end();
  } catch (error) {
    await closeStream(endpoint, stream);
    if (!lines.hasBegun) throw error;
    response.end(`{"type":"error","error":${stream.encodeFailure(error)}}\n`);
  }
}

class CursorLines {
  readonly #endpoint: Endpoint;
  readonly #stream: HranaStream;
  readonly #response: ServerResponse;
  #piece = "";
  #baton: string | null = null;

  constructor(endpoint: Endpoint, stream: HranaStream, response: ServerResponse) {
    this.#endpoint = endpoint;
    this.#stream = stream;
    this.#response = response;
  }

  get hasBegun(): boolean {
    return this.#response.headersSent;
  }

  get isFull(): boolean {
    return this.#piece.length >= PIECE_LENGTH;
  }

  add(line: string): Promise<void> | void {
    this.#piece += line;
    if (this.isFull) return this.flush();
  }

  push(line: string): void {
    this.#piece += line;
  }

  /** J1, J2. */
  async flush(): Promise<void> {
    const response = this.#response;
    await this.#stream.settled();
    if (!this.hasBegun) {
      this.#baton = this.#endpoint.context.streams.newBaton();
      response.writeHead(200, HEADERS);
      response.write(firstLine(this.#baton));
    }
    const piece = this.#piece;
    this.#piece = "";
    if (!response.write(piece) && !response.destroyed) {
      await this.#endpoint.context.sending.drained(response);
    }
  }

  async end(): Promise<void> {
    const { context, owner } = this.#endpoint;
    const response = this.#response;
    await this.#stream.settled();
    if (this.#baton !== null) {
      const isRenewable = this.#stream.isDisposable;
      context.streams.park(this.#stream, owner, { baton: this.#baton, isRenewable });
      response.end(this.#piece + END);
      return;
    }
    const isGone = response.destroyed;
    const baton = nextBaton(this.#endpoint, this.#stream, { version: 3, isGone });
    if (baton === null) await closeStream(this.#endpoint, this.#stream);
    const bytes = Buffer.from(firstLine(baton) + this.#piece + END);
    response.writeHead(200, { ...HEADERS, "content-length": bytes.length });
    response.end(bytes);
    context.sending.watch(response, bytes.length);
  }
}

class StepLines implements CountingSink {
  readonly wantsRows: boolean;
  rowCount = 0;
  readonly #lines: CursorLines;
  readonly #step: number;

  constructor(lines: CursorLines, step: number, wantsRows: boolean) {
    this.#lines = lines;
    this.#step = step;
    this.wantsRows = wantsRows;
  }

  begin(columns: readonly ResultColumn[]): void {
    this.#lines.push(
      `{"type":"step_begin","step":${this.#step},"cols":${encodeColumns(columns)}}\n`,
    );
  }

  row(values: readonly SqliteValue[]): boolean {
    this.rowCount++;
    this.#lines.push(`{"type":"row","row":${encodeRow(values)}}\n`);
    return this.#lines.isFull;
  }

  drained(): Promise<void> {
    return this.#lines.flush();
  }

  end({ changes, lastInsertRowid }: Executed): Promise<void> | void {
    return this.#lines.add(
      `{"type":"step_end","affected_row_count":${changes},"last_insert_rowid":"${lastInsertRowid}"}\n`,
    );
  }
}

function firstLine(baton: string | null): string {
  return `{"baton":${baton === null ? "null" : `"${baton}"`},"base_url":null}\n`;
}
