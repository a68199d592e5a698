/**
 * What changes() and total_changes() say of a connection. SQLite counts in two 64-bit fields of its connection and has no
 * function that sets them, so where they are is found out once, as for rows (row-reader.ts).
 *
 * Q1. The search changes a field for the time of one call that only reads a counter, and puts it back at once. No statement
 *     runs meanwhile.
 * Q2. Where the fields are not found nothing is set, and a parked connection counts from 0 again.
 */
import type { ConnectionState } from "./connection-state.ts";
import type { SqliteRuntime } from "./runtime.ts";

export interface ChangeCounters {
  readonly changes: bigint;
  readonly totalChanges: bigint;
}

interface CounterOffsets {
  readonly changes: number;
  readonly totalChanges: number;
}

/** No counter has this value. */
const MARK = 0x1234_5678_9abc_def0n;

/** The same for every instance of the module; undefined: not looked for yet. */
let known: CounterOffsets | null | undefined;

export function readCounters({ runtime, pointer }: ConnectionState): ChangeCounters {
  const { exports } = runtime;
  return {
    changes: exports.sqlite3_changes64(pointer),
    totalChanges: exports.sqlite3_total_changes64(pointer),
  };
}

/** Of a connection on which no statement runs. */
export function setCounters(
  { runtime, pointer }: ConnectionState,
  { changes, totalChanges }: ChangeCounters,
): void {
  known ??= findOffsets(runtime, pointer);
  if (known === null) return;
  const { i64 } = runtime.heap;
  i64[(pointer + known.changes) >> 3] = changes;
  i64[(pointer + known.totalChanges) >> 3] = totalChanges;
}

function findOffsets(runtime: SqliteRuntime, pointer: number): CounterOffsets | null {
  const { sqlite3_changes64, sqlite3_total_changes64 } = runtime.exports;
  const changes = findField(runtime, pointer, sqlite3_changes64);
  const totalChanges = findField(runtime, pointer, sqlite3_total_changes64);
  return changes === null || totalChanges === null ? null : { changes, totalChanges };
}

function findField(
  { exports, heap }: SqliteRuntime,
  pointer: number,
  read: (connection: number) => bigint,
): number | null {
  const size = exports.sqlite3_msize(pointer);
  for (let offset = 0; offset + 8 <= size; offset += 8) {
    const index = (pointer + offset) >> 3;
    const value = heap.i64[index]!;
    if (value !== read(pointer)) continue;
    heap.i64[index] = MARK;
    const isField = read(pointer) === MARK;
    heap.i64[index] = value;
    if (isField) return offset;
  }
  return null;
}
