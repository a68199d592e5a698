import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { StoreError } from "../errors.ts";
import { checkName } from "./names.ts";
import { formatRevision, parseRevision, type Revision, type RevisionPoint } from "./revision.ts";

const isLong = process.env["BOUGH_TEST_LONG"] === "1";

function at(point: string): RevisionPoint | null {
  return parseRevision(`shop@${point}`).at;
}

function messageOf(text: string): string {
  try {
    parseRevision(text);
  } catch (error) {
    if (error instanceof StoreError) return `${error.code} ${error.message}`;
    throw error;
  }
  return "accepted";
}

test.each([
  ["shop", { database: "shop", branch: null, at: null }],
  ["shop/dev", { database: "shop", branch: "dev", at: null }],
  ["shop/feature/auth", { database: "shop", branch: "feature/auth", at: null }],
  ["shop@120", { database: "shop", branch: null, at: { kind: "version", version: 120 } }],
  ["a.b-c_D/x@v1.0", { database: "a.b-c_D", branch: "x", at: { kind: "tag", tag: "v1.0" } }],
  ["shop/dev@-5m", { database: "shop", branch: "dev", at: { kind: "ago", milliseconds: 300_000 } }],
])("%s", (text, revision) => {
  expect(parseRevision(text)).toEqual(revision);
});

test.each([
  ["2026-11-20T10:00:00Z", "2026-11-20T10:00:00.000Z"],
  ["2026-11-20t10:00:00z", "2026-11-20T10:00:00.000Z"],
  ["2026-11-20T10:00:00+01:30", "2026-11-20T08:30:00.000Z"],
  ["2026-11-20T10:00:00-00:30", "2026-11-20T10:30:00.000Z"],
  ["2026-11-20T10:00:00.5Z", "2026-11-20T10:00:00.500Z"],
  ["2026-11-20T10:00:00.123999999Z", "2026-11-20T10:00:00.123Z"],
  ["2024-02-29T23:59:59Z", "2024-02-29T23:59:59.000Z"],
  ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"],
])("time %s", (text, iso) => {
  expect(at(text)).toEqual({ kind: "time", timestampMs: Date.parse(iso) });
});

test.each([
  ["-500ms", 500],
  ["-90s", 90_000],
  ["-5m", 300_000],
  ["-2h", 7_200_000],
  ["-7d", 604_800_000],
  ["-1w", 604_800_000],
  ["-1h30m", 5_400_000],
  ["-5m10ms", 300_010],
  ["-0s", 0],
])("ago %s", (text, milliseconds) => {
  expect(at(text)).toEqual({ kind: "ago", milliseconds });
});

describe("what is refused says why, with an example", () => {
  test.each([
    ["", "names no database"],
    ["/dev", "names no database"],
    ["@120", "names no database"],
    ["shop/", "no branch follows the slash"],
    ["shop/@5", "no branch follows the slash"],
    ["shop@", 'nothing follows "@"'],
    ["shop@1@2", 'more than one "@"'],
    ["shop@0", "versions start at 1"],
    ["shop@99999999999999999999", "too large"],
    ["shop@2026-11-20T10:00:00", 'no zone; add one, for example "shop@2026-11-20T10:00:00Z"'],
    ["shop/dev@2026-11-20", 'without a time; write for example "shop/dev@2026-11-20T00:00:00Z"'],
    ["shop@2026-02-30T00:00:00Z", "no day 2026-02-30"],
    ["shop@2023-02-29T00:00:00Z", "no day 2023-02-29"],
    ["shop@2026-13-01T00:00:00Z", "no day 2026-13-01"],
    ["shop@2026-00-01T00:00:00Z", "no day 2026-00-01"],
    ["shop@2026-01-01T24:00:00Z", "no time of day 24:00:00"],
    ["shop@2026-01-01T00:60:00Z", "no time of day"],
    ["shop@2026-01-01T00:00:60Z", "no time of day"],
    ["shop@2026-01-01T00:00:00+24:00", 'no zone "+24:00"'],
    ["shop@0000-01-01T00:00:00+01:00", "outside of the years"],
    ["shop@2026-11-20 10:00:00Z", "not a time as in RFC 3339"],
    ["shop@2026-11-20T10:00Z", "not a time as in RFC 3339"],
    ["shop@10:00", "not a time as in RFC 3339"],
    ["shop@-", "not a duration"],
    ["shop@-5", "not a duration"],
    ["shop@-5M", "not a duration"],
    ["shop@-5m1h", "not a duration"],
    ["shop@-1m1m", "not a duration"],
    ["shop@--5m", "not a duration"],
    ["shop@-99999999999999w", "too long"],
    ["shop@5m", 'needs a minus; write "shop@-5m"'],
    ["shop@+5m", "in the future"],
    ["x".repeat(600), "600 characters"],
  ])("%s", (text, message) => {
    expect(messageOf(text)).toContain("REVISION_INVALID Cannot read the revision");
    expect(messageOf(text)).toContain(message);
  });

  test.each([
    ["sh op", 'the character " " at position 3'],
    [".shop", '"." at position 1 is not allowed there'],
    ["shop/-dev", '"-" at position 1 is not allowed there'],
    ["shop/a//b", "the part at position 3 is empty"],
    ["shop//a", "begins with a slash"],
    ["shop/a/", "the part at position 3 is empty"],
    ["shop/a..b", '".." at position 2'],
    ["shop@naïve", 'the character "ï" at position 3'],
    ["shop@a/b", 'the character "/" at position 2'],
    ["s".repeat(129), "it has 129 characters, at most 128"],
    [`shop/${"a/".repeat(70)}b`, "it has 141 characters"],
  ])("%s", (text, message) => {
    expect(messageOf(text)).toContain("NAME_INVALID Cannot use");
    expect(messageOf(text)).toContain(message);
    expect(messageOf(text)).toContain("an example is");
  });
});

test("tags that could be read as something else are refused", () => {
  for (const tag of ["12", "5m", "1h30m", "500MS", "2026-11-20", "2026-11-20T10"]) {
    expect(() => checkName("tag", tag), tag).toThrow(StoreError);
  }
  for (const tag of ["v12", "12a", "5-m", "2026-11", "2026-11-20-release", "5mx"]) {
    expect(() => checkName("tag", tag), tag).not.toThrow();
    expect(at(tag)).toEqual({ kind: "tag", tag });
  }
});

const part = fc
  .stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,20}$/)
  .filter((text) => !text.includes(".."));
const isTag = (text: string): boolean => {
  try {
    checkName("tag", text);
    return true;
  } catch {
    return false;
  }
};
const point: fc.Arbitrary<RevisionPoint> = fc.oneof(
  fc.record({
    kind: fc.constant("version" as const),
    version: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  }),
  fc.record({
    kind: fc.constant("time" as const),
    timestampMs: fc.integer({
      min: Date.parse("0000-01-01T00:00:00Z"),
      max: Date.parse("9999-12-31T23:59:59.999Z"),
    }),
  }),
  fc.record({
    kind: fc.constant("ago" as const),
    milliseconds: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  }),
  fc.record({ kind: fc.constant("tag" as const), tag: part.filter(isTag) }),
);
const revision: fc.Arbitrary<Revision> = fc.record({
  database: part,
  branch: fc.option(fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"))),
  at: fc.option(point),
});

test("V2: every revision comes back from its text", () => {
  fc.assert(
    fc.property(revision, (value) => {
      expect(parseRevision(formatRevision(value))).toEqual(value);
    }),
    { numRuns: isLong ? 20_000 : 500 },
  );
});

test("any text is parsed or refused with a StoreError, and what is parsed is stable", () => {
  const pieces = fc.array(
    fc.oneof(
      fc.constantFrom(
        "shop",
        "/",
        "@",
        "-",
        "5",
        "m",
        "ms",
        "h",
        "2026-11-20",
        "T10:00:00",
        "Z",
        "+01:00",
        "..",
        ":",
        "\0",
        "é",
      ),
      fc.string({ unit: "binary", maxLength: 3 }),
    ),
    { maxLength: 8 },
  );
  let accepted = 0;
  fc.assert(
    fc.property(pieces, (parts) => {
      let parsed: Revision;
      try {
        parsed = parseRevision(parts.join(""));
      } catch (error) {
        expect(error).toBeInstanceOf(StoreError);
        return;
      }
      accepted++;
      expect(parseRevision(formatRevision(parsed))).toEqual(parsed);
    }),
    { numRuns: isLong ? 50_000 : 1000 },
  );
  expect(accepted).toBeGreaterThan(10);
});
