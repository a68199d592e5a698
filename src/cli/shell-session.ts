/**
 * The shell behind its lines: SQL goes to the connection statement by statement, lines that begin with "." and stand
 * outside of a statement are commands (shell-commands.ts).
 */
import { StoreError } from "../errors.ts";
import type { CommandContext, OutputFormat } from "./command-context.ts";
import type { CommandStore, SqlConnection } from "./command-store.ts";
import { CommandError } from "./errors.ts";
import { queryRows } from "./query.ts";
import { runStatement, type SqlTarget } from "./run-sql.ts";
import { runShellCommand } from "./shell-commands.ts";
import { SqlSplitter } from "./sql-statements.ts";

/** `.read` within files that are read. */
const READ_DEPTH_MAX = 8;

interface Place {
  readonly database: string;
  readonly branch: string;
  /** 0: there are no commits. */
  readonly version: number;
}

export class ShellSession {
  readonly context: CommandContext;
  readonly store: CommandStore;
  connection: SqlConnection;
  format: OutputFormat;
  /** Set by `.quit`. */
  isDone = false;
  #splitter: SqlSplitter = new SqlSplitter();
  #readDepth = 0;

  private constructor(context: CommandContext, store: CommandStore, connection: SqlConnection) {
    this.context = context;
    this.store = store;
    this.format = context.format;
    this.connection = connection;
  }

  static async open(
    context: CommandContext,
    store: CommandStore,
    revision: string,
  ): Promise<ShellSession> {
    return new ShellSession(context, store, await store.connect(revision));
  }

  /** Inside a statement that goes on in the next line. */
  get isPending(): boolean {
    return this.#splitter.isPending;
  }

  /** "shop/dev@12> ", "shop/dev@12*> " inside a transaction, "   ...> " inside a statement, "not connected> " without the server. */
  async prompt(): Promise<string> {
    if (this.isPending) return "   ...> ";
    try {
      const { database, branch, version } = await this.place();
      const mark = (await this.connection.inTransaction()) ? "*" : "";
      return `${database}/${branch}@${version}${mark}> `;
    } catch (error) {
      // The server may be there again for the next statement.
      if (error instanceof StoreError && error.code === "SERVER_UNREACHABLE")
        return "not connected> ";
      throw error;
    }
  }

  /** Where the connection is now. */
  async place(): Promise<Place> {
    // Reading the schema makes the connection take the newest snapshot first.
    const [row = []] = await queryRows(
      this.connection,
      "SELECT bough_database(), bough_branch(), bough_version(), (SELECT count(*) FROM sqlite_schema)",
    );
    const [database, branch, version] = row;
    return { database: String(database), branch: String(branch), version: Number(version) };
  }

  /** Opens another revision; the old one stays when there is none. */
  async use(revision: string): Promise<void> {
    if (await this.connection.inTransaction())
      throw new CommandError(
        "TRANSACTION_OPEN",
        `Cannot use "${revision}": a transaction is open; COMMIT or ROLLBACK first`,
      );
    const connection = await this.store.connect(revision);
    await this.connection.close();
    this.connection = connection;
  }

  /** One line without its line end. Throws what went wrong; the lines after it can be fed all the same. */
  async feed(line: string): Promise<void> {
    if (!this.isPending && /^\s*\./.test(line)) {
      this.cancel();
      await runShellCommand(this, line.trim());
      return;
    }
    try {
      for (const statement of this.#splitter.push(`${line}\n`))
        await runStatement(this.#target(), statement);
    } catch (error) {
      this.cancel();
      throw error;
    }
  }

  /** Runs what is left without a semicolon at the end of the input. */
  async finish(): Promise<void> {
    const statement = this.#splitter.finish();
    if (statement !== null) await runStatement(this.#target(), statement);
  }

  /** Forgets the statement that was begun. */
  cancel(): void {
    this.#splitter = new SqlSplitter();
  }

  /** Feeds the lines of a text; stops at the first error. */
  async read(name: string, text: string): Promise<void> {
    if (this.#readDepth >= READ_DEPTH_MAX)
      throw new CommandError(
        "LIMIT",
        `Cannot read "${name}": files that read files are ${READ_DEPTH_MAX} deep`,
      );
    this.#readDepth++;
    try {
      for (const line of text.split("\n")) {
        if (this.isDone) return;
        await this.feed(line);
      }
      await this.finish();
    } finally {
      this.#readDepth--;
    }
  }

  #target(): SqlTarget {
    const { connection, format } = this;
    return { connection, format, output: this.context.output };
  }
}
