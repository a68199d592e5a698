/**
 * What one connection is shown of page 1, where SQLite looks to judge what it has kept from earlier transactions: rules F3 and
 * F6 of revision-file.ts.
 *
 *   24  16 bytes: change counter, page count, freelist; its page cache is good while they stay the same   (F3)
 *   40  schema cookie; its parsed schema is good while it stays the same                                  (F6)
 */
import { readUint32, writeUint32 } from "../btree/file-layout.ts";

export const STAMP_OFFSET = 24;
export const STAMP_SIZE = 16;
const COOKIE_OFFSET = 40;
/** Odd and far from small numbers: two cookies that SQLite counted up never differ by a small multiple of it. */
const COOKIE_SHIFT_STEP = 0x9e3779b1;
const UNKNOWN = -1;

export class ShownPageOne {
  /** What SQLite saw last. */
  readonly #stamp: Uint8Array = new Uint8Array(STAMP_SIZE);
  /** The version that SQLite's cache holds. */
  #version = UNKNOWN;
  /** Of the timeline that was read last; null before the first read. */
  #lineage: object | null = null;
  #cookieShift = 0;

  /** What is read from now on belongs to `lineage` (F6). */
  follow(lineage: object): void {
    if (lineage === this.#lineage) return;
    if (this.#lineage !== null) {
      this.#cookieShift = (this.#cookieShift + COOKIE_SHIFT_STEP) >>> 0;
      this.#version = UNKNOWN; // Page 1 looks different, also of the same commit.
    }
    this.#lineage = lineage;
  }

  /** Shows the stamp that SQLite knows, if its cache holds `version`. */
  confirm(version: number, heap: Uint8Array, pointer: number): boolean {
    if (version !== this.#version) return false;
    heap.set(this.#stamp, pointer);
    return true;
  }

  /** Shows the stamp of `page`, changed if need be, so that SQLite drops its cache. */
  refute(page: Uint8Array, heap: Uint8Array, pointer: number): void {
    const stamp = this.#stamp;
    let isKnown = true;
    for (let index = 0; index < STAMP_SIZE; index++) {
      const byte = page[STAMP_OFFSET + index]!;
      heap[pointer + index] = byte;
      if (byte !== stamp[index]) isKnown = false;
    }
    if (isKnown) heap[pointer]! ^= 0x80;
  }

  /** SQLite gets page 1 whole, at `pointer`: that is what its cache is from now on. null: nobody else reads the same. */
  read(heap: Uint8Array, pointer: number, version: number | null): void {
    this.#keep(heap, pointer);
    this.#version = version ?? UNKNOWN;
    if (this.#cookieShift !== 0) shiftCookie(heap, pointer, this.#cookieShift);
  }

  /** SQLite has written page 1, from `pointer`; `copy` is what was taken of it. */
  written(heap: Uint8Array, pointer: number, copy: Uint8Array): void {
    if (this.#cookieShift !== 0) shiftCookie(copy, 0, -this.#cookieShift);
    this.#keep(heap, pointer);
    this.#version = UNKNOWN;
  }

  /** What SQLite has written is this version now; null: its cache has another state than any version. */
  committed(version: number | null): void {
    this.#version = version ?? UNKNOWN;
  }

  #keep(heap: Uint8Array, pointer: number): void {
    const stamp = this.#stamp;
    for (let index = 0; index < STAMP_SIZE; index++)
      stamp[index] = heap[pointer + STAMP_OFFSET + index]!;
  }
}

/** F6. `at`: where page 1 begins. */
function shiftCookie(bytes: Uint8Array, at: number, shift: number): void {
  const offset = at + COOKIE_OFFSET;
  writeUint32(bytes, offset, (readUint32(bytes, offset) + shift) >>> 0);
}
