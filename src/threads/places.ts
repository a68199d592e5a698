/**
 * Which partition has which database, for whoever opened the store: the names of living databases, each once (names change in one
 * place at a time: ThreadedStore).
 */
import type { DatabaseFacts } from "./served-store.ts";

/** Where a database is. All who hold the database hold the one object, so that they follow it. */
export interface Place extends Omit<DatabaseFacts, "id" | "name"> {
  partition: number;
  id: number;
  name: string;
}

export class Places {
  readonly #living: Map<string, Place> = new Map();
  /** Deleted ones too: who holds one may bring it back. */
  readonly #all: Map<string, Place> = new Map();

  find(name: string): Place | undefined {
    return this.#living.get(name);
  }

  /** By name. */
  living(): Place[] {
    return [...this.#living.values()].sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  /** The one with the fewest living databases among some partitions; the first of several. */
  emptiest(partitions: readonly number[]): number {
    const sizes = new Map(partitions.map((partition) => [partition, 0]));
    for (const { partition } of this.#living.values()) {
      const size = sizes.get(partition);
      if (size !== undefined) sizes.set(partition, size + 1);
    }
    const [[best]] = [...sizes].sort(([, left], [, right]) => left - right) as [[number, number]];
    return best;
  }

  /** A database as its partition says that it is. */
  set(partition: number, { id, name, pageSize, createdAt }: DatabaseFacts): Place {
    const key = `${partition}:${id}`;
    const known = this.#all.get(key);
    const place = known ?? { partition, id, name, pageSize, createdAt };
    if (known === undefined) this.#all.set(key, place);
    else this.remove(known);
    place.name = name;
    this.#living.set(name, place);
    return place;
  }

  /** It has been handed over. */
  move(place: Place, partition: number, id: number): void {
    this.#all.delete(`${place.partition}:${place.id}`);
    // Whoever holds what the new thread has told of already would be left behind.
    place.partition = partition;
    place.id = id;
    this.#all.set(`${partition}:${id}`, place);
    this.#living.set(place.name, place);
  }

  /** It is deleted. */
  remove(place: Place): void {
    if (this.#living.get(place.name) === place) this.#living.delete(place.name);
  }

  /** All of a partition, after it was opened again. */
  replace(partition: number, databases: readonly DatabaseFacts[]): void {
    for (const place of this.living()) if (place.partition === partition) this.remove(place);
    for (const database of databases) this.set(partition, database);
  }
}
