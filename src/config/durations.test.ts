import { expect, test } from "bun:test";
import { formatDuration, parseDuration } from "./durations.ts";

test.each([
  ["500ms", 500],
  ["5s", 5000],
  ["90m", 5_400_000],
  ["1h30m", 5_400_000],
  ["30d", 2_592_000_000],
])("%s is %d ms", (text, milliseconds) => {
  expect(parseDuration(text)).toEqual({ ok: true, value: milliseconds });
});

test.each(["", "5", "5 s", "-5s", "1.5h", "5S", "s5", "5s!", 5000])("%p is no duration", (text) => {
  expect(parseDuration(text).ok).toBe(false);
});

test("a duration out of range names the range", () => {
  expect(parseDuration("5s", 60_000, 3_600_000)).toMatchObject({ refusal: { remedy: "use 1m to 1h" } });
});

test.each([
  [0, "0ms"],
  [1500, "1500ms"],
  [5000, "5s"],
  [5_400_000, "90m"],
  [86_400_000, "1d"],
])("%d ms is written %s", (milliseconds, text) => {
  expect(formatDuration(milliseconds)).toBe(text);
});
