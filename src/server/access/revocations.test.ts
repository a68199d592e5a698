import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { START_MS, TestClock } from "../../testing/token-fixture.ts";
import {
  encodeRevocations,
  openRevocations,
  parseRevocations,
  REVOCATIONS_FILE,
  REVOKED_MAX,
  revokeToken,
} from "./revocations.ts";

const DAY_MS = 86_400_000;
let directory: string;
let path: string;
let clock: TestClock;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bough-revoked-"));
  path = join(directory, REVOCATIONS_FILE);
  clock = new TestClock();
});

afterEach(() => rmSync(directory, { recursive: true }));

const revoke = (id: string, expiresAtMs: number | null = null): boolean =>
  revokeToken(path, { id, expiresAtMs, nowMs: clock.nowMs });
const listed = () => parseRevocations(readFileSync(path)).map(({ id }) => id);

describe("the list of revoked tokens", () => {
  test("is made by the first, and a running server sees each within a second", () => {
    const revocations = openRevocations(path, clock.now);
    expect(revocations.has("a")).toBe(false);
    expect(revoke("a")).toBe(true);
    expect(revocations.has("a")).toBe(false);
    clock.advance(1000);
    expect(revocations.has("a")).toBe(true);
    expect(revocations.has("b")).toBe(false);
    expect(revoke("b")).toBe(true);
    clock.advance(1000);
    expect([revocations.has("a"), revocations.has("b")]).toEqual([true, true]);
    expect(readdirSync(directory)).toEqual([REVOCATIONS_FILE]);
  });

  test("takes a token once", () => {
    expect(revoke("a")).toBe(true);
    const before = readFileSync(path, "utf8");
    clock.advance(5000);
    expect(revoke("a")).toBe(false);
    expect(readFileSync(path, "utf8")).toBe(before);
  });

  test("drops what has been expired for a day, and keeps what may not be", () => {
    revoke("short", START_MS + 1000);
    revoke("long", START_MS + 2 * DAY_MS);
    revoke("unknown");
    clock.advance(DAY_MS + 999);
    revoke("next");
    expect(listed()).toEqual(["short", "long", "unknown", "next"]);
    clock.advance(1);
    revoke("last");
    expect(listed()).toEqual(["long", "unknown", "next", "last"]);
  });

  test("has the form that its header says", () => {
    revoke("a", START_MS + 1000);
    expect(readFileSync(path, "utf8")).toBe(`{
  "bough": "revoked-tokens",
  "format": 1,
  "tokens": [
    {"id":"a","revokedAt":"2026-01-01T00:00:00.000Z","expiresAt":"2026-01-01T00:00:01.000Z"}
  ]
}
`);
  });

  test.each([
    ["", "IO"],
    ["{", "IO"],
    ["[]", "IO"],
    ['{"bough":"revoked-tokens","format":2,"tokens":[]}', "STORE_FORMAT"],
    ['{"bough":"manifest","format":1,"tokens":[]}', "IO"],
    ['{"bough":"revoked-tokens","format":1}', "IO"],
    ['{"bough":"revoked-tokens","format":1,"tokens":["a"]}', "IO"],
    ['{"bough":"revoked-tokens","format":1,"tokens":[{"id":"a"}]}', "IO"],
    [
      '{"bough":"revoked-tokens","format":1,"tokens":[{"id":"a","revokedAt":"now","expiresAt":null}]}',
      "IO",
    ],
  ])("%j is refused, lets no token in, and is not written over", (text, code) => {
    writeFileSync(path, text);
    expect(() => openRevocations(path, clock.now).has("a")).toThrow(
      expect.objectContaining({
        code: "AUTH_UNAVAILABLE",
        retryable: true,
        cause: expect.objectContaining({ code }),
      }),
    );
    expect(() => revoke("a")).toThrow(expect.objectContaining({ code }));
    expect(readFileSync(path, "utf8")).toBe(text);
  });

  test("that breaks while a server runs lets no token in until it is mended", () => {
    revoke("a");
    const good = readFileSync(path);
    const revocations = openRevocations(path, clock.now);
    expect(revocations.has("b")).toBe(false);
    writeFileSync(path, good.subarray(0, 40));
    clock.advance(1000);
    expect(() => revocations.has("b")).toThrow(
      expect.objectContaining({ code: "AUTH_UNAVAILABLE" }),
    );
    writeFileSync(path, good);
    clock.advance(1000);
    expect([revocations.has("a"), revocations.has("b")]).toEqual([true, false]);
  });

  test("every truncation is seen", () => {
    revoke("a", START_MS);
    const bytes = readFileSync(path);
    // The last byte is a line break.
    for (let size = 0; size < bytes.length - 1; size++)
      expect(() => parseRevocations(bytes.subarray(0, size)), String(size)).toThrow();
    expect(parseRevocations(bytes)).toHaveLength(1);
  });

  test("has a bound", () => {
    const revokedAt = new Date(START_MS).toISOString();
    const tokens = Array.from({ length: REVOKED_MAX }, (_, index) => ({
      id: String(index),
      revokedAt,
      expiresAt: null,
    }));
    writeFileSync(path, encodeRevocations(tokens));
    expect(() => revoke("more")).toThrow(expect.objectContaining({ code: "LIMIT" }));
    expect(openRevocations(path, clock.now).has("99999")).toBe(true);
    expect(() => revoke("")).toThrow(RangeError);
    expect(() => revoke("x".repeat(257))).toThrow(RangeError);
  });

  test("reads back what was written", () => {
    const time = fc
      .date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) })
      .map((date) => date.toISOString());
    const entry = fc.record({
      id: fc.string({ unit: "grapheme" }),
      revokedAt: time,
      expiresAt: fc.option(time),
    });
    fc.assert(
      fc.property(fc.array(entry), (tokens) => {
        expect(parseRevocations(encodeRevocations(tokens))).toEqual(tokens);
      }),
    );
  });
});
