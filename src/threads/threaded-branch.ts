/** A branch of a ThreadedStore. Its name is as it was known last. */
import type { RetentionOverrides } from "../catalog/rows.ts";
import type { RetentionPolicy } from "../retention/policy.ts";
import type { Head, RestoreOptions } from "../store/branch.ts";
import type { Commit, LogOptions } from "../store/commit-log.ts";
import type { RetentionStatus } from "../store/retention-status.ts";
import type { Owner } from "./owner.ts";
import type { Place } from "./places.ts";
import type { BranchFacts, BranchInfo, BranchPlace } from "./served-store.ts";
import type { DatabaseHome } from "./threaded-database.ts";

export class ThreadedBranch {
  readonly createdAt: Date;
  readonly #home: DatabaseHome;
  readonly #database: Place;
  readonly #id: number;
  #name: string;

  /** @internal */
  constructor(home: DatabaseHome, database: Place, facts: BranchFacts) {
    this.#home = home;
    this.#database = database;
    this.#id = facts.id;
    this.#name = facts.name;
    this.createdAt = facts.createdAt;
  }

  get name(): string {
    return this.#name;
  }

  /** "database/branch", which is also the revision of its head. */
  get revision(): string {
    return `${this.#database.name}/${this.#name}`;
  }

  async info(): Promise<BranchInfo> {
    const { owner, partition, place } = await this.#found();
    const info = await owner.ask(partition, "branchInfo", [place]);
    this.#name = info.name;
    return info;
  }

  async head(): Promise<Head> {
    return (await this.info()).head;
  }

  /** The branch that this one was created from; null for main. */
  async parent(): Promise<ThreadedBranch | null> {
    const { owner, partition, place } = await this.#found();
    const facts = await owner.ask(partition, "branchParent", [place]);
    return facts === null ? null : new ThreadedBranch(this.#home, this.#database, facts);
  }

  /** Commits, newest first, also those from before the fork. */
  async log(options: LogOptions = {}): Promise<Commit[]> {
    const { owner, partition, place } = await this.#found();
    return await owner.ask(partition, "branchLog", [place, options]);
  }

  async rename(to: string): Promise<void> {
    const { owner, partition, place } = await this.#found();
    await owner.ask(partition, "renameBranch", [place, to]);
    this.#name = to;
  }

  /** Deletes the branch; `database.undeleteBranch(name)` brings it back. */
  async delete(): Promise<void> {
    const { owner, partition, place } = await this.#found();
    await owner.ask(partition, "deleteBranch", [place]);
  }

  /** Makes the branch what its parent is now, or what a revision was; what it was stays in its history. */
  async reset(options: { readonly to?: string } = {}): Promise<void> {
    const { owner, partition, place } = await this.#found();
    await owner.ask(partition, "resetBranch", [place, options]);
  }

  /** Makes the branch what a revision was; a new branch keeps what it is now. Resolves with that branch. */
  async restore(options: RestoreOptions): Promise<ThreadedBranch> {
    const { owner, partition, place } = await this.#found();
    const facts = await owner.ask(partition, "restoreBranch", [place, options]);
    return new ThreadedBranch(this.#home, this.#database, facts);
  }

  async protect(): Promise<void> {
    const { owner, partition, place } = await this.#found();
    await owner.ask(partition, "protectBranch", [place, true]);
  }

  async unprotect(): Promise<void> {
    const { owner, partition, place } = await this.#found();
    await owner.ask(partition, "protectBranch", [place, false]);
  }

  /** Null: the branch does not expire. */
  async setExpiration(at: Date | number | null): Promise<void> {
    const { owner, partition, place } = await this.#found();
    await owner.ask(partition, "setExpiration", [place, at]);
  }

  /** What holds for this branch: its own, else what its database says, else the defaults. */
  async retention(): Promise<RetentionPolicy> {
    return (await this.info()).retention;
  }

  /** What is readable now, why, and until when. */
  async retentionStatus(): Promise<RetentionStatus> {
    const { owner, partition, place } = await this.#found();
    return await owner.ask(partition, "retentionStatus", [place]);
  }

  /** Changes how long versions of this branch are kept; null: as its database says. Null as a value: no bound. */
  async setRetention(changes: RetentionOverrides | null): Promise<void> {
    const { owner, partition, place } = await this.#found();
    await owner.ask(partition, "setBranchRetention", [place, changes]);
  }

  async #found(): Promise<{ owner: Owner; partition: number; place: BranchPlace }> {
    const { owner, partition, id } = await this.#home.locate(this.#database);
    return { owner, partition, place: [id, this.#id] };
  }
}
