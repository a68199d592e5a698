import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type SqlStatement, SqlSplitter } from "./sql-statements.ts";

function split(...pieces: readonly string[]): SqlStatement[] {
  const splitter = new SqlSplitter();
  const statements = pieces.flatMap((piece) => splitter.push(piece));
  const last = splitter.finish();
  return last === null ? statements : [...statements, last];
}

const texts = (sql: string): string[] => split(sql).map((statement) => statement.sql);

describe("a statement ends at a semicolon", () => {
  test.each([
    ["SELECT 1; SELECT 2", ["SELECT 1;", "SELECT 2"]],
    ["SELECT ';'; SELECT 'it''s;';", ["SELECT ';';", "SELECT 'it''s;';"]],
    ['SELECT ";", `;`, [;]; SELECT 2', ['SELECT ";", `;`, [;];', "SELECT 2"]],
    ["SELECT 1 -- ;\n; SELECT 2", ["SELECT 1 -- ;\n;", "SELECT 2"]],
    ["SELECT 1 /* ; ** */; SELECT 2", ["SELECT 1 /* ; ** */;", "SELECT 2"]],
    ["SELECT 1-/*;*/-1; SELECT 6/2;", ["SELECT 1-/*;*/-1;", "SELECT 6/2;"]],
    ["SELECT 1/**/; SELECT 2", ["SELECT 1/**/;", "SELECT 2"]],
    [";;  ; -- nothing\n /* ; */ ;", []],
    ["SELECT -", ["SELECT -"]],
    ["-- only a comment", []],
    ["", []],
  ])("%j", (sql, wanted) => {
    expect(texts(sql)).toEqual(wanted);
  });
});

describe("a trigger ends at END", () => {
  test.each([
    "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 2; END;",
    "create temp trigger t after insert on a begin select case when 1 then 2 end; end;",
    "CREATE TEMPORARY TRIGGER IF NOT EXISTS t AFTER INSERT ON a BEGIN DELETE FROM a;\n-- ;\nEND;",
    "EXPLAIN CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT ';END;'; END;",
    "/* ; */ CREATE /* ; */ TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END /* x */ ;",
    "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; ENDING; END;",
  ])("%s", (sql) => {
    expect(texts(`${sql} SELECT 1;`)).toEqual([sql, "SELECT 1;"]);
  });

  test("other statements with these words are none", () => {
    expect(texts("CREATE TABLE trigger_log(a); SELECT 1")).toHaveLength(2);
    expect(texts("BEGIN; SELECT 1; END;")).toHaveLength(3);
    expect(texts("DROP TRIGGER t; SELECT 1")).toHaveLength(2);
  });
});

test("lines are those of the first word", () => {
  const sql = "\n-- comment\nSELECT '\n\n'; SELECT 2;\n\n/* \n */ SELECT 3";
  expect(split(sql).map(({ line }) => line)).toEqual([3, 5, 8]);
});

test("isPending is true within a statement only", () => {
  const splitter = new SqlSplitter();
  const pendingAfter = (text: string): boolean => {
    splitter.push(text);
    return splitter.isPending;
  };
  expect(pendingAfter("  -- comment\n")).toBe(false);
  expect(pendingAfter("SELECT '\n")).toBe(true);
  expect(pendingAfter(";\n")).toBe(true);
  expect(pendingAfter("';\n")).toBe(false);
});

test("the cut of the input into pieces changes nothing", () => {
  const fragment = fc.constantFrom(
    ..."; ' \" ` [ ] - -- / * /* */ \n END end CREATE TEMP TRIGGER x EXPLAIN 1 $ é".split(" "),
    " ",
    "\n",
  );
  fc.assert(
    fc.property(fc.array(fragment), fc.array(fc.nat()), (fragments, cuts) => {
      const sql = fragments.join("");
      const places = [0, ...cuts.map((cut) => cut % (sql.length + 1)), sql.length];
      places.sort((left, right) => left - right);
      const pieces = places.map((place, index) => sql.slice(place, places[index + 1]));
      expect(split(...pieces)).toEqual(split(sql));
      expect(split(...sql)).toEqual(split(sql));
    }),
    { numRuns: 2000 },
  );
});
