/**
 * A bounded cache with CLOCK eviction, an approximation of LRU whose hit costs one store: a hit sets `referenced`, and
 * the hand that looks for room gives each referenced entry one more round. Users may keep a pointer to an entry beside
 * the map and skip the lookup; they clear it in `onEvict`.
 *
 * C1. The weight of all entries is at most `weightMax`, but for a single entry heavier than that.
 * C2. Every entry leaves through `onEvict` exactly once: evicted, replaced, deleted or cleared.
 */
export interface CacheEntry {
  /** Set by users at each hit, cleared by the hand. */
  referenced: boolean;
  /** In the unit of the cache's limit; constant while cached. */
  readonly weight: number;
}

export class ClockCache<Entry extends CacheEntry> {
  readonly weightMax: number;
  readonly #entries = new Map<string, Entry>();
  readonly #onEvict: ((entry: Entry) => void) | null;
  #hand: MapIterator<[string, Entry]> = this.#entries.entries();
  #weight = 0;

  constructor(weightMax: number, onEvict: ((entry: Entry) => void) | null = null) {
    if (!(weightMax >= 0)) throw new RangeError(`Cannot make cache: limit is ${weightMax}`);
    this.weightMax = weightMax;
    this.#onEvict = onEvict;
  }

  get weight(): number {
    return this.#weight;
  }

  get count(): number {
    return this.#entries.size;
  }

  get(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry !== undefined) entry.referenced = true;
    return entry;
  }

  /** Adds or replaces an entry after making room. The entry itself stays even when it is heavier than the limit. */
  set(key: string, entry: Entry): void {
    this.delete(key);
    this.#makeRoom(entry.weight);
    this.#entries.set(key, entry);
    this.#weight += entry.weight;
  }

  delete(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#weight -= entry.weight;
    this.#onEvict?.(entry);
  }

  clear(): void {
    for (const key of this.#entries.keys()) this.delete(key);
  }

  #makeRoom(weight: number): void {
    while (this.#entries.size > 0 && this.#weight + weight > this.weightMax) {
      let next = this.#hand.next();
      if (next.done === true) {
        this.#hand = this.#entries.entries();
        next = this.#hand.next();
        if (next.done === true) return;
      }
      const [key, entry] = next.value;
      if (entry.referenced) entry.referenced = false;
      else this.delete(key);
    }
  }
}
