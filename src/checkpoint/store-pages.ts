/** Puts what a snapshot changed over the page map that it grew from into chunks: pages that the store has already are shared. */
import { isLostPage } from "../page/chunk-store.ts";
import type { ChunkReference } from "../page/chunk-handle.ts";
import type { PageMapRoot } from "../page/page-map.ts";
import type { PagePlaces } from "../page/page-places.ts";
import type { PageWriter } from "../page/page-writer.ts";
import type { Frame } from "../transaction/page-versions.ts";
import { type BoundLayer, lockPageNumber, type Snapshot } from "../transaction/snapshot.ts";

const SLICE_PAGES = 16;

export interface PagesToStore {
  readonly head: Snapshot;
  /** The layers of the snapshot that are part of it, newest first; those above it in its view are not. */
  readonly layers: readonly BoundLayer[];
  readonly pageSize: number;
  /** Receives where each changed page is; complete once the writer is flushed. */
  readonly changes: PagePlaces;
}

/** Yields about every 16 pages. Returns the page map that `changes` apply to. */
export function* storePages(
  request: PagesToStore,
  writer: PageWriter,
): Generator<void, PageMapRoot> {
  const { head, layers, changes, pageSize } = request;
  const lockPage = lockPageNumber(pageSize);
  const { root, changedPages } = head.view.base.origin();
  const below = new Set<number>(changedPages);
  let count = 0;
  for (const page of pagesOf(layers, below)) {
    const frame = frameOf(request, page);
    if (page === lockPage || page > head.pageCount || (frame === null && !below.has(page)))
      continue;
    const receive = (reference: ChunkReference): void => {
      if (frame !== null) frame.reference = reference;
      changes.set(page, reference);
    };
    if (frame !== null && frame.reference !== null) receive(frame.reference);
    else {
      const bytes = pageOrLost(head, page);
      if (bytes === null) changes.set(page, writer.lostPage());
      else if (writer.add(bytes, receive)) writer.flushSync();
    }
    if (++count % SLICE_PAGES === 0) yield;
  }
  return root;
}

/** Null when the page is a change of one that is lost for good: it stays lost, and everything else goes on. */
function pageOrLost(head: Snapshot, page: number): Uint8Array | null {
  try {
    return head.page(page);
  } catch (error) {
    if (!isLostPage(error)) throw error;
    return null;
  }
}

/** Ascending; an import has as many pages as its file, so they are not collected twice. */
function pagesOf(layers: readonly BoundLayer[], below: ReadonlySet<number>): Float64Array {
  const [only] = layers;
  if (layers.length === 1 && only !== undefined && below.size === 0)
    return only.layer.pageNumbers();
  const pages = new Set(below);
  for (const { layer } of layers) for (const page of layer.pageNumbers()) pages.add(page);
  return Float64Array.from(pages).sort();
}

/** The frame that the head reads; null when it reads the page from below its layers. */
function frameOf({ head, layers }: PagesToStore, page: number): Frame | null {
  for (const { layer, maxVersion } of layers) {
    const versions = layer.versions(page);
    const index = versions?.find(Math.min(head.version, maxVersion)) ?? -1;
    if (versions !== undefined && index >= 0) return versions.frames[index]!;
  }
  return null;
}
