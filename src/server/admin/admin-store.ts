/**
 * What the admin API needs of a store, wherever it is: names go in, plain data comes out, and everything is a promise, so that the
 * store can be in other threads.
 *
 * M1. Names are those of now. An id stays with its database or branch through renames, and is never used again.
 * M2. What fails, fails with a StoreError; a time that is not in the future is REQUEST_INVALID.
 */
import type { RetentionOverrides } from "../../catalog/rows.ts";
import type { CheckOptions, CheckReport } from "../../integrity/report.ts";
import type { ScrubOptions, ScrubReport } from "../../integrity/scrub.ts";
import type { RemoteGarbageReport } from "../../remote/remote-garbage.ts";
import type { ExpiryReport } from "../../retention/expiry.ts";
import type { GarbageReport } from "../../retention/garbage-cycle.ts";
import type { RetentionPolicy } from "../../retention/policy.ts";
import type { CreateBranchOptions, RestoreOptions } from "../../store/branch.ts";
import type { Commit, LogOptions } from "../../store/commit-log.ts";
import type { Compression } from "../../store/compression-option.ts";
import type { Tag } from "../../store/database.ts";
import type { FollowerStatus } from "../../store/follower.ts";
import type { ExpireOptions } from "../../store/expire.ts";
import type { GarbageAsyncOptions } from "../../store/garbage.ts";
import type { HeldSpace } from "../../store/garbage-holders.ts";
import type { ImportOptions, ImportResult } from "../../store/import-file.ts";
import type { Outcome, OutcomeRequest } from "../../store/outcome.ts";
import type { RemoteStatus } from "../../store/remote-status.ts";
import type { RetentionStatus } from "../../store/retention-status.ts";
import type { DiskStatistics, StoreStatistics } from "../../store/statistics.ts";
import type { CreateDatabaseOptions } from "../../store/abstract-store.ts";
import type { StoreInfo } from "../../store/store-info.ts";
import type { UploadOptions, UploadStatus } from "../../store/upload-service.ts";
import type { UploadDirectory } from "./upload-directory.ts";

export interface DatabaseFacts {
  readonly id: string;
  readonly name: string;
  /** Bytes. */
  readonly pageSize: number;
  readonly createdAt: Date;
  /** The newest over all branches; 0 before the first commit. */
  readonly version: number;
  /** From 0. */
  readonly partition: number;
}

export interface BranchFacts {
  readonly id: string;
  readonly name: string;
  /** "database/branch". */
  readonly revision: string;
  readonly head: BranchHead;
  /** The name of the branch that this one was created from; null for main. */
  readonly parent: string | null;
  readonly forkVersion: number | null;
  readonly createdAt: Date;
  readonly isProtected: boolean;
  readonly expiresAt: Date | null;
}

export interface BranchHead {
  /** 0: there are no commits. */
  readonly version: number;
  readonly timestamp: Date | null;
  readonly pageCount: number;
}

export interface CatalogSizes {
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

/** A revision as the bytes of a plain SQLite file: the same to the end, until it is closed. */
export interface RevisionBytes {
  readonly version: number;
  /** Bytes. */
  readonly pageSize: number;
  readonly pageCount: number;
  /** Bytes of the whole. */
  readonly size: number;
  /** Fills `target`, of which it is a multiple of the page size, from that page on; returns how many bytes there were. */
  read(firstPage: number, target: Uint8Array, signal?: AbortSignal): Promise<number>;
  close(): void;
}

export interface AdminStore {
  /** Where files are kept while they arrive; null: nothing can be imported here. */
  readonly uploads: UploadDirectory | null;

  /** Sorted. */
  databaseNames(): Promise<string[]>;
  /** Throws DATABASE_NOT_FOUND. */
  databaseOfId(id: string): Promise<string>;
  databaseFacts(database: string): Promise<DatabaseFacts>;
  createDatabase(database: string, options: CreateDatabaseOptions): Promise<DatabaseFacts>;
  renameDatabase(database: string, to: string): Promise<DatabaseFacts>;
  deleteDatabase(database: string): Promise<void>;
  undeleteDatabase(database: string): Promise<DatabaseFacts>;
  handOver(database: string, partition: number): Promise<DatabaseFacts>;
  databaseRetention(database: string): Promise<RetentionPolicy>;
  setDatabaseRetention(
    database: string,
    changes: RetentionOverrides | null,
  ): Promise<RetentionPolicy>;

  /** Sorted. */
  branchNames(database: string): Promise<string[]>;
  /** Throws BRANCH_NOT_FOUND. */
  branchOfId(database: string, id: string): Promise<string>;
  branchFacts(database: string, branch: string): Promise<BranchFacts>;
  createBranch(
    database: string,
    branch: string,
    options: CreateBranchOptions,
  ): Promise<BranchFacts>;
  renameBranch(database: string, branch: string, to: string): Promise<BranchFacts>;
  deleteBranch(database: string, branch: string): Promise<void>;
  undeleteBranch(database: string, branch: string): Promise<BranchFacts>;
  resetBranch(
    database: string,
    branch: string,
    options: { readonly to?: string },
  ): Promise<BranchFacts>;
  /** `preserved` is the branch that keeps what it was. */
  restoreBranch(
    database: string,
    branch: string,
    options: RestoreOptions,
  ): Promise<{ readonly branch: BranchFacts; readonly preserved: BranchFacts }>;
  setProtection(database: string, branch: string, isProtected: boolean): Promise<BranchFacts>;
  setExpiration(database: string, branch: string, at: Date | null): Promise<BranchFacts>;
  branchLog(database: string, branch: string, options: LogOptions): Promise<Commit[]>;
  branchRetention(database: string, branch: string): Promise<RetentionPolicy>;
  setBranchRetention(
    database: string,
    branch: string,
    changes: RetentionOverrides | null,
  ): Promise<RetentionPolicy>;
  retentionStatus(database: string, branch: string): Promise<RetentionStatus>;

  /** By name. */
  tags(database: string): Promise<Tag[]>;
  createTag(database: string, tag: string, options: { readonly at?: string }): Promise<Tag>;
  deleteTag(database: string, tag: string): Promise<void>;

  info(): Promise<StoreInfo>;
  statistics(database?: string): Promise<StoreStatistics>;
  diskUse(): Promise<DiskStatistics>;
  heldSpace(): Promise<HeldSpace>;
  setCompression(compression: Compression): Promise<void>;
  rotateKey(key: string): Promise<void>;
  compactCatalog(): Promise<CatalogSizes>;
  checkpoint(): Promise<void>;
  uploadStatus(): Promise<UploadStatus | null>;
  followerStatus(): Promise<FollowerStatus | null>;
  /** Asks object storage too; null: the store has no directory, or follows another one. */
  remoteStatus(): Promise<RemoteStatus | null>;
  refresh(): Promise<void>;
  outcome(id: string, request: OutcomeRequest): Promise<Outcome>;

  gc(options: GarbageAsyncOptions): Promise<GarbageReport>;
  expire(options: ExpireOptions): Promise<ExpiryReport>;
  check(options: CheckOptions): Promise<CheckReport>;
  scrub(options: ScrubOptions): Promise<ScrubReport>;
  upload(options?: UploadOptions): Promise<UploadStatus | null>;
  collectRemote(options?: UploadOptions): Promise<RemoteGarbageReport>;

  importFile(path: string, revision: string, options: ImportOptions): Promise<ImportResult>;
  /** What a revision is now, as a SQLite file. To be closed. */
  exportRevision(revision: string): Promise<RevisionBytes>;
}
