/**
 * BEGIN CONCURRENT, which this build of SQLite does not know: SQLite gets BEGIN DEFERRED, of the same length, and the files of the
 * connection are told that the transaction is a concurrent one until it ends.
 */
import { isBlank } from "./sql-tail.ts";

const STATEMENT = /^[\s;]*begin\s+concurrent(?=[\s;]|$)/i;
const CONCURRENT = "concurrent";
const REPLACEMENT = "DEFERRED  ";

export function beginsConcurrent(sql: string): boolean {
  return STATEMENT.test(sql);
}

/** The statement as SQLite gets it. */
export function withoutConcurrent(sql: string): string {
  return sql.replace(STATEMENT, (text) => text.slice(0, -CONCURRENT.length) + REPLACEMENT);
}

/** The same in place, for the statement that begins at `text`; whether it was one. */
export function replaceConcurrent(u8: Uint8Array, text: number): boolean {
  let position = afterWord(u8, text, "begin");
  if (position === 0 || !isSpace(u8[position]!)) return false;
  while (isSpace(u8[position]!)) position++;
  const end = afterWord(u8, position, CONCURRENT);
  if (end === 0 || !(u8[end] === 0 || isBlank(u8[end]!))) return false;
  for (let index = 0; index < REPLACEMENT.length; index++)
    u8[position + index] = REPLACEMENT.charCodeAt(index);
  return true;
}

/** Where the word, in whatever case, ends; 0 when it is not there. */
function afterWord(u8: Uint8Array, start: number, word: string): number {
  for (let index = 0; index < word.length; index++)
    if ((u8[start + index]! | 0x20) !== word.charCodeAt(index)) return 0;
  return start + word.length;
}

function isSpace(byte: number): boolean {
  return isBlank(byte) && byte !== 0x3b;
}
