/**
 * The inner loop of CRC64 in WebAssembly, assembled here: JavaScript has no 64-bit integer that is fast. Measured on
 * Node 20: 2.5 GB/s with the copy into the module's memory, against 1.1 GB/s for two 32-bit halves in JavaScript.
 *
 * Slicing by 16: table k holds the CRC of a byte followed by k zero bytes, so that one step takes 16 bytes with 16
 * independent look-ups.
 *
 *   offset      size    memory
 *   0           32768   16 tables of 256 entries of 8 bytes, written by crc64.ts
 *   32768       8       state, little-endian: read and written by `advance(start, end)`
 *   65536       262144  bytes to be taken in
 */
export const SLICES = 16;
const TABLE_SIZE = 2048;
export const STATE_OFFSET: number = SLICES * TABLE_SIZE;
export const INPUT_OFFSET = 65_536;
export const INPUT_SIZE = 262_144;
const MEMORY_PAGES = (INPUT_OFFSET + INPUT_SIZE) / 65_536;

/** "\0asm", version 1. */
const MODULE_HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const I32 = 0x7f;
const I64 = 0x7e;
const BLOCK = [0x02, 0x40];
const LOOP = [0x03, 0x40];
const END = 0x0b;
const REPEAT_LOOP = [0x0c, 0];
const LEAVE_BLOCK_IF = [0x0d, 1];
const I32_GREATER = 0x4b;
const I32_NOT_LESS = 0x4f;
const I32_ADD = 0x6a;
const I32_AND = 0x71;
const I32_XOR = 0x73;
const I32_SHIFT_LEFT = 0x74;
const I64_XOR = 0x85;
const I64_SHIFT_RIGHT = 0x88;
const I32_OF_I64 = 0xa7;

// Parameters and locals of `advance`.
const START = 0;
const STOP = 1;
const STATE = 2;
const SECOND = 3;

const get = (local: number): number[] => [0x20, local];
const set = (local: number): number[] => [0x21, local];
const i32 = (value: number): number[] => [0x41, ...signedLeb(value)];
const i64 = (value: number): number[] => [0x42, ...signedLeb(value)];
const loadByte = (offset: number): number[] => [0x2d, 0, ...leb(offset)];
const loadI64 = (offset: number): number[] => [0x29, 3, ...leb(offset)];
const storeI64 = (offset: number): number[] => [0x37, 3, ...leb(offset)];

function leb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];
}

/** For values from 0 up only. */
function signedLeb(value: number): number[] {
  return value < 0x40 ? [value] : [(value & 0x7f) | 0x80, ...signedLeb(value >>> 7)];
}

/** The entry of `table` for byte `index` of a 64-bit local. */
function lookUp(local: number, index: number, table: number): number[] {
  const byte = [
    ...get(local),
    ...i64(8 * index),
    I64_SHIFT_RIGHT,
    I32_OF_I64,
    ...i32(255),
    I32_AND,
  ];
  return [...byte, ...i32(3), I32_SHIFT_LEFT, ...loadI64(table * TABLE_SIZE)];
}

function bodyOfAdvance(): number[] {
  const step: number[] = [];
  for (let index = 0; index < SLICES; index++) {
    step.push(...lookUp(index < 8 ? STATE : SECOND, index % 8, SLICES - 1 - index));
    if (index > 0) step.push(I64_XOR);
  }
  const sixteenAtOnce = [
    [...BLOCK, ...LOOP],
    [...get(START), ...i32(SLICES), I32_ADD, ...get(STOP), I32_GREATER, ...LEAVE_BLOCK_IF],
    [...get(STATE), ...get(START), ...loadI64(0), I64_XOR, ...set(STATE)],
    [...get(START), ...loadI64(8), ...set(SECOND)],
    [...step, ...set(STATE)],
    [...get(START), ...i32(SLICES), I32_ADD, ...set(START), ...REPEAT_LOOP, END, END],
  ].flat();
  const index = [
    ...get(STATE),
    I32_OF_I64,
    ...get(START),
    ...loadByte(0),
    I32_XOR,
    ...i32(255),
    I32_AND,
  ].flat();
  const oneByOne = [
    [...BLOCK, ...LOOP],
    [...get(START), ...get(STOP), I32_NOT_LESS, ...LEAVE_BLOCK_IF],
    [...get(STATE), ...i64(8), I64_SHIFT_RIGHT],
    [...index, ...i32(3), I32_SHIFT_LEFT, ...loadI64(0), I64_XOR, ...set(STATE)],
    [...get(START), ...i32(1), I32_ADD, ...set(START), ...REPEAT_LOOP, END, END],
  ].flat();
  const readState = [...i32(0), ...loadI64(STATE_OFFSET), ...set(STATE)];
  const writeState = [...i32(0), ...get(STATE), ...storeI64(STATE_OFFSET)];
  const locals = [1, 2, I64];
  return [...locals, ...readState, ...sixteenAtOnce, ...oneByOne, ...writeState, END];
}

function section(id: number, content: number[]): number[] {
  return [id, ...leb(content.length), ...content];
}

const name = (text: string): number[] => [text.length, ...Buffer.from(text)];

export interface Crc64Module {
  readonly memory: ArrayBuffer;
  /** Takes in the bytes of the memory from `start` to before `end`. */
  readonly advance: (start: number, end: number) => void;
}

export function instantiateCrc64(): Crc64Module {
  const body = bodyOfAdvance();
  const bytes = Uint8Array.from([
    ...MODULE_HEADER,
    ...section(1, [1, 0x60, 2, I32, I32, 0]),
    ...section(2, [1, ...name("env"), ...name("memory"), 2, 1, MEMORY_PAGES, MEMORY_PAGES]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...name("advance"), 0, 0]),
    ...section(10, [1, ...leb(body.length), ...body]),
  ]);
  const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  const advance = exports["advance"] as (start: number, end: number) => void;
  return { memory: memory.buffer, advance };
}
