import { afterAll, expect, test } from "bun:test";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { must, run, type Ran } from "../support/process.ts";

/** image/check, which refuses an image while it is built, over trees made of this machine's own programs. */
const check = join(import.meta.dir, "../../image/check");
const directory = mkdtempSync(join(tmpdir(), "wormhole-check-"));
const here = process.arch === "x64" ? "amd64" : "arm64";
const other = here === "amd64" ? "arm64" : "amd64";

afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** This machine's `true` with all that it is linked with, at the places where they are in an image. */
async function tree(): Promise<string> {
  const root = mkdtempSync(join(directory, "root-"));
  const add = (from: string, to: string): void => {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    cpSync(from, join(root, to), { dereference: true });
  };
  add("/usr/bin/true", "/usr/bin/true");
  for (const [path] of (await must(["ldd", "/usr/bin/true"])).matchAll(/\/\S+/g)) add(path, `/usr${path}`);
  for (const name of ["lib", "lib64"]) await must(["ln", "-s", `usr/${name}`, join(root, name)]);
  return root;
}

const checked = (architecture: string, ...roots: readonly string[]): Promise<Ran> =>
  run([check, architecture, ...roots]);

test("programs with all that they need pass, also where they are spread over several roots", async () => {
  const [whole, program] = [await tree(), mkdtempSync(join(directory, "program-"))];
  expect(await checked(here, whole)).toMatchObject({ code: 0, stderr: "" });
  await must(["mv", join(whole, "usr/bin"), program]);
  expect(await checked(here, whole, program)).toMatchObject({ code: 0, stderr: "" });
});

test("a program for another architecture is named", async () => {
  const root = await tree();
  const ran = await checked(other, root);
  expect(ran.code).toBe(1);
  expect(ran.stderr).toContain(`This is no image for ${other}: ${root}/usr/bin/true is for`);
});

test("a missing library, a missing interpreter, a shell and a setuid file are named", async () => {
  const root = await tree();
  await must(["find", root, "-name", "libc.so.6", "-delete"]);
  await must(["find", root, "-name", "ld-linux*", "-delete"]);
  writeFileSync(join(root, "usr/bin/sh"), "");
  writeFileSync(join(root, "usr/bin/su"), readFileSync("/usr/bin/true"));
  chmodSync(join(root, "usr/bin/su"), 0o4755);
  const { code, stderr } = await checked(here, root);
  expect(code).toBe(1);
  expect(stderr).toContain("/usr/bin/true needs libc.so.6, which is missing");
  expect(stderr).toMatch(/\/usr\/bin\/true needs \/lib\S*ld-linux\S*, which is missing/);
  expect(stderr).toContain("/usr/bin/sh is a shell");
  expect(stderr).toContain("/usr/bin/su is setuid");
});

test("an image without any program is none", async () => {
  const { code, stderr } = await checked(here, mkdtempSync(join(directory, "empty-")));
  expect(code).toBe(1);
  expect(stderr).toContain("it has no program");
});
