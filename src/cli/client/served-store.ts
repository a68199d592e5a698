/**
 * The store of a server, for commands: the admin API and Hrana in the place of the library.
 *
 * V1. Whatever a command can do here it does as on a store that it has opened, and fails with the same codes. Names go into paths encoded.
 */
import { parseRevision } from "../../branch/revision.ts";
import type { RetentionOverrides } from "../../catalog/rows.ts";
import { StoreError } from "../../errors.ts";
import type { CheckOptions, CheckReport } from "../../integrity/report.ts";
import type { ScrubOptions, ScrubReport } from "../../integrity/scrub.ts";
import type { RemoteGarbageReport } from "../../remote/remote-garbage.ts";
import type { GarbagePhase, GarbageReport } from "../../retention/garbage-cycle.ts";
import type { RetentionPolicy } from "../../retention/policy.ts";
import type { BranchFacts, CatalogSizes, DatabaseFacts } from "../../server/admin/admin-store.ts";
import type { CreateDatabaseOptions } from "../../store/abstract-store.ts";
import type { CreateBranchOptions, RestoreOptions } from "../../store/branch.ts";
import type { Commit, LogOptions } from "../../store/commit-log.ts";
import type { Compression } from "../../store/compression-option.ts";
import type { Tag } from "../../store/database.ts";
import type { ExportOptions, ExportResult } from "../../store/export-file.ts";
import type { FollowerStatus } from "../../store/follower.ts";
import type { GarbageAsyncOptions } from "../../store/garbage.ts";
import type { HeldSpace } from "../../store/garbage-holders.ts";
import type { ImportOptions, ImportResult } from "../../store/import-file.ts";
import type { RemoteStatus } from "../../store/remote-status.ts";
import type { KeptVersion, RetentionStatus } from "../../store/retention-status.ts";
import type { DiskStatistics, StoreStatistics } from "../../store/statistics.ts";
import type { StoreInfo } from "../../store/store-info.ts";
import type { UploadStatus } from "../../store/upload-service.ts";
import type { CommandStore, SqlConnection } from "../command-store.ts";
import type { ClientRequest, HttpClient } from "./http-client.ts";
import { revive } from "./revive.ts";
import { downloadFile, uploadFile } from "./served-files.ts";
import { type JobOptions, runJob } from "./served-jobs.ts";
import { ServedSqlConnection } from "./served-sql.ts";

/** The most that a page has. */
const PAGE_LENGTH = 1000;

export class ServedCommandStore implements CommandStore {
  readonly path: string;
  readonly #client: HttpClient;

  constructor(client: HttpClient) {
    this.#client = client;
    this.path = client.name;
  }

  close(): void {
    this.#client.close();
  }

  databases(): Promise<DatabaseFacts[]> {
    return this.#list("/databases");
  }

  createDatabase(name: string, options: CreateDatabaseOptions): Promise<DatabaseFacts> {
    return this.#ask("POST", "/databases", { name, ...options });
  }

  renameDatabase(database: string, name: string): Promise<DatabaseFacts> {
    return this.#ask("PATCH", at`/databases/${database}`, { name });
  }

  deleteDatabase(database: string): Promise<void> {
    return this.#ask("DELETE", at`/databases/${database}`);
  }

  undeleteDatabase(database: string): Promise<DatabaseFacts> {
    return this.#ask("POST", at`/databases/${database}/undelete`);
  }

  handOver(database: string, partition: number): Promise<DatabaseFacts> {
    return this.#ask("POST", at`/databases/${database}/hand-over`, { partition });
  }

  setDatabaseRetention(
    database: string,
    changes: RetentionOverrides | null,
  ): Promise<RetentionPolicy> {
    return this.#setRetention(at`/databases/${database}/retention`, changes);
  }

  async branches(database: string): Promise<BranchFacts[]> {
    const found = await this.#list<BranchFacts>(at`/databases/${database}/branches`);
    return found.sort((a, b) => Number(a.id) - Number(b.id));
  }

  branchFacts(database: string, branch: string): Promise<BranchFacts> {
    return this.#ask("GET", at`/databases/${database}/branches/${branch}`);
  }

  createBranch(database: string, name: string, options: CreateBranchOptions): Promise<BranchFacts> {
    return this.#ask("POST", at`/databases/${database}/branches`, { name, ...options });
  }

  renameBranch(database: string, branch: string, name: string): Promise<BranchFacts> {
    return this.#changeBranch(database, branch, { name });
  }

  setProtection(database: string, branch: string, isProtected: boolean): Promise<BranchFacts> {
    return this.#changeBranch(database, branch, { isProtected });
  }

  setExpiration(database: string, branch: string, expiresAt: Date | null): Promise<BranchFacts> {
    return this.#changeBranch(database, branch, { expiresAt });
  }

  deleteBranch(database: string, branch: string): Promise<void> {
    return this.#ask("DELETE", at`/databases/${database}/branches/${branch}`);
  }

  undeleteBranch(database: string, branch: string): Promise<BranchFacts> {
    return this.#ask("POST", at`/databases/${database}/branches/${branch}/undelete`);
  }

  resetBranch(
    database: string,
    branch: string,
    options: { readonly to?: string },
  ): Promise<BranchFacts> {
    return this.#ask("POST", at`/databases/${database}/branches/${branch}/reset`, options);
  }

  restoreBranch(
    database: string,
    branch: string,
    options: RestoreOptions,
  ): Promise<{ readonly branch: BranchFacts; readonly preserved: BranchFacts }> {
    return this.#ask("POST", at`/databases/${database}/branches/${branch}/restore`, options);
  }

  async branchLog(
    database: string,
    branch: string,
    { limit = Infinity, before: newest = Infinity }: LogOptions,
  ): Promise<Commit[]> {
    const path = at`/databases/${database}/branches/${branch}/log`;
    const before = newest === Infinity ? {} : { before: newest + 1 };
    const found = await this.#list<Commit & { branch: string | null }>(path, { before, limit });
    return found.map((commit) => ({ ...commit, branch: commit.branch ?? "" }));
  }

  setBranchRetention(
    database: string,
    branch: string,
    changes: RetentionOverrides | null,
  ): Promise<RetentionPolicy> {
    return this.#setRetention(at`/databases/${database}/branches/${branch}/retention`, changes);
  }

  async retentionStatus(database: string, branch: string): Promise<RetentionStatus> {
    const path = at`/databases/${database}/branches/${branch}/retention/status`;
    const older: KeptVersion[] = [];
    for (let cursor = ""; ;) {
      const page = await this.#ask<RetentionStatus & { next: string | null }>(
        "GET",
        `${path}?limit=${PAGE_LENGTH}${cursor}`,
      );
      older.push(...page.older);
      const { next, ...status } = page;
      if (next === null) return { ...status, older };
      cursor = `&cursor=${encodeURIComponent(next)}`;
    }
  }

  tags(database: string): Promise<Tag[]> {
    return this.#list(at`/databases/${database}/tags`);
  }

  createTag(database: string, name: string, options: { readonly at?: string }): Promise<Tag> {
    return this.#ask("POST", at`/databases/${database}/tags`, { name, ...options });
  }

  deleteTag(database: string, tag: string): Promise<void> {
    return this.#ask("DELETE", at`/databases/${database}/tags/${tag}`);
  }

  async info(): Promise<StoreInfo> {
    const { upload: _, follower: __, ...info } = await this.#store();
    return info;
  }

  async uploadStatus(): Promise<UploadStatus | null> {
    return (await this.#store()).upload;
  }

  async followerStatus(): Promise<FollowerStatus | null> {
    return (await this.#store()).follower;
  }

  async remoteStatus(): Promise<RemoteStatus | null> {
    const { remote } = await this.#ask<{ remote: RemoteStatus | null }>("GET", "/store/remote");
    return remote;
  }

  statistics(database?: string): Promise<StoreStatistics> {
    return this.#ask(
      "GET",
      database === undefined ? "/store/statistics" : at`/databases/${database}/statistics`,
    );
  }

  diskUse(): Promise<DiskStatistics> {
    return this.#ask("GET", "/store/disk");
  }

  heldSpace(): Promise<HeldSpace> {
    return this.#ask("GET", "/store/held-space");
  }

  setCompression(compression: Compression): Promise<void> {
    return this.#ask("PATCH", "/store", { compression });
  }

  rotateKey(key: string): Promise<void> {
    return this.#ask("POST", "/store/key", { key });
  }

  compactCatalog(): Promise<CatalogSizes> {
    return this.#ask("POST", "/store/compact");
  }

  gc({ dryRun = false, onProgress, signal }: GarbageAsyncOptions): Promise<GarbageReport> {
    return this.#run(
      "gc",
      { dryRun },
      {
        signal,
        onProgress: ({ phase, done }) => onProgress?.({ phase: phase as GarbagePhase, done }),
      },
    );
  }

  check({ deep = false, onProgress }: CheckOptions): Promise<CheckReport> {
    return this.#run(
      "check",
      { deep },
      {
        onProgress: ({ phase, done, total }) =>
          onProgress?.({ phase: phase as "pages", done, total }),
      },
    );
  }

  scrub({ bytesPerSecond, startAfter, onProgress, signal }: ScrubOptions): Promise<ScrubReport> {
    // JSON has no infinity.
    const rate = bytesPerSecond === undefined || Number.isFinite(bytesPerSecond);
    return this.#run(
      "scrub",
      {
        bytesPerSecond: rate ? bytesPerSecond && Math.max(1, Math.round(bytesPerSecond)) : null,
        startAfter,
      },
      {
        signal,
        onProgress: ({ phase, done }) => onProgress?.({ bytes: done, position: phase ?? "" }),
      },
    );
  }

  upload(): Promise<UploadStatus | null> {
    return this.#run("upload", {});
  }

  collectRemote(): Promise<RemoteGarbageReport> {
    return this.#run("collect-remote", {});
  }

  importFile(path: string, revision: string, options: ImportOptions): Promise<ImportResult> {
    return uploadFile(this.#client, path, { ...options, revision });
  }

  async exportFile(revision: string, path: string, options: ExportOptions): Promise<ExportResult> {
    const { database } = parseRevision(revision);
    const { pageSize } = await this.#ask<DatabaseFacts>("GET", at`/databases/${database}`);
    return await downloadFile(this.#client, path, { ...options, revision, pageSize });
  }

  async connect(revision: string): Promise<SqlConnection> {
    return await ServedSqlConnection.open(this.#client, revision);
  }

  #store(): Promise<
    StoreInfo & { readonly upload: UploadStatus | null; readonly follower: FollowerStatus | null }
  > {
    return this.#ask("GET", "/store");
  }

  #changeBranch(database: string, branch: string, change: object): Promise<BranchFacts> {
    return this.#ask("PATCH", at`/databases/${database}/branches/${branch}`, change);
  }

  #setRetention(path: string, changes: RetentionOverrides | null): Promise<RetentionPolicy> {
    return changes === null ? this.#ask("DELETE", path) : this.#ask("PATCH", path, changes);
  }

  /** The answer as the document of the API says that it is: the server is of this version, or says no to what it does not know. */
  async #ask<T>(method: ClientRequest["method"], path: string, body?: object): Promise<T> {
    const request = { method, path: `/api/v1${path}` };
    const answer = await this.#client.json(body === undefined ? request : { ...request, body });
    return revive(answer) as T;
  }

  async #run<T>(work: string, body: object, options: JobOptions = {}): Promise<T> {
    const request = { method: "POST", path: `/api/v1/store/${work}` } as const;
    const hasBody = Object.values(body).some((value) => value !== undefined);
    return (await runJob(this.#client, hasBody ? { ...request, body } : request, options)) as T;
  }

  /** All of it, or the first `limit`. */
  async #list<T>(
    path: string,
    { before = {}, limit = Infinity }: { readonly before?: object; readonly limit?: number } = {},
  ): Promise<T[]> {
    const items: T[] = [];
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(before)) query.set(name, String(value));
    while (items.length < limit) {
      query.set("limit", String(Math.min(limit - items.length, PAGE_LENGTH)));
      const page = await this.#ask<{ items: T[]; next: string | null }>(
        "GET",
        `${path}?${query.toString()}`,
      );
      items.push(...page.items);
      if (page.next === null) break;
      query.set("cursor", page.next);
    }
    return items;
  }
}

/** A path with names in it. An empty one would make it another path. */
function at(parts: TemplateStringsArray, ...names: readonly string[]): string {
  const empty = names.indexOf("");
  if (empty === 0)
    throw new StoreError("DATABASE_NOT_FOUND", 'Cannot find database "": it is no name');
  if (empty > 0)
    throw new StoreError("TAG_NOT_FOUND", `Cannot find tag "${names[0]}@": it is no name`);
  return String.raw({ raw: parts }, ...names.map(encodeURIComponent));
}
