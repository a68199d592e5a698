/** The options of the calls of a store: each call refuses those that are not here (option-names.ts). */
import type { OptionNames } from "../branch/option-names.ts";
import type { CheckOptions } from "../integrity/report.ts";
import type { ScrubOptions } from "../integrity/scrub.ts";
import type { CreateDatabaseOptions } from "./abstract-store.ts";
import type { CreateBranchOptions, RestoreOptions } from "./branch.ts";
import type { LogOptions } from "./commit-log.ts";
import type { ConvertOptions } from "./convert-store.ts";
import type { ExpireOptions } from "./expire.ts";
import type { ExportOptions } from "./export-file.ts";
import type { GarbageAsyncOptions, GarbageOptions } from "./garbage.ts";
import type { ImportOptions } from "./import-file.ts";
import type { OutcomeRequest } from "./outcome.ts";
import type { RepairOptions } from "./repair-store.ts";
import type { RestoreStoreOptions } from "./restore-store.ts";
import type { ConnectOptions } from "./session.ts";
import { STORE_OPTIONS, type StoreOptions } from "./store-options.ts";
import type { TransactOptions } from "./transact.ts";
import type { UploadOptions } from "./upload-service.ts";

export const CREATE_DATABASE_OPTIONS: OptionNames<CreateDatabaseOptions> = {
  pageSize: true,
  partition: true,
};
export const CREATE_BRANCH_OPTIONS: OptionNames<CreateBranchOptions> = {
  from: true,
  expiresAt: true,
};
export const CREATE_TAG_OPTIONS: OptionNames<{ readonly at?: string }> = { at: true };
export const RESET_OPTIONS: OptionNames<{ readonly to?: string }> = { to: true };
export const RESTORE_OPTIONS: OptionNames<RestoreOptions> = { to: true, preserveAs: true };
export const LOG_OPTIONS: OptionNames<LogOptions> = { limit: true, before: true };
export const IMPORT_OPTIONS: OptionNames<ImportOptions> = { onProgress: true, signal: true };
export const EXPORT_OPTIONS: OptionNames<ExportOptions> = {
  onProgress: true,
  overwrite: true,
  signal: true,
};
export const OUTCOME_OPTIONS: OptionNames<OutcomeRequest> = { startedAt: true };
export const CHECK_OPTIONS: OptionNames<CheckOptions> = { deep: true, onProgress: true };
export const SCRUB_OPTIONS: OptionNames<ScrubOptions> = {
  bytesPerSecond: true,
  signal: true,
  onProgress: true,
  startAfter: true,
};
export const GARBAGE_OPTIONS: OptionNames<GarbageOptions> = { dryRun: true };
export const GARBAGE_ASYNC_OPTIONS: OptionNames<GarbageAsyncOptions> = {
  dryRun: true,
  onProgress: true,
  signal: true,
};
export const EXPIRE_OPTIONS: OptionNames<ExpireOptions> = { signal: true };
export const UPLOAD_OPTIONS: OptionNames<UploadOptions> = { signal: true };
export const TRANSACT_OPTIONS: OptionNames<TransactOptions> = {
  readonly: true,
  durability: true,
  mode: true,
  id: true,
  retries: true,
  signal: true,
  timeoutMs: true,
};
export const CHECK_STORE_OPTIONS: OptionNames<StoreOptions & CheckOptions> = {
  ...STORE_OPTIONS,
  ...CHECK_OPTIONS,
};
export const REPAIR_OPTIONS: OptionNames<RepairOptions> = {
  ...CHECK_STORE_OPTIONS,
  source: true,
  truncateLog: true,
};
export const CONVERT_OPTIONS: OptionNames<ConvertOptions> = {
  backend: true,
  compression: true,
  storage: true,
};
export const RESTORE_STORE_OPTIONS: OptionNames<RestoreStoreOptions> = {
  key: true,
  keyFile: true,
  environment: true,
  now: true,
  remote: true,
  to: true,
  verify: true,
  signal: true,
  onProgress: true,
  onCheckProgress: true,
};
export const CONNECT_OPTIONS: OptionNames<ConnectOptions> = {
  readonly: true,
  durability: true,
  fetchTimeoutMs: true,
  statementTimeoutMs: true,
  busyTimeoutMs: true,
  verbose: true,
  branchBytesMax: "internal",
  admit: "internal",
};
