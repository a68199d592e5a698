/**
 * `connection.transaction(fn)`: a function that runs `fn` inside a transaction, or inside a savepoint when one is open.
 * It commits when `fn` returns and rolls back when `fn` throws.
 */
import type { Connection } from "./connection.ts";
import type { Statement } from "./statement.ts";

export type TransactionMode = "default" | "deferred" | "immediate" | "exclusive" | "concurrent";

// A function of any parameters: nothing less accepts what users pass.
// oxlint-disable-next-line typescript/no-explicit-any
export type AnyFunction = (this: any, ...parameters: any[]) => any;

export type TransactionFunction<F extends AnyFunction> = ((
  this: ThisParameterType<F>,
  ...parameters: Parameters<F>
) => ReturnType<F>) & {
  readonly [mode in TransactionMode]: TransactionFunction<F>;
} & { readonly database: Connection };

interface TransactionStatements {
  readonly begin: Readonly<Record<Exclude<TransactionMode, "concurrent">, Statement>>;
  /** Prepared when it is first used: databases that are not in a store have no such transactions. */
  readonly beginConcurrent: () => Statement;
  readonly commit: Statement;
  readonly rollback: Statement;
  readonly savepoint: Statement;
  readonly release: Statement;
  readonly rollbackTo: Statement;
}

const SAVEPOINT = "`\t_bough_savepoint.\t`";

const statementsOf = new WeakMap<Connection, TransactionStatements>();

function transactionStatements(connection: Connection): TransactionStatements {
  let statements = statementsOf.get(connection);
  if (statements === undefined) {
    statements = {
      begin: {
        default: connection.prepare("BEGIN"),
        deferred: connection.prepare("BEGIN DEFERRED"),
        immediate: connection.prepare("BEGIN IMMEDIATE"),
        exclusive: connection.prepare("BEGIN EXCLUSIVE"),
      },
      beginConcurrent: () => connection.prepare("BEGIN CONCURRENT"),
      commit: connection.prepare("COMMIT"),
      rollback: connection.prepare("ROLLBACK"),
      savepoint: connection.prepare(`SAVEPOINT ${SAVEPOINT}`),
      release: connection.prepare(`RELEASE ${SAVEPOINT}`),
      rollbackTo: connection.prepare(`ROLLBACK TO ${SAVEPOINT}`),
    };
    statementsOf.set(connection, statements);
  }
  return statements;
}

export function transactionFunction<F extends AnyFunction>(
  connection: Connection,
  body: F,
): TransactionFunction<F> {
  if (typeof body !== "function") throw new TypeError("Expected first argument to be a function");
  const statements = transactionStatements(connection);
  const wrap = (mode: TransactionMode): AnyFunction =>
    function transaction(this: unknown, ...parameters: unknown[]): unknown {
      return runTransaction(connection, statements, mode, () =>
        Reflect.apply(body, this, parameters),
      );
    };
  const variants = {
    default: wrap("default"),
    deferred: wrap("deferred"),
    immediate: wrap("immediate"),
    exclusive: wrap("exclusive"),
    concurrent: wrap("concurrent"),
  };
  for (const variant of Object.values(variants)) {
    for (const [name, value] of Object.entries(variants))
      Object.defineProperty(variant, name, { value });
    Object.defineProperty(variant, "database", { value: connection, enumerable: true });
  }
  // The properties were just defined.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return variants.default as TransactionFunction<F>;
}

function runTransaction(
  connection: Connection,
  statements: TransactionStatements,
  mode: TransactionMode,
  body: () => unknown,
): unknown {
  const nested = connection.inTransaction;
  if (nested) statements.savepoint.run();
  else if (mode === "concurrent") statements.beginConcurrent().run();
  else statements.begin[mode].run();
  try {
    const result = body();
    if (isThenable(result)) {
      throw new TypeError("Transaction function cannot return a promise");
    }
    (nested ? statements.release : statements.commit).run();
    return result;
  } catch (error) {
    // SQLite itself may have rolled back, after a full disk for example.
    if (connection.inTransaction) {
      (nested ? statements.rollbackTo : statements.rollback).run();
      if (nested) statements.release.run();
    }
    throw error;
  }
}

function isThenable(value: unknown): boolean {
  return Boolean(value) && typeof Object(value).then === "function";
}
