/**
 * From a transaction's pages to a durable, visible commit, in two steps that match what SQLite tells a VFS:
 *
 *   prepare (SQLITE_FCNTL_SYNC)             versions are given, one log record holds everything, durable as asked
 *   publish (SQLITE_FCNTL_COMMIT_PHASETWO)  the new heads are visible to transactions that start from now on
 *
 * P1. A record is in the log before its commit is visible.
 * P2. All timelines of one transaction are in one record: all or nothing after a crash.
 * P3. A page beyond the old page count that the transaction did not write gets a frame of zeros, so that a page of an
 *     earlier, longer state never shows through and a missing page is always damage.
 * P4. A transaction with an id that has committed already is refused: it commits once.
 */
import { invariant } from "../errors.ts";
import type { Log } from "../log/log.ts";
import type { ChunkHandle } from "../page/chunk-handle.ts";
import { encodeDelta } from "../page/page-delta.ts";
import type { PagePlaces } from "../page/page-places.ts";
import type { WriteBarrier } from "../page/write-barrier.ts";
import type { ChunkPlace } from "../catalog/catalog.ts";
import { CommitRecordWriter, RecordKind } from "./commit-record.ts";
import { ByteArena } from "./byte-arena.ts";
import type { Outcomes } from "./outcomes.ts";
import { PageBuffers } from "./page-buffers.ts";
import { type CommitInfo, Frame } from "./page-versions.ts";
import { lockPageNumber, type Snapshot } from "./snapshot.ts";
import { refuseMoving, type Timeline } from "./timeline.ts";

/** As in PRAGMA synchronous: survive power loss, survive a process crash, survive neither for the newest commits. */
export type Durability = "full" | "normal" | "off";

/** The pages that a transaction changes on one timeline. */
export interface WriteSet {
  readonly timeline: Timeline;
  readonly snapshot: Snapshot;
  /** Pages after the transaction. */
  readonly pageCount: number;
  /** The fewest pages the database had during the transaction: what lies beyond is new. */
  readonly keptPageCount: number;
  /** Written pages; the commit takes the arrays over. */
  readonly dirty: ReadonlyMap<number, Uint8Array>;
  /** Pages of a large transaction that are in chunks already, unless `dirty` has them too; the commit takes it over. */
  readonly staged: PagePlaces;
}

export interface PreparedCommit {
  readonly lsn: number;
  readonly parts: readonly PreparedPart[];
}

export interface PreparedPart {
  readonly timeline: Timeline;
  readonly commit: CommitInfo;
  /** Pages with frames; those of `staged` have none. */
  readonly pages: number[];
  readonly frames: Frame[];
  readonly staged: PagePlaces | null;
}

export interface CommitPipelineOptions {
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** When all parts of a commit are visible; `retainedBytes` is about what they hold in memory until a checkpoint. */
  readonly onPublished: (databaseIds: readonly number[], retainedBytes: number) => void;
  /** Throws when the store takes no commits. */
  readonly assertWritable: () => void;
  /** Makes staged chunks durable, before a record refers to them. */
  readonly syncChunks: () => void;
  readonly barrier: WriteBarrier;
  readonly outcomes: Outcomes;
}

export class CommitPipeline {
  /** Transactions that were published since the store was opened. */
  commits = 0;
  readonly #options: CommitPipelineOptions;
  readonly #writer: CommitRecordWriter = new CommitRecordWriter();
  readonly #deltas: ByteArena = new ByteArena();
  readonly #buffers: Map<number, PageBuffers> = new Map();

  constructor(options: CommitPipelineOptions) {
    this.#options = options;
  }

  /** For the pages of transactions; a commit takes over those of its write sets. */
  buffers(pageSize: number): PageBuffers {
    let buffers = this.#buffers.get(pageSize);
    if (buffers === undefined) this.#buffers.set(pageSize, (buffers = new PageBuffers(pageSize)));
    return buffers;
  }

  /**
   * Throws without effect on any head; after a failure of the log the store takes no more commits. `transactionId`: 32 hexadecimal
   * digits, or null.
   */
  prepare(
    writeSets: readonly WriteSet[],
    durability: Durability | "deferred",
    transactionId: string | null = null,
  ): PreparedCommit {
    const { log, assertWritable, syncChunks, outcomes } = this.#options;
    assertWritable();
    for (const { timeline } of writeSets) refuseMoving(timeline.database);
    const writer = this.#writer;
    if (transactionId !== null) outcomes.requireNew(transactionId); // P4
    writer.begin(transactionId);
    const parts: PreparedPart[] = [];
    let hasStaged = false;
    for (const writeSet of writeSets) {
      parts.push(this.#preparePart(writeSet));
      if (writeSet.staged.size > 0) hasStaged = true;
    }
    if (hasStaged) syncChunks();
    const kind = transactionId === null ? RecordKind.commit : RecordKind.identifiedCommit;
    const lsn = log.append(kind, writer.bytes, 0, writer.length);
    const [first] = parts;
    if (transactionId !== null && first !== undefined) {
      const { version, timestampMs } = first.commit;
      const { databaseId } = first.timeline.row;
      outcomes.add({ id: transactionId, databaseId, version, timestampMs, lsn });
    }
    if (durability !== "deferred") log.flushSync(durability);
    return { lsn, parts };
  }

  /** Of the record that was appended last, whatever it is about. */
  get lastLsn(): number {
    return this.#options.log.lastLsn;
  }

  publish(prepared: PreparedCommit): void {
    this.commits++;
    let retained = 0;
    const databaseIds: number[] = [];
    for (const { timeline, commit, pages, frames, staged } of prepared.parts) {
      const buffers = this.buffers(timeline.database.refs.row.pageSize);
      retained += timeline.publish(commit, pages, frames, buffers, staged);
      timeline.headLsn = prepared.lsn;
      timeline.database.commits++;
      databaseIds.push(timeline.row.databaseId);
    }
    this.#options.onPublished(databaseIds, retained);
  }

  #preparePart(writeSet: WriteSet): PreparedPart {
    const { timeline, snapshot, pageCount } = writeSet;
    invariant(timeline.head.version === snapshot.version, "A writer's snapshot is the head");
    const { row } = timeline.database.refs;
    const { pageSize } = row;
    const lockPage = lockPageNumber(pageSize);
    if (writeSet.staged.size > 0) dropUnneeded(writeSet, lockPage);
    const hasStaged = writeSet.staged.size > 0;
    const pages = changedPages(writeSet, lockPage);
    const commit: CommitInfo = {
      version: row.nextVersion++,
      timestampMs: (row.lastTimestampMs = Math.max(this.#options.now(), row.lastTimestampMs)),
      pageCount,
      changedPages: pages.length,
    };
    const chunks = stagedChunks(writeSet.staged);
    const { marks } = this.#options.barrier;
    // The layer that takes them over may have been looked through already.
    if (marks !== null)
      for (const [, { chunk, slot }] of writeSet.staged.entries()) marks.page(chunk.id, slot);
    this.#writer.beginPart(
      { databaseId: row.id, timelineId: timeline.row.id },
      commit,
      chunks.size === 0
        ? NO_CHUNKS
        : [...chunks.keys()].map((chunk) => ({ id: chunk.id, place: locationOf(chunk) })),
    );
    const frames: Frame[] = [];
    const framed = hasStaged ? [] : pages;
    for (const page of pages) {
      if (hasStaged && this.#reference(writeSet.staged, page, chunks)) continue;
      frames.push(this.#frame(writeSet, page, commit.version));
      if (hasStaged) framed.push(page);
    }
    this.#writer.endPart();
    const staged = hasStaged ? writeSet.staged : null;
    return { timeline, commit, pages: framed, frames, staged };
  }

  /** Writes a staged page's place to the record; false when the page is not staged. */
  #reference(staged: PagePlaces, page: number, chunks: ReadonlyMap<ChunkHandle, number>): boolean {
    const reference = staged.get(page);
    if (reference === undefined) return false;
    const index = chunks.get(reference.chunk);
    invariant(index !== undefined, "A staged chunk is in the table");
    this.#writer.reference(page, index, reference.slot);
    return true;
  }

  #frame(writeSet: WriteSet, page: number, version: number): Frame {
    const writer = this.#writer;
    const image = writeSet.dirty.get(page);
    if (image === undefined) {
      writer.zero(page);
      return Frame.ofZeros(version);
    }
    const before =
      page <= writeSet.snapshot.pageCount
        ? writeSet.snapshot.view.cachedPage(page, writeSet.snapshot.version)
        : null;
    if (before !== null) {
      const offset = writer.delta(page, before, image, image.length >> 1, encodeDelta);
      if (offset >= 0) {
        const deltas = this.#deltas;
        deltas.put(writer.bytes, offset, writer.length);
        const size = writer.length - offset;
        const frame = Frame.ofDelta(version, deltas.block, deltas.end - size, deltas.end);
        frame.image = image;
        return frame;
      }
    }
    writer.image(page, image);
    return Frame.ofImage(version, image);
  }
}

/** Leaves only what the commit takes over: pages within the page count, and their newest content. */
function dropUnneeded({ dirty, staged, pageCount }: WriteSet, lockPage: number): void {
  staged.truncate(pageCount);
  staged.delete(lockPage);
  for (const page of dirty.keys()) staged.delete(page);
}

/** Ascending: what was written or staged, and the holes of growth (P3). */
function changedPages(writeSet: WriteSet, lockPage: number): number[] {
  const { dirty, staged, pageCount, keptPageCount } = writeSet;
  const pages: number[] = [];
  let isAscending = true;
  const add = (page: number): void => {
    if (page > pageCount || page === lockPage) return;
    if (pages.length > 0 && pages[pages.length - 1]! > page) isAscending = false;
    pages.push(page);
  };
  for (const page of dirty.keys()) add(page);
  if (staged.size > 0) for (const page of staged.pages()) add(page);
  for (let page = keptPageCount + 1; page <= pageCount; page++)
    if (!dirty.has(page) && !staged.has(page)) add(page);
  return isAscending ? pages : pages.sort((left, right) => left - right);
}

const NO_CHUNKS: readonly never[] = [];
const NO_HANDLES: ReadonlyMap<ChunkHandle, number> = new Map();

function stagedChunks(staged: PagePlaces): ReadonlyMap<ChunkHandle, number> {
  if (staged.size === 0) return NO_HANDLES;
  const chunks = new Map<ChunkHandle, number>();
  for (const [, { chunk }] of staged.entries())
    if (!chunks.has(chunk)) chunks.set(chunk, chunks.size);
  return chunks;
}

function locationOf(chunk: ChunkHandle): ChunkPlace {
  invariant(chunk.location !== null, `Chunk ${chunk.name} has a location`);
  return chunk.location;
}
