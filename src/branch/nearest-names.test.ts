import fc from "fast-check";
import { expect, test } from "vitest";

import { editDistance, nearestNames } from "./nearest-names.ts";

test("misspellings find the name, nearest first", () => {
  const names = ["main", "dev", "feature/auth", "feature/author", "release-1"];
  expect(nearestNames("mian", names, 3)).toEqual(["main"]);
  expect(nearestNames("Dev", names, 3)).toEqual(["dev"]);
  expect(nearestNames("feature/aut", names, 3)).toEqual(["feature/auth", "feature/author"]);
  expect(nearestNames("auth", names, 3)).toEqual(["feature/auth", "feature/author"]);
  expect(nearestNames("feature/aut", names, 1)).toEqual(["feature/auth"]);
});

test("unlike names are not offered", () => {
  expect(nearestNames("zebra", ["main", "dev", "x"], 3)).toEqual([]);
  expect(nearestNames("a", [], 3)).toEqual([]);
});

test.each([
  ["", "", 0],
  ["", "abc", 3],
  ["kitten", "sitting", 3],
  ["ab", "ba", 1],
  ["ca", "abc", 3],
])("from %j to %j it is %i edits", (left, right, distance) => {
  expect(editDistance(left, right)).toBe(distance);
});

test("the distance is symmetric, zero only for equal names, and one for one edit", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), fc.nat(), (left, right, position) => {
      expect(editDistance(left, right)).toBe(editDistance(right, left));
      expect(editDistance(left, right) === 0).toBe(left === right);
      const cut = position % (left.length + 1);
      expect(editDistance(left, `${left.slice(0, cut)}#${left.slice(cut)}`)).toBe(1);
    }),
  );
});
