/**
 * The page versions that commits left in memory since the last checkpoint.
 *
 * A **frame** is one page in one commit, as the log holds it: a delta to the page's previous version, a whole image, a
 * page of zeros, or a reference to a chunk. A **layer** holds the frames of one timeline between two checkpoints.
 *
 * V1. Frames of a page are in order of version, and versions never repeat.
 * V2. A frame's bytes never change. `image` is a cache of what the frame means and may be dropped and made again, unless
 *     the frame has no other form.
 * V4. The memory of a dropped image is written again, unless `isShared` says that somebody may still hold it. So
 *     whoever takes an image for longer than a call sets that first.
 * V3. A delta applies to the page as it was just before its version: the frame before it, or what lies below the layer.
 * V5. Of the large transactions of a layer the first keeps its pages as places in chunks instead of frames, for as long as
 *     no other commit touches them: `versions` makes the frame when it is asked for.
 */
import { invariant, InvariantError } from "../errors.ts";
import { applyDelta } from "../page/page-delta.ts";
import type { ChunkReference } from "../page/chunk-handle.ts";
import type { PagePlaces } from "../page/page-places.ts";
import type { PageBuffers } from "./page-buffers.ts";

/** Stored in the log and in history segments: append only. */
export const FrameKind = { image: 0, delta: 1, zero: 2, reference: 3 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

export class Frame {
  readonly version: number;
  readonly kind: FrameKind;
  /** Holds the delta in bytes [deltaStart, deltaEnd), among those of other frames; null for the other kinds. */
  delta: Uint8Array | null = null;
  deltaStart = 0;
  deltaEnd = 0;
  /** The page's bytes: not to be modified. Always there for kind image. */
  image: Uint8Array | null = null;
  /** V4. */
  isShared = false;
  /** Where a chunk has this page: from the start for kind reference, else once a checkpoint stored it. */
  reference: ChunkReference | null = null;

  private constructor(version: number, kind: FrameKind) {
    this.version = version;
    this.kind = kind;
  }

  static ofImage(version: number, image: Uint8Array): Frame {
    const frame = new Frame(version, FrameKind.image);
    frame.image = image;
    return frame;
  }

  static ofDelta(version: number, delta: Uint8Array, start: number, end: number): Frame {
    const frame = new Frame(version, FrameKind.delta);
    frame.delta = delta;
    frame.deltaStart = start;
    frame.deltaEnd = end;
    return frame;
  }

  static ofZeros(version: number): Frame {
    return new Frame(version, FrameKind.zero);
  }

  static ofReference(version: number, reference: ChunkReference): Frame {
    const frame = new Frame(version, FrameKind.reference);
    frame.reference = reference;
    return frame;
  }
}

/** Every this many versions of a page one image is kept, so that reading an old version applies few deltas. */
const IMAGE_INTERVAL = 32;

/** About what a frame takes besides its bytes. */
const FRAME_BYTES = 128;

/** The frames of one page in one layer, oldest first. */
export class PageVersions {
  /** Made with its first frame in it: pushing onto an empty array would reserve room for 17. */
  readonly frames: Frame[];

  constructor(first: Frame) {
    this.frames = [first];
  }

  /** Returns how many bytes of memory are held more than before. `buffers` takes what is not needed any more. */
  push(frame: Frame, buffers: PageBuffers | null): number {
    let retained = bytesOf(frame);
    const last = this.frames.at(-1);
    if (last !== undefined) {
      if (last.version >= frame.version)
        throw new InvariantError(`Version ${frame.version} follows ${last.version}`);
      if (last.kind === FrameKind.delta && this.frames.length % IMAGE_INTERVAL !== 0) {
        retained -= last.image?.length ?? 0;
        if (last.image !== null && !last.isShared) buffers?.give(last.image);
        last.image = null;
      }
    }
    this.frames.push(frame);
    return retained;
  }

  /** Index of the newest frame with version <= `version`, or -1. */
  find(version: number): number {
    const { frames } = this;
    let low = 0;
    let high = frames.length - 1;
    if (high >= 0 && frames[high]!.version <= version) return high;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (frames[middle]!.version <= version) low = middle + 1;
      else high = middle - 1;
    }
    return high;
  }

  /**
   * The page as of frame `index`; a shared view, not to be modified. `below` gives the page under this layer,
   * `chunk` reads a chunk reference.
   */
  image(
    index: number,
    pageSize: number,
    below: () => Uint8Array,
    chunk: (reference: ChunkReference) => Uint8Array,
  ): Uint8Array {
    const frame = this.frames[index]!;
    if (frame.image !== null) return frame.image;
    if (frame.kind === FrameKind.zero) return new Uint8Array(pageSize);
    if (frame.kind === FrameKind.reference) {
      invariant(frame.reference !== null, "A reference frame has its reference");
      return chunk(frame.reference);
    }
    let start = index - 1;
    while (
      start >= 0 &&
      this.frames[start]!.image === null &&
      this.frames[start]!.kind === FrameKind.delta
    )
      start--;
    const origin = start < 0 ? below() : this.image(start, pageSize, below, chunk);
    const page = new Uint8Array(pageSize);
    page.set(origin);
    for (let next = start + 1; next <= index; next++) {
      const { delta, deltaStart, deltaEnd } = this.frames[next]!;
      invariant(delta !== null, "A frame between images is a delta");
      applyDelta(page, delta, deltaStart, deltaEnd);
    }
    if (index === this.frames.length - 1) frame.image = page;
    return page;
  }
}

function bytesOf(frame: Frame): number {
  return FRAME_BYTES + (frame.image?.length ?? 0) + frame.deltaEnd - frame.deltaStart;
}

/** What is known of a commit besides its pages. */
export interface CommitInfo {
  readonly version: number;
  readonly timestampMs: number;
  readonly pageCount: number;
  readonly changedPages: number;
}

/** The commits of one timeline between two checkpoints. */
export class Layer {
  readonly timelineId: number;
  readonly #pages: Map<number, PageVersions> = new Map();
  /** V5. None of them is among `#pages`. */
  #staged: PagePlaces | null = null;
  #stagedVersion = 0;
  /** Ascending by version. */
  readonly commits: CommitInfo[] = [];

  constructor(timelineId: number) {
    this.timelineId = timelineId;
  }

  /** Returns how many bytes of memory are held more than before. `buffers` takes what is not needed any more. */
  push(page: number, frame: Frame, buffers: PageBuffers | null): number {
    let versions = this.#pages.get(page);
    if (versions === undefined && this.#staged !== null) {
      versions = this.#stagedVersions(page);
      if (versions !== undefined) {
        this.#pages.set(page, versions);
        this.#staged.delete(page);
      }
    }
    if (versions !== undefined) return versions.push(frame, buffers);
    this.#pages.set(page, new PageVersions(frame));
    return bytesOf(frame);
  }

  /** The same for the staged pages of a commit; takes `places` over. */
  pushStaged(places: PagePlaces, version: number): number {
    let retained = 0;
    if (this.#staged !== null) {
      for (const [page, reference] of places.entries())
        retained += this.push(page, Frame.ofReference(version, reference), null);
      return retained;
    }
    for (const [page, versions] of this.#pages) {
      const reference = places.get(page);
      if (reference === undefined) continue;
      retained += versions.push(Frame.ofReference(version, reference), null);
      places.delete(page);
    }
    this.#staged = places;
    this.#stagedVersion = version;
    return retained + places.memoryBytes;
  }

  /** The versions of a page; of a staged one a copy, made for this call. */
  versions(page: number): PageVersions | undefined {
    const versions = this.#pages.get(page);
    if (versions !== undefined || this.#staged === null) return versions;
    return this.#stagedVersions(page);
  }

  #stagedVersions(page: number): PageVersions | undefined {
    const reference = this.#staged?.get(page);
    if (reference === undefined) return undefined;
    return new PageVersions(Frame.ofReference(this.#stagedVersion, reference));
  }

  /** Of all pages that have versions here, ascending. */
  pageNumbers(): Float64Array {
    const numbers = new Float64Array(this.#pages.size + (this.#staged?.size ?? 0));
    let count = 0;
    for (const page of this.#pages.keys()) numbers[count++] = page;
    if (this.#staged !== null) numbers.set(this.#staged.pages(), count);
    return numbers.sort();
  }

  /** Every place in a chunk that a frame has. Goes on soundly while commits are pushed: what is there is not missed. */
  *references(): Generator<ChunkReference, void, undefined> {
    // Staged pages first: a commit moves them to the frames, which come later.
    if (this.#staged !== null) for (const [, reference] of this.#staged.entries()) yield reference;
    for (const versions of this.#pages.values())
      for (const { reference } of versions.frames) if (reference !== null) yield reference;
  }

  /** The newest commit with version <= `version`. */
  commitAt(version: number): CommitInfo | undefined {
    const { commits } = this;
    let low = 0;
    let high = commits.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (commits[middle]!.version <= version) low = middle + 1;
      else high = middle - 1;
    }
    return commits[high];
  }
}
