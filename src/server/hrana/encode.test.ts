import { expect, test } from "vitest";
import { encodeRow } from "./encode.ts";

test("regression: a value that no string could hold is refused like other answers that are too large", () => {
  const blob = Buffer.allocUnsafe(2 ** 29);
  expect(() => encodeRow([1n, blob])).toThrow(
    expect.objectContaining({
      code: "RESPONSE_TOO_LARGE",
      message: expect.stringMatching(/a row/),
    }),
  );
});
