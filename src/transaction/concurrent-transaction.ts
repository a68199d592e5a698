/**
 * An optimistic transaction (BEGIN CONCURRENT) on one timeline: it takes no lock, remembers what it read, and is compared at its
 * commit with what others have committed since it began.
 *
 *   reading, writing --commit, head as at the beginning--> committed
 *                    --commit, others came, nothing of theirs was read or written--> merged onto the head --> committed
 *                    --commit, else--> ConflictError
 *
 * K1. `reads` has every page that SQLite knows of: its cache was empty when the transaction began, because it was shown other
 *     bytes than it knew where it judges its cache.
 * K2. A transaction commits only if none of the pages that it read, wrote or freed was changed by a commit after its snapshot.
 *     So it reads and writes the same at its place in the order of commits: serializable.
 * K3. Page 1 is excepted, and compared by its fields (page-one.ts). A change of the schema conflicts with all others. So does a
 *     commit that made the database smaller: pages behind its end vanish without being written.
 * K4. New pages are moved behind the head's last page with every pointer to them (src/btree). Where that is not certain, it is
 *     a conflict.
 * K5. While others run it is shown an empty freelist: it takes new pages from the end of the file, and what it frees is put in
 *     front of the head's freelist. So two transactions do not meet there. Not with auto_vacuum, which needs the true freelist.
 * K6. Pointer maps (auto_vacuum) are excepted too, and merged entry by entry. That is right while nobody made the database
 *     smaller: only then are pages moved that others may know by their numbers.
 * K7. At its commit its new pages get the numbers of free pages of the head, as far as there are some: nobody else knows those
 *     pages, so nobody is in conflict, and the file does not grow while as much is freed as is used. One transaction, which began
 *     alone, may have been shown the true freelist: what is in front of that one's first trunk is taken, and nothing behind.
 */
import { invariant } from "../errors.ts";
import type { AccessedPages } from "../btree/accessed-pages.ts";
import { tableOfPage } from "../btree/classify-pages.ts";
import { fileLayout, isAllocatable, isPointerMap, type FileLayout } from "../btree/file-layout.ts";
import {
  leafNumbers,
  linkedTrunk,
  takeFreePages,
  trunksOf,
  type StoredFreelist,
  type TakenPages,
} from "../btree/freelist.ts";
import {
  renumberPages,
  type RenumberedPages,
  type RenumberRefusal,
} from "../btree/renumber-pages.ts";
import { schemaRoots, type SchemaRoots } from "../btree/schema-roots.ts";
import type { PagePlaces } from "../page/page-places.ts";
import type { WriteSet } from "./commit-pipeline.ts";
import { ConflictError } from "./conflict.ts";
import { mergeFreelists } from "./merge-freelists.ts";
import { freelistOf, hideFreelist, mergePageOne } from "./page-one.ts";
import { ReadSet } from "./read-set.ts";
import type { Comparable } from "./recent-commits.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Timeline } from "./timeline.ts";

/** What the transaction has written when it commits. */
export interface ConcurrentWrites {
  /** Page 1 is among them. */
  readonly dirty: ReadonlyMap<number, Uint8Array>;
  /** Taken over, and cut off behind `pageCount`. */
  readonly staged: PagePlaces;
  readonly pageCount: number;
}

export interface MergedWrites {
  /** On top of the head. */
  readonly writeSet: WriteSet;
  /** The transaction's pages, copied, when the result has some of them under other numbers; null when it has them as they are. */
  readonly ownPages: ReadonlyMap<number, Uint8Array> | null;
}

export class ConcurrentTransaction implements Comparable {
  readonly timeline: Timeline;
  readonly snapshot: Snapshot;
  readonly snapshotVersion: number;
  /** K1. */
  readonly reads: ReadSet = new ReadSet();
  readonly #name: string;
  readonly #lineage: object;
  /** K5; null until page 1 is shown. */
  #isFreelistHidden: boolean | null = null;
  /** Page 1 of the snapshot, once `pageOne` was asked for. */
  keptPageOne: Uint8Array | null = null;
  #isEnded = false;

  constructor(timeline: Timeline, snapshot: Snapshot, name: string) {
    this.timeline = timeline;
    this.snapshot = snapshot;
    this.snapshotVersion = snapshot.version;
    this.#name = name;
    this.#lineage = timeline.lineage;
    timeline.recent.begin(this);
  }

  /**
   * Page 1 of the snapshot, which has pages. Kept: every commit changes it, so that it would have to be made anew, from an image and up
   * to 31 deltas, each time that it is looked at.
   */
  get pageOne(): Uint8Array {
    return (this.keptPageOne ??= this.snapshot.page(1));
  }

  /** Changes page 1 at `at` into what the transaction is shown; whether it is something else than what is stored. */
  disguise(bytes: Uint8Array, at: number): boolean {
    if (this.#isFreelistHidden === null) {
      const hasOne = this.#hasFreelistToHide();
      this.#isFreelistHidden = this.timeline.recent.runningCount > 1 && hasOne;
      if (hasOne && !this.#isFreelistHidden) {
        const { trunk } = freelistOf(this.snapshot.peek(1));
        this.timeline.shownFreelist = { owner: this, trunk };
      }
    }
    if (this.#isFreelistHidden) hideFreelist(bytes, at);
    return this.#isFreelistHidden;
  }

  /** Idempotent. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const { timeline } = this;
    timeline.recent.end(this);
    if (timeline.shownFreelist?.owner === this) timeline.shownFreelist = null;
  }

  /** Throws ConflictError when the branch has something else than what grew from the snapshot; `current` is its timeline now. */
  requireBranch(current: Timeline | null): void {
    if (current !== this.timeline) throw this.#failure("the branch was reset");
    if (current.lineage !== this.#lineage) throw this.#failure("a database was imported to it");
  }

  /** Another transaction keeps the branch from changing, and this one cannot wait any more. */
  lockedError(): ConflictError {
    return new ConflictError(
      `Cannot commit to "${this.#name}": another transaction holds the write lock, and this one is too large to be kept open; run it again`,
      null,
    );
  }

  /** Whether what it wrote can be committed without `merge`. */
  get isOnHead(): boolean {
    return this.timeline.head.version === this.snapshot.version && this.#isFreelistHidden !== true;
  }

  /** What is to be committed on top of the head. Throws ConflictError; may throw NotLocalError, and can be repeated then. */
  merge(writes: ConcurrentWrites): MergedWrites {
    const { timeline, snapshot } = this;
    const { head, recent } = timeline;
    const { pageCount } = writes;
    const isMoved = head.version !== snapshot.version;
    const layout = this.#layout();
    if (isMoved) {
      if (snapshot.pageCount === 0) throw this.#conflict("its first page", null);
      if (recent.lastShrink > snapshot.version || pageCount < snapshot.pageCount)
        throw this.#conflict("its size", null);
      this.validate(writes, layout);
    }
    writes.staged.truncate(pageCount);
    const hasPointerMaps = layout !== null && layout.pointerMapInterval > 0;
    const isMet = head.pageCount > snapshot.pageCount && pageCount > snapshot.pageCount;
    const mustMove = isMoved && (hasPointerMaps || isMet);
    const taken = this.#freePages(writes, layout);
    if (mustMove || taken !== null) {
      const renumbered = this.#renumber(writes, taken);
      if (renumbered.refused === null) return this.#renumbered(writes, renumbered, taken);
      if (mustMove) throw this.#refusal(renumbered);
    }
    const dirty = new Map<number, Uint8Array>();
    for (const [page, bytes] of writes.dirty) if (page <= pageCount) dirty.set(page, bytes);
    this.#mergePageOne(dirty, writes.staged, {
      pageCount: isMoved ? Math.max(pageCount, head.pageCount) : pageCount,
      lastTrunk: this.#isFreelistOwn() ? (this.#ownTrunks(writes).at(-1)?.[0] ?? 0) : 0,
      taken: null,
    });
    return { writeSet: this.#writeSet(dirty, writes), ownPages: null };
  }

  /** K7; null: there are none, or nothing to put there. */
  #freePages(writes: ConcurrentWrites, layout: FileLayout | null): TakenPages | null {
    const { snapshot, timeline } = this;
    if (layout === null || layout.pointerMapInterval > 0 || !this.#isFreelistOwn()) return null;
    if (writes.staged.size > 0) return null;
    let count = 0;
    for (let page = snapshot.pageCount + 1; page <= writes.pageCount; page++)
      if (isAllocatable(layout, page)) count++;
    const stored = count === 0 ? null : this.#headFreelist(layout);
    if (stored === null || stored.count === 0) return null;
    const fence = timeline.shownFreelist?.trunk ?? 0;
    const taken = takeFreePages(stored, { count, fence });
    for (const page of taken.pages)
      invariant(
        page > snapshot.pageCount || !writes.dirty.has(page),
        `Page ${page} of "${this.#name}" is free, and was not written without a conflict`,
      );
    return taken.pages.length === 0 ? null : taken;
  }

  #headFreelist(layout: FileLayout): StoredFreelist {
    const { head } = this.timeline;
    const { pageCount } = head;
    return { ...freelistOf(head.peek(1)), layout, pageCount, page: (number) => head.peek(number) };
  }

  /** K2. */
  protected validate(writes: ConcurrentWrites, layout: FileLayout | null): void {
    const { reads, timeline, snapshot } = this;
    const { dirty, staged } = writes;
    const freed = this.#isFreelistOwn() ? this.#freedPages(writes) : NO_PAGES;
    for (const page of timeline.recent.changedSince(snapshot.version)) {
      // Pages behind the snapshot's last one are new for both, and other pages (K4).
      if (page === 1 || page > snapshot.pageCount) continue;
      if (!(reads.has(page) || dirty.has(page) || freed.has(page) || staged.has(page))) continue;
      if (layout !== null && isPointerMap(layout, page)) continue; // K6
      throw this.#conflict(`page ${page}`, this.#tableOf(page, writes));
    }
  }

  /** K4, K6. */
  #renumber(writes: ConcurrentWrites, taken: TakenPages | null): RenumberedPages | RenumberRefusal {
    const { snapshot, timeline } = this;
    const { head } = timeline;
    if (writes.staged.size > 0)
      throw this.#conflict("its size, and this transaction is too large to be moved", null);
    return renumberPages(this.#accessed(writes), {
      dirty: writes.dirty.keys(),
      snapshotPageCount: snapshot.pageCount,
      pageCount: writes.pageCount,
      headPageCount: head.pageCount,
      freePages: taken?.pages ?? [],
      schema: this.#schema(),
      pointerMaps: {
        snapshot: (number) => snapshot.peek(number),
        head: (number) => head.peek(number),
      },
    });
  }

  #refusal({ refused, numbers }: RenumberRefusal): ConflictError {
    const why = numbers.length === 0 ? refused : `${refused}: ${numbers.slice(0, 8).join(", ")}`;
    return this.#conflict(`its size, and new pages cannot be moved (${why})`, null);
  }

  #renumbered(
    writes: ConcurrentWrites,
    { pages, pageCount, lastTrunk }: RenumberedPages,
    taken: TakenPages | null,
  ): MergedWrites {
    const { snapshot } = this;
    const dirty = new Map<number, Uint8Array>();
    const ownPages = new Map<number, Uint8Array>();
    for (const [page, bytes] of writes.dirty) {
      if (page > writes.pageCount) continue;
      ownPages.set(page, new Uint8Array(bytes));
      if (page <= snapshot.pageCount) dirty.set(page, bytes);
    }
    for (const [page, bytes] of pages) dirty.set(page, bytes);
    const changed = taken?.changed ?? null;
    if (changed !== null) dirty.set(changed.number, changed.page);
    this.#mergePageOne(dirty, writes.staged, { pageCount, lastTrunk, taken });
    return { writeSet: this.#writeSet(dirty, { ...writes, pageCount }), ownPages };
  }

  #writeSet(
    dirty: ReadonlyMap<number, Uint8Array>,
    { pageCount, staged }: ConcurrentWrites,
  ): WriteSet {
    const { timeline, snapshot } = this;
    const { head } = timeline;
    const merged =
      head.version === snapshot.version ? pageCount : Math.max(pageCount, head.pageCount);
    const keptPageCount = Math.min(head.pageCount, merged);
    return { timeline, snapshot: head, pageCount: merged, keptPageCount, dirty, staged };
  }

  /** Puts page 1 as it is stored into `dirty`, and with it the trunk where freelists are joined. `lastTrunk`: of our own. */
  #mergePageOne(
    dirty: Map<number, Uint8Array>,
    staged: PagePlaces,
    {
      pageCount,
      lastTrunk,
      taken,
    }: { pageCount: number; lastTrunk: number; taken: TakenPages | null },
  ): void {
    const { snapshot, timeline } = this;
    const { head } = timeline;
    const ours = dirty.get(1);
    invariant(ours !== undefined, "Every commit writes page 1");
    const base = this.pageOne;
    const theirs = head.version === snapshot.version ? base : head.peek(1);
    const layout = fileLayout(ours, ours.length);
    invariant(layout !== null, "Page 1 says what the file is");
    const merged = mergeFreelists({
      isOwn: this.#isFreelistOwn(),
      base: freelistOf(base),
      ours: freelistOf(ours),
      theirs: { ...this.#headFreelist(layout), ...taken?.freelist },
    });
    if (merged === null) throw this.#conflict("its freelist", null);
    const { freelist, link } = merged;
    const result = mergePageOne({ base, ours, theirs, pageCount, freelist });
    if (result === null) throw this.#conflict("its schema", null);
    dirty.set(1, result);
    if (link === null) return;
    const number = link.part === "ours" ? lastTrunk : link.trunk;
    const trunk =
      link.part === "ours" ? this.#written(number, { dirty, staged }) : head.peek(number);
    if (trunk === null) throw this.#conflict("its freelist", null);
    dirty.set(number, linkedTrunk(trunk, link.next));
  }

  #hasFreelistToHide(): boolean {
    if (this.snapshot.pageCount === 0 || freelistOf(this.pageOne).count === 0) return false;
    const layout = this.#layout();
    return layout !== null && layout.pointerMapInterval === 0;
  }

  /** What the transaction has as its freelist is its own: it was shown an empty one. */
  #isFreelistOwn(): boolean {
    if (this.#isFreelistHidden === true) return true;
    return freelistOf(this.pageOne).count === 0;
  }

  #layout(): FileLayout | null {
    const { snapshot } = this;
    if (snapshot.pageCount === 0) return null;
    return fileLayout(this.pageOne, snapshot.view.context.pageSize);
  }

  /** The pages on the freelist that the transaction has made by itself, and its trunks. */
  #freedPages(writes: ConcurrentWrites): ReadonlySet<number> {
    const freed = new Set<number>();
    for (const [trunk, bytes] of this.#ownTrunks(writes)) {
      freed.add(trunk);
      for (const leaf of leafNumbers(bytes)) freed.add(leaf);
    }
    return freed;
  }

  /** From the first, as page 1 names it, to the last: all of them were written. */
  #ownTrunks(writes: ConcurrentWrites): [trunk: number, page: Uint8Array][] {
    const { trunk } = freelistOf(writes.dirty.get(1)!);
    const max = writes.dirty.size + writes.staged.size;
    const trunks = trunksOf(trunk, (number) => this.#written(number, writes), max);
    if (trunks === null) throw this.#conflict("its freelist", null);
    return trunks;
  }

  #written(
    page: number,
    { dirty, staged }: Pick<ConcurrentWrites, "dirty" | "staged">,
  ): Uint8Array | null {
    const bytes = dirty.get(page);
    if (bytes !== undefined) return bytes;
    const place = staged.get(page);
    return place === undefined ? null : this.snapshot.view.context.readChunkPage(place);
  }

  #accessed({ dirty }: ConcurrentWrites): AccessedPages {
    const { reads, snapshot } = this;
    const { pageSize } = snapshot.view.context;
    return {
      pageSize,
      page: (number) => {
        const written = dirty.get(number);
        if (written !== undefined) return written;
        return reads.has(number) && number <= snapshot.pageCount ? snapshot.peek(number) : null;
      },
    };
  }

  /** As of the snapshot: SQLite may know the schema from earlier, without having read its pages now. */
  #schema(): SchemaRoots {
    const { snapshot } = this;
    const { pageSize } = snapshot.view.context;
    return schemaRoots({
      pageSize,
      page: (number) => (number <= snapshot.pageCount ? snapshot.peek(number) : null),
    });
  }

  #tableOf(page: number, writes: ConcurrentWrites): string | null {
    if (writes.staged.size > 0) return null;
    return tableOfPage(this.#accessed(writes), page, {
      snapshotPageCount: this.snapshot.pageCount,
      pageCount: writes.pageCount,
      schema: this.#schema(),
    });
  }

  #conflict(what: string, object: string | null): ConflictError {
    const changed = object === null ? what : `"${object}" (${what})`;
    return this.#failure(`another transaction has changed ${changed}`, object);
  }

  #failure(what: string, object: string | null = null): ConflictError {
    return new ConflictError(
      `Cannot commit to "${this.#name}": ${what} since this transaction began; run it again`,
      object,
    );
  }
}

const NO_PAGES: ReadonlySet<number> = new Set();
