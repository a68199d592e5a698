/**
 * A partition in the thread that owns it: what ThreadedStore, ThreadedDatabase and ThreadedBranch ask of it, as plain data. The
 * first parameter of each method is the call's context, the others come from the caller.
 */
import type { RetentionOverrides } from "../catalog/rows.ts";
import type { CheckOptions, CheckReport } from "../integrity/report.ts";
import type { ScrubOptions, ScrubReport } from "../integrity/scrub.ts";
import type { ExpiryReport } from "../retention/expiry.ts";
import type { GarbageReport } from "../retention/garbage-cycle.ts";
import type { RetentionPolicy } from "../retention/policy.ts";
import { Branch, type CreateBranchOptions, type RestoreOptions } from "../store/branch.ts";
import type { Commit, LogOptions } from "../store/commit-log.ts";
import { Database, type Tag } from "../store/database.ts";
import type { ExportResult } from "../store/export-file.ts";
import type { HeldSpace } from "../store/garbage-holders.ts";
import type { ImportResult } from "../store/import-file.ts";
import { type Outcome, type OutcomeRequest, requireNewTransaction } from "../store/outcome.ts";
import { adoptHeader, type HeaderChange } from "../store/partitions.ts";
import { requireBranchId, requireDatabaseId } from "../store/resolve-revision.ts";
import type { RetentionStatus } from "../store/retention-status.ts";
import type { DiskStatistics, StoreStatistics } from "../store/statistics.ts";
import type { CreateDatabaseOptions } from "../store/abstract-store.ts";
import type { SingleStore } from "../store/single-store.ts";
import type { StoreCounters } from "../store/store-counters.ts";
import type { StoreInfo } from "../store/store-info.ts";
import { toldDurably } from "../store/told-durably.ts";
import type { CallContext } from "./served.ts";
import { ServedHandOver } from "./served-hand-over.ts";

/** What stays the same of a database, and its name. */
export interface DatabaseFacts {
  readonly id: number;
  readonly name: string;
  /** Bytes. */
  readonly pageSize: number;
  readonly createdAt: Date;
}

export interface DatabaseInfo extends Omit<DatabaseFacts, "id"> {
  /** The newest version over all branches; 0 before the first commit. */
  readonly version: number;
  readonly retention: RetentionPolicy;
}

export interface BranchFacts {
  readonly id: number;
  readonly name: string;
  readonly createdAt: Date;
}

export interface BranchInfo {
  readonly name: string;
  /** "database/branch". */
  readonly revision: string;
  readonly head: Branch["head"];
  /** The name of the branch that this one was created from; null for main. */
  readonly parent: string | null;
  readonly forkVersion: number | null;
  readonly createdAt: Date;
  readonly isProtected: boolean;
  readonly expiresAt: Date | null;
  readonly retention: RetentionPolicy;
}

/** A branch by the numbers of its database and its own. */
export type BranchPlace = readonly [databaseId: number, branchId: number];

export type StoreMethod = Exclude<keyof ServedStore, "store" | "answer">;

/** They tell of commits that others have made. */
const TELLING: ReadonlySet<unknown> = new Set<StoreMethod>([
  "databaseInfo",
  "branchInfo",
  "branchLog",
  "retentionStatus",
  "stat",
  "exportFile",
]);

export class ServedStore {
  readonly store: SingleStore;
  readonly #handOver: ServedHandOver;

  /** As in ServedHandOver. */
  constructor(store: SingleStore, onLeaving: (name: string, to: number) => void) {
    this.store = store;
    this.#handOver = new ServedHandOver(store.engine, onLeaving);
  }

  /** A call with the name of a method, and its parameters. */
  async answer([name, ...parameters]: readonly unknown[], context: CallContext): Promise<unknown> {
    const method = this[name as StoreMethod] as (...all: unknown[]) => unknown;
    const value = await method.call(this, context, ...parameters);
    return TELLING.has(name) ? await toldDurably(this.store.engine, value) : value;
  }

  databases(): DatabaseFacts[] {
    return this.store.databases().map((database) => this.#facts(database));
  }

  createDatabase(_: CallContext, name: string, options: CreateDatabaseOptions): DatabaseFacts {
    return this.#facts(this.store.createDatabase(name, options));
  }

  /** When the database of that name that was deleted last was; null: none was. */
  deletedAt(_: CallContext, name: string): number | null {
    let latest: number | null = null;
    for (const { refs } of this.store.engine.state.databases.values()) {
      const { deletedAtMs } = refs.row;
      if (refs.row.name === name && deletedAtMs !== null && deletedAtMs >= (latest ?? 0))
        latest = deletedAtMs;
    }
    return latest;
  }

  undeleteDatabase(_: CallContext, name: string): DatabaseFacts {
    return this.#facts(this.store.undeleteDatabase(name));
  }

  async importFile(
    context: CallContext,
    path: string,
    revision: string,
  ): Promise<{ readonly result: ImportResult; readonly database: DatabaseFacts }> {
    const result = await this.store.importFile(path, revision, progressOptions(context));
    return { result, database: this.#facts(this.store.database(result.database)) };
  }

  exportFile(
    context: CallContext,
    revision: string,
    path: string,
    overwrite: boolean | undefined,
  ): Promise<ExportResult> {
    return this.store.exportFile(revision, path, { overwrite, ...progressOptions(context) });
  }

  outcome(_: CallContext, id: string, request: OutcomeRequest): Outcome {
    return this.store.outcome(id, request);
  }

  requireNewTransaction(_: CallContext, id: string): Promise<void> {
    return requireNewTransaction(this.store.engine, id);
  }

  stat(_: CallContext, database: string | undefined): StoreStatistics {
    return this.store.stat(database);
  }

  counters(): StoreCounters {
    return this.store.counters();
  }

  diskUse(): DiskStatistics {
    return this.store.diskUse();
  }

  check(
    { event, limits: { signal } }: CallContext,
    deep: CheckOptions["deep"],
  ): Promise<CheckReport> {
    const onProgress = (progress: unknown): void => {
      signal?.throwIfAborted(); // A check has no signal; what is thrown here ends it.
      event(progress);
    };
    return this.store.check({ deep, onProgress });
  }

  scrub(
    context: CallContext,
    options: Omit<ScrubOptions, "signal" | "onProgress">,
  ): Promise<ScrubReport> {
    return this.store.scrub({ ...options, ...progressOptions(context) });
  }

  gc(context: CallContext, dryRun: boolean | undefined): Promise<GarbageReport> {
    return this.store.gcAsync({ dryRun, ...progressOptions(context) });
  }

  heldSpace(): HeldSpace {
    return this.store.heldSpace();
  }

  expire({ limits: { signal } }: CallContext): Promise<ExpiryReport> {
    return this.store.expireAsync({ signal });
  }

  checkpoint(): Promise<void> {
    return this.store.checkpointAsync();
  }

  info(): StoreInfo {
    return this.store.info();
  }

  compactCatalog(): { readonly bytesBefore: number; readonly bytesAfter: number } {
    return this.store.compactCatalog();
  }

  adoptHeader(_: CallContext, change: HeaderChange): void {
    adoptHeader(this.store, change);
  }

  /** A step of a hand-over. */
  async handOver(
    _: CallContext,
    step: keyof ServedHandOver,
    ...parameters: unknown[]
  ): Promise<unknown> {
    const method = this.#handOver[step] as (...all: unknown[]) => unknown;
    return await method.call(this.#handOver, ...parameters);
  }

  databaseInfo(_: CallContext, id: number): DatabaseInfo {
    const { name, pageSize, createdAt, version, retention } = this.#database(id);
    return { name, pageSize, createdAt, version, retention };
  }

  renameDatabase(_: CallContext, id: number, to: string): void {
    this.#database(id).rename(to);
  }

  deleteDatabase(_: CallContext, id: number): void {
    this.#database(id).delete();
  }

  setDatabaseRetention(_: CallContext, id: number, changes: RetentionOverrides | null): void {
    this.#database(id).setRetention(changes);
  }

  tags(_: CallContext, id: number): Tag[] {
    return this.#database(id).tags();
  }

  createTag(_: CallContext, id: number, name: string, options: { readonly at?: string }): Tag {
    return this.#database(id).createTag(name, options);
  }

  deleteTag(_: CallContext, id: number, name: string): void {
    this.#database(id).deleteTag(name);
  }

  branches(_: CallContext, id: number): BranchFacts[] {
    return this.#database(id)
      .branches()
      .map((branch) => branchFacts(branch));
  }

  branch(_: CallContext, id: number, name: string | undefined): BranchFacts {
    return branchFacts(this.#database(id).branch(name));
  }

  createBranch(
    _: CallContext,
    id: number,
    name: string,
    options: CreateBranchOptions,
  ): BranchFacts {
    return branchFacts(this.#database(id).createBranch(name, options));
  }

  undeleteBranch(_: CallContext, id: number, name: string): BranchFacts {
    return branchFacts(this.#database(id).undeleteBranch(name));
  }

  branchInfo(_: CallContext, place: BranchPlace): BranchInfo {
    const branch = this.#branch(place);
    const { name, revision, head, createdAt, isProtected, expiresAt, forkVersion } = branch;
    const { retention, parent } = branch;
    const plain = { name, revision, head, createdAt, isProtected, expiresAt, forkVersion };
    return { ...plain, parent: parent?.name ?? null, retention };
  }

  branchParent(_: CallContext, place: BranchPlace): BranchFacts | null {
    const { parent } = this.#branch(place);
    return parent === null ? null : branchFacts(parent);
  }

  branchLog(_: CallContext, place: BranchPlace, options: LogOptions): Commit[] {
    return this.#branch(place).log(options);
  }

  renameBranch(_: CallContext, place: BranchPlace, to: string): void {
    this.#branch(place).rename(to);
  }

  deleteBranch(_: CallContext, place: BranchPlace): void {
    this.#branch(place).delete();
  }

  resetBranch(_: CallContext, place: BranchPlace, options: { readonly to?: string }): void {
    this.#branch(place).reset(options);
  }

  restoreBranch(_: CallContext, place: BranchPlace, options: RestoreOptions): BranchFacts {
    return branchFacts(this.#branch(place).restore(options));
  }

  protectBranch(_: CallContext, place: BranchPlace, isProtected: boolean): void {
    const branch = this.#branch(place);
    if (isProtected) branch.protect();
    else branch.unprotect();
  }

  setExpiration(_: CallContext, place: BranchPlace, at: Date | number | null): void {
    this.#branch(place).setExpiration(at);
  }

  retentionStatus(_: CallContext, place: BranchPlace): RetentionStatus {
    return this.#branch(place).retentionStatus();
  }

  setBranchRetention(_: CallContext, place: BranchPlace, changes: RetentionOverrides | null): void {
    this.#branch(place).setRetention(changes);
  }

  #database(id: number): Database {
    const { engine } = this.store;
    return new Database(engine, requireDatabaseId(engine, id));
  }

  #branch([databaseId, branchId]: BranchPlace): Branch {
    const { engine } = this.store;
    const database = requireDatabaseId(engine, databaseId);
    return new Branch(engine, database, requireBranchId(database, branchId));
  }

  #facts(database: Database): DatabaseFacts {
    const { name, pageSize, createdAt, id } = database;
    return { id, name, pageSize, createdAt };
  }
}

function branchFacts({ id, name, createdAt }: Branch): BranchFacts {
  return { id, name, createdAt };
}

function progressOptions({ event, limits: { signal } }: CallContext): {
  readonly onProgress: (progress: unknown) => void;
  readonly signal?: AbortSignal;
} {
  return { onProgress: event, ...(signal === undefined ? {} : { signal }) };
}
