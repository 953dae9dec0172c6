import { expect, test } from "bun:test";
import { editDistance, nearest } from "./nearest.ts";

test.each([
  ["", "", 0],
  ["a", "", 1],
  ["kitten", "sitting", 3],
  ["port", "prot", 1],
  ["abc", "abc", 0],
])("%s and %s are %d edits apart", (a, b, distance) => {
  expect(editDistance(a, b)).toBe(distance);
  expect(editDistance(b, a)).toBe(distance);
});

test.each([
  ["syncport", "syncPort"],
  ["sync-port", "syncPort"],
  ["SYNC_PROT", "syncPort"],
  ["bananas", undefined],
  ["x".repeat(10_000), undefined],
])("for %s the nearest is %s", (name, expected) => {
  expect(nearest(name, ["name", "syncPort", "apps"])).toBe(expected);
});
