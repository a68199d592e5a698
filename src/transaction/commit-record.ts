/**
 * The payload of the log's commit and ref-change records. All integers little-endian; versions, times and offsets are
 * float64 holding safe integers.
 *
 * Commit (record kind 1): one transaction, over one or more timelines, all or nothing.
 *
 * | size | field                                                                     |
 * |------|---------------------------------------------------------------------------|
 * | 2    | part count, then that many parts                                          |
 *
 * Part:
 *
 * | size | field                                                                     |
 * |------|---------------------------------------------------------------------------|
 * | 4    | database id                                                               |
 * | 4    | timeline id                                                               |
 * | 8    | version                                                                   |
 * | 8    | timestamp, ms since 1970                                                  |
 * | 4    | page count of the database after the commit                               |
 * | 4    | chunk count C, then C entries: id 16, pack 4, offset 8, length 4           |
 * | 4    | frame count F, then F frames, ascending by page                           |
 *
 * Frame: page number 4, kind 1 (FrameKind), length 4, then `length` bytes: image: the page; delta: as page-delta.ts;
 * zero: nothing; reference: chunk index in the table above 4, slot 1.
 *
 * Identified commit (record kind 3): the transaction's id, 16, then a commit as above. See outcomes.ts.
 *
 * Ref change (record kind 2): a RefChange of src/branch/refs.ts as JSON in UTF-8.
 *
 * Readers refuse unknown record kinds, frame kinds and change types: a store that holds them was written by a newer bough.
 */
import type { RefChange } from "../branch/refs.ts";
import { StoreError } from "../errors.ts";
import type { ChunkPlace } from "../catalog/catalog.ts";
import { FrameKind } from "./page-versions.ts";

export const RecordKind = { commit: 1, refChange: 2, identifiedCommit: 3 } as const;

export interface CommitPart {
  readonly databaseId: number;
  readonly timelineId: number;
  readonly version: number;
  readonly timestampMs: number;
  readonly pageCount: number;
  readonly frames: readonly DecodedFrame[];
}

export interface DecodedFrame {
  readonly page: number;
  readonly kind: FrameKind;
  /** Own copy: the image or delta; empty for the other kinds. */
  readonly bytes: Uint8Array;
  readonly reference: { readonly id: Uint8Array; readonly place: ChunkPlace; slot: number } | null;
}

const TRANSACTION_ID_SIZE = 16;
const CHUNK_ENTRY_SIZE = 32;
const FRAME_HEADER_SIZE = 9;
const REFERENCE_SIZE = 5;
const NO_BYTES: Uint8Array = new Uint8Array(0);

/** Builds one commit record in a buffer that is used again for the next one. */
export class CommitRecordWriter {
  bytes: Uint8Array = new Uint8Array(64 * 1024);
  #view: DataView = new DataView(this.bytes.buffer);
  length = 0;
  #start = 0;
  #frameCountOffset = 0;
  #frameCount = 0;
  #parts = 0;

  /** `transactionId`: 32 hexadecimal digits; the record is an identified commit then. */
  begin(transactionId: string | null = null): void {
    this.#start = transactionId === null ? 0 : TRANSACTION_ID_SIZE;
    if (transactionId !== null) this.bytes.set(Buffer.from(transactionId, "hex"), 0);
    this.length = this.#start + 2;
    this.#parts = 0;
    this.#view.setUint16(this.#start, 0, true);
  }

  beginPart(
    part: Pick<CommitPart, "databaseId" | "timelineId">,
    commit: Pick<CommitPart, "version" | "timestampMs" | "pageCount">,
    chunks: readonly { readonly id: Uint8Array; readonly place: ChunkPlace }[],
  ): void {
    this.#reserve(40 + chunks.length * CHUNK_ENTRY_SIZE);
    const view = this.#view;
    let offset = this.length;
    view.setUint32(offset, part.databaseId, true);
    view.setUint32(offset + 4, part.timelineId, true);
    view.setFloat64(offset + 8, commit.version, true);
    view.setFloat64(offset + 16, commit.timestampMs, true);
    view.setUint32(offset + 24, commit.pageCount, true);
    view.setUint32(offset + 28, chunks.length, true);
    offset += 32;
    for (const { id, place } of chunks) {
      this.bytes.set(id, offset);
      view.setUint32(offset + 16, place.pack, true);
      view.setFloat64(offset + 20, place.offset, true);
      view.setUint32(offset + 28, place.length, true);
      offset += CHUNK_ENTRY_SIZE;
    }
    this.#frameCountOffset = offset;
    this.#frameCount = 0;
    this.length = offset + 4;
  }

  endPart(): void {
    this.#view.setUint32(this.#frameCountOffset, this.#frameCount, true);
    this.#parts++;
    this.#view.setUint16(this.#start, this.#parts, true);
  }

  zero(page: number): void {
    this.#frame(page, FrameKind.zero, 0);
  }

  image(page: number, image: Uint8Array): void {
    const offset = this.#frame(page, FrameKind.image, image.length);
    this.bytes.set(image, offset);
  }

  reference(page: number, chunkIndex: number, slot: number): void {
    const offset = this.#frame(page, FrameKind.reference, REFERENCE_SIZE);
    this.#view.setUint32(offset, chunkIndex, true);
    this.bytes[offset + 4] = slot;
  }

  /**
   * Lets `encode` write a delta of at most `limit` bytes at the offset it is given; it returns the size, or -1 to write
   * nothing. Returns the delta's offset in `bytes`, or -1.
   */
  delta(
    page: number,
    before: Uint8Array,
    after: Uint8Array,
    limit: number,
    encode: (
      before: Uint8Array,
      after: Uint8Array,
      target: Uint8Array,
      targetOffset: number,
      limit: number,
    ) => number,
  ): number {
    this.#reserve(FRAME_HEADER_SIZE + limit);
    const offset = this.length + FRAME_HEADER_SIZE;
    const size = encode(before, after, this.bytes, offset, limit);
    if (size < 0) return -1;
    return this.#frame(page, FrameKind.delta, size);
  }

  #frame(page: number, kind: FrameKind, size: number): number {
    this.#reserve(FRAME_HEADER_SIZE + size);
    const offset = this.length;
    this.#view.setUint32(offset, page, true);
    this.bytes[offset + 4] = kind;
    this.#view.setUint32(offset + 5, size, true);
    this.length = offset + FRAME_HEADER_SIZE + size;
    this.#frameCount++;
    return offset + FRAME_HEADER_SIZE;
  }

  #reserve(size: number): void {
    const needed = this.length + size;
    if (needed <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

export interface CommitRecord {
  /** Null: it has none. */
  readonly transactionId: string | null;
  readonly parts: readonly CommitPart[];
}

/** Null: a record of that kind is no commit. Throws as `decodeCommit`. */
export function decodeCommitRecord(
  kind: number,
  payload: Uint8Array,
  lsn: number,
): CommitRecord | null {
  if (kind === RecordKind.commit) return { transactionId: null, parts: decodeCommit(payload, lsn) };
  if (kind !== RecordKind.identifiedCommit) return null;
  if (payload.length < TRANSACTION_ID_SIZE) throw malformed(lsn);
  const { buffer, byteOffset } = payload;
  return {
    transactionId: Buffer.from(buffer, byteOffset, TRANSACTION_ID_SIZE).toString("hex"),
    parts: decodeCommit(payload.subarray(TRANSACTION_ID_SIZE), lsn),
  };
}

/** Decodes a commit payload; frames own their bytes. Throws StoreError CORRUPT_LOG when the lengths do not add up. */
export function decodeCommit(record: Uint8Array, lsn: number): CommitPart[] {
  // Not a Buffer, whose slice() is a view.
  const payload = new Uint8Array(record.buffer, record.byteOffset, record.byteLength);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  try {
    const parts: CommitPart[] = [];
    let offset = 2;
    for (let count = view.getUint16(0, true); count > 0; count--) {
      const decoded = decodePart(payload, view, offset, lsn);
      parts.push(decoded.part);
      offset = decoded.end;
    }
    if (offset === payload.length) return parts;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  throw malformed(lsn);
}

function decodePart(
  payload: Uint8Array,
  view: DataView,
  start: number,
  lsn: number,
): { part: CommitPart; end: number } {
  const chunks: { id: Uint8Array; place: ChunkPlace }[] = [];
  let offset = start + 32;
  for (let count = view.getUint32(start + 28, true); count > 0; count--) {
    chunks.push({
      id: payload.slice(offset, offset + 16),
      place: {
        pack: view.getUint32(offset + 16, true),
        offset: safeInteger(view.getFloat64(offset + 20, true), lsn),
        length: view.getUint32(offset + 28, true),
      },
    });
    offset += CHUNK_ENTRY_SIZE;
  }
  const frames: DecodedFrame[] = [];
  const frameCount = view.getUint32(offset, true);
  offset += 4;
  for (let count = frameCount; count > 0; count--) {
    const page = view.getUint32(offset, true);
    const kind = frameKind(view.getUint8(offset + 4), lsn);
    const size = view.getUint32(offset + 5, true);
    offset += FRAME_HEADER_SIZE;
    if (offset + size > payload.length) throw malformed(lsn);
    if (kind === FrameKind.reference) {
      const chunk = size === REFERENCE_SIZE ? chunks[view.getUint32(offset, true)] : undefined;
      if (chunk === undefined) throw malformed(lsn);
      frames.push({
        page,
        kind,
        bytes: NO_BYTES,
        reference: { ...chunk, slot: view.getUint8(offset + 4) },
      });
    } else if (kind === FrameKind.zero && size > 0) throw malformed(lsn);
    else {
      const bytes = size === 0 ? NO_BYTES : payload.slice(offset, offset + size);
      frames.push({ page, kind, bytes, reference: null });
    }
    offset += size;
  }
  const part: CommitPart = {
    databaseId: view.getUint32(start, true),
    timelineId: view.getUint32(start + 4, true),
    version: safeInteger(view.getFloat64(start + 8, true), lsn),
    timestampMs: safeInteger(view.getFloat64(start + 16, true), lsn),
    pageCount: view.getUint32(start + 24, true),
    frames,
  };
  return { part, end: offset };
}

export function encodeRefChange(change: RefChange): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(change));
}

/** Throws StoreError CORRUPT_LOG when it is none, STORE_FORMAT when this version does not know it. */
export function decodeRefChange(payload: Uint8Array, lsn: number): RefChange {
  let change: Partial<RefChange> | null;
  try {
    const text = Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString();
    change = JSON.parse(text) as Partial<RefChange> | null;
  } catch (cause) {
    throw new StoreError("CORRUPT_LOG", `Cannot read log record ${lsn}: it is not JSON`, { cause });
  }
  const type = change?.type;
  if (typeof type !== "string")
    throw new StoreError("CORRUPT_LOG", `Cannot read log record ${lsn}: it is no change of names`);
  if (!Object.hasOwn(REF_CHANGES, type))
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read log record ${lsn}: the change "${type}" is unknown; use a newer bough`,
    );
  return change as RefChange; // The record's checksum vouches for its fields.
}

const REF_CHANGES: Readonly<Record<RefChange["type"], true>> = {
  "create-database": true,
  "rename-database": true,
  "delete-database": true,
  "undelete-database": true,
  "create-branch": true,
  "rename-branch": true,
  "delete-branch": true,
  "undelete-branch": true,
  "reset-branch": true,
  "set-branch": true,
  "create-tag": true,
  "delete-tag": true,
  "set-retention": true,
  "purge-branch": true,
  "purge-database": true,
  "purge-timelines": true,
};

function safeInteger(value: number, lsn: number): number {
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw malformed(lsn);
}

function frameKind(value: number, lsn: number): FrameKind {
  switch (value) {
    case FrameKind.image:
    case FrameKind.delta:
    case FrameKind.zero:
    case FrameKind.reference:
      return value;
    default:
      throw new StoreError(
        "STORE_FORMAT",
        `Cannot read log record ${lsn}: frame kind ${value} is unknown; use a newer bough`,
      );
  }
}

function malformed(lsn: number): StoreError {
  return new StoreError(
    "CORRUPT_LOG",
    `Cannot read log record ${lsn}: its lengths or numbers make no sense, although its checksum is right`,
  );
}
