import { expect, test } from "bun:test";
import { challengeTtl, createChallenges } from "./pairing-challenge.ts";

test("issuing remembers nothing, and spent challenges are forgotten when they would be over", () => {
  let now = 0;
  const challenges = createChallenges(() => now);
  const first = challenges.issue();
  for (let index = 0; index < 100; index++) challenges.issue();
  expect(challenges.remembered).toBe(0);
  expect(challenges.valid(first)).toBe(true);
  challenges.spend(first);
  expect(challenges.valid(first)).toBe(false);
  now = challengeTtl;
  const second = challenges.issue();
  challenges.spend(second);
  expect(challenges.remembered).toBe(1);
  expect(challenges.valid(first)).toBe(false);
});

test.each([0, 1, 55, 57, 256])("%d bytes are no challenge", (length) => {
  const challenges = createChallenges(() => 0);
  expect(challenges.valid(new Uint8Array(length))).toBe(false);
});

test("a challenge with any of its bytes changed is not valid", () => {
  const challenges = createChallenges(() => 0);
  const good = challenges.issue();
  for (let index = 0; index < good.length; index++) {
    const bad = good.slice();
    bad[index]! ^= 0x40;
    expect(challenges.valid(bad)).toBe(false);
  }
  expect(challenges.valid(good)).toBe(true);
});
