/**
 * What a transaction reads: a commit, seen through the layers of commits since the last checkpoint and, below them, the
 * checkpointed pages.
 *
 * N1. A view never changes once made: new commits go to its top layer under greater versions, a checkpoint makes a new
 *     view. So a snapshot reads the same for ever, however long it is held.
 * N2. A page up to the page count that is found nowhere is damage, except SQLite's lock page, which holds nothing.
 * N3. Layers of ancestors hold nothing newer than the fork, and every snapshot of a view is at least that new: which of
 *     them has a page is the same for all of them, and remembered, so that depth costs nothing.
 */
import type { ChunkReference } from "../page/chunk-handle.ts";
import { EMPTY_ROOT, type PageMapRoot } from "../page/page-map.ts";
import type { Layer } from "./page-versions.ts";
import type { PageHolder, Tracer } from "./tracer.ts";

/** Pages of a fixed state. */
export interface PageSource {
  /** A shared view of the page, not to be modified. Throws a CORRUPT_* StoreError when it should be there and is not. */
  page(pageNumber: number): Uint8Array;
  /** The page only when it costs no input or output; null otherwise. */
  cachedPage(pageNumber: number): Uint8Array | null;
  /** The chunk that has the page; null when it is not that simple, or there is none. Throws NotLocalError. */
  chunkOf(pageNumber: number): ChunkReference | null;
  /** A page map that this state grew from, and every page that may differ from it: what a checkpoint must write. */
  origin(): { readonly root: PageMapRoot; readonly changedPages: Iterable<number> };
  /** Names everything that the pages are read from. */
  trace(tracer: Tracer): void;
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
  /** Starts to bring chunks here that will probably be read soon; left out where all is local. */
  readonly prefetch?: (references: readonly ChunkReference[]) => void;
  /** Who reads for longer than a turn, and so keeps what it reads from garbage collection. */
  readonly holders: Set<PageHolder>;
}

/** A commit without its pages. */
export interface CommitPlace {
  readonly version: number;
  readonly pageCount: number;
  readonly timestampMs: number;
}

/** From this many layers of ancestors on, it is remembered which of them has a page. */
const REMEMBERED_LAYERS_MIN = 4;
const REMEMBERED_PAGES_MAX = 65_536;

export class View {
  /** Newest first. */
  readonly layers: readonly BoundLayer[];
  readonly base: PageSource;
  /** The newest commit below the timeline's own layers: its last checkpoint, or its fork point. */
  readonly floor: CommitPlace;
  readonly context: ViewContext;
  /** Layers from here on are those of ancestors: they end at or before every snapshot of this view (N3). */
  readonly #ancestors: number;
  /** Where the search among the ancestors ended, by page number; null while there are few of them. */
  readonly #places: Map<number, number> | null;

  constructor(
    context: ViewContext,
    layers: readonly BoundLayer[],
    base: PageSource,
    floor: CommitPlace,
  ) {
    this.context = context;
    this.layers = layers;
    this.base = base;
    // Copied: a Snapshot here would keep its own view, and so the layers of every checkpoint, in memory for ever.
    const { version, pageCount, timestampMs } = floor;
    this.floor = { version, pageCount, timestampMs };
    const bounded = layers.findIndex(({ maxVersion }) => maxVersion < Infinity);
    this.#ancestors = bounded < 0 ? layers.length : bounded;
    this.#places = layers.length - this.#ancestors < REMEMBERED_LAYERS_MIN ? null : new Map();
  }

  page(pageNumber: number, version: number): Uint8Array {
    return this.#pageFrom(0, pageNumber, version, true);
  }

  /** The page, valid only until the caller gives control to anything that commits. */
  peek(pageNumber: number, version: number): Uint8Array {
    return this.#pageFrom(0, pageNumber, version, false);
  }

  trace(tracer: Tracer): void {
    for (const { layer } of this.layers) tracer.layer(layer);
    this.base.trace(tracer);
  }

  /** The page if it needs no input or output, for writing a delta against it. */
  cachedPage(pageNumber: number, version: number): Uint8Array | null {
    const { layers } = this;
    for (let position = 0; position < layers.length; position++) {
      if (position === this.#ancestors) position = this.#ancestorWith(pageNumber, version);
      const bound = layers[position];
      const versions = bound?.layer.versions(pageNumber);
      if (bound === undefined || versions === undefined) continue;
      const index = versions.find(Math.min(version, bound.maxVersion));
      if (index >= 0) return versions.frames[index]!.image;
    }
    return this.base.cachedPage(pageNumber);
  }

  /** The chunk that has the page; null when it is in memory. Throws NotLocalError. */
  chunkOf(pageNumber: number, version: number): ChunkReference | null {
    for (const { layer, maxVersion } of this.layers) {
      const versions = layer.versions(pageNumber);
      const index = versions?.find(Math.min(version, maxVersion)) ?? -1;
      if (versions === undefined || index < 0) continue;
      const { image, reference } = versions.frames[index]!;
      return image === null ? reference : null;
    }
    return this.base.chunkOf(pageNumber);
  }

  /** `isKept`: the caller keeps the page for longer than a call (V4). */
  #pageFrom(start: number, pageNumber: number, version: number, isKept: boolean): Uint8Array {
    const { layers, context } = this;
    for (let position = start; position < layers.length; position++) {
      if (position === this.#ancestors) position = this.#ancestorWith(pageNumber, version);
      const bound = layers[position];
      const versions = bound?.layer.versions(pageNumber);
      if (bound === undefined || versions === undefined) continue;
      const { maxVersion } = bound;
      const index = versions.find(version < maxVersion ? version : maxVersion);
      if (index < 0) continue;
      const frame = versions.frames[index]!;
      if (isKept) frame.isShared = true;
      if (frame.image !== null) return frame.image;
      const below = position + 1;
      return versions.image(
        index,
        context.pageSize,
        () => this.#pageFrom(below, pageNumber, version, false),
        (reference) => context.readChunkPage(reference),
      );
    }
    return this.base.page(pageNumber);
  }

  /** The first of the ancestors' layers that has the page; the number of layers when none does. */
  #ancestorWith(pageNumber: number, version: number): number {
    const { layers } = this;
    const places = this.#places;
    if (places === null) return this.#ancestors;
    const known = places.get(pageNumber);
    if (known !== undefined) return known;
    let place = this.#ancestors;
    for (; place < layers.length; place++) {
      const { layer, maxVersion } = layers[place]!;
      const versions = layer.versions(pageNumber);
      if (versions !== undefined && versions.find(Math.min(version, maxVersion)) >= 0) break;
    }
    if (places.size >= REMEMBERED_PAGES_MAX) places.clear();
    places.set(pageNumber, place);
    return place;
  }
}

/** One commit, readable. Immutable; cheap to make and to keep. */
export class Snapshot {
  readonly timelineId: number;
  readonly view: View;
  readonly version: number;
  readonly pageCount: number;
  readonly timestampMs: number;

  constructor(timelineId: number, view: View, commit: CommitPlace) {
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

  /** The page, valid only until the caller gives control to anything that commits. */
  peek(pageNumber: number): Uint8Array {
    return this.view.peek(pageNumber, this.version);
  }

  /** Keeps what the snapshot reads from garbage collection until the function that is returned is called. */
  hold(): () => void {
    const { context } = this.view;
    const { holders } = context;
    const holder: PageHolder = {
      trace: (tracer) => this.view.trace(tracer),
      heldContext: () => context,
    };
    holders.add(holder);
    return () => void holders.delete(holder);
  }

  /** This snapshot as the base of a view. */
  asSource(): PageSource {
    const { view, version } = this;
    if (view.layers.length === 0) return view.base;
    return {
      page: (pageNumber) => view.page(pageNumber, version),
      cachedPage: (pageNumber) => view.cachedPage(pageNumber, version),
      chunkOf: (pageNumber) => view.chunkOf(pageNumber, version),
      origin: () => {
        const { root, changedPages } = view.base.origin();
        const pages = view.layers.flatMap(({ layer }) => [...layer.pageNumbers()]);
        return { root, changedPages: [...changedPages, ...pages] };
      },
      trace: (tracer) => view.trace(tracer),
    };
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
  cachedPage: () => null,
  chunkOf: () => null,
  origin: () => ({ root: EMPTY_ROOT, changedPages: [] }),
  trace() {},
};
