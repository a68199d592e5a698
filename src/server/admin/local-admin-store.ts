/** A store of this thread, as the admin API needs it. */
import { requireBranch } from "../../branch/ref-operations.ts";
import type { DatabaseRefs } from "../../branch/refs.ts";
import type { RetentionOverrides } from "../../catalog/rows.ts";
import { parseRevision } from "../../branch/revision.ts";
import { invariant, StoreError } from "../../errors.ts";
import type { CheckOptions, CheckReport } from "../../integrity/report.ts";
import type { ScrubOptions, ScrubReport } from "../../integrity/scrub.ts";
import type { RemoteGarbageReport } from "../../remote/remote-garbage.ts";
import type { ExpiryReport } from "../../retention/expiry.ts";
import type { GarbageReport } from "../../retention/garbage-cycle.ts";
import type { RetentionPolicy } from "../../retention/policy.ts";
import type { Branch, CreateBranchOptions, RestoreOptions } from "../../store/branch.ts";
import type { Commit, LogOptions } from "../../store/commit-log.ts";
import type { Compression } from "../../store/compression-option.ts";
import type { Database, Tag } from "../../store/database.ts";
import type { FollowerStatus } from "../../store/follower.ts";
import type { ExpireOptions } from "../../store/expire.ts";
import type { GarbageAsyncOptions } from "../../store/garbage.ts";
import type { HeldSpace } from "../../store/garbage-holders.ts";
import type { ImportOptions, ImportResult } from "../../store/import-file.ts";
import type { Outcome, OutcomeRequest } from "../../store/outcome.ts";
import type { RemoteStatus } from "../../store/remote-status.ts";
import { openDatabaseNamed } from "../../store/resolve-revision.ts";
import type { RetentionStatus } from "../../store/retention-status.ts";
import { SnapshotBlocks } from "../../store/snapshot-blocks.ts";
import type { DiskStatistics, StoreStatistics } from "../../store/statistics.ts";
import type { CreateDatabaseOptions } from "../../store/abstract-store.ts";
import type { Engine } from "../../store/engine.ts";
import type { Store } from "../../store/store.ts";
import type { StoreInfo } from "../../store/store-info.ts";
import type { UploadOptions, UploadStatus } from "../../store/upload-service.ts";
import { toldDurably } from "../../store/told-durably.ts";
import type { AdminStore, BranchFacts, CatalogSizes, DatabaseFacts } from "./admin-store.ts";
import { noPartition } from "./partition-number.ts";
import { UploadDirectory } from "./upload-directory.ts";

export class LocalAdminStore implements AdminStore {
  readonly uploads: UploadDirectory | null;
  /** Of a store that writes to one. */
  readonly directory: string | null;
  readonly #store: Store;

  /** One of a partition takes no uploads: their directory is that of the whole store. */
  constructor(store: Store, { takesUploads = true }: { readonly takesUploads?: boolean } = {}) {
    this.#store = store;
    this.directory = directoryOf(store);
    this.uploads =
      takesUploads && this.directory !== null ? new UploadDirectory(this.directory) : null;
  }

  async databaseNames(): Promise<string[]> {
    return this.#store.databases().map(({ name }) => name);
  }

  async databaseOfId(id: string): Promise<string> {
    const rows = this.#store.engines.flatMap(
      ({ state }) => state.databases.get(numberOf(id))?.refs.row ?? [],
    );
    // Ids are of one partition: one that several have says nothing.
    const row = rows.length === 1 ? rows[0] : undefined;
    if (row !== undefined && row.deletedAtMs === null) return this.#store.database(row.name).name;
    throw new StoreError("DATABASE_NOT_FOUND", `Cannot find database "id:${id}": there is none`);
  }

  async databaseFacts(database: string): Promise<DatabaseFacts> {
    return await this.#told(database, this.#databaseFacts(this.#store.database(database)));
  }

  async createDatabase(database: string, options: CreateDatabaseOptions): Promise<DatabaseFacts> {
    if (options.partition !== undefined) this.#requirePartition(options.partition);
    return this.#databaseFacts(this.#store.createDatabase(database, options));
  }

  async renameDatabase(database: string, to: string): Promise<DatabaseFacts> {
    const found = this.#store.database(database);
    found.rename(to);
    return this.#databaseFacts(found);
  }

  async deleteDatabase(database: string): Promise<void> {
    this.#store.database(database).delete();
  }

  async undeleteDatabase(database: string): Promise<DatabaseFacts> {
    return this.#databaseFacts(this.#store.undeleteDatabase(database));
  }

  async handOver(database: string, partition: number): Promise<DatabaseFacts> {
    this.#requirePartition(partition);
    await this.#store.handOver(database, { partition });
    return this.#databaseFacts(this.#store.database(database));
  }

  async databaseRetention(database: string): Promise<RetentionPolicy> {
    return this.#store.database(database).retention;
  }

  async setDatabaseRetention(
    database: string,
    changes: RetentionOverrides | null,
  ): Promise<RetentionPolicy> {
    const found = this.#store.database(database);
    found.setRetention(changes);
    return found.retention;
  }

  async branchNames(database: string): Promise<string[]> {
    const names = this.#store.database(database).branches();
    return names.map(({ name }) => name).sort();
  }

  async branchOfId(database: string, id: string): Promise<string> {
    const row = this.#refs(database).branches.get(numberOf(id));
    const found = this.#store.database(database);
    if (row !== undefined && row.deletedAtMs === null) return found.branch(row.name).name;
    throw new StoreError(
      "BRANCH_NOT_FOUND",
      `Cannot find branch "${database}/id:${id}": there is none`,
    );
  }

  async branchFacts(database: string, branch: string): Promise<BranchFacts> {
    return await this.#told(database, this.#branchFacts(this.#branch(database, branch)));
  }

  async createBranch(
    database: string,
    branch: string,
    options: CreateBranchOptions,
  ): Promise<BranchFacts> {
    const found = this.#store.database(database);
    return this.#branchFacts(asked(() => found.createBranch(branch, options)));
  }

  async renameBranch(database: string, branch: string, to: string): Promise<BranchFacts> {
    return this.#changed(database, branch, (found) => found.rename(to));
  }

  async deleteBranch(database: string, branch: string): Promise<void> {
    this.#branch(database, branch).delete();
  }

  async undeleteBranch(database: string, branch: string): Promise<BranchFacts> {
    return this.#branchFacts(this.#store.database(database).undeleteBranch(branch));
  }

  async resetBranch(
    database: string,
    branch: string,
    options: { readonly to?: string },
  ): Promise<BranchFacts> {
    return this.#changed(database, branch, (found) => found.reset(options));
  }

  async restoreBranch(
    database: string,
    branch: string,
    options: RestoreOptions,
  ): Promise<{ readonly branch: BranchFacts; readonly preserved: BranchFacts }> {
    const found = this.#branch(database, branch);
    const preserved = found.restore(options);
    return { branch: this.#branchFacts(found), preserved: this.#branchFacts(preserved) };
  }

  async setProtection(
    database: string,
    branch: string,
    isProtected: boolean,
  ): Promise<BranchFacts> {
    return this.#changed(database, branch, (found) =>
      isProtected ? found.protect() : found.unprotect(),
    );
  }

  async setExpiration(database: string, branch: string, at: Date | null): Promise<BranchFacts> {
    return this.#changed(database, branch, (found) => asked(() => found.setExpiration(at)));
  }

  async branchLog(database: string, branch: string, options: LogOptions): Promise<Commit[]> {
    return await this.#told(database, this.#branch(database, branch).log(options));
  }

  async branchRetention(database: string, branch: string): Promise<RetentionPolicy> {
    return this.#branch(database, branch).retention;
  }

  async setBranchRetention(
    database: string,
    branch: string,
    changes: RetentionOverrides | null,
  ): Promise<RetentionPolicy> {
    const found = this.#branch(database, branch);
    found.setRetention(changes);
    return found.retention;
  }

  async retentionStatus(database: string, branch: string): Promise<RetentionStatus> {
    return await this.#told(database, this.#branch(database, branch).retentionStatus());
  }

  async tags(database: string): Promise<Tag[]> {
    return this.#store.database(database).tags();
  }

  async createTag(database: string, tag: string, options: { readonly at?: string }): Promise<Tag> {
    return this.#store.database(database).createTag(tag, options);
  }

  async deleteTag(database: string, tag: string): Promise<void> {
    this.#store.database(database).deleteTag(tag);
  }

  async info(): Promise<StoreInfo> {
    return this.#store.info();
  }

  async statistics(database?: string): Promise<StoreStatistics> {
    const statistics = this.#store.stat(database);
    for (const engine of this.#store.engines) await toldDurably(engine, null);
    return statistics;
  }

  async diskUse(): Promise<DiskStatistics> {
    return this.#store.diskUse();
  }

  async heldSpace(): Promise<HeldSpace> {
    return this.#store.heldSpace();
  }

  async setCompression(compression: Compression): Promise<void> {
    this.#store.setCompression(compression);
  }

  async rotateKey(key: string): Promise<void> {
    this.#store.rotateKey(key);
  }

  async compactCatalog(): Promise<CatalogSizes> {
    return this.#store.compactCatalog();
  }

  async checkpoint(): Promise<void> {
    await this.#store.checkpointAsync();
  }

  async uploadStatus(): Promise<UploadStatus | null> {
    return this.#store.uploadStatus;
  }

  async followerStatus(): Promise<FollowerStatus | null> {
    return this.#store.followerStatus;
  }

  async remoteStatus(): Promise<RemoteStatus | null> {
    const { directory } = this;
    if (directory === null) return null;
    const { remoteStatus } = await import("../../store/remote-status.ts");
    return await remoteStatus(directory);
  }

  async refresh(): Promise<void> {
    await this.#store.refresh();
  }

  async outcome(id: string, request: OutcomeRequest): Promise<Outcome> {
    return this.#store.outcome(id, request);
  }

  async gc(options: GarbageAsyncOptions): Promise<GarbageReport> {
    return await this.#store.gcAsync(options);
  }

  async expire(options: ExpireOptions): Promise<ExpiryReport> {
    return await this.#store.expireAsync(options);
  }

  async check(options: CheckOptions): Promise<CheckReport> {
    return await this.#store.check(options);
  }

  async scrub(options: ScrubOptions): Promise<ScrubReport> {
    return await this.#store.scrub(options);
  }

  async upload(options: UploadOptions = {}): Promise<UploadStatus | null> {
    await this.#store.checkpointAsync();
    await this.#store.upload(options);
    return this.#store.uploadStatus;
  }

  async collectRemote(options: UploadOptions = {}): Promise<RemoteGarbageReport> {
    return await this.#store.collectRemote(options);
  }

  async importFile(path: string, revision: string, options: ImportOptions): Promise<ImportResult> {
    return await this.#store.importFile(path, revision, options);
  }

  async exportRevision(revision: string): Promise<SnapshotBlocks> {
    const engine = engineOf(this.#store, parseRevision(revision).database);
    const file = await SnapshotBlocks.open(engine, revision);
    try {
      return await toldDurably(engine, file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** What tells of commits that others have made. */
  #told<T>(database: string, value: T): Promise<T> {
    return toldDurably(engineOf(this.#store, database), value);
  }

  /** M2. */
  #requirePartition(partition: number): void {
    const { partitions } = this.#store.info();
    if (partition >= partitions) throw noPartition(partition, partitions);
  }

  #branch(database: string, branch: string): Branch {
    return this.#store.database(database).branch(branch);
  }

  /** It follows the branch when it gets another name. */
  #changed(database: string, branch: string, change: (found: Branch) => void): BranchFacts {
    const found = this.#branch(database, branch);
    change(found);
    return this.#branchFacts(found);
  }

  #databaseFacts({ name, pageSize, createdAt, version, partition }: Database): DatabaseFacts {
    return { id: String(this.#refs(name).row.id), name, pageSize, createdAt, version, partition };
  }

  #branchFacts(branch: Branch): BranchFacts {
    const { name, revision, createdAt, isProtected, expiresAt, forkVersion, parent } = branch;
    const { version, timestamp, pageCount } = branch.head;
    const [database = ""] = revision.split("/", 1);
    return {
      id: String(requireBranch(this.#refs(database), name).id),
      name,
      revision,
      head: { version, timestamp: version === 0 ? null : timestamp, pageCount },
      parent: parent?.name ?? null,
      forkVersion,
      createdAt,
      isProtected,
      expiresAt,
    };
  }

  #refs(database: string): DatabaseRefs {
    return openDatabaseNamed(engineOf(this.#store, database), database).refs;
  }
}

function directoryOf({ engines: [engine] }: Store): string | null {
  invariant(engine !== undefined, "A store has an engine");
  return engine.follower === null ? engine.state.storage.directory : null;
}

/** NaN is no id. */
function numberOf(id: string): number {
  return /^[1-9][0-9]{0,14}$/.test(id) ? Number(id) : NaN;
}

/** M2. The store refuses times and numbers that are out of range with RangeError. */
function asked<T>(body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof RangeError)
      throw new StoreError("REQUEST_INVALID", error.message, { cause: error });
    throw error;
  }
}

/** That of the database's partition; any, when there is no such database. */
function engineOf({ engines }: Store, database: string): Engine {
  const engine = engines.find(({ state }) => state.refs.databaseIds.has(database)) ?? engines[0];
  invariant(engine !== undefined, "A store has an engine");
  return engine;
}
