/**
 * The rows of a query, awaited one by one. Rows are read ahead in growing batches, so that most of them cost no call.
 *
 *   new --first next--> open --last row, error, return()--> ended
 *
 * While it is open its statement's handle is locked and its connection counts it (as StatementIterator). Calls made while
 * another is under way have their turns one after the other: `return` during a suspended `next` waits for it.
 */
import type { AsyncCalls, CallLimits } from "./async-calls.ts";
import { ConnectionStatus } from "./connection-status.ts";
import { SQLITE_DONE, SQLITE_ROW } from "./constants.ts";
import type { StatementState } from "./statement-state.ts";

const BATCH_ROWS_MAX = 64;

export class AsyncStatementIterator<Row = unknown> implements AsyncIterableIterator<Row> {
  readonly #calls: AsyncCalls;
  readonly #limits: CallLimits;
  readonly #begin: () => Promise<StatementState>;
  #state: StatementState | null = null;
  #isEnded = false;
  #rows: unknown[] = [];
  #position = 0;
  #batchRows = 1;
  /** Calls of `next` that wait: for their turn, or until what was read is durable (Y4 in async-calls.ts). */
  #asked = 0;
  #failure: { readonly error: unknown } | null = null;

  /** @internal `begin`: binds a statement of its own, in a turn. */
  constructor(calls: AsyncCalls, limits: CallLimits, begin: () => Promise<StatementState>) {
    this.#calls = calls;
    this.#limits = limits;
    this.#begin = begin;
  }

  async next(): Promise<IteratorResult<Row, undefined>> {
    if (this.#position >= this.#rows.length) this.#throwFailure();
    else if (this.#asked === 0) return this.#take();
    let isTaken = false;
    this.#asked++;
    try {
      return await this.#calls.turnDurably(this.#limits, async () => {
        // Another call of `next` may have read on meanwhile.
        if (this.#position >= this.#rows.length && !this.#isEnded) await this.#readBatch();
        if (this.#rows.length === 0) this.#throwFailure();
        isTaken = true;
        return this.#take();
      });
    } catch (error) {
      if (isTaken) {
        // What the rows tell of will never be durable.
        this.#rows = [];
        this.#failure ??= { error };
      }
      throw error;
    } finally {
      this.#asked--;
    }
  }

  async return(): Promise<IteratorResult<Row, undefined>> {
    const { status } = this.#calls.state;
    const isOpen = status !== ConnectionStatus.closed && status !== ConnectionStatus.failed;
    if (!this.#isEnded && isOpen)
      await this.#calls.turn({}, async () => {
        this.#rows = [];
        await Promise.resolve();
        if (this.#state === null) this.#isEnded = true;
        else if (!this.#isEnded) {
          this.#calls.enter();
          await this.#end(this.#state, SQLITE_DONE);
        }
      });
    this.#rows = [];
    this.#failure = null;
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #take(): IteratorResult<Row, undefined> {
    if (this.#position >= this.#rows.length) return { value: undefined, done: true };
    return { value: this.#rows[this.#position++] as Row, done: false };
  }

  async #readBatch(): Promise<void> {
    const calls = this.#calls;
    const isFirst = this.#state === null;
    const state = (this.#state ??= await this.#open());
    const rows: unknown[] = [];
    const count = this.#batchRows;
    this.#batchRows = Math.min(BATCH_ROWS_MAX, count * 2);
    try {
      calls.enter();
      if (isFirst && calls.state.verbose !== null) state.log();
      const code = await calls.steps(state.handle.pointer, () => {
        rows.push(state.readRow());
        return rows.length >= count;
      });
      if (code === SQLITE_ROW) calls.state.leave();
      else await this.#end(state, code);
    } catch (error) {
      if (!this.#isEnded) {
        this.#unlock(state);
        state.abandon();
        calls.release(state.handle);
      }
      this.#failure = { error }; // Thrown when the rows before it have been taken.
    } finally {
      // Not before: a call of `next` that comes meanwhile would take them before the one that reads.
      this.#rows = rows;
      this.#position = 0;
    }
  }

  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = null;
    if (failure !== null) throw failure.error;
  }

  async #open(): Promise<StatementState> {
    const state = await this.#begin();
    state.locked = true;
    state.handle.locked = true;
    state.connection.iterators++;
    return state;
  }

  /** Within `enter`, which the run's last step shares: its error is kept until here. */
  async #end(state: StatementState, code: number): Promise<void> {
    const calls = this.#calls;
    this.#unlock(state);
    try {
      await calls.finish(() => state.finish(code));
    } finally {
      calls.release(state.handle);
    }
  }

  #unlock(state: StatementState): void {
    this.#isEnded = true;
    state.locked = false;
    state.handle.locked = false;
    state.connection.iterators--;
  }
}
