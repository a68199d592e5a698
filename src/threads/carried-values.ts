/**
 * Values of statements between threads. Blobs go as exact copies: what is cloned is the whole memory behind a view, which
 * Node shares among small Buffers.
 *
 * B1. A buffer is handed over (not copied again) from TRANSFER_BYTES_MIN on, and only one that nobody else can hold.
 * B2. What cannot be bound is refused by the owner, with SQLite's usual errors: what cannot be cloned, or would be cloned into
 *     something that can be bound, goes as FOREIGN, which cannot be bound either.
 */
import { isPlainObject } from "../sqlite/binder.ts";

/** Below it a copy is cheaper than what a transfer costs. */
const TRANSFER_BYTES_MIN = 32 * 1024;
const FOREIGN = new Date(0);

/** Parameters of a call, as they can be sent; memory to be handed over is added to `transfer`. */
export function sendable(values: readonly unknown[], transfer: ArrayBuffer[]): readonly unknown[] {
  for (const value of values)
    if (typeof value === "object" ? value !== null : isUnclonable(value))
      return values.map((item) => sendableValue(item, transfer));
  return values;
}

function isUnclonable(value: unknown): boolean {
  return typeof value === "function" || typeof value === "symbol";
}

function sendableValue(value: unknown, transfer: ArrayBuffer[]): unknown {
  if (typeof value === "symbol") return true; // Not bindable either, and no object.
  if (typeof value === "function") return FOREIGN;
  if (typeof value !== "object" || value === null) return value;
  if (ArrayBuffer.isView(value)) return exactCopy(value, transfer);
  if (Array.isArray(value)) return value.map((item) => sendableValue(item, transfer));
  if (!isPlainObject(value)) return FOREIGN;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, sendableValue(item, transfer)]),
  );
}

function exactCopy(view: ArrayBufferView, transfer: ArrayBuffer[]): Uint8Array {
  const bytes = new Uint8Array(view.byteLength);
  bytes.set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
  if (bytes.byteLength >= TRANSFER_BYTES_MIN) transfer.push(bytes.buffer);
  return bytes;
}

/** Prepares rows for sending, in place; true: there are blobs among their values. */
export function packRows(rows: unknown[], transfer: ArrayBuffer[]): boolean {
  let hasBlobs = false;
  for (let index = 0; index < rows.length; index++) {
    const row = rows[index];
    if (typeof row !== "object" || row === null) continue;
    if (ArrayBuffer.isView(row)) {
      rows[index] = packBlob(row, transfer);
      hasBlobs = true;
    } else if (Array.isArray(row) ? packRows(row, transfer) : packObject(row, transfer))
      hasBlobs = true;
  }
  return hasBlobs;
}

/** A row as an object, or the objects by table of an expanded one. */
function packObject(row: object, transfer: ArrayBuffer[]): boolean {
  const values = row as Record<string, unknown>;
  let hasBlobs = false;
  for (const name in values) {
    const value = values[name];
    if (typeof value !== "object" || value === null) continue;
    if (ArrayBuffer.isView(value)) {
      values[name] = packBlob(value, transfer);
      hasBlobs = true;
    } else if (packObject(value, transfer)) hasBlobs = true;
  }
  return hasBlobs;
}

/** SQLite's result is the row's own: a view of all of its memory can be handed over. */
function packBlob(view: ArrayBufferView, transfer: ArrayBuffer[]): ArrayBufferView {
  const { buffer, byteLength } = view;
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength !== byteLength)
    return exactCopy(view, transfer);
  if (byteLength >= TRANSFER_BYTES_MIN) transfer.push(buffer);
  return view;
}

/** Makes the blobs in what was received Buffers, in place, as those of a connection in this thread are. */
export function withBuffers(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  const values = value as Record<string, unknown>;
  for (const name in values) {
    const item = values[name];
    if (typeof item === "object" && item !== null) values[name] = withBuffers(item);
  }
  return value;
}
