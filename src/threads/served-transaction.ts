/**
 * A `store.transact` in the thread that owns the database: the function here announces each attempt to the caller, who runs
 * the function of the user, and waits until that has ended.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { SqliteError } from "../sqlite/sqlite-error.ts";
import type { Store } from "../store/store.ts";
import type { TransactOptions } from "../store/transact.ts";
import type { Transaction } from "../store/transaction.ts";
import { type CarriedError, reviveError } from "./carried-error.ts";
import { packRows } from "./carried-values.ts";
import { type Call, Operation } from "./message.ts";
import type { CallContext, Served } from "./served.ts";
import { ServedStatements } from "./served-statements.ts";

interface Attempt {
  readonly number: number;
  readonly transaction: Transaction;
  readonly statements: ServedStatements;
  readonly inside: <T>(call: () => T) => T;
  readonly commit: () => void;
  readonly fail: (error: unknown) => void;
}

export class ServedTransaction implements Served {
  readonly group: string;
  /** The caller does not ask: it sees no connection. */
  readonly inTransaction = false;
  readonly #store: Store;
  readonly #onEnded: () => void;
  #attempt: Attempt | null = null;

  constructor(store: Store, group: string, onEnded: () => void) {
    this.#store = store;
    this.group = group;
    this.#onEnded = onEnded;
  }

  async answer(call: Call, context: CallContext): Promise<unknown> {
    const [, operation, , number, , parameters] = call;
    if (operation === Operation.transact) return await this.#transact(parameters, context);
    const attempt = this.#attempt;
    if (attempt === null || attempt.number !== number) throw overError();
    if (operation === Operation.endAttempt) return end(attempt, parameters);
    return await attempt.inside(() => answerIn(attempt, operation, parameters, context));
  }

  async #transact(parameters: Call[5], { limits, event }: CallContext): Promise<void> {
    const [, revision, options] = parameters as [number, string, TransactOptions];
    try {
      await this.#store.transact(
        revision,
        async (transaction) => {
          const inside = AsyncLocalStorage.snapshot();
          await new Promise<void>((commit, fail) => {
            const { attempt: number } = transaction;
            const statements = new ServedStatements();
            this.#attempt = { number, transaction, statements, inside, commit, fail };
            event(number);
          });
        },
        { ...options, ...limits },
      );
    } finally {
      this.#attempt = null;
      this.#onEnded();
    }
  }
}

/** With null when the function resolved, else with its error if that means to run it again, or "failed". */
function end({ commit, fail }: Attempt, [ended]: Call[5]): void {
  if (ended === null) commit();
  else if (ended === "failed") fail(new FailedBody());
  else {
    const error = reviveError(ended as CarriedError);
    fail(error instanceof SqliteError ? Object.assign(error, { [FROM_BODY]: true }) : error);
  }
}

const FROM_BODY: unique symbol = Symbol("from the caller's function");

/** The function of the caller failed, with what the caller knows. */
class FailedBody extends Error {}

/** Whether an error of `transact` is what the caller's function threw. */
export function isFromBody(error: unknown): boolean {
  return error instanceof FailedBody || (error instanceof SqliteError && FROM_BODY in error);
}

async function answerIn(
  { transaction, statements }: Attempt,
  operation: number,
  parameters: Call[5],
  context: CallContext,
): Promise<unknown> {
  switch (operation) {
    case Operation.exec:
      return await transaction.exec(parameters[0] as string);
    case Operation.prepare: {
      const [number, sql] = parameters as [number, string];
      return statements.add(number, await transaction.prepare(sql));
    }
    case Operation.release:
      return statements.release(parameters[0] as number);
    case Operation.next:
      return await statements.next(parameters, context);
    case Operation.leave:
      return await statements.leave(parameters[0] as number);
  }
  if (typeof parameters[0] === "number")
    return await statements.answer(operation, parameters, context);
  const [sql, values] = parameters as [string, unknown[]];
  if (operation === Operation.run) return await transaction.run(sql, ...values);
  const isOne = operation === Operation.get;
  const rows = isOne
    ? [await transaction.get(sql, ...values)]
    : await transaction.all(sql, ...values);
  context.hasBlobs = packRows(rows, context.transfer);
  return isOne ? rows[0] : rows;
}

function overError(): TypeError {
  return new TypeError("Cannot use the transaction: it has ended; await all calls within it");
}
