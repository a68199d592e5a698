/** What a transaction gets that cannot be put in an order with those that committed since it began. */
import { SqliteError } from "../sqlite/sqlite-error.ts";

const SQLITE_BUSY_SNAPSHOT = 517;

/** Thrown by COMMIT, which has rolled the transaction back. Run it again: `retryable`. */
export class ConflictError extends SqliteError {
  /** Makes SQLite roll back. */
  readonly sqliteCode: number = SQLITE_BUSY_SNAPSHOT;
  /** What both touched: a table or index by name, or null when only the page is known. */
  readonly object: string | null;

  constructor(message: string, object: string | null) {
    super(message, "SQLITE_BUSY_SNAPSHOT");
    this.object = object;
  }
}
