/** bough: git-like branches for SQLite. */
export { openStore, openStoreAsync, Store } from "./store/store.ts";
export { checkStore } from "./store/check-store.ts";
export { Database } from "./store/database.ts";
export { Branch } from "./store/branch.ts";
export { StoreConnection } from "./store/store-connection.ts";
export { Connection } from "./sqlite/connection.ts";
export { Statement } from "./sqlite/statement.ts";
export { SqliteError } from "./sqlite/sqlite-error.ts";
export { InvariantError, StoreError } from "./errors.ts";
export { formatRevision, parseRevision } from "./branch/revision.ts";

export type { CreateDatabaseOptions } from "./store/store.ts";
export type { Tag } from "./store/database.ts";
export type { CreateBranchOptions, Head, RestoreOptions } from "./store/branch.ts";
export type { Commit, LogOptions } from "./store/commit-log.ts";
export type { ConnectOptions } from "./store/session.ts";
export type { ImportOptions, ImportResult } from "./store/import-file.ts";
export type { ExportOptions, ExportResult } from "./store/export-file.ts";
export type { StoreStatistics } from "./store/statistics.ts";
export type { CheckOptions, CheckReport } from "./integrity/report.ts";
export type { StoreOptions } from "./store/store-options.ts";
export type { ColumnDefinition, RunResult } from "./sqlite/statement.ts";
export type { Backend } from "./catalog/backends.ts";
export type { Compression } from "./store/compression-option.ts";
export type { Durability } from "./transaction/commit-pipeline.ts";
export type { Revision, RevisionPoint } from "./branch/revision.ts";
export type { StoreErrorCode } from "./errors.ts";
