import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspectProcess, isRunning, signalProcess, startDetached } from "./processes.ts";

test("this process is what /proc says", () => {
  const facts = inspectProcess(process.pid);
  expect(facts?.argv[0]).toBeDefined();
  expect(facts?.startTime).toBeGreaterThan(0);
  expect(isRunning(facts!)).toBe(true);
});

test("another process under the same pid is not the one that was meant", () => {
  const facts = inspectProcess(process.pid)!;
  expect(isRunning({ ...facts, startTime: facts.startTime + 1 })).toBe(false);
  expect(signalProcess({ ...facts, startTime: facts.startTime + 1 }, "SIGKILL")).toBe(false);
});

test("a detached program has a session of its own, writes to its log, and can be ended", async () => {
  const directory = mkdtempSync(join(tmpdir(), "wormhole-processes-"));
  const log = join(directory, "program.log");
  const started = startDetached(["sh", "-c", "echo $GREETING $HOME; kill -STOP $$"], log, {
    GREETING: "hello",
  });
  const facts = inspectProcess(started.pid)!;
  const session = readFileSync(`/proc/${started.pid}/stat`, "utf8").split(") ")[1]!.split(" ")[3];
  expect(Number(session)).toBe(started.pid);
  expect(signalProcess(facts, "SIGKILL")).toBe(true);
  await started.exited;
  expect(isRunning(facts)).toBe(false);
  // What it is given is all that it gets of the environment.
  expect(readFileSync(log, "utf8")).not.toContain("/");
  rmSync(directory, { recursive: true });
});

test("a program that is not there cannot be started", () => {
  expect(() => startDetached(["/nonexistent/program"], "/dev/null")).toThrow();
});
