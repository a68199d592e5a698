/**
 * Reads the committed pages of a SQLite write-ahead log, `<database>-wal`. Big-endian but for the checksums' words. The
 * format is SQLite's, described at https://www.sqlite.org/fileformat2.html (section 4) and https://www.sqlite.org/walformat.html.
 *
 *   Header                                        Frame, at 32 + n * (24 + page size)
 *   offset size  field                            offset size  field
 *        0    4  magic 0x377f0682 or 0x377f0683        0    4  page number
 *        4    4  version 3007000                       4    4  of a commit's last frame: pages of the database
 *        8    4  page size                                     after it; else 0
 *       12    4  checkpoint number                     8    8  the header's salts
 *       16    8  two salts                            16    8  checksum of the header's first 24 bytes, then of
 *       24    8  checksum of bytes 0 to 23                     bytes 0 to 7 and the page of every frame up to this
 *                                                     24       the page
 *
 * The checksum adds 32-bit words in pairs; magic ...82: the words are little-endian, ...83: big-endian.
 *
 * L1. Frames count up to the last commit before the first one with other salts or a wrong checksum: what follows was not
 *     committed, or is left from before the log was restarted. So reads SQLite itself.
 * L2. A log whose own header is damaged is an error, although SQLite would pass over it: its commits would be lost.
 */
import { StoreError } from "../errors.ts";
import type { StorageFile } from "../storage/storage.ts";

const HEADER_SIZE = 32;
const FRAME_HEADER_SIZE = 24;
const MAGIC_LITTLE = 0x377f0682;
const MAGIC_BIG = 0x377f0683;
const VERSION = 3007000;
const READ_SIZE = 1024 * 1024;

export interface WalContent {
  /** Where the newest committed bytes of a page are in the log. */
  readonly offsets: ReadonlyMap<number, number>;
  /** Pages of the database after the last commit; null: the log has no commit. */
  readonly pageCount: number | null;
  readonly commits: number;
}

export interface WalPlace {
  /** For messages. */
  readonly path: string;
  readonly pageSize: number;
}

/** Reads the whole log once. Throws WAL_INVALID (L2). */
export async function readWal(file: StorageFile, place: WalPlace): Promise<WalContent> {
  const { path, pageSize } = place;
  const header = new Uint8Array(HEADER_SIZE);
  const count = await file.read(0, header);
  if (count === 0) return { offsets: new Map(), pageCount: null, commits: 0 };
  if (count < HEADER_SIZE)
    throw walInvalid(path, `it ends after ${count} of the ${HEADER_SIZE} bytes of its header`);
  const view = new DataView(header.buffer);
  const magic = view.getUint32(0);
  if (magic !== MAGIC_LITTLE && magic !== MAGIC_BIG)
    throw walInvalid(path, "it does not begin as a write-ahead log");
  const checksum = new WalChecksum(magic === MAGIC_LITTLE);
  checksum.add(header, 0, 24);
  if (!checksum.matches(view, 24)) throw walInvalid(path, "its header fails its checksum");
  if (view.getUint32(4) !== VERSION)
    throw walInvalid(path, `its format version is ${view.getUint32(4)}, known is ${VERSION}`);
  const logPageSize = view.getUint32(8);
  if (logPageSize !== pageSize)
    throw walInvalid(path, `its pages have ${logPageSize} bytes, the database's ${pageSize}`);
  return await readFrames(file, { pageSize, header: view, checksum });
}

async function readFrames(
  file: StorageFile,
  log: { readonly pageSize: number; readonly header: DataView; readonly checksum: WalChecksum },
): Promise<WalContent> {
  const { pageSize, header, checksum } = log;
  const frameSize = FRAME_HEADER_SIZE + pageSize;
  const buffer = new Uint8Array(Math.max(1, Math.floor(READ_SIZE / frameSize)) * frameSize);
  const view = new DataView(buffer.buffer);
  const offsets = new Map<number, number>();
  const uncommitted = new Map<number, number>();
  let pageCount: number | null = null;
  let commits = 0;
  for (let position = HEADER_SIZE; ; position += buffer.length) {
    const count = await file.read(position, buffer);
    for (let start = 0; start + frameSize <= count; start += frameSize) {
      const page = view.getUint32(start);
      const sameSalts =
        view.getUint32(start + 8) === header.getUint32(16) &&
        view.getUint32(start + 12) === header.getUint32(20);
      if (page === 0 || !sameSalts) return { offsets, pageCount, commits };
      checksum.add(buffer, start, 8);
      checksum.add(buffer, start + FRAME_HEADER_SIZE, pageSize);
      if (!checksum.matches(view, start + 16)) return { offsets, pageCount, commits };
      uncommitted.set(page, position + start + FRAME_HEADER_SIZE);
      const pagesAfter = view.getUint32(start + 4);
      if (pagesAfter === 0) continue;
      for (const [committed, offset] of uncommitted) offsets.set(committed, offset);
      uncommitted.clear();
      pageCount = pagesAfter;
      commits++;
    }
    if (count < buffer.length) return { offsets, pageCount, commits };
  }
}

/** The running checksum over the header and all frames so far. */
class WalChecksum {
  readonly #littleEndian: boolean;
  #first = 0;
  #second = 0;

  constructor(littleEndian: boolean) {
    this.#littleEndian = littleEndian;
  }

  /** `length` is a multiple of 8. */
  add(bytes: Uint8Array, start: number, length: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, length);
    const littleEndian = this.#littleEndian;
    let first = this.#first;
    let second = this.#second;
    for (let offset = 0; offset < length; offset += 8) {
      first = (first + view.getUint32(offset, littleEndian) + second) | 0;
      second = (second + view.getUint32(offset + 4, littleEndian) + first) | 0;
    }
    this.#first = first;
    this.#second = second;
  }

  /** Whether the eight bytes at `offset` are the checksum so far. */
  matches(view: DataView, offset: number): boolean {
    return view.getInt32(offset) === this.#first && view.getInt32(offset + 4) === this.#second;
  }
}

export function walInvalid(path: string, fact: string): StoreError {
  return new StoreError("WAL_INVALID", `Cannot import write-ahead log "${path}": ${fact}`, {
    details: { path },
  });
}
