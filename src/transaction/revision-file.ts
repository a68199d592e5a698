/**
 * One revision as SQLite sees it: a database file with locks. Each connection, and each ATTACH, has its own.
 *
 *   NONE --SHARED--> reading (the head becomes the snapshot) --RESERVED--> writing (alone on the timeline)
 *   writing --SYNC--> prepared (in the log) --COMMIT_PHASETWO--> reading the new head --NONE-->
 *
 * F1. Between taking SHARED and releasing it a file reads one snapshot plus its own writes, whatever others commit.
 * F2. RESERVED is given only on the newest snapshot; else SQLITE_BUSY_SNAPSHOT, so that no update is lost.
 * F3. SQLite keeps its page cache between transactions if 16 bytes at offset 24 of page 1 stay what it last saw. What it
 *     saw is tracked, and the same bytes are shown only while the snapshot is the same commit. (Change counters cannot
 *     do that: after a reset or on another branch an equal counter can mean other content.)
 * F4. SYNC is also sent when a rollback has written pages back. Only a commit changes the change counter at offset 24,
 *     so that tells them apart.
 * F5. A commit has the pages that page 1 counts: SQLite truncates the file only after SYNC.
 * F6. SQLite keeps its parsed schema while the schema cookie of page 1 stays what it last saw. A reset and an import put
 *     another schema under a cookie that may be equal, so from then on this file adds a number to the cookie that it
 *     shows, and takes it off again of what is written. Commits of SQLite itself change the cookie with the schema.
 */
import { invariant } from "../errors.ts";
import type { ChunkReference } from "../page/chunk-handle.ts";
import { PagePlaces } from "../page/page-places.ts";
import type { VfsFile } from "../sqlite/vfs.ts";
import { ChildPrefetch } from "./child-prefetch.ts";
import type { CommitPipeline, Durability, PreparedCommit, WriteSet } from "./commit-pipeline.ts";
import { ConcurrentTransaction, type MergedWrites } from "./concurrent-transaction.ts";
import { type ConnectionContext, parseSynchronous } from "./connection-context.ts";
import { fullError, readOnlyError, type RevisionTarget } from "./revision-target.ts";
import type { PageBuffers } from "./page-buffers.ts";
import { pageSizeOf } from "./page-one.ts";
import { lockPageNumber, type Snapshot } from "./snapshot.ts";
import { ShownPageOne, STAMP_OFFSET, STAMP_SIZE } from "./shown-page-one.ts";
import type { PageHolder, Tracer } from "./tracer.ts";
import { refuseMoving, type Timeline } from "./timeline.ts";

const SQLITE_OK = 0;
const SQLITE_BUSY = 5;
const SQLITE_BUSY_SNAPSHOT = 517;
const SQLITE_IOERR_SHORT_READ = 522;

const LOCK_NONE = 0;
const LOCK_SHARED = 1;
const LOCK_RESERVED = 2;
const LOCK_EXCLUSIVE = 4;

/** Of page 1: the number of pages, big-endian. */
const PAGE_COUNT_OFFSET = 28;
/** SQLITE_IOCAP_ATOMIC | SAFE_APPEND | SEQUENTIAL | POWERSAFE_OVERWRITE: a commit is one log record. */
const DEVICE_CHARACTERISTICS = 0x1 | 0x200 | 0x400 | 0x1000;

/** Puts pages of a large transaction into chunks before it commits. */
export interface PageStager {
  stage(pages: ReadonlyMap<number, Uint8Array>, pageSize: number): Map<number, ChunkReference>;
}

export interface RevisionFileOptions {
  readonly target: RevisionTarget;
  readonly context: ConnectionContext;
  readonly pipeline: CommitPipeline;
  readonly stager: PageStager;
  /** A transaction that holds more than this in memory puts its pages into chunks. */
  readonly dirtyBytesMax: number;
  /** The pages may be in object storage: what a scan will need is fetched ahead. */
  readonly readsAhead?: boolean;
  /** SQLite is to know that it cannot be written. */
  readonly isReadOnly?: boolean;
  readonly onClose: () => void;
}

export class RevisionFile implements VfsFile, PageHolder {
  readonly deviceCharacteristics: number = DEVICE_CHARACTERISTICS;
  readonly sectorSize: number = 4096;
  readonly pageSize: number;
  readonly target: RevisionTarget;
  readonly #options: RevisionFileOptions;
  #lockLevel = LOCK_NONE;
  #snapshot: Snapshot | null = null;
  /** The timeline written to; set while RESERVED or more is held. */
  #timeline: Timeline | null = null;
  readonly #dirty: Map<number, Uint8Array> = new Map();
  #staged: PagePlaces = new PagePlaces();
  readonly #buffers: PageBuffers;
  #pageCount = 0;
  #keptPageCount = 0;
  #prepared: PreparedCommit | null = null;
  /** Prepared by another file of the same transaction that shares its record. */
  #isStagedForCommit = false;
  /** The optimistic transaction that this file is in; see concurrent-transaction.ts. */
  #concurrent: ConcurrentTransaction | null = null;
  /** What it commits, on top of the head; null when it commits what it wrote. */
  #merged: MergedWrites | null = null;
  /** What it has left for statements that go on reading from its snapshot. */
  #retained: RetainedPages | null = null;
  readonly #shown: ShownPageOne = new ShownPageOne();
  /** What was read last; null before the first read. */
  #followed: Timeline | null = null;
  /** Null where all is local. */
  readonly #children: ChildPrefetch | null;

  constructor(options: RevisionFileOptions) {
    this.#options = options;
    this.target = options.target;
    this.pageSize = options.target.pageSize;
    this.#buffers = options.pipeline.buffers(this.pageSize);
    this.#children = options.readsAhead === true ? new ChildPrefetch() : null;
    options.context.files.add(this);
    if (options.target.isFixed) this.#noteSeen(options.pipeline.lastLsn);
  }

  /** Whether a transaction goes on here that cannot write behind another one's commit. */
  get isBound(): boolean {
    return this.#lockLevel > LOCK_NONE && this.#concurrent === null;
  }

  get readOnlyError(): Error | null {
    const isReadOnly = this.target.isFixed || this.#options.isReadOnly === true;
    return isReadOnly ? readOnlyError(this.target) : null;
  }

  /** The snapshot being read, or the one that a read would take now. */
  get snapshot(): Snapshot {
    return this.#snapshot ?? this.target.head();
  }

  read(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    const { pageSize } = this;
    if (offset === STAMP_OFFSET && length === STAMP_SIZE) return this.#readStamp(heap, pointer);
    const page = offset / pageSize + 1;
    if (length === pageSize && Number.isInteger(page)) {
      const bytes = this.#page(page);
      if (this.#concurrent !== null) this.#concurrent.reads.add(page);
      if (bytes === null) {
        heap.fill(0, pointer, pointer + length);
        return page <= this.#currentPageCount() ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
      }
      heap.set(bytes, pointer);
      if (this.#children !== null) this.#children.noteRead(page, bytes);
      if (page === 1) this.#showPageOne(heap, pointer);
      return SQLITE_OK;
    }
    return this.#readRange(heap, pointer, length, offset);
  }

  write(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    invariant(this.#lockLevel >= LOCK_RESERVED, "A write happens under a write lock");
    const page = offset / this.pageSize + 1;
    invariant(
      length === this.pageSize && Number.isInteger(page),
      `SQLite writes whole pages, not ${length} bytes at ${offset}`,
    );
    if (page > this.#pageCount) this.#requireRoom(page);
    const known = this.#dirty.get(page);
    if (known === undefined) this.#dirty.set(page, this.#buffers.copy(heap, pointer));
    else known.set(heap.subarray(pointer, pointer + length));
    if (page > this.#pageCount) this.#pageCount = page;
    if (page === 1) this.#shown.written(heap, pointer, this.#dirty.get(1)!);
    if (this.#dirty.size * this.pageSize > this.#options.dirtyBytesMax) this.#stage();
    return SQLITE_OK;
  }

  /** A branch that is larger already may still be changed. */
  #requireRoom(page: number): void {
    const { branchBytesMax } = this.#options.context;
    if (page * this.pageSize <= branchBytesMax || page <= this.snapshot.pageCount) return;
    throw fullError(this.target, branchBytesMax);
  }

  noteMiss(offset: number): void {
    const snapshot = this.#snapshot;
    if (this.#children === null || snapshot === null) return;
    this.#children.noteMiss(Math.floor(offset / this.pageSize) + 1, snapshot);
  }

  truncate(size: number): number {
    const pageCount = size / this.pageSize;
    invariant(Number.isInteger(pageCount), `A database is whole pages, not ${size} bytes`);
    this.#pageCount = pageCount;
    this.#keptPageCount = Math.min(this.#keptPageCount, pageCount);
    for (const [page, buffer] of this.#dirty) {
      if (page <= pageCount) continue;
      this.#dirty.delete(page);
      this.#buffers.give(buffer);
    }
    if (this.#staged.size > 0) this.#staged.truncate(pageCount);
    return SQLITE_OK;
  }

  sync(): number {
    return SQLITE_OK; // The log was made durable in prepareCommit.
  }

  size(): number {
    return this.#currentPageCount() * this.pageSize;
  }

  lock(level: number): number {
    if (level <= this.#lockLevel) return SQLITE_OK;
    if (this.#lockLevel === LOCK_NONE) {
      const timeline = this.target.timeline();
      this.#snapshot = timeline === null ? this.target.head() : timeline.head;
      if (timeline !== null) this.#follow(timeline);
      this.#lockLevel = LOCK_SHARED;
      if (this.#options.context.isConcurrent && timeline !== null) this.#beginConcurrent(timeline);
    }
    if (level >= LOCK_EXCLUSIVE && this.#concurrent !== null && this.#isBlocked(this.#concurrent))
      return SQLITE_BUSY;
    if (level >= LOCK_RESERVED && this.#lockLevel < LOCK_RESERVED) {
      const code = this.#lockReserved();
      if (code !== SQLITE_OK) return code;
    }
    this.#lockLevel = level;
    return SQLITE_OK;
  }

  #follow(timeline: Timeline): void {
    const { context, pipeline } = this.#options;
    const isNew = timeline !== this.#followed;
    this.#followed = timeline;
    this.#shown.follow(timeline.lineage);
    // What a reset shows, or the opening of the store, was durable in the log before, but perhaps not uploaded.
    this.#noteSeen(isNew && context.awaitsUpload ? pipeline.lastLsn : timeline.headLsn);
  }

  #noteSeen(lsn: number): void {
    const { context } = this.#options;
    if (lsn > context.seenLsn) context.seenLsn = lsn;
  }

  unlock(level: number): number {
    if (this.#lockLevel >= LOCK_RESERVED && level < LOCK_RESERVED) this.#endWrite();
    if (level === LOCK_NONE) {
      this.#snapshot = null;
      this.#retained = null;
      this.#endConcurrent();
    }
    this.#lockLevel = Math.min(this.#lockLevel, level);
    return SQLITE_OK;
  }

  isReserved(): boolean {
    const timeline = this.target.timeline();
    return timeline !== null && timeline.writer !== null;
  }

  prepareCommit(): number {
    if (!this.#isCommit()) return SQLITE_OK; // F4
    const { context, pipeline } = this.#options;
    invariant(this.#prepared === null, "A transaction is prepared once");
    this.#requirePageSize();
    if (this.#concurrent !== null) this.#joinHead(this.#concurrent);
    for (const file of context.files) {
      if (file !== this && file.#lockLevel >= LOCK_RESERVED) {
        // Other files of this transaction may follow: they go into one record, at the first COMMIT_PHASETWO (P2).
        this.#isStagedForCommit = true;
        return SQLITE_OK;
      }
    }
    this.#prepared = pipeline.prepare(
      [this.#writeSet()],
      this.#durability(),
      context.transactionId,
    );
    return SQLITE_OK;
  }

  /** What page 1 says of the size of pages is what they have: a database whose pages have another one is not readable. */
  #requirePageSize(): void {
    const first = this.#dirty.get(1);
    if (first === undefined) return;
    const pageSize = pageSizeOf(first);
    invariant(
      pageSize === this.pageSize,
      `A database keeps its page size: ${this.pageSize} bytes, not ${pageSize}`,
    );
  }

  #beginConcurrent(timeline: Timeline): void {
    if (this.target.readOnlyReason !== null || this.#snapshot === null) return;
    const { database, branch } = this.target;
    this.#concurrent = new ConcurrentTransaction(timeline, this.#snapshot, `${database}/${branch}`);
  }

  #endConcurrent(): void {
    this.#concurrent?.end();
    this.#concurrent = null;
    this.#merged = null;
  }

  /** Whether a transaction holds the write lock. */
  #isBlocked({ timeline }: ConcurrentTransaction): boolean {
    if (timeline.writer === null || timeline.writer === this) return false;
    this.#options.context.blockedOn = timeline;
    return true;
  }

  /**
   * Compares the transaction with what was committed since it began, and keeps others from committing until it has: files of
   * the same transaction may still have to wait for pages. Throws ConflictError.
   */
  #joinHead(transaction: ConcurrentTransaction): void {
    const { timeline } = transaction;
    transaction.requireBranch(this.target.timeline());
    if (this.#isBlocked(transaction)) throw transaction.lockedError();
    if (!transaction.isOnHead)
      this.#merged = transaction.merge({
        dirty: this.#dirty,
        staged: this.#staged,
        pageCount: this.#committedPageCount(),
      });
    timeline.writer = this;
  }

  commitPhaseTwo(): number {
    const { context, pipeline } = this.#options;
    if (this.#isStagedForCommit) {
      const files = [...context.files].filter((file) => file.#isStagedForCommit);
      const prepared = pipeline.prepare(
        files.map((file) => file.#writeSet()),
        this.#durability(),
        context.transactionId,
      );
      pipeline.publish(prepared);
      files.forEach((file, index) => file.#committed(prepared, index));
      this.#confirm(prepared);
      return SQLITE_OK;
    }
    if (this.#prepared === null) return SQLITE_OK;
    const prepared = this.#prepared;
    this.#prepared = null;
    pipeline.publish(prepared);
    this.#committed(prepared, 0);
    this.#confirm(prepared);
    return SQLITE_OK;
  }

  #confirm({ lsn }: PreparedCommit): void {
    const { context } = this.#options;
    if (context.afterCommit !== null && !context.isDeferred) context.afterCommit(lsn);
  }

  pragma(name: string, value: string | null): string | null {
    const { context } = this.#options;
    switch (name) {
      case "journal_mode":
        return "wal"; // Readers keep their snapshot while one writer commits: that is what WAL promises.
      case "locking_mode":
        return "normal";
      case "synchronous":
        // SQLite keeps the setting and answers, but refuses to change it in a transaction.
        if (value !== null && this.#lockLevel === LOCK_NONE)
          context.durability = parseSynchronous(value);
        return null;
      case "page_size":
        return value === null ? null : ""; // Fixed when the database is created.
      default:
        return null;
    }
  }

  /** What is read now, or by later transactions of a fixed revision, and what a large transaction has put away. */
  trace(tracer: Tracer): void {
    const { target } = this;
    const snapshot = this.#snapshot ?? (target.isFixed ? target.head() : null);
    snapshot?.view.trace(tracer);
    this.#retained?.view?.trace(tracer);
    if (this.#staged.size > 0) tracer.places(this.#staged);
  }

  heldContext(): object | null {
    const { target } = this;
    const snapshot = this.#snapshot ?? (target.isFixed ? target.head() : null);
    return snapshot?.view.context ?? null;
  }

  close(): void {
    this.unlock(LOCK_NONE);
    this.#options.context.files.delete(this);
    this.#options.onClose();
  }

  #durability(): Durability | "deferred" {
    const { context } = this.#options;
    return context.isDeferred ? "deferred" : context.durability;
  }

  #currentPageCount(): number {
    return this.#lockLevel >= LOCK_RESERVED ? this.#pageCount : this.snapshot.pageCount;
  }

  /**
   * Null for pages that hold nothing: past the end, new and not written yet, or the lock page. Valid until the next
   * write or commit: callers copy what they need at once.
   */
  #page(page: number): Uint8Array | null {
    if (this.#lockLevel < LOCK_RESERVED) {
      const retained = this.#retained?.page(page) ?? null;
      if (retained !== null) return retained;
      const snapshot = this.#snapshot ?? this.target.head();
      if (page > snapshot.pageCount || page === lockPageNumber(this.pageSize)) return null;
      return snapshot.peek(page);
    }
    const dirty = this.#dirty.get(page);
    if (dirty !== undefined) return dirty;
    const snapshot = this.#snapshot;
    invariant(snapshot !== null, "A writer has a snapshot");
    const staged = this.#staged.get(page);
    if (staged !== undefined) return snapshot.view.context.readChunkPage(staged);
    if (page > this.#keptPageCount || page === lockPageNumber(this.pageSize)) return null;
    return snapshot.peek(page);
  }

  #readRange(heap: Uint8Array, pointer: number, length: number, offset: number): number {
    const { pageSize } = this;
    const size = this.size();
    heap.fill(0, pointer, pointer + length);
    const end = Math.min(offset + length, size);
    for (let position = offset; position < end;) {
      const within = position % pageSize;
      const count = Math.min(pageSize - within, end - position);
      const bytes = this.#page((position - within) / pageSize + 1);
      if (bytes !== null)
        heap.set(bytes.subarray(within, within + count), pointer + position - offset);
      position += count;
    }
    return end === offset + length ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
  }

  #readStamp(heap: Uint8Array, pointer: number): number {
    // K1 in concurrent-transaction.ts.
    if (this.#concurrent === null && this.#shown.confirm(this.snapshot.version, heap, pointer))
      return SQLITE_OK;
    const page = this.#page(1);
    if (page === null) {
      heap.fill(0, pointer, pointer + STAMP_SIZE);
      return SQLITE_IOERR_SHORT_READ;
    }
    // Another commit than the one that SQLite's cache holds must not look the same (F3).
    this.#shown.refute(page, heap, pointer);
    return SQLITE_OK;
  }

  #showPageOne(heap: Uint8Array, pointer: number): void {
    const isDirty = this.#dirty.has(1);
    const isDisguised = !isDirty && (this.#concurrent?.disguise(heap, pointer) ?? false);
    const isStored = !isDirty && !isDisguised && this.#retained === null;
    this.#shown.read(heap, pointer, isStored ? this.snapshot.version : null);
  }

  #lockReserved(): number {
    const snapshot = this.#snapshot;
    invariant(snapshot !== null, "RESERVED follows SHARED");
    const { readOnlyReason } = this.target;
    const timeline = this.target.timeline();
    if (readOnlyReason !== null || timeline === null) throw readOnlyError(this.target);
    refuseMoving(timeline.database);
    if (this.#concurrent !== null) {
      this.#timeline = this.#concurrent.timeline;
      this.#pageCount = snapshot.pageCount;
      this.#keptPageCount = snapshot.pageCount;
      return SQLITE_OK;
    }
    const { context } = this.#options;
    if (timeline.writer !== null || (context.isAwaited && !timeline.isFreeFor(context))) {
      context.blockedOn = timeline;
      return SQLITE_BUSY;
    }
    if (timeline.row.id !== snapshot.timelineId || timeline.head.version !== snapshot.version)
      return SQLITE_BUSY_SNAPSHOT; // F2
    timeline.writer = this;
    this.#timeline = timeline;
    this.#pageCount = snapshot.pageCount;
    this.#keptPageCount = snapshot.pageCount;
    return SQLITE_OK;
  }

  #endWrite(): void {
    invariant(this.#prepared === null, "A commit in the log is published before the lock goes");
    if (this.#timeline?.writer === this) this.#timeline.writer = null;
    this.#timeline = null;
    this.#isStagedForCommit = false;
    this.#merged = null;
    if (this.#dirty.size > 0) {
      this.#buffers.giveAll(this.#dirty.values()); // Of a transaction that did not commit: nobody else has seen them.
      this.#dirty.clear();
    }
    if (this.#staged.size > 0) this.#staged.clear(); // Clearing an empty map makes it a new table.
  }

  #isCommit(): boolean {
    const page = this.#dirty.get(1);
    const snapshot = this.#snapshot;
    if (page === undefined || snapshot === null) return false;
    if (snapshot.pageCount === 0) return true;
    const before = this.#concurrent?.keptPageOne ?? snapshot.peek(1);
    for (let offset = STAMP_OFFSET; offset < STAMP_OFFSET + 4; offset++)
      if (page[offset] !== before[offset]) return true;
    return false;
  }

  #writeSet(): WriteSet {
    if (this.#merged !== null) return this.#merged.writeSet;
    invariant(this.#timeline !== null && this.#snapshot !== null, "A writer has a timeline");
    const pageCount = this.#committedPageCount();
    return {
      timeline: this.#timeline,
      snapshot: this.#snapshot,
      pageCount,
      keptPageCount: Math.min(this.#keptPageCount, pageCount),
      dirty: this.#dirty,
      staged: this.#staged,
    };
  }

  /** SQLite truncates the file after SYNC, so a shrunk database shows only in the size that page 1 says (F5). */
  #committedPageCount(): number {
    const page = this.#page(1);
    if (page === null) return this.#pageCount;
    const at = PAGE_COUNT_OFFSET;
    const high = page[at]! * 0x1000000;
    const size = high + ((page[at + 1]! << 16) | (page[at + 2]! << 8) | page[at + 3]!);
    return size === 0 ? this.#pageCount : Math.min(this.#pageCount, size);
  }

  #committed(prepared: PreparedCommit, part: number): void {
    const { context } = this.#options;
    invariant(this.#timeline !== null, "A commit has a timeline");
    const { head } = this.#timeline;
    invariant(head.version === prepared.parts[part]!.commit.version, "The head is the commit");
    const merged = this.#merged;
    this.#endConcurrent();
    if (context.isDeferred) context.lastLsn = prepared.lsn;
    if (merged !== null) {
      this.#committedMerged(merged, head);
      return;
    }
    this.#snapshot = head;
    this.#isStagedForCommit = false;
    this.#shown.committed(this.#snapshot.version);
    this.#dirty.clear(); // The commit has the buffers now.
    if (prepared.parts[part]!.staged !== null) this.#staged = new PagePlaces(); // It has them too.
    this.#pageCount = this.#snapshot.pageCount;
    this.#keptPageCount = this.#snapshot.pageCount;
  }

  /** SQLite's cache, and statements that go on, are of the transaction's own snapshot; the head is another state. */
  #committedMerged({ writeSet, ownPages }: MergedWrites, head: Snapshot): void {
    this.#isStagedForCommit = false;
    this.#shown.committed(null);
    this.#retained = retainedPages(writeSet, ownPages, head);
    this.#dirty.clear();
    if (this.#staged.size > 0) this.#staged = new PagePlaces(); // The commit has them.
  }

  /** Page 1 stays: a commit needs it. */
  #stage(): void {
    const { stager } = this.#options;
    const pageOne = this.#dirty.get(1);
    this.#dirty.delete(1);
    try {
      for (const [page, reference] of stager.stage(this.#dirty, this.pageSize))
        this.#staged.set(page, reference);
      this.#buffers.giveAll(this.#dirty.values());
      this.#dirty.clear();
    } finally {
      if (pageOne !== undefined) this.#dirty.set(1, pageOne);
    }
  }
}

/** What a transaction that was merged onto the head had written, as it wrote it. */
interface RetainedPages {
  readonly view: Snapshot["view"] | null;
  page(number: number): Uint8Array | null;
}

function retainedPages(
  { dirty, staged }: WriteSet,
  ownPages: MergedWrites["ownPages"],
  head: Snapshot,
): RetainedPages {
  if (ownPages !== null) return { view: null, page: (number) => ownPages.get(number) ?? null };
  const stagedPages = new Set(staged.size > 0 ? staged.pages() : []);
  return {
    view: head.view,
    page: (number) => (dirty.has(number) || stagedPages.has(number) ? head.peek(number) : null),
  };
}
