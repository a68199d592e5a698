/**
 * What must be checked of leveldb's files before leveldb opens them: it leaves out, without a word, what it cannot read
 * of its log, reads tables without looking at their checksums, and makes a new database where "CURRENT" is missing.
 *
 *   CURRENT           the name of the manifest and a newline
 *   MANIFEST-<n>      a log of edits: which tables are live, with their sizes, and the first log that matters
 *   <n>.log           commits since the last table was written
 *   <n>.ldb           a table: sorted entries, never changed (<n>.sst in older databases)
 *
 * A log is cut into blocks of 32 KiB, and these into fragments, integers little-endian:
 *
 *   offset  size  field
 *   0       4     masked CRC-32C (crc32c.ts) of type and bytes
 *   4       2     size of the bytes
 *   6       1     type: 1 a whole record, 2 the first fragment of one, 3 a middle one, 4 the last
 *   7       ...   bytes; at the end of a block fewer than 7 bytes are left over and zero
 *
 * A table ends with 48 bytes: the places (offset and size as varints) of its meta index and of its index, filled up to
 * 40 bytes, and the magic 0xdb4775248b80fb57. Every block is followed by its compression (0 none, 1 snappy) and the
 * masked CRC-32C of block and compression. The index is a block of entries, whose values are the places of the data.
 *
 * W1. Every commit that returned is followed by nothing or by the whole fragments of later ones. So a fragment that does
 *     not fit its checksum is the tail that a crash tore, unless a record begins after it: that is damage.
 * W2. Every open reads all logs, and all tables when they take up to 8 MiB; of more only the indexes, because opening
 *     must stay fast. `check` reads them all.
 */
import { StoreError } from "../errors.ts";
import type { Storage } from "../storage/storage.ts";
import { readFileSync } from "../storage/whole-file.ts";
import { matchesMaskedCrc32c } from "./crc32c.ts";
import { decompressSnappy } from "./snappy.ts";

const BLOCK_SIZE = 32_768;
const FRAGMENT_HEADER_SIZE = 7;
const FOOTER_SIZE = 48;
const TRAILER_SIZE = 5;
const TABLE_MAGIC = 0xdb47_7524_8b80_fb57n;
const INDEX_SIZE_MAX = 256 * 1024 * 1024;
const READ_AT_OPEN_MAX = 8 * 1024 * 1024;

const Fragment = { whole: 1, first: 2, middle: 3, last: 4 } as const;

/** Throws CORRUPT_CATALOG when leveldb must not open the directory. An empty one is fine: a new database is made. */
export function prepareLevelFiles(storage: Storage, directory: string): void {
  new LevelFiles(storage, directory).check(READ_AT_OPEN_MAX);
}

/** Reads everything, however much it is. Throws CORRUPT_CATALOG, and changes nothing. */
export function checkLevelFiles(storage: Storage, directory: string): void {
  new LevelFiles(storage, directory).check(Infinity);
}

/** What the edits of a manifest come to. */
interface Manifest {
  /** Sizes by number. */
  readonly tables: Map<number, number>;
  logNumber: number;
}

class LevelFiles {
  private readonly storage: Storage;
  private readonly directory: string;
  private readonly names: ReadonlySet<string>;

  constructor(storage: Storage, directory: string) {
    this.storage = storage;
    this.directory = directory;
    this.names = new Set(storage.listSync(directory));
  }

  check(tableBytesMax: number): void {
    if (!this.names.has("CURRENT")) {
      // A new database has written its manifest at most.
      const other = [...this.names].find((name) => /^\d+\.(?:ldb|sst|log)$/.test(name));
      if (other !== undefined)
        throw this.damaged("CURRENT", `it is missing, and "${other}" is there`);
      return;
    }
    const manifest = this.readManifest();
    const { logNumber, tables } = manifest;
    if (logNumber > 0 && !this.names.has(fileName(logNumber, "log")))
      throw this.damaged(fileName(logNumber, "log"), "it is missing");
    for (const name of this.names) {
      const [, digits] = /^(\d+)\.log$/.exec(name) ?? [];
      if (digits !== undefined && Number(digits) >= logNumber) this.records(name);
    }
    let size = 0;
    for (const tableSize of tables.values()) size += tableSize;
    for (const [number, tableSize] of tables) {
      this.checkTable(number, tableSize, size <= tableBytesMax);
    }
  }

  private readManifest(): Manifest {
    const current = Buffer.from(this.read("CURRENT")).toString("latin1");
    const name = /^(MANIFEST-\d+)\n$/.exec(current)?.[1];
    if (name === undefined) throw this.damaged("CURRENT", "it names no manifest");
    if (!this.names.has(name)) throw this.damaged(name, "it is missing");
    const manifest: Manifest = { tables: new Map(), logNumber: 0 };
    const records = this.records(name);
    if (records.length === 0) throw this.damaged(name, "it holds nothing");
    for (const record of records) {
      if (!applyEdit(manifest, record)) throw this.damaged(name, "an edit in it is not one");
    }
    return manifest;
  }

  /** The whole records of a log, without a torn tail (W1). */
  private records(name: string): Uint8Array[] {
    const bytes = this.read(name);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const records: Uint8Array[] = [];
    let parts: Uint8Array[] | null = null;
    let tornAt: number | null = null;
    for (let offset = 0; offset + FRAGMENT_HEADER_SIZE <= bytes.length;) {
      const left = BLOCK_SIZE - (offset % BLOCK_SIZE);
      if (left < FRAGMENT_HEADER_SIZE) {
        offset += left;
        continue;
      }
      const fragment = fragmentAt(view, offset);
      if (fragment === null) {
        tornAt ??= offset;
        parts = null;
        // leveldb goes on with the next block. A record that begins before that shows that this one was whole once.
        for (const blockEnd = offset + left; offset < blockEnd; offset++) {
          if (fragmentAt(view, offset)?.begins === true) throw this.doesNotMatch(name, tornAt);
        }
        continue;
      }
      const { type, end, begins } = fragment;
      if (begins && tornAt !== null) throw this.doesNotMatch(name, tornAt);
      if (begins === (parts !== null) && tornAt === null)
        throw this.damaged(name, `the fragment at byte ${offset} does not follow the one before`);
      if (begins) parts = [];
      parts?.push(bytes.subarray(offset + FRAGMENT_HEADER_SIZE, end));
      if (parts !== null && (type === Fragment.whole || type === Fragment.last)) {
        records.push(Buffer.concat(parts));
        parts = null;
      }
      offset = end;
    }
    return records;
  }

  private checkTable(number: number, size: number, isRead: boolean): void {
    const name = [fileName(number, "ldb"), fileName(number, "sst")].find((n) => this.names.has(n));
    if (name === undefined) throw this.damaged(fileName(number, "ldb"), "it is missing");
    const file = this.storage.openFileSync(`${this.directory}/${name}`, { mode: "read" });
    try {
      const found = file.sizeSync();
      if (found !== size || size < FOOTER_SIZE)
        throw this.damaged(name, `it has ${found} bytes instead of ${size}`);
      const readBlock = (place: Place | null): Uint8Array => {
        if (place === null || place.offset + place.size + TRAILER_SIZE > size)
          throw this.damaged(name, "a block of it would be outside of it");
        const block = new Uint8Array(place.size + TRAILER_SIZE);
        file.readSync(place.offset, block);
        const masked = new DataView(block.buffer).getUint32(place.size + 1, true);
        if (matchesMaskedCrc32c(masked, block, 0, place.size + 1)) return block;
        throw this.damaged(name, `the block at byte ${place.offset} does not match its checksum`);
      };
      const footer = new Uint8Array(FOOTER_SIZE);
      file.readSync(size - FOOTER_SIZE, footer);
      if (new DataView(footer.buffer).getBigUint64(FOOTER_SIZE - 8, true) !== TABLE_MAGIC)
        throw this.damaged(name, "it does not end as a table");
      const reader = new Varints(footer);
      readBlock(reader.place());
      const index = contentOf(readBlock(reader.place()));
      const places = index === null ? null : placesIn(index);
      if (places === null) throw this.damaged(name, "its index is not one");
      if (isRead) for (const place of places) readBlock(place);
    } finally {
      file.closeSync();
    }
  }

  private read(name: string): Uint8Array {
    return readFileSync(this.storage, `${this.directory}/${name}`);
  }

  private doesNotMatch(name: string, offset: number): StoreError {
    return this.damaged(name, `the record at byte ${offset} does not match its checksum`);
  }

  private damaged(name: string, what: string): StoreError {
    const path = `${this.directory}/${name}`;
    return new StoreError("CORRUPT_CATALOG", `Cannot open the catalog "${path}": ${what}`, {
      details: { path },
    });
  }
}

interface FragmentPlace {
  readonly type: number;
  readonly end: number;
  /** Whether a record begins with it. */
  readonly begins: boolean;
}

/** Null where no fragment is that fits its checksum. */
function fragmentAt(view: DataView, offset: number): FragmentPlace | null {
  const left = Math.min(BLOCK_SIZE - (offset % BLOCK_SIZE), view.byteLength - offset);
  if (left < FRAGMENT_HEADER_SIZE) return null;
  const end = offset + FRAGMENT_HEADER_SIZE + view.getUint16(offset + 4, true);
  const type = view.getUint8(offset + 6);
  if (end > offset + left || type < Fragment.whole || type > Fragment.last) return null;
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  if (!matchesMaskedCrc32c(view.getUint32(offset, true), bytes, offset + 6, end)) return null;
  return { type, end, begins: type === Fragment.whole || type === Fragment.first };
}

interface Place {
  readonly offset: number;
  readonly size: number;
}

/** Reads varints one after another; null or NaN beyond the end. */
class Varints {
  private readonly bytes: Uint8Array;
  private offset = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.offset >= this.bytes.length;
  }

  /** NaN when there is none. */
  number(): number {
    let value = 0;
    for (let factor = 1; factor < 2 ** 63; factor *= 128) {
      const byte = this.bytes[this.offset++];
      if (byte === undefined) return NaN;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    return NaN;
  }

  skip(size: number): boolean {
    this.offset += size;
    return this.offset <= this.bytes.length;
  }

  /** Null when there is none. */
  place(): Place | null {
    const offset = this.number();
    const size = this.number();
    return Number.isSafeInteger(offset + size) && size <= INDEX_SIZE_MAX ? { offset, size } : null;
  }
}

function fileName(number: number, extension: string): string {
  return `${String(number).padStart(6, "0")}.${extension}`;
}

/** False for bytes that are no edit. */
function applyEdit(manifest: Manifest, record: Uint8Array): boolean {
  const reader = new Varints(record);
  while (!reader.isAtEnd) {
    const tag = reader.number();
    switch (tag) {
      case 2:
        manifest.logNumber = reader.number();
        break;
      case 3: // next file number
      case 4: // last sequence number
      case 9: // previous log number, not used any more
        reader.number();
        break;
      case 1: // comparator
        if (!reader.skip(reader.number())) return false;
        break;
      case 5: // compact pointer: level, key
        reader.number();
        if (!reader.skip(reader.number())) return false;
        break;
      case 6: // deleted table: level, number
        reader.number();
        manifest.tables.delete(reader.number());
        break;
      case 7: {
        // New table: level, number, size, smallest key, greatest key.
        reader.number();
        const number = reader.number();
        manifest.tables.set(number, reader.number());
        if (!reader.skip(reader.number()) || !reader.skip(reader.number())) return false;
        break;
      }
      default:
        return false;
    }
  }
  return Number.isSafeInteger(manifest.logNumber);
}

/** The content of a block that has matched its checksum. */
function contentOf(block: Uint8Array): Uint8Array | null {
  const size = block.length - TRAILER_SIZE;
  const content = block.subarray(0, size);
  if (block[size] === 0) return content;
  return block[size] === 1 ? decompressSnappy(content, INDEX_SIZE_MAX) : null;
}

/** The places in the values of an index: entries (shared size, key size, value size, key, value), then restart points. */
function placesIn(index: Uint8Array): Place[] | null {
  if (index.length < 4) return null;
  const view = new DataView(index.buffer, index.byteOffset, index.byteLength);
  const entriesEnd = index.length - 4 - 4 * view.getUint32(index.length - 4, true);
  if (entriesEnd < 0) return null;
  const reader = new Varints(index.subarray(0, entriesEnd));
  const places: Place[] = [];
  while (!reader.isAtEnd) {
    reader.number();
    const keySize = reader.number();
    reader.number();
    if (!reader.skip(keySize)) return null;
    const place = reader.place();
    if (place === null) return null;
    places.push(place);
  }
  return places;
}
