/**
 * Turns what SQLite has computed into JavaScript values.
 *
 * SQLite keeps a row as an array of struct Mem (the private face of sqlite3_value). Reading them in place costs no call
 * into WebAssembly:
 *
 *   Mem, 40 bytes:  0 u (i64 or f64)   8 z   12 n   16 flags (u16)   18 enc (u8)
 *
 * L1. This layout, and where struct Vdbe keeps its row, is not promised by SQLite. `findLayout` checks it once in a
 *     process against the public interface; where it does not hold, every value is read through that interface.
 * L2. Only plain values are read in place. Other flags (zeroblob, subtype pointers, another encoding) take the public
 *     interface too.
 */
import { SQLITE_BLOB, SQLITE_FLOAT, SQLITE_INTEGER, SQLITE_ROW, SQLITE_TEXT } from "./constants.ts";
import type { SqliteRuntime } from "./runtime.ts";

export type SqliteValue = number | bigint | string | Buffer | null;

export const MEM_BYTES = 40;
const MEM_Z = 8;
const MEM_N = 12;
const MEM_FLAGS = 16;
/** MEM_Null, Str, Int, Real, Blob, IntReal and Zero, and the byte that follows the flags: the encoding. */
const KIND_MASK = 0x43f;
const KIND_NULL = 0x01;
const KIND_TEXT = 0x02;
const KIND_INTEGER = 0x04;
const KIND_INTEGER_TEXT = 0x06;
const KIND_REAL = 0x08;
const KIND_REAL_TEXT = 0x0a;
const KIND_BLOB = 0x10;
const UTF8_ENCODING = 1;

/** Byte offsets into struct Vdbe; null: ask SQLite. */
export interface RowLayout {
  /** Vdbe.pResultRow: the address of the row's first Mem. */
  readonly resultRow: number;
  /** Vdbe.aCounter[SQLITE_STMTSTATUS_REPREPARE]: grows when SQLite prepared the statement again, for a new schema. */
  readonly reprepares: number;
}

/** Reads one sqlite3_value. Integers become numbers, rounded beyond 2^53, as better-sqlite3 does. */
export function readValue(runtime: SqliteRuntime, pointer: number): SqliteValue {
  const heap = runtime.heap;
  const i32 = heap.i32;
  const word = pointer >> 2;
  const flags = i32[word + (MEM_FLAGS >> 2)]!;
  switch (runtime.layout === null ? -1 : flags & KIND_MASK) {
    case KIND_INTEGER:
    case KIND_INTEGER_TEXT: {
      const low = i32[word]!;
      const high = i32[word + 1]!;
      return high === low >> 31 ? low : high * 4294967296 + (low >>> 0);
    }
    case KIND_REAL:
    case KIND_REAL_TEXT:
      return heap.f64[pointer >> 3]!;
    case KIND_TEXT:
      if (((flags >> 16) & 0xff) !== UTF8_ENCODING) break;
      return heap.readText(i32[word + (MEM_Z >> 2)]!, i32[word + (MEM_N >> 2)]!);
    case KIND_NULL:
      return null;
    case KIND_BLOB:
      return copyBlob(heap.u8, i32[word + (MEM_Z >> 2)]!, i32[word + (MEM_N >> 2)]!);
  }
  return readThroughInterface(runtime, pointer);
}

/** As `readValue`, but integers become bigints. */
export function readSafeValue(runtime: SqliteRuntime, pointer: number): SqliteValue {
  const heap = runtime.heap;
  if (runtime.layout !== null) {
    const kind = heap.i32[(pointer + MEM_FLAGS) >> 2]! & KIND_MASK;
    if (kind === KIND_INTEGER || kind === KIND_INTEGER_TEXT) return heap.i64[pointer >> 3]!;
  } else if (runtime.exports.sqlite3_value_type(pointer) === SQLITE_INTEGER) {
    return runtime.exports.sqlite3_value_int64(pointer);
  }
  return readValue(runtime, pointer);
}

function copyBlob(u8: Uint8Array, pointer: number, size: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(size);
  copy.set(u8.subarray(pointer, pointer + size));
  return copy;
}

function readThroughInterface({ exports, heap }: SqliteRuntime, pointer: number): SqliteValue {
  switch (exports.sqlite3_value_type(pointer)) {
    case SQLITE_INTEGER:
    case SQLITE_FLOAT:
      return exports.sqlite3_value_double(pointer);
    case SQLITE_TEXT: {
      const text = exports.sqlite3_value_text(pointer);
      return heap.readText(text, exports.sqlite3_value_bytes(pointer));
    }
    case SQLITE_BLOB: {
      const blob = exports.sqlite3_value_blob(pointer);
      return copyBlob(heap.u8, blob, exports.sqlite3_value_bytes(pointer));
    }
    default:
      return null;
  }
}

/** How far into struct Vdbe to look. */
const VDBE_SEARCH_BYTES = 256;

/**
 * Finds the layout with a database in memory (see L1). The probes are values whose bytes are unlikely to be found where
 * they do not belong; each candidate must hold for two statements.
 */
export function findLayout(runtime: SqliteRuntime): RowLayout | null {
  const { exports, heap } = runtime;
  const name = heap.allocateText(":memory:");
  const opened = exports.sqlite3_open_v2(name, heap.scratch, 6, 0);
  const database = heap.i32[heap.scratch >> 2]!;
  exports.sqlite3_free(name);
  try {
    if (opened !== 0) return null;
    const rows = ["SELECT -7 AS a", "SELECT 8, -7 AS b"].map((start) =>
      findResultRow(runtime, database, start),
    );
    const [resultRow, ...others] = (rows[0] ?? []).filter((offset) => rows[1]?.includes(offset));
    const [reprepares, ...more] = findReprepares(runtime, database);
    if (resultRow === undefined || reprepares === undefined) return null;
    return others.length + more.length === 0 ? { resultRow, reprepares } : null;
  } finally {
    exports.sqlite3_close_v2(database);
  }
}

function prepareProbe({ exports, heap }: SqliteRuntime, database: number, sql: string): number {
  const text = heap.allocateText(sql);
  exports.sqlite3_prepare_v3(database, text, -1, 0, heap.scratch, 0);
  exports.sqlite3_free(text);
  return heap.i32[heap.scratch >> 2]!;
}

function words({ heap }: SqliteRuntime, statement: number): number[] {
  return [...heap.i32.subarray(statement >> 2, (statement + VDBE_SEARCH_BYTES) >> 2)];
}

/** Offsets of words in struct Vdbe that hold the row's address; none when Mem is not laid out as expected. */
function findResultRow(runtime: SqliteRuntime, database: number, start: string): number[] {
  const { exports } = runtime;
  const statement = prepareProbe(
    runtime,
    database,
    `${start}, 5000000000, 0.5, 'text', x'0102', NULL, 'é'`,
  );
  try {
    if (statement === 0 || exports.sqlite3_step(statement) !== SQLITE_ROW) return [];
    const column = exports.sqlite3_column_count(statement) - PROBE_KINDS.length;
    if (!memsAsExpected(runtime, statement, column)) return [];
    const row = exports.sqlite3_column_value(statement, 0);
    return offsetsWhere(words(runtime, statement), (word) => word === row);
  } finally {
    exports.sqlite3_finalize(statement);
  }
}

/** Offsets of words that count how often the statement was prepared again. */
function findReprepares(runtime: SqliteRuntime, database: number): number[] {
  const { exports } = runtime;
  const run = (sql: string): void => {
    const statement = prepareProbe(runtime, database, sql);
    exports.sqlite3_step(statement);
    exports.sqlite3_finalize(statement);
  };
  run("CREATE TABLE probe(a)");
  const statement = prepareProbe(runtime, database, "SELECT * FROM probe");
  const schemaChanges = [
    "SELECT 1",
    "ALTER TABLE probe ADD COLUMN b",
    "SELECT 1",
    "ALTER TABLE probe ADD COLUMN c",
  ];
  const seen = schemaChanges.map((between) => {
    run(between);
    exports.sqlite3_step(statement);
    exports.sqlite3_reset(statement);
    return words(runtime, statement);
  });
  exports.sqlite3_finalize(statement);
  const expected = [0, 1, 1, 2];
  return offsetsWhere(seen[0] ?? [], (_, index) =>
    expected.every((count, round) => seen[round]?.[index] === count),
  );
}

function offsetsWhere(
  list: readonly number[],
  matches: (word: number, index: number) => boolean,
): number[] {
  return list.flatMap((word, index) => (matches(word, index) ? [index * 4] : []));
}

const PROBE_KINDS: readonly number[] = [
  KIND_INTEGER,
  KIND_INTEGER,
  KIND_REAL,
  KIND_TEXT,
  KIND_BLOB,
  KIND_NULL,
  KIND_TEXT,
];

/** Whether the probe's values, from column `first` on, are where Mem is expected to have them. */
function memsAsExpected(
  { exports, heap }: SqliteRuntime,
  statement: number,
  first: number,
): boolean {
  const row = exports.sqlite3_column_value(statement, 0);
  const mem = (column: number): number => row + (first + column) * MEM_BYTES;
  const z = (column: number): number => heap.i32[(mem(column) + MEM_Z) >> 2] ?? 0;
  const n = (column: number): number => heap.i32[(mem(column) + MEM_N) >> 2] ?? 0;
  return (
    PROBE_KINDS.every((kind, column) => {
      const flags = heap.i32[(mem(column) + MEM_FLAGS) >> 2] ?? 0;
      return (
        exports.sqlite3_column_value(statement, first + column) === mem(column) &&
        (flags & KIND_MASK) === kind &&
        (kind !== KIND_TEXT || ((flags >> 16) & 0xff) === UTF8_ENCODING)
      );
    }) &&
    heap.i64[mem(0) >> 3] === -7n &&
    heap.i64[mem(1) >> 3] === 5_000_000_000n &&
    heap.f64[mem(2) >> 3] === 0.5 &&
    heap.readText(z(3), n(3)) === "text" &&
    heap.u8[z(4)] === 1 &&
    n(4) === 2 &&
    heap.readText(z(6), n(6)) === "é"
  );
}
