/**
 * A store whose databases are spread over threads, as the admin API needs it: names of databases and what concerns the whole store are the
 * store's, the rest is asked of the admin store in the thread of the database.
 *
 * D2. An id of a database is of its partition, as in LocalAdminStore: one that several partitions have had says nothing.
 */
import type { RetentionOverrides } from "../../catalog/rows.ts";
import { parseRevision } from "../../branch/revision.ts";
import { StoreError } from "../../errors.ts";
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
import type { UploadStatus } from "../../store/upload-service.ts";
import type { ServiceClient } from "../../threads/service-client.ts";
import type { ThreadedStore } from "../../threads/threaded-store.ts";
import type {
  AdminStore,
  BranchFacts,
  CatalogSizes,
  DatabaseFacts,
  RevisionBytes,
} from "../admin/admin-store.ts";
import { noPartition } from "../admin/partition-number.ts";
import { UploadDirectory } from "../admin/upload-directory.ts";
import type { AdminMethod, IdUse, PartitionCall } from "./partition-service.ts";
import { ThreadedFile } from "./threaded-file.ts";

type Result<M extends AdminMethod> = Awaited<ReturnType<AdminStore[M]>>;

export class ThreadedAdminStore implements AdminStore {
  readonly uploads: UploadDirectory | null;
  readonly #store: ThreadedStore;
  readonly #client: ServiceClient;

  constructor(store: ThreadedStore, client: ServiceClient) {
    this.#store = store;
    this.#client = client;
    const { directory } = store;
    this.uploads = directory === null ? null : new UploadDirectory(directory);
  }

  async databaseNames(): Promise<string[]> {
    return (await this.#store.databases()).map(({ name }) => name);
  }

  async databaseOfId(id: string): Promise<string> {
    const number = /^[1-9][0-9]{0,14}$/.test(id) ? Number(id) : NaN;
    const call: PartitionCall = ["idUse", number];
    const uses: NonNullable<IdUse>[] = [];
    for (const answer of await this.#client.askAll(call)) {
      if (answer.status === "rejected") throw answer.reason;
      const use = answer.value as IdUse;
      if (use !== null) uses.push(use);
    }
    const use = uses.length === 1 ? uses[0] : undefined; // D2
    if (use !== undefined && !use.isDeleted) return use.name;
    throw new StoreError("DATABASE_NOT_FOUND", `Cannot find database "id:${id}": there is none`);
  }

  databaseFacts(database: string): Promise<DatabaseFacts> {
    return this.#of(database, "databaseFacts");
  }

  async createDatabase(database: string, options: CreateDatabaseOptions): Promise<DatabaseFacts> {
    if (options.partition !== undefined) await this.#requirePartition(options.partition);
    await this.#store.createDatabase(database, options);
    return await this.databaseFacts(database);
  }

  async renameDatabase(database: string, to: string): Promise<DatabaseFacts> {
    const found = await this.#store.database(database);
    await found.rename(to);
    return await this.databaseFacts(to);
  }

  async deleteDatabase(database: string): Promise<void> {
    const found = await this.#store.database(database);
    await found.delete();
  }

  async undeleteDatabase(database: string): Promise<DatabaseFacts> {
    await this.#store.undeleteDatabase(database);
    return await this.databaseFacts(database);
  }

  async handOver(database: string, partition: number): Promise<DatabaseFacts> {
    await this.#requirePartition(partition);
    await this.#store.handOver(database, { partition });
    return await this.databaseFacts(database);
  }

  databaseRetention(database: string): Promise<RetentionPolicy> {
    return this.#of(database, "databaseRetention");
  }

  setDatabaseRetention(
    database: string,
    changes: RetentionOverrides | null,
  ): Promise<RetentionPolicy> {
    return this.#of(database, "setDatabaseRetention", changes);
  }

  branchNames(database: string): Promise<string[]> {
    return this.#of(database, "branchNames");
  }

  branchOfId(database: string, id: string): Promise<string> {
    return this.#of(database, "branchOfId", id);
  }

  branchFacts(database: string, branch: string): Promise<BranchFacts> {
    return this.#of(database, "branchFacts", branch);
  }

  createBranch(
    database: string,
    branch: string,
    options: CreateBranchOptions,
  ): Promise<BranchFacts> {
    return this.#of(database, "createBranch", branch, options);
  }

  renameBranch(database: string, branch: string, to: string): Promise<BranchFacts> {
    return this.#of(database, "renameBranch", branch, to);
  }

  deleteBranch(database: string, branch: string): Promise<void> {
    return this.#of(database, "deleteBranch", branch);
  }

  undeleteBranch(database: string, branch: string): Promise<BranchFacts> {
    return this.#of(database, "undeleteBranch", branch);
  }

  resetBranch(
    database: string,
    branch: string,
    options: { readonly to?: string },
  ): Promise<BranchFacts> {
    return this.#of(database, "resetBranch", branch, options);
  }

  restoreBranch(
    database: string,
    branch: string,
    options: RestoreOptions,
  ): Promise<{ readonly branch: BranchFacts; readonly preserved: BranchFacts }> {
    return this.#of(database, "restoreBranch", branch, options);
  }

  setProtection(database: string, branch: string, isProtected: boolean): Promise<BranchFacts> {
    return this.#of(database, "setProtection", branch, isProtected);
  }

  setExpiration(database: string, branch: string, at: Date | null): Promise<BranchFacts> {
    return this.#of(database, "setExpiration", branch, at);
  }

  branchLog(database: string, branch: string, options: LogOptions): Promise<Commit[]> {
    return this.#of(database, "branchLog", branch, options);
  }

  branchRetention(database: string, branch: string): Promise<RetentionPolicy> {
    return this.#of(database, "branchRetention", branch);
  }

  setBranchRetention(
    database: string,
    branch: string,
    changes: RetentionOverrides | null,
  ): Promise<RetentionPolicy> {
    return this.#of(database, "setBranchRetention", branch, changes);
  }

  retentionStatus(database: string, branch: string): Promise<RetentionStatus> {
    return this.#of(database, "retentionStatus", branch);
  }

  tags(database: string): Promise<Tag[]> {
    return this.#of(database, "tags");
  }

  createTag(database: string, tag: string, options: { readonly at?: string }): Promise<Tag> {
    return this.#of(database, "createTag", tag, options);
  }

  deleteTag(database: string, tag: string): Promise<void> {
    return this.#of(database, "deleteTag", tag);
  }

  info(): Promise<StoreInfo> {
    return this.#store.info();
  }

  statistics(database?: string): Promise<StoreStatistics> {
    return this.#store.stat(database);
  }

  diskUse(): Promise<DiskStatistics> {
    return this.#store.diskUse();
  }

  heldSpace(): Promise<HeldSpace> {
    return this.#store.heldSpace();
  }

  setCompression(compression: Compression): Promise<void> {
    return this.#store.setCompression(compression);
  }

  rotateKey(key: string): Promise<void> {
    return this.#store.rotateKey(key);
  }

  compactCatalog(): Promise<CatalogSizes> {
    return this.#store.compactCatalog();
  }

  checkpoint(): Promise<void> {
    return this.#store.checkpoint();
  }

  async uploadStatus(): Promise<null> {
    return null;
  }

  async followerStatus(): Promise<null> {
    return null;
  }

  async remoteStatus(): Promise<RemoteStatus | null> {
    const { directory } = this.#store;
    if (directory === null) return null;
    const { remoteStatus } = await import("../../store/remote-status.ts");
    return await remoteStatus(directory);
  }

  async refresh(): Promise<void> {}

  outcome(id: string, request: OutcomeRequest): Promise<Outcome> {
    return this.#store.outcome(id, request);
  }

  gc(options: GarbageAsyncOptions): Promise<GarbageReport> {
    return this.#store.gc(options);
  }

  expire(options: ExpireOptions): Promise<ExpiryReport> {
    return this.#store.expire(options);
  }

  check(options: CheckOptions): Promise<CheckReport> {
    return this.#store.check(options);
  }

  scrub(options: ScrubOptions): Promise<ScrubReport> {
    return this.#store.scrub(options);
  }

  /** Throws REMOTE_NOT_FOUND, in the words of a partition: a store with threads has nothing in object storage. */
  upload(): Promise<UploadStatus | null> {
    return this.#ofFirst("upload");
  }

  collectRemote(): Promise<RemoteGarbageReport> {
    return this.#ofFirst("collectRemote");
  }

  importFile(path: string, revision: string, options: ImportOptions): Promise<ImportResult> {
    return this.#store.importFile(path, revision, options);
  }

  async exportRevision(revision: string): Promise<RevisionBytes> {
    await this.#store.database(parseRevision(revision).database);
    return await ThreadedFile.open(this.#client, revision);
  }

  /** M2. */
  async #requirePartition(partition: number): Promise<void> {
    const { partitions } = await this.#store.info();
    if (partition >= partitions) throw noPartition(partition, partitions);
  }

  /** Throws DATABASE_NOT_FOUND with the names of all. */
  async #of<M extends AdminMethod>(
    database: string,
    method: M,
    ...parameters: readonly unknown[]
  ): Promise<Result<M>> {
    const { name } = await this.#store.database(database);
    const call: PartitionCall = ["admin", method, name, ...parameters];
    return (await this.#client.ask(name, call)) as Result<M>;
  }

  async #ofFirst<M extends AdminMethod>(method: M): Promise<Result<M>> {
    const call: PartitionCall = ["admin", method];
    return (await this.#client.askPartition(0, call)) as Result<M>;
  }
}
