/**
 * A timeline while its store is open: the view that new snapshots start from, its head, and who may write.
 *
 * T1. `head` is the newest published commit; it is durable, or becomes so before anyone is told that it is.
 * T2. At most one writer at a time holds `writer`.
 * T3. A snapshot shows nothing of the log behind `headLsn`, as it was when the snapshot was taken.
 */
import { StoreError } from "../errors.ts";
import type { TimelineRow } from "../catalog/rows.ts";
import type { DatabaseRefs } from "../branch/refs.ts";
import { type CommitInfo, type Frame, Layer } from "./page-versions.ts";
import type { PagePlaces } from "../page/page-places.ts";
import type { PageBuffers } from "./page-buffers.ts";
import { RecentCommits } from "./recent-commits.ts";
import { type CommitPlace, Snapshot, View, type ViewContext } from "./snapshot.ts";
import { WriterQueue } from "./writer-queue.ts";

/** A database while its store is open. */
export interface OpenDatabase {
  readonly refs: DatabaseRefs;
  readonly context: ViewContext;
  readonly timelines: Map<number, Timeline>;
  /** On all timelines, since the store was opened. */
  commits: number;
  /** The partition that it is being handed over to; missing: none. Then it takes no commit and no change of names. */
  movingTo?: number;
}

/** Throws BRANCH_BUSY for a database that is being handed over. */
export function refuseMoving({ refs, movingTo }: OpenDatabase): void {
  if (movingTo === undefined) return;
  const { name } = refs.row;
  throw new StoreError(
    "BRANCH_BUSY",
    `Cannot write to database "${name}": it is being handed over to partition ${movingTo}; try again when it is there`,
    { retryable: true, details: { database: name, partition: movingTo } },
  );
}

export class Timeline {
  readonly row: TimelineRow;
  readonly database: OpenDatabase;
  #head: Snapshot;
  #writer: object | null = null;
  #queue: WriterQueue | null = null;
  /** T3; 0: nothing that was appended since the store was opened. */
  headLsn = 0;
  /** The same while every commit is SQLite's change of the one before it; F6 in revision-file.ts. */
  lineage: object = {};
  /** Of the transaction under way that was shown the true freelist, with its first trunk: K7 in concurrent-transaction.ts. */
  shownFreelist: { readonly owner: object; readonly trunk: number } | null = null;
  /** What concurrent transactions are compared with. */
  readonly recent: RecentCommits = new RecentCommits();

  constructor(database: OpenDatabase, row: TimelineRow, view: View, head: CommitPlace) {
    this.database = database;
    this.row = row;
    this.#head = new Snapshot(row.id, view, head);
  }

  /** The timeline's own layer, for commits since the last checkpoint. */
  static topLayer(id: number): { layer: Layer; maxVersion: number } {
    return { layer: new Layer(id), maxVersion: Infinity };
  }

  get head(): Snapshot {
    return this.#head;
  }

  /** The file whose transaction may write; null when nobody writes. */
  get writer(): object | null {
    return this.#writer;
  }

  set writer(writer: object | null) {
    this.#writer = writer;
    if (writer === null && this.#queue !== null) this.#queue.advance();
  }

  /** Those who wait to be the writer; made when the first one does. */
  get queue(): WriterQueue {
    return (this.#queue ??= new WriterQueue(() => this.#writer === null));
  }

  /** Whether `owner`, an awaited connection, can be the writer now (Q1 in writer-queue.ts). */
  isFreeFor(owner: object): boolean {
    return this.#writer === null && !(this.#queue?.isBefore(owner) ?? false);
  }

  get view(): View {
    return this.#head.view;
  }

  /**
   * Makes a commit visible to transactions that start from now on. Returns the bytes of memory that it holds; `buffers`
   * takes the page images that nobody needs any more. Takes `staged` over: pages in chunks, none of them in `pages`.
   */
  publish(
    commit: CommitInfo,
    pages: readonly number[],
    frames: readonly Frame[],
    buffers: PageBuffers | null = null,
    staged: PagePlaces | null = null,
  ): number {
    const { view } = this.#head;
    const { layer } = view.layers[0]!;
    const { recent } = this;
    if (recent.runningCount > 0)
      recent.add({ version: commit.version, pages: changedPages(pages, staged) });
    if (commit.pageCount < this.#head.pageCount) recent.lastShrink = commit.version;
    let retained = 0;
    for (let index = 0; index < pages.length; index++)
      retained += layer.push(pages[index]!, frames[index]!, buffers);
    if (staged !== null) retained += layer.pushStaged(staged, commit.version);
    layer.commits.push(commit);
    this.#head = new Snapshot(this.row.id, view, commit);
    return retained;
  }

  /** Puts a fresh layer on top, so that a checkpoint can work on those below. */
  freeze(): void {
    const { view } = this.#head;
    this.replaceView(
      new View(
        view.context,
        [Timeline.topLayer(this.row.id), ...view.layers],
        view.base,
        view.floor,
      ),
    );
  }

  /** New snapshots read through `view` from now on; what they read stays the same. */
  replaceView(view: View): void {
    this.#head = new Snapshot(this.row.id, view, this.#head);
  }
}

function changedPages(pages: readonly number[], staged: PagePlaces | null): readonly number[] {
  return staged === null ? pages : [...pages, ...staged.pages()];
}
