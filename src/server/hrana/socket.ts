/**
 * Hrana over one WebSocket, versions 1 and 2 as clients of libSQL speak them: JSON messages, many streams.
 *
 *   connected --hello--> greeting --hello_ok--> greeted --close, error, the server stops--> closed, with its streams
 *                           ^ what comes now waits    |
 *                           +---------- hello --------+
 *
 * W1. Nothing is answered before hello_ok. Clients send requests without waiting for it.
 * W2. Requests of one stream run in their order, those of different streams beside each other. store_sql and close_sql act at once:
 *     a request sees the texts that were stored when it was sent, whenever it runs.
 * W3. No answer before what it and the requests of its stream before it have committed is durable, so that answers of one stream come
 *     in order. The next request of the stream runs meanwhile.
 * W4. While too much is unanswered or unread, nothing more is read from the socket. While answers are unread, no statement begins. A socket
 *     that leaves a long answer unread ends, as send-limit.ts says.
 * W5. Each request asks whether the token is still good. When it is not, the socket is closed, and its streams with it.
 * W6. Who has not said hello after HELLO_MS is sent away.
 */
import type { WebSocket } from "ws";
import { StoreError } from "../../errors.ts";
import { describeFailure, encodeFailure } from "../failure.ts";
import { decodeSocketMessage, decodeSocketRequest, parseBody } from "./decode.ts";
import { type RequestSpan, targetOf } from "../operations/tracing.ts";
import type { Endpoint } from "./endpoint.ts";
import type { HranaVersion, SocketMessage, SocketRequest, StreamRequest } from "./protocol.ts";
import { noteSettled } from "./pipeline.ts";
import { ResponseBudget } from "./result-text.ts";
import { type StoredLength, StoredSql } from "./stored-sql.ts";
import type { HranaStream } from "./stream.ts";

/** As sqld closes: what arrived was no JSON, was binary, broke the protocol. */
const CLOSE_DATA = 1007;
const CLOSE_KIND = 1003;
const CLOSE_PROTOCOL = 1008;
const CLOSE_GOING_AWAY = 1001;
const UNANSWERED_MAX = 256;
const UNREAD_BYTES_MAX = 4 * 1024 * 1024;
/** From this length on an answer is watched until it is read (send-limit.ts). */
const WATCHED_LENGTH = 64 * 1024;
const HELLO_MS = 30_000;
/** What the standard allows in a close frame. */
const REASON_BYTES_MAX = 123;

interface Received {
  readonly message: SocketMessage;
  readonly bytes: number;
}

interface OpenStream {
  readonly stream: HranaStream;
  /** Resolves when the last request so far has run; never rejects. */
  tail: Promise<void>;
  /** Resolves when it is answered; never rejects. */
  answered: Promise<void>;
}

/** Of a request; null: it has none. */
type BeginSpan = () => RequestSpan | null;

/** Finds out who has sent the token; throws what hello_error says. */
type Greet = (token: string | null) => Promise<Endpoint>;

export class HranaSocket {
  readonly #socket: WebSocket;
  readonly #version: HranaVersion;
  readonly #greet: Greet;
  readonly #beginSpan: BeginSpan;
  readonly #stored: StoredSql;
  readonly #streams: Map<number, OpenStream> = new Map();
  /** Why a stream was not opened: clients use it before they are told. */
  readonly #refused: Map<number, StoreError> = new Map();
  /** Null: no hello yet. */
  #endpoint: Endpoint | null = null;
  /** What came while a hello is answered; null: none is. */
  #waiting: Received[] | null = null;
  #unanswered = 0;
  /** Of the messages that wait or are unanswered. */
  #heldBytes = 0;
  readonly #requestBytesMax: number;
  readonly #helloTimer: NodeJS.Timeout;
  /** Statements that begin when the client has read on. */
  #uncalm: (() => void)[] = [];
  #isPaused = false;
  #isStopping = false;
  /** Called when nothing is unanswered, or nobody is there to be answered. */
  #onIdle: () => void = nothing;

  constructor(
    socket: WebSocket,
    options: {
      readonly version: HranaVersion;
      /** As many bytes of messages are held unanswered. */
      readonly requestBytesMax: number;
      readonly storedSql: StoredLength;
      readonly greet: Greet;
      readonly beginSpan: BeginSpan;
    },
  ) {
    this.#requestBytesMax = options.requestBytesMax;
    this.#stored = new StoredSql(options.storedSql);
    this.#helloTimer = setTimeout(() => {
      if (this.#endpoint === null) socket.close(CLOSE_PROTOCOL, "There was no hello");
    }, HELLO_MS).unref();
    this.#socket = socket;
    this.#version = options.version;
    this.#greet = options.greet;
    this.#beginSpan = options.beginSpan;
    socket.on("message", (data: Buffer, isBinary: boolean) => this.#receive(data, isBinary));
    socket.on("close", () => void this.#end());
    socket.on("error", () => socket.terminate());
  }

  /** The server stops: what was asked is answered, then the socket is closed. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      this.#noteIdle();
    });
    this.#socket.close(CLOSE_GOING_AWAY, "The server is stopping");
    await this.#end();
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (this.#isStopping) return;
    if (isBinary) {
      this.#socket.close(CLOSE_KIND, "Messages are text");
      return;
    }
    let body: unknown;
    try {
      body = parseBody(data.toString("utf8"));
    } catch {
      this.#socket.close(CLOSE_DATA, "The message is no JSON");
      return;
    }
    this.#refuseBroken(() => {
      const message = decodeSocketMessage(body);
      if (message.type !== "hello") this.checkAccess(); // A hello brings a token of its own.
      this.#heldBytes += data.length;
      this.#take({ message, bytes: data.length });
      if (this.#isFull) this.#pause();
    });
  }

  /** W5. To be called from time to time. */
  checkAccess(): void {
    const endpoint = this.#endpoint;
    if (endpoint === null || this.#waiting !== null) return;
    const { access } = endpoint.context;
    if (access.isCurrent(endpoint.principal)) return;
    this.#waiting = [];
    void access.requireCurrent(endpoint.principal).then(
      () => this.#goOn(),
      (error: unknown) => this.#socket.close(CLOSE_PROTOCOL, reasonOf(error)),
    );
  }

  #take(received: Received): void {
    const { message, bytes } = received;
    if (this.#waiting !== null) this.#waiting.push(received);
    else if (message.type === "hello") {
      this.#heldBytes -= bytes;
      this.#hello(message.jwt);
    } else this.#request(message, bytes);
  }

  get #isFull(): boolean {
    const count = (this.#waiting?.length ?? 0) + this.#unanswered;
    return count >= UNANSWERED_MAX || this.#heldBytes >= this.#requestBytesMax;
  }

  /** W1. */
  #hello(token: string | null): void {
    if (this.#endpoint !== null && this.#version < 2)
      throw new StoreError("REQUEST_INVALID", "Cannot say hello again: that needs version 2");
    this.#waiting = [];
    void this.#greeted(token);
  }

  async #greeted(token: string | null): Promise<void> {
    try {
      this.#endpoint = await this.#greet(token);
    } catch (error) {
      this.#send(`{"type":"hello_error","error":${encodeFailure(describeFailure(error))}}`);
      this.#socket.close(CLOSE_PROTOCOL, "The hello was refused");
      return;
    }
    this.#send('{"type":"hello_ok"}');
    this.#goOn();
  }

  #goOn(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    if (!this.#isOpen) return; // Nobody would end the streams that they open.
    this.#refuseBroken(() => {
      for (const received of waiting) this.#take(received);
    });
    this.#resumeIfCalm();
    this.#noteIdle();
  }

  #request(
    { requestId, request: value }: SocketMessage & { type: "request" },
    bytes: number,
  ): void {
    const endpoint = this.#endpoint;
    if (endpoint === null)
      throw new StoreError("REQUEST_INVALID", "Cannot answer before the client has said hello");
    this.#unanswered++;
    const span = this.#beginSpan();
    const answered = (text: string): void => {
      span?.end();
      this.#unanswered--;
      this.#heldBytes -= bytes;
      this.#send(text);
      this.#resumeIfCalm();
      this.#noteIdle();
    };
    const fail = (error: unknown): void => {
      span?.failed(describeFailure(error).code);
      const body = `"request_id":${requestId},"error":${endpoint.encodeFailure(error)}`;
      answered(`{"type":"response_error",${body}}`);
    };
    const succeed = (response: string): void =>
      answered(`{"type":"response_ok","request_id":${requestId},"response":${response}}`);
    try {
      const request = decodeSocketRequest(value);
      span?.routed(kindOf(request), targetOf(endpoint.revision));
      this.#begin(endpoint, request, span).then(succeed, fail);
    } catch (error) {
      fail(error);
    }
  }

  #begin(endpoint: Endpoint, request: SocketRequest, span: RequestSpan | null): Promise<string> {
    switch (request.type) {
      case "open_stream":
        this.#open(endpoint, request.streamId);
        return Promise.resolve('{"type":"open_stream"}');
      case "close_stream":
        return this.#close(endpoint, request.streamId, span);
      case "store_sql":
        this.#stored.store(request.sqlId, request.sql);
        return Promise.resolve('{"type":"store_sql"}');
      case "close_sql":
        this.#stored.close(request.sqlId);
        return Promise.resolve('{"type":"close_sql"}');
      case "stream":
        return this.#run(endpoint, request, span);
    }
  }

  #open(endpoint: Endpoint, streamId: number): void {
    if (this.#streams.has(streamId))
      throw new StoreError("REQUEST_INVALID", `Cannot open stream ${streamId}: it is open`);
    try {
      const stream = endpoint.openStream(this.#stored);
      this.#streams.set(streamId, {
        stream,
        tail: Promise.resolve(),
        answered: Promise.resolve(),
      });
      this.#refused.delete(streamId);
    } catch (error) {
      if (this.#refused.size >= UNANSWERED_MAX) this.#refused.clear();
      if (error instanceof StoreError) this.#refused.set(streamId, error);
      throw error;
    }
  }

  async #close({ context }: Endpoint, streamId: number, span: RequestSpan | null): Promise<string> {
    const open = this.#streams.get(streamId);
    this.#streams.delete(streamId);
    this.#refused.delete(streamId);
    if (open !== undefined) {
      await open.tail;
      open.stream.span = span;
      const settled: Promise<void>[] = [];
      noteSettled(open.stream, settled, true);
      await context.streams.remove(open.stream);
      await open.answered;
      await Promise.all(settled);
    }
    return '{"type":"close_stream"}';
  }

  #run(
    endpoint: Endpoint,
    { streamId, request }: SocketRequest & { type: "stream" },
    span: RequestSpan | null,
  ): Promise<string> {
    const open = this.#streams.get(streamId);
    if (open === undefined)
      throw (
        this.#refused.get(streamId) ??
        new StoreError("REQUEST_INVALID", `Cannot use stream ${streamId}: it is not open`)
      );
    const resolved = this.#stored.resolveAll(request);
    const answer = this.#runNext(endpoint, open, { request: resolved, span });
    open.answered = answer.then(nothing, nothing);
    return answer;
  }

  /** W2, W3. */
  async #runNext(
    { context }: Endpoint,
    open: OpenStream,
    { request, span }: { readonly request: StreamRequest; readonly span: RequestSpan | null },
  ): Promise<string> {
    const { stream, tail, answered } = open;
    const budget = new ResponseBudget(context);
    const settled: Promise<void>[] = [];
    const running = tail.then(async () => {
      await this.#calm();
      stream.span = span;
      try {
        return await stream.answer(request, this.#version, budget);
      } finally {
        noteSettled(stream, settled);
      }
    });
    open.tail = running.then(nothing, nothing);
    try {
      return await running;
    } finally {
      // What it has read may be what those before it have written.
      try {
        await answered;
        await Promise.all(settled);
      } finally {
        budget.release();
      }
    }
  }

  #send(text: string): void {
    if (!this.#isOpen) return;
    const isLong = text.length >= WATCHED_LENGTH;
    const sending = isLong ? this.#endpoint?.context.sending : undefined;
    const sent = sending?.begin(Buffer.byteLength(text), () => this.#socket.terminate());
    this.#socket.send(text, () => {
      sent?.();
      this.#resumeIfCalm();
    });
    if (this.#socket.bufferedAmount > UNREAD_BYTES_MAX) this.#pause();
  }

  /** W4. */
  #pause(): void {
    if (this.#isPaused || this.#socket.readyState !== this.#socket.OPEN) return;
    this.#isPaused = true;
    this.#socket.pause();
  }

  #resumeIfCalm(): void {
    if (this.#socket.bufferedAmount > UNREAD_BYTES_MAX / 2) return;
    for (const begin of this.#uncalm.splice(0)) begin();
    const waiting = this.#waiting?.length ?? 0;
    if (!this.#isPaused || waiting + this.#unanswered >= UNANSWERED_MAX / 2) return;
    if (this.#heldBytes > this.#requestBytesMax / 2) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  /** W4: null when the client has read what there was. */
  #calm(): Promise<void> | null {
    if (this.#socket.bufferedAmount <= UNREAD_BYTES_MAX || !this.#isOpen) return null;
    return new Promise((resolve) => this.#uncalm.push(resolve));
  }

  get #isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  #noteIdle(): void {
    if (!this.#isOpen || (this.#unanswered === 0 && this.#waiting === null)) this.#onIdle();
  }

  #refuseBroken(body: () => void): void {
    try {
      body();
    } catch (error) {
      this.#socket.close(CLOSE_PROTOCOL, reasonOf(error));
    }
  }

  async #end(): Promise<void> {
    clearTimeout(this.#helloTimer);
    this.#onIdle();
    for (const begin of this.#uncalm.splice(0)) begin();
    const streams = [...this.#streams.values()].map(({ stream }) => stream);
    this.#streams.clear();
    this.#stored.clear();
    const table = this.#endpoint?.context.streams;
    if (table !== undefined)
      await Promise.allSettled(
        streams.map(async (stream) => {
          await table.remove(stream);
        }),
      );
  }
}

function kindOf(request: SocketRequest): string {
  return request.type === "stream" ? request.request.type : request.type;
}

/** As much as a close frame holds, without a letter that would be cut. */
function reasonOf(error: unknown): string {
  const bytes = Buffer.from(describeFailure(error).message);
  const text = bytes.subarray(0, REASON_BYTES_MAX).toString("utf8");
  return bytes.length <= REASON_BYTES_MAX ? text : text.replace(/\uFFFD$/, "");
}

function nothing(): void {}
