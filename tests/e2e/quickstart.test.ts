import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../support/process.ts";

const script = join(import.meta.dir, "../../scripts/quickstart");

test("the quickstart shows both directions and leaves nothing behind", async () => {
  const directory = mkdtempSync(join(tmpdir(), "wormhole-quickstart-"));
  try {
    const ran = await run([script], { timeout: 110_000, env: { TMPDIR: directory } });
    expect(`${ran.code} ${ran.code === 0 ? "" : ran.stderr}`).toBe("0 ");
    expect(ran.stdout).toContain("Hello from the shop behind client1");
    expect(ran.stdout).toContain("Hello from the intranet behind the server");
    expect(ran.stderr).toContain("From the edit to the page:");
    expect(readdirSync(directory)).toEqual([]);
    const processes = await run(["ps", "-eo", "args="]);
    expect(processes.stdout.split("\n").filter((line) => line.includes(directory))).toEqual([]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
