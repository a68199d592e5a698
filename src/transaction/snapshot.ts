/**
 * What a transaction reads: a commit, seen through the layers of commits since the last checkpoint and, below them, the
 * checkpointed pages.
 *
 * N1. A view never changes once made: new commits go to its top layer under greater versions, a checkpoint makes a new
 *     view. So a snapshot reads the same for ever, however long it is held.
 * N2. A page up to the page count that is found nowhere is damage, except SQLite's lock page, which holds nothing.
 */
import type { ChunkReference } from "../page/chunk-handle.ts";
import type { Layer } from "./page-versions.ts";

/** Pages of a fixed state. */
export interface PageSource {
  /** A shared view of the page, not to be modified. Throws a CORRUPT_* StoreError when it should be there and is not. */
  page(pageNumber: number): Uint8Array;
  /** The page's place in a chunk when it has one and no delta is needed; null otherwise. */
  reference(pageNumber: number): ChunkReference | null;
  /** The page only when it costs no input or output; null otherwise. */
  cachedPage(pageNumber: number): Uint8Array | null;
}

/** A layer as far as a view may look into it. */
export interface BoundLayer {
  readonly layer: Layer;
  /** Commits after this version belong to others (the parent's after a fork); Infinity for the timeline's own. */
  readonly maxVersion: number;
}

export interface ViewContext {
  readonly pageSize: number;
  readChunkPage(reference: ChunkReference): Uint8Array;
  cachedChunkPage(reference: ChunkReference): Uint8Array | null;
}

export class View {
  /** Newest first. */
  readonly layers: readonly BoundLayer[];
  readonly base: PageSource;
  /** The version that `base` is; older ones are read from history. */
  readonly baseVersion: number;
  readonly context: ViewContext;

  constructor(
    context: ViewContext,
    layers: readonly BoundLayer[],
    base: PageSource,
    baseVersion: number,
  ) {
    this.context = context;
    this.layers = layers;
    this.base = base;
    this.baseVersion = baseVersion;
  }

  page(pageNumber: number, version: number): Uint8Array {
    return this.#pageFrom(0, pageNumber, version);
  }

  /** The page if it needs no input or output, for writing a delta against it. */
  cachedPage(pageNumber: number, version: number): Uint8Array | null {
    for (const { layer, maxVersion } of this.layers) {
      const versions = layer.pages.get(pageNumber);
      if (versions === undefined) continue;
      const index = versions.find(Math.min(version, maxVersion));
      if (index >= 0) return versions.frames[index]!.image;
    }
    return this.base.cachedPage(pageNumber);
  }

  #pageFrom(start: number, pageNumber: number, version: number): Uint8Array {
    const { layers, context } = this;
    for (let position = start; position < layers.length; position++) {
      const { layer, maxVersion } = layers[position]!;
      const versions = layer.pages.get(pageNumber);
      if (versions === undefined) continue;
      const index = versions.find(version < maxVersion ? version : maxVersion);
      if (index < 0) continue;
      const { image } = versions.frames[index]!;
      if (image !== null) return image;
      return versions.image(
        index,
        context.pageSize,
        () => this.#pageFrom(position + 1, pageNumber, version),
        (reference) => context.readChunkPage(reference),
      );
    }
    return this.base.page(pageNumber);
  }
}

/** One commit, readable. Immutable; cheap to make and to keep. */
export class Snapshot {
  readonly timelineId: number;
  readonly view: View;
  readonly version: number;
  readonly pageCount: number;
  readonly timestampMs: number;

  constructor(
    timelineId: number,
    view: View,
    commit: { version: number; pageCount: number; timestampMs: number },
  ) {
    this.timelineId = timelineId;
    this.view = view;
    this.version = commit.version;
    this.pageCount = commit.pageCount;
    this.timestampMs = commit.timestampMs;
  }

  /** A shared view of the page, not to be modified. */
  page(pageNumber: number): Uint8Array {
    return this.view.page(pageNumber, this.version);
  }
}

/** SQLite never uses the page that holds the byte at 1 GiB, where other systems keep their locks. */
export function lockPageNumber(pageSize: number): number {
  return 0x40000000 / pageSize + 1;
}

/** The state before the first commit: no pages. */
export const emptySource: PageSource = {
  page(pageNumber) {
    throw new RangeError(`Cannot read page ${pageNumber}: the database is empty`);
  },
  reference: () => null,
  cachedPage: () => null,
};
