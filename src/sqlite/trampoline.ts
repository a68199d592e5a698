/**
 * Hand-assembled WebAssembly modules that stand between JavaScript and SQLite's functions. They spare a BigInt for
 * every 64-bit value that crosses: the JavaScript side sees a 64-bit integer as a number (exact up to 2^53).
 *
 * A signature is written `parameters>result`, one letter for each: `i` is i32, `j` is i64, `d` is f64, and the result
 * may be empty. `iiij>i` is an xRead.
 *
 * T1. A callback's i64 parameter is converted with f64.convert_i64_s. File offsets and sizes fit in 2^53.
 * T2. A wrapped export's i64 parameter is converted with i64.trunc_sat_f64_s, its i64 result with f64.convert_i64_s:
 *     the rounding that better-sqlite3 applies to integers beyond 2^53.
 * T3. A signature without i64 needs no code: the import is exported again, which gives it a WebAssembly type, so that
 *     it can be put into SQLite's function table.
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

/** A callback's arguments and result: 32-bit integers and doubles. */
export type WasmCallback = (...parameters: number[]) => number | void;

/** A function exported by a WebAssembly instance. */
export type WasmFunction = (...parameters: never[]) => unknown;

const TYPE_CODES: Readonly<Record<string, number>> = { i: 0x7f, j: 0x7e, d: 0x7c };
const LOCAL_GET = 0x20;
const CALL = 0x10;
const END = 0x0b;
const F64_CONVERT_I64_S = 0xb9;
const I64_TRUNC_SAT_F64_S: readonly number[] = [0xfc, 0x06];

/** Makes WebAssembly functions of the given signatures that call the given JavaScript functions (T1, T3). */
export function wrapCallbacks(
  callbacks: readonly { readonly signature: string; readonly callback: WasmCallback }[],
): WasmFunction[] {
  const compiled = callbackModule(callbacks.map((entry) => entry.signature));
  return instantiate(
    compiled,
    callbacks.map((entry) => entry.callback),
  );
}

/** Makes functions that call exports with i64 in their signature and take and return numbers instead (T2). */
export function wrapExports(
  functions: readonly { readonly signature: string; readonly target: WasmFunction }[],
): WasmFunction[] {
  const compiled = compile(
    functions.map((entry) => ({ outer: withoutBigInt(entry.signature), inner: entry.signature })),
  );
  return instantiate(
    compiled,
    functions.map((entry) => entry.target),
  );
}

const callbackModules = new Map<string, WebAssembly.Module>();

function callbackModule(signatures: readonly string[]): WebAssembly.Module {
  const key = signatures.join(" ");
  let compiled = callbackModules.get(key);
  if (compiled === undefined) {
    compiled = compile(signatures.map((outer) => ({ outer, inner: withoutBigInt(outer) })));
    callbackModules.set(key, compiled);
  }
  return compiled;
}

function withoutBigInt(signature: string): string {
  return signature.replaceAll("j", "d");
}

function instantiate(
  compiled: WebAssembly.Module,
  imports: readonly WasmFunction[],
): WasmFunction[] {
  const named = Object.fromEntries(imports.map((target, index) => [`f${index}`, target]));
  const { exports } = new WebAssembly.Instance(compiled, { [IMPORT_MODULE]: named });
  return imports.map((_, index) => {
    const wrapped = exports[`f${index}`];
    if (typeof wrapped !== "function") throw new InvariantError(`Trampoline has export: f${index}`);
    return wrapped;
  });
}

/** `outer` is what the module exports, `inner` what it imports and calls. */
interface Crossing {
  readonly outer: string;
  readonly inner: string;
}

function compile(crossings: readonly Crossing[]): WebAssembly.Module {
  const types = [...new Set(crossings.flatMap(({ outer, inner }) => [outer, inner]))];
  const bodies = crossings.filter(({ outer, inner }) => outer !== inner);
  let nextBody = crossings.length;
  const exported = crossings.map(({ outer, inner }, index) =>
    outer === inner ? index : nextBody++,
  );
  return module([
    section(1, vector(types.map(functionType))),
    section(
      2,
      vector(
        crossings.map(({ inner }, index) => importFunction(`f${index}`, types.indexOf(inner))),
      ),
    ),
    section(3, vector(bodies.map(({ outer }) => unsigned(types.indexOf(outer))))),
    section(7, vector(exported.map((target, index) => exportFunction(`f${index}`, target)))),
    section(10, vector(bodies.map((crossing) => body(crossing, crossings.indexOf(crossing))))),
  ]);
}

function body({ outer, inner }: Crossing, target: number): number[] {
  const from = parse(outer);
  const to = parse(inner);
  const code = [0x00]; // no locals
  for (const [index, type] of [...from.parameters].entries()) {
    code.push(LOCAL_GET, ...unsigned(index), ...conversion(type, to.parameters[index] ?? ""));
  }
  code.push(CALL, ...unsigned(target), ...conversion(to.result, from.result), END);
  return [...unsigned(code.length), ...code];
}

function conversion(from: string, to: string): readonly number[] {
  if (from === to) return [];
  return from === "j" ? [F64_CONVERT_I64_S] : I64_TRUNC_SAT_F64_S;
}

function parse(signature: string): { parameters: string; result: string } {
  const [parameters = "", result = ""] = signature.split(">");
  return { parameters, result };
}

function functionType(signature: string): number[] {
  const { parameters, result } = parse(signature);
  return [0x60, ...vector([...parameters].map(typeCode)), ...vector([...result].map(typeCode))];
}

function typeCode(letter: string): number[] {
  const code = TYPE_CODES[letter];
  if (code === undefined) throw new InvariantError(`Signature letter is known: "${letter}"`);
  return [code];
}
