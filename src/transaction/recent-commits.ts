/**
 * What was committed to a timeline while concurrent transactions are under way: which pages each commit changed. Kept as long as
 * a transaction that began before the commit may still have to be compared with it.
 *
 * R1. Complete for every transaction that has begun and not ended: each commit after its snapshot, with every page that it changed
 *     and that no later commit changed again. (A later change is a conflict for all whom the earlier one concerns.)
 * R2. Bounded by the pages that were changed, not by the number of commits: past a limit, what was changed again is left out.
 * R3. Transactions begin on the head, so the first of those under way has the oldest snapshot.
 */
export interface RecentCommit {
  readonly version: number;
  readonly pages: readonly number[];
}

/** What is compared at its commit; `snapshotVersion` is what it began on. */
export interface Comparable {
  readonly snapshotVersion: number;
}

/** Page numbers that are kept before those that repeat are left out. */
const PAGES_MAX = 65_536;

export class RecentCommits {
  /** In the order in which they began (R3). */
  readonly #running: Set<Comparable> = new Set();
  /** Ascending by version, from `#first` on. */
  #commits: RecentCommit[] = [];
  #first = 0;
  #pageCount = 0;
  #pagesMax = PAGES_MAX;
  /** The newest commit that left fewer pages than there were before. */
  lastShrink = 0;

  begin(transaction: Comparable): void {
    this.#running.add(transaction);
  }

  end(transaction: Comparable): void {
    this.#running.delete(transaction);
    if (this.#running.size === 0) this.#clear();
    else if (this.#commits.length > 0) this.#trim();
  }

  /** Transactions under way. */
  get runningCount(): number {
    return this.#running.size;
  }

  /** Pages of commits that are remembered. */
  get pageCount(): number {
    return this.#pageCount;
  }

  add(commit: RecentCommit): void {
    if (this.#running.size === 0) return;
    this.#commits.push(commit);
    this.#pageCount += commit.pages.length;
    if (this.#pageCount > this.#pagesMax) this.#compact();
  }

  /** The pages that were changed after `version`, which a transaction under way began on; some may come twice. */
  changedSince(version: number): readonly number[] {
    const commits = this.#commits;
    let low = this.#first;
    for (let high = commits.length; low < high;) {
      const middle = (low + high) >> 1;
      if (commits[middle]!.version <= version) low = middle + 1;
      else high = middle;
    }
    const changed: number[] = [];
    for (let index = low; index < commits.length; index++)
      for (const page of commits[index]!.pages) changed.push(page);
    return changed;
  }

  #clear(): void {
    if (this.#commits.length > 0) this.#commits = [];
    this.#first = 0;
    this.#pageCount = 0;
    this.#pagesMax = PAGES_MAX;
  }

  /** Forgets what the first of those under way has seen already. */
  #trim(): void {
    const [oldest] = this.#running;
    const commits = this.#commits;
    while (this.#first < commits.length) {
      const { version, pages } = commits[this.#first]!;
      if (version > oldest!.snapshotVersion) break;
      this.#pageCount -= pages.length;
      this.#first++;
    }
    if (this.#first > 64 && this.#first * 2 > commits.length) {
      this.#commits = commits.slice(this.#first);
      this.#first = 0;
    }
  }

  /** R2. */
  #compact(): void {
    const seen = new Set<number>();
    const kept: RecentCommit[] = [];
    for (let index = this.#commits.length - 1; index >= this.#first; index--) {
      const { version, pages } = this.#commits[index]!;
      const newest = pages.filter((page) => !seen.has(page));
      for (const page of newest) seen.add(page);
      if (newest.length > 0) kept.push({ version, pages: newest });
    }
    this.#commits = kept.reverse();
    this.#first = 0;
    this.#pageCount = seen.size;
    this.#pagesMax = Math.max(PAGES_MAX, 2 * seen.size);
  }
}
