import { expect, test } from "bun:test";
import { join } from "node:path";
import { fakeRole, scratch, statusReport } from "./commands/testing.ts";

const main = join(import.meta.dir, "main.ts");

test("a reader that takes its time, such as a pager, gets all of it", async () => {
  using directory = scratch();
  const many = Array.from({ length: 5000 }, () => statusReport.apps[0]!);
  await using role = await fakeRole(join(directory.path, "s"), { "GET /v1/apps": many });
  // It reads when four seconds have passed: longer than whatever a process might wait for its output to be read.
  const child = Bun.spawn(
    [
      "sh",
      "-c",
      '"$0" "$@" | { sleep 4; wc -l; }',
      process.execPath,
      main,
      "apps",
      "--json",
      "--socket",
      role.socket,
    ],
    { stdout: "pipe", stderr: "inherit" },
  );
  const lines = JSON.stringify(many, undefined, 2).split("\n").length;
  expect(Number(await new Response(child.stdout).text())).toBe(lines);
}, 60_000);

test("a reader that goes away ends it", async () => {
  using directory = scratch();
  const many = Array.from({ length: 5000 }, () => statusReport.apps[0]!);
  await using role = await fakeRole(join(directory.path, "s"), { "GET /v1/apps": many });
  const child = Bun.spawn(
    ["sh", "-c", '"$0" "$@" | head -1', process.execPath, main, "apps", "--json", "--socket", role.socket],
    { stdout: "pipe", stderr: "pipe" },
  );
  expect(await new Response(child.stdout).text()).toBe("[\n");
  expect(await new Response(child.stderr).text()).toBe("");
}, 60_000);
