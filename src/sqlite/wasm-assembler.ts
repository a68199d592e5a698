/** Pieces of a WebAssembly binary, as lists of bytes: enough for the small modules that the host makes itself. */

/** All that these modules import comes from here. */
export const IMPORT_MODULE = "t";

const MAGIC_AND_VERSION: readonly number[] = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const KIND_FUNCTION = 0x00;
const KIND_MEMORY = 0x02;
const LIMITS_WITH_MAXIMUM = 0x01;

export function module(sections: readonly (readonly number[])[]): WebAssembly.Module {
  return new WebAssembly.Module(Uint8Array.from([...MAGIC_AND_VERSION, ...sections.flat()]));
}

export function section(id: number, content: readonly number[]): number[] {
  return [id, ...unsigned(content.length), ...content];
}

export function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

export function importFunction(name: string, type: number): number[] {
  return [...text(IMPORT_MODULE), ...text(name), KIND_FUNCTION, ...unsigned(type)];
}

export function importMemory(name: string, pagesMax: number): number[] {
  const limits = [LIMITS_WITH_MAXIMUM, ...unsigned(1), ...unsigned(pagesMax)];
  return [...text(IMPORT_MODULE), ...text(name), KIND_MEMORY, ...limits];
}

export function exportFunction(name: string, target: number): number[] {
  return [...text(name), KIND_FUNCTION, ...unsigned(target)];
}

function text(ascii: string): number[] {
  return [...unsigned(ascii.length), ...Buffer.from(ascii, "ascii")];
}

/** Unsigned LEB128. */
export function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    const low = rest & 0x7f;
    rest >>>= 7;
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return bytes;
}
