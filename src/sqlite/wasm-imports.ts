/**
 * What `sqlite3.wasm` imports: the system calls of a C library. SQLite reaches its databases through the VFS alone, so
 * that no file system stands behind these: each file call fails with an errno. Time, time zone and memory are real.
 *
 * Numbers of errno are those of wasi_snapshot_preview1, which Emscripten's libc uses.
 */
import type { WasmImports, WasmMemory } from "./wasm-types.ts";

const ENOSYS = 52;
const ENOENT = 44;
const EBADF = 8;

const PAGE_BYTES = 65536;
export const MEMORY_INITIAL_PAGES = 128;
export const MEMORY_MAXIMUM_PAGES = 32768;
export const MEMORY_BYTES_MAX: number = MEMORY_MAXIMUM_PAGES * PAGE_BYTES;

const CLOCK_REALTIME = 0;
const NANOSECONDS_PER_MILLISECOND = 1e6;

/** struct tm of musl: eleven 32-bit fields. */
const TM_SEC = 0;
const TM_MIN = 1;
const TM_HOUR = 2;
const TM_MDAY = 3;
const TM_MON = 4;
const TM_YEAR = 5;
const TM_WDAY = 6;
const TM_YDAY = 7;
const TM_ISDST = 8;
const TM_GMTOFF = 9;
const TIME_ZONE_NAME_BYTES = 17;

export interface WasmImportOptions {
  readonly memory: WasmMemory;
  /** Milliseconds since 1970, as Date.now. */
  readonly now: () => number;
  readonly memoryBytesMax: number;
  /** Called after the memory grew: every view of it is detached. */
  readonly onGrow: () => void;
}

export function createWasmImports(options: WasmImportOptions): Record<string, WasmImports> {
  return {
    env: {
      memory: options.memory,
      ...timeImports(options),
      ...memoryImports(options),
      ...fileImports(),
    },
    wasi_snapshot_preview1: wasiImports(options),
  };
}

function memoryImports(options: WasmImportOptions): WasmImports {
  const { memory, onGrow } = options;
  const bytesMax = Math.min(options.memoryBytesMax, MEMORY_BYTES_MAX);
  return {
    emscripten_get_heap_max: (): number => bytesMax,
    /** Grows by a fifth at least, so that a growing heap is not copied (or its views renewed) for each allocation. */
    emscripten_resize_heap: (requested: number): number => {
      const wanted = requested >>> 0;
      const current = memory.buffer.byteLength;
      if (wanted > bytesMax) return 0;
      for (const size of [Math.min(bytesMax, Math.max(wanted, current * 1.2)), wanted]) {
        try {
          memory.grow(Math.ceil((size - current) / PAGE_BYTES));
          onGrow();
          return 1;
        } catch {
          // The system refused that much: try what is needed, then let malloc fail.
        }
      }
      return 0;
    },
    _mmap_js: (): number => -ENOSYS,
    _munmap_js: (): number => -ENOSYS,
  };
}

function timeImports({ memory, now }: WasmImportOptions): WasmImports {
  return {
    emscripten_date_now: (): number => now(),
    emscripten_get_now: (): number => performance.now(),
    _localtime_js: (seconds: bigint, pointer: number): void => {
      const fields = new Int32Array(memory.buffer, pointer, 11);
      const date = new Date(Number(seconds) * 1000);
      const year = date.getFullYear();
      fields[TM_SEC] = date.getSeconds();
      fields[TM_MIN] = date.getMinutes();
      fields[TM_HOUR] = date.getHours();
      fields[TM_MDAY] = date.getDate();
      fields[TM_MON] = date.getMonth();
      fields[TM_YEAR] = year - 1900;
      fields[TM_WDAY] = date.getDay();
      fields[TM_YDAY] =
        (Date.UTC(year, date.getMonth(), date.getDate()) - Date.UTC(year, 0, 1)) / 86_400_000;
      const { standard, daylight } = offsetsOf(year);
      fields[TM_ISDST] = standard !== daylight && date.getTimezoneOffset() === daylight ? 1 : 0;
      fields[TM_GMTOFF] = -date.getTimezoneOffset() * 60;
    },
    _tzset_js: (
      timezone: number,
      daylightFlag: number,
      standardName: number,
      daylightName: number,
    ): void => {
      const view = new DataView(memory.buffer);
      const { standard, daylight } = offsetsOf(new Date(now()).getFullYear());
      view.setInt32(timezone, standard * 60, true);
      view.setInt32(daylightFlag, standard === daylight ? 0 : 1, true);
      writeZoneName(memory, standardName, standard);
      writeZoneName(memory, daylightName, daylight);
    },
  };
}

/** Minutes west of UTC. Daylight time is the smaller of the two, in both hemispheres. */
function offsetsOf(year: number): { standard: number; daylight: number } {
  const january = new Date(year, 0, 1).getTimezoneOffset();
  const july = new Date(year, 6, 1).getTimezoneOffset();
  return { standard: Math.max(january, july), daylight: Math.min(january, july) };
}

function writeZoneName(memory: WasmMemory, pointer: number, minutesWest: number): void {
  const minutes = Math.abs(minutesWest);
  const hoursText = String(Math.floor(minutes / 60)).padStart(2, "0");
  const name = `UTC${minutesWest > 0 ? "-" : "+"}${hoursText}${String(minutes % 60).padStart(2, "0")}`;
  const target = new Uint8Array(memory.buffer, pointer, TIME_ZONE_NAME_BYTES);
  target.fill(0).set(Buffer.from(name, "ascii"));
}

function fileImports(): WasmImports {
  const unsupported = (): number => -ENOSYS;
  const missing = (): number => -ENOENT;
  const badDescriptor = (): number => -EBADF;
  return {
    __syscall_faccessat: missing,
    __syscall_openat: missing,
    __syscall_stat64: missing,
    __syscall_lstat64: missing,
    __syscall_newfstatat: missing,
    __syscall_readlinkat: missing,
    __syscall_unlinkat: missing,
    __syscall_rmdir: missing,
    __syscall_chmod: missing,
    __syscall_utimensat: missing,
    __syscall_mkdirat: unsupported,
    __syscall_getcwd: unsupported,
    __syscall_fchmod: badDescriptor,
    __syscall_fchown32: badDescriptor,
    __syscall_fcntl64: badDescriptor,
    __syscall_ioctl: badDescriptor,
    __syscall_fstat64: badDescriptor,
    __syscall_ftruncate64: badDescriptor,
  };
}

function wasiImports({ memory, now }: WasmImportOptions): WasmImports {
  const badDescriptor = (): number => EBADF;
  return {
    fd_close: badDescriptor,
    fd_write: badDescriptor,
    fd_read: badDescriptor,
    fd_sync: badDescriptor,
    fd_seek: badDescriptor,
    fd_fdstat_get: badDescriptor,
    environ_sizes_get: (count: number, size: number): number => {
      const view = new DataView(memory.buffer);
      view.setUint32(count, 0, true);
      view.setUint32(size, 0, true);
      return 0;
    },
    environ_get: (): number => 0,
    clock_time_get: (clock: number, _precision: bigint, target: number): number => {
      const milliseconds = clock === CLOCK_REALTIME ? now() : performance.now();
      const nanoseconds = BigInt(Math.round(milliseconds * NANOSECONDS_PER_MILLISECOND));
      new DataView(memory.buffer).setBigInt64(target, nanoseconds, true);
      return 0;
    },
  };
}
