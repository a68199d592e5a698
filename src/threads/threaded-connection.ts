/**
 * A connection on a database that another thread owns: the methods and the order of calls are those of AsyncConnection.
 *
 *   open --close()--> closing --> closed          any --the thread ends--> lost: calls are rejected with OWNER_LOST
 *
 * A transaction(...) runs its function here; the calls made from within carry the number of its scope to the owner, where
 * the transaction waits (served-connection.ts).
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { TransactionOptions } from "../sqlite/async-connection.ts";
import type { CallLimits } from "../sqlite/async-calls.ts";
import { booleanOption } from "../sqlite/options.ts";
import { StoreError } from "../errors.ts";
import { type CallTarget, nextNumber } from "./call-target.ts";
import { Operation } from "./message.ts";
import type { OwnerThread } from "./owner-thread.ts";
import { prepareOn, type ThreadedStatement } from "./threaded-statement.ts";

const MODES: readonly unknown[] = ["deferred", "immediate", "exclusive", "concurrent"];

/** A transaction(...) that runs: calls from within its function find it. */
interface Scope {
  readonly connection: ThreadedConnection;
  readonly number: number;
  readonly outer: Scope | undefined;
  readonly signal: AbortSignal | undefined;
  /** Calls that come now are not part of it. */
  isOver: boolean;
}

const scopes = new AsyncLocalStorage<Scope>();

export class ThreadedConnection implements CallTarget {
  /** The revision it was opened on. */
  readonly name: string;
  readonly readonly: boolean;
  readonly #thread: OwnerThread;
  readonly #number: number;
  /** As of the last answer. */
  readonly #state: { inTransaction: boolean } = { inTransaction: false };
  #safeIntegers = false;
  #closing: Promise<void> | null = null;

  /** @internal */
  constructor(
    thread: OwnerThread,
    number: number,
    facts: { readonly name: string; readonly readonly: boolean },
  ) {
    this.#thread = thread;
    this.#number = number;
    this.name = facts.name;
    this.readonly = facts.readonly;
  }

  get open(): boolean {
    return this.#closing === null && !this.#thread.hasEnded;
  }

  /** As of the last call that was answered. */
  get inTransaction(): boolean {
    return this.#state.inTransaction && !this.#thread.hasEnded;
  }

  // As Connection.prepare.
  // oxlint-disable-next-line typescript/no-empty-object-type
  prepare<Parameters extends unknown[] | {} = unknown[], Row = unknown>(
    sql: string,
    limits?: CallLimits,
  ): Promise<
    Parameters extends unknown[]
      ? ThreadedStatement<Parameters, Row>
      : ThreadedStatement<[Parameters], Row>
  >;
  /** Rejects for what is no statement. `limits`: also of the statement's calls. */
  async prepare(sql: string, limits: CallLimits = {}): Promise<ThreadedStatement> {
    requireText(sql);
    return await prepareOn(this, sql, { limits, safeIntegers: this.#safeIntegers });
  }

  /** Runs any number of statements, without parameters. */
  async exec(sql: string, limits: CallLimits = {}): Promise<void> {
    requireText(sql);
    await this.call(Operation.exec, [sql], limits);
  }

  async pragma(source: string, options: { readonly simple?: boolean } = {}): Promise<unknown> {
    requireText(source);
    const simple = booleanOption(options, "simple");
    return await this.call(Operation.pragma, [source, { simple }, this.#safeIntegers], {});
  }

  /**
   * Runs `body` in a transaction, or in a savepoint when called within one: commits when its promise resolves, rolls back when
   * it rejects. Other calls on this connection wait until then. The limits are those of BEGIN and COMMIT and the waits of
   * calls within that set none.
   */
  async transaction<T>(
    body: () => Promise<T> | T,
    { mode = "deferred", ...limits }: TransactionOptions = {},
  ): Promise<T> {
    if (typeof body !== "function") throw new TypeError("Expected first argument to be a function");
    if (!MODES.includes(mode))
      throw new TypeError(`Option "mode": "${mode}" is not one of ${MODES.join(", ")}`);
    const number = nextNumber();
    const { signal, timeoutMs } = limits;
    let unlink: (() => void) | null = null;
    try {
      await new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        if (!this.#isUsable) throw notOpenError();
        const request = this.#request(Operation.begin, [number, mode]);
        const id = this.#thread.begin({ ...request, signal, timeoutMs }, resolve, reject);
        // The signal is that of all of it, not of BEGIN alone.
        if (signal !== undefined) unlink = this.#thread.cancelOn(signal, id);
      });
      return await this.#within(number, body, signal);
    } finally {
      (unlink as (() => void) | null)?.();
    }
  }

  async #within<T>(
    number: number,
    body: () => Promise<T> | T,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const outer = scopes.getStore();
    const scope: Scope = { connection: this, number, outer, signal, isOver: false };
    let result: T;
    try {
      result = await scopes.run(scope, async () => await body());
    } catch (error) {
      scope.isOver = true;
      await this.#end(scope, true);
      throw error;
    }
    scope.isOver = true;
    await this.#end(scope, false);
    return result;
  }

  async #end({ number, signal }: Scope, failed: boolean): Promise<void> {
    const request = this.#request(Operation.end, [number, failed]);
    await this.#thread.call({ ...request, outerSignal: signal ?? request.outerSignal });
  }

  /** Functions are called in the middle of a statement: they cannot be in another thread. */
  function(name: string): Promise<never> {
    return refuseFunction(`SQL function "${name}"`);
  }

  aggregate(name: string): Promise<never> {
    return refuseFunction(`aggregate function "${name}"`);
  }

  table(name: string): Promise<never> {
    return refuseFunction(`virtual table "${name}"`);
  }

  defaultSafeIntegers(enabled = true): this {
    this.#safeIntegers = enabled;
    return this;
  }

  /** Makes the call that is running when this arrives fail with SQLITE_INTERRUPT. */
  interrupt(): void {
    this.#thread.interrupt(this.#number);
  }

  /** Resolves when it is closed: after the calls that were made before. A transaction that is open is rolled back. */
  close(): Promise<void> {
    if (this.#scope() !== null)
      return Promise.reject(
        new TypeError("Cannot close the connection within its transaction: end that first"),
      );
    return (this.#closing ??= this.#close());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal */
  call(
    operation: Operation,
    parameters: readonly unknown[],
    { signal, timeoutMs }: CallLimits,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<unknown> {
    if (!this.#isUsable) return Promise.reject(notOpenError());
    const request = this.#request(operation, parameters);
    return this.#thread.call({ ...request, signal, timeoutMs, transfer });
  }

  async #close(): Promise<void> {
    const close = this.#request(Operation.close, []);
    try {
      await this.#thread.call(close);
    } catch (error) {
      // With its thread it is closed as well.
      if (!(error instanceof StoreError && error.code === "OWNER_LOST")) throw error;
    }
  }

  #request(
    operation: Operation,
    parameters: readonly unknown[],
  ): {
    readonly operation: Operation;
    readonly target: number;
    readonly scope: number;
    readonly parameters: readonly unknown[];
    readonly outerSignal: AbortSignal | undefined;
    readonly teller: { inTransaction: boolean };
  } {
    const scope = this.#scope();
    let within: Scope | null = scope;
    while (within !== null && (within.signal === undefined || within.connection !== this))
      within = within.outer ?? null;
    return {
      operation,
      target: this.#number,
      scope: scope?.number ?? 0,
      parameters,
      outerSignal: within?.signal,
      teller: this.#state,
    };
  }

  get #isUsable(): boolean {
    return this.#closing === null || this.#scope() !== null;
  }

  #scope(): Scope | null {
    for (let scope = scopes.getStore(); scope !== undefined; scope = scope.outer)
      if (scope.connection === this && !scope.isOver) return scope;
    return null;
  }
}

function notOpenError(): TypeError {
  return new TypeError("The database connection is not open");
}

function refuseFunction(what: string): Promise<never> {
  return Promise.reject(
    new TypeError(
      `Cannot define ${what}: SQLite calls it in the middle of a statement, in the thread that owns the database; open the store without "threads" for it`,
    ),
  );
}

function requireText(text: string): void {
  if (typeof text !== "string") throw new TypeError("Expected first argument to be a string");
}
