/** The part of WebAssembly's JavaScript interface in use: it is missing from the `lib` of a project without a DOM. */
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>);
  }
  type ImportValue =
    | ((...parameters: never[]) => unknown)
    | { readonly buffer: ArrayBuffer }
    | Suspending;
  type ModuleImports = Record<string, ImportValue>;
  type Imports = Record<string, ModuleImports>;
  type ExportValue = ((...parameters: never[]) => unknown) | Memory | Table;
  type Exports = Record<string, ExportValue>;
  class Instance {
    constructor(module: Module, imports: Imports);
    readonly exports: Exports;
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum: number });
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
  class Table {
    readonly length: number;
    grow(count: number): number;
    set(index: number, target: ((...parameters: never[]) => unknown) | null): void;
  }
  class RuntimeError extends Error {}
  /** From Node 24 on; as an import, it suspends the call until its promise is settled. */
  class Suspending {
    constructor(target: (...parameters: never[]) => unknown);
  }
  /** From Node 24 on. */
  function promising(
    target: (...parameters: number[]) => number,
  ): (...parameters: number[]) => Promise<number>;
}
