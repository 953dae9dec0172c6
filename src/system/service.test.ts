import { afterAll, expect, test } from "bun:test";
import { closeSync, constants, mkdirSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bringUp } from "./service.ts";

const directory = mkdtempSync(join(tmpdir(), "wormhole-service-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("a supervisor that reads its control FIFO is told to keep the service up", () => {
  const supervise = join(directory, "nginx/supervise");
  mkdirSync(supervise, { recursive: true });
  expect(Bun.spawnSync(["mkfifo", join(supervise, "control")]).exitCode).toBe(0);
  expect(bringUp(directory, "nginx")).toBe(false);

  const reader = openSync(join(supervise, "control"), constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    expect(bringUp(directory, "nginx")).toBe(true);
    const said = Buffer.alloc(8);
    expect(said.toString("latin1", 0, readSync(reader, said))).toBe("u");
  } finally {
    closeSync(reader);
  }
});

test("a supervisor that is not there is not told", () => {
  expect(bringUp(directory, "nothing")).toBe(false);
});
