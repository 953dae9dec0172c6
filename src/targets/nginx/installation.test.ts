import { expect, test } from "bun:test";
import { hardFileLimit, workerCount } from "./installation.ts";

test.each([
  [1, Number.POSITIVE_INFINITY, 1],
  [2, Number.POSITIVE_INFINITY, 2],
  [64, Number.POSITIVE_INFINITY, 4],
  [64, 0.25, 1],
  [64, 1.5, 2],
])("%d processors and a quota of %d give %d workers", (processors, quota, workers) => {
  expect(workerCount(processors, quota)).toBe(workers);
});

test.each([
  ["Max open files            1024                 20000                files", 20_000],
  ["Max open files            1024                 unlimited            files", 1_048_576],
  ["Max open files            1024                 1073741816           files", 1_048_576],
])("%j allows %d files", (line, files) => {
  expect(hardFileLimit(`Limit Soft Limit Hard Limit Units\n${line}\n`)).toBe(files);
});
