import { expect, test } from "vitest";
import { beginsConcurrent } from "./begin-concurrent.ts";
import { endOfWords, firstWord } from "./leading-words.ts";
import { mayChangeSchema } from "./statement-cache.ts";

test.each([
  ["SELECT 1", "select"],
  [" ;\t\n/* a */ -- b\r\n/**/Values(1)", "values"],
  ["\uFEFFwith x", "with"],
  ["/* a **/ * /*/ b */pragma", ""],
  ["/**/ /*/ b */pragma x", "pragma"],
  ["-- select", ""],
  ["/* select", ""],
  ["-", ""],
  ["", ""],
  ["'select'", ""],
])("the first word of %j is %j", (sql, word) => {
  expect(firstWord(sql)).toBe(word);
});

test("words have gaps between them, without semicolons", () => {
  const end = (sql: string): number => endOfWords(sql, ["begin", "transaction", "readonly"]);
  expect(end("BEGIN/**/TRANSACTION -- c\n readOnly;")).toBe(35);
  for (const sql of ["BEGIN; TRANSACTION READONLY", "BEGIN TRANSACTION READONLYS", "BEGIN"])
    expect(end(sql)).toBe(-1);
});

test("regression: many comments before a statement do not hold up the thread", () => {
  const comments = "/**/".repeat(100_000);
  expect(firstWord(`${comments}SELECT 1`)).toBe("select");
  expect(beginsConcurrent(`${comments}SELECT 1`)).toBe(false);
  expect(beginsConcurrent(`BEGIN${comments}x`)).toBe(false);
  expect(mayChangeSchema(`${comments}PRAGMA foreign_keys`)).toBe(false);
  expect(mayChangeSchema(`${comments}x`)).toBe(false);
});
