/** What may follow the one statement of `prepare`: white space, semicolons and comments. */

/** better-sqlite3's messages. */
export const NO_STATEMENT = "The supplied SQL string contains no statements";
export const MANY_STATEMENTS = "The supplied SQL string contains more than one statement";

const TAB = 0x09;
const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const STAR = 0x2a;
const DASH = 0x2d;
const SLASH = 0x2f;
const SEMICOLON = 0x3b;

/** `tail` is where SQLite stopped in NUL-terminated text. */
export function requireSingleStatement(u8: Uint8Array, tail: number): void {
  let position = tail;
  for (let byte = u8[position]!; byte !== 0; byte = u8[position]!) {
    const next = u8[position + 1];
    if (isBlank(byte)) {
      position++;
    } else if (byte === SLASH && next === STAR) {
      position = afterBlockComment(u8, position + 2);
    } else if (byte === DASH && next === DASH) {
      position = afterLineComment(u8, position + 2);
    } else {
      throw new RangeError(MANY_STATEMENTS);
    }
  }
}

/** White space or a semicolon. */
export function isBlank(byte: number): boolean {
  return byte === SPACE || byte === SEMICOLON || (byte >= TAB && byte <= CARRIAGE_RETURN);
}

function afterBlockComment(u8: Uint8Array, start: number): number {
  let position = start;
  for (; u8[position] !== 0; position++) {
    if (u8[position] === STAR && u8[position + 1] === SLASH) return position + 2;
  }
  return position;
}

function afterLineComment(u8: Uint8Array, start: number): number {
  let position = start;
  for (; u8[position] !== 0; position++) {
    if (u8[position] === NEWLINE) return position + 1;
  }
  return position;
}
