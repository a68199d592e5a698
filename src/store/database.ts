/** A database, as users of the library hold it: branches and tags under one name. */
import { requireOptions } from "../branch/option-names.ts";
import {
  createTagChange,
  deleteDatabaseChange,
  deleteTagChange,
  renameDatabaseChange,
  requireBranch,
  undeleteBranchChange,
} from "../branch/ref-operations.ts";
import { livingBranches, MAIN_BRANCH } from "../branch/refs.ts";
import type { RetentionOverrides, TagRow } from "../catalog/rows.ts";
import { StoreError } from "../errors.ts";
import { changedRetention, retentionOf, type RetentionPolicy } from "../retention/policy.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import {
  Branch,
  createBranch,
  type CreateBranchOptions,
  pointerTo,
  snapshotInDatabase,
} from "./branch.ts";
import { CREATE_TAG_OPTIONS } from "./call-options.ts";
import type { Engine } from "./engine.ts";
import { requireDatabaseId } from "./resolve-revision.ts";

export interface Tag {
  readonly name: string;
  readonly version: number;
  readonly createdAt: Date;
}

export class Database {
  readonly #engine: Engine;
  readonly #id: number;

  /** @internal */
  constructor(engine: Engine, database: OpenDatabase) {
    this.#engine = engine;
    this.#id = database.refs.row.id;
  }

  get #database(): OpenDatabase {
    return requireDatabaseId(this.#engine, this.#id);
  }

  /** @internal The same through renames. */
  get id(): number {
    return this.#id;
  }

  get name(): string {
    return this.#database.refs.row.name;
  }

  /** Bytes. */
  get pageSize(): number {
    return this.#database.refs.row.pageSize;
  }

  get createdAt(): Date {
    return new Date(this.#database.refs.row.createdAtMs);
  }

  /** The one of the store's partitions that it is in; 0 where there is one. */
  get partition(): number {
    return this.#engine.partition?.index ?? 0;
  }

  /** The newest version over all branches; 0 before the first commit. */
  get version(): number {
    return this.#database.refs.row.nextVersion - 1;
  }

  /** main first, then by name. */
  branches(): Branch[] {
    this.#assertLiving();
    return livingBranches(this.#database.refs)
      .sort(
        (left, right) =>
          Number(right.id === 1) - Number(left.id === 1) || (left.name < right.name ? -1 : 1),
      )
      .map((row) => new Branch(this.#engine, this.#database, row));
  }

  /** Throws BRANCH_NOT_FOUND. */
  branch(name: string = MAIN_BRANCH): Branch {
    this.#assertLiving();
    return new Branch(this.#engine, this.#database, requireBranch(this.#database.refs, name));
  }

  /** O(1): one small record, durable when this returns. */
  createBranch(name: string, options: CreateBranchOptions = {}): Branch {
    this.#assertLiving();
    return createBranch(this.#engine, this.#database, name, options);
  }

  /** Brings back the branch of that name that was deleted last. */
  undeleteBranch(name: string): Branch {
    this.#assertLiving();
    this.#engine.change(undeleteBranchChange(this.#database.refs, { name }));
    return this.branch(name);
  }

  tags(): Tag[] {
    this.#assertLiving();
    return [...this.#database.refs.tags.values()]
      .sort((left, right) => (left.name < right.name ? -1 : 1))
      .map(toTag);
  }

  /** Names the commit that a revision is now; by default main's head. */
  createTag(name: string, options: { readonly at?: string } = {}): Tag {
    this.#assertLiving();
    requireOptions("createTag", options, CREATE_TAG_OPTIONS);
    const { snapshot } = snapshotInDatabase(this.#engine, this.#database, options.at ?? this.name);
    const atMs = this.#engine.options.now();
    const { refs } = this.#database;
    this.#engine.change(createTagChange(refs, { name, target: pointerTo(snapshot), atMs }));
    return toTag(refs.tags.get(name)!);
  }

  deleteTag(name: string): void {
    this.#assertLiving();
    this.#engine.change(deleteTagChange(this.#database.refs, { name }));
  }

  rename(to: string): void {
    this.#assertLiving();
    this.#engine.change(renameDatabaseChange(this.#engine.state.refs, { name: this.name, to }));
  }

  /** Deletes the database with all its branches; `store.undeleteDatabase(name)` brings it back. */
  delete(): void {
    this.#assertLiving();
    const atMs = this.#engine.options.now();
    const { refs } = this.#engine.state;
    for (const timeline of this.#database.timelines.values()) {
      if (timeline.writer !== null)
        throw new StoreError(
          "BRANCH_BUSY",
          `Cannot delete database "${this.name}": a transaction is writing to it; try again when it has ended`,
          { retryable: true },
        );
    }
    this.#engine.change(deleteDatabaseChange(refs, { name: this.name, atMs }));
  }

  /** What holds for branches that say nothing else. */
  get retention(): RetentionPolicy {
    return retentionOf(this.#database.refs.row, null);
  }

  /** Changes how long versions are kept; null: as by default. Null as a value: no bound. */
  setRetention(changes: RetentionOverrides | null): void {
    this.#assertLiving();
    const { row } = this.#database.refs;
    const retention = changes === null ? null : changedRetention(row.retention ?? {}, changes);
    this.#engine.change({
      type: "set-retention",
      databaseId: row.id,
      branchId: null,
      retention,
    });
  }

  toJSON(): object {
    const { name, pageSize, createdAt, version } = this;
    return { name, pageSize, createdAt, version };
  }

  #assertLiving(): void {
    this.#engine.assertOpen();
    this.#engine.expireBranches();
    if (this.#database.refs.row.deletedAtMs !== null)
      throw new StoreError(
        "DATABASE_NOT_FOUND",
        `Cannot use database "${this.name}": it was deleted`,
      );
  }
}

function toTag(row: TagRow): Tag {
  return {
    name: row.name,
    version: row.target.version,
    createdAt: new Date(row.createdAtMs),
  };
}
