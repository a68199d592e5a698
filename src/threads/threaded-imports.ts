/**
 * Imports of files, which take long: names of other databases change meanwhile.
 *
 * H4. A file that is imported as a new database takes its name in one partition from the beginning on (`awaited`): the others are told of
 *     it as of one that is there.
 */
import { parseRevision } from "../branch/revision.ts";
import type { ImportOptions, ImportResult } from "../store/import-file.ts";
import type { ByteProgress } from "../store/progress.ts";
import type { ToldNames } from "./message.ts";
import type { Asked, Rest } from "./owner.ts";
import type { DatabaseFacts } from "./served-store.ts";
import type { EverywhereOptions } from "./store-service.ts";

/** The store, as imports need it. */
export interface ImportPlaces {
  /** The partition of a living database. */
  readonly find: (database: string) => number | undefined;
  /** For a new one. */
  readonly emptiest: () => number;
  readonly changeNames: <T>(change: () => Promise<T>) => Promise<T>;
  readonly following: <T>(revision: string, ask: () => Promise<T>) => Promise<T>;
  readonly notFound: (database: string) => Error;
  readonly ask: (
    partition: number,
    method: "importFile",
    parameters: Rest<"importFile">,
    more: EverywhereOptions,
  ) => Promise<Asked<"importFile">>;
  readonly settle: (partition: number, database: DatabaseFacts) => void;
  /** What a partition has that is not known yet. */
  readonly lookAgain: (partition: number) => Promise<void>;
  readonly tell: (names: ToldNames) => void;
}

export class ThreadedImports {
  readonly #places: ImportPlaces;
  /** H4. */
  readonly #awaited: Map<string, number> = new Map();
  readonly #running: Set<Promise<ImportResult>> = new Set();

  constructor(places: ImportPlaces) {
    this.#places = places;
  }

  get awaited(): Iterable<readonly [name: string, partition: number]> {
    return this.#awaited;
  }

  async run(path: string, revision: string, options: ImportOptions): Promise<ImportResult> {
    const { find } = this.#places;
    const { database } = parseRevision(revision);
    const importing =
      find(database) === undefined
        ? this.#importNew(path, revision, options)
        : this.#places.following(revision, async () => {
            const partition = find(database);
            if (partition === undefined) throw this.#places.notFound(database);
            return (await this.#import(partition, path, revision, options)).result;
          });
    this.#running.add(importing);
    try {
      return await importing;
    } finally {
      this.#running.delete(importing);
    }
  }

  /** Resolves when those that were begun have ended. */
  async allEnded(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  /** H4. */
  async #importNew(path: string, revision: string, options: ImportOptions): Promise<ImportResult> {
    const { find, emptiest, changeNames, settle, lookAgain, tell } = this.#places;
    const { database } = parseRevision(revision);
    const partition = await changeNames(async () => {
      const chosen = find(database) ?? this.#awaited.get(database) ?? emptiest();
      this.#awaited.set(database, chosen);
      tell({ changed: [[database, chosen]] });
      return chosen;
    });
    try {
      const answer = await this.#import(partition, path, revision, options);
      settle(partition, answer.database);
      return answer.result;
    } catch (error) {
      await lookAgain(partition).catch(() => {}); // It may have made the database before it failed.
      throw error;
    } finally {
      this.#awaited.delete(database);
      tell({ changed: [[database, find(database) ?? null]] });
    }
  }

  #import(
    partition: number,
    path: string,
    revision: string,
    { signal, onProgress }: ImportOptions,
  ): Promise<Asked<"importFile">> {
    const onEvent = (progress: unknown): void => onProgress?.(progress as ByteProgress);
    return this.#places.ask(partition, "importFile", [path, revision], { signal, onEvent });
  }
}
