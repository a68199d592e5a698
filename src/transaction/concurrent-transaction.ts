/**
 * An optimistic transaction (BEGIN CONCURRENT) on one timeline: it takes no lock, remembers what it read, and is compared at its
 * commit with what others have committed since it began.
 *
 *   reading, writing --commit, head as at the beginning--> committed
 *                    --commit, others came, nothing of theirs was read or written--> merged onto the head --> committed
 *                    --commit, else--> ConflictError
 *
 * K1. `reads` has every page that SQLite knows of: its cache was empty when the transaction began, because page 1 was shown
 *     with a change counter that it had never seen.
 * K2. A transaction commits only if none of the pages that it read, wrote or freed was changed by a commit after its snapshot.
 *     So it reads and writes the same at its place in the order of commits: serializable.
 * K3. Page 1 is excepted, and compared by its fields (page-one.ts). A change of the schema conflicts with all others.
 * K4. New pages are moved behind the head's last page with every pointer to them (src/btree). Where that is not certain, it is
 *     a conflict.
 * K5. While others run it is shown an empty freelist: it takes new pages from the end of the file, and what it frees is put in
 *     front of the head's freelist. So two transactions do not meet there.
 */
import { randomInt } from "node:crypto";
import type { AccessedPages } from "../btree/accessed-pages.ts";
import { tableOfPage } from "../btree/classify-pages.ts";
import { readUint32, writeUint32 } from "../btree/file-layout.ts";
import { renumberPages } from "../btree/renumber-pages.ts";
import { schemaRoots, type SchemaRoots } from "../btree/schema-roots.ts";
import { PagePlaces } from "../page/page-places.ts";
import type { WriteSet } from "./commit-pipeline.ts";
import { ConflictError } from "./conflict.ts";
import { freelistOf, hideFreelist, mergePageOne } from "./page-one.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Timeline } from "./timeline.ts";

const CHANGE_COUNTER = 24;
const VERSION_VALID_FOR = 92;
const LARGEST_ROOT = 52;
/** Of a trunk of the freelist: where its leaves are counted, and begin. */
const TRUNK_COUNT = 4;
const TRUNK_LEAVES = 8;

/** What the transaction has written when it commits. */
export interface ConcurrentWrites {
  readonly dirty: ReadonlyMap<number, Uint8Array>;
  readonly staged: PagePlaces;
  readonly pageCount: number;
  readonly keptPageCount: number;
}

export class ConcurrentTransaction {
  readonly timeline: Timeline;
  readonly snapshot: Snapshot;
  /** K1. */
  readonly reads: Set<number> = new Set();
  /** What page 1 is shown with at its change counter. */
  readonly shownCounter: number;
  /** K5. */
  readonly #isFreelistHidden: boolean;
  readonly #name: string;
  #isEnded = false;

  constructor(timeline: Timeline, snapshot: Snapshot, name: string) {
    this.timeline = timeline;
    this.snapshot = snapshot;
    this.#name = name;
    this.shownCounter = randomInt(1, 0xffff_ffff);
    this.#isFreelistHidden = timeline.beginConcurrent() > 1;
  }

  /** Changes the bytes of page 1 that begin at `at` into what the transaction is shown. */
  disguise(bytes: Uint8Array, at: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset + at);
    view.setUint32(CHANGE_COUNTER, this.shownCounter);
    view.setUint32(VERSION_VALID_FOR, this.shownCounter);
    if (this.#isFreelistHidden) hideFreelist(bytes, at);
  }

  /** Idempotent. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.timeline.endConcurrent();
  }

  /** What is to be committed on top of the head. Throws ConflictError. */
  merge(writes: ConcurrentWrites): WriteSet {
    const { timeline, snapshot } = this;
    const { head } = timeline;
    const isMoved = head.version !== snapshot.version;
    if (isMoved) this.#validate(writes);
    const grows = writes.pageCount > snapshot.pageCount;
    const isGrown = head.pageCount > snapshot.pageCount;
    if (isMoved && head.pageCount < snapshot.pageCount) throw this.#conflict("its size", null);
    if (isMoved && writes.pageCount < snapshot.pageCount && head.pageCount !== snapshot.pageCount)
      throw this.#conflict("its size", null);
    if (snapshot.pageCount === 0) {
      if (isMoved) throw this.#conflict("its first page", null);
      return this.#withPageOne(writes.dirty, writes, { pageCount: writes.pageCount, lastTrunk: 0 });
    }
    if (isMoved && grows && isGrown) return this.#behindHead(writes);
    const pageCount = Math.max(writes.pageCount, isMoved ? head.pageCount : 0);
    const lastTrunk = this.#isFreelistOwn() ? lastTrunkOf(writes.dirty) : 0;
    return this.#withPageOne(writes.dirty, writes, { pageCount, lastTrunk });
  }

  /** K2. */
  #validate(writes: ConcurrentWrites): void {
    const { reads, timeline, snapshot } = this;
    const { dirty, staged } = writes;
    const freed = this.#isFreelistOwn() ? freedPages(dirty) : NO_PAGES;
    for (const { version, pages } of timeline.recentCommits()) {
      if (version <= snapshot.version) continue;
      for (const page of pages) {
        // Pages behind the snapshot's last one are new for both, and other pages (K4).
        if (page === 1 || page > snapshot.pageCount) continue;
        if (reads.has(page) || dirty.has(page) || freed.has(page) || staged.has(page))
          throw this.#conflict(`page ${page}`, this.#tableOf(page, writes));
      }
    }
  }

  /** K4. */
  #behindHead(writes: ConcurrentWrites): WriteSet {
    const { snapshot, timeline } = this;
    const pageOne = writes.dirty.get(1);
    if (writes.staged.size > 0 || pageOne === undefined)
      throw this.#conflict("its size, and this transaction is too large to be moved", null);
    if (readUint32(pageOne, LARGEST_ROOT) !== 0)
      throw this.#conflict("its size, and with auto_vacuum pages cannot be moved", null);
    const renumbered = renumberPages(this.#accessed(writes), {
      dirty: writes.dirty.keys(),
      snapshotPageCount: snapshot.pageCount,
      pageCount: writes.pageCount,
      headPageCount: timeline.head.pageCount,
      schema: this.#schema(),
    });
    if (renumbered.refused !== null)
      throw this.#conflict(`its size, and new pages cannot be moved (${renumbered.refused})`, null);
    const { pages, pageCount, lastTrunk } = renumbered;
    const dirty = new Map<number, Uint8Array>();
    for (const [page, bytes] of writes.dirty)
      if (page <= snapshot.pageCount) dirty.set(page, bytes);
    for (const [page, bytes] of pages) dirty.set(page, bytes);
    return this.#withPageOne(dirty, writes, {
      pageCount,
      lastTrunk: this.#isFreelistOwn() ? lastTrunk : 0,
    });
  }

  #withPageOne(
    dirty: ReadonlyMap<number, Uint8Array>,
    { staged, keptPageCount }: ConcurrentWrites,
    { pageCount, lastTrunk }: { pageCount: number; lastTrunk: number },
  ): WriteSet {
    const { snapshot, timeline } = this;
    const { head } = timeline;
    const ours = dirty.get(1);
    const isMoved = head.version !== snapshot.version;
    const kept = isMoved ? head.pageCount : Math.min(keptPageCount, pageCount);
    const merged = new Map(dirty);
    if (ours !== undefined) {
      const base = snapshot.pageCount === 0 ? new Uint8Array(ours.length) : snapshot.page(1);
      const theirs = isMoved ? head.page(1) : base;
      const isFreelistOwn = this.#isFreelistOwn();
      const result = mergePageOne({ base, ours, theirs, pageCount, isFreelistOwn });
      if ("conflict" in result) throw this.#conflict(`its ${result.conflict}`, null);
      merged.set(1, result.page);
      if (result.nextTrunk !== 0) {
        const trunk = merged.get(lastTrunk);
        if (trunk === undefined) throw this.#conflict("its freelist", null);
        const linked = new Uint8Array(trunk);
        writeUint32(linked, 0, result.nextTrunk);
        merged.set(lastTrunk, linked);
      }
    }
    return { timeline, snapshot: head, pageCount, keptPageCount: kept, dirty: merged, staged };
  }

  #isFreelistOwn(): boolean {
    const { snapshot } = this;
    if (this.#isFreelistHidden || snapshot.pageCount === 0) return true;
    return freelistOf(snapshot.page(1)).count === 0;
  }

  #accessed({ dirty }: ConcurrentWrites): AccessedPages {
    const { reads, snapshot } = this;
    const { pageSize } = snapshot.view.context;
    return {
      pageSize,
      page: (number) => {
        const written = dirty.get(number);
        if (written !== undefined) return written;
        return reads.has(number) && number <= snapshot.pageCount ? snapshot.page(number) : null;
      },
    };
  }

  /** As of the snapshot: SQLite may know the schema from earlier, without having read its pages now. */
  #schema(): SchemaRoots {
    const { snapshot } = this;
    const { pageSize } = snapshot.view.context;
    return schemaRoots({
      pageSize,
      page: (number) => (number <= snapshot.pageCount ? snapshot.page(number) : null),
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
    const changed = object === null ? what : `${object} (${what})`;
    return new ConflictError(
      `Cannot commit to "${this.#name}": another transaction has changed ${changed} since this one began; run it again`,
      object,
    );
  }
}

const NO_PAGES: ReadonlySet<number> = new Set();

/** The pages on the freelist that the transaction has made by itself, and its trunks. */
function freedPages(dirty: ReadonlyMap<number, Uint8Array>): ReadonlySet<number> {
  const freed = new Set<number>();
  for (const [trunk, bytes] of ownTrunks(dirty)) {
    freed.add(trunk);
    const count = readUint32(bytes, TRUNK_COUNT);
    for (let index = 0; index < count && TRUNK_LEAVES + 4 * index + 4 <= bytes.length; index++)
      freed.add(readUint32(bytes, TRUNK_LEAVES + 4 * index));
  }
  return freed;
}

function lastTrunkOf(dirty: ReadonlyMap<number, Uint8Array>): number {
  let last = 0;
  for (const [trunk] of ownTrunks(dirty)) last = trunk;
  return last;
}

/** From the first, as page 1 names it, on; ends where it leaves what was written. */
function* ownTrunks(dirty: ReadonlyMap<number, Uint8Array>): Generator<[number, Uint8Array]> {
  const pageOne = dirty.get(1);
  if (pageOne === undefined) return;
  let { trunk } = freelistOf(pageOne);
  for (let steps = 0; trunk !== 0 && steps <= dirty.size; steps++) {
    const bytes = dirty.get(trunk);
    if (bytes === undefined) return;
    yield [trunk, bytes];
    trunk = readUint32(bytes, 0);
  }
}
