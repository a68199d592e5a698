/**
 * Checks history segments: every block and entry, the chunks that entries refer to, and (deep) that each page's changes apply
 * one after the other to the page of the checkpoint before.
 */
import { openHistoryFile } from "../checkpoint/history-files.ts";
import { snapshotAt } from "../checkpoint/snapshot-at.ts";
import type { StoreParts } from "../checkpoint/store-state.ts";
import { StoreError } from "../errors.ts";
import { decodeHistoryReference, type HistoryEntry, HistoryKind } from "../page/history-format.ts";
import { HistoryReader } from "../page/history-reader.ts";
import { applyDelta } from "../page/page-delta.ts";
import type { StorageFile } from "../storage/storage.ts";
import type { Snapshot } from "../transaction/snapshot.ts";
import type { OpenDatabase } from "../transaction/timeline.ts";
import type { ChunkChecker } from "./check-chunks.ts";
import { type Findings, nextTurn } from "./report.ts";
import type { RevisionIndex } from "./revision-index.ts";

export interface HistoryCheckParts {
  readonly parts: StoreParts;
  readonly chunks: ChunkChecker;
  readonly index: RevisionIndex;
  readonly findings: Findings;
  /** Null: changes are not applied, since this is no deep check, or the catalog does not give the pages below. */
  readonly databases: ReadonlyMap<number, OpenDatabase> | null;
}

const ENTRIES_PER_TURN = 4096;

export async function checkHistorySegment(
  check: HistoryCheckParts,
  { segment, databaseId }: { readonly segment: number; readonly databaseId: number },
): Promise<void> {
  const { findings, index } = check;
  const revisions = index.ofSegment(segment);
  findings.counts.historySegments++;
  let file: StorageFile | null = null;
  try {
    file = openHistoryFile(check.parts.storage, segment);
    await checkEntries(check, { file, segment, databaseId });
  } catch (error) {
    // Retention may have taken the segment away while the check ran.
    if (!hasHistoryRow(check.parts, segment)) return;
    findings.addDamage({ kind: "history", segment }, error, revisions);
  } finally {
    file?.closeSync();
  }
}

/** True also where the catalog cannot say. */
function hasHistoryRow({ catalog }: StoreParts, segment: number): boolean {
  try {
    for (const row of catalog.historySegments()) if (row.segment === segment) return true;
    return false;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return true;
  }
}

interface SegmentInCheck {
  readonly file: StorageFile;
  readonly segment: number;
  readonly databaseId: number;
}

async function checkEntries(
  { parts, chunks, index, findings, databases }: HistoryCheckParts,
  { file, segment, databaseId }: SegmentInCheck,
): Promise<void> {
  const { storeId, cipher } = parts;
  const reader = HistoryReader.open(file, { storeId, cipher, cacheBytesMax: 0 });
  const database = databases?.get(databaseId) ?? null;
  const pageSize = parts.refs.databases.get(databaseId)?.row.pageSize ?? null;
  const chain =
    database === null ? null : new PageChain(parts, database, index.spansOfSegment(segment));
  let count = 0;
  for (const entry of reader.entries()) {
    findings.counts.historyEntries++;
    if (entry.kind === HistoryKind.reference && pageSize !== null) {
      const { chunkId, slot } = decodeHistoryReference(entry.payload);
      const problem = chunks.slotProblem(parts.handles.intern(chunkId), slot, pageSize);
      for (const revision of problem === null ? [] : index.ofSegment(segment))
        problem?.revisions.add(revision);
      if (problem !== null) continue;
    }
    try {
      chain?.apply(entry);
    } catch (error) {
      const { timeline, version } = entry;
      findings.addError(error, [index.version(databaseId, timeline, String(version))]);
    }
    if (++count % ENTRIES_PER_TURN === 0) await nextTurn();
  }
}

/** One page's image through its versions; entries come ordered by timeline, page and version. */
class PageChain {
  readonly #parts: StoreParts;
  readonly #database: OpenDatabase;
  /** By timeline: the version that its segment begins after. */
  readonly #starts: ReadonlyMap<number, number>;
  readonly #bases: Map<number, Snapshot> = new Map();
  readonly #page: Uint8Array;
  #timeline = -1;
  #pageNumber = -1;
  /** Whether #page is the image after the last entry. */
  #isKnown = false;

  constructor(
    parts: StoreParts,
    database: OpenDatabase,
    spans: readonly { timeline: number; from: number }[],
  ) {
    this.#parts = parts;
    this.#database = database;
    this.#starts = new Map(spans.map(({ timeline, from }) => [timeline, from]));
    this.#page = new Uint8Array(database.refs.row.pageSize);
  }

  /** Throws CORRUPT_HISTORY when the change does not apply, CORRUPT_* when the page below cannot be read. */
  apply({ timeline, page, version, kind, payload }: HistoryEntry): void {
    // The row of the checkpoint that the segment belongs to is damaged, and reported: nothing says what is below.
    if (!this.#starts.has(timeline)) return;
    if (timeline !== this.#timeline || page !== this.#pageNumber) {
      this.#timeline = timeline;
      this.#pageNumber = page;
      this.#isKnown = false;
    }
    switch (kind) {
      case HistoryKind.image:
        this.#page.set(payload);
        break;
      case HistoryKind.zero:
        this.#page.fill(0);
        break;
      case HistoryKind.reference: {
        const { chunkId, slot } = decodeHistoryReference(payload);
        const chunk = this.#parts.handles.intern(chunkId);
        this.#page.set(this.#database.context.readChunkPage({ chunk, slot }));
        break;
      }
      case HistoryKind.delta:
        if (!this.#isKnown) this.#page.set(this.#base(timeline).page(page));
        this.#applyDelta(payload, page, version);
        break;
    }
    this.#isKnown = true;
  }

  #applyDelta(payload: Uint8Array, page: number, version: number): void {
    try {
      applyDelta(this.#page, payload, 0, payload.length);
    } catch (cause) {
      throw new StoreError(
        "CORRUPT_HISTORY",
        `Cannot read page ${page} of version ${version} (timeline ${this.#timeline}): a delta in its history does not apply`,
        { cause },
      );
    }
  }

  #base(timeline: number): Snapshot {
    let base = this.#bases.get(timeline);
    if (base === undefined) {
      const version = this.#starts.get(timeline) ?? 0;
      base = snapshotAt(this.#parts, this.#database, { timeline, version });
      this.#bases.set(timeline, base);
    }
    return base;
  }
}
