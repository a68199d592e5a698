/**
 * The streams that are open over HTTP, by baton, and the time limits of all streams.
 *
 *   (none) --add--> held by a request --park, a baton is given--> idle --take, that baton--> held by a request
 *   held --remove--> (none)           idle --streamIdleMs over--> closed
 *
 * T1. A baton is random (122 bits), used once, and good for the endpoint and the principal that it was given to only. So one request at
 *     a time has a stream.
 * T2. Batons of streams that expired are remembered, so that their clients are told so, or get a new stream; the oldest are
 *     forgotten.
 * T3. A stream whose token is not good any more is closed, and what was open rolled back.
 */
import { randomUUID } from "node:crypto";
import { StoreError } from "../../errors.ts";
import type { HranaStream } from "./stream.ts";

/** Who may use a stream: texts that are compared. */
export interface StreamOwner {
  readonly endpoint: string;
  readonly principal: string;
}

interface IdleStream extends StreamOwner {
  readonly stream: HranaStream;
  readonly until: number;
  /** Once it has expired its baton is good for a new stream: it has nothing that could be lost. */
  readonly isRenewable: boolean;
}

export interface StreamTableOptions {
  readonly streamIdleMs: number;
  readonly transactionMs: number;
  /** In all, over HTTP and WebSocket. */
  readonly streamsMax: number;
  readonly streamsPerClientMax: number;
  readonly now: () => number;
  readonly onBug: (error: unknown) => void;
}

const EXPIRED_MAX = 10_000;
const SWEEP_MS_MIN = 10;
const SWEEP_MS_MAX = 1000;

export class StreamTable {
  readonly #options: StreamTableOptions;
  /** With the client whose they are. */
  readonly #all: Map<HranaStream, string> = new Map();
  readonly #counts: Map<string, number> = new Map();
  /** By baton; those that were given first are first, and expire first. */
  readonly #idle: Map<string, IdleStream> = new Map();
  /** With who may have a new stream for it; null: nobody. */
  readonly #expired: Map<string, StreamOwner | null> = new Map();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: StreamTableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#all.size;
  }

  /** `client`: whose it is. */
  add(stream: HranaStream, client: string): void {
    const { streamsMax, streamsPerClientMax } = this.#options;
    const count = this.#counts.get(client) ?? 0;
    if (this.#all.size >= streamsMax || count >= streamsPerClientMax) {
      const fact = this.#all.size >= streamsMax ? `${streamsMax} are` : `this client has ${count}`;
      throw new StoreError(
        "STREAM_LIMIT",
        `Cannot open a stream: ${fact} open, and that is the limit`,
        {
          retryable: true,
          details: { streamsMax, streamsPerClientMax },
        },
      );
    }
    this.#all.set(stream, client);
    this.#counts.set(client, count + 1);
    this.#watch();
  }

  /** Forgets the stream and closes it. Null: it is done. */
  remove(stream: HranaStream): Promise<void> | null {
    const client = this.#all.get(stream);
    if (client !== undefined) {
      this.#all.delete(stream);
      const count = this.#counts.get(client) ?? 0;
      if (count > 1) this.#counts.set(client, count - 1);
      else this.#counts.delete(client);
    }
    return stream.close();
  }

  /** One to be given to the client before its stream is idle: `park` it with this one then. */
  newBaton(): string {
    return randomUUID();
  }

  /** The stream is idle from now on; returns the baton that gives it to its owner again. */
  park(
    stream: HranaStream,
    { endpoint, principal }: StreamOwner,
    given: { readonly baton: string; readonly isRenewable: boolean } | null = null,
  ): string {
    const { baton, isRenewable } = given ?? { baton: this.newBaton(), isRenewable: false };
    const until = this.#options.now() + this.#options.streamIdleMs;
    this.#idle.set(baton, { stream, endpoint, principal, until, isRenewable });
    return baton;
  }

  /** T1. Null: it is to have a new stream. Throws BATON_INVALID or STREAM_EXPIRED. */
  take(baton: string, owner: StreamOwner): HranaStream | null {
    const idle = this.#idle.get(baton);
    if (idle !== undefined && isOwner(idle, owner)) {
      this.#idle.delete(baton);
      return idle.stream;
    }
    const renewable = this.#expired.get(baton);
    if (renewable === null) throw expired(this.#options.streamIdleMs);
    if (renewable !== undefined && isOwner(renewable, owner)) {
      this.#expired.delete(baton);
      return null;
    }
    throw new StoreError(
      "BATON_INVALID",
      "Cannot use the baton: this server has not given it, or it was used already, or on another URL",
    );
  }

  /** Ends what has taken too long. Called by itself from time to time; resolves when it is done. */
  async sweep(): Promise<void> {
    const now = this.#options.now();
    const ends: Promise<void>[] = [];
    for (const [baton, idle] of this.#idle) {
      if (idle.until > now) break;
      this.#idle.delete(baton);
      this.#remember(baton, idle);
      ends.push(this.#end(idle.stream));
    }
    for (const [baton, { stream }] of this.#idle) if (!stream.isAllowed) this.#idle.delete(baton);
    for (const stream of this.#all.keys())
      if (!stream.isAllowed) ends.push(this.#end(stream));
      else if (stream.transactionUntil <= now) ends.push(stream.endTransaction());
    for (const end of await Promise.allSettled(ends))
      if (end.status === "rejected") this.#options.onBug(end.reason);
  }

  /** All of them, when the server stops. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#idle.clear();
    await Promise.allSettled([...this.#all.keys()].map((stream) => this.#end(stream)));
  }

  async #end(stream: HranaStream): Promise<void> {
    await this.remove(stream);
  }

  /** T2. */
  #remember(baton: string, { endpoint, principal, isRenewable }: IdleStream): void {
    this.#expired.set(baton, isRenewable ? { endpoint, principal } : null);
    if (this.#expired.size <= EXPIRED_MAX) return;
    for (const oldest of this.#expired.keys()) {
      this.#expired.delete(oldest);
      break;
    }
  }

  #watch(): void {
    if (this.#timer !== null) return;
    const { streamIdleMs, transactionMs } = this.#options;
    const quarter = Math.min(streamIdleMs, transactionMs) / 4;
    const ms = Math.min(SWEEP_MS_MAX, Math.max(SWEEP_MS_MIN, quarter));
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.sweep();
      if (this.#all.size > 0) this.#watch();
    }, ms).unref();
  }
}

function isOwner(left: StreamOwner, right: StreamOwner): boolean {
  return left.endpoint === right.endpoint && left.principal === right.principal;
}

function expired(streamIdleMs: number): StoreError {
  return new StoreError(
    "STREAM_EXPIRED",
    `Cannot use the stream: it was not used for ${streamIdleMs} ms, and is closed; what was open is rolled back`,
    { details: { streamIdleMs } },
  );
}
