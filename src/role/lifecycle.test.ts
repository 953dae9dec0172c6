import { expect, test } from "bun:test";
import { every } from "./lifecycle.ts";

const never = 3_600_000;
const throwing = (error: unknown): void => {
  throw error;
};

test("a run that is asked for comes once for all who ask, and again for who asks later", async () => {
  let runs = 0;
  let ran = Promise.withResolvers<void>();
  const job = (): Promise<void> => {
    runs += 1;
    ran.resolve();
    return Promise.resolve();
  };
  await using jobs = every(never, job, throwing);
  jobs.soon(5);
  jobs.soon(0);
  jobs.soon(5);
  await ran.promise;
  expect(runs).toBe(1);
  ran = Promise.withResolvers();
  jobs.soon(0);
  await ran.promise;
  expect(runs).toBe(2);
});

test("none is begun once it is disposed, and one under way is waited for", async () => {
  const begun = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  let runs = 0;
  const jobs = every(
    never,
    async () => {
      runs += 1;
      begun.resolve();
      await end.promise;
    },
    throwing,
  );
  jobs.soon(0);
  await begun.promise;
  let disposed = false;
  const over = jobs[Symbol.asyncDispose]().then(() => (disposed = true));
  jobs.soon(0);
  await Bun.sleep(5);
  expect(disposed).toBe(false);
  end.resolve();
  await over;
  expect(runs).toBe(1);
});
