/** What the function of `ThreadedStore.transact` works with: one attempt of one transaction; the methods are those of Transaction. */
import type { CallLimits } from "../sqlite/async-calls.ts";
import type { RunResult } from "../sqlite/statement.ts";
import { type CallTarget, callWithValues } from "./call-target.ts";
import { Operation } from "./message.ts";
import type { OwnerThread } from "./owner-thread.ts";
import { prepareOn, type ThreadedStatement } from "./threaded-statement.ts";

export class ThreadedTransaction implements CallTarget {
  /** What `store.outcome` asks for: 32 hexadecimal digits. */
  readonly id: string;
  /** 1 for the first run of the function, 2 when it is run again, and so on. */
  readonly attempt: number;
  readonly #thread: OwnerThread;
  readonly #number: number;
  /** The number of the attempt in its thread: another one counts from 1 again. */
  readonly #scope: number;
  readonly #outerSignal: AbortSignal | undefined;
  #isOver = false;

  /** @internal */
  constructor(
    thread: OwnerThread,
    given: {
      readonly number: number;
      readonly scope: number;
      readonly id: string;
      readonly attempt: number;
      readonly signal: AbortSignal | undefined;
    },
  ) {
    this.#thread = thread;
    this.#number = given.number;
    this.#scope = given.scope;
    this.#outerSignal = given.signal;
    this.id = given.id;
    this.attempt = given.attempt;
  }

  /** A statement of this transaction: it cannot be used after it. */
  async prepare<Row = unknown>(sql: string): Promise<ThreadedStatement<unknown[], Row>> {
    const statement = await prepareOn(this, sql, { limits: {}, safeIntegers: false });
    return statement as ThreadedStatement<unknown[], Row>;
  }

  async run(sql: string, ...values: unknown[]): Promise<RunResult> {
    return (await this.#withValues(Operation.run, sql, values)) as RunResult;
  }

  /** The first row, or undefined. */
  async get<Row = unknown>(sql: string, ...values: unknown[]): Promise<Row | undefined> {
    return (await this.#withValues(Operation.get, sql, values)) as Row | undefined;
  }

  async all<Row = unknown>(sql: string, ...values: unknown[]): Promise<Row[]> {
    return (await this.#withValues(Operation.all, sql, values)) as Row[];
  }

  /** Any number of statements, without parameters. */
  async exec(sql: string): Promise<void> {
    await this.call(Operation.exec, [sql], {});
  }

  /** @internal */
  end(): void {
    this.#isOver = true;
  }

  /** @internal */
  call(
    operation: Operation,
    parameters: readonly unknown[],
    { signal, timeoutMs }: CallLimits,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<unknown> {
    if (this.#isOver)
      return Promise.reject(
        new TypeError("Cannot use the transaction: it has ended; await all calls within it"),
      );
    return this.#thread.call({
      operation,
      target: this.#number,
      scope: this.#scope,
      parameters,
      signal,
      outerSignal: this.#outerSignal,
      timeoutMs,
      transfer,
    });
  }

  #withValues(operation: Operation, sql: string, values: readonly unknown[]): Promise<unknown> {
    return callWithValues(this, operation, [sql], { values, limits: {} });
  }
}
