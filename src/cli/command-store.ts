/**
 * The store that a command works on, wherever it is: opened here, or held by a server (client/served-store.ts). Commands are written for this
 * alone, so that they do and print the same on both.
 */
import type { AdminStore, BranchFacts, DatabaseFacts } from "../server/admin/admin-store.ts";
import type { ExecuteRequest, RowSink } from "../sqlite/async-executor.ts";
import type { ExportOptions, ExportResult } from "../store/export-file.ts";

export interface CommandStore extends Omit<
  AdminStore,
  | "branchNames"
  | "branchOfId"
  | "branchRetention"
  | "checkpoint"
  | "databaseFacts"
  | "databaseNames"
  | "databaseOfId"
  | "databaseRetention"
  | "expire"
  | "exportRevision"
  | "outcome"
  | "refresh"
  | "uploads"
> {
  /** What people call it: its directory or its URL. */
  readonly path: string;
  /** By name. */
  databases(): Promise<DatabaseFacts[]>;
  /** Those that were made first are first. */
  branches(database: string): Promise<BranchFacts[]>;
  exportFile(revision: string, path: string, options: ExportOptions): Promise<ExportResult>;
  connect(revision: string): Promise<SqlConnection>;
}

export interface SqlConnection {
  /** One statement. Resolves when what it did is durable. What the sink throws ends the statement. */
  execute(request: ExecuteRequest, sink: RowSink): Promise<void>;
  isReadOnly(sql: string): Promise<boolean>;
  inTransaction(): Promise<boolean>;
  /** Rolls back what is open. */
  close(): Promise<void>;
}
