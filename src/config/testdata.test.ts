import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe } from "../model/result.ts";
import { loadConfig } from "./load.ts";
import type { Role } from "./setting.ts";
import { testHost } from "./testhost.ts";

const folder = join(import.meta.dir, "testdata");
const files = (kind: string): string[] => readdirSync(join(folder, kind)).sort();

/** Loads a file as if it lay in the working directory, so that messages hold no path of this machine. */
async function load(kind: string, file: string): ReturnType<typeof loadConfig> {
  const text = readFileSync(join(folder, kind, file), "utf8");
  const role = file.split("-")[0] as Role;
  return await loadConfig(role, ["--config", file], {}, testHost({ [`/home/someone/${file}`]: text }));
}

test.each(files("valid"))("the configuration %s is accepted", async (file) => {
  const loaded = await load("valid", file);
  expect(loaded.ok ? [] : loaded.problems.map(describe)).toEqual([]);
});

test.each(files("invalid"))("the configuration %s is refused with what its first lines say", async (file) => {
  const text = readFileSync(join(folder, "invalid", file), "utf8");
  const expected = [...text.matchAll(/^#! (.*)$/gm)].map((match) => match[1]);
  const loaded = await load("invalid", file);
  expect(expected.length).toBeGreaterThan(0);
  expect(loaded.ok ? [] : loaded.problems.map(describe)).toEqual(expected as string[]);
});
