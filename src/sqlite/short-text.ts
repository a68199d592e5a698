/**
 * Reads short ASCII text out of memory without a call into Node. For each length there is one call of
 * String.fromCharCode with that many arguments, which makes the string in one piece: 20-30 ns, against 50 ns of
 * Buffer.utf8Slice, and against a loop that appends characters, whose time grows with the length.
 */

export const SHORT_TEXT_MAX = 24;

/** Null when a byte is not ASCII. `size` is at most SHORT_TEXT_MAX. */
type ShortTextReader = (u8: Uint8Array, pointer: number, size: number) => string | null;

export const readShortAscii: ShortTextReader = generateReader() ?? readByLoop;

function generateReader(): ShortTextReader | null {
  const cases: string[] = ['case 0:return "";'];
  for (let size = 1; size <= SHORT_TEXT_MAX; size++) {
    const names = Array.from({ length: size }, (_, index) => `b${index}`);
    const reads = names.map((name, index) => `${name}=u8[p+${index}]`).join(",");
    cases.push(
      `case ${size}:{const ${reads};return (${names.join("|")})>127?null:fromCharCode(${names.join(",")});}`,
    );
  }
  try {
    // The text holds nothing but the numbers above.
    // oxlint-disable-next-line typescript/no-implied-eval
    const factory: unknown = new Function(
      "fromCharCode",
      `return (u8,p,size)=>{switch(size){${cases.join("")}}return null;}`,
    );
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    return (factory as (fromCharCode: typeof String.fromCharCode) => ShortTextReader)(
      String.fromCharCode,
    );
  } catch {
    // Node runs with --disallow-code-generation-from-strings.
    return null;
  }
}

/** What is used where no code may be generated. */
export function readByLoop(u8: Uint8Array, pointer: number, size: number): string | null {
  let text = "";
  for (let index = pointer; index < pointer + size; index++) {
    const byte = u8[index] ?? 0;
    if (byte > 127) return null;
    text += String.fromCharCode(byte);
  }
  return text;
}
