import fc from "fast-check";
import { expect, test } from "vitest";
import {
  decodeOutcomeRun,
  encodeOutcomeRun,
  OUTCOME_RUN_MAX,
  type OutcomeRow,
} from "./outcome-run.ts";

const sample: OutcomeRow[] = [
  {
    id: "00112233445566778899aabbccddeeff",
    databaseId: 3,
    version: 7,
    timestampMs: 1_800_000_000_000,
  },
  {
    id: "f".repeat(32),
    databaseId: 4_000_000_000,
    version: 2 ** 40,
    timestampMs: 1_800_000_000_001,
  },
];

const GOLDEN =
  "00112233445566778899aabbccddeeff000000030000000000000007000001a3185c5000" +
  "ffffffffffffffffffffffffffffffffee6b28000000010000000000000001a3185c5001";

test("golden bytes", () => {
  expect(Buffer.from(encodeOutcomeRun(sample)).toString("hex")).toBe(GOLDEN);
  expect(decodeOutcomeRun(9, Buffer.from(GOLDEN, "hex"))).toEqual(sample);
});

test("what is no whole number of entries, or none, is CORRUPT_CATALOG", () => {
  const bytes = Buffer.from(GOLDEN, "hex");
  for (let length = 0; length < bytes.length; length++)
    if (length !== 36)
      expect(() => decodeOutcomeRun(9, bytes.subarray(0, length)), String(length)).toThrow(
        expect.objectContaining({ code: "CORRUPT_CATALOG" }),
      );
});

test("round trip of any run", () => {
  const row = fc.record({
    id: fc
      .uint8Array({ minLength: 16, maxLength: 16 })
      .map((id) => Buffer.from(id).toString("hex")),
    databaseId: fc.nat({ max: 2 ** 32 - 1 }),
    version: fc.maxSafeNat(),
    timestampMs: fc.maxSafeNat(),
  });
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: OUTCOME_RUN_MAX }), (rows) => {
      expect(decodeOutcomeRun(1, encodeOutcomeRun(rows))).toEqual(rows);
    }),
  );
});
