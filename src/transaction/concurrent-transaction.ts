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
 */
import { invariant } from "../errors.ts";
import type { AccessedPages } from "../btree/accessed-pages.ts";
import { tableOfPage } from "../btree/classify-pages.ts";
import {
  fileLayout,
  isPointerMap,
  readUint32,
  writeUint32,
  type FileLayout,
} from "../btree/file-layout.ts";
import { renumberPages } from "../btree/renumber-pages.ts";
import { schemaRoots, type SchemaRoots } from "../btree/schema-roots.ts";
import type { PagePlaces } from "../page/page-places.ts";
import type { WriteSet } from "./commit-pipeline.ts";
import { ConflictError } from "./conflict.ts";
import { freelistOf, hideFreelist, mergePageOne } from "./page-one.ts";
import { ReadSet } from "./read-set.ts";
import type { Comparable } from "./recent-commits.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Timeline } from "./timeline.ts";

/** Of a trunk of the freelist: where its leaves are counted, and begin. */
const TRUNK_COUNT = 4;
const TRUNK_LEAVES = 8;

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
    this.#isFreelistHidden ??= this.timeline.recent.runningCount > 1 && this.#hasFreelistToHide();
    if (this.#isFreelistHidden) hideFreelist(bytes, at);
    return this.#isFreelistHidden;
  }

  /** Idempotent. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.timeline.recent.end(this);
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
    const isGrown = head.pageCount > snapshot.pageCount;
    const hasPointerMaps = layout !== null && layout.pointerMapInterval > 0;
    if (isMoved && (hasPointerMaps || (isGrown && pageCount > snapshot.pageCount)))
      return this.#renumbered(writes);
    const dirty = new Map<number, Uint8Array>();
    for (const [page, bytes] of writes.dirty) if (page <= pageCount) dirty.set(page, bytes);
    this.#mergePageOne(dirty, writes.staged, {
      pageCount: isMoved ? Math.max(pageCount, head.pageCount) : pageCount,
      lastTrunk: this.#isFreelistOwn() ? this.#lastTrunk(writes) : 0,
    });
    return { writeSet: this.#writeSet(dirty, writes), ownPages: null };
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
  #renumbered(writes: ConcurrentWrites): MergedWrites {
    const { snapshot, timeline } = this;
    const { head } = timeline;
    if (writes.staged.size > 0)
      throw this.#conflict("its size, and this transaction is too large to be moved", null);
    const renumbered = renumberPages(this.#accessed(writes), {
      dirty: writes.dirty.keys(),
      snapshotPageCount: snapshot.pageCount,
      pageCount: writes.pageCount,
      headPageCount: head.pageCount,
      schema: this.#schema(),
      pointerMaps: {
        snapshot: (number) => snapshot.peek(number),
        head: (number) => head.peek(number),
      },
    });
    if (renumbered.refused !== null) {
      const { refused, numbers } = renumbered;
      const why = numbers.length === 0 ? refused : `${refused}: ${numbers.slice(0, 8).join(", ")}`;
      throw this.#conflict(`its size, and new pages cannot be moved (${why})`, null);
    }
    const { pages, pageCount, lastTrunk } = renumbered;
    const dirty = new Map<number, Uint8Array>();
    const ownPages = new Map<number, Uint8Array>();
    for (const [page, bytes] of writes.dirty) {
      if (page > writes.pageCount) continue;
      ownPages.set(page, new Uint8Array(bytes));
      if (page <= snapshot.pageCount) dirty.set(page, bytes);
    }
    for (const [page, bytes] of pages) dirty.set(page, bytes);
    this.#mergePageOne(dirty, writes.staged, {
      pageCount,
      lastTrunk: this.#isFreelistOwn() ? lastTrunk : 0,
    });
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

  /** Puts page 1 as it is stored into `dirty`, and with it the end of the transaction's own freelist. */
  #mergePageOne(
    dirty: Map<number, Uint8Array>,
    staged: PagePlaces,
    { pageCount, lastTrunk }: { pageCount: number; lastTrunk: number },
  ): void {
    const { snapshot, timeline } = this;
    const { head } = timeline;
    const ours = dirty.get(1);
    invariant(ours !== undefined, "Every commit writes page 1");
    const base = this.pageOne;
    const theirs = head.version === snapshot.version ? base : head.peek(1);
    const isFreelistOwn = this.#isFreelistOwn();
    const result = mergePageOne({ base, ours, theirs, pageCount, isFreelistOwn });
    if ("conflict" in result) throw this.#conflict(`its ${result.conflict}`, null);
    dirty.set(1, result.page);
    if (result.nextTrunk === 0) return;
    const trunk = this.#written(lastTrunk, { dirty, staged });
    if (trunk === null) throw this.#conflict("its freelist", null);
    const linked = new Uint8Array(trunk);
    writeUint32(linked, 0, result.nextTrunk);
    dirty.set(lastTrunk, linked);
  }

  #hasFreelistToHide(): boolean {
    const layout = this.#layout();
    if (layout === null || layout.pointerMapInterval > 0) return false;
    return freelistOf(this.pageOne).count > 0;
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
      const count = readUint32(bytes, TRUNK_COUNT);
      for (let index = 0; index < count && TRUNK_LEAVES + 4 * index + 4 <= bytes.length; index++)
        freed.add(readUint32(bytes, TRUNK_LEAVES + 4 * index));
    }
    return freed;
  }

  #lastTrunk(writes: ConcurrentWrites): number {
    let last = 0;
    for (const [trunk] of this.#ownTrunks(writes)) last = trunk;
    return last;
  }

  /** From the first, as page 1 names it, to the last: all of them were written. */
  *#ownTrunks(writes: ConcurrentWrites): Generator<[number, Uint8Array]> {
    let { trunk } = freelistOf(writes.dirty.get(1)!);
    for (let steps = writes.dirty.size + writes.staged.size; trunk !== 0; steps--) {
      const bytes = steps === 0 ? null : this.#written(trunk, writes);
      if (bytes === null) throw this.#conflict("its freelist", null);
      yield [trunk, bytes];
      trunk = readUint32(bytes, 0);
    }
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
