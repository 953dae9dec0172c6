import { afterEach, expect, test } from "bun:test";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "../../system/log.ts";
import { findProcess } from "../../system/processes.ts";
import { Supervised } from "./supervised.ts";

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

test("what nginx says to a reload is heard, whoever else reads its log meanwhile", async () => {
  const directory = mkdtempSync(join(tmpdir(), "wormhole-supervised-"));
  ends.push(() => rmSync(directory, { recursive: true }));
  const path = (name: string): string => join(directory, name);
  // In nginx's place: something that a SIGHUP does not end.
  const child = Bun.spawn(["sh", "-c", "trap : HUP; echo ready; while :; do sleep 1; done"], {
    stdout: "pipe",
  });
  ends.push(() => child.kill("SIGKILL"));
  await child.stdout.getReader().read();
  const supervised = new Supervised({
    paths: { directory, config: path("nginx.conf"), pid: path("nginx.pid"), errorLog: path("error.log") },
    files: 1024,
    logger: silentLogger,
  });
  const reloading = supervised.reload(findProcess(child.pid)!);
  appendFileSync(
    path("error.log"),
    `2026/01/31 12:00:00 [notice] ${child.pid}#${child.pid}: start worker processes\n`,
  );
  expect(supervised.takeLog()).toEqual([]);
  expect(await reloading).toEqual({ kind: "running" });
}, 90_000);
