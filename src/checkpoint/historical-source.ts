/**
 * The pages of a version between two checkpoints: those of the checkpoint before it, changed by what the history segment
 * of the checkpoint after it has up to that version.
 */
import { StoreError } from "../errors.ts";
import type { ChunkHandles, ChunkReference } from "../page/chunk-handle.ts";
import { decodeHistoryReference, type HistoryEntry, HistoryKind } from "../page/history-format.ts";
import { applyDelta } from "../page/page-delta.ts";
import type { PageMapRoot } from "../page/page-map.ts";
import type { PageSource, ViewContext } from "../transaction/snapshot.ts";
import type { Tracer } from "../transaction/tracer.ts";
import type { HistoryFiles } from "./history-files.ts";

export interface HistoricalSourceOptions {
  /** The state that the segment's versions change. */
  readonly base: PageSource;
  readonly history: HistoryFiles;
  readonly segment: number;
  readonly timeline: number;
  readonly version: number;
  readonly context: ViewContext;
  readonly handles: ChunkHandles;
}

/** Pages made from deltas and kept: enough for the interior pages and the ones around a cursor. */
const CACHED_PAGES_MAX = 256;

export class HistoricalSource implements PageSource {
  readonly #options: HistoricalSourceOptions;
  readonly #cache: Map<number, Uint8Array> = new Map();

  constructor(options: HistoricalSourceOptions) {
    this.#options = options;
  }

  page(pageNumber: number): Uint8Array {
    const known = this.#cache.get(pageNumber);
    if (known !== undefined) return known;
    const { history, segment, timeline, version } = this.#options;
    const entries = history.reader(segment).versions(timeline, pageNumber, version);
    if (entries.length === 0) return this.#options.base.page(pageNumber);
    const page = this.#build(pageNumber, entries);
    if (this.#cache.size >= CACHED_PAGES_MAX) {
      for (const oldest of this.#cache.keys()) {
        this.#cache.delete(oldest);
        break;
      }
    }
    this.#cache.set(pageNumber, page);
    return page;
  }

  cachedPage(pageNumber: number): Uint8Array | null {
    return this.#cache.get(pageNumber) ?? null;
  }

  /** As before the versions of this history: most pages are not in it. */
  chunkOf(pageNumber: number): ChunkReference | null {
    return this.#options.base.chunkOf(pageNumber);
  }

  origin(): { root: PageMapRoot; changedPages: Iterable<number> } {
    const { base, history, segment, timeline, version } = this.#options;
    const { root, changedPages } = base.origin();
    const pages = new Set(changedPages);
    for (const entry of history.reader(segment).entries())
      if (entry.timeline === timeline && entry.version <= version) pages.add(entry.page);
    return { root, changedPages: pages };
  }

  trace(tracer: Tracer): void {
    tracer.historySegment(this.#options.segment);
    this.#options.base.trace(tracer);
  }

  #build(pageNumber: number, entries: readonly HistoryEntry[]): Uint8Array {
    const { context, handles, timeline, version } = this.#options;
    let start = entries.length - 1;
    while (start >= 0 && entries[start]!.kind === HistoryKind.delta) start--;
    const page = new Uint8Array(context.pageSize);
    if (start < 0) page.set(this.#options.base.page(pageNumber));
    else {
      const { kind, payload } = entries[start]!;
      if (kind === HistoryKind.image) page.set(payload);
      else if (kind === HistoryKind.reference) {
        const { chunkId, slot } = decodeHistoryReference(payload);
        page.set(context.readChunkPage({ chunk: handles.intern(chunkId), slot }));
      }
    }
    try {
      for (const { payload } of entries.slice(start + 1))
        applyDelta(page, payload, 0, payload.length);
    } catch (cause) {
      throw new StoreError(
        "CORRUPT_HISTORY",
        `Cannot read page ${pageNumber} of version ${version} (timeline ${timeline}): a delta in its history does not apply`,
        { cause },
      );
    }
    return page;
  }
}
