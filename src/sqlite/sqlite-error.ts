/** SQLite's own failures, in the shape of better-sqlite3: a message from SQLite and `code`, the name of the result code. */

/** Extended codes are `primary | (n << 8)`. Numbers come from sqlite3.h and never change. */
const PRIMARY: readonly string[] = [
  "OK ERROR INTERNAL PERM ABORT BUSY LOCKED NOMEM READONLY INTERRUPT IOERR CORRUPT NOTFOUND FULL",
  "CANTOPEN PROTOCOL EMPTY SCHEMA TOOBIG CONSTRAINT MISMATCH MISUSE NOLFS AUTH FORMAT RANGE NOTADB",
  "NOTICE WARNING",
].flatMap((names) => names.split(" "));

const EXTENDED: Readonly<Record<string, string>> = {
  ERROR: "MISSING_COLLSEQ RETRY SNAPSHOT RESERVESIZE KEY UNABLE",
  IOERR:
    "READ SHORT_READ WRITE FSYNC DIR_FSYNC TRUNCATE FSTAT UNLOCK RDLOCK DELETE BLOCKED NOMEM ACCESS " +
    "CHECKRESERVEDLOCK LOCK CLOSE DIR_CLOSE SHMOPEN SHMSIZE SHMLOCK SHMMAP SEEK DELETE_NOENT MMAP GETTEMPPATH " +
    "CONVPATH VNODE AUTH BEGIN_ATOMIC COMMIT_ATOMIC ROLLBACK_ATOMIC DATA CORRUPTFS IN_PAGE BADKEY CODEC",
  LOCKED: "SHAREDCACHE VTAB",
  BUSY: "RECOVERY SNAPSHOT TIMEOUT",
  CANTOPEN: "NOTEMPDIR ISDIR FULLPATH CONVPATH DIRTYWAL SYMLINK",
  CORRUPT: "VTAB SEQUENCE INDEX",
  READONLY: "RECOVERY CANTLOCK ROLLBACK DBMOVED CANTINIT DIRECTORY",
  ABORT: "- ROLLBACK",
  CONSTRAINT:
    "CHECK COMMITHOOK FOREIGNKEY FUNCTION NOTNULL PRIMARYKEY TRIGGER UNIQUE VTAB ROWID PINNED DATATYPE",
  NOTICE: "RECOVER_WAL RECOVER_ROLLBACK RBU",
  WARNING: "AUTOINDEX",
  AUTH: "USER",
  OK: "LOAD_PERMANENTLY SYMLINK",
};

const names = new Map<number, string>([
  [100, "SQLITE_ROW"],
  [101, "SQLITE_DONE"],
]);
for (const [primary, name] of PRIMARY.entries()) {
  names.set(primary, `SQLITE_${name}`);
  for (const [index, suffix] of (EXTENDED[name]?.split(" ") ?? []).entries()) {
    names.set(primary | ((index + 1) << 8), `SQLITE_${name}_${suffix}`);
  }
}

/** `SQLITE_CONSTRAINT_UNIQUE` for 2067. */
export function resultCodeName(code: number): string {
  return names.get(code) ?? `UNKNOWN_SQLITE_ERROR_${code}`;
}

export class SqliteError extends Error {
  readonly code: string;

  constructor(message: string, code: string) {
    super(message);
    if (typeof code !== "string") throw new TypeError("Expected second argument to be a string");
    this.code = code;
  }

  /** The same transaction may succeed if it is run again. */
  get retryable(): boolean {
    return this.code.startsWith("SQLITE_BUSY");
  }
}
Object.defineProperty(SqliteError.prototype, "name", {
  value: "SqliteError",
  writable: true,
  enumerable: false,
  configurable: true,
});
