/**
 * What `Statement.run` asks of SQLite, as one call instead of seven:
 *
 *   run(statement, database, out):
 *     before = sqlite3_total_changes(database)
 *     code = sqlite3_step(statement)
 *     out[0..4)  i32  sqlite3_reset(statement)
 *     out[4..8)  i32  sqlite3_total_changes(database) = before ? 0 : sqlite3_changes(database)
 *     out[8..16) f64  sqlite3_last_insert_rowid(database), rounded beyond 2^53
 *     return code
 */
import { InvariantError } from "../errors.ts";
import {
  exportFunction,
  IMPORT_MODULE,
  importFunction,
  importMemory,
  module,
  section,
  unsigned,
  vector,
} from "./wasm-assembler.ts";
import type { SqliteInstance } from "./wasm-host.ts";
import { MEMORY_MAXIMUM_PAGES } from "./wasm-imports.ts";

/** Returns the code of sqlite3_step. */
export type FusedRun = (statement: number, database: number, out: number) => number;

const I32 = 0x7f;
const I64 = 0x7e;
const FUNCTION = 0x60;
const TYPE_INTEGER = 0;
const TYPE_BIGINT = 1;
const TYPE_RUN = 2;

const TOTAL_CHANGES = 0;
const CHANGES = 1;
const STEP = 2;
const RESET = 3;
const LAST_INSERT_ROWID = 4;
const RUN = 5;

const STATEMENT = 0;
const DATABASE = 1;
const OUT = 2;
const BEFORE = 3;
const CODE = 4;

const get = (local: number): number[] => [0x20, local];
const set = (local: number): number[] => [0x21, local];
const call = (target: number): number[] => [0x10, target];
const storeI32 = (offset: number): number[] => [0x36, 2, offset];
const storeF64 = (offset: number): number[] => [0x39, 3, offset];
const END = 0x0b;

const LOCALS: readonly number[] = [1, 2, I32]; // before, code
const I32_EQ = 0x46;
const I32_CONST_0: readonly number[] = [0x41, 0];
const IF_I32: readonly number[] = [0x04, I32];
const ELSE = 0x05;
const F64_CONVERT_I64_S = 0xb9;

const BODY: readonly number[] = [
  LOCALS,
  [get(DATABASE), call(TOTAL_CHANGES), set(BEFORE)],
  [get(STATEMENT), call(STEP), set(CODE)],
  [get(OUT), get(STATEMENT), call(RESET), storeI32(0)],
  [get(OUT), get(DATABASE), call(TOTAL_CHANGES), get(BEFORE), I32_EQ],
  [IF_I32, I32_CONST_0, ELSE, get(DATABASE), call(CHANGES), END, storeI32(4)],
  [get(OUT), get(DATABASE), call(LAST_INSERT_ROWID), F64_CONVERT_I64_S, storeF64(8)],
  [get(CODE), END],
].flat(2);

let compiled: WebAssembly.Module | undefined;

function compile(): WebAssembly.Module {
  return module([
    section(
      1,
      vector([
        [FUNCTION, 1, I32, 1, I32],
        [FUNCTION, 1, I32, 1, I64],
        [FUNCTION, 3, I32, I32, I32, 1, I32],
      ]),
    ),
    section(
      2,
      vector([
        importFunction("totalChanges", TYPE_INTEGER),
        importFunction("changes", TYPE_INTEGER),
        importFunction("step", TYPE_INTEGER),
        importFunction("reset", TYPE_INTEGER),
        importFunction("lastInsertRowid", TYPE_BIGINT),
        importMemory("memory", MEMORY_MAXIMUM_PAGES),
      ]),
    ),
    section(3, vector([[TYPE_RUN]])),
    section(7, vector([exportFunction("run", RUN)])),
    section(10, vector([[...unsigned(BODY.length), ...BODY]])),
  ]);
}

export function fuseRun({ memory, exports }: SqliteInstance): FusedRun {
  compiled ??= compile();
  const instance = new WebAssembly.Instance(compiled, {
    [IMPORT_MODULE]: {
      totalChanges: exports.sqlite3_total_changes,
      changes: exports.sqlite3_changes,
      step: exports.sqlite3_step,
      reset: exports.sqlite3_reset,
      lastInsertRowid: exports.sqlite3_last_insert_rowid,
      memory,
    },
  });
  const { run } = instance.exports;
  if (typeof run !== "function") throw new InvariantError('Fused module exports function: "run"');
  // The type section above says what it takes and returns.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return run as FusedRun;
}
