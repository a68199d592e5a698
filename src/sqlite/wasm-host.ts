/** Compiles `sqlite3.wasm` once in a process and makes instances of it, each with its own memory. */
import { readPackageFile } from "../storage/read-package-file.ts";
import { checkExports, type SqliteExports } from "./wasm-exports.ts";
import {
  createWasmImports,
  MEMORY_INITIAL_PAGES,
  MEMORY_MAXIMUM_PAGES,
  type WasmImportOptions,
} from "./wasm-imports.ts";
import type { WasmMemory } from "./wasm-types.ts";

let compiled: WebAssembly.Module | undefined;

function sqliteModule(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(readPackageFile("@sqlite.org/sqlite-wasm/sqlite3.wasm"));
  return compiled;
}

export interface SqliteInstance {
  readonly memory: WasmMemory;
  readonly exports: SqliteExports;
}

export function instantiateSqlite(options: Omit<WasmImportOptions, "memory">): SqliteInstance {
  const memory = new WebAssembly.Memory({
    initial: MEMORY_INITIAL_PAGES,
    maximum: MEMORY_MAXIMUM_PAGES,
  });
  const instance = new WebAssembly.Instance(
    sqliteModule(),
    createWasmImports({ ...options, memory }),
  );
  const exports = checkExports(instance.exports);
  exports.__wasm_call_ctors();
  return { memory, exports };
}
