/**
 * Runs statements one by one, as `sqlite3 -bail` does: what came before a failing statement stays, what follows it is
 * not run. A statement that returns no rows prints nothing.
 */
import type { Connection } from "../sqlite/connection.ts";
import { StoreError } from "../errors.ts";
import type { OutputFormat } from "./command-context.ts";
import { CommandError } from "./errors.ts";
import { printResult } from "./result-printer.ts";
import type { SqlStatement } from "./sql-statements.ts";
import { type SqlValue, visibleText } from "./sql-value.ts";
import type { TextOutput } from "./terminal.ts";

const SHOWN_LENGTH_MAX = 60;

export interface SqlTarget {
  readonly connection: Connection;
  readonly output: TextOutput;
  readonly format: OutputFormat;
}

/** Throws CommandError with SQLite's (or the store's) code, naming the statement and its line. */
export async function runStatement(target: SqlTarget, statement: SqlStatement): Promise<void> {
  const { connection, output, format } = target;
  try {
    const prepared = connection.prepare(statement.sql);
    if (!prepared.reader) {
      prepared.run();
      return;
    }
    prepared.raw(true).safeIntegers(true);
    const printer = printResult(
      output,
      format,
      prepared.columns().map(({ name }) => name),
    );
    // A change that returns rows is complete before the first one is shown.
    for (const row of prepared.readonly ? prepared.iterate() : prepared.all()) {
      if (output.closed) break;
      await printer.row(row as SqlValue[]);
    }
    await printer.end();
  } catch (error) {
    throw withPlace(error, statement);
  }
}

/** Says so when a script left a transaction open: its changes are gone with the connection. */
export function requireNoTransaction(connection: Connection): void {
  if (!connection.inTransaction) return;
  throw new CommandError(
    "TRANSACTION_OPEN",
    "Cannot keep the changes of the last transaction: it was not committed and has been rolled back",
  );
}

function withPlace(error: unknown, { sql, line }: SqlStatement): unknown {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string")
    return error;
  const text = visibleText(sql.replaceAll(/\s+/g, " "));
  const shown = text.length > SHOWN_LENGTH_MAX ? `${text.slice(0, SHOWN_LENGTH_MAX)}...` : text;
  const place = `statement "${shown}" at line ${line}`;
  // The store's own messages begin with what was tried.
  const message =
    error instanceof StoreError
      ? `${error.message} (${place})`
      : `Cannot run ${place}: ${error.message}`;
  return new CommandError(error.code, message, { cause: error });
}
