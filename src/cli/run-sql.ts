/**
 * Runs statements one by one, as `sqlite3 -bail` does: what came before a failing statement stays, what follows it is
 * not run. A statement that returns no rows prints nothing.
 */
import { StoreError } from "../errors.ts";
import type { ResultColumn, RowSink } from "../sqlite/async-executor.ts";
import type { OutputFormat } from "./command-context.ts";
import type { SqlConnection } from "./command-store.ts";
import { CommandError } from "./errors.ts";
import { printResult, type ResultPrinter } from "./result-printer.ts";
import type { SqlStatement } from "./sql-statements.ts";
import { type SqlValue, visibleText } from "./sql-value.ts";
import type { TextOutput } from "./terminal.ts";

const SHOWN_LENGTH_MAX = 60;

export interface SqlTarget {
  readonly connection: SqlConnection;
  readonly output: TextOutput;
  readonly format: OutputFormat;
}

/** Throws CommandError with SQLite's (or the store's) code, naming the statement and its line. */
export async function runStatement(target: SqlTarget, statement: SqlStatement): Promise<void> {
  const { connection } = target;
  const { sql } = statement;
  try {
    // A change that returns rows is complete before the first one is shown. It cannot return any without this word.
    const isChange = /\breturning\b/i.test(sql) && !(await connection.isReadOnly(sql));
    const sink = new PrintingSink(target, isChange);
    await connection.execute({ sql, values: [], namedValues: [] }, sink);
    await sink.end();
  } catch (error) {
    if (!(error instanceof OutputClosed)) throw withPlace(error, statement);
  }
}

class PrintingSink implements RowSink {
  readonly wantsRows = true;
  readonly #target: SqlTarget;
  readonly #held: SqlValue[][] | null;
  #printer: ResultPrinter | null = null;

  constructor(target: SqlTarget, isHeld: boolean) {
    this.#target = target;
    this.#held = isHeld ? [] : null;
  }

  begin(columns: readonly ResultColumn[]): void {
    if (columns.length === 0) return;
    const { output, format } = this.#target;
    this.#printer = printResult(
      output,
      format,
      columns.map(({ name }) => name),
    );
  }

  row(values: readonly SqlValue[]): boolean {
    if (this.#held !== null) {
      this.#held.push([...values]);
      return false;
    }
    if (this.#target.output.closed) throw new OutputClosed();
    return this.#printer?.row(values) ?? false;
  }

  async drained(): Promise<void> {
    await this.#target.output.flush();
  }

  async end(): Promise<void> {
    for (const values of this.#held ?? []) if (this.#printer?.row(values)) await this.drained();
    this.#printer?.end();
  }
}

/** Nobody reads what is printed: a statement that only reads is ended (T1 in terminal.ts). */
export class OutputClosed extends Error {}

/** Says so when a script left a transaction open: its changes are gone with the connection. */
export async function requireNoTransaction(connection: SqlConnection): Promise<void> {
  if (!(await connection.inTransaction())) return;
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
