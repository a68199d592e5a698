/** Hands a JavaScript value to SQLite as the result of a function or a virtual table's column. */
import { SQLITE_TRANSIENT } from "./constants.ts";
import type { SqliteRuntime } from "./runtime.ts";

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** `source` begins the message when the value is not one of SQLite's: "User-defined function f() returned". */
export function setResult(
  runtime: SqliteRuntime,
  context: number,
  value: unknown,
  source: string,
): void {
  const { exports } = runtime;
  if (typeof value === "number") {
    exports.sqlite3_result_double(context, value);
  } else if (typeof value === "string") {
    setText(runtime, context, value);
  } else if (value === null || value === undefined) {
    exports.sqlite3_result_null(context);
  } else if (typeof value === "bigint") {
    if (value < INT64_MIN || value > INT64_MAX)
      throw new RangeError(`${source} a bigint that was too big`);
    exports.sqlite3_result_int64(context, value);
  } else if (ArrayBuffer.isView(value)) {
    setBlob(runtime, context, value);
  } else {
    throw new TypeError(`${source} an invalid value`);
  }
}

function setText(runtime: SqliteRuntime, context: number, text: string): void {
  const { exports, heap } = runtime;
  const mark = heap.arenaTop;
  const pointer = heap.reserve(text.length * 3);
  if (pointer !== null) {
    exports.sqlite3_result_text(context, pointer, heap.writeText(pointer, text), SQLITE_TRANSIENT);
    heap.arenaTop = mark;
    return;
  }
  const size = Buffer.byteLength(text);
  exports.sqlite3_result_text(context, heap.allocateText(text), size, runtime.freeFunction);
}

function setBlob(runtime: SqliteRuntime, context: number, view: ArrayBufferView): void {
  const { exports, heap } = runtime;
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const pointer = heap.allocate(bytes.byteLength + 1);
  heap.u8.set(bytes, pointer);
  exports.sqlite3_result_blob(context, pointer, bytes.byteLength, runtime.freeFunction);
}
