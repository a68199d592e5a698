/**
 * The border between SQLite and what stores its files. `src/sqlite/` calls these from the WASM VFS bridge;
 * `src/transaction/` implements them for revisions, `memory-file.ts` for temporary files.
 *
 * Every method is synchronous and returns an SQLite result code (0 is SQLITE_OK) unless it says otherwise. A method may
 * throw: the bridge keeps the error, gives SQLite SQLITE_IOERR (or the error's own `sqliteCode` number), and the call
 * that the user made throws the kept error instead of SQLite's.
 */
export interface VfsFile {
  /**
   * Copies `length` bytes from `offset` to `heap` at `pointer`. Past the end of the file: zeros, and
   * SQLITE_IOERR_SHORT_READ (522). `heap` is valid only during the call.
   */
  read(heap: Uint8Array, pointer: number, length: number, offset: number): number;
  /** The read at `offset` has just thrown NotLocalError, and its bytes are about to be fetched. Throws nothing. */
  noteMiss?(offset: number): void;
  write(heap: Uint8Array, pointer: number, length: number, offset: number): number;
  truncate(size: number): number;
  sync(): number;
  /** In bytes, not a result code. */
  size(): number;
  /** Levels: NONE 0, SHARED 1, RESERVED 2, PENDING 3, EXCLUSIVE 4. */
  lock(level: number): number;
  unlock(level: number): number;
  /** Whether any connection holds RESERVED or more; not a result code. */
  isReserved(): boolean;
  /** SQLITE_FCNTL_SYNC (21): the last point where an error makes SQLite roll back cleanly. Validate and log here. */
  prepareCommit(): number;
  /** SQLITE_FCNTL_COMMIT_PHASETWO (22): the transaction is committed, publish it. */
  commitPhaseTwo(): number;
  /**
   * SQLITE_FCNTL_PRAGMA (14). Null leaves the pragma to SQLite; a string is the pragma's one result ("" = no row);
   * throws to refuse the pragma with a message.
   */
  pragma(name: string, value: string | null): string | null;
  /**
   * Why it can never be written: SQLite then treats it as a read-only database, and a statement that would write throws
   * this error instead of SQLite's. Null, or left out: it can.
   */
  readonly readOnlyError?: Error | null;
  /** SQLITE_IOCAP_* flags. */
  readonly deviceCharacteristics: number;
  readonly sectorSize: number;
  /** Bytes; what SQLite makes an empty file with. Left out: SQLite's own choice. */
  readonly pageSize?: number;
  close(): void;
}

export interface Vfs {
  /**
   * Opens a main or attached database. `name` is what the user gave to open or ATTACH. `owner` is the object passed to
   * the Connection that asks. Throws a StoreError when there is no such revision.
   */
  open(name: string, options: VfsOpenOptions): VfsFile;
  /** BEGIN CONCURRENT has been run on a connection with this owner; or, false, that transaction has ended. */
  setConcurrent?(owner: object, isConcurrent: boolean): void;
}

export interface VfsOpenOptions {
  readonly owner: object;
  readonly readOnly: boolean;
  /** SQLITE_OPEN_CREATE was given. */
  readonly create: boolean;
}
