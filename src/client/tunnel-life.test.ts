import { expect, test } from "bun:test";
import { watchLife } from "./tunnel-life.ts";

/** Each step: Unix-like milliseconds and what the counter says then. */
async function judge(...steps: readonly (readonly [at: number, bytes: number])[]): Promise<boolean> {
  let step = steps[0]!;
  const life = watchLife(
    () => Promise.resolve(step[1]),
    () => step[0],
  );
  let alive = false;
  for (step of steps) alive = await life.sample();
  return alive;
}

test.each([
  ["one look says nothing", [[0, 900]], false],
  [
    "what grew is alive",
    [
      [2000, 900],
      [3000, 901],
    ],
    true,
  ],
  [
    "what stands still is not",
    [
      [2000, 900],
      [3000, 900],
    ],
    false,
  ],
  [
    "two looks in one moment are compared with one before them",
    [
      [2000, 900],
      [3000, 950],
      [3001, 950],
    ],
    true,
  ],
  [
    "what grew long ago says nothing of now",
    [
      [0, 100],
      [60_000, 900],
    ],
    false,
  ],
  [
    "what grew between two looks and then stood still is not",
    [
      [1000, 100],
      [2000, 900],
      [3000, 900],
    ],
    false,
  ],
  [
    "a counter that began anew does not count as growth",
    [
      [2000, 900],
      [3000, 10],
    ],
    false,
  ],
] as const)("%s", async (_, steps, alive) => {
  expect(await judge(...steps)).toBe(alive);
});
