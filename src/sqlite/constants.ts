/** Numbers of SQLite's C interface that the host uses. They are part of SQLite's stable ABI. */

export const SQLITE_OK = 0;
export const SQLITE_ERROR = 1;
export const SQLITE_NOMEM = 7;
export const SQLITE_IOERR = 10;
export const SQLITE_NOTFOUND = 12;
export const SQLITE_CANTOPEN = 14;
export const SQLITE_MISUSE = 21;
export const SQLITE_TOOBIG = 18;
export const SQLITE_CONSTRAINT = 19;
export const SQLITE_ROW = 100;
export const SQLITE_DONE = 101;
export const SQLITE_RANGE = 25;
export const SQLITE_IOERR_SHORT_READ = 522;

export const SQLITE_READONLY = 8;
export const SQLITE_OPEN_READONLY = 0x1;
export const SQLITE_OPEN_READWRITE = 0x2;
export const SQLITE_OPEN_CREATE = 0x4;
export const SQLITE_OPEN_MAIN_DB = 0x100;
export const SQLITE_OPEN_MAIN_JOURNAL = 0x800;
export const SQLITE_OPEN_SUPER_JOURNAL = 0x4000;
export const SQLITE_OPEN_WAL = 0x80000;

export const SQLITE_FCNTL_PRAGMA = 14;
export const SQLITE_FCNTL_SYNC = 21;
export const SQLITE_FCNTL_COMMIT_PHASETWO = 22;

export const SQLITE_CONFIG_MEMSTATUS = 9;
export const SQLITE_CONFIG_URI = 17;
export const SQLITE_DBCONFIG_ENABLE_FKEY = 1002;
export const SQLITE_DBCONFIG_DEFENSIVE = 1010;

export const SQLITE_PREPARE_PERSISTENT = 0x1;

export const SQLITE_INTEGER = 1;
export const SQLITE_FLOAT = 2;
export const SQLITE_TEXT = 3;
export const SQLITE_BLOB = 4;

export const SQLITE_STATIC = 0;
export const SQLITE_TRANSIENT = -1;

export const SQLITE_UTF8 = 1;
export const SQLITE_DETERMINISTIC = 0x800;
export const SQLITE_DIRECTONLY = 0x80000;

export const SQLITE_DESERIALIZE_FREEONCLOSE = 1;
export const SQLITE_DESERIALIZE_RESIZEABLE = 2;
export const SQLITE_DESERIALIZE_READONLY = 4;

export const SQLITE_INDEX_CONSTRAINT_EQ = 2;
export const SQLITE_INDEX_CONSTRAINT_LIMIT = 73;
export const SQLITE_INDEX_CONSTRAINT_OFFSET = 74;
export const SQLITE_VTAB_DIRECTONLY = 3;
