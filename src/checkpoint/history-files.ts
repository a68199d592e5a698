/** The history segments of a store: `history/<8-digit number>.hist`, written by checkpoints, opened when first read. */
import type { StoreCipher } from "../encryption/cipher.ts";
import { invariant, StoreError } from "../errors.ts";
import { isLostPage } from "../page/chunk-store.ts";
import { encodeHistoryReference, type HistoryKey } from "../page/history-format.ts";
import { HistoryReader } from "../page/history-reader.ts";
import { type HistorySize, HistoryWriter } from "../page/history-writer.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { type Frame, FrameKind, type Layer } from "../transaction/page-versions.ts";
import type { StoreParts } from "./store-state.ts";

export const HISTORY_DIRECTORY = "history";
const OPEN_FILES_MAX = 32;
const CACHE_BYTES_PER_FILE = 4 * 1024 * 1024;
/** After this many deltas of a page an image is written, so that reading an old version applies few. */
const IMAGE_INTERVAL = 64;

export function historyPath(segment: number): string {
  return `${HISTORY_DIRECTORY}/${String(segment).padStart(8, "0")}.hist`;
}

/** Of a name in the directory; null for what is no segment. */
export function historySegmentNumber(name: string): number | null {
  const match = /^(\d{8})\.hist$/.exec(name);
  return match === null ? null : Number(match[1]);
}

/** Throws CORRUPT_HISTORY when the file is missing: the catalog names it. */
export function openHistoryFile(storage: Storage, segment: number): StorageFile {
  const path = historyPath(segment);
  try {
    return storage.openFileSync(path, { mode: "read" });
  } catch (cause) {
    if (!(cause instanceof StoreError) || cause.code !== "FILE_NOT_FOUND") throw cause;
    throw new StoreError("CORRUPT_HISTORY", `Cannot read history "${path}": the file is missing`, {
      cause,
      details: { path },
    });
  }
}

interface OpenSegment {
  readonly file: StorageFile;
  readonly reader: HistoryReader;
}

export interface HistoryFilesOptions {
  readonly storage: Storage;
  readonly storeId: Uint8Array;
  readonly cipher: StoreCipher | null;
}

/** Opened segments, the least recently used closed first. */
export class HistoryFiles {
  readonly #options: HistoryFilesOptions;
  readonly #open: Map<number, OpenSegment> = new Map();

  constructor(options: HistoryFilesOptions) {
    this.#options = options;
  }

  /** Greater than that of every file there is, also of those that a crash left without a catalog entry. */
  nextSegmentNumber(): number {
    let next = 1;
    for (const name of this.#options.storage.listSync(HISTORY_DIRECTORY)) {
      const segment = historySegmentNumber(name);
      if (segment !== null) next = Math.max(next, segment + 1);
    }
    return next;
  }

  /**
   * The pages of a segment's file. The reader stays valid while it is used now and then; a HistoricalSource therefore
   * asks here again for each page.
   */
  reader(segment: number): HistoryReader {
    const known = this.#open.get(segment);
    if (known !== undefined) {
      this.#open.delete(segment);
      this.#open.set(segment, known);
      return known.reader;
    }
    const { storage, storeId, cipher } = this.#options;
    const file = openHistoryFile(storage, segment);
    let reader: HistoryReader;
    try {
      reader = HistoryReader.open(file, {
        storeId,
        cipher,
        cacheBytesMax: CACHE_BYTES_PER_FILE,
      });
    } catch (error) {
      file.closeSync();
      throw error;
    }
    if (this.#open.size >= OPEN_FILES_MAX) {
      for (const [oldest, { file: unused }] of this.#open) {
        unused.closeSync();
        this.#open.delete(oldest);
        break;
      }
    }
    this.#open.set(segment, { file, reader });
    return reader;
  }

  /** Of the file, in bytes. */
  size(segment: number): number {
    const file = openHistoryFile(this.#options.storage, segment);
    try {
      return file.sizeSync();
    } finally {
      file.closeSync();
    }
  }

  /** Deletes the file of a segment that nothing names and nobody reads. Returns its size. */
  remove(segment: number): number {
    const known = this.#open.get(segment);
    const { storage } = this.#options;
    const file = known?.file ?? openHistoryFile(storage, segment);
    const size = file.sizeSync();
    file.closeSync();
    this.#open.delete(segment);
    storage.deleteSync(historyPath(segment));
    storage.syncDirectorySync(HISTORY_DIRECTORY);
    return size;
  }

  close(): void {
    for (const { file } of this.#open.values()) file.closeSync();
    this.#open.clear();
  }
}

export interface HistoryRequest {
  readonly segment: number;
  readonly databaseId: number;
  readonly timelines: readonly {
    readonly timeline: number;
    /** Its own root holds this version: frames of it are not needed here. */
    readonly headVersion: number;
    /** Newest first. */
    readonly layers: readonly Layer[];
    /** A page of the timeline as of a version; only looked at before the next call. */
    readonly pageAt: (page: number, version: number) => Uint8Array;
  }[];
}

/** Writes a segment with every version but the heads, yielding now and then; durable when done. */
export function* writeTimelineHistory(
  parts: StoreParts,
  request: HistoryRequest,
): Generator<void, HistorySize> {
  const { storage, storeId, cipher, codec } = parts;
  storage.makeDirectorySync(HISTORY_DIRECTORY);
  const file = storage.openFileSync(historyPath(request.segment), { mode: "create" });
  try {
    const writer = new HistoryWriter(file, {
      storeId,
      segmentNumber: request.segment,
      databaseId: request.databaseId,
      cipher,
      codec,
    });
    let count = 0;
    for (const timeline of [...request.timelines].sort((a, b) => a.timeline - b.timeline)) {
      const { layers, headVersion } = timeline;
      const key = { timeline: timeline.timeline, page: 0, version: 0 };
      const pages = new Set<number>();
      for (const layer of layers) for (const page of layer.pageNumbers()) pages.add(page);
      for (const page of Float64Array.from(pages).sort()) {
        let deltas = 0;
        for (let index = layers.length - 1; index >= 0; index--) {
          for (const frame of layers[index]!.versions(page)?.frames ?? NO_FRAMES) {
            if (frame.version >= headVersion) continue;
            key.page = page;
            key.version = frame.version;
            const isDue = frame.kind === FrameKind.delta && deltas >= IMAGE_INTERVAL;
            const payload = isDue ? imageOf(timeline.pageAt, page, frame) : null;
            if (payload !== null) {
              writer.add({ ...key, kind: FrameKind.image, payload });
              deltas = 0;
            } else {
              addFrame(writer, key, frame);
              deltas = frame.kind === FrameKind.delta ? deltas + 1 : 0;
            }
            if (++count % 256 === 0) yield;
          }
        }
      }
    }
    const size = writer.finish();
    file.syncSync();
    storage.syncDirectorySync(HISTORY_DIRECTORY);
    storage.syncDirectorySync("");
    return size;
  } finally {
    file.closeSync();
  }
}

/** Frames replayed from the log have no images of their own. Null when the page below is lost for good. */
function imageOf(
  pageAt: (page: number, version: number) => Uint8Array,
  page: number,
  { image, version }: Frame,
): Uint8Array | null {
  if (image !== null) return image;
  try {
    return pageAt(page, version);
  } catch (error) {
    if (!isLostPage(error)) throw error;
    return null;
  }
}

const NO_FRAMES: readonly Frame[] = [];
const NO_BYTES: Uint8Array = new Uint8Array(0);

function addFrame(writer: HistoryWriter, key: HistoryKey, frame: Frame): void {
  const { kind, delta, image, reference } = frame;
  switch (kind) {
    case FrameKind.delta:
      invariant(delta !== null, "A delta frame has its delta");
      writer.addDelta(key, delta, frame.deltaStart, frame.deltaEnd);
      return;
    case FrameKind.zero:
      writer.add({ ...key, kind, payload: NO_BYTES });
      return;
    case FrameKind.reference:
      invariant(reference !== null, "A reference frame has its reference");
      writer.add({
        ...key,
        kind,
        payload: encodeHistoryReference(reference.chunk.id, reference.slot),
      });
      return;
    case FrameKind.image:
      invariant(image !== null, "An image frame has its image");
      writer.add({ ...key, kind, payload: image });
      return;
  }
}
