/** A database as the bytes of its file, and back. */
import type { ConnectionState } from "./connection-state.ts";
import {
  SQLITE_DESERIALIZE_FREEONCLOSE,
  SQLITE_DESERIALIZE_READONLY,
  SQLITE_DESERIALIZE_RESIZEABLE,
  SQLITE_ERROR,
  SQLITE_OK,
} from "./constants.ts";
import { resultCodeName, SqliteError } from "./sqlite-error.ts";
import { isTrap } from "./trap.ts";

export function serialize(state: ConnectionState, schema: string): Buffer {
  const { exports, heap } = state.runtime;
  const name = heap.allocateText(schema);
  state.enter();
  try {
    heap.i64[heap.scratch >> 3] = -1n;
    const pointer = exports.sqlite3_serialize(state.pointer, name, heap.scratch, 0);
    const size = Number(heap.i64[heap.scratch >> 3]!);
    if (state.keptError !== null) {
      exports.sqlite3_free(pointer);
      throw state.failure();
    }
    if (pointer === 0 && size !== 0) {
      if (size === -1) throw new SqliteError(`unknown database ${schema}`, "SQLITE_ERROR");
      throw new Error("Out of memory");
    }
    const bytes = Buffer.from(heap.u8.subarray(pointer, pointer + size));
    exports.sqlite3_free(pointer);
    return bytes;
  } catch (error) {
    if (isTrap(error)) throw state.runtime.fail(error);
    throw error;
  } finally {
    state.leave();
    exports.sqlite3_free(name);
  }
}

/** Replaces the main database with one in memory that holds `bytes`. */
export function deserialize(state: ConnectionState, bytes: Uint8Array, readonly: boolean): void {
  const { exports, heap } = state.runtime;
  const size = bytes.byteLength;
  const copy = heap.allocate(Math.max(size, 1));
  heap.u8.set(bytes, copy);
  const name = heap.allocateText("main");
  const flags =
    SQLITE_DESERIALIZE_FREEONCLOSE |
    SQLITE_DESERIALIZE_RESIZEABLE |
    (readonly ? SQLITE_DESERIALIZE_READONLY : 0);
  const code = exports.sqlite3_deserialize(
    state.pointer,
    name,
    copy,
    BigInt(size),
    BigInt(size),
    flags,
  );
  exports.sqlite3_free(name);
  if (code !== SQLITE_OK) {
    const message =
      code === SQLITE_ERROR
        ? "unable to deserialize database"
        : heap.requireCString(exports.sqlite3_errstr(code));
    throw new SqliteError(message, resultCodeName(code));
  }
}
