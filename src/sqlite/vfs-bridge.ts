/**
 * Makes a `Vfs` known to SQLite: writes sqlite3_vfs and sqlite3_io_methods into WASM memory and routes their methods.
 *
 *   sqlite3_file, 8 bytes:  0 pMethods   4 index into `files`
 *
 * B1. No exception crosses WebAssembly: the connection that opened the file keeps it (C2), SQLite gets its
 *     `sqliteCode` or the method's error code.
 * B2. No hot journal exists, ever: xAccess finds nothing. Rollback journals are in SQLite's memory (journal mode
 *     MEMORY, set by Connection at open and after ATTACH), or in a MemoryFile for the target of VACUUM INTO.
 * B4. A method that throws NotLocalError has changed nothing: the bytes are fetched and it is called again.
 * B3. A file without a name, or not a database, is temporary: a MemoryFile.
 */
import { randomFillSync } from "node:crypto";
import { invariant } from "../errors.ts";
import { NotLocalError } from "../storage/not-local.ts";
import type { ConnectionState } from "./connection-state.ts";
import {
  SQLITE_CANTOPEN,
  SQLITE_ERROR,
  SQLITE_FCNTL_COMMIT_PHASETWO,
  SQLITE_FCNTL_PRAGMA,
  SQLITE_FCNTL_SYNC,
  SQLITE_IOERR,
  SQLITE_MISUSE,
  SQLITE_NOTFOUND,
  SQLITE_OK,
  SQLITE_OPEN_CREATE,
  SQLITE_OPEN_MAIN_DB,
  SQLITE_OPEN_MAIN_JOURNAL,
  SQLITE_OPEN_READONLY,
  SQLITE_OPEN_READWRITE,
  SQLITE_OPEN_SUPER_JOURNAL,
  SQLITE_OPEN_WAL,
} from "./constants.ts";
import { MemoryFile } from "./memory-file.ts";
import { readFetchingFor, readWaitingFor } from "./page-wait.ts";
import type { SqliteRuntime } from "./runtime.ts";
import { SUSPEND, suspendingRead } from "./suspension.ts";
import type { WasmCallback, WasmFunction } from "./trampoline.ts";
import type { Vfs, VfsFile } from "./vfs.ts";

/** In the order of struct sqlite3_io_methods, version 1, after iVersion. */
const FILE_METHODS = [
  ["close", "i>i"],
  ["read", "iiij>i"],
  ["write", "iiij>i"],
  ["truncate", "ij>i"],
  ["sync", "ii>i"],
  ["fileSize", "ii>i"],
  ["lock", "ii>i"],
  ["unlock", "ii>i"],
  ["checkReservedLock", "ii>i"],
  ["fileControl", "iii>i"],
  ["sectorSize", "i>i"],
  ["deviceCharacteristics", "i>i"],
] as const;

/** Offset in struct sqlite3_vfs, version 2. */
const VFS_METHODS = [
  ["open", "iiiii>i", 24],
  ["delete", "iii>i", 28],
  ["access", "iiii>i", 32],
  ["fullPathname", "iiii>i", 36],
  ["randomness", "iii>i", 56],
  ["sleep", "ii>i", 60],
  ["currentTime", "ii>i", 64],
  ["getLastError", "iii>i", 68],
  ["currentTimeInt64", "ii>i", 72],
] as const;

const VFS_BYTES = 88;
const FILE_BYTES = 8;
const PATHNAME_BYTES_MAX = 1024;
/** Julian day number of 1970-01-01, in milliseconds. */
const UNIX_EPOCH_JULIAN_MS = 210_866_760_000_000;
const DAY_MS = 86_400_000;

interface OpenFile {
  readonly file: VfsFile;
  readonly state: ConnectionState | null;
}

type FileMethod = (typeof FILE_METHODS)[number][0];
type VfsMethod = (typeof VFS_METHODS)[number][0];

export function registerVfs(
  runtime: SqliteRuntime,
  { name, vfs, makeDefault }: { name: string; vfs: Vfs; makeDefault: boolean },
): void {
  const { heap, exports } = runtime;
  const files = new FileTable(runtime);
  const ioMethods = writeIoMethods(runtime, files);
  const callbacks = vfsCallbacks(runtime, { vfs, files, ioMethods });
  const first = runtime.addCallbacks(
    VFS_METHODS.map(([method, signature]) => ({ signature, callback: callbacks[method] })),
  );
  const struct = heap.allocate(VFS_BYTES);
  const zName = heap.allocateText(name);
  heap.u8.fill(0, struct, struct + VFS_BYTES);
  heap.i32.set([2, FILE_BYTES, PATHNAME_BYTES_MAX, 0, zName], struct >> 2);
  for (const [index, [, , offset]] of VFS_METHODS.entries()) {
    heap.i32[(struct + offset) >> 2] = first + index;
  }
  const code = exports.sqlite3_vfs_register(struct, makeDefault ? 1 : 0);
  if (code !== SQLITE_OK) throw new Error(`Cannot register VFS "${name}": result code ${code}`);
}

class FileTable {
  readonly #runtime: SqliteRuntime;
  readonly #files: (OpenFile | undefined)[] = [];
  readonly #free: number[] = [];

  constructor(runtime: SqliteRuntime) {
    this.#runtime = runtime;
  }

  add(entry: OpenFile): number {
    const index = this.#free.pop() ?? this.#files.length;
    this.#files[index] = entry;
    return index;
  }

  get(pointer: number): OpenFile {
    const entry = this.#files[this.#runtime.heap.i32[(pointer + 4) >> 2] ?? -1];
    if (entry === undefined) throw new RangeError(`Cannot find open file: pointer ${pointer}`);
    return entry;
  }

  remove(pointer: number): OpenFile {
    const entry = this.get(pointer);
    const index = this.#runtime.heap.i32[(pointer + 4) >> 2] ?? -1;
    this.#files[index] = undefined;
    this.#free.push(index);
    return entry;
  }
}

/** See B1. */
function keep(state: ConnectionState | null, error: unknown, fallback: number): number {
  state?.keep(error);
  if (error instanceof Error && "sqliteCode" in error && typeof error.sqliteCode === "number") {
    return error.sqliteCode;
  }
  return fallback;
}

type FileCall = (entry: OpenFile, argument: number) => number;

const prepareCommit: FileCall = ({ file }) => file.prepareCommit();
const commitPhaseTwo: FileCall = ({ file }) => file.commitPhaseTwo();

/**
 * After `error`: waits for what is not local and calls again (B4), else keeps the error (B1). Apart from the callbacks, which
 * therefore have no closures: V8 would allocate a context for each call.
 */
function callAgain(entry: OpenFile, error: unknown, call: FileCall, argument: number): number {
  if (!(error instanceof NotLocalError)) return keep(entry.state, error, SQLITE_IOERR);
  try {
    return readWaitingFor(entry.state, error, () => call(entry, argument));
  } catch (failure) {
    return keep(entry.state, failure, SQLITE_IOERR);
  }
}

interface FailedRead {
  readonly entry: OpenFile;
  readonly error: unknown;
  readonly target: number;
  readonly length: number;
  readonly offset: number;
}

/** The same for a read. */
function readAgain({ heap }: SqliteRuntime, read: FailedRead): number {
  const { entry, error, target, length, offset } = read;
  if (error instanceof NotLocalError) entry.file.noteMiss?.(offset);
  return callAgain(entry, error, ({ file }) => file.read(heap.u8, target, length, offset), 0);
}

function writeIoMethods(runtime: SqliteRuntime, files: FileTable): number {
  const { heap } = runtime;
  const callbacks = fileCallbacks(runtime, files);
  const first = runtime.addCallbacks(
    FILE_METHODS.map(([method, signature]) => ({ signature, callback: callbacks[method] })),
  );
  const struct = heap.allocate(4 * (FILE_METHODS.length + 1));
  heap.i32.set([1, ...FILE_METHODS.map((_, index) => first + index)], struct >> 2);
  if (runtime.suspends) {
    const index = FILE_METHODS.findIndex(([method]) => method === "read");
    const xRead = runtime.addFunctions([makeSuspendingRead(runtime, files)]);
    heap.i32[(struct >> 2) + 1 + index] = xRead;
  }
  return struct;
}

function fileCallbacks(runtime: SqliteRuntime, files: FileTable): Record<FileMethod, WasmCallback> {
  const { heap } = runtime;
  const guarded =
    (call: FileCall): ((pointer: number, argument: number) => number) =>
    (pointer, argument) => {
      const entry = files.get(pointer);
      try {
        return call(entry, argument);
      } catch (error) {
        return callAgain(entry, error, call, argument);
      }
    };
  return {
    close: (pointer: number): number => {
      const entry = files.remove(pointer);
      entry.state?.readOnlyFiles.delete(entry.file);
      try {
        entry.file.close();
        return SQLITE_OK;
      } catch (error) {
        return keep(entry.state, error, SQLITE_IOERR);
      }
    },
    read: (pointer: number, target: number, length: number, offset: number): number => {
      const entry = files.get(pointer);
      try {
        return entry.file.read(heap.u8, target, length, offset);
      } catch (error) {
        return readAgain(runtime, { entry, error, target, length, offset });
      }
    },
    write: (pointer: number, source: number, length: number, offset: number): number => {
      const entry = files.get(pointer);
      try {
        return entry.file.write(heap.u8, source, length, offset);
      } catch (error) {
        return keep(entry.state, error, SQLITE_IOERR);
      }
    },
    truncate: guarded(({ file }, size) => file.truncate(size)),
    sync: guarded(({ file }) => file.sync()),
    fileSize: guarded(({ file }, result) => {
      heap.writeInt64(result, file.size());
      return SQLITE_OK;
    }),
    lock: guarded(({ file }, level) => file.lock(level)),
    unlock: guarded(({ file }, level) => file.unlock(level)),
    checkReservedLock: guarded(({ file }, result) => {
      heap.i32[result >> 2] = file.isReserved() ? 1 : 0;
      return SQLITE_OK;
    }),
    fileControl: (pointer: number, operation: number, argument: number): number =>
      fileControl(runtime, files.get(pointer), operation, argument),
    sectorSize: (pointer: number): number => files.get(pointer).file.sectorSize,
    deviceCharacteristics: (pointer: number): number =>
      files.get(pointer).file.deviceCharacteristics,
  };
}

/** As `read` of `fileCallbacks`, for calls that can be suspended. */
function makeSuspendingRead(runtime: SqliteRuntime, files: FileTable): WasmFunction {
  const { heap } = runtime;
  let missing: (FailedRead & { readonly error: NotLocalError }) | null = null;
  return suspendingRead(
    (pointer, target, length, offset) => {
      const entry = files.get(pointer);
      try {
        return entry.file.read(heap.u8, target, length, offset);
      } catch (error) {
        const read = { entry, error, target, length, offset };
        if (!runtime.isSuspendable || !(error instanceof NotLocalError))
          return readAgain(runtime, read);
        missing = { ...read, error };
        entry.file.noteMiss?.(offset);
        return SUSPEND;
      }
    },
    async () => {
      const read = missing;
      missing = null;
      invariant(read !== null, "A read is suspended because of one that failed");
      const { error, target, length, offset } = read;
      const { state, file } = read.entry;
      invariant(state !== null, "A suspended read has a connection");
      try {
        return await readFetchingFor(state, error, () =>
          file.read(heap.u8, target, length, offset),
        );
      } catch (failure) {
        return keep(state, failure, SQLITE_IOERR);
      }
    },
  );
}

function fileControl(
  runtime: SqliteRuntime,
  entry: OpenFile,
  operation: number,
  argument: number,
): number {
  try {
    if (operation === SQLITE_FCNTL_SYNC) return entry.file.prepareCommit();
    if (operation === SQLITE_FCNTL_COMMIT_PHASETWO) {
      const code = entry.file.commitPhaseTwo();
      if (entry.state !== null) entry.state.hasCommitted = true;
      return code;
    }
    if (operation === SQLITE_FCNTL_PRAGMA) return pragma(runtime, entry, argument);
    return SQLITE_NOTFOUND;
  } catch (error) {
    const call = operation === SQLITE_FCNTL_SYNC ? prepareCommit : commitPhaseTwo;
    return callAgain(entry, error, call, 0);
  }
}

/** `argument` is char*[3]: result or error message (out), name, value. */
function pragma(runtime: SqliteRuntime, { file, state }: OpenFile, argument: number): number {
  const { heap } = runtime;
  if (state?.internalPragma === true) return SQLITE_NOTFOUND;
  const slot = argument >> 2;
  const name = heap.requireCString(heap.i32[slot + 1] ?? 0).toLowerCase();
  const value = heap.readCString(heap.i32[slot + 2] ?? 0);
  try {
    const result = file.pragma(name, value);
    if (result === null) return SQLITE_NOTFOUND;
    if (result !== "") {
      heap.i32[slot] = heap.allocateText(result);
      if (state !== null) state.answeredPragma = name;
    }
    return SQLITE_OK;
  } catch (error) {
    state?.keep(error);
    heap.i32[slot] = heap.allocateText(error instanceof Error ? error.message : String(error));
    return SQLITE_ERROR;
  }
}

function vfsCallbacks(
  runtime: SqliteRuntime,
  { vfs, files, ioMethods }: { vfs: Vfs; files: FileTable; ioMethods: number },
): Record<VfsMethod, WasmCallback> {
  const { heap } = runtime;
  return {
    open: (
      _vfs: number,
      zName: number,
      pointer: number,
      flags: number,
      flagsOut: number,
    ): number => {
      const state = runtime.current;
      heap.i32[pointer >> 2] = 0;
      try {
        const file = openFile(runtime, { vfs, name: heap.readCString(zName), flags });
        heap.i32[(pointer + 4) >> 2] = files.add({ file, state });
        heap.i32[pointer >> 2] = ioMethods;
        const isReadOnly = (file.readOnlyError ?? null) !== null;
        if (isReadOnly) state?.readOnlyFiles.add(file);
        const given = isReadOnly ? (flags & ~SQLITE_OPEN_READWRITE) | SQLITE_OPEN_READONLY : flags;
        if (flagsOut !== 0) heap.i32[flagsOut >> 2] = given;
        return SQLITE_OK;
      } catch (error) {
        return keep(state, error, SQLITE_CANTOPEN);
      } finally {
        runtime.current = state;
      }
    },
    delete: (): number => SQLITE_OK,
    access: (_vfs: number, _name: number, _flags: number, result: number): number => {
      heap.i32[result >> 2] = 0;
      return SQLITE_OK;
    },
    fullPathname: (_vfs: number, name: number, size: number, target: number): number => {
      const end = heap.u8.indexOf(0, name) + 1;
      if (end - name > size) return SQLITE_CANTOPEN;
      heap.u8.copyWithin(target, name, end);
      return SQLITE_OK;
    },
    randomness: (_vfs: number, count: number, target: number): number => {
      randomFillSync(heap.u8, target, count);
      return count;
    },
    sleep: (_vfs: number, microseconds: number): number => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, microseconds / 1000);
      return microseconds;
    },
    currentTime: (_vfs: number, result: number): number => {
      heap.f64[result >> 3] = (runtime.now() + UNIX_EPOCH_JULIAN_MS) / DAY_MS;
      return SQLITE_OK;
    },
    getLastError: (): number => SQLITE_OK,
    currentTimeInt64: (_vfs: number, result: number): number => {
      heap.writeInt64(result, Math.floor(runtime.now()) + UNIX_EPOCH_JULIAN_MS);
      return SQLITE_OK;
    },
  };
}

function openFile(
  runtime: SqliteRuntime,
  { vfs, name, flags }: { vfs: Vfs; name: string | null; flags: number },
): VfsFile {
  const state = runtime.current;
  if (name === null || (flags & SQLITE_OPEN_MAIN_DB) === 0) {
    const journal = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;
    if ((flags & journal) !== 0) runtime.journalsOpened++;
    return new MemoryFile({ directory: runtime.temporaryDirectory });
  }
  if (state === null) {
    throw Object.assign(new Error(`Cannot open "${name}": no connection asked`), {
      sqliteCode: SQLITE_MISUSE,
    });
  }
  const file = vfs.open(name, {
    owner: state.owner,
    readOnly: (flags & SQLITE_OPEN_READONLY) !== 0,
    create: (flags & SQLITE_OPEN_CREATE) !== 0,
  });
  if (file.pageSize !== undefined) state.pageSizes.set(name, file.pageSize);
  state.fileOpened = true;
  return file;
}
