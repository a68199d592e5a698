/** A database of a ThreadedStore. What it says of itself at once does not change, but for its name: that is as it was known last. */
import type { RetentionOverrides } from "../catalog/rows.ts";
import type { CreateBranchOptions } from "../store/branch.ts";
import type { Tag } from "../store/database.ts";
import type { RetentionPolicy } from "../retention/policy.ts";
import type { Owner } from "./owner.ts";
import type { Place } from "./places.ts";
import type { BranchFacts, DatabaseInfo } from "./served-store.ts";
import { ThreadedBranch } from "./threaded-branch.ts";

/** The owner of a partition, and the number of a database in that one. */
export interface Located {
  readonly owner: Owner;
  readonly partition: number;
  readonly id: number;
}

/** What databases need of their store. */
export interface DatabaseHome {
  /** Where a database is now. */
  locate(place: Place): Promise<Located>;
  rename(place: Place, to: string): Promise<void>;
  deleteDatabase(place: Place): Promise<void>;
}

export class ThreadedDatabase {
  readonly #home: DatabaseHome;
  readonly #place: Place;

  /** @internal */
  constructor(home: DatabaseHome, place: Place) {
    this.#home = home;
    this.#place = place;
  }

  get name(): string {
    return this.#place.name;
  }

  /** Bytes. */
  get pageSize(): number {
    return this.#place.pageSize;
  }

  get createdAt(): Date {
    return this.#place.createdAt;
  }

  /** The partition that has it; see docs/threads.md. */
  get partition(): number {
    return this.#place.partition;
  }

  async info(): Promise<DatabaseInfo> {
    const { owner, partition, id } = await this.#found();
    return await owner.ask(partition, "databaseInfo", [id]);
  }

  /** main first, then by name. */
  async branches(): Promise<ThreadedBranch[]> {
    const { owner, partition, id } = await this.#found();
    const branches = await owner.ask(partition, "branches", [id]);
    return branches.map((facts) => this.#branch(facts));
  }

  /** Rejects with BRANCH_NOT_FOUND. */
  async branch(name?: string): Promise<ThreadedBranch> {
    const { owner, partition, id } = await this.#found();
    return this.#branch(await owner.ask(partition, "branch", [id, name]));
  }

  /** O(1): one small record, durable when this resolves. */
  async createBranch(name: string, options: CreateBranchOptions = {}): Promise<ThreadedBranch> {
    const { owner, partition, id } = await this.#found();
    return this.#branch(await owner.ask(partition, "createBranch", [id, name, options]));
  }

  /** Brings back the branch of that name that was deleted last. */
  async undeleteBranch(name: string): Promise<ThreadedBranch> {
    const { owner, partition, id } = await this.#found();
    return this.#branch(await owner.ask(partition, "undeleteBranch", [id, name]));
  }

  async tags(): Promise<Tag[]> {
    const { owner, partition, id } = await this.#found();
    return await owner.ask(partition, "tags", [id]);
  }

  /** Names the commit that a revision is now; by default main's head. */
  async createTag(name: string, options: { readonly at?: string } = {}): Promise<Tag> {
    const { owner, partition, id } = await this.#found();
    return await owner.ask(partition, "createTag", [id, name, options]);
  }

  async deleteTag(name: string): Promise<void> {
    const { owner, partition, id } = await this.#found();
    await owner.ask(partition, "deleteTag", [id, name]);
  }

  rename(to: string): Promise<void> {
    return this.#home.rename(this.#place, to);
  }

  /** Deletes the database with all its branches; `store.undeleteDatabase(name)` brings it back. */
  delete(): Promise<void> {
    return this.#home.deleteDatabase(this.#place);
  }

  /** What holds for branches that say nothing else. */
  async retention(): Promise<RetentionPolicy> {
    return (await this.info()).retention;
  }

  /** Changes how long versions are kept; null: as by default. Null as a value: no bound. */
  async setRetention(changes: RetentionOverrides | null): Promise<void> {
    const { owner, partition, id } = await this.#found();
    await owner.ask(partition, "setDatabaseRetention", [id, changes]);
  }

  #branch(facts: BranchFacts): ThreadedBranch {
    return new ThreadedBranch(this.#home, this.#place, facts);
  }

  #found(): Promise<Located> {
    return this.#home.locate(this.#place);
  }
}
