import { expect, test } from "bun:test";
import { quote } from "./result.ts";

let nested: unknown = "x";
for (let level = 0; level < 20_000; level += 1) nested = [nested];

test.each([
  ["a\n", String.raw`"a\n"`],
  ["a".repeat(200), `"${"a".repeat(75)}…"`],
  [7, '"7"'],
  [null, '"null"'],
  [undefined, '"undefined"'],
  [{ toString: "x" }, '"{…}"'],
  [JSON.parse('{"__proto__": null}'), '"{…}"'],
  [["a"], '"[…]"'],
  [nested, '"[…]"'],
])("case %#: whatever was sent is quoted, and nothing is thrown", (value, quoted) => {
  expect(quote(value)).toBe(quoted);
});
