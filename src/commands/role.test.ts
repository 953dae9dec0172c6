import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { testHost } from "../config/testhost.ts";
import { exitCodes, type Io } from "./command.ts";
import { roleCommand, type RunRole } from "./role.ts";
import { runLine, scratch } from "./testing.ts";

// Milliseconds; generous for processes and sockets on a loaded machine.
setDefaultTimeout(60_000);

const psk = "correct-horse-battery";

function catching(env: Io["env"] = {}): { io: Io; out: string[]; err: string[] } {
  const [out, err]: [string[], string[]] = [[], []];
  const io: Io = {
    print: (text) => void out.push(text),
    complain: (text) => void err.push(text),
    env,
    columns: 80,
    colour: false,
    now: () => 0,
    runRoot: "/nonexistent",
  };
  return { io, out, err };
}

const serve = (run: RunRole<"server">) => roleCommand("server", "", () => Promise.resolve(run), testHost());
const never: RunRole<"server"> = () => Promise.reject(new Error("must not run"));

test("--print-config shows the configuration in force and starts nothing", async () => {
  const { io, out, err } = catching({ INVITE_TOKEN: psk });
  expect(await serve(never).run(["--print-config", "--sync-port", "9000"], io)).toBe(exitCodes.ok);
  expect(out.join("\n")).toMatch(/^syncPort: 9000 +# flag --sync-port$/m);
  expect(out.join("\n")).toMatch(/^psk: "\*\*\*" +# variable INVITE_TOKEN$/m);
  expect(err).toEqual(["warning: variable INVITE_TOKEN: is the original wormhole's name; use WORMHOLE_PSK"]);
});

test("every problem is said at once, and the role does not start", async () => {
  const { io, out, err } = catching({ WORMHOLE_NAME: "A" });
  expect(await serve(never).run(["--sync-prot", "1", "--mtu", "9"], io)).toBe(exitCodes.usage);
  expect(out).toEqual([]);
  expect(err).toEqual([
    "Cannot start the server: 3 problems in its configuration",
    "  flag --sync-prot: is unknown; did you mean --sync-port?",
    `  variable WORMHOLE_NAME: peer name "A" is no DNS label; use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
    '  flag --mtu: value "9" is out of range; use a whole number from 576 to 65455',
  ]);
});

test("a role that ends is done, one that breaks has failed", async () => {
  const quiet = ["--log-format", "json", "--log-level", "error"];
  expect(await serve(() => Promise.resolve()).run(quiet, catching().io)).toBe(exitCodes.ok);
  // Its reason goes to the log, which is standard error: a process of its own keeps the test's output clean.
  const script = `
    const { roleCommand } = await import(${JSON.stringify(join(import.meta.dir, "role.ts"))});
    const command = roleCommand("server", "", async () => () => Promise.reject(new Error("no tunnel today")));
    process.exitCode = await command.run(["--config=/dev/null", "--kubernetes=off", "--log-format=json"], { env: {}, print() {}, complain() {} });`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "ignore", stderr: "pipe", env: {} });
  const lines = (await new Response(child.stderr).text()).trim().split("\n");
  const log = JSON.parse(lines.at(-1)!);
  expect(log).toMatchObject({
    level: "error",
    event: "Cannot run",
    role: "server",
    reason: "no tunnel today",
  });
  expect(await child.exited).toBe(exitCodes.failed);
});

test.each(["SIGTERM", "SIGINT"] as const)("%s lets the role end by itself", async (signal) => {
  const script = `
    const { roleCommand } = await import(${JSON.stringify(join(import.meta.dir, "role.ts"))});
    const run = (config, logger, signal) => {
      // A role holds sockets; this stands for them.
      const alive = setInterval(() => {}, 60_000);
      return new Promise((done) => {
        signal.addEventListener("abort", () => (clearInterval(alive), console.log("cleaned up"), done()));
        console.log("running");
      });
    };
    const command = roleCommand("server", "", async () => run);
    process.exitCode = await command.run(["--config=/dev/null", "--kubernetes=off"], { env: {}, print() {}, complain() {} });`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "ignore", env: {} });
  let out = "";
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    out += chunk;
    if (out === "running\n") child.kill(signal);
  }
  expect(out).toBe("running\ncleaned up\n");
  expect(await child.exited).toBe(exitCodes.ok);
});

test("help of a role names its settings, help of the program its commands", async () => {
  const server = await runLine(["server", "--help"]);
  expect(server.code).toBe(exitCodes.ok);
  expect(server.out).toContain("--pairing-address [ADDRESS:]PORT");
  expect((await runLine(["help", "client"])).out).toContain("--server URL");
  expect((await runLine(["help"])).out).toContain("install-service");
  expect((await runLine(["peers", "-h"])).out).toContain("peers revoke NAME");
});

test("a configuration file that is named and wrong is said with its line", async () => {
  using directory = scratch();
  const file = join(directory.path, "server.yaml");
  writeFileSync(file, "name: hub\nsyncPrt: 1\n");
  expect(await runLine(["server", "--config", file])).toMatchObject({
    code: exitCodes.usage,
    err: expect.stringContaining(`${file}:2: key "syncPrt" is unknown; did you mean syncPort?`),
  });
});
