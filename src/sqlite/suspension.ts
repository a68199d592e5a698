/**
 * Calls into SQLite that can be suspended while a page is fetched, where the runtime has JavaScript Promise Integration
 * (Node 24 and later; `canSuspend`):
 *
 *   promising export --> SQLite --> xRead --page is here--> goes on, no promise is made
 *                                   xRead --it is not--> the call is suspended, the thread serves others
 *                                   fetched --> the call goes on inside xRead
 *
 * V8 traps when a suspending import is reached through a plain export, even if it would return a number. So xRead is a
 * small function that calls the plain import first, and the suspending one only if that asks for it:
 *
 *   xRead(file, target, length, offset):
 *     code = read(file, target, length, offset)
 *     return code = SUSPEND ? readLater() : code
 *
 * Z1. `read` returns SUSPEND only while a promising call runs (`runtime.isSuspendable`); otherwise it waits on the thread's
 *     time. So plain exports work on the same instance, and a page that is local costs what it costs there.
 * Z2. An instance of SQLite has one connection, whose calls follow each other (call-queue.ts). Nothing enters it while a
 *     call is suspended but functions that touch no database, and those return before it goes on: its C stack, its
 *     page cache and its other globals are never seen by two calls.
 * Z3. No JavaScript is on the stack between a promising export and xRead: SQL functions return before SQLite reads on, and
 *     what they call in other instances has a stack of its own.
 */
import { InvariantError } from "../errors.ts";
import type { WasmFunction } from "./trampoline.ts";
import {
  exportFunction,
  IMPORT_MODULE,
  importFunction,
  module,
  section,
  unsigned,
  vector,
} from "./wasm-assembler.ts";

/** No result code: those are not negative. */
export const SUSPEND = -1;

export const canSuspend: boolean = "Suspending" in WebAssembly && "promising" in WebAssembly;

const FUNCTION = 0x60;
const I32 = 0x7f;
const I64 = 0x7e;
const F64 = 0x7c;
const READ = 0;
const READ_LATER = 1;

const BODY: readonly number[] = [
  [1, 1, I32], // a local, 4: code
  [0x20, 0, 0x20, 1, 0x20, 2, 0x20, 3, 0xb9], // file, target, length, f64.convert_i64_s(offset)
  [0x10, READ, 0x22, 4], // code = read(...)
  [0x41, 0x7f, 0x46], // = SUSPEND
  [0x04, I32, 0x10, READ_LATER, 0x05, 0x20, 4, 0x0b], // ? readLater() : code
  [0x0b],
].flat();

let compiled: WebAssembly.Module | undefined;

function compile(): WebAssembly.Module {
  return module([
    section(
      1,
      vector([
        [FUNCTION, 4, I32, I32, I32, F64, 1, I32],
        [FUNCTION, 0, 1, I32],
        [FUNCTION, 4, I32, I32, I32, I64, 1, I32],
      ]),
    ),
    section(2, vector([importFunction("read", 0), importFunction("readLater", 1)])),
    section(3, vector([unsigned(2)])),
    section(7, vector([exportFunction("xRead", 2)])),
    section(10, vector([[...unsigned(BODY.length), ...BODY]])),
  ]);
}

/** An xRead for SQLite's function table. `readLater` goes on with the read for which `read` returned SUSPEND. */
export function suspendingRead(
  read: (file: number, target: number, length: number, offset: number) => number,
  readLater: () => Promise<number>,
): WasmFunction {
  compiled ??= compile();
  const { exports } = new WebAssembly.Instance(compiled, {
    [IMPORT_MODULE]: { read, readLater: new WebAssembly.Suspending(readLater) },
  });
  const { xRead } = exports;
  if (typeof xRead !== "function") throw new InvariantError('Module exports function: "xRead"');
  return xRead;
}

const PROGRESS_BODY: readonly number[] = [
  [1, 1, I32], // a local, 1: code
  [0x10, READ, 0x22, 1], // code = check()
  [0x41, 0x7f, 0x46], // = SUSPEND
  [0x04, I32, 0x10, READ_LATER, 0x05, 0x20, 1, 0x0b], // ? later() : code
  [0x0b],
].flat();

let compiledProgress: WebAssembly.Module | undefined;

/** The same for a progress handler: `later` says whether to go on when `check` has returned SUSPEND. */
export function suspendingProgress(
  check: () => number,
  later: () => Promise<number>,
): WasmFunction {
  compiledProgress ??= module([
    section(
      1,
      vector([
        [FUNCTION, 0, 1, I32],
        [FUNCTION, 1, I32, 1, I32],
      ]),
    ),
    section(2, vector([importFunction("check", 0), importFunction("later", 0)])),
    section(3, vector([unsigned(1)])),
    section(7, vector([exportFunction("progress", 2)])),
    section(10, vector([[...unsigned(PROGRESS_BODY.length), ...PROGRESS_BODY]])),
  ]);
  const { exports } = new WebAssembly.Instance(compiledProgress, {
    [IMPORT_MODULE]: { check, later: new WebAssembly.Suspending(later) },
  });
  const { progress } = exports;
  if (typeof progress !== "function")
    throw new InvariantError('Module exports function: "progress"');
  return progress;
}

/** The same export, to be awaited: where calls cannot be suspended it runs to its end at once. */
export function promising(
  target: (...parameters: number[]) => number,
): (...parameters: number[]) => number | Promise<number> {
  return canSuspend ? WebAssembly.promising(target) : target;
}
