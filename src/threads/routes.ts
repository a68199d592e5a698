/**
 * Where calls for a database go: to the thread of its partition, as it is now. A hand-over may come in between.
 *
 * H5. A call that a thread refuses because it does not have the database any more goes on where the database is: who names one that
 *     is there is never told that it is not.
 */
import { databaseNotFound } from "../branch/ref-operations.ts";
import { parseRevision } from "../branch/revision.ts";
import { StoreError } from "../errors.ts";
import type { OwnerThread } from "./owner-thread.ts";
import type { Owner } from "./owner.ts";
import type { Places } from "./places.ts";

export class Routes {
  readonly #places: Places;
  readonly #store: {
    readonly opened: Promise<void>;
    readonly ownerOf: (partition: number) => Owner;
  };
  /** The last hand-over, over or not; it does not reject. */
  handingOver: Promise<void> = Promise.resolve();

  constructor(
    places: Places,
    store: { readonly opened: Promise<void>; readonly ownerOf: (partition: number) => Owner },
  ) {
    this.#places = places;
    this.#store = store;
  }

  /** Calls where the database of a revision is. */
  async there<T>(
    revision: string,
    call: (found: {
      readonly partition: number;
      readonly owner: Owner;
      readonly thread: OwnerThread;
    }) => Promise<T>,
  ): Promise<T> {
    return await this.following(revision, async () => {
      const { partition, thread } = await this.findThread(revision);
      return await call({ partition, owner: this.#store.ownerOf(partition), thread });
    });
  }

  /**
   * H5. What finds a database where it is, and asks there: again when that thread has it no more, because it was handed over meanwhile.
   * Between the moment when the thread forgets it and that when `places` says where it went lies a message.
   */
  async following<T>(revision: string, ask: () => Promise<T>): Promise<T> {
    const { database } = parseRevision(revision);
    for (;;) {
      const before = this.#places.find(database)?.partition;
      try {
        return await ask();
      } catch (error) {
        if (before === undefined || !(await this.hasMoved(revision, error, before))) throw error;
      }
    }
  }

  /** Whether the error says that a database is not in that partition, and it is not there any more. */
  async hasMoved(revision: string, error: unknown, partition: number): Promise<boolean> {
    if (!isElsewhere(error)) return false;
    await this.handingOver;
    const place = this.#places.find(parseRevision(revision).database);
    return place !== undefined && place.partition !== partition;
  }

  /** Where the database of a revision is, and the thread of now. Also while the store is being closed: for what began before. */
  async findThread(
    revision: string,
  ): Promise<{ readonly partition: number; readonly thread: OwnerThread }> {
    const found = await this.find(revision);
    if (found === null) throw this.notFound(parseRevision(revision).database);
    return found;
  }

  /** Null: there is no such database. */
  async find(
    revision: string,
  ): Promise<{ readonly partition: number; readonly thread: OwnerThread } | null> {
    const { database } = parseRevision(revision);
    await this.#store.opened;
    for (;;) {
      const place = this.#places.find(database);
      if (place === undefined) return null;
      const { partition } = place;
      const thread = await this.#store.ownerOf(partition).current();
      // It may have waited for the end of a hand-over of that database.
      if (place.partition === partition) return { partition, thread };
    }
  }

  /** DATABASE_NOT_FOUND, with the names of all partitions in mind. */
  notFound(name: string): StoreError {
    const names = this.#places.living().map((place) => place.name);
    return databaseNotFound(name, names);
  }
}

/** The partition does not have the database, so nothing was done. */
function isElsewhere(error: unknown): boolean {
  return (
    error instanceof StoreError &&
    (error.code === "DATABASE_NOT_FOUND" || error.code === "OTHER_PARTITION")
  );
}
