/**
 * A key-value backend that keeps everything in memory and writes all of it as one file on each commit: for tests, for
 * the simulated disk and for small stores. A commit costs as much as the store is large.
 *
 * The file, integers little-endian:
 *
 *   offset  size  field
 *   0       8     magic "BOUGHKV" and a zero byte
 *   8       4     format version, 1; readers refuse others
 *   12      4     reserved, 0; readers refuse anything else
 *   16      8     number of entries
 *   24      ...   entries in key order (K2), each: key size u32, value size u32, key, value
 *   end-8   8     CRC64-NVME over all bytes before it
 *
 * M1. The file is replaced atomically, and in memory the new entries take over only afterwards (K1).
 * M2. The array of entries is never changed once published: a commit makes a new one, so that iterators keep theirs (K3).
 * M3. After a failed commit the file may be the old or the new one; the store refuses further commits until reopened.
 */
import { invariant, StoreError } from "../errors.ts";
import { CRC64_SIZE, crc64Into, crc64Matches } from "../storage/crc64.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync, writeFileAtomicSync } from "../storage/whole-file.ts";
import {
  checkBatch,
  checkRange,
  compareKeys,
  KEY_SIZE_MAX,
  sortedOperations,
} from "./key-order.ts";
import type { KeyValueEntry, KeyValueStore, RangeOptions, WriteBatch } from "./key-value.ts";

const MAGIC: Uint8Array = Buffer.from("BOUGHKV\0");
const FORMAT_VERSION = 1;
const HEADER_SIZE = 24;
const ENTRY_HEADER_SIZE = 8;
const FILE_SIZE_MAX = 0x7fff_ffff;

class MemoryKeyValue implements KeyValueStore {
  readonly name = "memory";
  private readonly storage: Storage;
  private readonly path: string;
  private entries: readonly KeyValueEntry[];
  private fileSize: number;
  private closed = false;
  private failure: unknown = null;

  constructor(storage: Storage, path: string) {
    this.storage = storage;
    this.path = path;
    const bytes = storage.existsSync(path) ? readFileSync(storage, path) : null;
    this.entries = bytes === null ? [] : decode(bytes, path);
    this.fileSize = bytes === null ? 0 : bytes.byteLength;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.checkOpen();
    const entry = this.entries[lowerBound(this.entries, key)];
    return entry !== undefined && compareKeys(entry.key, key) === 0 ? entry.value : undefined;
  }

  range(options: RangeOptions): Iterable<KeyValueEntry> {
    checkRange(options);
    return { [Symbol.iterator]: () => this.iterate(options) };
  }

  commit(batch: WriteBatch): void {
    this.checkOpen();
    checkBatch(batch);
    if (this.failure !== null) {
      throw new StoreError(
        "STORE_FAILED",
        `Cannot write the catalog "${this.path}": an earlier write failed, open the store again`,
        { cause: this.failure },
      );
    }
    if (batch.operations.length === 0) return;
    const entries = merge(this.entries, sortedOperations(batch.operations));
    const bytes = encode(entries);
    try {
      writeFileAtomicSync(this.storage, this.path, bytes);
    } catch (error) {
      this.failure = error;
      throw error;
    }
    this.entries = entries;
    this.fileSize = bytes.byteLength;
  }

  estimatedSize(): number {
    return this.fileSize;
  }

  /** There is nothing to give back: the file holds the entries and nothing else. */
  compact(): void {
    this.checkOpen();
  }

  close(): void {
    this.closed = true;
    this.entries = [];
  }

  private *iterate(options: RangeOptions): Generator<KeyValueEntry, void, undefined> {
    this.checkOpen();
    const entries = this.entries;
    const first = lowerBound(entries, options.start);
    const end = lowerBound(entries, options.end);
    const count = Math.min(options.limit ?? Infinity, end - first);
    for (let step = 0; step < count; step++) {
      const entry = entries[options.reverse === true ? end - 1 - step : first + step];
      if (entry !== undefined) yield entry;
      this.checkOpen();
    }
  }

  private checkOpen(): void {
    invariant(!this.closed, `An open catalog: "${this.path}" is closed`);
  }
}

/** The index of the first entry whose key is not less than `key`. */
function lowerBound(entries: readonly KeyValueEntry[], key: Uint8Array): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = entries[middle];
    if (entry !== undefined && compareKeys(entry.key, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

type Operation = WriteBatch["operations"][number];

/** Keys and values are copied, since the caller may reuse its buffers; `slice` of a Buffer would be a view. */
function merge(
  entries: readonly KeyValueEntry[],
  operations: readonly Operation[],
): KeyValueEntry[] {
  const merged: KeyValueEntry[] = [];
  let index = 0;
  for (const { key, value } of operations) {
    for (let entry = entries[index]; entry !== undefined; entry = entries[++index]) {
      const order = compareKeys(entry.key, key);
      if (order > 0) break;
      if (order < 0) merged.push(entry);
    }
    if (value !== null) merged.push({ key: new Uint8Array(key), value: new Uint8Array(value) });
  }
  for (let entry = entries[index]; entry !== undefined; entry = entries[++index])
    merged.push(entry);
  return merged;
}

function encode(entries: readonly KeyValueEntry[]): Uint8Array {
  let size = HEADER_SIZE + CRC64_SIZE;
  for (const { key, value } of entries)
    size += ENTRY_HEADER_SIZE + key.byteLength + value.byteLength;
  if (size > FILE_SIZE_MAX) {
    throw new StoreError(
      "LIMIT",
      `Cannot write the catalog: ${size} bytes, the memory backend holds at most ${FILE_SIZE_MAX}`,
    );
  }
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, FORMAT_VERSION, true);
  view.setBigUint64(16, BigInt(entries.length), true);
  let offset = HEADER_SIZE;
  for (const { key, value } of entries) {
    view.setUint32(offset, key.byteLength, true);
    view.setUint32(offset + 4, value.byteLength, true);
    bytes.set(key, offset + ENTRY_HEADER_SIZE);
    bytes.set(value, offset + ENTRY_HEADER_SIZE + key.byteLength);
    offset += ENTRY_HEADER_SIZE + key.byteLength + value.byteLength;
  }
  crc64Into(bytes, 0, offset, bytes, offset);
  return bytes;
}

function decode(bytes: Uint8Array, path: string): KeyValueEntry[] {
  const damaged = (what: string): StoreError =>
    new StoreError("CORRUPT_CATALOG", `Cannot read the catalog "${path}": ${what}`, {
      details: { path },
    });
  const end = bytes.byteLength - CRC64_SIZE;
  if (end < HEADER_SIZE) throw damaged(`the file has only ${bytes.byteLength} bytes`);
  if (MAGIC.some((byte, index) => byte !== bytes[index])) throw damaged("it is not a catalog file");
  if (!crc64Matches(bytes, 0, end, bytes, end)) throw damaged("the checksum does not fit");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  if (version !== FORMAT_VERSION) {
    throw new StoreError(
      "STORE_FORMAT",
      `Cannot read the catalog "${path}": format version ${version}, this program knows ${FORMAT_VERSION}`,
      { details: { path, version } },
    );
  }
  if (view.getUint32(12, true) !== 0) throw damaged("reserved bytes are not zero");
  const entries: KeyValueEntry[] = [];
  let offset = HEADER_SIZE;
  while (offset < end) {
    const keySize = offset + ENTRY_HEADER_SIZE <= end ? view.getUint32(offset, true) : 0;
    if (keySize === 0 || keySize > KEY_SIZE_MAX)
      throw damaged(`a bad key size at offset ${offset}`);
    const valueStart = offset + ENTRY_HEADER_SIZE + keySize;
    const next = valueStart + view.getUint32(offset + 4, true);
    if (next > end) throw damaged(`the entry at offset ${offset} goes past the end`);
    const key = bytes.subarray(offset + ENTRY_HEADER_SIZE, valueStart);
    const previous = entries.at(-1);
    if (previous !== undefined && compareKeys(previous.key, key) >= 0) {
      throw damaged(`keys out of order at offset ${offset}`);
    }
    entries.push({ key, value: bytes.subarray(valueStart, next) });
    offset = next;
  }
  if (view.getBigUint64(16, true) !== BigInt(entries.length)) {
    throw damaged(`${entries.length} entries instead of ${view.getBigUint64(16, true)}`);
  }
  return entries;
}

/**
 * Opens the catalog in the file `path`, which the first commit creates. Values returned are views into memory of the
 * store that stay valid; they must not be changed.
 */
export function openMemoryKeyValue(storage: Storage, path: string): KeyValueStore {
  return new MemoryKeyValue(storage, path);
}
