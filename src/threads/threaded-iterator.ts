/**
 * The rows of a query in another thread, awaited one by one: each call brings what has been read ahead there.
 *
 *   new --first next--> open --last row, error, return()--> ended
 */
import type { CallLimits } from "../sqlite/async-calls.ts";
import { CallQueue } from "../sqlite/call-queue.ts";
import {
  type CallTarget,
  callWithValues,
  nextNumber,
  type StatementHandle,
} from "./call-target.ts";
import { Operation } from "./message.ts";
import type { RowBatch } from "./served-statements.ts";

export class ThreadedIterator<Row = unknown> implements AsyncIterableIterator<Row> {
  readonly #target: CallTarget;
  readonly #limits: CallLimits;
  readonly #number: number = nextNumber();
  readonly #begin: readonly unknown[];
  readonly #values: readonly unknown[];
  /** Keeps the statement alive in the owner's thread. */
  readonly #handle: StatementHandle;
  readonly #queue: CallQueue = new CallQueue();
  #phase: "new" | "open" | "ended" = "new";
  #rows: unknown[] = [];
  #position = 0;

  /** @internal */
  constructor(
    target: CallTarget,
    limits: CallLimits,
    given: {
      readonly handle: StatementHandle;
      /** Statement and shape. */
      readonly begin: readonly unknown[];
      readonly values: readonly unknown[];
    },
  ) {
    this.#target = target;
    this.#limits = limits;
    this.#begin = given.begin;
    this.#values = given.values;
    this.#handle = given.handle;
  }

  /** Of the statement whose rows these are. */
  get statement(): number {
    return this.#handle.number;
  }

  async next(): Promise<IteratorResult<Row, undefined>> {
    if (this.#position < this.#rows.length) return this.#take();
    return await this.#queue.run(async () => {
      // Another call of `next` may have read on meanwhile.
      if (this.#position >= this.#rows.length && this.#phase !== "ended") await this.#readBatch();
      return this.#take();
    });
  }

  async return(): Promise<IteratorResult<Row, undefined>> {
    await this.#queue.run(async () => {
      const isOpen = this.#phase === "open";
      this.#phase = "ended";
      this.#rows = [];
      if (isOpen) await this.#target.call(Operation.leave, [this.#number], {}).catch(() => {});
    });
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
    const isFirst = this.#phase === "new";
    this.#phase = "open";
    try {
      const { rows, isLast } = (await (isFirst
        ? callWithValues(this.#target, Operation.next, [this.#number, ...this.#begin], {
            values: this.#values,
            limits: this.#limits,
          })
        : this.#target.call(Operation.next, [this.#number], this.#limits))) as RowBatch;
      this.#rows = rows;
      this.#position = 0;
      if (isLast) this.#phase = "ended";
    } catch (error) {
      this.#phase = "ended";
      throw error;
    }
  }
}
