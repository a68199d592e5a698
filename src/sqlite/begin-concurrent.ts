/**
 * BEGIN CONCURRENT, which this build of SQLite does not know: SQLite gets BEGIN DEFERRED, of the same length, and the files of the
 * connection are told that the transaction is a concurrent one until it ends. White space and comments may stand before and
 * between the two words, as before and between any of SQL.
 */
import { endOfWords } from "./leading-words.ts";

const CONCURRENT = "concurrent";
const REPLACEMENT = "DEFERRED  ";
const WORDS = ["begin", CONCURRENT];

export function beginsConcurrent(sql: string): boolean {
  return endOfBegin(sql) !== -1;
}

/** The statement as SQLite gets it. */
export function withoutConcurrent(sql: string): string {
  const end = endOfBegin(sql);
  return end === -1 ? sql : sql.slice(0, end - CONCURRENT.length) + REPLACEMENT + sql.slice(end);
}

/** Where the two words end; -1: it is another statement. */
function endOfBegin(sql: string): number {
  const end = endOfWords(sql, WORDS);
  return end !== -1 && /^[$\u0080-\uffff]/.test(sql.charAt(end)) ? -1 : end;
}

/** The same in place, for the statement that begins at `text`, which ends with NUL; whether it was one. */
export function replaceConcurrent(u8: Uint8Array, text: number): boolean {
  const begin = afterWord(u8, afterGap(u8, text, true), "begin");
  if (begin === 0) return false;
  const start = afterGap(u8, begin, false);
  const end = start === begin ? 0 : afterWord(u8, start, CONCURRENT);
  if (end === 0 || isWordByte(u8[end]!)) return false;
  for (let index = 0; index < REPLACEMENT.length; index++)
    u8[start + index] = REPLACEMENT.charCodeAt(index);
  return true;
}

/** Where the word, in whatever case, ends; 0 when it is not there. */
function afterWord(u8: Uint8Array, start: number, word: string): number {
  for (let index = 0; index < word.length; index++)
    if ((u8[start + index]! | 0x20) !== word.charCodeAt(index)) return 0;
  return start + word.length;
}

/** Past white space, comments and, before a statement, semicolons. */
function afterGap(u8: Uint8Array, start: number, isBefore: boolean): number {
  let position = start;
  for (;;) {
    const byte = u8[position]!;
    if (byte === 0x20 || (byte >= 0x09 && byte <= 0x0d) || (isBefore && byte === 0x3b)) position++;
    else if (byte === 0x2d && u8[position + 1] === 0x2d) position = afterLine(u8, position);
    else if (byte === 0x2f && u8[position + 1] === 0x2a) position = afterBlock(u8, position + 2);
    else return position;
  }
}

function afterLine(u8: Uint8Array, start: number): number {
  let position = start;
  while (u8[position] !== 0 && u8[position] !== 0x0a) position++;
  return position;
}

function afterBlock(u8: Uint8Array, start: number): number {
  let position = start;
  while (u8[position] !== 0 && !(u8[position] === 0x2a && u8[position + 1] === 0x2f)) position++;
  return u8[position] === 0 ? position : position + 2;
}

/** What SQLite takes as a part of a name. */
function isWordByte(byte: number): boolean {
  const isLetter = (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
  return (
    isLetter || (byte >= 0x30 && byte <= 0x39) || byte === 0x5f || byte === 0x24 || byte >= 0x80
  );
}
