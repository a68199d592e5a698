/**
 * All rows of a statement in one call into WebAssembly, so that a suspendable call is made once and not per row:
 *
 *   steps(statement):
 *     loop
 *       code = sqlite3_step(statement)
 *       if code <> SQLITE_ROW return code
 *       if row(statement) <> 0 return SQLITE_ROW
 */
import { InvariantError } from "../errors.ts";
import {
  exportFunction,
  IMPORT_MODULE,
  importFunction,
  module,
  section,
  unsigned,
  vector,
} from "./wasm-assembler.ts";
import type { SqliteExports } from "./wasm-exports.ts";

const I32 = 0x7f;
const STEP = 0;
const ROW = 1;
const STEPS = 2;
/** i32.const SQLITE_ROW */
const SQLITE_ROW: readonly number[] = [0x41, 0xe4, 0x00];

const BODY: readonly number[] = [
  [1, 1, I32], // a local, 1: code
  [0x03, 0x40], // loop
  [0x20, 0, 0x10, STEP, 0x22, 1, ...SQLITE_ROW, 0x47], // (code = step(statement)) <> SQLITE_ROW
  [0x04, 0x40, 0x20, 1, 0x0f, 0x0b], // ? return code
  [0x20, 0, 0x10, ROW, 0x45, 0x0d, 0], // row(statement) = 0 ? loop again
  [0x0b, ...SQLITE_ROW, 0x0b],
].flat();

let compiled: WebAssembly.Module | undefined;

/** `onRow` is called for each row; not 0: enough. It must not throw. */
export function stepLoop(
  { sqlite3_step }: SqliteExports,
  onRow: (statement: number) => number,
): (statement: number) => number {
  compiled ??= module([
    section(1, vector([[0x60, 1, I32, 1, I32]])),
    section(2, vector([importFunction("step", 0), importFunction("row", 0)])),
    section(3, vector([unsigned(0)])),
    section(7, vector([exportFunction("steps", STEPS)])),
    section(10, vector([[...unsigned(BODY.length), ...BODY]])),
  ]);
  const instance = new WebAssembly.Instance(compiled, {
    [IMPORT_MODULE]: { step: sqlite3_step, row: onRow },
  });
  const { steps } = instance.exports;
  if (typeof steps !== "function") throw new InvariantError('Module exports function: "steps"');
  // The type section above says what it takes and returns.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return steps as (statement: number) => number;
}
