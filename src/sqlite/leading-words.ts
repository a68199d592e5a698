/**
 * The first words of SQL text: before them white space, comments and semicolons, between them white space and comments.
 *
 * L1. Time grows with the length of what is passed over, whatever is in it. A regular expression does not do: it tries every way in which
 *     comments could end, 2^n for n of them, before it says no.
 */
const TAB = 0x09;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const STAR = 0x2a;
const DASH = 0x2d;
const SLASH = 0x2f;
const SEMICOLON = 0x3b;
const BYTE_ORDER_MARK = 0xfeff;
const WORD = /\w*/y;

/** In lower case; "": something else comes first. */
export function firstWord(sql: string): string {
  return wordAt(sql, afterGap(sql, 0, true));
}

/** Where the last of these words ends, if the text begins with them; else -1. They are in lower case. */
export function endOfWords(sql: string, words: readonly string[]): number {
  let position = 0;
  for (const [index, word] of words.entries()) {
    const start = afterGap(sql, position, index === 0);
    if (wordAt(sql, start) !== word) return -1;
    position = start + word.length;
  }
  return position;
}

function wordAt(sql: string, position: number): string {
  WORD.lastIndex = position;
  return (WORD.exec(sql)?.[0] ?? "").toLowerCase();
}

function afterGap(sql: string, start: number, isBefore: boolean): number {
  let position = start;
  for (;;) {
    const code = sql.charCodeAt(position); // NaN at the end.
    if (isSpace(code) || (isBefore && code === SEMICOLON)) position++;
    else if (code === DASH && sql.charCodeAt(position + 1) === DASH)
      position = afterNext(sql, "\n", position + 2);
    else if (code === SLASH && sql.charCodeAt(position + 1) === STAR)
      position = afterNext(sql, "*/", position + 2);
    else return position;
  }
}

function isSpace(code: number): boolean {
  return code === SPACE || (code >= TAB && code <= CARRIAGE_RETURN) || code === BYTE_ORDER_MARK;
}

/** What does not end goes to the end. */
function afterNext(sql: string, end: string, start: number): number {
  const found = sql.indexOf(end, start);
  return found === -1 ? sql.length : found + end.length;
}
