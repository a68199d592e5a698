/**
 * The memory of one SQLite instance as JavaScript sees it: typed views, text in and out, and a small stack ("arena")
 * for what a call passes to SQLite.
 *
 * H1. `refresh` runs whenever the memory grew. Growth can happen inside any call into WebAssembly, so that nobody keeps
 *     a view in a variable across such a call.
 * H2. Memory is below 2 GiB: a pointer is a non-negative 31-bit number.
 * H3. The arena is a stack: a caller notes `arenaTop`, allocates, and puts `arenaTop` back when SQLite no longer refers
 *     to the bytes. Calls nest, so this holds for a query run from within a user-defined function too.
 */
import { InvariantError } from "../errors.ts";
import { readShortAscii, SHORT_TEXT_MAX } from "./short-text.ts";
import type { SqliteInstance } from "./wasm-host.ts";
import type { WasmMemory } from "./wasm-types.ts";

const ARENA_BYTES = 64 * 1024;
const SCRATCH_BYTES = 64;
/** Up to this length a loop over the bytes beats a call into Node. */
const ASCII_LOOP_WRITE = 32;

/** Undocumented, though older than Node 1.0. */
const UTF8_SLICE: boolean = "utf8Slice" in Buffer.prototype;

interface TextBuffer extends Buffer {
  /** What `toString("utf8")` calls. */
  utf8Slice(start: number, end: number): string;
}

export class Heap {
  u8!: Uint8Array<ArrayBuffer>;
  i32!: Int32Array<ArrayBuffer>;
  f64!: Float64Array<ArrayBuffer>;
  i64!: BigInt64Array<ArrayBuffer>;
  buffer!: TextBuffer;
  arenaTop = 0;
  #arenaEnd = 0;
  /** A few words for results that SQLite returns through pointers; read them right after the call. */
  scratch = 0;
  #memory: WasmMemory | null = null;
  #malloc: ((size: number) => number) | null = null;

  attach({ memory, exports }: SqliteInstance): void {
    this.#memory = memory;
    this.#malloc = exports.sqlite3_malloc;
    this.refresh();
    this.scratch = this.allocate(SCRATCH_BYTES);
    this.arenaTop = this.allocate(ARENA_BYTES);
    this.#arenaEnd = this.arenaTop + ARENA_BYTES;
  }

  refresh(): void {
    if (this.#memory === null) return;
    const bytes = this.#memory.buffer;
    this.u8 = new Uint8Array(bytes);
    this.i32 = new Int32Array(bytes);
    this.f64 = new Float64Array(bytes);
    this.i64 = new BigInt64Array(bytes);
    // See UTF8_SLICE.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    this.buffer = Buffer.from(bytes) as TextBuffer;
  }

  /** Memory that `sqlite3_free` gives back. Throws when there is none left. */
  allocate(size: number): number {
    if (this.#malloc === null) throw new InvariantError("Heap is attached to an instance");
    const pointer = this.#malloc(size);
    if (pointer === 0 && size > 0)
      throw new RangeError(`Out of memory: ${size} bytes in SQLite's heap`);
    return pointer;
  }

  /** Null when the arena has not that much room left: allocate instead. */
  reserve(size: number): number | null {
    const pointer = this.arenaTop;
    const end = pointer + ((size + 7) & ~7);
    if (end > this.#arenaEnd) return null;
    this.arenaTop = end;
    return pointer;
  }

  /** Writes `text` as UTF-8 and returns its size; `pointer` has room for three bytes for each of its code units. */
  writeText(pointer: number, text: string): number {
    const length = text.length;
    if (length <= ASCII_LOOP_WRITE) {
      const u8 = this.u8;
      let index = 0;
      for (; index < length; index++) {
        const unit = text.charCodeAt(index);
        if (unit > 127) break;
        u8[pointer + index] = unit;
      }
      if (index === length) return length;
    }
    return this.buffer.write(text, pointer, length * 3, "utf8");
  }

  /** A NUL-terminated copy, to be given back with sqlite3_free, or taken over by SQLite. */
  allocateText(text: string): number {
    const size = Buffer.byteLength(text);
    const pointer = this.allocate(size + 1);
    this.buffer.write(text, pointer, size, "utf8");
    this.u8[pointer + size] = 0;
    return pointer;
  }

  /** Bytes that are not UTF-8 become U+FFFD. */
  readText(pointer: number, size: number): string {
    if (size <= SHORT_TEXT_MAX) {
      const text = readShortAscii(this.u8, pointer, size);
      if (text !== null) return text;
    }
    if (!UTF8_SLICE) return this.buffer.toString("utf8", pointer, pointer + size);
    return this.buffer.utf8Slice(pointer, pointer + size);
  }

  /** A NUL-terminated string; null for a null pointer. */
  readCString(pointer: number): string | null {
    if (pointer === 0) return null;
    return this.readText(pointer, this.u8.indexOf(0, pointer) - pointer);
  }

  /** As `readCString`, where SQLite never returns a null pointer. */
  requireCString(pointer: number): string {
    return this.readCString(pointer) ?? "";
  }

  writeInt64(pointer: number, value: number): void {
    this.i32[pointer >> 2] = value | 0;
    this.i32[(pointer >> 2) + 1] = Math.floor(value / 4294967296);
  }
}
