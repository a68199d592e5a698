/** A branch, as users of the library hold it: a name that follows its row through renames. */
import { NAME_LENGTH_MAX, requireText } from "../branch/names.ts";
import { requireOptions } from "../branch/option-names.ts";
import {
  createBranchChange,
  deleteBranchChange,
  renameBranchChange,
  requireBranch,
  resetBranchChange,
  setBranchChange,
} from "../branch/ref-operations.ts";
import { currentTimelineId } from "../branch/refs.ts";
import type { BranchRow, CommitPointer, RetentionOverrides } from "../catalog/rows.ts";
import { timelineOf } from "../checkpoint/snapshot-at.ts";
import { invariant, StoreError } from "../errors.ts";
import { changedRetention, retentionOf, type RetentionPolicy } from "../retention/policy.ts";
import { waiting } from "../storage/not-local.ts";
import type { Snapshot } from "../transaction/snapshot.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import {
  CREATE_BRANCH_OPTIONS,
  LOG_OPTIONS,
  RESET_OPTIONS,
  RESTORE_OPTIONS,
} from "./call-options.ts";
import { type Commit, commitLog, type LogOptions } from "./commit-log.ts";
import type { Engine } from "./engine.ts";
import { retentionStatus, type RetentionStatus } from "./retention-status.ts";
import { headOf, requireBranchId, requireDatabaseId, resolveRevision } from "./resolve-revision.ts";

/** Of "-before-<version>-<number>". */
const BACKUP_SUFFIX_MAX = 32;

export interface CreateBranchOptions {
  /** A revision of the same database: "shop/dev", "shop@120", or from "@" on for main: "@-5m". Default: main's head. */
  readonly from?: string;
  /** The branch is deleted at this time. */
  readonly expiresAt?: Date | number;
}

export interface RestoreOptions {
  /** A revision of the same database. */
  readonly to: string;
  /** The branch that keeps the old head; by default "<name>-before-<version>". */
  readonly preserveAs?: string;
}

export interface Head {
  /** 0: the branch has no commits. */
  readonly version: number;
  readonly timestamp: Date;
  readonly pageCount: number;
}

export class Branch {
  readonly #engine: Engine;
  readonly #databaseId: number;
  readonly #branchId: number;

  /** @internal */
  constructor(engine: Engine, database: OpenDatabase, row: BranchRow) {
    this.#engine = engine;
    this.#databaseId = database.refs.row.id;
    this.#branchId = row.id;
  }

  get #database(): OpenDatabase {
    return requireDatabaseId(this.#engine, this.#databaseId);
  }

  get #row(): BranchRow {
    return requireBranchId(this.#database, this.#branchId);
  }

  /** @internal The same through renames. */
  get id(): number {
    return this.#branchId;
  }

  get name(): string {
    return this.#row.name;
  }

  /** "database/branch", which is also the revision of its head. */
  get revision(): string {
    return `${this.#database.refs.row.name}/${this.#row.name}`;
  }

  get createdAt(): Date {
    return new Date(this.#row.createdAtMs);
  }

  get isProtected(): boolean {
    return this.#row.isProtected;
  }

  get expiresAt(): Date | null {
    return this.#row.expiresAtMs === null ? null : new Date(this.#row.expiresAtMs);
  }

  /** The branch that this one was created from; null for main. */
  get parent(): Branch | null {
    const row =
      this.#row.parentBranchId === null
        ? undefined
        : this.#database.refs.branches.get(this.#row.parentBranchId);
    return row === undefined ? null : new Branch(this.#engine, this.#database, row);
  }

  /** The version of the parent that this branch started from, since its last reset; null for main. */
  get forkVersion(): number | null {
    if (this.#row.parentBranchId === null) return null;
    const own = new Set(this.#row.history.map(({ timeline }) => timeline));
    let { parent } = this.#timelineRow(currentTimelineId(this.#row));
    while (parent !== null && own.has(parent.timeline))
      parent = this.#timelineRow(parent.timeline).parent;
    return parent?.version ?? null;
  }

  get head(): Head {
    const { version, timestampMs, pageCount } = this.#living();
    return { version, timestamp: new Date(timestampMs), pageCount };
  }

  /** Commits, newest first, also those from before the fork. */
  log(options: LogOptions = {}): Commit[] {
    this.#living();
    requireOptions("log", options, LOG_OPTIONS);
    return waiting(() => [...commitLog(this.#engine, this.#database, this.#row, options)]);
  }

  rename(to: string): void {
    this.#living();
    this.#engine.change(renameBranchChange(this.#database.refs, { name: this.name, to }));
  }

  /** Deletes the branch; `database.undeleteBranch(name)` brings it back. */
  delete(): void {
    this.#living();
    this.#requireIdle("delete");
    const atMs = this.#engine.options.now();
    this.#engine.change(deleteBranchChange(this.#database.refs, { name: this.name, atMs }));
  }

  /** Makes the branch what its parent is now, or what a revision was; what it was stays in its history. */
  reset(options: { readonly to?: string } = {}): void {
    this.#living();
    requireOptions("reset", options, RESET_OPTIONS);
    let from: Snapshot;
    if (options.to !== undefined) from = this.#snapshotOf(options.to);
    else {
      const { parent } = this;
      if (parent === null)
        throw new StoreError(
          "BRANCH_NOT_FOUND",
          `Cannot reset branch "${this.revision}" to its parent: it has none; say a revision`,
        );
      from = parent.#living();
    }
    this.#reset(from, null);
  }

  /** Makes the branch what a revision was; a new branch keeps what it is now. Returns that branch. */
  restore(options: RestoreOptions): Branch {
    const head = this.#living();
    requireOptions("restore", options, RESTORE_OPTIONS);
    const preserveAs = options.preserveAs ?? this.#backupName(head.version);
    this.#reset(this.#snapshotOf(options.to), preserveAs);
    const row = requireBranch(this.#database.refs, preserveAs);
    return new Branch(this.#engine, this.#database, row);
  }

  protect(): void {
    this.#set({ isProtected: true });
  }

  unprotect(): void {
    this.#set({ isProtected: false });
  }

  /** Null: the branch does not expire. */
  setExpiration(at: Date | number | null): void {
    this.#set({ expiresAtMs: at === null ? null : timestampOf(at) });
  }

  /** What holds for this branch: its own, else what its database says, else the defaults. */
  get retention(): RetentionPolicy {
    return retentionOf(this.#database.refs.row, this.#row);
  }

  /** What is readable now, why, and until when. */
  retentionStatus(): RetentionStatus {
    this.#living();
    return waiting(() => retentionStatus(this.#engine, this.#database, this.#row));
  }

  /** Changes how long versions of this branch are kept; null: as its database says. Null as a value: no bound. */
  setRetention(changes: RetentionOverrides | null): void {
    this.#living();
    if (changes?.historyBytesMax !== undefined)
      throw new TypeError(
        `Cannot bound the history of branch "${this.revision}": its segments are shared; set "historyBytesMax" of the database`,
      );
    const { id, databaseId, retention: own = {} } = this.#row;
    const retention = changes === null ? null : changedRetention(own, changes);
    this.#engine.change({ type: "set-retention", databaseId, branchId: id, retention });
  }

  toJSON(): object {
    const { name, revision, head, createdAt, isProtected, expiresAt, forkVersion } = this;
    return {
      name,
      revision,
      head,
      parent: this.parent?.name ?? null,
      forkVersion,
      createdAt,
      isProtected,
      expiresAt,
    };
  }

  #set(values: { isProtected?: boolean; expiresAtMs?: number | null }): void {
    this.#living();
    const atMs = this.#engine.options.now();
    const request = { name: this.name, atMs, ...values };
    this.#engine.change(setBranchChange(this.#database.refs, request));
  }

  #reset(from: Snapshot, preserveAs: string | null): void {
    this.#requireIdle("reset");
    this.#engine.change(
      resetBranchChange(this.#database.refs, {
        name: this.name,
        from: pointerTo(from),
        preserveAs,
        atMs: this.#engine.options.now(),
      }),
    );
  }

  #snapshotOf(revision: string): Snapshot {
    return snapshotInDatabase(this.#engine, this.#database, revision).snapshot;
  }

  #backupName(version: number): string {
    // Cut where the whole would be longer than a name may be.
    const base = `${this.name.slice(0, NAME_LENGTH_MAX - BACKUP_SUFFIX_MAX)}-before-${version}`;
    const taken = new Set([...this.#database.refs.branches.values()].map(({ name }) => name));
    let name = base;
    for (let number = 2; taken.has(name); number++) name = `${base}-${number}`;
    return name;
  }

  #requireIdle(action: string): void {
    const timeline = timelineOf(this.#database, currentTimelineId(this.#row));
    if (timeline.writer === null) return;
    throw new StoreError(
      "BRANCH_BUSY",
      `Cannot ${action} branch "${this.revision}": a transaction is writing to it; try again when it has ended`,
      { retryable: true },
    );
  }

  #timelineRow(id: number): { readonly parent: CommitPointer | null } {
    const row = this.#database.refs.timelines.get(id);
    invariant(row !== undefined, `Timeline ${id} of branch ${this.#row.id} exists`);
    return row;
  }

  #living(): Snapshot {
    this.#engine.assertOpen();
    this.#engine.expireBranches();
    if (this.#row.deletedAtMs !== null || this.#database.refs.row.deletedAtMs !== null)
      throw new StoreError(
        "BRANCH_NOT_FOUND",
        `Cannot use branch "${this.revision}": it was deleted`,
      );
    return headOf(this.#database, this.#row);
  }
}

/** Creates a branch and returns it. */
export function createBranch(
  engine: Engine,
  database: OpenDatabase,
  name: string,
  options: CreateBranchOptions,
): Branch {
  requireOptions("createBranch", options, CREATE_BRANCH_OPTIONS);
  const { snapshot, branch } = snapshotInDatabase(
    engine,
    database,
    options.from ?? database.refs.row.name,
  );
  const { refs } = database;
  engine.change(
    createBranchChange(refs, {
      name,
      from: pointerTo(snapshot),
      parentBranchId: branch.id,
      expiresAtMs: options.expiresAt === undefined ? null : timestampOf(options.expiresAt),
      atMs: engine.options.now(),
    }),
  );
  return new Branch(engine, database, requireBranch(refs, name));
}

/** The commit that a revision of this database names; "@..." is short for main's. */
export function snapshotInDatabase(
  engine: Engine,
  database: OpenDatabase,
  revision: string,
): { readonly snapshot: Snapshot; readonly branch: BranchRow } {
  requireText("A revision", revision);
  const { name } = database.refs.row;
  const resolved = resolveRevision(engine, revision.startsWith("@") ? name + revision : revision);
  if (resolved.database !== database)
    throw new StoreError(
      "REVISION_INVALID",
      `Cannot use revision "${revision}" in database "${name}": it names another database`,
    );
  const { branch } = resolved;
  return { branch, snapshot: resolved.snapshot ?? headOf(database, branch) };
}

export function pointerTo(snapshot: Snapshot): CommitPointer {
  return { timeline: snapshot.timelineId, version: snapshot.version };
}

export function timestampOf(time: Date | number): number {
  const timestampMs = time instanceof Date ? time.getTime() : time;
  if (!Number.isSafeInteger(timestampMs))
    throw new RangeError(`Cannot use ${String(time)} as a time: it is no valid date`);
  return timestampMs;
}
