import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { InvariantError, invariant, StoreError } from "./errors.ts";

const source: string = readFileSync(new URL("errors.ts", import.meta.url), "utf8");
const manual: string = readFileSync(new URL("../docs/errors.md", import.meta.url), "utf8");

/** The members of the union StoreErrorCode, in the order of the source. */
function codesOfSource(): string[] {
  const union = /export type StoreErrorCode =([^;]*);/.exec(source)?.[1] ?? "";
  return [...union.matchAll(/^ *\| "([A-Z_]+)"$/gm)].map((match) => match[1]!);
}

/** Each section "### `CODE`" with its text. */
function sectionsOfManual(): { code: string; text: string }[] {
  return manual
    .split(/^(?=##)/m)
    .map((section) => ({ code: /^### `([A-Z_]+)`$/m.exec(section)?.[1] ?? "", text: section }))
    .filter(({ code }) => code !== "");
}

test("docs/errors.md lists exactly the codes of StoreErrorCode, in their order", () => {
  const codes = codesOfSource();
  expect(codes.length).toBeGreaterThan(30);
  expect(new Set(codes).size).toBe(codes.length);
  expect(sectionsOfManual().map(({ code }) => code)).toEqual(codes);
});

test("docs/errors.md says of each code what it means, when it happens and what to do", () => {
  for (const { code, text } of sectionsOfManual()) {
    const lines = text.split("\n").slice(1).join("\n").trim();
    expect(lines, code).toMatch(/^[A-Z`][^]*\.\n/);
    expect(lines, code).toMatch(/^- When: \S/m);
    expect(lines, code).toMatch(/^- Do: \S/m);
  }
});

test("links within docs/errors.md lead to a section", () => {
  const headings = [...manual.matchAll(/^#+ (.+)$/gm)].map((match) =>
    match[1]!
      .toLowerCase()
      .replaceAll(/[^a-z0-9_ -]/g, "")
      .replaceAll(" ", "-"),
  );
  for (const [, anchor] of manual.matchAll(/\]\(#([^)]+)\)/g)) expect(headings).toContain(anchor);
});

test("a StoreError is not retryable and has no details unless it is said", () => {
  const plain = new StoreError("IO", "Cannot read");
  expect([plain.code, plain.retryable, plain.details, plain.cause]).toEqual([
    "IO",
    false,
    {},
    undefined,
  ]);
  expect(Object.hasOwn(plain, "cause")).toBe(false);
  const cause = new Error("below");
  const full = new StoreError("IO", "Cannot read", {
    cause,
    retryable: true,
    details: { page: 7 },
  });
  expect([full.retryable, full.details, full.cause]).toEqual([true, { page: 7 }, cause]);
  expect(String(full)).toBe("StoreError: Cannot read");
});

test("invariant throws an InvariantError with the rule, and only when it is broken", () => {
  expect(() => invariant(true, "Pages have one size")).not.toThrow();
  expect(() => invariant(false, "Pages have one size")).toThrow(
    new InvariantError("Pages have one size"),
  );
});
