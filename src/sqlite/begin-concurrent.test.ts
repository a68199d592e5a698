import { expect, test } from "vitest";
import { beginsConcurrent, replaceConcurrent, withoutConcurrent } from "./begin-concurrent.ts";

/** As a script sees it: bytes with NUL at the end, and something else behind. */
function replaced(sql: string): string | null {
  const bytes = Buffer.from(`${sql}\0 concurrent`);
  if (!replaceConcurrent(bytes, 0)) return null;
  return bytes.subarray(0, bytes.indexOf(0)).toString();
}

test.each([
  ["BEGIN CONCURRENT", "BEGIN DEFERRED  "],
  ["begin concurrent;", "begin DEFERRED  ;"],
  [" ;\n\tBegin\n  Concurrent TRANSACTION t", " ;\n\tBegin\n  DEFERRED   TRANSACTION t"],
  ["-- a\n/* b; */ BEGIN/* c */CONCURRENT/* d */", "-- a\n/* b; */ BEGIN/* c */DEFERRED  /* d */"],
  ["BEGIN -- c\nCONCURRENT-- d", "BEGIN -- c\nDEFERRED  -- d"],
  ["BEGIN/***/CONCURRENT", "BEGIN/***/DEFERRED  "],
])("%j is one", (sql, expected) => {
  expect(beginsConcurrent(sql)).toBe(true);
  expect(withoutConcurrent(sql)).toBe(expected);
  expect(replaced(sql)).toBe(expected);
});

test.each([
  "",
  "BEGIN",
  "BEGIN ",
  "BEGIN /* concurrent",
  "BEGIN -- concurrent",
  "BEGINCONCURRENT",
  "BEGIN CONCURRENTLY",
  "BEGIN CONCURRENT_",
  "BEGIN CONCURRENT1",
  "BEGIN CONCURRENTé",
  "BEGIN; CONCURRENT",
  "BEGIN DEFERRED",
  "SELECT 'BEGIN CONCURRENT'",
  "-- BEGIN CONCURRENT",
  "/* BEGIN CONCURRENT",
  "/",
  "-",
])("%j is none, and stays as it is", (sql) => {
  expect(beginsConcurrent(sql)).toBe(false);
  expect(withoutConcurrent(sql)).toBe(sql);
  expect(replaced(sql)).toBeNull();
});
