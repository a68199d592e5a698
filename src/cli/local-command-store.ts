/** A store that this process has opened, for commands. */
import type { BranchFacts, DatabaseFacts } from "../server/admin/admin-store.ts";
import { LocalAdminStore } from "../server/admin/local-admin-store.ts";
import type { AsyncConnection } from "../sqlite/async-connection.ts";
import type { AsyncExecutor, ExecuteRequest, RowSink } from "../sqlite/async-executor.ts";
import type { ExportOptions, ExportResult } from "../store/export-file.ts";
import type { Store } from "../store/store.ts";
import type { CommandStore, SqlConnection } from "./command-store.ts";

export class LocalCommandStore extends LocalAdminStore implements CommandStore {
  readonly path: string;
  readonly #store: Store;

  constructor(store: Store) {
    super(store);
    this.#store = store;
    this.path = store.path;
  }

  async databases(): Promise<DatabaseFacts[]> {
    const names = await this.databaseNames();
    return await Promise.all(names.map((name) => this.databaseFacts(name)));
  }

  async branches(database: string): Promise<BranchFacts[]> {
    const names = this.#store.database(database).branches();
    return await Promise.all(names.map(({ name }) => this.branchFacts(database, name)));
  }

  async exportFile(revision: string, path: string, options: ExportOptions): Promise<ExportResult> {
    return await this.#store.exportFile(revision, path, options);
  }

  async connect(revision: string): Promise<SqlConnection> {
    return new LocalSqlConnection(await this.#store.open(revision));
  }
}

class LocalSqlConnection implements SqlConnection {
  readonly #connection: AsyncConnection;
  readonly #executor: AsyncExecutor;

  constructor(connection: AsyncConnection) {
    this.#connection = connection;
    this.#executor = connection.executor();
  }

  async execute(request: ExecuteRequest, sink: RowSink): Promise<void> {
    try {
      await this.#executor.execute(request, sink);
    } finally {
      await this.#executor.settled();
    }
  }

  async isReadOnly(sql: string): Promise<boolean> {
    return (await this.#executor.describe(sql)).isReadOnly;
  }

  async inTransaction(): Promise<boolean> {
    await Promise.resolve();
    return !this.#executor.isAutocommit;
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }
}
