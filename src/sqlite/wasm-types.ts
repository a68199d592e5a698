/**
 * WebAssembly's objects, as far as types that reach the package's users name them: a project without the DOM library
 * knows no types for them.
 */

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  /** By pages of 64 KiB; throws when there is not that much. */
  grow(pages: number): number;
}

export interface WasmTable {
  readonly length: number;
  /** Returns the former length. */
  grow(count: number): number;
  set(index: number, target: ((...parameters: never[]) => unknown) | null): void;
}

export type WasmImports = Record<string, ((...parameters: never[]) => unknown) | WasmMemory>;
