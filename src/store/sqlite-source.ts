/**
 * A plain SQLite database as a stream of pages: the file, and the committed pages of the write-ahead log beside it.
 *
 * P1. What is given out is one state of the database: `assertUnchanged` says afterwards whether anybody wrote to the file or
 *     the log meanwhile, or took away or added a log or a journal. (Node cannot take SQLite's locks.)
 * P2. A database that needs a rollback first (a hot journal) is refused: its file holds half of a transaction.
 */
import { basename, dirname } from "node:path";
import { StoreError } from "../errors.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { lockPageNumber } from "../transaction/snapshot.ts";
import {
  isHotJournal,
  parseSqliteHeader,
  SQLITE_HEADER_SIZE,
  useRollbackVersions,
} from "./sqlite-file.ts";
import { readWal, type WalContent, walInvalid } from "./sqlite-wal.ts";

/** Bytes of one read; a multiple of every page size. */
const READ_SIZE = 1024 * 1024;

export interface PageBlock {
  readonly firstPage: number;
  /** Pages in the block. */
  readonly count: number;
  /** The pages one after another from the start; longer than they are. */
  readonly bytes: Uint8Array;
}

export class SqliteSource {
  readonly path: string;
  readonly pageSize: number;
  readonly pageCount: number;
  /** Commits found in the write-ahead log. */
  readonly walCommits: number;
  readonly #files: SourceFiles;
  readonly #wal: WalContent | null;
  /** Whole pages in the file, before the log is applied. */
  readonly #filePages: number;

  private constructor(
    path: string,
    files: SourceFiles,
    parts: { pageSize: number; pageCount: number; wal: WalContent | null; filePages: number },
  ) {
    this.path = path;
    this.pageSize = parts.pageSize;
    this.pageCount = parts.pageCount;
    this.walCommits = parts.wal?.commits ?? 0;
    this.#files = files;
    this.#wal = parts.wal;
    this.#filePages = parts.filePages;
  }

  /** Throws FILE_NOT_FOUND, NOT_A_DATABASE, FILE_TRUNCATED, WAL_INVALID, FILE_BUSY. Reads the log whole. */
  static async open(path: string): Promise<SqliteSource> {
    const files = SourceFiles.open(path);
    try {
      const size = files.database.sizeSync();
      const bytes = new Uint8Array(SQLITE_HEADER_SIZE);
      const count = await files.database.read(0, bytes);
      const header = parseSqliteHeader(bytes.subarray(0, count), path);
      const { pageSize } = header;
      const { wal: log } = files;
      const wal = log === null ? null : await readWal(log, { path: `${path}-wal`, pageSize });
      const pageCount = wal?.pageCount ?? header.pageCount ?? Math.ceil(size / pageSize);
      const filePages = Math.floor(size / pageSize);
      const source = new SqliteSource(path, files, { pageSize, pageCount, wal, filePages });
      source.#assertComplete(size);
      return source;
    } catch (error) {
      files.close();
      throw error;
    }
  }

  /** Size of the database in bytes. */
  get size(): number {
    return this.pageCount * this.pageSize;
  }

  /**
   * The pages in order, a megabyte at a time; a block's bytes are valid until the next one is asked for. Reads ahead while the
   * caller works. The lock page is among them, with whatever the file has in its place.
   */
  async *blocks(): AsyncGenerator<PageBlock> {
    const pagesPerBlock = READ_SIZE / this.pageSize;
    const buffers = [new Uint8Array(READ_SIZE), new Uint8Array(READ_SIZE)] as const;
    let next = this.#readBlock(0, buffers[0]);
    for (let block = 0; block * pagesPerBlock < this.pageCount; block++) {
      const firstPage = block * pagesPerBlock + 1;
      const count = Math.min(pagesPerBlock, this.pageCount - firstPage + 1);
      const bytes = buffers[block % 2 === 0 ? 0 : 1];
      const fileBytes = await next;
      next = this.#readBlock(block + 1, buffers[block % 2 === 0 ? 1 : 0]);
      next.catch(() => {}); // Awaited by the next round, if there is one.
      const isPatched = await this.#applyWal({ firstPage, count, bytes });
      const expected = Math.min(this.#filePages - firstPage + 1, count) * this.pageSize;
      if (fileBytes < expected || !isPatched) throw this.#changed();
      if (firstPage === 1) useRollbackVersions(bytes);
      yield { firstPage, count, bytes };
    }
  }

  /** P1. Throws FILE_BUSY. */
  assertUnchanged(): void {
    if (!this.#files.areUnchanged()) throw this.#changed();
  }

  close(): void {
    this.#files.close();
  }

  #readBlock(block: number, target: Uint8Array): Promise<number> {
    const offset = block * READ_SIZE;
    return offset < this.size ? this.#files.database.read(offset, target) : Promise.resolve(0);
  }

  /** Puts the log's pages over the file's; false when the log has become shorter. */
  async #applyWal({ firstPage, count, bytes }: PageBlock): Promise<boolean> {
    const { pageSize } = this;
    const { wal } = this.#files;
    if (wal === null || this.#wal === null || this.#wal.offsets.size === 0) return true;
    for (let index = 0; index < count; index++) {
      const offset = this.#wal.offsets.get(firstPage + index);
      if (offset === undefined) continue;
      const page = bytes.subarray(index * pageSize, (index + 1) * pageSize);
      if ((await wal.read(offset, page)) !== pageSize) return false;
    }
    return true;
  }

  /** Every page is in the file or in the log. */
  #assertComplete(size: number): void {
    const { pageSize, pageCount } = this;
    const lockPage = lockPageNumber(pageSize);
    for (let number = this.#filePages + 1; number <= pageCount; number++) {
      if (number === lockPage || this.#wal?.offsets.has(number) === true) continue;
      throw new StoreError(
        "FILE_TRUNCATED",
        `Cannot import "${this.path}": page ${number} of ${pageCount} is missing, the file has ${size} bytes and its pages ${pageSize}`,
        { details: { path: this.path, page: number, pageCount, pageSize, size } },
      );
    }
  }

  #changed(): StoreError {
    return new StoreError(
      "FILE_BUSY",
      `Cannot import "${this.path}": it was changed while it was read; try again when nobody writes to it`,
      { retryable: true, details: { path: this.path } },
    );
  }
}

/** The database file and what SQLite keeps beside it, with what they were like when they were opened. */
class SourceFiles {
  readonly database: StorageFile;
  readonly wal: StorageFile | null;
  readonly #storage: Storage;
  readonly #name: string;
  readonly #marks: string;

  private constructor(
    storage: Storage,
    name: string,
    files: { database: StorageFile; wal: StorageFile | null },
  ) {
    this.#storage = storage;
    this.#name = name;
    this.database = files.database;
    this.wal = files.wal;
    this.#marks = this.#currentMarks();
  }

  static open(path: string): SourceFiles {
    const storage = openNodeStorage(dirname(path));
    const name = basename(path);
    const walName = `${name}-wal`;
    if (!storage.existsSync(name) && storage.existsSync(walName))
      throw walInvalid(`${path}-wal`, `the database file "${path}" that it belongs to is missing`);
    const database = storage.openFileSync(name, { mode: "read" });
    let wal: StorageFile | null = null;
    try {
      refuseHotJournal(storage, path);
      if (storage.existsSync(walName)) wal = storage.openFileSync(walName, { mode: "read" });
      return new SourceFiles(storage, name, { database, wal });
    } catch (error) {
      database.closeSync();
      wal?.closeSync();
      throw error;
    }
  }

  areUnchanged(): boolean {
    return this.#currentMarks() === this.#marks;
  }

  close(): void {
    this.database.closeSync();
    this.wal?.closeSync();
  }

  #currentMarks(): string {
    const storage = this.#storage;
    const hasWal = storage.existsSync(`${this.#name}-wal`);
    const hasJournal = hasHotJournal(storage, this.#name);
    const wal = this.wal?.changeMarkSync() ?? null;
    return JSON.stringify([this.database.changeMarkSync(), wal, hasWal, hasJournal]);
  }
}

/** P2. */
function refuseHotJournal(storage: Storage, path: string): void {
  if (!hasHotJournal(storage, basename(path))) return;
  throw new StoreError(
    "FILE_BUSY",
    `Cannot import "${path}": its rollback journal "${path}-journal" holds an unfinished transaction; end it, or after a crash open the database once with sqlite3, which rolls it back`,
    { retryable: true, details: { path } },
  );
}

function hasHotJournal(storage: Storage, name: string): boolean {
  let journal: StorageFile;
  try {
    journal = storage.openFileSync(`${name}-journal`, { mode: "read" });
  } catch (error) {
    if (error instanceof StoreError && error.code === "FILE_NOT_FOUND") return false;
    throw error;
  }
  try {
    const bytes = new Uint8Array(8);
    const count = journal.readSync(0, bytes);
    return isHotJournal(bytes.subarray(0, count));
  } finally {
    journal.closeSync();
  }
}
