/**
 * Everything the engine asks of a disk. `node-storage.ts` is the real one and the only importer of node:fs;
 * `src/testing/simulated-storage.ts` is one that crashes, tears, loses and fails on demand.
 *
 * Paths are relative to the store's directory, with "/" between names. A failure of the system is a StoreError with
 * code IO, DISK_FULL, PERMISSION or FILE_NOT_FOUND, its `cause` the system's own error.
 *
 * S1. Bytes written survive a power loss only after a `sync` of that file that began after the write and returned.
 * S2. A file's name (its creation, rename or deletion) survives only after `syncDirectorySync` of its directory.
 * S3. A file opened with `durableWrites` (O_DSYNC): each write is durable when it returns, if it did not extend the
 *     file beyond what a sync covered before.
 * S4. After a failed write or sync the contents are unknown; callers never retry a sync, they stop.
 */
export interface StorageFile {
  readonly path: string;
  /** Fills `target` from `offset`; returns the bytes read, fewer than asked only at the end of the file. */
  readSync(offset: number, target: Uint8Array): number;
  read(offset: number, target: Uint8Array): Promise<number>;
  /** Writes all of `source`, or throws. */
  writeSync(offset: number, source: Uint8Array): void;
  /** Writes all of `source`; the caller leaves the bytes alone until it settles. */
  write(offset: number, source: Uint8Array): Promise<void>;
  syncSync(): void;
  sync(): Promise<void>;
  /** Size in bytes. */
  sizeSync(): number;
  /** Differs, in size or time of change, once anybody has written to the file; to be compared, nothing else. */
  changeMarkSync(): string;
  truncateSync(size: number): void;
  /**
   * What was read there is not what was written: drops cached copies, so that the next read fetches them anew. False: it has been
   * tried often enough. Files that are here themselves do not have it.
   */
  refetch?(offset: number, length: number): boolean;
  closeSync(): void;
}

export type OpenMode =
  /** An existing file, not to be written. */
  | "read"
  /** An existing file, to be read and written. */
  | "write"
  /** A new file; fails when the name is taken. */
  | "create";

export interface OpenFileOptions {
  readonly mode: OpenMode;
  /** See S3. */
  readonly durableWrites?: boolean;
}

export interface Storage {
  /** For messages: where this is, as the user named it. */
  readonly description: string;
  /** The directory for libraries that do their own I/O (lmdb); null where there is none (simulated disk). */
  readonly directory: string | null;
  openFileSync(path: string, options: OpenFileOptions): StorageFile;
  existsSync(path: string): boolean;
  /** Names (not paths) in a directory, sorted; empty when the directory is missing. */
  listSync(path: string): string[];
  /** Creates the directory and its parents where missing; durable when it returns. */
  makeDirectorySync(path: string): void;
  /** Atomic replacement of `to`. */
  renameSync(from: string, to: string): void;
  /** Deletes a file; a missing one is an error with code FILE_NOT_FOUND. */
  deleteSync(path: string): void;
  /** Starts to bring parts of a file here that will be read soon. A storage where all is local does not have it. */
  prefetch?(path: string, ranges: readonly { offset: number; length: number }[]): void;
  /** See S2. "" is the store's own directory. */
  syncDirectorySync(path: string): void;
}
