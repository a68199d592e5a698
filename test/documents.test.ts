import { expect, test } from "vitest";
import { readDocument, renderInvariants } from "../scripts/invariants.ts";

test("docs/invariants.md has the rules of the source files word for word", () => {
  const document = readDocument();
  // To mend: npx tsx scripts/invariants.ts
  expect(document).toBe(renderInvariants(document));
});

test("a rule that changes in the document is seen", () => {
  const document = readDocument();
  const changed = document.replace("- **S1** ", "- **S1** not ");
  expect(renderInvariants(changed)).toBe(renderInvariants(document));
  expect(changed).not.toBe(renderInvariants(changed));
});
