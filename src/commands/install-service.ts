import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { loadConfig } from "../config/load.ts";
import { parseInstance } from "../config/parsers.ts";
import type { Role } from "../config/setting.ts";
import { describe } from "../model/result.ts";
import { must, run } from "../system/exec.ts";
import { answers } from "./admin.ts";
import { describeOptions, parseArguments, type Options } from "./arguments.ts";
import { exitCodes, Stop, usageError, type Command, type Io } from "./command.ts";
import { renderUnit } from "./unit.ts";

const options: Options = {
  instance: { placeholder: "NAME", help: "The instance that the unit runs. Default: the role." },
  config: { placeholder: "FILE", help: "Its configuration. Default: /etc/wormhole/<instance>.yaml." },
  "dry-run": { help: "Print the unit and what would be done, and do nothing." },
  yes: { help: "Do not ask." },
};

/** What the command does to the machine. Tests give their own. */
export interface Installer {
  readonly unitDirectory: string;
  /** How this program was started: itself when compiled, else bun and the source. */
  readonly program: readonly string[];
  confirm(question: string): boolean;
  systemctl(...argv: readonly string[]): Promise<unknown>;
  /** Whether a role answers at its socket. */
  answers(socket: string): Promise<boolean>;
  /** Whether systemd has given the unit up. */
  failed(name: string): Promise<boolean>;
}

/** Milliseconds between two looks, and until a role must answer: it takes one second, and longer on a loaded machine. */
const lookEvery = 100;
const answerLimit = 20_000;

const thisInstaller = (): Installer => ({
  unitDirectory: "/etc/systemd/system",
  program: Bun.main.startsWith("/$bunfs/") ? [process.execPath] : [process.execPath, resolve(Bun.main)],
  // Without a terminal nobody can say yes.
  confirm: (question) => process.stdin.isTTY && confirm(question),
  systemctl: (...argv) => must(["systemctl", ...argv]),
  answers,
  failed: async (name) => (await run(["systemctl", "is-failed", "--quiet", name])).code === 0,
});

export const installService: Command = {
  name: "install-service",
  summary: "Make systemd run a role from the next boot on, and now.",
  usage: ["install-service server|client [--dry-run] [--yes]"],
  details: () => describeOptions(options),
  run: (argv, io) => runInstall(argv, io, thisInstaller()),
};

export async function runInstall(
  argv: readonly string[],
  io: Io,
  installer: Installer,
): Promise<(typeof exitCodes)["ok" | "failed"]> {
  const { words, flags } = parseArguments(argv, options);
  const [role, ...others] = words;
  if ((role !== "server" && role !== "client") || others.length > 0)
    throw usageError(`usage: wormhole ${installService.usage[0]}`);
  const { name, file, text, socket, notes } = await plan(role, flags, installer);
  const before = await readFile(file, "utf8").catch(() => undefined);
  const steps = [
    before === text
      ? `keep ${file}, which is as it should be`
      : `${before === undefined ? "write" : "replace"} ${file}`,
    "systemctl daemon-reload",
    `systemctl enable ${name}`,
    `systemctl restart ${name}`,
  ];
  if (flags.has("dry-run")) {
    io.print(`${text}\n# Would do:\n${steps.map((step) => `#   ${step}`).join("\n")}`);
    for (const line of notes) io.complain(line);
    return exitCodes.ok;
  }
  io.complain([...notes, "This will:", ...steps.map((step) => `  ${step}`)].join("\n"));
  if (!flags.has("yes") && !installer.confirm("Go on?")) {
    io.complain("Nothing was changed; --yes goes on without asking.");
    return exitCodes.failed;
  }
  try {
    await mkdir(dirname(file), { recursive: true });
    if (before !== text) await writeFile(file, text, { mode: 0o644 });
    await installer.systemctl("daemon-reload");
    await installer.systemctl("enable", name);
    await installer.systemctl("restart", name);
  } catch (error) {
    throw new Stop(exitCodes.failed, `Cannot install ${name}: ${(error as Error).message}`);
  }
  await untilAnswer(name, socket, installer);
  io.print(`${name} runs; see systemctl status ${name} and wormhole status`);
  return exitCodes.ok;
}

/** systemd calls a service started as soon as its program is; the next command wants one that answers. */
async function untilAnswer(name: string, socket: string, installer: Installer): Promise<void> {
  const end = performance.now() + answerLimit;
  while (!(await installer.answers(socket))) {
    const failed = await installer.failed(name);
    if (!failed && performance.now() < end) await Bun.sleep(lookEvery);
    else {
      const what = failed ? "ended at its start" : `does not answer after ${answerLimit / 1000} s`;
      throw new Stop(exitCodes.failed, `${name} is installed, but ${what}; see journalctl --unit ${name}`);
    }
  }
}

interface Plan {
  readonly name: string;
  readonly file: string;
  readonly text: string;
  /** Where the role will answer. */
  readonly socket: string;
  /** What should be known before it is done. */
  readonly notes: readonly string[];
}

async function plan(role: Role, flags: ReadonlyMap<string, string>, installer: Installer): Promise<Plan> {
  const named = flags.get("instance");
  const wanted = resolve(flags.get("config") ?? `/etc/wormhole/${named ?? role}.yaml`);
  const config = existsSync(wanted) ? wanted : undefined;
  const loaded = await loadConfig(
    role,
    [
      ...(config === undefined ? [] : ["--config", config]),
      ...(named === undefined ? [] : ["--instance", named]),
    ],
    {},
  );
  const instance = parseInstance(named ?? (loaded.ok ? loaded.config.instance : role));
  if (!instance.ok) throw usageError(`--instance: ${describe(instance.refusal)}`);
  const notes = config === undefined ? [`There is no ${wanted} yet.`] : [];
  if (!loaded.ok)
    notes.push("It will not start like this:", ...loaded.problems.map((each) => `  ${describe(each)}`));
  const name = `wormhole-${instance.value}.service`;
  const text = renderUnit({
    role,
    instance: instance.value,
    program: installer.program,
    config: flags.has("config") ? wanted : config,
  });
  const runDir = loaded.ok ? loaded.config.runDir : `/run/wormhole/${instance.value}`;
  return {
    name,
    file: `${installer.unitDirectory}/${name}`,
    text,
    socket: join(runDir, "wormhole.sock"),
    notes,
  };
}
