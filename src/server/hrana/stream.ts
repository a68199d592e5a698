/**
 * A stream: one client's connection to a revision, over however many requests.
 *
 *   new --first SQL--> open --close, expiry--> closed
 *                       | its transaction is open for longer than transactionMs
 *                       v
 *                     failed: rolled back; answers TRANSACTION_TIMEOUT until it is closed
 *
 * G1. One request at a time: whoever has the stream awaits each before the next.
 * G2. A request is answered when it is executed. Nobody may be told before `settled` has resolved.
 * G3. A transaction that took too long never goes on: later statements would each be one by itself.
 */
import { StoreError } from "../../errors.ts";
import type { CallLimits } from "../../sqlite/async-calls.ts";
import type { Executed } from "../../sqlite/async-executor.ts";
import { FairTurns } from "../../sqlite/fair-turns.ts";
import type { EndedStatement } from "../operations/server-counters.ts";
import type { Span } from "../operations/tracing.ts";
import type { ServedConnection } from "../served-store.ts";
import { isMet, type StepOutcome } from "./batch-condition.ts";
import type { CountingSink } from "./counting-sink.ts";
import { encodeDescription, encodeResult, type StatementAnswer } from "./encode.ts";
import type { BatchStep, HranaStatement, HranaVersion, StreamRequest } from "./protocol.ts";
import { type ResponseBudget, ResultText } from "./result-text.ts";
import { type StoredLength, StoredSql } from "./stored-sql.ts";

/** Told of what a stream does, for whoever counts. */
export interface StreamObserver {
  /** The stream has its connection, until `disconnected`. */
  connected(): void;
  disconnected(): void;
  statementEnded(ended: EndedStatement, span: Span | null): void;
  /** An answer has waited until what it tells was durable. */
  waited(durationMs: number, span: Span | null): void;
}

export interface StreamOptions {
  readonly observer: StreamObserver;
  readonly connect: () => Promise<ServedConnection>;
  readonly transactionMs: number;
  /** Milliseconds; only differences count. */
  readonly now: () => number;
  /** What the client is told of an error. */
  readonly encodeFailure: (error: unknown) => string;
  /** Whether whoever has opened it may still use it. */
  readonly isAllowed: () => boolean;
  /** Over WebSocket those of the whole connection, which outlive the stream. */
  readonly stored?: StoredSql;
  readonly storedLength?: StoredLength;
}

/** A call that has ended. `result` null: with the error. */
interface EndedRun<T> {
  readonly durationMs: number;
  readonly result: T | null;
  readonly error: unknown;
}

const NO_LIMITS: CallLimits = {};

interface BatchSinks<Sink extends CountingSink> {
  readonly sinkFor: (step: number, statement: HranaStatement) => Sink;
  readonly ended: (step: number, sink: Sink, executed: Executed) => Promise<void> | void;
  /** `failure`: encoded. */
  readonly failed: (step: number, failure: string) => Promise<void> | void;
  readonly skipped: (step: number) => void;
}

export class HranaStream {
  readonly stored: StoredSql;
  /** What its statements are part of: the request that has the stream now (G1). Null: it has no span. */
  span: Span | null = null;
  readonly #options: StreamOptions;
  #connection: ServedConnection | null = null;
  /** When the transaction must have ended; Infinity: none is open. */
  #transactionUntil = Infinity;
  #failure: StoreError | null = null;
  #isClosed = false;
  /** The call that is running. */
  #running: Promise<unknown> | null = null;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.stored = options.stored ?? new StoredSql(options.storedLength);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get isAllowed(): boolean {
    return this.#options.isAllowed();
  }

  /** Nothing would be lost if a new stream went on in its place. */
  get isDisposable(): boolean {
    const isClean = this.#connection?.isClean ?? true;
    return isClean && this.#failure === null && this.stored.size === 0;
  }

  get isAutocommit(): boolean {
    return this.#connection?.isAutocommit ?? true;
  }

  /** When its transaction must have ended, as `now` says; Infinity: none is open. */
  get transactionUntil(): number {
    return this.#transactionUntil;
  }

  /** Finds the revision: what is wrong with it should be known before anything is answered. */
  async connect(): Promise<ServedConnection> {
    this.#requireUsable();
    if (this.#connection !== null) return this.#connection;
    const connection = await this.#options.connect();
    this.#connection = connection;
    if (this.#isClosed) await connection.close(); // Meanwhile.
    else this.#options.observer.connected();
    this.#requireUsable();
    return connection;
  }

  /** See ServedConnection. */
  settled(isLast = false): Promise<void> | null {
    const promise = this.#connection?.settled(isLast) ?? null;
    if (promise !== null) this.#noteWait(promise);
    return promise;
  }

  #noteWait(promise: Promise<void>): void {
    const { now, observer } = this.#options;
    const { span } = this;
    const startedAt = now();
    promise.then(
      () => observer.waited(now() - startedAt, span),
      () => {}, // Told to who waits for it.
    );
  }

  /** The response, as JSON, without what goes around it. Throws what the client is to be told as an error. */
  async answer(
    request: StreamRequest,
    version: HranaVersion,
    budget: ResponseBudget,
  ): Promise<string> {
    switch (request.type) {
      case "execute": {
        const answer = await this.execute(request.statement, budget);
        return `{"type":"execute","result":${encodeResult(answer, version)}}`;
      }
      case "batch":
        return `{"type":"batch","result":${await this.batch(request.steps, version, budget)}}`;
      case "sequence": {
        const sql = this.stored.resolve(request.sql);
        await this.#run(
          (connection, limits) => connection.script(sql, limits),
          ({ durationMs, error }) =>
            this.#ended({ sql, durationMs, rowCount: 0, changes: 0, error }),
        );
        return '{"type":"sequence"}';
      }
      case "describe": {
        budget.take(0);
        const sql = this.stored.resolve(request.sql);
        const description = await this.#run((connection, limits) =>
          connection.describe(sql, limits),
        );
        const text = encodeDescription(description);
        budget.note(text.length);
        return `{"type":"describe","result":${text}}`;
      }
      case "store_sql":
        this.#requireUsable(); // Nobody would take it from what all clients store together.
        this.stored.store(request.sqlId, request.sql);
        return '{"type":"store_sql"}';
      case "close_sql":
        this.stored.close(request.sqlId);
        return '{"type":"close_sql"}';
      case "get_autocommit":
        await this.connect();
        return `{"type":"get_autocommit","is_autocommit":${this.isAutocommit}}`;
      case "close":
        await this.close();
        return '{"type":"close"}';
    }
  }

  async execute(statement: HranaStatement, budget: ResponseBudget): Promise<StatementAnswer> {
    const sink = new ResultText(statement.wantsRows, budget);
    return sink.answer(await this.#execute(statement, sink));
  }

  /** A BatchResult, as JSON. */
  async batch(
    steps: readonly BatchStep[],
    version: HranaVersion,
    budget: ResponseBudget,
  ): Promise<string> {
    const results: string[] = [];
    const errors: string[] = [];
    const add = (result: string, error: string): void => {
      results.push(result);
      errors.push(error);
    };
    await this.runBatch<ResultText>(steps, {
      sinkFor: (_, { wantsRows }) => new ResultText(wantsRows, budget),
      ended: (_, sink, executed) => add(encodeResult(sink.answer(executed), version), "null"),
      failed: (_, failure) => {
        budget.note(failure.length);
        add("null", failure);
      },
      skipped: () => add("null", "null"),
    });
    return `{"step_results":[${results.join(",")}],"step_errors":[${errors.join(",")}]}`;
  }

  /** What a statement fails with goes to its sink; it rejects for what else goes wrong, the sinks included. */
  async runBatch<Sink extends CountingSink>(
    steps: readonly BatchStep[],
    sinks: BatchSinks<Sink>,
  ): Promise<void> {
    await this.connect();
    const { span } = this;
    const batch = steps.length > 1 ? (span?.batch(steps.length) ?? null) : null;
    if (batch === null) return await this.#runSteps(steps, sinks);
    this.span = batch;
    try {
      await this.#runSteps(steps, sinks);
    } finally {
      this.span = span;
      batch.end();
    }
  }

  async #runSteps<Sink extends CountingSink>(
    steps: readonly BatchStep[],
    sinks: BatchSinks<Sink>,
  ): Promise<void> {
    const outcomes: StepOutcome[] = [];
    const turns = new FairTurns();
    for (const [index, { condition, statement }] of steps.entries()) {
      await turns.next();
      if (this.#isClosed) this.#requireUsable(); // Its client has gone, and with it the rest.
      if (condition !== null && !isMet(condition, outcomes, () => this.isAutocommit)) {
        outcomes.push("skipped");
        sinks.skipped(index);
        continue;
      }
      let sink: Sink;
      let executed: Executed;
      try {
        sink = sinks.sinkFor(index, statement);
        executed = await this.#execute(statement, sink);
      } catch (error) {
        outcomes.push("error");
        await sinks.failed(index, this.encodeFailure(error));
        continue;
      }
      outcomes.push("ok");
      await sinks.ended(index, sink, executed);
    }
  }

  encodeFailure(error: unknown): string {
    return this.#options.encodeFailure(error);
  }

  /** Rolls its transaction back for good (G3); also while a statement runs. */
  async endTransaction(): Promise<void> {
    if (this.#failure !== null) return;
    this.#failure = new StoreError(
      "TRANSACTION_TIMEOUT",
      `Cannot go on with the transaction: it was open for more than ${this.#options.transactionMs} ms, and is rolled back`,
      { details: { transactionMs: this.#options.transactionMs } },
    );
    this.#transactionUntil = Infinity;
    this.#connection?.interrupt();
    await this.#connection?.rollBack();
  }

  /** Rolls back what is open, once the call that is running has ended (F1 in served-store.ts). Null: it is done. */
  close(): Promise<void> | null {
    if (this.#isClosed) return null;
    this.#isClosed = true;
    this.#transactionUntil = Infinity;
    if (this.#options.stored === undefined) this.stored.clear();
    return this.#running === null ? this.#giveBack() : this.#closeRunning(this.#running);
  }

  async #closeRunning(running: Promise<unknown>): Promise<void> {
    this.#connection?.interrupt();
    await Promise.allSettled([running]);
    await this.#giveBack();
  }

  #giveBack(): Promise<void> | null {
    const connection = this.#connection;
    if (connection === null) return null;
    this.#connection = null; // It is somebody else's from now on.
    this.#options.observer.disconnected();
    return connection.close();
  }

  #requireUsable(): void {
    if (this.#failure !== null) throw this.#failure;
    if (!this.#isClosed) return;
    throw new StoreError("STREAM_EXPIRED", "Cannot use the stream: it is closed");
  }

  #execute(
    { sql: text, values, namedValues }: HranaStatement,
    sink: CountingSink,
  ): Promise<Executed> {
    const sql = this.stored.resolve(text);
    const request = { sql, values, namedValues };
    return this.#run(
      (connection, limits) => connection.execute(request, sink, limits),
      ({ durationMs, result, error }) => {
        const { rowCount } = sink;
        this.#ended({ sql, durationMs, rowCount, changes: result?.changes ?? 0, error });
      },
    );
  }

  #ended(ended: EndedStatement): void {
    this.#options.observer.statementEnded(ended, this.span);
  }

  async #run<T>(
    call: (connection: ServedConnection, limits: CallLimits) => Promise<T>,
    ended: ((run: EndedRun<T>) => void) | null = null,
  ): Promise<T> {
    const { now, transactionMs } = this.#options;
    const startedAt = now();
    let until = Infinity;
    let result: T | null = null;
    let failure: unknown = null;
    try {
      const connection = this.#connection ?? (await this.connect());
      this.#requireUsable();
      until = this.#transactionUntil;
      // A statement that computes cannot be interrupted where calls are not suspended: it has its own limit.
      const limits = until === Infinity ? NO_LIMITS : { timeoutMs: Math.max(1, until - now()) };
      const running = call(connection, limits);
      this.#running = running;
      result = await running;
      return result;
    } catch (error) {
      if (until !== Infinity && now() >= until) await this.endTransaction();
      failure = this.#failure ?? error;
      throw failure;
    } finally {
      this.#running = null;
      if (this.isAutocommit) this.#transactionUntil = Infinity;
      else if (this.#transactionUntil === Infinity && this.#failure === null)
        this.#transactionUntil = now() + transactionMs;
      ended?.({ durationMs: now() - startedAt, result, error: failure });
    }
  }
}
