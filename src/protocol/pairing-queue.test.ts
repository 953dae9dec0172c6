import { expect, test } from "bun:test";
import { createFairQueue } from "./pairing-queue.ts";

test("lanes take turns, so a flood in one does not delay another", async () => {
  const queue = createFairQueue();
  const order: string[] = [];
  const work = (lane: string, name: string): Promise<unknown> => queue.run(lane, () => void order.push(name));
  await Promise.all([work("a", "a1"), work("a", "a2"), work("a", "a3"), work("b", "b1"), work("c", "c1")]);
  // The first ran at once; the others waited, and each lane had its turn.
  expect(order).toEqual(["a1", "a2", "b1", "c1", "a3"]);
});

test("work for somebody who left is not done", async () => {
  const queue = createFairQueue();
  const controller = new AbortController();
  let done = 0;
  const first = queue.run("a", () => ++done);
  const second = queue.run("a", () => ++done, controller.signal);
  controller.abort();
  expect(await Promise.all([first, second])).toEqual([1, undefined]);
});

test("work that throws rejects for its own caller, and the queue goes on, also after it was empty", async () => {
  const queue = createFairQueue();
  const bad = queue.run("a", () => {
    throw new Error("broken");
  });
  const good = queue.run("a", () => "fine");
  expect(await bad.catch((error: Error) => error.message)).toBe("broken");
  expect(await good).toBe("fine");
  for (let index = 0; index < 20; index++) expect(await queue.run("a", () => index)).toBe(index);
});
