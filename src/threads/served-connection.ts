/**
 * A connection in the thread that owns its database: an AsyncConnection whose calls come as messages.
 *
 *   transaction(body) of the caller:  begin --> scope open, the caller runs body --end--> committed or rolled back
 *
 * The transaction's function here does nothing but wait for `end`; calls with the number of the scope are made from within it.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { AsyncConnection, TransactionOptions } from "../sqlite/async-connection.ts";
import type { ConnectOptions } from "../store/session.ts";
import type { Store } from "../store/store.ts";
import { type Call, Operation } from "./message.ts";
import type { CallContext, Served } from "./served.ts";
import { ServedStatements, type StatementFacts } from "./served-statements.ts";

/** A transaction(...) whose function the caller runs. */
interface Scope {
  readonly inside: <T>(call: () => T) => T;
  readonly end: (failed: boolean) => void;
  /** Of all of it. */
  readonly done: () => Promise<void>;
}

export class ServedConnection implements Served {
  readonly group: string;
  readonly #store: Store;
  readonly #onClosed: () => void;
  readonly #statements: ServedStatements = new ServedStatements();
  readonly #scopes: Map<number, Scope> = new Map();
  #connection: AsyncConnection | null = null;

  constructor(store: Store, group: string, onClosed: () => void) {
    this.#store = store;
    this.group = group;
    this.#onClosed = onClosed;
  }

  get inTransaction(): boolean {
    return this.#connection?.inTransaction ?? false;
  }

  interrupt(): void {
    this.#connection?.interrupt();
  }

  async answer(call: Call, context: CallContext): Promise<unknown> {
    const [, operation, , scope, , parameters] = call;
    if (operation === Operation.open) return await this.#open(parameters, context);
    if (this.#connection === null) throw new TypeError("The database connection is not open");
    const connection = this.#connection;
    const inside = this.#scopes.get(scope)?.inside;
    const answer = (): Promise<unknown> => this.#answer(connection, call, context);
    return await (inside === undefined ? answer() : inside(answer));
  }

  async #open(parameters: Call[5], { limits }: CallContext): Promise<void> {
    const [, revision, options] = parameters as [number, string, ConnectOptions];
    const { signal } = limits;
    try {
      this.#connection = await this.#store.open(revision, {
        ...options,
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      this.#onClosed();
      throw error;
    }
  }

  async #answer(
    connection: AsyncConnection,
    [, operation, , , , parameters]: Call,
    context: CallContext,
  ): Promise<unknown> {
    switch (operation as number) {
      case Operation.prepare:
        return await this.#prepare(connection, parameters, context);
      case Operation.release:
        return this.#statements.release(parameters[0] as number);
      case Operation.exec:
        return await connection.exec(parameters[0] as string, context.limits);
      case Operation.pragma: {
        const [source, options, safeIntegers] = parameters as [string, object, boolean];
        connection.defaultSafeIntegers(safeIntegers);
        return await connection.pragma(source, options);
      }
      case Operation.next:
        return await this.#statements.next(parameters, context);
      case Operation.leave:
        return await this.#statements.leave(parameters[0] as number);
      case Operation.begin:
        return await this.#begin(connection, parameters, context);
      case Operation.end:
        return await this.#end(parameters);
      case Operation.close:
        await connection.close();
        return this.#onClosed();
      default:
        return await this.#statements.answer(operation, parameters, context);
    }
  }

  async #prepare(
    connection: AsyncConnection,
    parameters: Call[5],
    { limits }: CallContext,
  ): Promise<StatementFacts> {
    const [number, sql] = parameters as [number, string];
    connection.defaultSafeIntegers(false); // Shapes say it.
    const prepared = await connection.prepare(sql, limits);
    const isLimited = limits.signal !== undefined || limits.timeoutMs !== undefined;
    // The limits of this call are not those of the statement's calls, which bring their own.
    return this.#statements.add(number, isLimited ? await connection.prepare(sql) : prepared);
  }

  /** Answers when the transaction has begun. */
  #begin(
    connection: AsyncConnection,
    parameters: Call[5],
    { limits, keepSignal }: CallContext,
  ): Promise<void> {
    const letGo = keepSignal();
    const [number, mode] = parameters as [number, TransactionOptions["mode"]];
    return new Promise((resolve, reject) => {
      const body = (): Promise<void> =>
        new Promise((commit, rollBack) => {
          const end = (failed: boolean): void =>
            failed ? rollBack(new EndedByCaller()) : commit();
          const inside = AsyncLocalStorage.snapshot();
          this.#scopes.set(number, { inside, end, done: () => done });
          resolve();
        });
      const options = mode === undefined ? limits : { mode, ...limits };
      const done = connection
        .transaction(body, options)
        .catch((error: unknown) => {
          if (!(error instanceof EndedByCaller)) throw error;
        })
        .finally(() => {
          this.#scopes.delete(number);
          letGo();
        });
      done.catch(reject); // For one that has begun `end` says it.
    });
  }

  async #end(parameters: Call[5]): Promise<void> {
    const [number, failed] = parameters as [number, boolean];
    const scope = this.#scopes.get(number);
    if (scope === undefined) throw new TypeError("The transaction has ended");
    scope.end(failed);
    await scope.done();
  }
}

/** The caller's function failed: with what, the caller knows. */
class EndedByCaller extends Error {}
