import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compilePattern, exactPattern, faultOfPattern } from "./name-pattern.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";

const branch = (text: string) => compilePattern("branch", text);

/** By the grammar's words, one rule after the other, without regard to cost. */
function matchesNaively(pattern: readonly string[], name: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined) return name.length === 0;
  if (first === "**") return name.some((_, index) => matchesNaively(rest, name.slice(index + 1)));
  const [part, ...others] = name;
  return part !== undefined && partMatchesNaively(first, part) && matchesNaively(rest, others);
}

function partMatchesNaively(pattern: string, part: string): boolean {
  if (pattern === "") return part === "";
  if (pattern[0] === "*")
    return Array.from({ length: part.length + 1 }, (_, index) => part.slice(index)).some((rest) =>
      partMatchesNaively(pattern.slice(1), rest),
    );
  return part[0] === pattern[0] && partMatchesNaively(pattern.slice(1), part.slice(1));
}

describe("patterns", () => {
  test.each([
    ["main", ["main"], ["main2", "amain", "Main", "release/main", "main/x"]],
    ["preview/*", ["preview/pr-7", "preview/x"], ["preview", "preview/a/b", "main", "x/preview/a"]],
    ["preview/**", ["preview/pr-7", "preview/a/b/c"], ["preview", "previews/a"]],
    ["*", ["main", "dev"], ["preview/pr-7"]],
    ["**", ["main", "preview/pr-7", "a/b/c/d"], []],
    ["pr-*", ["pr-7", "pr-"], ["pr", "apr-7", "pr-7/x"]],
    ["*-test", ["a-test", "-test"], ["a-tests", "a/b-test"]],
    ["**/wip", ["a/wip", "a/b/wip"], ["wip", "a/wip/b"]],
    ["a/**/z", ["a/b/z", "a/b/c/z"], ["a/z", "a/b/z/y"]],
    ["a.b", ["a.b"], ["axb"]],
  ])("branch pattern %s", (pattern, fitting, others) => {
    for (const name of fitting) expect(branch(pattern).matches(name), name).toBe(true);
    for (const name of others) expect(branch(pattern).matches(name), name).toBe(false);
  });

  test("what could be no name is matched by nothing", () => {
    for (const name of ["", "/", "a/", "/a", "a//b", "x".repeat(129)]) {
      expect(branch("**").matches(name), name).toBe(false);
      expect(compilePattern("database", "*").matches(name), name).toBe(false);
    }
    expect(branch("**").matches("x".repeat(128))).toBe(true);
  });

  test("the pattern of a database does not reach into a branch", () => {
    expect(compilePattern("database", "*").matches("shop/main")).toBe(false);
    expect(compilePattern("database", "shop*").matches("shop/main")).toBe(false);
  });

  test.each([
    ["branch", "", "it is empty"],
    ["branch", "a//b", "nothing on one side"],
    ["branch", "/a", "nothing on one side"],
    ["branch", "a/", "nothing on one side"],
    ["branch", "a**", "stands alone"],
    ["branch", "***", "stands alone"],
    ["branch", "a?", 'the character "?" is not allowed'],
    ["branch", "[ab]", "is not allowed"],
    ["branch", "{a,b}", "is not allowed"],
    ["branch", "!main", "is not allowed"],
    ["branch", "main\n", "is not allowed"],
    ["branch", "shop@1", "is not allowed"],
    ["branch", "x".repeat(129), "at most 128"],
    ["database", "shop/main", 'has no "/"'],
    ["database", "**", 'write "*"'],
  ] as const)("%s pattern %j is refused", (kind, text, fault) => {
    expect(faultOfPattern(kind, text)).toContain(fault);
    expect(() => compilePattern(kind, text)).toThrow("A pattern");
  });

  test("only the patterns for everything cover all", () => {
    expect(branch("**").coversAll).toBe(true);
    expect(compilePattern("database", "*").coversAll).toBe(true);
    for (const text of ["*", "*/**", "**/*", "main"])
      expect(branch(text).coversAll, text).toBe(false);
    expect(compilePattern("database", "s*").coversAll).toBe(false);
  });

  test("an exact name with a star in it matches itself only", () => {
    expect(exactPattern("*").matches("shop")).toBe(false);
    expect(exactPattern("*").coversAll).toBe(false);
    expect(exactPattern("shop").matches("shop")).toBe(true);
  });

  test("patterns match what the grammar says", () => {
    const part = fc.string({ unit: fc.constantFrom("a", "b", "*"), minLength: 1, maxLength: 6 });
    const patternPart = fc.oneof(
      part.map((text) => text.replaceAll(/\*+/g, "*")),
      fc.constant("**"),
    );
    const namePart = fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 6 });
    let matched = 0;
    fc.assert(
      fc.property(
        fc.array(patternPart, { minLength: 1, maxLength: 4 }),
        fc.array(namePart, { minLength: 1, maxLength: 5 }),
        (pattern, name) => {
          const expected = matchesNaively(pattern, name);
          if (expected) matched++;
          expect(branch(pattern.join("/")).matches(name.join("/"))).toBe(expected);
        },
      ),
      { numRuns: isLong ? 30_000 : 1000 },
    );
    expect(matched).toBeGreaterThan(100);
  });

  test("a pattern made to be slow is not", () => {
    // A matcher that tries all ways to cut the name would not come to an end.
    expect(branch("a*".repeat(60)).matches("a".repeat(127) + "b")).toBe(true);
    expect(branch(`${"*a".repeat(60)}b`).matches("a".repeat(128))).toBe(false);
    expect(branch(`${"**/a/".repeat(20)}b`).matches(`${"a/".repeat(63)}a`)).toBe(false);
  });
});
