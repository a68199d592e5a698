/**
 * The part of the block cache on disk: one file per block, found again after a restart.
 *
 *   <h1>/<h2>/<hash of the key>-<block>.<size>     h1, h2: the first two digits of the hash; numbers are hexadecimal
 *
 *   | offset | size | field                                                                       |
 *   | ------ | ---- | --------------------------------------------------------------------------- |
 *   | 0      | size | Bytes of the object from block * 64 KiB on, as object storage has them      |
 *   | size   | 8    | CRC-64/NVME of the name up to the size (ASCII), then the bytes              |
 *
 * Nothing here is durable, and nothing is lost with it.
 *
 * K1. A file that is not what it should be (torn, damaged, another block's) is deleted and counts as missing; so is one
 *     that cannot be read. No failure of the disk is an error for the reader of a block.
 * K2. Files hold at most `bytesMax` in all, once every directory has been listed. A directory is listed when a block in it is
 *     first asked for, the others some at each write; names carry the sizes, so no file is looked at.
 * K3. CLOCK decides what goes: a block that was read since the hand last passed gets another round.
 * K4. After a failed write nothing is written for WRITE_PAUSE_MS.
 */
import { StoreError } from "../errors.ts";
import { Crc64, CRC64_SIZE } from "../storage/crc64.ts";
import type { Storage } from "../storage/storage.ts";

/** Directories listed by each write until all are known. */
const LISTINGS_PER_WRITE = 2;
const WRITE_PAUSE_MS = 10_000;
const DIGITS = "0123456789abcdef";
const NAME = /^([0-9a-f]{32}-[0-9a-f]+)\.([0-9a-f]+)$/;

interface BlockFile {
  readonly size: number;
  /** Read since the hand passed. */
  wasRead: boolean;
}

export class BlockFiles {
  private readonly storage: Storage;
  private readonly bytesMax: number;
  private readonly nowMs: () => number;
  private readonly files = new Map<string, BlockFile>();
  private hand: MapIterator<[string, BlockFile]> | null = null;
  private readonly unlisted = new Set<string>();
  private readonly made = new Set<string>();
  private writeAgainAtMs = -Infinity;
  /** Bytes of the files that are known. */
  bytes = 0;
  evictions = 0;
  /** Files that were dropped because they could not be read or did not match. */
  damaged = 0;

  constructor(storage: Storage, bytesMax: number, nowMs: () => number) {
    this.storage = storage;
    this.bytesMax = bytesMax;
    this.nowMs = nowMs;
    for (const first of DIGITS)
      for (const second of DIGITS) this.unlisted.add(`${first}/${second}`);
  }

  has(id: string): boolean {
    this.list(directoryOf(id));
    return this.files.has(id);
  }

  /** The block in a buffer of its own, or null. */
  read(id: string, size: number): Uint8Array | null {
    this.list(directoryOf(id));
    const known = this.files.get(id);
    if (known === undefined) return null;
    const bytes = known.size === size ? this.load(id, size) : null;
    if (bytes === null) {
      this.damaged++;
      this.drop(id);
      return null;
    }
    known.wasRead = true;
    return bytes;
  }

  /** Writes a block, deleting others until there is room. */
  write(id: string, bytes: Uint8Array): void {
    this.listSome();
    const directory = directoryOf(id);
    this.list(directory);
    const size = bytes.byteLength;
    if (this.files.has(id) || size + CRC64_SIZE > this.bytesMax) return;
    if (this.nowMs() < this.writeAgainAtMs) return;
    while (this.bytes + size + CRC64_SIZE > this.bytesMax && this.evictOne());
    this.files.set(id, { size, wasRead: false });
    this.bytes += size + CRC64_SIZE;
    try {
      this.store(directory, id, bytes);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      // A file that is not known here (a listing or a deletion has failed) just goes.
      if (error.code !== "FILE_EXISTS") this.writeAgainAtMs = this.nowMs() + WRITE_PAUSE_MS;
      this.drop(id);
    }
  }

  drop(id: string): void {
    this.list(directoryOf(id));
    const known = this.files.get(id);
    if (known === undefined) return;
    this.files.delete(id);
    this.bytes -= known.size + CRC64_SIZE;
    this.remove(pathOf(id, known.size));
  }

  /** Lists every directory that has not been listed. */
  listAll(): void {
    for (const directory of this.unlisted) this.list(directory);
  }

  private listSome(): void {
    let count = 0;
    for (const directory of this.unlisted) {
      if (count++ === LISTINGS_PER_WRITE) return;
      this.list(directory);
    }
  }

  private list(directory: string): void {
    if (!this.unlisted.delete(directory)) return;
    let names: string[];
    try {
      names = this.storage.listSync(directory);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return;
    }
    if (names.length > 0) this.made.add(directory);
    for (const name of names) {
      const parts = NAME.exec(name);
      if (parts === null) continue;
      const [, id = "", sizeDigits = ""] = parts;
      const size = Number.parseInt(sizeDigits, 16);
      if (this.files.has(id)) {
        this.remove(`${directory}/${name}`);
        continue;
      }
      this.files.set(id, { size, wasRead: false });
      this.bytes += size + CRC64_SIZE;
    }
    // Files from before were not known when others were written.
    while (this.bytes > this.bytesMax && this.evictOne());
  }

  private load(id: string, size: number): Uint8Array | null {
    const bytes = new Uint8Array(size + CRC64_SIZE);
    try {
      const file = this.storage.openFileSync(pathOf(id, size), { mode: "read" });
      try {
        if (file.readSync(0, bytes) !== bytes.byteLength) return null;
      } finally {
        file.closeSync();
      }
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return null;
    }
    const body = bytes.subarray(0, size);
    const expected = checksum(id, body);
    return expected.every((byte, index) => byte === bytes[size + index]) ? body : null;
  }

  private store(directory: string, id: string, bytes: Uint8Array): void {
    if (!this.made.has(directory)) {
      this.storage.makeDirectorySync(directory);
      this.made.add(directory);
    }
    const contents = new Uint8Array(bytes.byteLength + CRC64_SIZE);
    contents.set(bytes);
    contents.set(checksum(id, bytes), bytes.byteLength);
    const file = this.storage.openFileSync(pathOf(id, bytes.byteLength), { mode: "create" });
    try {
      file.writeSync(0, contents);
    } finally {
      file.closeSync();
    }
  }

  private evictOne(): boolean {
    // Two rounds at most: the first may only take away second chances.
    for (let steps = 2 * this.files.size + 2; steps > 0; steps--) {
      this.hand ??= this.files.entries();
      const next = this.hand.next();
      if (next.done === true) {
        this.hand = null;
        continue;
      }
      const [id, file] = next.value;
      if (file.wasRead) {
        file.wasRead = false;
        continue;
      }
      this.drop(id);
      this.evictions++;
      return true;
    }
    return false;
  }

  private remove(path: string): void {
    try {
      this.storage.deleteSync(path);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }
}

function directoryOf(id: string): string {
  return `${id[0]}/${id[1]}`;
}

function pathOf(id: string, size: number): string {
  return `${directoryOf(id)}/${id}.${size.toString(16)}`;
}

function checksum(id: string, bytes: Uint8Array): Uint8Array {
  const crc = new Uint8Array(CRC64_SIZE);
  new Crc64().update(Buffer.from(id, "latin1")).update(bytes).digestInto(crc, 0);
  return crc;
}
