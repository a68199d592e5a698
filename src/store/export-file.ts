/**
 * Writes a revision as a plain SQLite database file: page after page, the lock page as zeros.
 *
 *   write <name>.<random>.new -> sync it -> rename to <name> -> sync the directory
 *
 * Y1. `path` names either what it named before or the whole database, at every moment and after any crash.
 * Y2. A write-ahead log or hot journal beside `path` belongs to another state of that name: SQLite would play it into the new
 *     file, so exporting there is refused.
 */
import { randomBytes } from "node:crypto";
import { basename, dirname } from "node:path";
import { StoreError } from "../errors.ts";
import { fileKindSync } from "../storage/file-kind.ts";
import { isInside } from "../storage/is-inside.ts";
import { openNodeStorage } from "../storage/node-storage.ts";
import type { Storage, StorageFile } from "../storage/storage.ts";
import { explainSystemError } from "../storage/system-error.ts";
import type { Snapshot } from "../transaction/snapshot.ts";
import type { ByteProgress } from "./progress.ts";
import { SnapshotBlocks } from "./snapshot-blocks.ts";

export interface ExportOptions {
  /** Called about once per megabyte. */
  readonly onProgress?: ((progress: ByteProgress) => void) | undefined;
  /** Replace an existing file; otherwise FILE_EXISTS. */
  readonly overwrite?: boolean | undefined;
  /** Ends the export with the signal's reason; the file is as it was before. */
  readonly signal?: AbortSignal | undefined;
}

export interface ExportResult {
  /** The version that was written; 0 is the empty database. */
  readonly version: number;
  readonly pageCount: number;
  /** Bytes. */
  readonly pageSize: number;
  readonly bytes: number;
}

/** Throws for a path inside the store's directory: the export would replace a part of the store. */
export function refuseInsideStore(path: string, storeDirectory: string | null): void {
  if (storeDirectory === null || !isInside(storeDirectory, path)) return;
  throw new StoreError(
    "FILE_EXISTS",
    `Cannot export to "${path}": it is inside the directory of the store; give a path outside of it`,
    { details: { path } },
  );
}

/** Bytes of one write; a multiple of every page size. */
const WRITE_SIZE = 1024 * 1024;

export async function exportSnapshot(
  snapshot: Snapshot,
  path: string,
  options: ExportOptions = {},
): Promise<ExportResult> {
  return await replaceFile(path, options, async (file) => {
    using source = new SnapshotBlocks(snapshot);
    await writePages(source, file, options);
    const { version, pageCount, pageSize, size: bytes } = source;
    return { version, pageCount, pageSize, bytes };
  });
}

/** `write` fills the new file, which gets its name after that. */
export async function replaceFile<T>(
  path: string,
  options: Pick<ExportOptions, "overwrite" | "signal">,
  write: (file: StorageFile) => Promise<T>,
): Promise<T> {
  try {
    return await replaceThrough(path, options, write);
  } catch (error) {
    throw ofDestination(error, path);
  }
}

/** What the system says of the temporary file, or of a log beside the file, concerns the one that was asked for. */
function ofDestination(error: unknown, path: string): unknown {
  if (!(error instanceof StoreError)) return error;
  const { path: failed, systemCode: name } = error.details;
  if (typeof failed !== "string" || typeof name !== "string") return error;
  if (!basename(failed).startsWith(basename(path))) return error;
  return explainSystemError({ action: "Cannot export to", path, name, cause: error });
}

async function replaceThrough<T>(
  path: string,
  { overwrite = false, signal }: Pick<ExportOptions, "overwrite" | "signal">,
  write: (file: StorageFile) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const storage = openNodeStorage(dirname(path));
  const name = basename(path);
  const check = (): void => {
    checkDestination(storage, path, overwrite);
  };
  check();
  const temporary = `${name}.${randomBytes(6).toString("hex")}.new`;
  const file = storage.openFileSync(temporary, { mode: "create" });
  let result: T;
  try {
    try {
      result = await write(file);
      await file.sync();
    } finally {
      file.closeSync();
    }
    check();
    storage.renameSync(temporary, name);
  } catch (error) {
    if (storage.existsSync(temporary)) storage.deleteSync(temporary);
    throw error;
  }
  storage.syncDirectorySync("");
  return result;
}

/** Fills one buffer while the other one is written. */
async function writePages(
  source: SnapshotBlocks,
  file: StorageFile,
  { onProgress, signal }: ExportOptions,
): Promise<void> {
  const { pageSize, pageCount, size: totalBytes } = source;
  const pagesPerWrite = WRITE_SIZE / pageSize;
  const buffers = [new Uint8Array(WRITE_SIZE), new Uint8Array(WRITE_SIZE)] as const;
  let writing: Promise<void> = Promise.resolve();
  try {
    for (let block = 0; block * pagesPerWrite < pageCount; block++) {
      signal?.throwIfAborted();
      const buffer = block % 2 === 0 ? buffers[0] : buffers[1];
      const firstPage = block * pagesPerWrite + 1;
      const count = await source.read(firstPage, buffer, signal);
      await writing;
      onProgress?.({ bytes: (firstPage - 1) * pageSize, totalBytes });
      writing = file.write((firstPage - 1) * pageSize, buffer.subarray(0, count));
    }
  } finally {
    await writing;
  }
  onProgress?.({ bytes: totalBytes, totalBytes });
}

/** A rename would put the file in the place of a device, too. */
function refuseNoFile(path: string): void {
  const refuse = (code: "FILE_EXISTS" | "FILE_NOT_FOUND", fact: string): never => {
    throw new StoreError(code, `Cannot export to "${path}": ${fact}`, { details: { path } });
  };
  if (path === "") refuse("FILE_NOT_FOUND", "a file has a name");
  const kind = fileKindSync(path);
  if (kind === "directory" || /[/\\]$/.test(path))
    refuse("FILE_EXISTS", "that is a directory; give the name of a file in it");
  if (kind === "other") refuse("FILE_EXISTS", "it is a device, a pipe or a socket, not a file");
}

function checkDestination(storage: Storage, path: string, overwrite: boolean): void {
  const name = basename(path);
  refuseNoFile(path);
  if (!overwrite && storage.existsSync(name))
    throw new StoreError(
      "FILE_EXISTS",
      `Cannot export to "${path}": the file exists already; choose another name, or overwrite it (--overwrite)`,
      {
        details: { path },
      },
    );
  for (const suffix of ["-wal", "-journal"]) {
    if (!storage.existsSync(name + suffix) || sizeOf(storage, name + suffix) === 0) continue;
    throw new StoreError(
      "FILE_BUSY",
      `Cannot export to "${path}": "${path}${suffix}" is beside it, which SQLite would apply to the new file; close the database that it belongs to, or delete it`,
      { retryable: true, details: { path: path + suffix } },
    );
  }
}

function sizeOf(storage: Storage, name: string): number {
  const file = storage.openFileSync(name, { mode: "read" });
  try {
    return file.sizeSync();
  } finally {
    file.closeSync();
  }
}
